"""Commands on layers for napari's menus: measure, clean, export; without the dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from app_model.expressions import parse_expression
from app_model.types import Action, MenuRule, SubmenuItem
from napari.components import LayerList  # noqa: TC002, napari looks at the hints to fill them in
from napari.layers import Labels
from qtpy.QtWidgets import QApplication

from napari_pisam.docks.segment.cleaning import STEPS
from napari_pisam.images.label_formats import FORMATS
from napari_pisam.layers.label_files import write_labels
from napari_pisam.layers.measuring import measuring_job, set_label_features
from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.measure.cleaning import clean_labels as cleaned
from napari_pisam.widgets.file_dialogs import ask_save_path
from napari_pisam.widgets.options_panel import cleaning_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_CONTEXT, _OURS = "napari/layers/context", "napari-pisam/layer"
# Of napari's own names for what is selected.
_HAS_LABELS = parse_expression("num_selected_labels_layers > 0")


def measure_labels(layers: LayerList) -> None:
    """Measure the objects of the selected Labels layers into their features."""
    from napari.qt.threading import create_worker
    from napari.utils.notifications import show_info

    for layer in _chosen(layers):
        job = measuring_job(layer, list(layers))

        def done(rows: dict[int, dict[str, float]], layer: Any = layer) -> None:
            set_label_features(layer, rows)
            show_info(
                f"{len(rows)} object(s) of {layer.name} measured: see its features, for example in "
                "Layers > Visualize > Features table widget."
            )

        worker = create_worker(job, _start_thread=False)
        worker.returned.connect(done)
        worker.start()


def clean_labels(layers: LayerList, cleaning: Cleaning) -> None:
    """Clean the objects of the selected Labels layers; napari's undo takes it back."""
    from napari.qt.threading import create_worker
    from napari.utils.notifications import show_info, show_warning

    for layer in _chosen(layers):
        if layer.ndim != 2 or layer.multiscale:
            raise ValueError(f"The Labels layer {layer.name!r} is a stack. Clean it in the dock.")
        before = np.array(layer.data)

        def done(after: NDArray[Any], layer: Any = layer, before: NDArray[Any] = before) -> None:
            changed = np.nonzero(after != before)
            data = np.asarray(layer.data)
            if data.shape != before.shape or (data[changed] != before[changed]).any():
                show_warning(f"{layer.name} was changed meanwhile. Clean it again.")
            elif changed[0].size:
                layer.data_setitem(changed, after[changed])
            show_info(f"{layer.name}: {changed[0].size:,} px cleaned")

        worker = create_worker(cleaned, before, cleaning, _start_thread=False)
        worker.returned.connect(done)
        worker.start()


def clean_by_form(layers: LayerList) -> None:
    """Ask how, and clean the objects of the selected Labels layers."""
    from magicgui.widgets import Dialog

    _chosen(layers)
    fields = cleaning_fields(Cleaning())
    # In the window, it has the window's colours.
    dialog: Any = Dialog(widgets=list(fields.values()), parent=QApplication.activeWindow())
    dialog.native.setWindowTitle("Pi-SAM: clean objects")
    if dialog.exec():
        clean_labels(layers, Cleaning(**{name: field.value for name, field in fields.items()}))


def _cleaner(cleaning: Cleaning) -> Callable[[LayerList], None]:
    # A function, not a partial one: napari looks at its hints.
    def clean(layers: LayerList) -> None:
        clean_labels(layers, cleaning)

    return clean


def export_labels(layers: LayerList) -> None:
    """Write the selected Labels layer in the format of another tool."""
    from napari.utils.notifications import show_info

    # The table has the ending of outlines: which is meant, a name does not say.
    entries = [entry for entry in FORMATS.values() if entry.read]
    for layer in _chosen(layers):
        kinds = ";;".join(
            f"{entry.title} ({' '.join(f'*{one}' for one in entry.suffixes)})" for entry in entries
        )
        path = ask_save_path(None, "Export labels", kinds, f"{layer.name}{entries[0].suffixes[0]}")
        if path:
            data, meta, _ = layer.as_layer_data_tuple()
            write_labels(path, data, meta)
            show_info(f"Labels written to {Path(path).name}")


def _chosen(layers: LayerList) -> list[Any]:
    """Return the selected Labels layers.

    Raises
    ------
    ValueError
        If none is selected.
    """
    chosen = [layer for layer in layers if layer in layers.selection and isinstance(layer, Labels)]
    if not chosen:
        raise ValueError("No Labels layer is selected. Select one in the list of layers.")
    return chosen


def fill_layer_menu() -> None:
    """Add *Pi-SAM* to the menu that a right click on a layer opens, once.

    A manifest cannot: napari 0.6 to 0.9 leaves that menu out of those that plugins may fill.
    """
    try:
        # Nothing public has it, and where it is elsewhere the menu is as it was.
        from napari._app_model import get_app_model
    except ImportError:
        return
    app = get_app_model()
    if f"{_OURS}.measure" in app.commands:
        return
    commands: tuple[tuple[str, str, Callable[[LayerList], None]], ...] = (
        ("measure", "Measure objects", measure_labels),
        ("export", "Export labels…", export_labels),
        ("clean", "Clean…", clean_by_form),
        *((step.name, step.text, _cleaner(step.cleaning)) for step in STEPS if step.cleaning),
    )
    for name, title, callback in commands:
        action: Any = Action(
            id=f"{_OURS}.{name}",
            title=title,
            callback=callback,
            enablement=_HAS_LABELS,
            menus=[MenuRule(id=_OURS)],
        )
        app.register_action(action)
    app.menus.append_menu_items(
        [(_CONTEXT, SubmenuItem(submenu=_OURS, title="Pi-SAM", enablement=_HAS_LABELS))]
    )
