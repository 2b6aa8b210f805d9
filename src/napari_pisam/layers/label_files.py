"""napari's doors to files: sessions and other tools' labels as layers, Labels layers as files.

Named in the manifest; nothing else is imported before a file is opened, and torch never is.
"""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    LayerData = tuple[Any, dict[str, Any], str]
    Reader = Callable[[Any], list[LayerData]]

_PEEK = 1 << 16
_MOST_PIXELS = 1 << 34


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return what reads a file, or None where it is none of ours: a look at its beginning.

    Parameters
    ----------
    path : str or sequence of str
        As napari gives it.
    """
    if not isinstance(path, str):
        return None
    file, suffix = Path(path), Path(path).suffix.lower()
    if suffix == ".pisam":
        return lambda _path: read_session_layers(file)
    if suffix == ".csv":
        return (lambda _path: read_box_layers(file)) if _is_table(file) else None
    looks: dict[str, Callable[[], bool]] = {
        ".geojson": lambda: True,
        ".roi": lambda: True,
        ".json": partial(_has, file, (b'"images"', b'"annotations"')),
        ".zarr": partial(_is_labels_zarr, file),
        ".zip": partial(_has_rois, file),
    }
    try:
        is_ours = suffix in looks and looks[suffix]()
        return (lambda _path: read_label_layers(file)) if is_ours else None
    except (OSError, zipfile.BadZipFile):
        return None


def _has(file: Path, words: Sequence[bytes]) -> bool:
    with file.open("rb") as opened:
        beginning = opened.read(_PEEK)
    return any(word in beginning for word in words)


def _is_table(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            names = opened.readline(_PEEK)
    except OSError:
        return False
    return b"label" in names and b"bbox-0" in names


def _is_labels_zarr(file: Path) -> bool:
    """Whether it is labels of one plane; stacks are for readers of images."""
    from napari_pisam.images.ngff_labels import is_label_group
    from napari_pisam.images.zarr_files import open_zarr

    try:
        shape = open_zarr(file).levels[0].shape if is_label_group(file) else ()
    except ValueError:
        return False
    return bool(shape) and all(size == 1 for size in shape[:-2])


def _has_rois(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    return any(name.lower().endswith(".roi") for name in names)


def read_label_layers(path: Path) -> list[LayerData]:
    """Read another tool's labels or outlines as a Labels layer, with classes as its features.

    Raises
    ------
    ValueError
        If it cannot be read; says what was expected.
    """
    import pandas as pd  # type: ignore[import-untyped]

    from napari_pisam.images.label_formats import read_labels

    image = read_labels(path)
    numbers = sorted(number for number, *_ in image.objects())
    features = pd.DataFrame({"index": numbers})
    if image.classes:
        features["class"] = [image.classes.get(number, "") for number in numbers]
    name = path.stem
    return [(image.labels, {"name": name, "features": features} | _scale(image), "labels")]


def read_box_layers(path: Path) -> list[LayerData]:
    """Read the boxes of a table of measures as a Shapes layer that holds prompts.

    Raises
    ------
    ValueError
        If the table is damaged.
    """
    import numpy as np
    import pandas as pd

    from napari_pisam.images.label_formats.table import read_table_boxes

    found = read_table_boxes(path)
    if found is None:
        raise ValueError(f"{path} is no table of measures with the boxes of objects.")
    features = pd.DataFrame({"object": list(found.boxes)})
    features["class"] = [found.classes.get(number, "") for number in found.boxes]
    corners = [np.reshape(box, (2, 2)) for box in found.boxes.values()]
    given = {"name": path.stem, "features": features} | _look_of_shapes("rectangle")
    return [(corners, given, "shapes")]


def _look_of_shapes(kinds: Any) -> dict[str, Any]:
    from napari_pisam.layers.style import BOX_COLOR

    look = {"ndim": 2, "face_color": "transparent", "edge_color": BOX_COLOR}
    return look | {"shape_type": kinds}


def _scale(image: Any) -> dict[str, Any]:
    if image.unit == "pixel":
        return {}
    return {"scale": image.pixel_size, "units": (image.unit,) * 2}


def read_session_layers(path: Path) -> list[LayerData]:
    """Read a session file as layers: of each plane its labels, boxes and clicks.

    To go on with the session, open its image and then the file in the Segment dock.

    Raises
    ------
    ValueError
        If it is damaged, or too large for this computer.
    """
    from napari_pisam.session.storage import load_session

    content = load_session(path)
    layers: list[LayerData] = []
    for saved in content.planes:
        place = saved.view.plane or ()
        where = f" {list(place)}" if any(place) else ""
        name = f"{saved.view.name or path.stem}{where}"
        lies = _placement(content.transforms, place)
        layers += [
            (data, {"name": f"{name} {kind}"} | given | lies, layer_type)
            for kind, data, given, layer_type in _of_plane(saved.state)
        ]
    return layers


def _placement(transforms: Any, place: Sequence[int]) -> dict[str, Any]:
    """Return where the layers of a flat image lie; of a plane of a stack that is not said."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units")
    if place or not isinstance(transforms, dict):
        return {}
    return {name: transforms[name] for name in names if name in transforms}


