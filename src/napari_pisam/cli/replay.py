"""``napari-pisam replay``: a session file and its image in, the same labels out.

What differs from the masks in the file is told, object by object.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.cli.console import progress, say
from napari_pisam.cli.files import check_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.predict.mask import Mask
    from napari_pisam.session.records import JournalEntry, ModelRef
    from napari_pisam.session.session import Session
    from napari_pisam.session.storage import ImageView, SavedPlane, SessionFile

# How many objects that differ are named.
_SHOWN = 20


@dataclass(frozen=True)
class ReplayRequest:
    """What is to be replayed and where the result goes; see the command's options.

    Attributes
    ----------
    model : str or None
        In place of the name in the session; its weights have to be the same.
    device : str or None
        None: where the session ran, if that is here.
    others : tuple of Path
        Further images, where several layers were seen as one picture: `image` is the lowest.
    """

    session: Path
    image: Path
    output: Path
    model: str | None = None
    device: str | None = None
    precision: str = "auto"
    others: tuple[Path, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """All images."""
        return self.image, *self.others


@dataclass(frozen=True)
class Difference:
    """An object that is not as it was in the session.

    Attributes
    ----------
    id : int
    plane : tuple of int or None
        Where it is.
    pixels : int
        How many are in one mask and not in the other.
    """

    id: int
    plane: tuple[int, ...] | None
    pixels: int


@dataclass(frozen=True)
class Replayed:
    """What was written, and what differs from the session.

    Attributes
    ----------
    masks : tuple of dict of int to Mask
        For each plane of the session, by label.
    differences : tuple of Difference
    """

    masks: tuple[dict[int, Mask], ...]
    differences: tuple[Difference, ...]


def replay(request: ReplayRequest) -> Replayed:
    """Predict and commit again what a session's labels were made of, in the same order.

    The labels begin empty: what was painted by hand or was there before is not in them. A session
    of one plane gives its labels, (H, W); one of several gives those of the whole image.

    Raises
    ------
    ValueError
        If an input cannot be used, or the image or the model is another one; nothing is written.
    """
    started = time.perf_counter()
    check_output(request.output, (".tif", ".tiff"), (request.session, *request.images))
    # Slow to import, and not needed to find the mistakes above.
    from napari_pisam.images.image_files import open_image
    from napari_pisam.session.storage import load_session

    saved = load_session(request.session)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open_image(path)).data for path in request.images]
        views = [_PlaneView(files, plane, request) for plane in saved.planes]
        journal = [entry for plane in saved.planes for entry in plane.state.journal]
        models = _JournalPredictors(journal, request)
        with progress("Replaying", len(journal)) as advance:
            sessions = [_play(view, models, advance) for view in views]
        shape = spatial_shape(views[0].data, saved.planes[0].view)
    masks = tuple(_written(session) for session in sessions)
    _write(request, saved, sessions, masks, models, shape)
    count = sum(len(of_plane) for of_plane in masks)
    say(
        f"{count} object(s) in {time.perf_counter() - started:.1f} s on "
        f"{models.device or 'no device'} -> {request.output}"
    )
    pairs = zip(saved.planes, sessions, strict=True)
    differences = tuple(one for plane, session in pairs for one in _differences(plane, session))
    if differences:
        say(_sentence(differences, saved, request))
    return Replayed(masks, differences)


def _sentence(
    differences: tuple[Difference, ...], saved: SessionFile, request: ReplayRequest
) -> str:
    several = len(saved.planes) > 1
    shown = [
        f"{one.id}{f' in slice {one.plane}' if several else ''} ({one.pixels} px)"
        for one in differences[:_SHOWN]
    ]
    more = len(differences) - len(shown)
    total = sum(record.view.committed for plane in saved.planes for record in plane.state.records)
    return (
        f"{len(differences)} of {total} object(s) differ from the masks in {request.session.name}: "
        f"{', '.join(shown)}{f' and {more} more' if more else ''}. They were made with other "
        f"contrast limits, weights, versions or on another device; {request.output.name} has what "
        "is predicted now."
    )


def _differences(saved: SavedPlane, session: Session) -> Iterator[Difference]:
    """Compare what was committed with the masks that the session keeps."""
    from napari_pisam.session.merge import paste_mask

    for record in saved.state.records:
        if not record.view.committed or record.view.mask is None:
            continue
        then, again = record.view.mask, session.get(record.view.id)
        now = None if again is None or not again.committed else again.mask
        if now is None:
            pixels = then.area
        else:
            boxes = [mask.bbox for mask in (then, now) if mask.crop.size] or [then.bbox]
            lows, highs = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
            bbox = (int(lows[0]), int(lows[1]), int(highs[0]), int(highs[1]))
            first = np.zeros((bbox[2] - bbox[0], bbox[3] - bbox[1]), dtype=np.bool_)
            second = first.copy()
            paste_mask(first, bbox, then)
            paste_mask(second, bbox, now)
            pixels = int(np.count_nonzero(first != second))
        if pixels:
            yield Difference(record.view.id, saved.view.plane, pixels)


def _write(
    request: ReplayRequest,
    saved: SessionFile,
    sessions: list[Session],
    masks: tuple[dict[int, Mask], ...],
    models: _JournalPredictors,
    shape: tuple[int, ...],
) -> None:
    from napari_pisam import __version__
    from napari_pisam.images.label_files import label_dtype, write_label_array, write_label_stack
    from napari_pisam.predict.prompt_files import prompts_digest

    digests = [
        prompts_digest(
            {one.id: one.prompts for one in session.objects if one.id in of_plane and one.prompts}
        )
        for session, of_plane in zip(sessions, masks, strict=True)
    ]
    description = {
        "software": "napari-pisam",
        "version": __version__,
        "models": [{"name": name, "sha256": sha256} for name, sha256 in models.used],
        "prompts_sha256": digests[0] if len(digests) == 1 else digests,
        "objects": sum(len(of_plane) for of_plane in masks),
        "image": request.image.name,
        "session": request.session.name,
    }
    if len(saved.planes) == 1:
        write_label_stack(request.output, {(): masks[0]}, saved.state.shape, description)
        return
    # Nothing is filled with zeros: memory is taken where something is written.
    labels = np.zeros(shape, label_dtype(max((max(m, default=0) for m in masks), default=0)))
    for plane, of_plane in zip(saved.planes, masks, strict=True):
        for number, mask in of_plane.items():
            _paste(labels, plane.view, number, mask)
    write_label_array(request.output, labels, description)


def spatial_shape(data: Any, view: ImageView) -> tuple[int, ...]:
    """Return the sizes of an image's axes without colours and channels."""
    base = data[0] if isinstance(data, list) else data
    shape = [int(size) for size in base.shape]
    if view.channel_axis is not None:
        del shape[view.channel_axis]
    elif view.rgb:
        del shape[-1]
    return tuple(shape)


