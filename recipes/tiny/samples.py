"""Training samples from real images, generated images and composites in given shares."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_pisam.learn.augment import augment_appearance, augment_geometry
from napari_pisam.learn.crops import cut, exact_box, place_window, training_window
from napari_pisam.learn.dataset import (
    TrainingSamples,
    ValidationSamples,
    choose_object,
    is_visible,
)
from napari_pisam.learn.store import SMALLEST_OBJECT
from recipes.tiny import synthetic
from recipes.tiny.compose import Bank, composite, load_bank, texture
from recipes.tiny.lines import cables, hairs, roots, vessel_tree
from recipes.tiny.pseudo import regions
from recipes.tiny.rendering import bundled_pictures
from recipes.tiny.sets import load_images
from recipes.tiny.store import SetImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_pisam.learn.dataset import Drawn, Entry
    from napari_pisam.model.variants import Focus
    from recipes.tiny.config import RecipeConfig

_COMPACT = 0.5  # share of its box that a compact object fills
# Share of an object's colour that clear lines across it replace; how often these are meant.
_CLEAR, _MEANT = 0.55, 0.35


def thin_entries(item: SetImage) -> NDArray[np.intp]:
    """Find the entries of an image that are thin lines or networks of them."""
    return np.flatnonzero([item.class_of(int(which)) in item.thin_classes for which in item.ids])


def part_of_network(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Cut a network to a part of its extent, as a user does who draws a box on some of it."""
    x0, y0, x1, y1 = exact_box(mask)
    share = rng.uniform(0.4, 0.9, 2)
    height, width = (y1 - y0) * share[0], (x1 - x0) * share[1]
    top = int(y0 + rng.uniform(0, y1 - y0 - height))
    left = int(x0 + rng.uniform(0, x1 - x0 - width))
    part = np.zeros_like(mask)
    place = slice(top, int(top + height) + 1), slice(left, int(left + width) + 1)
    part[place] = mask[place]
    return part if part.sum() >= SMALLEST_OBJECT else mask


