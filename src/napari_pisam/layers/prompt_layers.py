"""Shapes and Points layers made for boxes and clicks: new ones, their look, and writing to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from weakref import WeakSet

import numpy as np

from napari_pisam.layers.geometry import ImagePlane, PlaneMap, as_plane, spatial_shape
from napari_pisam.layers.prompts import labels_of, objects_of, read_shapes
from napari_pisam.layers.style import (
    BOX_COLOR,
    COLORS,
    SYMBOLS,
    click_look,
    keep_lines_thin,
)
from napari_pisam.layers.transforms import transform_of
from napari_pisam.predict.areas import LINES, Use, corners_of
from napari_pisam.predict.drawn_shapes import PromptShape, shapes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.predict.drawn_shapes import DrawnShapes
    from napari_pisam.predict.prompts import Prompts

Label: TypeAlias = Literal["FG", "BG"]

# Px of the image. Shapes keep their vertices as 32-bit floats, and a hand is not that steady.
_SAME_BOX = 1e-2
_SAME_CLICK = 1e-3

_LABELS: dict[bool | None, Label] = {True: "FG", False: "BG"}
# In the metadata of the layers that were made for prompts.
_OWN = "napari_pisam"
_SHOWN = "napari_pisam_colors"

_followed: WeakSet[Any] = WeakSet()


def new_prompt_layers(
    viewer: Any, image: Any, *, channel_axis: int | None = None, object_id: int = 1
) -> tuple[Any, Any]:
    """Add a Shapes layer for boxes and a Points layer for clicks that lie where an image lies.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
    image : napari Image layer
        Its scale, translation, rotation, shear, affine, units and axis names are copied.
    channel_axis : int, optional
        The image's axis of channels; where it is the first one, the prompts are for all channels.
    object_id : int
        The object of the first box and the first clicks.

    Returns
    -------
    shapes, points : napari layers
        With features ``object`` (int) and ``label`` (categorical FG and BG); of the shapes also
        ``use`` and ``after``, see `read_shapes`.
    """
    axes = prompt_axes(image, channel_axis)
    # Clicks before boxes: with boxes first, napari 0.9 under Mesa ends in a segmentation fault
    # (glDrawArrays) when all layers are cleared and both are made again.
    points = viewer.add_points(
        None,
        ndim=len(axes),
        name=f"{image.name} clicks",
        **click_look(max(spatial_shape(image)[-2:])),
        **transform_of(image, axes),
    )
    shapes = viewer.add_shapes(
        None,
        ndim=len(axes),
        name=f"{image.name} boxes",
        edge_color=BOX_COLOR,
        face_color="transparent",
        **transform_of(image, axes),
    )
    prepare_shapes(shapes)
    prepare_points(points)
    set_current_object(shapes, points, object_id)
    return shapes, points


def is_own(layer: Any) -> bool:
    """Whether prompts may be written to a layer: it was made, or prepared, to hold them.

    Somebody's annotations that were only chosen to be read must stay as they are.
    """
    return layer is not None and bool(layer.metadata.get(_OWN))


def copy_prompts(viewer: Any, layer: Any) -> Any:
    """Add a copy of a Shapes or Points layer that prompts may be written to.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
    layer : napari Shapes or Points layer
        Somebody's annotations; never changed.

    Returns
    -------
    napari.layers.Shapes or napari.layers.Points
        At the same place, with the same features.
    """
    common: dict[str, Any] = {
        "ndim": layer.ndim,
        "name": f"{layer.name} copy",
        "features": layer.features.copy(),
        **transform_of(layer),
    }
    if type(layer).__name__ == "Shapes":
        shapes = viewer.add_shapes(
            [np.array(vertices) for vertices in layer.data] or None,
            shape_type=list(layer.shape_type) or "rectangle",
            edge_color=BOX_COLOR,
            face_color="transparent",
            **common,
        )
        prepare_shapes(shapes)
        return shapes
    data = np.array(layer.data)
    side = int(np.ptp(data[:, -2:], axis=0).max(initial=0)) if len(data) else 0
    points = viewer.add_points(data, **click_look(side), **common)
    prepare_points(points)
    return points


def prompt_axes(image: Any, channel_axis: int | None = None) -> tuple[int, ...]:
    """Return the axes that prompts and labels have: all but channels that come first.

    Layers meet from their last axis on, so that only the first one can be left out.
    """
    ndim = len(spatial_shape(image))
    first = 1 if channel_axis is not None and channel_axis % ndim == 0 and ndim > 2 else 0
    return tuple(range(first, ndim))


_KINDS: dict[str, Any] = {"label": "FG", "use": Use.BOX.value, "after": -1}
"""What shapes say that are not only boxes, see `read_shapes`, and what new ones say at first."""


def prepare_shapes(shapes: Any) -> None:
    """Make a Shapes layer hold boxes: the feature ``object`` (int, 0: none), and their look."""
    features = shapes.features.copy()
    features["object"] = _object_column(shapes, len(shapes.data))
    if not is_own(shapes):
        shapes.metadata[_OWN] = True
        keep_lines_thin(shapes)
        _follow_kinds(shapes)
    assign_features(shapes, features, {"object": _default(shapes, "object", 0)})


def _ensure_kinds(shapes: Any) -> None:
    """Add what shapes other than boxes need; what they say already is kept."""
    import pandas as pd  # type: ignore[import-untyped]

    if _KINDS.keys() <= set(shapes.features):
        return
    features, count = shapes.features.copy(), len(shapes.data)
    kinds = {"label": list(COLORS), "use": [use.value for use in Use]}
    for name, plain in _KINDS.items():
        given = features[name] if name in features else [plain] * count
        features[name] = pd.Categorical(given, kinds[name]) if name in kinds else given
    assign_features(
        shapes, features, {name: _default(shapes, name, plain) for name, plain in _KINDS.items()}
    )


def set_shape_kind(shapes: Any, label: Label, use: Use) -> None:
    """Choose what the next shape is: FG or BG, and a box, a further part or an outline.

    Raises
    ------
    ValueError
        If the label is neither FG nor BG.
    """
    _check_label(label)
    wanted = {"label": label, "use": use.value}
    if any(_default(shapes, name, _KINDS[name]) != value for name, value in wanted.items()):
        _ensure_kinds(shapes)
        _set_defaults(shapes, wanted)
    mode = str(shapes.mode)
    color = _shape_color("path" if mode in ("add_path", "add_line", "add_polyline") else "", label)
    if str(shapes.current_edge_color) != color:
        # Otherwise the colours of the selected shapes would change too.
        with shapes.block_update_properties():
            shapes.current_edge_color = color


def _shape_color(shape_type: str, label: str) -> str:
    """Boxes and outlines have a colour of their own; scribbles, and what is BG, that of clicks."""
    return COLORS[label] if label == "BG" or shape_type in LINES else BOX_COLOR


def _follow_kinds(shapes: Any) -> None:
    """Keep the colours as the shapes' types and labels say."""

    def follow() -> None:
        if len(shapes.features) != len(shapes.data):
            return
        labels = shapes.features.get("label", ["FG"] * len(shapes.data))
        pairs = zip(shapes.shape_type, labels, strict=True)
        wanted = [_shape_color(str(kind), _name(label)) for kind, label in pairs]
        if wanted and wanted != shapes.metadata.get(_SHOWN, [BOX_COLOR] * len(wanted)):
            shapes.edge_color = wanted
        shapes.metadata[_SHOWN] = wanted

    _keep_up(follow, shapes.events.data, shapes.events.features)