def _paste(labels: NDArray[Any], view: ImageView, number: int, mask: Mask) -> None:
    rows, cols = view.axes or (labels.ndim - 2, labels.ndim - 1)
    index: list[int | slice] = [slice(None)] * labels.ndim
    others = [axis for axis in range(labels.ndim) if axis not in (rows, cols)]
    for axis, position in zip(others, view.plane or (0,) * len(others), strict=True):
        index[axis] = position
    row0, col0, row1, col1 = mask.bbox
    index[rows], index[cols] = slice(row0, row1), slice(col0, col1)
    labels[tuple(index)][mask.crop if rows < cols else mask.crop.T] = number


class _PlaneView:
    """A plane of the image as the session saw it; checked to be the same.

    Raises
    ------
    ValueError
        If it is another image.
    """

    def __init__(self, files: list[Any], saved: SavedPlane, request: ReplayRequest) -> None:
        from napari_pisam.session.identity import is_same_image

        self.saved, self._files = saved, files
        layers = [one.name for one in saved.view.seen if one.index is None]
        if len(files) != max(1, len(layers)):
            raise ValueError(
                f"{request.session.name} was made with {max(1, len(layers))} image(s) seen as one "
                f"picture, and {len(files)} are given. Give each with --image, in this order: "
                f"{', '.join(layers) or saved.view.name}."
            )
        # The others are only seen with it.
        place = layers.index(saved.view.name) if saved.view.name in layers else 0
        self.data = files[place]
        found = ""
        try:
            source = self.source(saved.view.contrast_limits)
            if not is_same_image(saved.state.signature, saved.windows, source):
                height, width = source.shape
                found = f"{height} x {width} px of {source.dtype} with other values"
        except ValueError as error:
            found = f"not like that: {error}"
        if found:
            name = f" ({saved.view.name})" if saved.view.name else ""
            raise ValueError(
                f"{request.session.name} was made with another image{name}: "
                f"{_short(saved.state.signature)}, and {request.images[place].name} is {found}. "
                "Give the image that it was made with."
            )
        self.shape = source.shape

    def seen(self, limits: tuple[tuple[float, float], ...] | None) -> ImageSource:
        """Look at it as the session did: at several channels as one picture, where it did that."""
        from napari_pisam.layers.composite import Channel, composite_of

        if not self.saved.view.seen:
            return self.source(limits)
        parts, files = [], iter(self._files)
        for one in self.saved.view.seen:
            is_rgb = not one.shades
            own = None if one.contrast_limits is None else (one.contrast_limits,)
            if one.index is None:
                view = replace(self.saved.view, rgb=is_rgb, contrast_limits=own)
                source = _look(next(files), view)
            else:
                view = replace(self.saved.view, channels=(one.index,), contrast_limits=own)
                source = _look(self.data, view)
            if source.shape != self.shape:
                raise ValueError(
                    f"The image of {one.name!r} has {source.shape} px, expected {self.shape} as "
                    "the others. Give the images in the order of the session's layers."
                )
            shades = np.frombuffer(one.shades, "<f4").reshape(-1, 3) if one.shades else None
            parts.append(Channel(source, shades, one.gamma, one.opacity, one.blending))
        return composite_of(parts)

    def source(self, limits: tuple[tuple[float, float], ...] | None) -> ImageSource:
        """Look at it with contrast limits of one's own; None: the session's last."""
        view = self.saved.view
        return _look(self.data, replace(view, contrast_limits=limits or view.contrast_limits))


