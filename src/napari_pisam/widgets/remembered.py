"""What the Segment dock chooses by itself since it was chosen the last time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.docks.segment.preview import PreviewLook
from napari_pisam.docks.segment.rows import FIRST_COLUMNS
from napari_pisam.layers.preview import PREVIEW_COLORS
from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.session.merge import CommitRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.docks.segment.controller import SegmentController
    from napari_pisam.widgets.export_panel import ExportPanel
    from napari_pisam.widgets.model_panel import ModelPanel
    from napari_pisam.widgets.options_panel import OptionsPanel
    from napari_pisam.widgets.preferences import Preferences

_CLEAN = "clean_"


def restore_options(controller: SegmentController, preferences: Preferences) -> None:
    """Choose what was chosen the last time, in a viewer that has had no dock yet."""
    if not controller.kept.is_new:
        return
    rule = preferences.get("rule", controller.kept.rule)
    controller.set_rule(rule if rule in list(CommitRule) else CommitRule.KEEP.value)
    controller.set_switches_tools(preferences.get("switches_tools", True))
    look = PreviewLook()
    color = preferences.get("preview_color", look.color)
    opacity = preferences.get("preview_opacity", look.opacity)
    controller.set_look(
        min(1.0, max(0.0, opacity)) if opacity == opacity else look.opacity,
        preferences.get("preview_outline", look.outline),
        color if color in PREVIEW_COLORS else "",
    )
    plain = Cleaning()
    given = {name: preferences.get(_CLEAN + name, value) for name, value in asdict(plain).items()}
    with suppress(ValueError):
        controller.set_cleaning(Cleaning(**given))
    columns = preferences.get("columns", "")
    controller.kept.columns = (
        tuple(columns.split(",")) if columns else FIRST_COLUMNS,
        preferences.get("columns_in_pixels", False),
    )


def remember_columns(preferences: Preferences, shown: Sequence[str], *, in_pixels: bool) -> None:
    """Show these columns the next time, too."""
    preferences.set("columns", ",".join(shown))
    preferences.set("columns_in_pixels", in_pixels)


def follow_options(options: OptionsPanel, preferences: Preferences) -> None:
    """Remember what is chosen from now on."""
    fields = {
        "rule": options.rule,
        "switches_tools": options.switch,
        "preview_color": options.color,
        "preview_opacity": options.opacity,
        "preview_outline": options.outline,
        **{_CLEAN + name: field for name, field in options.cleaning.items()},
    }
    for name, field in fields.items():
        field.changed.connect(lambda value, name=name: preferences.set(name, value))


def remember_disk(controller: SegmentController, panel: ExportPanel, known: Preferences) -> None:
    """Make labels of large images where they were made the last time, and follow the choice."""
    folder = known.get("labels_folder", "")
    controller.workspace.on_disk.choose_folder(folder if Path(folder).is_dir() else "")
    panel.disk_folder_chosen.connect(lambda chosen: known.set("labels_folder", chosen))


def remember_model(panel: ModelPanel, preferences: Preferences) -> None:
    """Choose the model and device of the last time, where they still are, and follow them."""
    panel.models.choose(preferences.get("model", ""))
    panel.devices.choose(preferences.get("device", "auto"))
    panel.models.chosen.connect(lambda model: preferences.set("model", model))
    panel.devices.currentTextChanged.connect(
        lambda _text: preferences.set("device", panel.devices.choice)
    )