def _of_plane(state: Any) -> list[tuple[str, Any, dict[str, Any], str]]:
    import numpy as np
    import pandas as pd

    from napari_pisam.predict.click_sorting import LABELS
    from napari_pisam.predict.drawn_shapes import shapes_of
    from napari_pisam.session.labels import tiles_of_records

    height, width = state.shape
    if height * width > _MOST_PIXELS:
        raise ValueError(f"The session's image has {height} x {width} px, too many for a layer.")
    tiles = tiles_of_records(state.shape, state.records) if state.tiles is None else state.tiles
    values = [tile.values() for tile in tiles]
    largest = max((int(one.max(initial=0)) for one in values), default=0)
    labels = np.zeros(state.shape, np.uint16 if largest < 2**16 else np.uint32)
    for tile, one in zip(tiles, values, strict=True):
        row0, col0, row1, col1 = tile.bbox
        labels[row0:row1, col0:col1] = one
    views = [record.view for record in state.records]
    asked = [(one.id, one.prompts) for one in views if one.prompts is not None]
    clicks = [
        (places[0], LABELS[is_fg], number)
        for number, prompts in asked
        for places, is_fg in prompts.strokes
        if len(places) == 1
    ]
    shapes = [(shape, number) for number, prompts in asked for shape in shapes_of(prompts)]
    classes = {one.id: one.class_name for one in views if one.class_name}
    features = {"index": [one.id for one in views]}
    if classes:
        features["class"] = [classes.get(one.id, "") for one in views]
    signs = list(LABELS.values())
    return [
        ("labels", labels, {"features": pd.DataFrame(features)}, "labels"),
        (
            "boxes",
            [np.array(shape.vertices) for shape, _ in shapes],
            _look_of_shapes([shape.shape_type for shape, _ in shapes] or "rectangle")
            | {
                "features": pd.DataFrame(
                    {
                        "object": [number for _, number in shapes],
                        "label": [LABELS[shape.is_foreground] for shape, _ in shapes],
                        "use": [shape.use for shape, _ in shapes],
                        "after": [shape.after for shape, _ in shapes],
                    }
                ),
            },
            "shapes",
        ),
        (
            "clicks",
            np.array([point for point, *_ in clicks], dtype=float).reshape(-1, 2),
            {
                "features": pd.DataFrame(
                    {
                        "label": pd.Categorical([says for _, says, _ in clicks], signs),
                        "object": [number for *_, number in clicks],
                    }
                )
            },
            "points",
        ),
    ]


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer in the format that a file's ending says.

    Parameters
    ----------
    path : str
    data : (H, W) integer array
    meta : dict
        What napari says of the layer: its name, scale, units and features are used.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    ValueError
        If it is a stack, or no format has such an ending.
    """
    import numpy as np

    from napari_pisam.images.label_formats import LabelImage, format_for
    from napari_pisam.measure.regions import with_measures

    entry = format_for(Path(path))
    classes = {}
    features = meta.get("features")
    if features is not None and {"index", "class"} <= set(features):
        pairs = zip(features["index"], features["class"], strict=True)
        classes = {int(number): str(name) for number, name in pairs if str(name)}
    scale, units = meta.get("scale", (1.0, 1.0)), meta.get("units") or ("pixel",)
    image = LabelImage(
        np.asarray(data),
        classes,
        str(meta.get("name", "")),
        (abs(float(scale[-2])), abs(float(scale[-1]))),
        str(units[-1]),
    )
    entry.write(Path(path), with_measures(image) if entry.has_measures else image)
    return [path]
