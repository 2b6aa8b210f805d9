"""Which files belong together: one pairing for training and evaluation."""

from __future__ import annotations

import unicodedata

import pytest

from napari_pisam.images.folders import (
    NameMismatchError,
    files_by_name,
    match_files,
    match_images,
    source_name,
)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_are_matched_by_name_whatever_their_suffix(tmp_path):
    touch(tmp_path / "images/a.jpg", tmp_path / "images/sub/b.ome.tif")
    touch(tmp_path / "masks/a.png", tmp_path / "masks/sub/b.PNG")
    found = match_images(tmp_path / "images", tmp_path / "masks")
    assert [(name, image.name, mask.name) for name, image, mask in found] == [
        ("a", "a.jpg", "a.png"),
        ("sub/b", "b.ome.tif", "b.PNG"),
    ]


def test_every_name_that_does_not_match_is_listed(tmp_path):
    touch(*(tmp_path / "images" / f"{name}.png" for name in ("a", "b", "sub/c")))
    touch(*(tmp_path / "masks" / name for name in ("a.png", "a.tif", "d.png")))
    with pytest.raises(NameMismatchError) as caught:
        match_images(tmp_path / "images", tmp_path / "masks")
    message = str(caught.value)
    for part in ("4 name(s)", "b: no mask", "sub/c: no mask", "d: no image", "a: both a.png and"):
        assert part in message


def test_accents_match_however_they_are_encoded(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zelle-é") for form in ("NFC", "NFD"))
    touch(tmp_path / "images" / f"{composed}.png", tmp_path / "masks" / f"{decomposed}.png")
    ((name, image, mask),) = match_images(tmp_path / "images", tmp_path / "masks")
    assert name == composed
    assert (image.stem, mask.stem) == (composed, decomposed)


def test_one_name_in_two_encodings_is_a_double(tmp_path):
    for form in ("NFC", "NFD"):
        touch(tmp_path / "masks" / f"{unicodedata.normalize(form, 'é')}.png")
    with pytest.raises(NameMismatchError, match="é: both"):
        match_files(tmp_path / "masks", {})


def test_names_that_are_not_wanted_need_no_match(tmp_path):
    touch(tmp_path / "masks/a.png", tmp_path / "masks/b.png", tmp_path / "saved/a.tif")
    ((name, _, files),) = match_files(
        tmp_path / "masks", {"mask of x": tmp_path / "saved"}, lambda name: name == "a"
    )
    assert (name, files["mask of x"].name) == ("a", "a.tif")


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"There is no folder .*nothing"):
        files_by_name(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no TIFF, PNG or JPEG"):
        files_by_name(tmp_path)


def test_hidden_files_and_other_kinds_are_left_out(tmp_path):
    touch(tmp_path / ".a.png", tmp_path / ".b/c.png", tmp_path / "notes.txt", tmp_path / "d.png")
    assert list(files_by_name(tmp_path)) == ["d"]


@pytest.mark.parametrize(
    ("folder", "name"), [("cells/images", "cells"), ("cells/GT", "cells"), ("cells", "cells")]
)
def test_a_source_is_named_by_what_says_where_it_is_from(tmp_path, folder, name):
    assert source_name(tmp_path / folder) == name
