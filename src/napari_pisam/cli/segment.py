"""``napari-pisam segment``: an image and prompts from napari's CSV files in, labels out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_pisam.cli.console import download_progress, progress, say
from napari_pisam.cli.files import check_output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari_pisam.images.image_files import ImageFile
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.predict.prompts import Prompts
    from napari_pisam.predict.windows import Window
    from napari_pisam.prompt_files import Plane
    from napari_pisam.weights.loading import LoadedModel

# Boxes per call, for the progress to move and Ctrl-C to be heard.
_CALL = 8


@dataclass(frozen=True)
class SegmentRequest:
    """What is to be segmented, by what, and where the result goes; see the command's options."""

    image: Path
    output: Path
    boxes: Path | None = None
    points: Path | None = None
    model: str = "tiny"
    device: str = "auto"
    precision: str = "auto"
    channel_axis: int | None = None
    plane: tuple[int, ...] | None = None
    contrast_limits: tuple[float, float] | None = None
    overlap: Literal["keep", "overwrite"] = "keep"


def segment(request: SegmentRequest) -> dict[int, Mask]:
    """Read, predict, write.

    Returns
    -------
    dict of int to Mask
        By label, what was written.

    Raises
    ------
    ValueError
        If an input cannot be used; nothing is written then.
    """
    started = time.perf_counter()
    if request.boxes is None and request.points is None:
        raise ValueError("There are no prompts. Give --boxes, --points or both.")
    check_output(request.output, (".tif", ".tiff"), (request.image, request.boxes, request.points))
    for given in (request.boxes, request.points):
        if given is not None and not given.is_file():
            raise ValueError(f"There is no file {given}. Save a layer from napari as CSV.")
    # Slow to import, and not needed to find the mistakes above.
    from napari_pisam.cli.label_files import write_labels
    from napari_pisam.images.image_files import open_image
    from napari_pisam.prompt_files import prompts_digest

    with open_image(request.image) as opened:
        source, plane = view_image(opened, request)
        prompts = read_prompts(request, plane, source.shape)
        loaded, predictor = load_predictor(request.model, request.device, request.precision)
        predictor.set_image(source)
        with progress("Segmenting", len(prompts)) as advance:
            masks = predict_objects(predictor, source, prompts, advance)
        digest = prompts_digest(prompts)
        description = description_of(loaded, request.model, digest, len(masks))
        description |= _view_of(request)
        write_labels(request.output, masks, source.shape, description, request.overlap)
    empty = [str(label) for label, mask in masks.items() if not mask.crop.size]
    if empty:
        say(
            f"Warning: no pixel was found for object(s) {', '.join(empty)}. Check their prompts, "
            "or add FG clicks."
        )
    say(
        f"{len(masks)} object(s) in {time.perf_counter() - started:.1f} s on {predictor.device} "
        f"-> {request.output}"
    )
    return masks


def view_image(opened: ImageFile, request: SegmentRequest) -> tuple[ImageSource, Plane]:
    """Choose the plane and the channels of an image.

    Returns
    -------
    ImageSource
        The 2D view.
    sequence of (int or None)
        The index along each axis that prompts may have before row and column.

    Raises
    ------
    ValueError
        If a plane has to be named, or does not exist.
    """
    from napari_pisam.images.image_source import ImageSource

    shape, axes = opened.shape, opened.axes
    channel_axis, samples = request.channel_axis, axes.find("S")
    if channel_axis is None and samples >= 0:
        channel_axis = samples
    elif channel_axis is None and "C" in axes and shape[axes.index("C")] > 1:
        # Whoever gives an index for every leading axis has chosen one of the channels.
        if request.plane is None or len(request.plane) < len(shape) - 2:
            channel_axis = axes.index("C")
    is_named = "Q" not in axes and samples < 0
    rgb = False if is_named and channel_axis is None else None
    if channel_axis is not None and not -len(shape) <= channel_axis < len(shape):
        raise ValueError(
            f"--channel-axis is {channel_axis}, expected one of the axes of {request.image.name}: "
            f"{_describe_axes(axes, shape)}, counted from 0."
        )
    inner = None if channel_axis is None else channel_axis % len(shape)
    if inner is None and rgb is None and len(shape) > 2 and shape[-1] in (3, 4):
        inner = len(shape) - 1  # as ImageSource decides; it has the last word
    spatial = [axis for axis in range(len(shape)) if axis != inner]
    leading = spatial[:-2]
    if request.plane is None and any(shape[axis] > 1 for axis in leading):
        stack = _describe_axes("".join(axes[a] for a in leading), [shape[a] for a in leading])
        raise ValueError(
            f"{request.image.name} is a stack ({stack} before rows and columns), and one plane is "
            f"segmented at a time. Choose it with --plane {','.join('0' * len(leading))}, or say "
            "with --channel-axis which axis holds channels."
        )
    source = ImageSource(
        opened.data,
        plane=request.plane,
        channel_axis=channel_axis,
        rgb=rgb,
        contrast_limits=request.contrast_limits,
    )
    indices = iter(request.plane or (0,) * len(leading))
    last = min(spatial[-2:])
    plane = [None if axis == inner else next(indices) for axis in range(last)]
    return source, plane