def _keep_up(follow: Callable[[], None], *emitters: Any) -> None:
    """Call a function at events, but not at those of what it does itself."""
    is_busy = False

    # A function, not a method: napari forgets methods whose object nobody else holds.
    def call(_event: Any = None) -> None:
        nonlocal is_busy
        if is_busy:
            return
        is_busy = True
        try:
            follow()
        finally:
            is_busy = False

    for emitter in emitters:
        emitter.connect(call)


def prepare_points(points: Any) -> None:
    """Make a Points layer hold clicks: features, and colours and symbols that follow them.

    Labels and objects that it has are kept; symbols follow for as long as the layer lives.
    """
    import pandas as pd

    count = len(points.data)
    # What is neither stays unknown: taken for FG, it would spoil a mask without a word.
    names = [_LABELS.get(label) for label in labels_of(points, count)]
    current = _name(_default(points, "label", "FG"))
    features = points.features.copy()
    features["label"] = pd.Categorical(names, categories=list(COLORS))
    features["object"] = _object_column(points, count)
    points.metadata[_OWN] = True
    assign_features(points, features, {"label": current, "object": _default(points, "object", 0)})
    points.border_color_cycle = COLORS
    points.border_color = "label"
    if points not in _followed:
        _followed.add(points)
        _follow_labels(points)
    _show_symbols(points)


