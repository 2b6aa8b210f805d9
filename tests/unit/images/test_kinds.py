"""What kind of picture an image looks like."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from scipy import ndimage

from lazy_arrays import Lazy
from napari_pisam.images.image_source import ImageSource
from napari_pisam.images.kinds import guess_kind


def kind(image, **given):
    return guess_kind(ImageSource(image, **given))


def nuclei(size=400, seed=0):
    """Bright discs on the dark, noisy ground of a camera, 16 bit."""
    rng = np.random.default_rng(seed)
    image = rng.normal(300.0, 20.0, (size, size))
    rows, cols = np.mgrid[:size, :size]
    for row, col in rng.integers(20, size - 20, (30, 2)):
        image += 3000.0 * ((rows - row) ** 2 + (cols - col) ** 2 < 12**2)
    return ndimage.gaussian_filter(image, 1.0).clip(0, 65535).astype(np.uint16)


def sections(size=400, seed=0):
    """Dark membranes between cells of many greys that fill the picture, and a detector's noise."""
    rng = np.random.default_rng(seed)
    noise, greys = rng.random((2, size, size))
    depth = ndimage.gaussian_filter(noise, 8.0) - ndimage.gaussian_filter(noise, 24.0)
    greys = ndimage.gaussian_filter(greys, 8.0)
    image = 150.0 + 22.0 * (greys - greys.mean()) / greys.std()
    image -= 90.0 * np.exp(-((depth / depth.std() / 0.35) ** 2))
    image += rng.normal(0.0, 28.0, image.shape)
    return ndimage.gaussian_filter(image, 0.6).clip(0, 255).astype(np.uint8)


def phase_contrast(size=400, seed=0):
    """A smooth grey ground with a few things on it."""
    image = np.random.default_rng(seed).normal(110.0, 3.0, (size, size))
    image[100:140, 100:160] += 60
    image[140:150, 100:160] -= 40
    return ndimage.gaussian_filter(image, 1.0).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("immunohistochemistry", "tissue"),
        ("astronaut", "photograph"),
        ("coffee", "photograph"),
        ("chelsea", "photograph"),
        ("rocket", "photograph"),
        # The eye's ground, a page, a grey photograph and a cell in phase: nothing is made for them.
        ("retina", None),
        ("page", None),
        ("camera", None),
        ("cell", None),
    ],
)
def test_real_pictures(name, expected):
    assert kind(np.asarray(getattr(skimage.data, name)())) == expected


def test_pink_and_purple_sections_are_stained_tissue():
    # Haematoxylin and eosin, by their absorption.
    from skimage.color import hed2rgb

    rng = np.random.default_rng(0)
    stains = np.zeros((300, 300, 3))
    stains[..., 0] = 0.15 * (nuclei(300) > 1500) + 0.02
    stains[..., 1] = 0.05 + 0.02 * ndimage.gaussian_filter(rng.normal(0, 3, (300, 300)), 2.0)
    assert kind((hed2rgb(stains) * 255).astype(np.uint8)) == "tissue"


def test_bright_things_on_a_dark_ground_are_fluorescence():
    image = nuclei()
    assert kind(image) == "fluorescence"
    assert kind(image.astype(np.float32)) == "fluorescence"
    assert kind(np.stack([image, image // 2]), channel_axis=0, rgb=False) == "fluorescence"


def test_a_composite_of_stains_in_pure_colours_is_fluorescence():
    blue, green = (ndimage.gaussian_filter(nuclei(seed=s), 1.0) / 14.0 for s in (0, 1))
    image = np.stack([np.zeros_like(blue), green, blue], axis=-1).clip(0, 255).astype(np.uint8)
    assert kind(image) == "fluorescence"


def test_grey_sections_full_of_membranes_are_electron_microscopy():
    image = sections()
    assert kind(image) == "electron"
    assert kind(np.stack([image] * 3, axis=-1)) == "electron"


@pytest.mark.parametrize(
    "image",
    [
        phase_contrast(),
        np.random.default_rng(0).normal(120.0, 20.0, (300, 300)).clip(0, 255).astype(np.uint8),
        np.zeros((300, 300), np.uint8),
        np.full((300, 300, 3), 200, np.uint8),
        np.full((200, 200), np.nan, np.float32),
        np.zeros((1, 1), bool),
        np.zeros((5, 700, 3), np.uint8),
    ],
    ids=["phase contrast", "noise", "black", "one colour", "not a number", "one pixel", "a strip"],
)
def test_where_it_may_be_anything_nothing_is_said(image):
    assert kind(image) is None


class Counted:
    """An array that is not in memory; notes how much is read each time."""

    def __init__(self, array):
        self._array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, []

    def __array__(self, *_args, **_options):
        raise AssertionError("the whole array was read")

    def __getitem__(self, key):
        part = self._array[key]
        self.reads.append(part.shape[:2])
        return part


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (nuclei(), "fluorescence"),
        (sections(), "electron"),
        (skimage.data.immunohistochemistry(), "tissue"),
        (skimage.data.coffee(), "photograph"),
        (phase_contrast(), None),
    ],
    ids=["fluorescence", "electron", "tissue", "photograph", "phase contrast"],
)
def test_of_an_array_that_is_not_in_memory_one_window_is_read(image, expected):
    lazy = Counted(image)
    assert kind(lazy) == expected
    assert lazy.reads == [(288, 288)]


def test_of_a_large_image_only_a_small_window_is_read():
    base, small = Lazy((60, 200_000, 200_000)), Lazy((60, 2_000, 2_000))
    guess_kind(ImageSource([base, small], plane=7))
    # The coarser level that has enough of it.
    assert base.largest_read == 0
    assert 0 < small.largest_read <= 288 * 288
    guess_kind(ImageSource(base, plane=7))
    assert base.largest_read <= 288 * 288