def _describe_axes(axes: str, shape: tuple[int, ...] | list[int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in zip(axes, shape, strict=True))


def read_prompts(
    request: SegmentRequest, plane: Plane, shape: tuple[int, int]
) -> dict[int, Prompts]:
    """Read the prompts of a plane, checked against an image of `shape`, by object.

    Raises
    ------
    ValueError
        If there are none in the plane, or one is wrong.
    """
    from napari_pisam.prompt_files import collect_prompts, read_boxes, read_clicks

    boxes = [] if request.boxes is None else read_boxes(request.boxes, plane)
    clicks = [] if request.points is None else read_clicks(request.points, plane)
    if not boxes and not clicks:
        files = " and ".join(str(f) for f in (request.boxes, request.points) if f is not None)
        where = f" in plane {request.plane}" if request.plane else ""
        raise ValueError(f"{files}: no prompts{where}. Draw a box or click on the objects.")
    checked = {}
    for object_id, prompts in collect_prompts(boxes, clicks).items():
        try:
            checked[object_id] = prompts.validated_for(shape)
        except ValueError as error:
            raise ValueError(f"Object {object_id}: {error}") from error
    return checked


def load_predictor(name: str, device: str, precision: str) -> tuple[LoadedModel, Predictor]:
    """Load a model and put it on a device.

    Raises
    ------
    ValueError
        If there is no such model, device or precision.
    """
    from napari_pisam.predict.device import select_device, select_precision
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.weights import loading as weights

    select_precision(select_device(device), precision)  # before a download
    with download_progress(f"Downloading {name}") as update:
        loaded = weights.load_model(name, progress=update)
    return loaded, Predictor(loaded.model, device, precision)


def predict_objects(
    predictor: Predictor,
    source: ImageSource,
    prompts: Mapping[int, Prompts],
    advance: Callable[[int], None] = lambda done: None,
) -> dict[int, Mask]:
    """Predict all objects, those that share a window of the image one after the other.

    Parameters
    ----------
    predictor : Predictor
        With the image set.
    source : ImageSource
        That image.
    prompts : mapping of int to Prompts
        By object.
    advance : callable
        Called with the number of objects done.

    Returns
    -------
    dict of int to Mask
        In the order of `prompts`, without their logits.
    """
    from napari_pisam.predict.windows import stable_window

    variant = predictor.model.variant
    windows: dict[Window | None, list[int]] = {}
    for object_id, prompt in prompts.items():
        # Where every object has a window of its own there is nothing to share.
        shared = variant.focus is None
        window = None
        if shared:
            window = stable_window(prompt, source.shape, source.levels, variant.frame)
        windows.setdefault(window, []).append(object_id)
    masks: dict[int, Mask] = {}
    for members in windows.values():
        boxes = [i for i in members if not len(prompts[i].points)]
        for start in range(0, len(boxes), _CALL):
            batch = boxes[start : start + _CALL]
            found = predictor.predict_many([prompts[i].region or () for i in batch])
            masks.update(zip(batch, found, strict=True))
            advance(len(batch))
        for object_id in members:
            prompt = prompts[object_id]
            if len(prompt.points):
                mask = predictor.predict(prompt.box, prompt.points, prompt.labels)
                masks[object_id] = mask.without_logits()
                advance(1)
    return {object_id: masks[object_id] for object_id in prompts}


def description_of(loaded: LoadedModel, model: str, digest: str, count: int) -> dict[str, Any]:
    """Say what made labels, so that they can be made again; no paths, only names."""
    from napari_pisam import __version__

    is_file = loaded.source == model
    return {
        "software": "napari-pisam",
        "version": __version__,
        "model": loaded.model.variant.name,
        "model_file": model.replace("\\", "/").rsplit("/", 1)[-1] if is_file else None,
        "model_sha256": loaded.sha256,
        "prompts_sha256": digest,
        "objects": count,
    }


def _view_of(request: SegmentRequest) -> dict[str, Any]:
    limits = request.contrast_limits
    return {
        "image": request.image.name,
        "plane": None if request.plane is None else list(request.plane),
        "channel_axis": request.channel_axis,
        "contrast_limits": None if limits is None else list(limits),
        "overlap": request.overlap,
    }
