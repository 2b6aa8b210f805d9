"""Between napari's layers and prompts, images and labels; napari without Qt.

napari itself is imported by the functions that need it: the command line asks `can_show` where
napari may not be installed. Nothing here imports torch before a prediction.
"""

from __future__ import annotations

from napari_pisam.layers.geometry import ImagePlane, PlaneMap, plane_of
from napari_pisam.layers.images import DisplayedPlane, describe_view, image_source_of
from napari_pisam.layers.label_drawing import refresh_labels_windows
from napari_pisam.layers.labels import (
    LabelsPlane,
    labels_layer_on_disk,
    labels_plane,
    new_labels_layer,
    plane_is_displayed,
    promote_labels,
)
from napari_pisam.layers.preview import new_preview_layer, show_preview
from napari_pisam.layers.prompt_layers import (
    copy_prompts,
    is_own,
    new_prompt_layers,
    prepare_points,
    prepare_shapes,
    relabel_clicks,
    relabel_shapes,
    remove_prompts,
    set_click_label,
    set_current_object,
    set_shape_kind,
    toggle_click_label,
    write_prompts,
)
from napari_pisam.layers.prompts import LayerPrompts, prompts_from_layers
from napari_pisam.layers.proxies import unwrapped
from napari_pisam.layers.result import add_result, can_show, show_result
from napari_pisam.layers.scripting import segment_layers
from napari_pisam.layers.style import BOX_COLOR, COLORS, SYMBOLS
from napari_pisam.layers.transforms import transform_of

__all__ = [
    "BOX_COLOR",
    "COLORS",
    "SYMBOLS",
    "DisplayedPlane",
    "ImagePlane",
    "LabelsPlane",
    "LayerPrompts",
    "PlaneMap",
    "add_result",
    "can_show",
    "copy_prompts",
    "describe_view",
    "image_source_of",
    "is_own",
    "labels_layer_on_disk",
    "labels_plane",
    "new_labels_layer",
    "new_preview_layer",
    "new_prompt_layers",
    "plane_is_displayed",
    "plane_of",
    "prepare_points",
    "prepare_shapes",
    "promote_labels",
    "prompts_from_layers",
    "refresh_labels_windows",
    "relabel_clicks",
    "relabel_shapes",
    "remove_prompts",
    "segment_layers",
    "set_click_label",
    "set_current_object",
    "set_shape_kind",
    "show_preview",
    "show_result",
    "toggle_click_label",
    "transform_of",
    "unwrapped",
    "write_prompts",
]
