"""``napari-pisam segment``: images and prompts from napari's CSV files in, labels out."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from napari_pisam.cli.console import download_progress, progress, say
from napari_pisam.cli.files import check_output
from napari_pisam.cli.propagating import Leading, Seed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from napari_pisam.cli.propagating import Propagation
    from napari_pisam.images.addresses import ImageAddress
    from napari_pisam.images.image_files import ImageFile
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.measure.cleaning import Cleaning
    from napari_pisam.predict.cluster import Cluster
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.predict.prompt_files import Plane
    from napari_pisam.predict.prompts import MaskPrompt, Prompts
    from napari_pisam.predict.windows import Window
    from napari_pisam.weights.loading import LoadedModel

    Index = tuple[int, ...]
    Show = Callable[[str, int], AbstractContextManager[Callable[[float], None]]]

# Boxes per call, for the progress to move and Ctrl-C to be heard.
_CALL = 8
_CACHE_BYTES = 1 << 30
# More channels than red, green and blue are not shown to the network.
_COLOURS = 3


@dataclass(frozen=True)
class SegmentRequest:
    """What is to be segmented, by what, and where the result goes; see the command's options."""

    image: Path
    output: Path
    position: int = 0
    boxes: Path | None = None
    points: Path | None = None
    start: Path | None = None
    refine: bool = False
    model: str = "tiny"
    device: str = "auto"
    precision: str = "auto"
    channel_axis: int | None = None
    channels: tuple[int, ...] | None = None
    plane: tuple[int, ...] | None = None
    contrast_limits: tuple[float, float] | None = None
    overlap: Literal["keep", "overwrite"] = "keep"
    cleaning: Cleaning | None = None
    scheduler: str | None = None
    propagation: Propagation | None = None

    @property
    def prompt_files(self) -> tuple[Path, ...]:
        """The files of prompts that are given."""
        return tuple(path for path in (self.boxes, self.points) if path is not None)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files that are given beside the image."""
        return (*self.prompt_files, *(() if self.start is None else (self.start,)))


@dataclass(frozen=True)
class _Part:
    """One plane to be segmented, and its prompts.

    Attributes
    ----------
    source : ImageSource
    prompts : dict of int to Prompts
        By object.
    index : tuple of int
        Of the plane among the labels' planes; empty where they have one only.
    plane : tuple of int
        Of the plane in the image.
    kept : tuple of int
        Which places of `plane` are those of `index`.
    """

    source: ImageSource
    prompts: dict[int, Prompts]
    index: Index
    plane: Index = ()
    kept: Index = ()

    def plane_of(self, index: Index) -> Index:
        """Return the plane of the image that belongs to one of the labels."""
        plane = list(self.plane)
        for place, value in zip(self.kept, index, strict=True):
            plane[place] = value
        return tuple(plane)


class _SharedPredictor:
    """Loads the model for the first image that needs it, and keeps it for the others.

    Attributes
    ----------
    cluster : Cluster or None
        Where it is not this process that computes.
    """

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.cluster = cluster
        self._loaded: tuple[LoadedModel, Predictor] | None = None

    def get(self, request: SegmentRequest) -> tuple[Any, Any]:
        if self.cluster is not None:
            return self.cluster.info, self.cluster.predictor()
        if self._loaded is None:
            # Several objects are looked for in the same slices.
            cache = 0 if request.propagation is None else _CACHE_BYTES
            self._loaded = load_predictor(request.model, request.device, request.precision, cache)
        return self._loaded


@contextlib.contextmanager
def _models(request: SegmentRequest) -> Iterator[_SharedPredictor]:
    """Load models here, or connect to those of a scheduler."""
    if request.scheduler is None:
        yield _SharedPredictor()
        return
    from napari_pisam.predict.workers import connect

    with connect(request.scheduler, request.model, request.device, request.precision) as cluster:
        say(f"{cluster.size} worker(s) at {request.scheduler}, on {cluster.info.device}.")
        yield _SharedPredictor(cluster)


# -- one image, or several --------------------------------------------------------------------


def segment_all(request: SegmentRequest, images: Sequence[Path]) -> None:
    """Segment images, all with one start-up; one that cannot be used does not end the others.

    Parameters
    ----------
    request : SegmentRequest
        For several images `output` is a folder, made where it does not exist; labels get the name
        of their image. Prompts may be folders, too, of CSV files named like the images.
    images : sequence of Path
        Files, OME-Zarr, folders and patterns, see `find_images`. What is not named itself, but
        found in a folder, by a pattern or as a position of a file, needs no prompts: it is left
        out then.

    Raises
    ------
    ValueError
        If an input cannot be used.
    """
    from napari_pisam.images.addresses import find_images, is_one_image

    found = find_images(images, excluded=request.output)
    if len(found) == 1 and is_one_image(images[0]):
        one = replace(request, image=found[0].path, position=found[0].position)
        _check(one)
        with _models(one) as models:
            segment(one, models)
        return
    requests = _requests(request, found, {path for path in images if is_one_image(path)})
    request.output.mkdir(parents=True, exist_ok=True)
    for one in requests:
        one.output.parent.mkdir(parents=True, exist_ok=True)
        _check(one)
    with _models(request) as models:
        failed = [name for name in _each(models, requests) if name is not None]
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(requests)} images were left out: {', '.join(failed)}."
        )


def _each(models: _SharedPredictor, requests: Sequence[SegmentRequest]) -> Iterator[str | None]:
    """Segment images; those that are left out are named."""
    cluster = models.cluster
    # Only one bar can move at a time.
    show = progress if cluster is None else _no_progress

    def work(one: SegmentRequest) -> str | None:
        try:
            segment(one, models, show)
        except (ValueError, OSError) as error:
            say(f"Error: {one.image}: {' '.join(str(error).split())}")
            return one.image.name
        return None

    if cluster is None:
        yield from map(work, requests)
        return
    with progress("Images", len(requests)) as advance:
        for failed in cluster.each(work, requests):
            advance(1)
            yield failed


@contextlib.contextmanager
def _no_progress(_title: str, _total: int) -> Iterator[Callable[[float], None]]:
    yield lambda done: None


def _requests(
    request: SegmentRequest, found: Sequence[ImageAddress], named: Collection[Path]
) -> list[SegmentRequest]:
    boxes, points = _by_name(request.boxes), _by_name(request.points)
    starts = _by_name(request.start, "*")
    requests, without = [], []
    for image in found:
        one = replace(
            request,
            image=image.path,
            position=image.position,
            output=request.output / f"{image.name}.tif",
            boxes=_prompts_of(request.boxes, boxes, image),
            points=_prompts_of(request.points, points, image),
            start=_prompts_of(request.start, starts, image, ".tif"),
        )
        if image.path not in named:
            there = {name: _if_there(getattr(one, name)) for name in ("boxes", "points", "start")}
            one = replace(one, **there)  # type: ignore[arg-type]
        if one.inputs or image.path in named or not request.inputs:
            requests.append(one)
        else:
            without.append(image.name)
    if not requests:
        raise ValueError(
            f"None of the {len(found)} images has prompts, expected CSV files of their names: "
            f"{without[0]}.csv, for example."
        )
    if without:
        few = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        say(f"Left out, without prompts: {len(without)} of {len(found)} images ({few}).")
    return requests


def _if_there(path: Path | None) -> Path | None:
    return path if path is not None and path.is_file() else None


def _by_name(given: Path | None, pattern: str = "*.[cC][sS][vV]") -> dict[str, Path]:
    """Find the prompts in a folder, by the name of their image."""
    from napari_pisam.images.folders import match_name

    if given is None or not given.is_dir():
        return {}
    return {match_name(path, given): path for path in given.rglob(pattern)}


def _prompts_of(
    given: Path | None, by_name: Mapping[str, Path], image: ImageAddress, suffix: str = ".csv"
) -> Path | None:
    """Find an image's file in a folder of prompts; a file is for every image."""
    if given is None or not given.is_dir():
        return given
    return by_name.get(image.name, given / f"{image.name}{suffix}")