def _look(data: Any, view: ImageView) -> ImageSource:
    """Look at a file as a session says.

    Raises
    ------
    ValueError
        If it is not like that.
    """
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.layers.images import Reordered

    levels = data if isinstance(data, list) else [data]
    ndim = len(levels[0].shape) - bool(view.rgb)
    if view.axes not in (None, (ndim - 2, ndim - 1)) and view.channel_axis is None:
        if not all(0 <= axis < ndim for axis in view.axes):
            raise ValueError(f"it has no axes {view.axes}")
        order = [axis for axis in range(ndim) if axis not in view.axes] + [*view.axes]
        order += [ndim] if view.rgb else []
        levels = [Reordered(level, tuple(order)) for level in levels]
    return ImageSource(
        levels if len(levels) > 1 else levels[0],
        plane=view.plane,
        channel_axis=view.channel_axis,
        channels=view.channels,
        rgb=view.rgb,
        contrast_limits=view.contrast_limits,
    )


def _short(signature: str) -> str:
    """Leave enough of a hash to tell two apart."""
    head, dash, digest = signature.rpartition("-")
    return f"{head}-{digest[:8]}" if dash and len(digest) == 64 else signature


class _JournalPredictors:
    """The predictors that a journal needs, loaded and compared before anything is predicted."""

    def __init__(self, journal: Iterable[JournalEntry], request: ReplayRequest) -> None:
        self.used: list[tuple[str, str]] = []
        self.device = ""
        self._request = request
        self._predictors: dict[ModelRef, Any] = {}
        for entry in journal:
            model = getattr(entry, "model", None)
            if model is not None and model not in self._predictors:
                self._predictors[model] = self._load(model)
                if (model.name, model.sha256) not in self.used:
                    self.used.append((model.name, model.sha256))

    def predictor(self, model: ModelRef) -> Any:
        return self._predictors[model]

    def _load(self, model: ModelRef) -> Any:
        from napari_pisam.cli.segment import load_predictor
        from napari_pisam.weights.models import network_of

        request = self._request
        name = model.name if request.model is None else request.model
        if request.model is None and network_of(name) is None:
            raise ValueError(
                f"{request.session.name} was made with the checkpoint {name!r}. Give its path with "
                "--model."
            )
        for loaded, predictor in self._predictors.items():
            if loaded.sha256 == model.sha256 and model.sha256:
                return predictor
        loaded_model, predictor = load_predictor(name, self._device(model), request.precision)
        if loaded_model.sha256 != model.sha256:
            raise ValueError(
                f"{request.session.name} was made with weights of {model.name!r} with the SHA-256 "
                f"{model.sha256[:12] or 'unknown'}..., and {name!r} has {loaded_model.sha256[:12]}"
                "... here. Give the checkpoint that it was made with: --model PATH."
            )
        self.device = str(predictor.device)
        if model.device and model.device.split()[0] != self.device:
            say(
                f"Warning: the session was made on {model.device}, this is {self.device}; single "
                "pixels may differ."
            )
        return predictor

    def _device(self, model: ModelRef) -> str:
        from napari_pisam.predict.device import select_device

        if self._request.device is not None:
            return self._request.device
        wanted = model.device.split()[0] if model.device else "auto"
        try:
            select_device(wanted)
        except ValueError:
            return "auto"
        return wanted


