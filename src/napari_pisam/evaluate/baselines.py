"""Classical methods that take the same prompts: what a network has to beat.

None of them learns; each looks at the surroundings of its prompts only.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_pisam.images.image_source import ImageSource
from napari_pisam.predict.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_UNKNOWN, _FG, _BG = 0, 1, 2
# Clicks as discs of this radius, px of what is computed on.
_CLICK_RADIUS = 2.0


@dataclass(frozen=True)
class _Surroundings:
    """Surroundings of the prompts, reduced: the picture, and the prompts in its px."""

    pixels: NDArray[np.uint8]
    box: tuple[slice, slice] | None
    seeds: NDArray[np.uint8]
    window: tuple[slice, slice]
    step: int


class Baseline:
    """What the baselines share: prompts in, mask out.

    Subclasses say how a view is segmented, and how many px of it are looked at.
    """

    margin: ClassVar[float] = 0.5
    longest: ClassVar[int] = 1024

    def __init__(self) -> None:
        self._source: ImageSource | None = None

    def set_image(self, image: Any) -> None:
        """Choose the image; see `Predictor.set_image`."""
        self._source = ImageSource.of(image)

    def predict(self, box: Any = None, points: Any = None, labels: Any = None) -> NDArray[np.bool_]:
        """Predict one object; see `Predictor.predict`.

        Returns
        -------
        (H, W) bool array

        Raises
        ------
        RuntimeError
            If there is no image.
        ValueError
            If the prompts are wrong.
        """
        if self._source is None:
            raise RuntimeError("There is no image. Call set_image(image) first.")
        shape = self._source.shape
        prompts = Prompts(box, points, labels).validated_for(shape)
        view = self._view(self._source, prompts)
        found = self._segment(view)
        result = np.zeros(shape, dtype=np.bool_)
        rows, cols = view.window
        enlarged = found.repeat(view.step, axis=0).repeat(view.step, axis=1)
        result[rows, cols] = enlarged[: rows.stop - rows.start, : cols.stop - cols.start]
        return result

    def _segment(self, view: _Surroundings) -> NDArray[np.bool_]:
        raise TypeError(f"{type(self).__name__} does not say how it segments.")

    def _view(self, source: ImageSource, prompts: Prompts) -> _Surroundings:
        shape = source.shape
        if prompts.box is None:
            window = (slice(0, shape[0]), slice(0, shape[1]))
        else:
            edges = np.array(prompts.box).reshape(2, 2)
            low = np.vstack([edges, prompts.points]).min(axis=0)
            high = np.vstack([edges, prompts.points]).max(axis=0)
            pad = self.margin * float((edges[1] - edges[0]).max()) + 2
            rows, cols = (
                slice(max(0, math.floor(low[a] - pad)), min(shape[a], math.ceil(high[a] + pad)))
                for a in (0, 1)
            )
            window = (rows, cols)
        pixels = source.read_rgb(window).round().astype(np.uint8)
        step = max(1, math.ceil(max(pixels.shape[:2]) / self.longest))
        pixels = _reduced(pixels, step)
        size: tuple[int, int] = (pixels.shape[0], pixels.shape[1])
        seeds: NDArray[np.uint8] = np.full(size, _UNKNOWN, dtype=np.uint8)
        start = np.array([window[0].start, window[1].start])
        inner = None
        if prompts.box is not None:
            corners = (np.array(prompts.box).reshape(2, 2) + 0.5 - start) / step
            first = np.floor(corners[0]).astype(int)
            last = np.maximum(np.ceil(corners[1]).astype(int), first + 1)
            inner = (slice(first[0], last[0]), slice(first[1], last[1]))
            seeds[...] = _BG
            seeds[inner] = _UNKNOWN
        ys, xs = np.ogrid[: seeds.shape[0], : seeds.shape[1]]
        for (row, col), sign in zip(prompts.points, prompts.labels, strict=True):
            place = (np.array([row, col]) + 0.5 - start) / step - 0.5
            near = np.hypot(ys - place[0], xs - place[1]) <= max(_CLICK_RADIUS / step, 0.75)
            seeds[near] = _FG if sign else _BG
        return _Surroundings(pixels, inner, seeds, window, step)


class FilledBox(Baseline):
    """The box itself; without a box, the clicked pixels."""

    longest = 1 << 30

    def _segment(self, view: _Surroundings) -> NDArray[np.bool_]:
        if view.box is None:
            return np.asarray(view.seeds == _FG)
        result = np.zeros(view.seeds.shape, dtype=np.bool_)
        result[view.box] = True
        return result


class _Threshold(Baseline):
    """A threshold of Otsu's (1979) on some value of the pixels inside the box.

    A click changes the pixels right around it and no others.
    """

    longest = 1 << 30

    def _value(self, grey: NDArray[np.float64], side: int) -> NDArray[np.float64]:
        """Compute what is compared with the threshold; `side` is the box's longer side, px."""
        raise TypeError(f"{type(self).__name__} does not say what it compares.")

    def _turned(self, above: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Choose the object's side of the threshold."""
        return above

    def _segment(self, view: _Surroundings) -> NDArray[np.bool_]:
        from skimage import filters

        threshold: Any = filters.threshold_otsu
        window = view.box or (slice(None), slice(None))
        grey = view.pixels.mean(axis=2)
        value = self._value(grey, max(grey[window].shape))[window]
        result = np.zeros(view.seeds.shape, dtype=np.bool_)
        if value.min() == value.max():
            result[window] = True
            return result
        result[window] = self._turned(value > threshold(value))
        result[view.seeds == _FG] = True
        result[view.seeds == _BG] = False
        return result


class OtsuInBox(_Threshold):
    """Grey levels; the object is the side that the box's edge shows less of."""

    margin = 0.0

    def _value(self, grey: NDArray[np.float64], side: int) -> NDArray[np.float64]:
        return grey

    def _turned(self, above: NDArray[np.bool_]) -> NDArray[np.bool_]:
        edge = np.concatenate([above[0], above[-1], above[:, 0], above[:, -1]])
        return above if edge.mean() <= 0.5 else ~above


class LocalThreshold(_Threshold):
    """Grey levels against their surroundings, for what is brighter than these, or darker.

    Parameters
    ----------
    dark : bool
        The object is darker.
    """

    margin = 0.1

    def __init__(self, *, dark: bool = False) -> None:
        super().__init__()
        self.dark = dark

    def _value(self, grey: NDArray[np.float64], side: int) -> NDArray[np.float64]:
        from scipy import ndimage

        around = ndimage.gaussian_filter(grey, float(np.clip(side / 16, 4, 50)))
        return np.asarray(around - grey if self.dark else grey - around)


class SatoRidges(LocalThreshold):
    """Ridges of 1 to 4 px (Sato et al., 1998) by scikit-image, bright or dark ones."""

    def _value(self, grey: NDArray[np.float64], side: int) -> NDArray[np.float64]:
        from skimage import filters

        sato: Any = filters.sato
        return np.asarray(sato(grey, sigmas=range(1, 5), black_ridges=self.dark))


class GrabCut(Baseline):
    """GrabCut (Rother et al., 2004) by OpenCV: box outside is BG, clicks are certain.

    Raises
    ------
    ImportError
        Without OpenCV.
    """

    iterations = 5

    def __init__(self) -> None:
        super().__init__()
        if importlib.util.find_spec("cv2") is None:
            raise ImportError(
                "GrabCut needs OpenCV, which is not installed. Run: pip install "
                "opencv-python-headless, or leave grabcut out of --baselines."
            )
        self._cv2: Any = importlib.import_module("cv2")

    def _segment(self, view: _Surroundings) -> NDArray[np.bool_]:
        cv2 = self._cv2
        likely = cv2.GC_PR_FGD if view.box is not None else cv2.GC_PR_BGD
        codes = np.array([likely, cv2.GC_FGD, cv2.GC_BGD], dtype=np.uint8)
        mask = codes[view.seeds]
        if not (mask == cv2.GC_BGD).any():
            # A box around everything: its outermost pixels stand for the background.
            for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
                edge[edge != cv2.GC_FGD] = cv2.GC_PR_BGD
        if not np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).any():
            return np.zeros(mask.shape, dtype=np.bool_)
        models = np.zeros((2, 1, 65))
        cv2.setRNGSeed(0)
        picture = np.ascontiguousarray(view.pixels[..., ::-1])
        cv2.grabCut(
            picture, mask, None, models[0], models[1], self.iterations, cv2.GC_INIT_WITH_MASK
        )
        return np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))