def _check(request: SegmentRequest) -> None:
    """Find the mistakes that cost nothing to find."""
    if not request.inputs:
        raise ValueError("There are no prompts. Give --boxes, --points, --start or several.")
    if request.refine and request.start is None:
        raise ValueError("--refine refines what --start gives. Give --start LABELS, too.")
    check_output(request.output, (".tif", ".tiff", ".zarr"), (request.image, *request.inputs))
    if request.start is not None and not request.start.is_file():
        raise ValueError(f"There is no file {request.start}. Check the path.")
    for given in request.prompt_files:
        if not given.is_file():
            raise ValueError(f"There is no file {given}. Save a layer from napari as CSV.")


def segment(
    request: SegmentRequest, models: _SharedPredictor | None = None, show: Show = progress
) -> dict[Index, dict[int, Mask]]:
    """Read, predict, write.

    Returns
    -------
    dict of tuple of int to dict of int to Mask
        By plane and label, what was written.

    Raises
    ------
    ValueError
        If an input cannot be used; nothing is written then.
    """
    started = time.perf_counter()
    _check(request)
    # Slow to import, and not needed to find the mistakes above.
    from napari_pisam.images.image_files import open_image
    from napari_pisam.images.label_files import write_label_stack
    from napari_pisam.images.ngff_labels import is_label_place, write_label_zarr

    planes: dict[Index, dict[int, Mask]] = {}
    with open_image(request.image, request.position) as opened:
        leading, parts = find_parts(opened, request)
        if request.propagation is not None:
            request.propagation.ranges(leading)  # before a download
        models = models or _SharedPredictor()
        loaded, predictor = models.get(request)
        with show("Segmenting", sum(len(part.prompts) for part in parts)) as advance:
            for part in parts:
                predictor.set_image(part.source)
                masks = _predict(predictor, part, advance, refine=request.refine)
                planes.setdefault(part.index, {}).update(masks)
        if request.propagation is not None:
            planes = request.propagation.carry(
                _seeds(planes, parts),
                leading,
                lambda: models.get(request)[1],
                show,
            )
        if request.cleaning:
            for found in planes.values():
                found.update({n: mask.cleaned(request.cleaning) for n, mask in found.items()})
        count = sum(len(part.prompts) for part in parts)
        description = description_of(loaded, request.model, _digest(parts), count)
        shape = (*leading.sizes, *parts[0].source.shape)
        size, units = _scale_of(opened, len(leading.sizes))
        description |= {"scale": list(size), "units": list(units)} | _view_of(request)
        if is_label_place(request.output):
            names = _axes_of(opened, len(leading.sizes))
            write_label_zarr(
                request.output, planes, shape, request.overlap, axes=names, scale=size, units=units
            )
        else:
            write_label_stack(
                request.output, planes, shape, description, request.overlap, size, units
            )
    _warn_of_empty(planes)
    where = f" in {len(planes)} planes" if len(planes) > 1 else ""
    say(
        f"{count} object(s){where} in {time.perf_counter() - started:.1f} s on {predictor.device} "
        f"-> {request.output}"
    )
    return planes


