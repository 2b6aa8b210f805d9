"""From layers to images that a model learns from."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from napari.components import ViewerModel
from napari.layers import Image, Labels

from fake_session import mask_of
from lazy_arrays import Lazy
from napari_pisam.layers.geometry import plane_of
from napari_pisam.layers.training import ArrayPlane, MaskLabels, take_pair

RNG = np.random.default_rng(0)


def labels_of(shape):
    return RNG.integers(0, 5, shape).astype(np.uint16)


def test_a_plane_is_read_as_it_is_displayed():
    data, labels = RNG.random((4, 20, 30)), labels_of((4, 20, 30))
    viewer = ViewerModel()
    image, layer = viewer.add_image(data), viewer.add_labels(labels)
    viewer.dims.set_point(0, 2)
    [source] = take_pair(image, layer, viewer.dims).sources()
    np.testing.assert_array_equal(source.image[3:9, 4:11], data[2, 3:9, 4:11])
    np.testing.assert_array_equal(source.labels[3:9, 4:11], labels[2, 3:9, 4:11])
    assert source.name.endswith("[2]")


def test_rolled_axes_are_followed():
    data, labels = RNG.random((4, 20, 30)), labels_of((4, 20, 30))
    viewer = ViewerModel()
    image, layer = viewer.add_image(data), viewer.add_labels(labels)
    viewer.dims.order = (1, 2, 0)
    viewer.dims.set_point(1, 7)
    [source] = take_pair(image, layer, viewer.dims).sources()
    assert source.image.shape == source.labels.shape == (30, 4)
    np.testing.assert_array_equal(source.image[2:9, 1:3], data[1:3, 7, 2:9].T)
    np.testing.assert_array_equal(source.labels[2:9, 1:3], labels[1:3, 7, 2:9].T)


def test_colours_are_read_and_contrast_limits_are_not_theirs():
    data = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    [source] = take_pair(Image(data, rgb=True), Labels(labels_of((20, 30)))).sources()
    np.testing.assert_array_equal(source.image[2:5, 3:9], data[2:5, 3:9])
    assert source.contrast_limits is None


def test_a_grey_image_keeps_the_contrast_that_is_seen():
    image = Image(RNG.random((20, 30)), contrast_limits=(0.2, 0.7))
    [source] = take_pair(image, Labels(labels_of((20, 30)))).sources()
    assert source.contrast_limits.tolist() == [0.2, 0.7]


def test_a_lazy_image_is_read_by_windows():
    array = Lazy((3, 500, 700))
    image = Image(array, contrast_limits=(0, 99), multiscale=False, rgb=False)
    labels = Labels(np.zeros(array.shape[1:], np.uint8))
    [source] = take_pair(image, labels, plane_of(image, index=(1,))).sources()
    array.largest_read = 0
    block = source.image[400:402, 30:33]
    assert block.tolist() == [
        [array.expected(1, row, col) for col in range(30, 33)] for row in (400, 401)
    ]
    assert array.largest_read <= 2 * 3


def test_of_a_pyramid_the_full_resolution_is_used():
    data = RNG.random((64, 80))
    image = Image([data, data[::2, ::2]], multiscale=True)
    [source] = take_pair(image, Labels(labels_of((64, 80)))).sources()
    np.testing.assert_array_equal(source.image[:, :], data)


def test_all_slices_with_labels_are_found_and_the_others_left_out():
    labels = np.zeros((2, 3, 20, 30), np.uint8)
    labels[0, 2, 4, 5] = labels[1, 0, 4, 5] = 1
    viewer = ViewerModel()
    image, layer = viewer.add_image(np.zeros(labels.shape), name="z"), viewer.add_labels(labels)
    sources = take_pair(image, layer, viewer.dims, all_slices=True).sources()
    assert [source.name for source in sources] == ["z [0, 2]", "z [1, 0]"]


def test_a_stack_without_labels_is_refused():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((3, 20, 30)), name="z")
    pair = take_pair(image, viewer.add_labels(np.zeros((3, 20, 30), int)), all_slices=True,
                     dims=viewer.dims)  # fmt: skip
    with pytest.raises(ValueError, match="No slice of the labels for 'z'"):
        pair.sources()


@pytest.mark.parametrize("change", [{"scale": (2, 2)}, {"translate": (0, 3)}, {"rotate": 10}])
def test_labels_that_lie_elsewhere_are_refused(change):
    image = Image(np.zeros((20, 30)), name="cells")
    with pytest.raises(ValueError, match="lies elsewhere than the image 'cells'"):
        take_pair(image, Labels(labels_of((20, 30)), **change))


def test_layers_that_are_scaled_alike_fit():
    image = Image(np.zeros((20, 30)), scale=(0.3, 0.2), translate=(5, -2))
    layer = Labels(labels_of((20, 30)), scale=(0.3, 0.2), translate=(5, -2))
    assert len(take_pair(image, layer).sources()) == 1


def test_labels_are_those_of_the_moment_and_the_layer_is_not_changed():
    data = labels_of((20, 30))
    layer = Labels(data.copy())
    [source] = take_pair(Image(np.zeros((20, 30))), layer).sources()
    layer.data[:] = 0
    np.testing.assert_array_equal(source.labels[:, :], data)


def test_masks_are_read_as_labels_by_window():
    first, second = np.zeros((2, 20, 30), bool)
    first[2:6, 3:9] = second[10:15, 20:28] = True
    labels = MaskLabels((20, 30), {3: mask_of(first), 7: mask_of(second)})
    expected = np.where(first, 3, 0) + np.where(second, 7, 0)
    np.testing.assert_array_equal(labels[:, :], expected)
    np.testing.assert_array_equal(labels[4:12, 5:25], expected[4:12, 5:25])


def test_a_plane_says_its_shape_and_type_without_reading():
    class Unread:
        shape, dtype = (7, 20, 30), np.dtype(np.uint16)

    plane = ArrayPlane(Unread(), (1, 2), (3, None, None))
    assert (plane.shape, plane.dtype, plane.ndim) == ((20, 30), np.uint16, 2)
