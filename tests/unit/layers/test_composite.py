"""Channels as one picture: the colours that are seen, and only windows read."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from napari.components import ViewerModel

from lazy_arrays import Lazy
from napari_pisam.images.image_source import ImageSource
from napari_pisam.layers.composite import (
    Channel,
    are_channels,
    channel_of_axis,
    channel_of_layer,
    composite_of,
    default_colors,
    layers_at,
)
from napari_pisam.layers.geometry import plane_of

WINDOW = (slice(2, 6), slice(3, 9))


def two_layers(**options):
    viewer = ViewerModel()
    data = np.random.default_rng(0).random((2, 20, 30)).astype(np.float32)
    first = viewer.add_image(data[0], colormap="red", contrast_limits=(0, 1))
    second = viewer.add_image(
        data[1],
        **{"colormap": "green", "blending": "additive", "contrast_limits": (0, 1)} | options,
    )
    return viewer, data, [first, second]


def seen(layers, window=WINDOW):
    plane = plane_of(layers[0])
    return composite_of([channel_of_layer(one, plane) for one in layers]).read(window)


def test_red_and_green_are_added():
    _, data, layers = two_layers()
    expected = np.zeros((4, 6, 3))
    expected[..., 0], expected[..., 1] = data[0][WINDOW], data[1][WINDOW]
    np.testing.assert_allclose(seen(layers) / 255, expected, atol=0.005)


def test_contrast_gamma_and_opacity_are_those_of_the_layer():
    _, data, layers = two_layers(contrast_limits=(0.2, 0.7), gamma=0.5, opacity=0.5)
    expected = np.clip((data[1][WINDOW] - 0.2) / 0.5, 0, 1) ** 0.5 * 0.5
    np.testing.assert_allclose(seen(layers)[..., 1] / 255, expected, atol=0.006)


@pytest.mark.parametrize(
    ("blending", "expected"),
    [
        ("additive", lambda low, high: low + high / 2),
        ("translucent", lambda low, high: low / 2 + high / 2),
        ("opaque", lambda _low, high: high),
        ("minimum", np.minimum),
        ("multiplicative", lambda low, high: low * high),
    ],
)
def test_blending_is_naparis(blending, expected):
    _, data, layers = two_layers(blending=blending, opacity=0.5, colormap="gray")
    layers[0].colormap = "gray"
    wanted = np.clip(expected(data[0][WINDOW], data[1][WINDOW]), 0, 1)
    np.testing.assert_allclose(seen(layers)[..., 2] / 255, wanted, atol=0.006)


def test_only_windows_are_read():
    data = [Lazy((50_000, 60_000)) for _ in range(2)]
    shades = [np.outer(np.linspace(0, 1, 256), color) for color in np.eye(3)[:2]]
    channels = [
        Channel(ImageSource(one, contrast_limits=(0, 250)), shade.astype(np.float32))
        for one, shade in zip(data, shades, strict=True)
    ]
    source = composite_of(channels)
    assert max(one.largest_read for one in data) == 0
    picture = source.read((slice(40_000, 40_016), slice(50_000, 50_032)))
    assert [one.largest_read for one in data] == [16 * 32] * 2
    for color, one in enumerate(data):
        assert picture[3, 5, color] == round(one.expected(40_003, 50_005) / 250 * 255)


def test_levels_of_a_pyramid_are_those_that_all_have():
    viewer, rng = ViewerModel(), np.random.default_rng(0)
    levels = [rng.random((40 // n, 60 // n)) for n in (1, 2, 4)]
    layers = [viewer.add_image(levels[:n], multiscale=True) for n in (3, 2)]
    plane = plane_of(layers[0])
    source = composite_of([channel_of_layer(one, plane) for one in layers])
    assert source.levels == [(40, 60), (20, 30)]
    assert source.read((slice(0, 20), slice(0, 30)), level=1).shape == (20, 30, 3)
    assert source.is_rgb


def test_rgb_and_values_that_are_no_numbers():
    viewer = ViewerModel()
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    holes = np.full((20, 30), np.nan)
    layers = [
        viewer.add_image(colours, rgb=True),
        viewer.add_image(holes, blending="additive", contrast_limits=(0, 1)),
    ]
    np.testing.assert_array_equal(seen(layers), colours[WINDOW])


def test_channels_of_an_axis_have_a_contrast_each():
    viewer = ViewerModel()
    data = np.random.default_rng(0).integers(0, 200, (2, 20, 30)).astype(np.uint16)
    data[1] *= 100
    image = viewer.add_image(data)
    plane = plane_of(image, channel_axis=0)
    parts = [channel_of_axis(image, plane, *one) for one in default_colors(2).items()]
    picture = composite_of(parts).read((slice(0, 20), slice(0, 30)))
    for channel in (0, 1):  # magenta, green
        assert picture[..., channel].min() == 0
        assert picture[..., channel].max() == 255
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])


def test_layers_at_one_place():
    viewer, _, layers = two_layers()
    viewer.add_labels(np.zeros((20, 30), np.uint8))
    viewer.add_image(np.zeros((20, 31)))
    viewer.add_image(np.zeros((20, 30)), translate=(1, 0))
    hidden = viewer.add_image(np.zeros((20, 30)), visible=False)
    assert layers_at(layers[0], viewer.layers) == layers
    hidden.visible = True
    assert layers_at(layers[0], viewer.layers) == [*layers, hidden]
    assert are_channels(layers)
    assert not are_channels([*layers, hidden])
    assert not are_channels(layers[:1])
