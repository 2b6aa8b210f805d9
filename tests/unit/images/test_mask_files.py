"""What the numbers of a mask file mean, the same for training and evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from napari_pisam.images.mask_files import foreground, infer_kind, open_mask, read_mask, to_labels


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, values)
    else:
        Image.fromarray(values).save(path)


DISC = np.hypot(*np.mgrid[-20:20, -25:25]) < 12


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_are_read_as_saved(tmp_path, suffix, dtype):
    values = np.arange(48).reshape(6, 8).astype(dtype) * 5
    write(tmp_path / f"mask{suffix}", values)
    np.testing.assert_array_equal(read_mask(tmp_path / f"mask{suffix}"), values)


def test_axes_of_length_one_do_not_count(tmp_path):
    values = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for name, shape in (("a", (1, 1, 6, 8)), ("b", (6, 8, 1)), ("c", (1, 6, 8))):
        tifffile.imwrite(tmp_path / f"{name}.tif", values.reshape(shape), photometric="minisblack")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.tif"), values)


def test_stacks_are_refused(tmp_path):
    write(tmp_path / "mask.tif", np.zeros((7, 30, 40), np.uint8))
    with pytest.raises(ValueError, match=r"\(7, 30, 40\).*one number a pixel"):
        read_mask(tmp_path / "mask.tif")


def test_a_palette_gives_its_indices(tmp_path):
    values = np.array([[0, 1], [2, 1]], np.uint8)
    picture = Image.fromarray(values).convert("P")
    picture.putdata(values.ravel().tolist())
    picture.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0] + [0] * 759)
    picture.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), values)


def test_grey_saved_as_colours_is_grey(tmp_path):
    values = np.array([[0, 255], [255, 0]], np.uint8)
    write(tmp_path / "mask.png", np.stack([values] * 3, axis=-1))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), values)


def test_colours_are_refused(tmp_path):
    write(tmp_path / "mask.png", np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    with pytest.raises(ValueError, match="one number a pixel"):
        read_mask(tmp_path / "mask.png")


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ValueError, match=r"mask\.png is not an image"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("ink", [(255, 255, 255), (0, 0, 0), (220, 20, 60)])
@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0)])
def test_ink_on_nothing_is_the_object_whatever_its_colour(tmp_path, suffix, ink, ground):
    values = np.zeros((*DISC.shape, 4), np.uint8)
    values[..., :3] = ground  # what is under no alpha does not show
    values[DISC] = (*ink, 255)
    path = tmp_path / f"mask{suffix}"
    if suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unassalpha"])
    numbers = read_mask(path)
    assert infer_kind([(numbers, False)]) == "binary"
    np.testing.assert_array_equal(foreground(numbers), DISC)


def test_grey_and_alpha_is_one_object_too(tmp_path):
    values = np.dstack([np.full(DISC.shape, 255, np.uint8), DISC.astype(np.uint8) * 255])
    Image.fromarray(values).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(foreground(read_mask(tmp_path / "mask.png")), DISC)


def test_soft_ink_on_nothing_is_its_upper_half(tmp_path):
    alpha = np.rint(255 * ndimage.gaussian_filter(DISC.astype(float), 0.7)).astype(np.uint8)
    values = np.dstack([np.full((*DISC.shape, 3), 255, np.uint8), alpha])
    Image.fromarray(values).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(foreground(read_mask(tmp_path / "mask.png")), alpha > 127)


def test_labels_under_an_opaque_alpha_are_labels(tmp_path):
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(np.dstack([labels, np.full_like(labels, 255)])).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), labels)


def test_transparent_palette_entries_are_background(tmp_path):
    values = np.array([[3, 1], [2, 3]], np.uint8)
    picture = Image.fromarray(values).convert("P")
    picture.putdata(values.ravel().tolist())
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 9, 9, 9] + [0] * 756)
    picture.save(tmp_path / "mask.png", transparency=3)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), [[0, 1], [2, 0]])


def test_windows_are_parts_of_the_whole(tmp_path):
    values = np.arange(4800, dtype=np.uint16).reshape(60, 80)
    write(tmp_path / "mask.tif", values)
    with open_mask(tmp_path / "mask.tif") as mask:
        assert mask.shape == (60, 80)
        part = mask.read((slice(10, 20), slice(5, 60)))
    np.testing.assert_array_equal(part, values[10:20, 5:60])


# -- kinds ------------------------------------------------------------------------------------


def soft_edge():
    ramp = np.clip(np.linspace(-400, 800, 60), 0, 255).astype(np.uint8)
    return np.tile(ramp, (20, 1))


@pytest.mark.parametrize(
    ("masks", "kind"),
    [
        ([[0, 255, 255]], "binary"),
        ([[0, 1, 1], [0, 255, 0]], "binary"),
        ([[0, 7, 0]], "binary"),
        ([[0, 1, 2], [3, 0, 0]], "classes"),
        ([[0, 1, 2, 40]], "instances"),
        ([list(range(12))], "instances"),
        ([[0, 1, 2], list(range(30))], "instances"),
        ([[0, 0, 0]], "binary"),
    ],
)
def test_kind_of_masks_is_told_from_all_of_a_source(masks, kind):
    assert infer_kind((np.array([mask], np.uint8), False) for mask in masks) == kind


def test_soft_edges_are_no_instances():
    assert infer_kind([(soft_edge(), False)]) == "binary"
    assert infer_kind([(soft_edge().astype(np.uint16) * 257, False)]) == "binary"


@pytest.mark.parametrize("numbers", [[0, 3, 251, 255], [0, 2, 180, 200]])
def test_what_jpeg_blurred_is_no_instances(numbers):
    mask = np.array([numbers], np.uint8)
    assert infer_kind([(mask, True)]) == "binary"
    assert foreground(mask, is_lossy=True).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (np.eye(4, dtype=bool), "binary"),
        (np.eye(4, dtype=np.uint8) * 7, "binary"),
        (np.arange(16, dtype=np.uint16).reshape(4, 4) * 1000, "instances"),
        (np.arange(16, dtype=np.float32).reshape(4, 4) * 1000, "instances"),
        (np.arange(16, dtype=np.uint8).reshape(4, 4) % 3, "classes"),
        (np.arange(16, dtype=np.float32).reshape(4, 4) / 15, "binary"),
    ],
)
def test_the_numbers_tell_what_a_mask_is(mask, kind):
    assert infer_kind([(mask, False)]) == kind
    labels = to_labels(mask, kind)
    assert labels.max() <= 16
    if kind != "binary":
        assert len(np.unique(labels)) == len(np.unique(mask))


def test_a_binary_mask_with_soft_edges_is_its_upper_half():
    soft = np.rint(255 * ndimage.gaussian_filter(DISC.astype(float), 0.7)).astype(np.uint8)
    np.testing.assert_array_equal(to_labels(soft, "binary"), soft > 127)


def test_several_numbers_called_binary_are_all_object():
    mask = np.array([[0, 1, 2, 40]], np.uint8)
    assert to_labels(mask, "binary").tolist() == [[0, 1, 1, 1]]


def test_not_a_number_is_background():
    mask = np.array([[np.nan, 0, 1, 2]], np.float32)
    assert to_labels(mask, "instances").tolist() == [[0, 0, 1, 2]]
    assert infer_kind([(mask, False)]) == "classes"
