"""Which files belong together, and what the numbers in masks mean."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pisam.evaluate.folders import (
    infer_kind,
    list_files,
    match_folders,
    read_mask,
    spread,
    with_kinds,
)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, values)
    else:
        Image.fromarray(values).save(path)


GREY = np.zeros((6, 8), np.uint8)


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "set" / "images" / f"{name}.jpg", GREY)
        write(tmp_path / "set" / "masks" / f"{name}.png", GREY)
    return tmp_path / "set"


def test_files_are_matched_by_name_whatever_their_suffix(folders):
    samples = match_folders(folders / "masks", folders / "images")
    assert [(s.source, s.name, s.image.name, s.mask.name) for s in samples] == [
        ("set", "a", "a.jpg", "a.png"),
        ("set", "b", "b.jpg", "b.png"),
    ]


def test_every_name_that_does_not_match_is_listed(folders):
    write(folders / "images" / "extra.png", GREY)
    write(folders / "masks" / "lonely.png", GREY)
    with pytest.raises(ValueError, match=r"2 name\(s\) do not match") as caught:
        match_folders(folders / "masks", folders / "images")
    assert "lonely: no image" in str(caught.value)
    assert "extra: no mask" in str(caught.value)


def test_saved_masks_are_matched_too(folders):
    write(folders / "other" / "a.tif", GREY)
    with pytest.raises(ValueError, match="b: no mask of BiRefNet"):
        match_folders(folders / "masks", predictions={"BiRefNet": folders / "other"})


def test_names_to_use_leave_the_others_out(folders):
    write(folders / "other" / "a.tif", GREY)
    samples = match_folders(folders / "masks", predictions={"x": folders / "other"}, only=["set/a"])
    assert [sample.name for sample in samples] == ["a"]
    assert samples[0].predictions["x"].name == "a.tif"


def test_folders_inside_are_sources(tmp_path):
    for name in ("TE1/a", "TE1/b", "TE2/a"):
        write(tmp_path / "gt" / f"{name}.png", GREY)
    samples = match_folders(tmp_path / "gt")
    assert [(s.source, s.name) for s in samples] == [
        ("TE1", "TE1/a"),
        ("TE1", "TE1/b"),
        ("TE2", "TE2/a"),
    ]


def test_two_files_of_one_name_are_refused(folders):
    write(folders / "masks" / "a.tif", GREY)
    with pytest.raises(ValueError, match=r"two files of one name: a\.png and a\.tif"):
        list_files(folders / "masks")


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no folder"):
        list_files(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no TIFF, PNG or JPEG"):
        list_files(tmp_path)


def test_ome_tiff_is_matched_without_its_double_suffix(tmp_path):
    write(tmp_path / "cell.ome.tif", GREY)
    assert list(list_files(tmp_path)) == ["cell"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_are_read_as_saved(tmp_path, suffix, dtype):
    values = np.arange(48).reshape(6, 8).astype(dtype) * 5
    write(tmp_path / f"mask{suffix}", values)
    np.testing.assert_array_equal(read_mask(tmp_path / f"mask{suffix}"), values)


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
    with pytest.raises(ValueError, match=r"mask\.png cannot be read"):
        read_mask(tmp_path / "mask.png")


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


def test_what_jpeg_blurred_is_no_instances():
    assert infer_kind([(np.array([[0, 3, 251, 255]], np.uint8), True)]) == "binary"


def test_a_kind_that_is_given_is_taken(folders):
    samples = with_kinds(match_folders(folders / "masks"), "classes")
    assert {sample.kind for sample in samples} == {"classes"}


def test_each_source_has_its_kind(tmp_path):
    write(tmp_path / "cells" / "a.png", np.arange(48, dtype=np.uint16).reshape(6, 8))
    write(tmp_path / "roads" / "a.png", np.full((6, 8), 255, np.uint8))
    samples = with_kinds(match_folders(tmp_path))
    assert {sample.source: sample.kind for sample in samples} == {
        "cells": "instances",
        "roads": "binary",
    }


def test_a_limit_takes_names_evenly_from_each_source(tmp_path):
    for number in range(9):
        write(tmp_path / "long" / f"{number}.png", GREY)
    write(tmp_path / "short" / "0.png", GREY)
    chosen = spread(match_folders(tmp_path), 3)
    assert [sample.name for sample in chosen] == ["long/0", "long/4", "long/8", "short/0"]