class RandomWalker(Baseline):
    """Random walker (Grady, 2006) by scikit-image; the middle of the box is FG, outside it BG."""

    longest = 256
    beta = 130.0
    middle = 0.25

    def _segment(self, view: _Surroundings) -> NDArray[np.bool_]:
        from skimage.segmentation import random_walker

        seeds = view.seeds.copy()
        if view.box is not None:
            rows, cols = view.box
            ys, xs = np.ogrid[: seeds.shape[0], : seeds.shape[1]]
            down, across = (
                (places - (part.start + part.stop - 1) / 2) / max(1, part.stop - part.start)
                for places, part in ((ys, rows), (xs, cols))
            )
            middle = np.hypot(down, across) <= self.middle / 2
            # Clicks weigh more than a guess, and BG in the middle of the box says it was wrong.
            is_wrong = (seeds == _FG).any() and (seeds[middle] == _BG).any()
            if not is_wrong:
                seeds[middle & (seeds == _UNKNOWN)] = _FG
        if not (seeds == _FG).any() or not (seeds == _UNKNOWN).any():
            return np.asarray(seeds == _FG)
        if not (seeds == _BG).any():
            for edge in (seeds[0], seeds[-1], seeds[:, 0], seeds[:, -1]):
                edge[edge == _UNKNOWN] = _BG
        pixels = view.pixels.astype(np.float64) / 255
        with warnings.catch_warnings():
            # About solvers that would be faster, and seeds that nothing can reach.
            warnings.simplefilter("ignore")
            labels = random_walker(pixels, seeds, beta=self.beta, mode="cg_j", channel_axis=-1)
        return np.asarray(labels == _FG)


def _reduced(pixels: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Means of `step` x `step` px; the last row and column are repeated to fill up."""
    if step == 1:
        return pixels
    height, width = pixels.shape[:2]
    filled = np.pad(pixels, ((0, -height % step), (0, -width % step), (0, 0)), mode="edge")
    rows, cols = filled.shape[0] // step, filled.shape[1] // step
    blocks = filled.reshape(rows, step, cols, step, 3).mean(axis=(1, 3))
    return np.asarray(blocks.round().astype(np.uint8))


BASELINES: dict[str, Callable[[], Baseline]] = {
    "box": FilledBox,
    "otsu": OtsuInBox,
    "grabcut": GrabCut,
    "random_walker": RandomWalker,
    "local_bright": LocalThreshold,
    "local_dark": partial(LocalThreshold, dark=True),
    "sato_bright": SatoRidges,
    "sato_dark": partial(SatoRidges, dark=True),
}
"""By the name that the command line knows them by."""