def _ensure_prepared(points: Any) -> None:
    if "label" not in points.features or "object" not in points.features:
        prepare_points(points)


def set_click_label(points: Any, label: Label) -> None:
    """Choose FG or BG for the next click; clicks that are there, selected or not, stay.

    Raises
    ------
    ValueError
        If it is neither.
    """
    _check_label(label)
    _ensure_prepared(points)
    _set_defaults(points, {"label": label})
    _show_symbols(points)


def toggle_click_label(points: Any) -> Label:
    """Switch the next click between FG and BG, and return which it will be."""
    label: Label = "FG" if _name(_default(points, "label", "FG")) == "BG" else "BG"
    set_click_label(points, label)
    return label


def set_current_object(shapes: Any, points: Any, object_id: int) -> None:
    """Choose the object of the next box and the next clicks; either layer may be None."""
    for layer, prepare in ((shapes, prepare_shapes), (points, prepare_points)):
        if layer is None:
            continue
        if "object" not in layer.features:
            prepare(layer)
        # Asked for at every turn; napari goes through its colours whenever defaults are set.
        default = _default(layer, "object", None)
        if not isinstance(default, int | np.integer) or default != int(object_id):
            _set_defaults(layer, {"object": int(object_id)})


def relabel_shapes(shapes: Any, rows: Sequence[int], label: Label) -> None:
    """Make shapes that are there FG or BG.

    Raises
    ------
    ValueError
        If it is neither.
    """
    _check_label(label)
    _ensure_kinds(shapes)
    _fill_in(shapes, "label", dict.fromkeys(rows, label))


def reuse_shapes(shapes: Any, rows: Sequence[int], use: Use) -> None:
    """Say anew what closed shapes that are there are."""
    _ensure_kinds(shapes)
    _fill_in(shapes, "use", dict.fromkeys(rows, use.value))


def relabel_clicks(points: Any, rows: Sequence[int], label: Label) -> None:
    """Make points that are there FG or BG.

    Raises
    ------
    ValueError
        If it is neither.
    """
    _check_label(label)
    _ensure_prepared(points)
    _fill_in(points, "label", dict.fromkeys(rows, label))
    # napari takes the colours from what is assigned, and does not look for changes.
    points.refresh_colors()


def write_prompts(
    image: Any,
    shapes: Any,
    points: Any,
    object_id: int,
    prompts: Prompts | None,
    dims: Any = None,
) -> None:
    """Make the prompt layers show an object's prompts on a plane; other rows are not touched.

    What is there already stays as it is, a box that was drawn as a polygon included. The layers
    send their events as for any change; who listens to them must know that it is no user's.

    Parameters
    ----------
    image : napari Image layer or array
        In whose px the prompts are.
    shapes, points : napari layer or None
    object_id : int
    prompts : Prompts or None
        None removes the object's rows on this plane. A mask prompt is not shown.
    dims : napari.components.Dims or ImagePlane, optional
        ``viewer.dims``; see `plane_of`.
    """
    plane = as_plane(image, dims)
    if shapes is not None:
        _write_shapes(image, plane, shapes, object_id, prompts)
    if points is not None:
        strokes = [] if prompts is None else prompts.strokes
        clicks = [(places[0], flag) for places, flag in strokes if len(places) == 1]
        rc = np.array([place for place, _ in clicks]).reshape(-1, 2)
        flags = np.array([flag for _, flag in clicks], dtype=np.bool_)
        _write_clicks(image, plane, points, object_id, rc, flags)


def remove_prompts(
    image: Any, shapes: Any, points: Any, object_ids: Collection[int], dims: Any = None
) -> None:
    """Take the rows of objects out of the prompt layers on a plane, all in one go.

    Parameters
    ----------
    image, shapes, points, dims
        As for `write_prompts`.
    object_ids : collection of int
    """
    plane, wanted = as_plane(image, dims), set(object_ids)
    for layer in (shapes, points):
        if layer is None or not wanted:
            continue
        rows = _rows_of(layer, wanted, PlaneMap(image, plane, layer))
        if rows:
            layer.remove(rows)


