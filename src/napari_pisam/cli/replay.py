"""``napari-pisam replay``: a session file and its image in, the same labels out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.cli.console import progress, say
from napari_pisam.cli.files import check_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.predict.mask import Mask
    from napari_pisam.session.records import JournalEntry, ModelRef
    from napari_pisam.session.session import Session
    from napari_pisam.session.storage import ImageView, SessionFile

_TILE = 512


@dataclass(frozen=True)
class ReplayRequest:
    """What is to be replayed and where the result goes; see the command's options.

    Attributes
    ----------
    model : str or None
        In place of the name in the session; its weights have to be the same.
    device : str or None
        None: where the session ran, if that is here.
    """

    session: Path
    image: Path
    output: Path
    model: str | None = None
    device: str | None = None
    precision: str = "auto"


def replay(request: ReplayRequest) -> dict[int, Mask]:
    """Predict and commit again what a session's labels were made of, in the same order.

    The labels begin empty: what was painted by hand or was there before is not in them.

    Returns
    -------
    dict of int to Mask
        By label, what was written.

    Raises
    ------
    ValueError
        If an input cannot be used, or the image or the model is another one; nothing is written.
    """
    started = time.perf_counter()
    check_output(request.output, (".tif", ".tiff"), (request.session, request.image))
    # Slow to import, and not needed to find the mistakes above.
    from napari_pisam import __version__
    from napari_pisam.images.image_files import open_image
    from napari_pisam.images.label_files import write_labels
    from napari_pisam.prompt_files import prompts_digest
    from napari_pisam.session.storage import load_session

    saved = load_session(request.session)
    with open_image(request.image) as opened:
        source = _view(opened.data, saved, request)
        models = _Models(saved.state.journal, request)
        session = _play(saved, source, models)
    masks = _written(session)
    prompts = {one.id: one.prompts for one in session.objects if one.id in masks and one.prompts}
    description = {
        "software": "napari-pisam",
        "version": __version__,
        "models": [{"name": ref.name, "sha256": ref.sha256} for ref in models.used],
        "prompts_sha256": prompts_digest(prompts),
        "objects": len(masks),
        "image": request.image.name,
        "session": request.session.name,
    }
    write_labels(request.output, masks, source.shape, description)
    say(
        f"{len(masks)} object(s) in {time.perf_counter() - started:.1f} s on "
        f"{models.device or 'no device'} -> {request.output}"
    )
    return masks


def _view(data: Any, saved: SessionFile, request: ReplayRequest) -> ImageSource:
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.session.identity import sampled_signature as image_signature

    view: ImageView = saved.meta.image
    found = ""
    try:
        source = ImageSource(
            data,
            plane=view.plane,
            channel_axis=view.channel_axis,
            channels=view.channels,
            rgb=view.rgb,
            contrast_limits=view.contrast_limits,
        )
        found = image_signature(source)
    except ValueError as error:
        found = f"not like that: {error}"
    if found != saved.state.signature:
        raise ValueError(
            f"{request.session.name} was made with another image"
            f"{f' ({view.name})' if view.name else ''}: {_short(saved.state.signature)}, and "
            f"{request.image.name} is {_short(found)}. Give the image that it was made with."
        )
    return source


def _short(signature: str) -> str:
    """Leave enough of a hash to tell two apart."""
    head, dash, digest = signature.rpartition("-")
    return f"{head}-{digest[:8]}" if dash and len(digest) == 64 else signature


class _Models:
    """The predictors that a journal needs, loaded and compared before anything is predicted."""

    def __init__(self, journal: Iterable[JournalEntry], request: ReplayRequest) -> None:
        self.used: list[ModelRef] = []
        self.device = ""
        self._request = request
        self._predictors: dict[ModelRef, Any] = {}
        for entry in journal:
            model = getattr(entry, "model", None)
            if model is not None and model not in self._predictors:
                self._predictors[model] = self._load(model)
                self.used.append(model)

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


def _play(saved: SessionFile, source: ImageSource, models: _Models) -> Session:
    from napari_pisam.session.session import Session

    session = Session(_at_once)
    session.live = False
    failures: list[str] = []
    session.failed.connect(failures.append)
    signature = saved.state.signature
    session.set_image(source.shape, signature, lambda predictor: predictor.set_image(source))
    session.set_labels(SparseLabels(source.shape))
    steps = _Steps(session, models)
    with progress("Replaying", len(saved.state.journal)) as advance:
        for entry in saved.state.journal:
            try:
                steps.play(entry)
            except ValueError as error:
                # In the session other labels were there, or its user went another way.
                say(f"Warning: {error}")
            if failures:
                raise RuntimeError(failures[0])
            advance(1)
    return session


class _Steps:
    """Does to a session what a journal says."""

    def __init__(self, session: Session, models: _Models) -> None:
        self._session = session
        self._models = models
        self._model: ModelRef | None = None

    def play(self, entry: JournalEntry) -> None:
        from napari_pisam.predict.prompts import Prompts
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
            session.rule = entry.rule
            if session.get(entry.id) is None:
                session.new_object(id=entry.id)
            session.select(entry.id)
            session.set_prompts(entry.id, entry.prompts)
            session.predict_now()
            session.commit(entry.id)
        else:
            self._use(entry.model)
            session.rule = entry.rule
            for number, box in zip(entry.ids, entry.boxes, strict=True):
                known = session.get(number)
                if known is not None and known.committed:
                    raise ValueError(f"Object {number} is there already. Save the file anew.")
                if known is None:
                    session.new_object(id=number)
                session.set_prompts(number, Prompts(box))
            session.segment_all((), opened=entry.ids, batch=len(entry.boxes))

    def _use(self, model: ModelRef | None) -> None:
        if model is not None and model != self._model:
            self._session.set_predictor(self._models.predictor(model), model)
            self._model = model


def _at_once(
    job: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[BaseException], None]
) -> None:
    try:
        result = job()
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        failed(error)
    else:
        done(result)


class SparseLabels:
    """(H, W) uint32 labels that take memory only where something was written.

    Parameters
    ----------
    shape : (int, int)
        (H, W), px.
    """

    dtype = np.dtype(np.uint32)

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._tiles: dict[tuple[int, int], NDArray[np.uint32]] = {}

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint32]:
        """Read a window, (h, w)."""
        row0, row1, col0, col1 = self._bounds(window)
        result = np.zeros((row1 - row0, col1 - col0), dtype=self.dtype)
        for key, part, inside in self._parts(row0, row1, col0, col1):
            if key in self._tiles:
                result[part] = self._tiles[key][inside]
        return result

    def __setitem__(self, window: tuple[slice, slice], block: NDArray[Any]) -> None:
        """Write a window, (h, w)."""
        row0, row1, col0, col1 = self._bounds(window)
        for key, part, inside in self._parts(row0, row1, col0, col1):
            if key not in self._tiles:
                self._tiles[key] = np.zeros((_TILE, _TILE), dtype=self.dtype)
            self._tiles[key][inside] = block[part]

    def _bounds(self, window: tuple[slice, slice]) -> tuple[int, int, int, int]:
        row0, row1, _ = window[0].indices(self.shape[0])
        col0, col1, _ = window[1].indices(self.shape[1])
        return row0, row1, col0, col1

    @staticmethod
    def _parts(row0: int, row1: int, col0: int, col1: int) -> Iterable[Any]:
        """Return the tiles of a window: (key, slices of the window, slices of the tile)."""
        for down in range(row0 // _TILE, -(-row1 // _TILE)):
            for across in range(col0 // _TILE, -(-col1 // _TILE)):
                top, left = down * _TILE, across * _TILE
                r0, r1 = max(row0, top), min(row1, top + _TILE)
                c0, c1 = max(col0, left), min(col1, left + _TILE)
                part = (slice(r0 - row0, r1 - row0), slice(c0 - col0, c1 - col0))
                yield (down, across), part, (slice(r0 - top, r1 - top), slice(c0 - left, c1 - left))


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