def crossed_by_lines(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw lines of something else across a picture, (H, W, 3), whose object is compact.

    A disc that vessels cross is the disc, not the vessels: pictures of networks alone teach that
    whatever has lines in its box is meant by its lines. Most often the object stays the object; of
    clear lines those in its box are it, at times. Other pictures come back as they are.
    """
    x0, y0, x1, y1 = exact_box(mask)
    if mask.sum() < _COMPACT * (x1 - x0) * (y1 - y0):
        return image, mask
    draw = (vessel_tree, roots, hairs, cables)[int(rng.integers(0, 4))]
    height, width = mask.shape
    lines = draw(max(height, width), rng)[:height, :width] > 0
    if not lines.any():
        return image, mask
    cover = gaussian_filter(lines.astype(np.float32), rng.uniform(0.5, 1.5))[..., None]
    colour = image[lines].mean(0) * rng.uniform(0.3, 1.6) + rng.normal(0, 15, 3)
    strength = rng.uniform(0.3, 0.9)
    mixed = image + strength * cover * (colour - image)
    image = np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.uint8)
    if strength < _CLEAR or rng.random() > _MEANT:
        return image, mask
    within = np.zeros_like(mask)
    place = slice(int(y0), int(np.ceil(y1))), slice(int(x0), int(np.ceil(x1)))
    within[place] = lines[place]
    return image, within if within.sum() >= SMALLEST_OBJECT else mask


class MixedSamples(TrainingSamples[SetImage]):
    """Endless stream of samples of three origins, every one a function of `(seed, index)` alone.

    Parameters
    ----------
    images : sequence of SetImage
        Real images of the training part; may be empty.
    size, seed : int
        As of `TrainingSamples`.
    weights : tuple of float
        Shares of real images, generated images and composites; one that there is nothing to draw
        from gets none.
    bank : Bank, optional
        Cut-outs and textures for the composites, families of generated images; without one, all
        families and no composites.
    thin_share : float, optional
        Share of the real images' samples that are lines or networks of lines.
    crossed : float
        Share of the compact objects that lines of something else are drawn across.
    pseudo : float
        Share of samples that are regions of pictures that nobody labelled.
    """

    def __init__(
        self,
        images: Sequence[SetImage],
        *,
        size: int = 512,
        seed: int = 0,
        weights: tuple[float, float, float] = (0.55, 0.25, 0.20),
        bank: Bank | None = None,
        thin_share: float | None = None,
        crossed: float = 0.0,
        pseudo: float = 0.0,
    ) -> None:
        super().__init__(images, size=size, seed=seed)
        self.bank = Bank() if bank is None else bank
        there = (bool(self.images), bool(self.bank.kinds), bool(self.bank.cutouts))
        shares = np.array(weights, dtype=np.float64) * there
        if (shares < 0).any() or shares.sum() == 0:
            raise ValueError(
                f"weights are {weights} for {len(self.images)} images, {len(self.bank.kinds)} "
                f"families and {len(self.bank.cutouts)} sets of cut-outs; expected three shares of "
                "at least 0, one of them above 0 with something to draw from."
            )
        self.shares = shares / shares.sum()
        self.thin_share, self.crossed, self.pseudo = thin_share, crossed, pseudo
        thin = [bool(self.images[self.by_source[name][0]].thin_classes) for name in self.sources]
        weights_of_thin = self.source_shares * np.array(thin, dtype=np.float64)
        total = weights_of_thin.sum()
        self.thin_shares = weights_of_thin / total if total else None
        # Filled before the workers fork, so that they share one copy.
        bundled_pictures()

    def draw(self, rng: np.random.Generator, choose: np.random.Generator | None) -> Drawn:
        """Draw a picture of one of the origins, with an object in it."""
        image, mask, source = self._of_an_origin(rng, choose)
        if self.crossed and mask.any() and rng.random() < self.crossed:
            image, mask = crossed_by_lines(image, mask, rng)
        return image, mask, source

    def _of_an_origin(self, rng: np.random.Generator, choose: np.random.Generator | None) -> Drawn:
        if self.pseudo and self.bank.textures and rng.random() < self.pseudo:
            return self._pseudo_object(rng)
        origin = int(rng.choice(3, p=self.shares))
        if origin == 1:
            return self._generated(rng)
        if origin == 2:
            return self._composite(rng)
        wanted = self.thin_share if choose is None else None
        if wanted is not None and self.thin_shares is not None and rng.random() < wanted:
            source = self.sources[int(rng.choice(len(self.sources), p=self.thin_shares))]
            pool = self.by_source[source]
            item = self.images[pool[int(rng.integers(0, len(pool)))]]
            lines = thin_entries(item)
            if len(lines):
                return (*self._line(item, lines, rng), source)
        return super().draw(rng, choose)

    def _line(
        self, item: SetImage, lines: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Draw a network, or a line of it, most often at the width that it has in the picture."""
        which = int(lines[choose_object(item.areas[lines], item.ids[lines], rng)])
        whole = bool(item.ids[which] < 0) or len(lines) == 1
        shape = (item.labels.shape[0], item.labels.shape[1])
        everything = (0, 0, *shape)
        box = item.boxes[which]
        if rng.random() < 0.3:
            window = training_window(box, shape, self.size, rng, whole=whole)
        elif rng.random() < 0.15:
            window = everything
        else:
            rows, cols = slice(box[0], box[2]), slice(box[1], box[3])
            inside = np.flatnonzero(item.mask(int(item.ids[which]), rows, cols))
            row, col = divmod(int(rng.choice(inside)), int(box[3] - box[1]))
            side = self.size * float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
            jitter = rng.uniform(-0.3, 0.3, 2) * side
            spot = (box[0] + row + jitter[0], box[1] + col + jitter[1])
            window = place_window((side, side), spot, shape)
        rows, cols = slice(window[0], window[2]), slice(window[1], window[3])
        mask = item.mask(int(item.ids[which]), rows, cols)
        image, mask = cut(item.pixels, mask, window, self.size)
        if mask.sum() < SMALLEST_OBJECT:
            return image, mask
        if whole and rng.random() < 0.35:
            mask = part_of_network(mask, rng)
        image, mask = augment_geometry(image, mask, rng, whole=whole)
        if rng.random() < 0.25:
            image = 255 - image
        strength = 0.25 if rng.random() < 0.5 else 0.7
        return augment_appearance(image, rng, strength), mask

    def _generated(self, rng: np.random.Generator) -> Drawn:
        kind = self.bank.kinds[int(rng.integers(0, len(self.bank.kinds)))]
        pixels, labels = synthetic.generate(kind, self.size, rng)
        image, mask = self._from_labels(pixels, labels, rng, whole_share=0.1)
        return augment_appearance(image, rng, 0.3), mask, f"synthetic:{kind}"

    def _pseudo_object(self, rng: np.random.Generator) -> Drawn:
        picture = np.asarray(texture(self.bank, self.size, rng))
        image, mask = self._from_labels(picture, regions(picture, rng), rng, whole_share=0.0)
        return augment_appearance(image, rng, 0.4), mask, "pseudo"

    def _composite(self, rng: np.random.Generator) -> Drawn:
        background = None
        if self.images and rng.random() < 0.3:
            item = self.images[int(rng.integers(0, len(self.images)))]
            side = min(item.labels.shape) * rng.uniform(0.3, 1.0)
            spot = (rng.uniform(0, item.labels.shape[0]), rng.uniform(0, item.labels.shape[1]))
            window = place_window((side, side), spot, (item.labels.shape[0], item.labels.shape[1]))
            patch = Image.fromarray(item.pixels[window[0] : window[2], window[1] : window[3]])
            frame = (self.size, self.size)
            background = np.asarray(patch.resize(frame, Image.Resampling.BILINEAR).convert("RGB"))
        pixels, labels = composite(self.bank, self.size, rng, background)
        image, mask = self._from_labels(pixels, labels, rng, whole_share=0.02)
        return augment_appearance(image, rng, 0.4), mask, "composite"

    def _from_labels(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int32],
        rng: np.random.Generator,
        *,
        whole_share: float,
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Choose an object of a labelled image, and the whole of it or a crop."""
        areas = np.bincount(labels.ravel())
        ids = np.flatnonzero(areas >= SMALLEST_OBJECT)
        ids = ids[ids > 0]
        if not len(ids):
            return pixels, np.zeros(labels.shape, bool)
        union = len(ids) == 1 or rng.random() < whole_share
        which = int(ids[choose_object(areas[ids], ids, rng)])
        mask = labels > 0 if union and len(ids) > 1 else labels == which
        if rng.random() < 0.3:
            window = (0, 0, labels.shape[0], labels.shape[1])
        else:
            x0, y0, x1, y1 = exact_box(mask).astype(np.int64)
            box = np.array([y0, x0, y1, x1])
            shape = (labels.shape[0], labels.shape[1])
            window = training_window(box, shape, 2 * self.size, rng, whole=union)
        if window != (0, 0, *labels.shape) or pixels.ndim == 2:
            part = mask[window[0] : window[2], window[1] : window[3]]
            pixels, mask = cut(pixels, part, window, self.size)
        return augment_geometry(pixels, mask, rng, whole=union)


def training_samples(config: RecipeConfig) -> MixedSamples:
    """Read what a stage trains on.

    Raises
    ------
    ValueError
        If the data cannot be read.
    """
    bank = load_bank(config.data) if (config.data / "cutouts").is_dir() else Bank()
    return MixedSamples(
        load_images(config.data, held_out=config.held_out),
        bank=replace(bank, kinds=remaining_kinds(config.held_out_kinds)),
        size=config.frame,
        seed=config.seed,
        weights=config.mixture,
        thin_share=config.thin_share,
        crossed=config.crossed,
        pseudo=config.pseudo,
    )


def validation_samples(
    images: Sequence[SetImage],
    *,
    size: int = 512,
    objects: int = 6,
    seed: int = 0,
    focus: Focus | None = None,
) -> ValidationSamples:
    """Draw fixed objects to validate on.

    Parameters
    ----------
    images : sequence of SetImage
        Images of the validation part.
    size : int
        Frame in px.
    objects : int
        Samples per source; one per image as long as there are images.
    seed : int
        Chooses images and objects.
    focus : Focus, optional
        Of a network that looks at windows around objects: its windows are used then.
    """
    entries: list[Entry] = []
    by_source: dict[str, list[SetImage]] = {}
    for item in images:
        by_source.setdefault(item.source, []).append(item)
    for source in sorted(by_source):
        digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
        rng = np.random.default_rng(list(digest[:8]))
        pool = sorted(by_source[source], key=lambda item: item.name)
        order = [pool[i] for i in rng.permutation(len(pool))]
        taken: set[tuple[str, int]] = set()
        for turn in range(4 * objects):
            item = order[turn % len(order)]
            which = choose_object(item.areas, item.ids, rng)
            key = (item.name, which)
            is_new = len(taken) < objects and key not in taken
            if is_new and is_visible((item, which, size), focus):
                taken.add(key)
                entries.append((item, which, size))
    return ValidationSamples(entries, focus)


def remaining_kinds(held_out: Sequence[str]) -> tuple[str, ...]:
    """List the families of generated images that may be trained on.

    Raises
    ------
    ValueError
        If a family does not exist.
    """
    known = synthetic.KINDS
    unknown = [name for name in held_out if name not in known]
    if unknown:
        raise ValueError(f"held_out_kinds has {unknown}; expected some of {', '.join(known)}.")
    return tuple(name for name in known if name not in held_out)