def _rows_of(layer: Any, object_ids: Collection[int], mapping: PlaneMap) -> list[int]:
    """Rows of objects that lie on a plane."""
    return [
        row
        for row, owner in enumerate(objects_of(layer, len(layer.data)))
        if owner in object_ids and mapping.on_plane(np.atleast_2d(layer.data[row])).all()
    ]


def _write_shapes(
    image: Any, plane: ImagePlane, shapes: Any, object_id: int, prompts: Prompts | None
) -> None:
    """Make the rows of an object what its prompts say; those that are so stay as they are."""
    if "object" not in shapes.features:
        prepare_shapes(shapes)
    if prompts is not None and (prompts.areas or prompts.joined.any() or prompts.answer):
        _ensure_kinds(shapes)
    mapping = PlaneMap(image, plane, shapes)
    rows = _rows_of(shapes, {object_id}, mapping)
    there = _ShapesThere.of(read_shapes(image, plane, shapes, []), rows)
    wanted = [] if prompts is None else list(shapes_of(prompts))
    missing = [one for one in wanted if not there.take(one)]
    kept = there.kept.items()
    _correct(shapes, "after", {row: one.after for row, one in kept if one.after >= 0})
    _correct(shapes, "use", {row: one.use for row, one in kept if _kind_of(one) == Use.BOX})
    gone = [row for row in rows if row not in there.kept]
    if gone:
        shapes.remove(gone)
    before = _defaults(shapes)
    for one in missing:
        corners = mapping.to_layer(one.vertices)
        kind = one.shape_type
        if kind == "rectangle" and not _is_rectangle(corners):
            kind = "polygon"
        says = {"label": _LABELS[one.is_foreground], "use": one.use, "after": one.after}
        says = {name: value for name, value in says.items() if name in shapes.features}
        _set_defaults(shapes, {"object": int(object_id), **says})
        shapes.add([corners], shape_type=kind)
    if missing:
        _set_defaults(shapes, before)


class _ShapesThere(NamedTuple):
    """The shapes of an object that are there; those that stay are taken one by one."""

    rows: dict[int, tuple[tuple[str, bool], NDArray[np.float64]]]
    kept: dict[int, PromptShape]

    @classmethod
    def of(cls, shapes: DrawnShapes, rows: Sequence[int]) -> _ShapesThere:
        found: dict[int, tuple[tuple[str, bool], NDArray[np.float64]]] = {}
        for box in shapes.boxes:
            found[box.row] = (Use.BOX, True), np.array(corners_of(box.box))
        for one in shapes.areas:
            use = Use.PART if one.area.is_box else Use.OUTLINE
            corners = corners_of(one.area.box) if one.area.is_box else one.area.vertices
            found[one.row] = (use, one.area.is_foreground), np.array(corners)
        for line in shapes.scribbles:
            places, is_foreground = line.click.stroke
            found[line.row] = ("path", is_foreground), np.array(places)
        # Of two boxes the later one counts.
        return cls({row: found[row] for row in reversed(rows) if row in found}, {})

    def take(self, wanted: PromptShape) -> bool:
        """Keep a shape that is what is wanted; whether there is one."""
        kind, places = _kind_of(wanted), np.array(wanted.vertices)
        for row, (what, vertices) in self.rows.items():
            is_alike = what == (kind, wanted.is_foreground) and vertices.shape == places.shape
            if row not in self.kept and is_alike and np.abs(vertices - places).max() <= _SAME_BOX:
                self.kept[row] = wanted
                return True
        return False


def _kind_of(one: PromptShape) -> str:
    """Name what cannot be changed without drawing it anew: not which answer a box is to have."""
    if one.shape_type == "path":
        return "path"
    return Use.BOX if Use(one.use).is_box else one.use


def _is_rectangle(corners: NDArray[np.float64]) -> bool:
    sides = corners[1] - corners[0], corners[3] - corners[0]
    lengths = np.linalg.norm(sides[0]) * np.linalg.norm(sides[1])
    return abs(float(sides[0] @ sides[1])) <= 1e-6 * float(lengths)