def _play(view: _PlaneView, models: _JournalPredictors, advance: Callable[[int], None]) -> Session:
    from napari_pisam.session.session import Session
    from napari_pisam.session.tiles import SparseLabels

    session = Session(_at_once)
    session.live = False
    failures: list[str] = []
    session.failed.connect(failures.append)
    steps = _JournalPlayer(session, models, view)
    session.set_image(view.shape, view.saved.state.signature, steps.prepare)
    session.set_labels(SparseLabels(view.shape))
    for entry in view.saved.state.journal:
        try:
            steps.play(entry)
        except ValueError as error:
            # In the session other labels were there, or its user went another way.
            say(f"Warning: {error}")
        if failures and not steps.left_open_as_before(entry):
            raise RuntimeError(failures[0])
        failures.clear()
        advance(1)
    return session


class _JournalPlayer:
    """Does to a session what a journal says."""

    def __init__(self, session: Session, models: _JournalPredictors, view: _PlaneView) -> None:
        self._session = session
        self._models = models
        self._view = view
        self._model: ModelRef | None = None

    def prepare(self, predictor: Any) -> None:
        """Show the image to a predictor as it was seen for what is played now."""
        limits = None if self._model is None else self._model.contrast_limits
        predictor.set_image(self._view.seen(limits))

    def play(self, entry: JournalEntry) -> None:
        from napari_pisam.session import records

        session = self._session
        if isinstance(entry, records.Released):
            if session.get(entry.id) is not None:
                (session.discard if entry.discarded else session.reopen)(entry.id)
        elif isinstance(entry, records.Started):
            if session.get(entry.id) is not None:
                session.discard(entry.id)
            session.start_from_label(entry.id, entry.mask.crop, entry.mask.origin)
        elif isinstance(entry, records.Committed):
            self._use(entry.model)
            session.rule, session.cleaning = entry.rule, entry.cleaning
            if session.get(entry.id) is None:
                session.new_object(id=entry.id)
            session.select(entry.id)
            session.set_prompts(entry.id, entry.prompts)
            session.predict_now()
            session.commit(entry.id)
        else:
            self._use(entry.model)
            session.rule, session.cleaning = entry.rule, entry.cleaning
            for number, prompts in zip(entry.ids, entry.boxes, strict=True):
                known = session.get(number)
                if known is not None and known.committed:
                    raise ValueError(f"Object {number} is there already. Save the file anew.")
                if known is None:
                    session.new_object(id=number)
                session.set_prompts(number, prompts)
            session.segment_all((), opened=entry.ids, batch=len(entry.boxes))

    def left_open_as_before(self, entry: JournalEntry) -> bool:
        """Whether of boxes in one go just those were written that were written in the session."""
        from napari_pisam.session.records import BatchCommitted

        if not isinstance(entry, BatchCommitted):
            return False
        there = [self._session.get(number) for number in entry.ids]
        return {one.id for one in there if one is not None and one.committed} == set(entry.written)

    def _use(self, model: ModelRef | None) -> None:
        if model is not None and model != self._model:
            self._model = model
            self._session.set_predictor(self._models.predictor(model), model)


def _at_once(
    job: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[BaseException], None]
) -> None:
    try:
        result = job()
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        failed(error)
    else:
        done(result)


def _written(session: Session) -> dict[int, Mask]:
    """Return what each committed object has of the labels; no two of them overlap."""
    from napari_pisam.predict.prompts import MaskPrompt
    from napari_pisam.session.records import mask_from_label

    found: dict[int, Mask] = {}
    for one in session.objects:
        if one.committed and one.mask is not None and session.shape is not None:
            row0, col0, row1, col1 = one.mask.bbox
            crop = session.labels[row0:row1, col0:col1] == one.id
            if crop.any():
                own = MaskPrompt.from_any((crop, (row0, col0)))
                found[one.id] = mask_from_label(own, session.shape)
    return found