def _seeds(planes: Mapping[Index, Mapping[int, Mask]], parts: Sequence[_Part]) -> dict[int, Seed]:
    """Tell for each object where it is known, and how the stack is looked at to find it."""
    seeds: dict[int, Seed] = {}
    for part in parts:
        for number in part.prompts:
            seed = seeds.setdefault(number, Seed(part.source, part.plane_of, {}))
            seed.anchors[part.index] = planes[part.index][number]
    return seeds


def _predict(
    predictor: Predictor, part: _Part, advance: Callable[[float], None], *, refine: bool
) -> dict[int, Mask]:
    """Predict the objects of a plane; those that start from a mask keep it, or are refined."""
    from napari_pisam.predict.refining import refined
    from napari_pisam.session.records import mask_from_label

    started = {n: one for n, one in part.prompts.items() if one.mask is not None}
    others = {n: one for n, one in part.prompts.items() if one.mask is None}
    masks = predict_objects(predictor, part.source, others, advance)
    lost = []
    for number, prompts in started.items():
        if prompts.mask is None:
            continue
        found: Mask | None = mask_from_label(prompts.mask, part.source.shape)
        if refine:
            found = refined(predictor, prompts)
        elif len(prompts.points) or prompts.areas:
            found = predictor.predict(prompts).without_logits()
        if found is None:
            lost.append(str(number))
            found = mask_from_label(prompts.mask, part.source.shape)
        masks[number] = found
        advance(1)
    if lost:
        say(
            f"Warning: object(s) {', '.join(lost)} stay as they were: the network finds something "
            "else there. Click on them, or give a box."
        )
    return {number: masks[number] for number in part.prompts}


