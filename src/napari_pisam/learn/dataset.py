"""An endless, self-seeded stream of prompts with their masks, and a fixed list to validate on.

Every image is decoded once into the parent process; workers that fork afterwards share the pixels
through copy-on-write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from napari_pisam.learn.augment import augment_appearance, augment_geometry, noise_table
from napari_pisam.learn.crops import (
    cut,
    exact_box,
    noisy_box,
    predictor_window,
    training_window,
)
from napari_pisam.learn.store import SMALLEST_OBJECT, StoredImage
from napari_pisam.predict.prompts import Prompts
from napari_pisam.predict.windows import choose_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_pisam.model.variants import Focus
    from napari_pisam.predict.windows import Window

    Sample = dict[str, Any]
    Drawn = tuple[NDArray[np.uint8], NDArray[np.bool_], str]
    Entry = tuple[StoredImage, int, int]

ImageT = TypeVar("ImageT", bound=StoredImage)

_FLAT = 2.5
"""Standard deviation of the grey levels below which a picture shows nothing."""


def as_sample(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    frame: int,
    source: str,
    rng: np.random.Generator | None,
) -> Sample:
    """Pad into the frame and add the box; exact when `rng` is None."""
    rows, cols = mask.shape
    full = np.zeros((3, frame, frame), np.uint8)
    full[:, :rows, :cols] = image.transpose(2, 0, 1)
    wide = np.zeros((1, frame, frame), np.uint8)
    wide[0, :rows, :cols] = mask
    box = exact_box(mask)
    if rng is not None:
        box = noisy_box(box, (rows, cols), rng)
    return {
        "image": torch.from_numpy(full),
        "mask": torch.from_numpy(wide),
        "valid": torch.tensor([rows, cols]),
        "box": torch.from_numpy(box.copy()),
        "source": source,
    }


def choose_object(
    areas: NDArray[np.int64], ids: NDArray[np.int64], rng: np.random.Generator
) -> int:
    """Draw the index of an object: a whole class in a third of the calls, else by area ** 0.25."""
    single = np.flatnonzero(ids > 0)
    whole = np.flatnonzero(ids < 0)
    pool = whole if len(whole) and (not len(single) or rng.random() < 0.35) else single
    weights = areas[pool].astype(np.float64) ** 0.25
    return int(rng.choice(pool, p=weights / weights.sum()))


def _inside(item: StoredImage, window: tuple[int, int, int, int], rng: np.random.Generator) -> int:
    """Draw the index of a single object that has its middle in a window."""
    low, high = np.array(window[:2]), np.array(window[2:])
    middle = (item.boxes[:, :2] + item.boxes[:, 2:]) / 2
    near = ((middle >= low) & (middle < high)).all(axis=1) & (item.ids > 0)
    pool = np.flatnonzero(near) if near.any() else np.flatnonzero(item.ids > 0)
    return int(rng.choice(pool))


class TrainingSamples(Generic[ImageT]):
    """Endless stream of training samples, every one a function of `(seed, index)` alone.

    Parameters
    ----------
    images : sequence of StoredImage
        What to draw from.
    size : int
        Frame in px.
    seed : int
        Seed of the stream.

    Notes
    -----
    A sample is a dict: `image` (3, size, size) uint8 RGB, zero right of and below the valid part;
    `mask` (1, size, size) uint8 0/1; `valid` (2,) int64 rows and cols of the valid part; `box` (4,)
    float32 x0, y0, x1, y1 in frame px with pixel edges; `source` str.
    """

    def __init__(self, images: Sequence[ImageT], *, size: int = 512, seed: int = 0) -> None:
        self.images = list(images)
        self.size, self.seed = size, seed
        self.by_source: dict[str, list[int]] = {}
        for i, item in enumerate(self.images):
            self.by_source.setdefault(item.source, []).append(i)
        self.sources = sorted(self.by_source)
        counts = np.sqrt([len(self.by_source[name]) for name in self.sources])
        self.source_shares = counts / counts.sum() if len(counts) else counts
        # Filled before the workers fork, so that they share one copy.
        noise_table()

    def sample(self, index: int, choose: np.random.Generator | None = None) -> Sample:
        """Draw sample `index`; the same arguments always give the same sample.

        Parameters
        ----------
        index : int
            Which picture, crop and augmentation.
        choose : numpy.random.Generator, optional
            Chooses another object in the same picture, where there is one.
        """
        rng = np.random.default_rng([self.seed, index])
        # Rarely, an object vanishes at the frame's resolution, or the whole picture in black or
        # white: draw again from the same stream.
        while True:
            image, mask, source = self.draw(rng, choose)
            visible = image[::4, ::4].std() > _FLAT
            if visible and mask.size > mask.sum() >= SMALLEST_OBJECT:
                return as_sample(image, mask, self.size, source, rng)

    def draw(self, rng: np.random.Generator, choose: np.random.Generator | None) -> Drawn:
        """Draw a picture with an object in it, which may turn out to be too small."""
        if not self.images:
            raise ValueError("There are no images to draw training samples from.")
        before = rng.bit_generator.state
        image, mask, source = self._real(rng)
        if choose is not None:
            mask = self._other_object(before, image, mask, choose)
        return image, mask, source

    def _other_object(
        self,
        state: Any,
        image: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        choose: np.random.Generator,
    ) -> NDArray[np.bool_]:
        """Draw a real picture again from a state of its generator, with another object of it."""
        again = np.random.default_rng()
        again.bit_generator.state = state
        repeated, other, _ = self._real(again, choose)
        # Turning by any angle may depend on the object.
        same = repeated.shape == image.shape and bool((repeated == image).all())
        return other if same and other.size > other.sum() >= SMALLEST_OBJECT else mask

    def _real(self, rng: np.random.Generator, choose: np.random.Generator | None = None) -> Drawn:
        source = self.sources[int(rng.choice(len(self.sources), p=self.source_shares))]
        pool = self.by_source[source]
        item = self.images[pool[int(rng.integers(0, len(pool)))]]
        which = choose_object(item.areas, item.ids, rng)
        whole = bool(item.ids[which] < 0)
        window = training_window(item.boxes[which], item.shape, self.size, rng, whole=whole)
        if choose is not None and not whole:
            which = _inside(item, window, choose)
        rows, cols = slice(window[0], window[2]), slice(window[1], window[3])
        mask = item.mask(int(item.ids[which]), rows, cols)
        image, mask = cut(item.pixels, mask, window, self.size)
        if choose is None and mask.sum() < SMALLEST_OBJECT:
            return image, mask, source
        image, mask = augment_geometry(image, mask, rng, whole=whole)
        # Often nearly as they are: what a colour says is worth knowing.
        strength = 0.25 if rng.random() < 0.5 else 0.7
        return augment_appearance(image, rng, strength), mask, source


class ValidationSamples(Dataset[Any]):
    """Fixed samples as the predictor would see them: its window, the exact box, no augmentation.

    Parameters
    ----------
    entries : sequence of (StoredImage, int, int)
        Each an image, the index of one of its objects, and the side of its frame, px.
    focus : Focus, optional
        Of a network that looks at windows around objects: its windows are used then.
    """

    def __init__(self, entries: Sequence[Entry], focus: Focus | None = None) -> None:
        self.entries, self.focus = list(entries), focus

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`, in the form that `TrainingSamples` documents."""
        item, _, frame = entry = self.entries[index]
        image, mask = _as_predicted(*entry, self.focus)
        return as_sample(image, mask, frame, item.source, None)


def is_visible(entry: Entry, focus: Focus | None) -> bool:
    """Whether enough of an object is left at its frame's resolution."""
    return bool(_as_predicted(*entry, focus)[1].sum() >= SMALLEST_OBJECT)


def _as_predicted(
    item: StoredImage, which: int, frame: int, focus: Focus | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut an object's picture and mask as the predictor would, the long side `frame` px."""
    if focus is None:
        window = predictor_window(item.boxes[which], item.shape)
    else:
        window = focused_window(item, which, focus).native_bbox(item.shape)
    rows, cols = slice(window[0], window[2]), slice(window[1], window[3])
    return cut(item.pixels, item.mask(int(item.ids[which]), rows, cols), window, frame)


def focused_window(item: StoredImage, which: int, focus: Focus) -> Window:
    """Choose what a network with a focus looks at for an object's box."""
    row0, col0, row1, col1 = (float(v) for v in item.boxes[which])
    # A public box is of pixels' centres, the last one included.
    prompts = Prompts(box=(row0 - 0.5, col0 - 0.5, row1 - 0.5, col1 - 0.5))
    return choose_window(prompts, item.shape, None, focus=focus)
