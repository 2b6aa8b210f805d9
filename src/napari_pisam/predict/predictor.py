"""The predictor: set an image, give prompts, get masks; nothing is computed twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_pisam.images.crops import seen_in
from napari_pisam.images.image_source import ImageSource
from napari_pisam.model.folding import folded
from napari_pisam.predict.areas import pixels_of
from napari_pisam.predict.clicks import CLICKS
from napari_pisam.predict.device import DeviceRunner, select_device, select_precision
from napari_pisam.predict.embedding_cache import WindowEncoder
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.preprocessing import SentImage
from napari_pisam.predict.prompts import MaskPrompt, Prompts, box_prompts
from napari_pisam.predict.stages import RefinementCache, Stages, take
from napari_pisam.predict.tiles import TiledObjects, WholeObject
from napari_pisam.predict.windows import window_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from napari_pisam.model.pisam import Decoded, EncodedImage, PiSam
    from napari_pisam.predict.areas import Area
    from napari_pisam.predict.click_sorting import Stroke
    from napari_pisam.predict.embedding_cache import EmbeddingCache
    from napari_pisam.predict.tiles import Progress
    from napari_pisam.predict.windows import Window

# Decoded prompts take about 10 MB each at a frame of 1024 px.
_KEPT_DECODED = 8
_BATCH = 8
# Frame px that are encoded together: more would not be faster, and takes memory.
_STACKED_PIXELS = 8 * 256**2


class Predictor:
    """Masks of objects in an image from boxes, clicks and earlier masks.

    All coordinates are (row, col) px in the image's own data space, pixel centres at integers.
    The result depends on the image and the prompts alone, never on what was asked before. A call
    that raises changes nothing. Safe to use from several threads; calls wait for each other.

    Parameters
    ----------
    model : str, Path or PiSam
        The name of a variant, a checkpoint file, or a network (which is moved to the device).
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``. When its memory is full the
        predictor warns and goes on with the CPU.
    precision : {"auto", "fp32", "bf16", "fp16"}
        What the image encoder computes in; see `select_precision`.
    cache : EmbeddingCache, optional
        Where encoded images are kept, to share it or to keep them on disk. 512 MB of memory of
        its own by default.
    progress : callable, optional
        Called with (bytes done, bytes in all or None) while weights are downloaded.

    Raises
    ------
    ValueError
        If the model, the device or the precision is unknown or not available.
    """

    def __init__(
        self,
        model: str | Path | PiSam = "tiny",
        device: str = "auto",
        precision: str = "auto",
        cache: EmbeddingCache | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        chosen = select_device(device)
        dtype = select_precision(chosen, precision)
        if isinstance(model, torch.nn.Module):
            network = model
        else:
            from napari_pisam.weights.loading import load_model

            network = load_model(model, progress=progress).model
        self._model: PiSam = network.eval()
        self._runner = DeviceRunner(self._model, chosen, dtype)
        # What is moved to another device must be the network itself.
        encoding = folded(self._model, dtype) if chosen.type == "cpu" else self._model
        self._encoder = WindowEncoder(encoding, self._runner, cache)
        self._stages = Stages(self._model, self._runner)
        self._tiles = TiledObjects(self._model.variant)
        self._lock = threading.RLock()
        self._source: ImageSource | None = None
        self._last: Prompts | None = None
        self._decoded: OrderedDict[tuple[Window, Prompts], tuple[Decoded, RefinementCache]] = (
            OrderedDict()
        )
        self._runner.on_move.append(self._move_to)

    # -- what it is ---------------------------------------------------------------------------

    @property
    def model(self) -> PiSam:
        """The network, in eval mode; its weights must not change while a predictor uses it."""
        return self._model

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._runner.device

    @property
    def precision(self) -> torch.dtype:
        """What the image encoder computes in."""
        return self._runner.dtype

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W) of the image, px, or None without one."""
        return None if self._source is None else self._source.shape

    def is_in_tiles(self, prompts: Prompts) -> bool:
        """Whether an object may be looked at in tiles, which takes a while; see `predict`."""
        return self._tiles.may_apply_to_any(prompts)

    # -- the public calls ---------------------------------------------------------------------

    def set_image(
        self,
        image: Any,
        *,
        plane: int | Sequence[int] | None = None,
        channel_axis: int | None = None,
        channels: Sequence[int] | None = None,
        rgb: bool | None = None,
        contrast_limits: ArrayLike | None = None,
    ) -> None:
        """Choose the image; nothing is read or encoded before a prompt needs it.

        Parameters
        ----------
        image : array-like, list of array-likes or ImageSource
            ``(H, W)``, ``(H, W, 3 or 4)`` or more axes; numpy, dask, zarr or a pyramid. If its
            values change, set it again.
        plane, channel_axis, channels, rgb, contrast_limits
            Which part of it and how it is shown; see `ImageSource`.

        Raises
        ------
        ValueError
            If the image or an argument does not fit; the image set before stays.
        """
        source = image
        if not isinstance(image, (ImageSource, SentImage)):
            source = ImageSource(
                image,
                plane=plane,
                channel_axis=channel_axis,
                channels=channels,
                rgb=rgb,
                contrast_limits=contrast_limits,
            )
        with self._lock:
            self._encoder.reset(source)
            self.forget_image()
            self._source = source

    def forget_image(self) -> None:
        """Let the image go, and what was computed of it."""
        with self._lock:
            self._source = self._last = None
            self._decoded.clear()
            self._tiles.clear()

    def encode(
        self,
        box: ArrayLike | Prompts | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        mask: Any = None,
    ) -> None:
        """Encode now what `predict` with the same prompts needs; the whole image without prompts.

        Raises
        ------
        RuntimeError
            If there is no image.
        ValueError
            If the prompts are wrong or lie outside the image.
        """
        with self._lock:
            shape = self._image().shape
            if all(prompt is None for prompt in (box, points, mask)):
                box = (-0.5, -0.5, shape[0] - 0.5, shape[1] - 0.5)
            prompts = make_prompts(box, points, labels, mask).validated_for(shape)
            prompts = prompts.with_start()
            for box in prompts.boxes[1:]:
                self._encoder.encode(self._window(Prompts(box)))
            self._encoder.encode(self._window(_first(prompts)))

    def encode_ahead(self, source: ImageSource) -> None:
        """Encode another image for a later `set_image`; the one that is set stays.

        Does nothing where each object has a window of its own, or the image is larger than the
        network's frame: which window will be needed is not known then. Of use with a `cache`.
        """
        variant = self._model.variant
        if variant.focus is None and max(source.shape) <= variant.frame:
            with self._lock:
                whole = Prompts((-0.5, -0.5, source.shape[0] - 0.5, source.shape[1] - 0.5))
                self._encoder.encode_ahead(source, window_in(source, whole, variant))

    def predict(
        self,
        box: ArrayLike | Prompts | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        mask: Any = None,
        *,
        progress: Progress | None = None,
    ) -> Mask:
        """Predict the mask of one object.

        An object whose box is larger than the network's frame is looked at as a whole first, and
        along its outline in tiles of the image's own pixels then; its mask has no logits. So are
        thin lines that the frame shows reduced.

        Parameters
        ----------
        box : (4,) float or Prompts, optional
            (row_min, col_min, row_max, col_max) px; or all prompts, and nothing else: scribbles,
            several boxes, outlines to start from, areas without the object and which of two
            answers is wanted are given so. Each of several boxes is predicted, and clicks change
            what they give together.
        points : (n, 2) float, optional
            All clicks of the object in the order in which they were made, (row, col) px. `tiny`
            follows them one after another; one click more than before costs one step.
        labels : (n,) bool, optional
            True for FG, False for BG.
        mask : optional
            Where to start from: an (H, W) bool array, an ``(array, (row, col))`` pair or a `Mask`.
            Its outline serves as the box where there is none. SAM and HQ-SAM take it as a hint;
            `tiny` keeps it and changes it where the clicks say so.
        progress : callable, optional
            Called before every tile of a large object with (tiles done, tiles in all, as far as
            is known); what it raises ends the prediction.

        Raises
        ------
        RuntimeError
            If there is no image.
        ValueError
            If the prompts are wrong or lie outside the image.
        """
        prompts = make_prompts(box, points, labels, mask)
        with self._lock:
            prompts = prompts.validated_for(self._image().shape)
            result = self._predict(prompts, progress)
            self._last = prompts
            return result

    def refine(self, points: ArrayLike, labels: ArrayLike, joined: ArrayLike | None = None) -> Mask:
        """Add clicks to the prompts of the last `predict` or `refine` and predict again.

        Parameters
        ----------
        points : (n, 2) float
            The new clicks, (row, col) px.
        labels : (n,) bool
            True for FG, False for BG.
        joined : (n,) bool, optional
            Which of them make scribbles; see `Prompts`.

        Raises
        ------
        RuntimeError
            If nothing was predicted in this image yet.
        ValueError
            If the clicks are wrong or lie outside the image.
        """
        with self._lock:
            if self._last is None:
                raise RuntimeError(
                    "There is no prediction to refine in this image. Call predict first."
                )
            prompts = self._last.with_clicks(points, labels, joined)
            prompts = prompts.validated_for(self._image().shape)
            result = self._predict(prompts)
            self._last = prompts
            return result

    def predict_many(self, boxes: ArrayLike | Sequence[Prompts]) -> list[Mask]:
        """Predict one mask per box; boxes near each other are decoded together.

        Parameters
        ----------
        boxes : (n, 4) float, or sequence of Prompts
            (row_min, col_min, row_max, col_max) px each, or prompts of a box and nothing else.

        Returns
        -------
        list of Mask
            In the order of the boxes, without their logits.

        Raises
        ------
        RuntimeError
            If there is no image.
        ValueError
            If a box is wrong or lies outside the image.
        """
        asked = box_prompts(boxes)
        with self._lock:
            shape = self._image().shape
            prompts = [one.validated_for(shape) for one in asked]
            focused = self._model.variant.focus is not None
            run = self._predict_windows if focused else self._predict_window
            windows = [self._window(prompt) for prompt in prompts]
            groups: dict[object, list[int]] = {}
            masks: dict[int, Mask] = {}
            for index, window in enumerate(windows):
                if self._tiles.may_apply(prompts[index]):
                    masks[index] = self._predict_one(prompts[index]).without_logits()
                    continue
                # Windows of one size are stacked where each object has its own.
                like = self._stages.transform(window).size if focused else window
                groups.setdefault((like, prompts[index].answer), []).append(index)
            for members in groups.values():
                limit = _BATCH
                if focused:
                    frame = self._stages.frame(windows[members[0]])
                    limit = max(1, min(_BATCH, _STACKED_PIXELS // frame**2))
                for start in range(0, len(members), limit):
                    batch = members[start : start + limit]
                    found = run([windows[i] for i in batch], [prompts[i] for i in batch])
                    for index, mask in zip(batch, found, strict=True):
                        masks[index] = mask.without_logits()
            return [masks[index] for index in range(len(prompts))]

    # -- the steps ----------------------------------------------------------------------------

    def _image(self) -> ImageSource:
        if self._source is None:
            raise RuntimeError("There is no image. Call set_image(image) first.")
        return self._source

    def _window(self, prompts: Prompts) -> Window:
        return window_in(self._image(), prompts, self._model.variant)

    def _predict_window(self, windows: Sequence[Window], prompts: Sequence[Prompts]) -> list[Mask]:
        """Several boxes in one window; full size one after the other, which needs less memory."""
        encoded = self._encoder.encode(windows[0])
        decoded = self._stages.decode(windows, encoded, prompts)
        return [
            mask
            for place, window in enumerate(windows)
            for mask in self._enlarge([window], encoded, take(decoded, place), [prompts[place]])
        ]

    def _predict_windows(self, windows: Sequence[Window], prompts: Sequence[Prompts]) -> list[Mask]:
        """Several boxes, each in a window of its own, of one size."""
        encoded = self._encoder.encode_many(windows)
        decoded = self._stages.decode(windows, encoded, prompts)
        return self._enlarge(windows, encoded, decoded, prompts)

    def _enlarge(
        self,
        windows: Sequence[Window],
        encoded: EncodedImage,
        decoded: Decoded,
        prompts: Sequence[Prompts],
    ) -> list[Mask]:
        boxes = [prompt.region for prompt in prompts]
        logits = self._stages.logits(windows, encoded, decoded, None, boxes)
        shape = self._image().shape
        return [one.as_mask(shape) for one in self._stages.seen(windows, logits, shape, decoded)]

    def _predict(self, prompts: Prompts, progress: Progress | None = None) -> Mask:
        predict_one = partial(self._predict_one, progress=progress)
        return composed(prompts, self._image().shape, predict_one)

    def _predict_one(self, prompts: Prompts, progress: Progress | None = None) -> Mask:
        source = self._image()
        seen = self.predict_whole(prompts)
        if self._tiles.apply(prompts, seen):
            return self._tiles.predict(seen, prompts, source.levels, self.predict_tile, progress)
        return seen.as_mask(source.shape)

    def predict_whole(self, prompts: Prompts) -> WholeObject:
        """Look at an object as a whole, before it may be looked at in tiles."""
        window = self._window(prompts)
        decoded, logits = self._logits(window, prompts)
        changes_all = not self._model.variant.local_clicks
        if changes_all and len(prompts.points) and self._tiles.is_large(prompts):
            # What clicks change far from them would have every tile looked at anew.
            _, first = self._logits(window, prompts.first_clicks(0))
            self._stages.keep_local(window, first[0], logits[0], prompts)
        return self._stages.seen([window], logits, self._image().shape, decoded)[0]

    def _logits(self, window: Window, prompts: Prompts) -> tuple[Decoded, NDArray[np.float32]]:
        """Decode prompts in a window, and the (1, h, w) logits of its frame after the clicks."""
        encoded = self._encoder.encode(window)
        clicks, start = prompts if len(prompts.points) else None, None
        if prompts.region is None:
            first = prompts
        elif prompts.mask is not None and self._model.variant.focus is not None:
            # Trained with boxes nearly always, it would take a mask for one.
            first = Prompts(prompts.region, answer=prompts.answer)
            start = prompts.mask
        else:
            first = prompts.first_clicks(0)
        decoded, cache = self._decode_one(window, encoded, first)
        if start is not None and prompts.answer is None:
            # What is kept of it may be either answer.
            decoded = replace(decoded, is_fine=None)
        if first is not prompts and start is None and clicks:
            if not self._model.has_interactor:
                # Clicks go into the decoder, with the mask so far: nothing to be kept of them.
                decoded, cache = (
                    self._stages.correct(window, encoded, decoded, prompts),
                    RefinementCache(),
                )
            elif prompts.answer is None:
                other = self._stages.other_answer(window, decoded, clicks, cache)
                if other is not None:
                    decoded, cache = self._decode_one(window, encoded, first.with_answer(other))
        boxes = [prompts.region]
        return decoded, self._stages.logits([window], encoded, decoded, clicks, boxes, start, cache)

    def predict_tile(
        self, window: Window, prompts: Prompts, start: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Look at a tile: its (h, w) logits, from (1, S/4, S/4) logits that are known of it."""
        encoded = self._encoder.encode_unkept([window])
        clicks = prompts if len(prompts.points) else None
        first = prompts if prompts.region is None else prompts.first_clicks(0)
        decoded = self._stages.decode([window], encoded, [first], () if start is None else [start])
        if first is not prompts and clicks and not self._model.has_interactor:
            decoded = self._stages.correct(window, encoded, decoded, prompts)
        logits = self._stages.logits([window], encoded, decoded, clicks, [prompts.region])
        return np.asarray(logits[0])

    def _move_to(self, device: torch.device) -> None:
        # Logits from before any click go on being those of the decoded state, wherever that was.
        for key, (decoded, cache) in self._decoded.items():
            self._decoded[key] = decoded.to(device), cache

    def _decode_one(
        self, window: Window, encoded: EncodedImage, prompts: Prompts
    ) -> tuple[Decoded, RefinementCache]:
        key = window, prompts
        known = self._decoded.get(key)
        if known is None:
            decoded = self._stages.decode([window], encoded, [prompts])
            known = self._decoded[key] = decoded, RefinementCache()
            while len(self._decoded) > _KEPT_DECODED:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(key)
        return known


def composed(
    prompts: Prompts, shape: tuple[int, int], predict_one: Callable[[Prompts], Mask]
) -> Mask:
    """Predict several boxes, outlines and areas that the object is not in, one by one.

    Parameters
    ----------
    prompts : Prompts
        Inside an image of (H, W) px.
    shape : (int, int)
    predict_one : callable
        From prompts without areas to a mask.
    """
    if not prompts.areas:
        return predict_one(prompts)
    not_here = prompts.not_here
    prompts = prompts.with_start()
    strokes = prompts.strokes
    if prompts.is_only_start and prompts.mask is not None:
        return Mask.of_crop(prompts.mask.crop, prompts.mask.origin, shape, 1.0)
    if len(prompts.boxes) > 1:
        parts = [predict_one(Prompts(box, answer=prompts.answer)) for box in prompts.boxes]
        score = min(part.score for part in parts)
        crops = [MaskPrompt.from_any(part) for part in parts if part.crop.size]
        crops += [] if prompts.mask is None else [prompts.mask]
        if not crops:
            return parts[0].without_logits()
        start = MaskPrompt.joined(crops)
        answers = {part.answer for part in parts}
        answer = answers.pop() if len(answers) == 1 else None
        found = Mask.of_crop(start.crop, start.origin, shape, score, answer=answer)
        if strokes:
            found = predict_one(Prompts.from_strokes(None, strokes, start, answer=prompts.answer))
    else:
        found = predict_one(_first(prompts))
    return _without(found, not_here, strokes) if not_here else found


def _first(prompts: Prompts) -> Prompts:
    """Prompts of the first box alone, with clicks and the mask to start from."""
    box = prompts.boxes[0] if prompts.boxes else None
    return Prompts.from_strokes(box, prompts.strokes, prompts.mask, answer=prompts.answer)


def _without(mask: Mask, areas: Sequence[Area], strokes: Sequence[Stroke]) -> Mask:
    """Take areas out of a mask; where FG was clicked in them, the click counts."""
    crop, origin = pixels_of(areas)
    for places, is_foreground in strokes if crop.size else ():
        if is_foreground:
            line = CLICKS.clicks_along(np.array(places) + 0.5, every_pixel=True)
            for row, col in np.unique(np.floor(line).astype(int) - origin, axis=0).tolist():
                crop[max(row - 1, 0) : max(row + 2, 0), max(col - 1, 0) : max(col + 2, 0)] = False
    kept = mask.crop & ~seen_in(mask.bbox, crop, MaskPrompt(crop, origin).bbox)
    return Mask.of_crop(kept, mask.bbox[:2], mask.shape, mask.score, mask.window, mask.answer)


def make_prompts(
    box: ArrayLike | Prompts | None, points: ArrayLike | None, labels: ArrayLike | None, mask: Any
) -> Prompts:
    """Prompts as they are, or made of their parts."""
    if not isinstance(box, Prompts):
        return Prompts(box, points, labels, mask)
    if any(part is not None for part in (points, labels, mask)):
        raise ValueError(
            "Prompts were given together with points, labels or a mask, expected either. Put them "
            "into the prompts, for example by Prompts.with_clicks."
        )
    return box
