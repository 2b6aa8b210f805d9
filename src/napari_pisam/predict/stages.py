"""The network's stages on prompts and windows: decode, correct by clicks, enlarge."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from napari_pisam.predict.locality import keep_changes_at_clicks
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.obedience import obey_clicks
from napari_pisam.predict.preprocessing import FrameTransform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_pisam.model.pisam import Decoded, EncodedImage, PiSam
    from napari_pisam.predict.device import DeviceRunner
    from napari_pisam.predict.preprocessing import Window
    from napari_pisam.predict.prompts import Box, MaskPrompt, Prompts

# The high-resolution head looks at a box and this much around it: a share of its longer side, and
# px of the frame.
_MARGIN = 0.15
_MARGIN_PX = 16

# Logits of a mask to start from are 10 times this: what a click has to overcome.
_KEPT = 0.3

# Share of what clicks change that is held back: an unsure change does not pass, which halves what a
# click can spoil and costs nothing on average (docs/training-log.md).
_HELD_BACK = 1 / 3

_Batch = TypeVar("_Batch", "Decoded", "EncodedImage")


def take(batch: _Batch, place: int) -> _Batch:
    """Element `place` of a batch of dataclasses of tensors, as a batch of one."""
    parts: dict[str, Any] = {
        field.name: value[place : place + 1]
        for field in fields(batch)
        if isinstance(value := getattr(batch, field.name), torch.Tensor)
    }
    return replace(batch, **parts)


@dataclass
class Before:
    """What the head made of decoded prompts before any click: the same for all their clicks.

    Attributes
    ----------
    logits : (h, w) float32 array or None
        The valid part of the frame; None until they were computed.
    region : (int, int, int, int) or None
        Where the head was used for them. Those of another region differ outside it: they are
        computed anew, for a mask must not depend on what was asked earlier.
    """

    logits: NDArray[np.float32] | None = None
    region: tuple[int, int, int, int] | None = None


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
        earlier: Tensor | None = None,
    ) -> Decoded:
        """Decode prompts of one kind (the same parts given, the same number of clicks) at once.

        Parameters
        ----------
        windows, prompts : sequences of B
            What each prompt is asked of.
        encoded : EncodedImage
            Of one image for all prompts, or of B.
        earlier : (B, 1, S/4, S/4) float, optional
            Logits to start from.
        """
        frame = self.frame(windows[0])
        pairs = [(self.transform(w), p) for w, p in zip(windows, prompts, strict=True)]
        boxes = [t.box_to_frame(p.region) for t, p in pairs if p.region is not None]
        masks = [t.mask_to_logits(p.mask, frame) for t, p in pairs if p.mask is not None]
        clicks = [_clicks(t, p) for t, p in pairs if len(p.points)]
        # One click may mean a part or the whole: SAM answers with three masks, the best is kept.
        multimask = self._model.variant.kind != "pisam" and not boxes and len(clicks[0][1]) == 1

        def run() -> Decoded:
            previous = None if earlier is None else earlier.to(self._runner.device)
            if previous is None and masks:
                previous = self._runner.tensor(np.stack(masks))
            return self._model.at_frame(frame).decode(
                encoded.to(self._runner.device),
                boxes=self._runner.tensor(np.stack(boxes)) if boxes else None,
                points=self._runner.tensor(np.stack([c[0] for c in clicks])) if clicks else None,
                labels=self._runner.tensor(np.stack([c[1] for c in clicks])) if clicks else None,
                masks=previous,
                multimask=multimask,
            )

        decoded = self._runner.run(run)
        if decoded.low_res.shape[1] == 1:
            return decoded
        best = int(decoded.iou[0].argmax())
        chosen = decoded.low_res[:, best : best + 1]
        return replace(decoded, coarse=chosen, low_res=chosen, iou=decoded.iou[:, best : best + 1])

    def finish(
        self,
        windows: Sequence[Window],
        encoded: EncodedImage,
        decoded: Decoded,
        clicks: Prompts | None,
        shape: tuple[int, int],
        boxes: Sequence[Box | None],
        start: MaskPrompt | None = None,
        before: Before | None = None,
    ) -> list[Mask]:
        """Masks at full resolution of B decoded prompts, corrected by clicks where B is 1.

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
        shape : (int, int)
            (H, W) of the image, px.
        boxes : sequence of B boxes or None
            Where the objects are said to be.
        start : MaskPrompt, optional
            A mask to keep, where B is 1: what the clicks change is added to it.
        before : Before, optional
            That of `decoded`, where B is 1; filled here, and saves a pass of the head then.
        """
        transforms = [self.transform(window) for window in windows]
        height, width = transforms[0].size
        network = self._model.at_frame(self.frame(windows[0]))
        given = None if clicks is None else _clicks(transforms[0], clicks)
        points = None if given is None else given[0]
        places = [
            _place(transform, box, points) for transform, box in zip(transforms, boxes, strict=True)
        ]
        region = _region(places, network.frame)
        # Published weights are left to say what they say.
        is_local = given is not None and network.variant.click_maps

        compares = given is not None and (start is not None or (is_local and places[0] is not None))
        # Only networks whose clicks are local ask for it again.
        store = before if network.variant.click_maps else None
        known = store.logits if store is not None and store.region == region else None

        def run() -> Tensor:
            image, state = encoded.to(self._runner.device), decoded.to(self._runner.device)
            corrected = state
            if given is not None and network.variant.kind == "pisam":
                click_points, labels = (self._runner.tensor(v[None]) for v in given)
                corrected = network.correct(image, state, click_points, labels)
            fine = network.upscale(image, corrected, region=region)
            if compares and known is None:
                fine = torch.cat([fine, network.upscale(image, state, region=region)])
            return fine[:, 0, :height, :width].float().cpu()

        kept: NDArray[np.float32] | None = None
        if start is not None:
            drawn = _KEPT * transforms[0].mask_to_logits(start, network.frame, cell=1)
            kept = np.array(drawn[:, :height, :width], dtype=np.float32, order="C")
        logits: NDArray[np.float32]
        if kept is not None and given is None:
            logits = kept  # nothing changes it
        elif known is not None and given is None:
            logits = known[None].copy()
        else:
            logits = np.array(self._runner.run(run).numpy(), order="C")
            if known is None and (compares or given is None):
                known = logits[-1]
                if store is not None:
                    # A copy: the caller's mask is the caller's to change.
                    store.logits, store.region = known.copy(), region
        if given is not None:
            logits = logits[:1]
            reference = known[None] if compares and known is not None else None
            if kept is not None and reference is not None:
                # What the clicks change is added to the mask to keep.
                logits, reference = kept + (logits - reference), kept
            if is_local and reference is not None:
                logits += _HELD_BACK * (reference - logits)
                keep_changes_at_clicks(reference[0], logits[0], *given)
            if is_local:
                obey_clicks(logits[0], *given)
        return [
            Mask.from_frame_logits(one, transform, window.native_bbox(shape), shape, float(score))
            for one, transform, window, score in zip(
                logits, transforms, windows, decoded.iou[:, 0], strict=True
            )
        ]


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


def _clicks(transform: FrameTransform, prompts: Prompts) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n, 2) (x, y) frame px inside its valid part, and (n,) int labels."""
    height, width = transform.size
    points = np.clip(transform.points_to_frame(prompts.points), 0, [width, height])
    return points, prompts.labels.astype(np.int64)