def _write_clicks(
    image: Any,
    plane: ImagePlane,
    points: Any,
    object_id: int,
    rc: NDArray[np.float64],
    flags: NDArray[np.bool_],
) -> None:
    _ensure_prepared(points)
    mapping, data = PlaneMap(image, plane, points), np.asarray(points.data)
    labels = labels_of(points, len(data))
    rows = _rows_of(points, {object_id}, mapping)
    places = mapping.to_image(data[rows])
    same = 0
    while (
        same < min(len(rows), len(rc))
        and labels[rows[same]] == flags[same]
        and np.abs(places[same] - rc[same]).max() <= _SAME_CLICK
    ):
        same += 1
    if rows[same:]:
        points.remove(rows[same:])
    if same == len(rc):
        return
    before, names = _defaults(points), ["FG" if flag else "BG" for flag in flags[same:]]
    _set_defaults(points, {"label": names[0], "object": int(object_id)})
    points.data = np.concatenate([np.asarray(points.data), mapping.to_layer(rc[same:])])
    if len(set(names)) > 1:
        first = len(points.data) - len(names)
        for name in COLORS:
            new = [first + i for i, given in enumerate(names) if given == name]
            relabel_clicks(points, new, name)  # type: ignore[arg-type]
    _set_defaults(points, before)
    _show_symbols(points)


def _follow_labels(points: Any) -> None:
    """Keep the symbols as the labels say: napari lets colours follow a feature, not symbols."""

    def follow() -> None:
        if "label" not in points.features:
            return
        # After a click or a selection, napari's defaults are plain text; the next click
        # would turn the whole column into text.
        if points.feature_defaults["label"].dtype != points.features["label"].dtype:
            _set_defaults(points, {})
        _show_symbols(points)
        # napari selects the point that was added, and draws what is selected in blue.
        if str(points.mode) == "add" and points.selected_data:
            points.selected_data = set()

    events = points.events
    _keep_up(follow, events.data, events.features, events.feature_defaults)


def _show_symbols(points: Any) -> None:
    labels, shown = labels_of(points, len(points.data)), list(points.symbol)
    if len(shown) != len(points.data):
        return
    wanted = [SYMBOLS["BG" if label is False else "FG"] for label in labels]
    if [str(symbol) for symbol in shown] != wanted:
        points.symbol = wanted
    current = SYMBOLS[_name(_default(points, "label", "FG"))]
    if str(points.current_symbol) != current:
        # Otherwise the symbols of the selected points would change too.
        with points.block_update_properties():
            points.current_symbol = current


def _check_label(label: str) -> None:
    if label not in COLORS:
        raise ValueError(f"The label is {label!r}, expected 'FG' or 'BG'.")


def _name(value: Any) -> str:
    return "BG" if str(value) == "BG" else "FG"


def _object_column(layer: Any, count: int) -> NDArray[np.int64]:
    return np.array([owner or 0 for owner in objects_of(layer, count)], dtype=np.int64)


def _default(layer: Any, name: str, otherwise: Any) -> Any:
    defaults = layer.feature_defaults
    if name not in defaults:
        return otherwise
    value = defaults[name].iloc[0]
    # Neither None nor NaN is equal to itself or to a number.
    return value if value is not None and value == value else otherwise


def _defaults(layer: Any) -> dict[str, Any]:
    return {name: layer.feature_defaults[name].iloc[0] for name in layer.feature_defaults}


def _set_defaults(layer: Any, changes: dict[str, Any]) -> None:
    layer.feature_defaults = _defaults(layer) | changes


def _correct(layer: Any, name: str, values: Mapping[int, Any]) -> None:
    """Change a feature in the rows where it is another one, if there is such a feature."""
    if name in layer.features and any(layer.features[name][n] != v for n, v in values.items()):
        _fill_in(layer, name, values)


def _fill_in(layer: Any, name: str, values: Mapping[int, Any]) -> None:
    """Change a feature in some rows."""
    features = layer.features.copy()
    features.loc[list(values), name] = list(values.values())
    assign_features(layer, features)


def assign_features(layer: Any, features: Any, defaults: dict[str, Any] | None = None) -> None:
    """Assign features and keep the defaults, which napari would take from the last row."""
    others = {name: value for name, value in _defaults(layer).items() if name in features}
    layer.features = features
    layer.feature_defaults = _defaults(layer) | others | (defaults or {})