def _scale_of(opened: ImageFile, leading: int) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the size of a pixel and its units along all axes of the labels, as the dock does."""
    size, units = opened.pixel_size.size or (1.0, 1.0), opened.pixel_size.units or ("pixel",) * 2
    return (1.0,) * leading + size, ("pixel",) * leading + units


def _axes_of(opened: ImageFile, leading: int) -> str:
    """Return the letters of the axes of the labels; empty where it is not clear which they are."""
    before = [name for name in opened.axes if name not in "YXSC"]
    return "".join(before) + "YX" if len(before) == leading else ""


def _digest(parts: Sequence[_Part]) -> str:
    import hashlib

    from napari_pisam.predict.prompt_files import prompts_digest

    if len(parts) == 1:
        return prompts_digest(parts[0].prompts)
    lines = [f"{part.index} {prompts_digest(part.prompts)}\n" for part in parts]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _warn_of_empty(planes: Mapping[Index, Mapping[int, Mask]]) -> None:
    empty = [
        f"{label} in plane {_plane_text(index)}" if len(planes) > 1 else str(label)
        for index, masks in planes.items()
        for label, mask in masks.items()
        if not mask.crop.size
    ]
    if empty:
        say(
            f"Warning: no pixel was found for object(s) {', '.join(empty)}. Check their prompts, "
            "or add FG clicks."
        )


# -- planes and channels ----------------------------------------------------------------------


def find_parts(opened: ImageFile, request: SegmentRequest) -> tuple[Leading, list[_Part]]:
    """Find the planes that are segmented, with their prompts.

    The plane that is asked for; or else the image's only one; or else every plane of a stack that
    has prompts. What is left out is said.

    Returns
    -------
    leading : Leading
        The labels' axes before row and column.
    list of _Part

    Raises
    ------
    ValueError
        If a plane has to be named, or does not exist, or there are no prompts.
    """
    axes = _Axes.of(opened, request)
    if request.plane is not None:
        source = _view(opened, request, request.plane)
        plane = axes.prompt_plane(request.plane)
        prompts = read_prompts(request, plane, source.shape)
        _say_left_out(request, plane)
        _say_channels(request, axes, source)
        if request.propagation is None:
            return Leading("", ()), [_Part(source, prompts, ())]
        index = tuple(request.plane[place] for place in axes.kept)
        return axes.labels, [_Part(source, prompts, index, request.plane, axes.kept)]
    drawn = _drawn_planes(request)
    if axes.is_by_channel(drawn):
        axes = replace(axes, inner=None)
    sizes = [axes.shape[axis] for axis in axes.leading]
    if all(size == 1 for size in sizes):
        source = _view(opened, request, (0,) * len(sizes) or None)
        prompts = read_prompts(request, axes.prompt_plane((0,) * len(sizes)), source.shape)
        _say_channels(request, axes, source)
        return Leading("", ()), [_Part(source, prompts, ())]
    chosen = axes.planes_of(drawn)
    if not chosen:
        raise ValueError(
            f"{request.image.name} is a stack ({axes.describe(axes.leading)} before rows and "
            "columns), and the prompts do not say in which plane they lie. Choose it with --plane "
            f"{','.join('0' * len(sizes))}, or say with --channel-axis which axis holds channels."
        )
    return _every_plane(opened, request, axes, chosen)


def _every_plane(
    opened: ImageFile, request: SegmentRequest, axes: _Axes, chosen: Sequence[Index]
) -> tuple[Leading, list[_Part]]:
    if request.start is not None:
        raise ValueError(
            "--start is of one plane, and the prompts lie in several. Choose one with --plane."
        )
    parts: list[_Part] = []
    owners: dict[tuple[Index, int], Index] = {}
    for plane in chosen:
        source = _view(opened, request, plane)
        prompts = read_prompts(request, axes.prompt_plane(plane), source.shape)
        index = tuple(plane[place] for place in axes.kept)
        for label in prompts:
            if (index, label) in owners:
                raise ValueError(
                    f"Object {label} has prompts in two channels, planes "
                    f"{_plane_text(owners[index, label])} and {_plane_text(plane)}; its label can "
                    "be drawn once. Give the objects a column 'object', or choose with --plane."
                )
            owners[index, label] = plane
        parts.append(_Part(source, prompts, index, plane, axes.kept))
    _say_channels(request, axes, parts[0].source)
    return axes.labels, parts


@dataclass(frozen=True)
class _Axes:
    """What the axes of an image are.

    Attributes
    ----------
    names : str
        One letter each.
    shape : tuple of int
    inner : int or None
        The axis whose channels are seen together.
    channel : int or None
        The axis of channels that a viewer shows one by one.
    """

    names: str
    shape: Index
    inner: int | None
    channel: int | None

    @classmethod
    def of(cls, opened: ImageFile, request: SegmentRequest) -> _Axes:
        names, shape, given = opened.axes, opened.shape, request.channel_axis
        if given is not None and not -len(shape) <= given < len(shape):
            every = ", ".join(f"{name} = {n}" for name, n in zip(names, shape, strict=True))
            raise ValueError(
                f"--channel-axis is {given}, expected one of the axes of {request.image.name}: "
                f"{every}, counted from 0."
            )
        own = opened.channel_axis(None if request.plane is None else len(request.plane))
        if given is None:
            inner = own
            if own is None and "Q" in names and len(shape) > 2 and shape[-1] in (3, 4):
                inner = len(shape) - 1  # as ImageSource decides; it has the last word
        else:
            inner = given % len(shape)
        is_free = given is None and request.channels is None and "S" not in names
        return cls(names, shape, inner, own if is_free else None)

    @property
    def leading(self) -> list[int]:
        """The axes before row and column, but for that of channels seen together."""
        return [axis for axis in range(len(self.shape)) if axis != self.inner][:-2]

    @property
    def kept(self) -> Index:
        """The places of `leading` that labels have: a cell is the same in every channel."""
        return tuple(place for place, axis in enumerate(self.leading) if axis != self.channel)

    @property
    def labels(self) -> Leading:
        """The axes of the labels before row and column."""
        axes = [self.leading[place] for place in self.kept]
        return Leading(
            "".join(self.names[axis] for axis in axes), tuple(self.shape[axis] for axis in axes)
        )

    def describe(self, axes: Sequence[int]) -> str:
        return ", ".join(f"{self.names[axis]} = {self.shape[axis]}" for axis in axes)

    def is_by_channel(self, drawn: set[Index]) -> bool:
        """Whether prompts were drawn while channels were shown one by one."""
        every = len(self.shape) - 2
        return self.channel is not None and {len(index) for index in drawn if index} == {every}

    def prompt_plane(self, plane: Sequence[int]) -> Plane:
        """Index along each axis that prompts may have before row and column."""
        indices = iter(plane)
        return [None if axis == self.inner else next(indices) for axis in self._before]

    @property
    def _before(self) -> range:
        spatial = [axis for axis in range(len(self.shape)) if axis != self.inner][-2:]
        return range(spatial[0])

    def planes_of(self, drawn: set[Index]) -> list[Index]:
        """Find the planes of this image that prompts lie in; none where they do not say it."""
        found = set()
        for index in drawn:
            if len(index) == len(self.leading):
                found.add(index)
            elif index and len(index) == len(self._before):
                named = zip(self._before, index, strict=True)
                found.add(tuple(place for axis, place in named if axis != self.inner))
        return sorted(found)


def _drawn_planes(request: SegmentRequest) -> set[Index]:
    from napari_pisam.predict.prompt_files import planes_of

    return set().union(*(planes_of(path) for path in request.prompt_files))


def _say_left_out(request: SegmentRequest, plane: Plane) -> None:
    from napari_pisam.predict.prompt_files import planes_of

    for path in request.prompt_files:
        others = planes_of(path, apart_from=plane)
        if others:
            few = ", ".join(_plane_text(index) for index in sorted(others)[:5])
            say(
                f"Warning: {path.name} has prompts in other planes, too ({few}"
                f"{', ...' if len(others) > 5 else ''}); they are left out. Without --plane every "
                "plane that has prompts is segmented."
            )


def _plane_text(plane: Sequence[int]) -> str:
    return ",".join(str(index) for index in plane)


def _view(opened: ImageFile, request: SegmentRequest, plane: Sequence[int] | None) -> ImageSource:
    return opened.view(
        plane,
        channel_axis=request.channel_axis,
        channels=request.channels,
        contrast_limits=request.contrast_limits,
    )


def _say_channels(request: SegmentRequest, axes: _Axes, source: ImageSource) -> None:
    total = 1 if axes.inner is None else axes.shape[axes.inner]
    if total > _COLOURS and request.channels is None and not source.is_rgb:
        say(
            f"Warning: {request.image.name} has {total} channels; the first {_COLOURS} are used. "
            "Choose with --channels, for example --channels 0,2."
        )


def read_prompts(
    request: SegmentRequest, plane: Plane, shape: tuple[int, int]
) -> dict[int, Prompts]:
    """Read the prompts of a plane, checked against an image of `shape`, by object.

    Raises
    ------
    ValueError
        If there are none in the plane, or one is wrong.
    """
    from napari_pisam.predict.drawn_shapes import DrawnBox, DrawnShapes
    from napari_pisam.predict.prompt_files import collect_prompts, read_clicks, read_shapes

    shapes = DrawnShapes() if request.boxes is None else read_shapes(request.boxes, plane)
    clicks = [] if request.points is None else read_clicks(request.points, plane)
    clicks += shapes.clicks
    starts = {} if request.start is None else _starts(request.start, shape)
    known = {box.object_id for box in shapes.boxes}
    # A start's own box says where clicks belong.
    boxes = shapes.boxes + [DrawnBox(n, mask.box) for n, mask in starts.items() if n not in known]
    if not boxes and not clicks and not shapes.areas:
        files = " and ".join(str(path) for path in request.inputs)
        where = f" in plane {request.plane}" if request.plane else ""
        raise ValueError(f"{files}: no prompts{where}. Draw a box or click on the objects.")
    checked = {}
    for object_id, prompts in collect_prompts(boxes, clicks, shapes.areas).items():
        start = starts.get(object_id)
        try:
            if start is not None:
                prompts = replace(prompts, mask=start)
            checked[object_id] = prompts.validated_for(shape)
        except ValueError as error:
            raise ValueError(f"Object {object_id}: {error}") from error
    return checked


def _starts(path: Path, shape: tuple[int, int]) -> dict[int, MaskPrompt]:
    """Read the masks of a file of any format, by label."""
    from napari_pisam.images.label_formats import read_labels
    from napari_pisam.predict.prompts import MaskPrompt

    labels = read_labels(path, shape)
    return {n: MaskPrompt.from_any((crop, origin)) for n, origin, crop in labels.objects()}


# -- models and masks -------------------------------------------------------------------------


def load_predictor(
    name: str, device: str, precision: str, cache_bytes: int = 0
) -> tuple[LoadedModel, Predictor]:
    """Load a model and put it on a device; encoded images are kept in so many bytes.

    Raises
    ------
    ValueError
        If there is no such model, device or precision.
    """
    from napari_pisam.predict.device import select_device, select_precision
    from napari_pisam.predict.embedding_cache import EmbeddingCache
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.weights import loading as weights

    select_precision(select_device(device), precision)  # before a download
    with download_progress(f"Downloading {name}") as update:
        loaded = weights.load_model(name, progress=update)
    cache = EmbeddingCache(cache_bytes) if cache_bytes else None
    return loaded, Predictor(loaded.model, device, precision, cache=cache)


class _Parts:
    """Tells the share of one object that is done; how many tiles there are is known by and by."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance, self._told = advance, 0.0

    def show(self, done: int, total: int) -> None:
        more = done / total - self._told
        if more > 0:
            self._told += more
            self._advance(more)


