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
    looks: dict[str, Callable[[], bool]] = {
        ".geojson": lambda: True,
        ".roi": lambda: True,
        ".json": partial(_has, file, (b'"images"', b'"annotations"')),
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

    from napari_pisam.layers.style import BOX_COLOR
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
            {
                "ndim": 2,
                "shape_type": [shape.shape_type for shape, _ in shapes] or "rectangle",
                "face_color": "transparent",
                "edge_color": BOX_COLOR,
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

    entry = format_for(Path(path))
    classes = {}
    features = meta.get("features")
    if features is not None and {"index", "class"} <= set(features):
        pairs = zip(features["index"], features["class"], strict=True)
        classes = {int(number): str(name) for number, name in pairs if str(name)}
    scale, units = meta.get("scale", (1.0, 1.0)), meta.get("units") or ("pixel",)
    entry.write(
        Path(path),
        LabelImage(
            np.asarray(data),
            classes,
            str(meta.get("name", "")),
            (abs(float(scale[-2])), abs(float(scale[-1]))),
            str(units[-1]),
        ),
    )
    return [path]
