"""The network's stages on prompts and windows: decode, correct by clicks, enlarge."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from napari_pisam.predict.areas import Answer
from napari_pisam.predict.clicks import CLICKS
from napari_pisam.predict.preprocessing import FrameTransform
from napari_pisam.predict.scores import score
from napari_pisam.predict.tiles import WholeObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_pisam.model.pisam import Decoded, EncodedImage, PiSam
    from napari_pisam.predict.areas import Box
    from napari_pisam.predict.device import DeviceRunner
    from napari_pisam.predict.prompts import MaskPrompt, Prompts
    from napari_pisam.predict.windows import Window

# The high-resolution head looks at a box and this much around it: a share of its longer side, and
# px of the frame.
_MARGIN = 0.15
_MARGIN_PX = 16

# Masks that are remembered of one object, each after one click more: undo finds them.
_KEPT_CORRECTED = 12

_Batch = TypeVar("_Batch", "Decoded", "EncodedImage")


def take(batch: _Batch, place: int) -> _Batch:
    """Element `place` of a batch of dataclasses of tensors, as a batch of one."""
    parts: dict[str, Any] = {
        part.name: value[place : place + 1]
        for part in fields(batch)
        if isinstance(value := getattr(batch, part.name), torch.Tensor)
    }
    return replace(batch, **parts)


@dataclass
class RefinementCache:
    """What was made of decoded prompts so far: the head's logits, and masks after some clicks.

    Attributes
    ----------
    logits : (h, w) float32 array or None
        Without clicks, the valid part of the frame; None until they were computed.
    region : (int, int, int, int) or None
        Where the head was used for them. Those of another region differ outside it: they are
        computed anew, for a mask must not depend on what was asked earlier.
    answers : (2, S/4, S/4) bool array or None
        Masks of a network's two answers, the chosen one first, once a click was made on it; the
        other one is empty where the network does not believe in it.
    other : Answer or None
        Which answer the other one is, once a click asked for it.
    corrected : dict of str to (h, w) float32 array
        After the clicks of the prompts with this digest, the latest ones last.
    """

    logits: NDArray[np.float32] | None = None
    region: tuple[int, int, int, int] | None = None
    answers: NDArray[np.bool_] | None = None
    other: Answer | None = None
    corrected: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def latest(self, clicks: Prompts) -> tuple[int, NDArray[np.float32] | None]:
        """How many of the clicks, from the first on, were followed already, and what came then."""
        for count in range(clicks.click_count, 0, -1):
            found = self.corrected.get(clicks.first_clicks(count).digest())
            if found is not None:
                return count, found
        return 0, None

    def keep(self, clicks: Prompts, logits: NDArray[np.float32]) -> None:
        """Remember what came after the clicks, of a few."""
        self.corrected[clicks.digest()] = logits
        while len(self.corrected) > _KEPT_CORRECTED:
            self.corrected.pop(next(iter(self.corrected)))


class Stages:
    """Runs a network's stages after the encoder.

    Windows that are computed together have one frame, and their images one size in it.

    Parameters
    ----------
    model : PiSam
        The network.
    runner : DeviceRunner
        Where it is.
    """

    def __init__(self, model: PiSam, runner: DeviceRunner) -> None:
        self._model = model
        self._runner = runner

    def frame(self, window: Window) -> int:
        """Side of the frame that a window is shown in, px."""
        return window.frame or self._model.frame

    def transform(self, window: Window) -> FrameTransform:
        """From the image to the window's frame."""
        return FrameTransform.of(window, self._model.frame)

    def decode(
        self,
        windows: Sequence[Window],
        encoded: EncodedImage,
        prompts: Sequence[Prompts],
        starts: Sequence[NDArray[np.float32]] = (),
    ) -> Decoded:
        """Decode prompts of one kind (the same parts and clicks given, one answer wanted) at once.

        Parameters
        ----------
        windows, prompts : sequences of B
            What each prompt is asked of.
        encoded : EncodedImage
            Of one image for all prompts, or of B.
        starts : sequence of (1, S/4, S/4) float arrays, optional
            Logits to start from, in place of the prompts' masks.
        """
        frame = self.frame(windows[0])
        pairs = [(self.transform(w), p) for w, p in zip(windows, prompts, strict=True)]
        boxes = [t.box_to_frame(p.region) for t, p in pairs if p.region is not None]
        masks = list(starts) or [
            t.mask_to_logits(p.mask, frame) for t, p in pairs if p.mask is not None
        ]
        clicks = [self._clicks(t, p) for t, p in pairs if len(p.points)]
        # One click may mean a part or the whole: of several answers the best is kept.
        multimask = self._model.offers_alternatives and not boxes and len(clicks[0][1]) == 1
        answer = prompts[0].answer

        def run() -> Decoded:
            wants_fine = None
            if answer is not None:
                is_fine, device = answer is Answer.FINE, self._runner.device
                wants_fine = torch.full((len(prompts),), is_fine, device=device)
            return self._model.at_frame(frame).decode(
                encoded.to(self._runner.device),
                boxes=self._runner.tensor(np.stack(boxes)) if boxes else None,
                points=self._runner.tensor(np.stack([c[0] for c in clicks])) if clicks else None,
                labels=self._runner.tensor(np.stack([c[1] for c in clicks])) if clicks else None,
                masks=self._runner.tensor(np.stack(masks)) if masks else None,
                multimask=multimask,
                wants_fine=wants_fine,
            )

        decoded = self._runner.run(run)
        if not multimask:
            return decoded
        # Chosen where they are: a device need not be waited for.
        best = decoded.iou[0].argmax().view(1)
        chosen = decoded.low_res.index_select(1, best)
        iou = decoded.iou.index_select(1, best)
        return replace(decoded, coarse=chosen, low_res=chosen, iou=iou)

    def other_answer(
        self, window: Window, decoded: Decoded, clicks: Prompts, cache: RefinementCache
    ) -> Answer | None:
        """Return the other of two answers where the first click on the chosen one asks for it.

        Parameters
        ----------
        window : Window
            Where the prompt was asked.
        decoded : Decoded
            From `decode`, one prompt.
        clicks : Prompts
            All clicks so far.
        cache : RefinementCache
            That of `decoded`.
        """
        if decoded.is_fine is None:
            return None
        if cache.answers is None:
            found = decoded.low_res[0] > 0
            chosen_iou, other_iou = decoded.iou[0]
            found[1] &= other_iou >= CLICKS.least_estimate
            found[1] &= other_iou >= CLICKS.least_share * chosen_iou
            cache.answers = found.cpu().numpy()
        chosen, other = cache.answers
        points, labels = self._clicks(self.transform(window), clicks.first_clicks(1))
        if not CLICKS.asks_for(other, chosen, points / 4, labels):
            return None
        if cache.other is None:
            _, answer = self.told(decoded)[0]
            cache.other = None if answer is None else answer.other
        return cache.other

    def correct(
        self, window: Window, encoded: EncodedImage, decoded: Decoded, prompts: Prompts
    ) -> Decoded:
        """Follow the clicks of prompts whose box was decoded; see `PiSam.correct`."""
        transform = self.transform(window)
        points, labels = self._clicks(transform, prompts)
        box = None if prompts.region is None else transform.box_to_frame(prompts.region)

        def run() -> Decoded:
            return self._model.at_frame(self.frame(window)).correct(
                encoded.to(self._runner.device),
                decoded.to(self._runner.device),
                self._runner.tensor(points[None]),
                self._runner.tensor(labels[None]),
                boxes=None if box is None else self._runner.tensor(box[None]),
            )

        return self._runner.run(run)

    def logits(
        self,
        windows: Sequence[Window],
        encoded: EncodedImage,
        decoded: Decoded,
        clicks: Prompts | None,
        boxes: Sequence[Box | None],
        start: MaskPrompt | None = None,
        cache: RefinementCache | None = None,
    ) -> NDArray[np.float32]:
        """Enlarge B decoded prompts to the frame, corrected by clicks where B is 1.

        Parameters
        ----------
        windows : sequence of B
            Where the prompts were asked.
        encoded : EncodedImage
            Of one image, or of B.
        decoded : Decoded
            From `decode`.
        clicks : Prompts, optional
            All clicks so far.
        boxes : sequence of B boxes or None
            Where the objects are said to be.
        start : MaskPrompt, optional
            A mask to keep, where B is 1: what the clicks change is added to it.
        cache : RefinementCache, optional
            That of `decoded`, where B is 1; filled here, and saves a pass of the head then.

        Returns
        -------
        (B, h, w) float32 array
            Of the valid part of the frame; above 0 is the object.
        """
        transforms = [self.transform(window) for window in windows]
        network = self._model.at_frame(self.frame(windows[0]))
        batch = _DecodedBatch(network, encoded, decoded, transforms, boxes)
        kept: NDArray[np.float32] | None = None
        if start is not None:
            height, width = transforms[0].size
            drawn = CLICKS.start * transforms[0].mask_to_logits(start, network.frame, cell=1)
            kept = np.array(drawn[0, :height, :width], dtype=np.float32, order="C")
        if clicks is None:
            # Nothing changes a mask to keep.
            return self._without_clicks(batch, cache) if kept is None else kept[None]
        if network.variant.local_clicks and boxes[0] is not None:
            return self._follow(batch, clicks, kept, cache or RefinementCache())[None]
        # Published weights are left to say what they say.
        given = self._clicks(transforms[0], clicks)
        logits = self._head(batch, batch.region(given[0]), given, compares=kept is not None)
        if kept is not None:
            # What the clicks change is added to the mask to keep.
            logits = kept + (logits[:1] - logits[1:])
        if network.variant.local_clicks:
            CLICKS.obey(logits[0], *self._clicks(transforms[0], clicks, every_pixel=True))
        return logits

    def seen(
        self,
        windows: Sequence[Window],
        logits: NDArray[np.float32],
        shape: tuple[int, int],
        decoded: Decoded,
    ) -> list[WholeObject]:
        """Return the objects of an image of (H, W) px from what `logits` returned."""
        return [
            WholeObject(
                one,
                self.transform(window),
                window.native_bbox(shape),
                self.score(one, estimate, answer),
                answer,
            )
            for one, window, (estimate, answer) in zip(
                logits, windows, self.told(decoded), strict=True
            )
        ]

    def told(self, decoded: Decoded) -> list[tuple[float, Answer | None]]:
        """Tell the network's estimates of the IoU of B masks, and which of two answers each is.

        No answer of a network that gives one.
        """
        if decoded.is_fine is None:
            return [(estimate, None) for estimate in decoded.iou[:, 0].cpu().tolist()]
        # Together: every transfer waits for the device.
        estimates, fine = torch.stack([decoded.iou[:, 0], decoded.is_fine.float()]).cpu().tolist()
        answers = [Answer.FINE if one else Answer.SOLID for one in fine]
        return list(zip(estimates, answers, strict=True))

    def score(self, logits: NDArray[np.float32], estimate: float, answer: Answer | None) -> float:
        """Score (h, w) logits of a frame, of which the network makes an estimate itself."""
        variant = self._model.variant
        curve = variant.score_curve
        if answer is Answer.FINE and variant.fine_score_curve:
            # Thin lines are missed where the network has no doubt: sure of them says less.
            curve = variant.fine_score_curve
        return score(estimate, logits, curve)

    def keep_local(
        self,
        window: Window,
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        clicks: Prompts,
    ) -> None:
        """Take back in `after` what changed far from the clicks; (h, w) logits of one window."""
        CLICKS.keep_local(before, after, *self._clicks(self.transform(window), clicks))

    def _without_clicks(
        self, batch: _DecodedBatch, cache: RefinementCache | None
    ) -> NDArray[np.float32]:
        region = batch.region()
        # Only networks whose clicks are local ask for it again.
        store = cache if batch.network.variant.local_clicks else None
        if store is not None and store.logits is not None and store.region == region:
            return store.logits[None].copy()
        logits = self._head(batch, region)
        if store is not None:
            # A copy: the caller's mask is the caller's to change.
            store.logits, store.region = logits[-1].copy(), region
        return logits

    def _follow(
        self,
        batch: _DecodedBatch,
        clicks: Prompts,
        kept: NDArray[np.float32] | None,
        cache: RefinementCache,
    ) -> NDArray[np.float32]:
        """(h, w) logits after clicks on a network whose clicks are local, one click after another.

        What a click does depends on those before it alone: what was put right stays right.
        """
        done, logits = cache.latest(clicks)
        transform, passed = batch.transforms[0], 0
        for count in range(done, clicks.click_count + 1):
            so_far_given = clicks.first_clicks(count)
            places = self._clicks(transform, so_far_given, every_pixel=True)
            last, passed = len(places[1]) - passed, len(places[1])
            if count == done:
                continue
            given = self._clicks(transform, so_far_given)
            region = batch.region(given[0])
            reference = cache.logits if cache.region == region else None
            found = self._head(batch, region, given, compares=reference is None)
            if reference is None:
                reference = found[1]
                cache.logits, cache.region = reference, region
            first = reference if kept is None else kept
            # What the clicks change is added to a mask to keep.
            so_far = first if logits is None else logits
            after = CLICKS.follow(so_far, first, found[0] - reference, *places, last)
            cache.keep(so_far_given, after)
            logits = after
        assert logits is not None  # there is a click
        # A copy: the caller's mask is the caller's to change.
        return logits.copy()

    def _clicks(
        self, transform: FrameTransform, prompts: Prompts, *, every_pixel: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """(n, 2) (x, y) frame px inside its valid part, and (n,) int labels.

        Scribbles are the clicks along them, see `ClickPolicy.clicks_along`.
        """
        height, width = transform.size
        points = np.clip(transform.points_to_frame(prompts.points), 0, [width, height])
        labels = prompts.labels.astype(np.int64)
        if not prompts.joined.any():
            return points, labels
        starts = np.flatnonzero(~prompts.joined)
        lines = [
            CLICKS.clicks_along(line, every_pixel=every_pixel)
            for line in np.split(points, starts[1:])
        ]
        return np.concatenate(lines), np.repeat(labels[starts], [len(line) for line in lines])

    def _head(
        self,
        batch: _DecodedBatch,
        region: tuple[int, int, int, int] | None,
        given: tuple[NDArray[Any], NDArray[Any]] | None = None,
        *,
        compares: bool = False,
    ) -> NDArray[np.float32]:
        """(B, h, w) logits of the valid part, after clicks; then those without them, to compare."""
        height, width = batch.transforms[0].size
        network = batch.network

        def run() -> Tensor:
            image = batch.encoded.to(self._runner.device)
            state = batch.decoded.to(self._runner.device)
            states = [state]
            if given is not None and network.has_interactor:
                points, labels = (self._runner.tensor(v[None]) for v in given)
                states = [network.correct(image, state, points, labels)]
            if compares:
                states.append(state)
            fine = torch.cat([network.upscale(image, one, region=region) for one in states])
            return fine[:, 0, :height, :width].float().cpu()

        return np.array(self._runner.run(run).numpy(), order="C")


@dataclass(frozen=True)
class _DecodedBatch:
    """B decoded prompts, and where they are, before the head looks at them."""

    network: PiSam
    encoded: EncodedImage
    decoded: Decoded
    transforms: Sequence[FrameTransform]
    boxes: Sequence[Box | None]

    def region(self, points: NDArray[Any] | None = None) -> tuple[int, int, int, int] | None:
        """Where the head has to look, with clicks at (x, y) frame px."""
        pairs = zip(self.transforms, self.boxes, strict=True)
        return _region([_place(*pair, points) for pair in pairs], self.network.frame)


def _place(
    transform: FrameTransform, box: Box | None, points: NDArray[Any] | None
) -> NDArray[np.float64] | None:
    """(x0, y0, x1, y1) frame px around a box and its clicks' points; None without a box."""
    if box is None:
        return None
    x0, y0, x1, y1 = transform.box_to_frame(box)
    margin = _MARGIN_PX + _MARGIN * max(x1 - x0, y1 - y0)
    corners = np.array([[x0, y0], [x1, y1]])
    if points is not None:
        corners = np.concatenate([corners, points])
    return np.concatenate([corners.min(axis=0) - margin, corners.max(axis=0) + margin])


def _region(
    places: Sequence[NDArray[np.float64] | None], frame: int
) -> tuple[int, int, int, int] | None:
    """Cells of S/4 that hold all places; None for the whole frame."""
    known = [place for place in places if place is not None]
    if len(known) < len(places):
        return None
    low = np.min([place[:2] for place in known], axis=0) // 4
    high = -(-np.max([place[2:] for place in known], axis=0) // 4)
    col0, row0 = (int(v) for v in np.clip(low, 0, frame // 4 - 1))
    col1, row1 = (int(v) for v in np.clip(high, 1, frame // 4))
    return row0, col0, row1, col1
