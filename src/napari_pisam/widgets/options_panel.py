"""How objects share pixels, and how the preview looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FloatSlider,
    FloatSpinBox,
    SpinBox,
)

from napari_pisam.layers.preview import PREVIEW_COLORS
from napari_pisam.measure.cleaning import MOST, Cleaning

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.segment.preview import PreviewLook

RULES = (
    ("Keep what is there", "keep"),
    ("Overwrite", "overwrite"),
    ("Only background", "background"),
)


# What differs from the colormap is chosen anew with every image.
_COLORS = (("Unlike the image", ""), *((name.capitalize(), name) for name in PREVIEW_COLORS))


def cleaning_fields(cleaning: Cleaning, tip: str = "", before: str = "") -> dict[str, Any]:
    """Make the fields that say how objects are cleaned, by the names that `Cleaning` has."""
    texts = {
        "fill_holes": "fill holes",
        "largest": "largest part",
        "specks": "specks below (px)",
        "smooth": "smooth (px)",
        "grow": "grow (px)",
    }
    limits: dict[str, Any] = {
        "specks": {"max": 100_000},
        "smooth": {"max": MOST, "step": 0.5},
        "grow": {"min": -MOST, "max": MOST},
    }
    kinds = {bool: CheckBox, int: SpinBox, float: FloatSpinBox}
    return {
        name: kinds[type(value)](
            value=value,
            label=f"{before}{text}" if before else text.capitalize(),
            tooltip=tip,
            **limits.get(name, {}),
        )
        for name, text in texts.items()
        for value in [getattr(cleaning, name)]
    }


class OptionsPanel(Container):  # type: ignore[type-arg]
    """A form: the commit rule, and how the preview is drawn."""

    def __init__(
        self,
        on_rule: Callable[[str], object],
        on_preview: Callable[[float, bool, str], object],
        on_switch: Callable[[bool], object],
        *,
        look: PreviewLook,
        rule: str = "keep",
        switches_tools: bool = True,
        on_cleaning: Callable[[Cleaning], object] = lambda cleaning: None,
        cleaning: Cleaning | None = None,
    ) -> None:
        self.rule = ComboBox(
            choices=RULES,
            value=rule,
            label="Where objects meet",
            tooltip="Whose the pixels are that already have a label when an object is committed",
        )
        self.opacity = FloatSlider(
            value=look.opacity,
            min=0,
            max=1,
            step=0.05,
            label="Preview opacity",
            tooltip="How much of the image the preview hides; 0 is invisible",
        )
        self.color = ComboBox(
            choices=_COLORS,
            value=look.color,
            label="Preview colour",
            tooltip="By itself one that the image's colormap does not have",
        )
        self.outline = CheckBox(
            value=look.outline, label="Outline only", tooltip="Show the edge of the preview only"
        )
        self.switch = CheckBox(
            value=switches_tools,
            label="Switch tools by itself",
            tooltip="Take the click tool after a box, and the box tool after a commit",
        )
        tip = "Done to every mask when it is committed; the preview shows it as it was predicted"
        self.cleaning = cleaning_fields(cleaning or Cleaning(), tip, "Commit: ")
        fields = [self.rule, self.color, self.opacity, self.outline, self.switch]
        super().__init__(widgets=[*fields, *self.cleaning.values()])
        self.margins = (0, 0, 0, 0)
        self.rule.changed.connect(on_rule)
        self.switch.changed.connect(on_switch)
        for one in self.cleaning.values():
            one.changed.connect(
                lambda: on_cleaning(Cleaning(**{n: f.value for n, f in self.cleaning.items()}))
            )
        for field in (self.color, self.opacity, self.outline):
            field.changed.connect(
                lambda: on_preview(self.opacity.value, self.outline.value, self.color.value)
            )