def predict_objects(
    predictor: Predictor,
    source: ImageSource,
    prompts: Mapping[int, Prompts],
    advance: Callable[[float], None] = lambda done: None,
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
        Called with the number of objects done; of one that is seen in tiles with a share.

    Returns
    -------
    dict of int to Mask
        In the order of `prompts`, without their logits.
    """
    from napari_pisam.predict.windows import window_in
    from napari_pisam.predict.workers import each

    variant = predictor.model.variant
    windows: dict[Window | None, list[int]] = {}
    for object_id, prompt in prompts.items():
        # Where every object has a window of its own, or several, there is nothing to share.
        window = None
        if variant.focus is None and not prompt.areas:
            window = window_in(source, prompt, variant)
        windows.setdefault(window, []).append(object_id)
    calls: list[list[int]] = []
    in_tiles: set[int] = set()
    for members in windows.values():
        large = [i for i in members if predictor.is_in_tiles(prompts[i])]
        boxes = [i for i in members if prompts[i].is_only_box and i not in large]
        calls += [boxes[start : start + _CALL] for start in range(0, len(boxes), _CALL)]
        calls += [[i] for i in members if i not in boxes]
        in_tiles.update(large)

    def call(batch: Sequence[int]) -> list[Mask]:
        number = batch[0]
        if number in in_tiles:
            # One alone may take minutes: its tiles are shown as parts of it.
            parts = _Parts(advance)
            found = predictor.predict(prompts[number], progress=parts.show)
            parts.show(1, 1)
            return [found.without_logits()]
        if prompts[number].is_only_box:
            found_many = predictor.predict_many([prompts[i] for i in batch])
        else:
            found_many = [predictor.predict(prompts[number]).without_logits()]
        advance(len(batch))
        return found_many

    masks: dict[int, Mask] = {}
    for batch, found in zip(calls, each(predictor, call, calls), strict=True):
        masks.update(zip(batch, found, strict=True))
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
        "channels": None if request.channels is None else list(request.channels),
        "contrast_limits": None if limits is None else list(limits),
        "overlap": request.overlap,
        **({"cleaning": asdict(request.cleaning)} if request.cleaning else {}),
        **({"propagation": request.propagation.description} if request.propagation else {}),
    }
