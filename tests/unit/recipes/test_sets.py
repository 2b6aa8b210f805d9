from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pisam.images.folders import NameMismatchError
from recipes.tiny.sets import load_images
from training_sets import write_set, write_sets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sets(tmp_path)


def test_a_name_mismatch_lists_every_name(tmp_path: Path) -> None:
    write_set(tmp_path, "discs", ["a", "b", "c", "d"])
    (tmp_path / "sets/discs/masks/a.png").unlink()
    (tmp_path / "sets/discs/masks/b.png").unlink()
    (tmp_path / "sets/discs/images/c.png").unlink()
    with pytest.raises(NameMismatchError, match=r"3 name\(s\) do not match") as caught:
        load_images(tmp_path)
    for line in ("a: no mask", "b: no mask", "c: no image"):
        assert line in str(caught.value)


def test_a_stem_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, "discs", ["a"])
    folder = tmp_path / "sets/discs/images"
    (folder / "a.jpg").write_bytes((folder / "a.png").read_bytes())
    with pytest.raises(NameMismatchError, match="a: both"):
        load_images(tmp_path)


def test_unreadable_files_are_skipped_named_and_counted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "sets/discs/images/a3.png").write_bytes(b"not a picture")
    (root / "sets/cells/masks/b1.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        images = load_images(root, part="all")
    assert len(images) == 15
    assert "2 unreadable files" in caplog.text
    assert "a3.png" in caplog.text
    assert "b1" in caplog.text


def test_an_unknown_set_names_the_sets_there_are(root: Path) -> None:
    with pytest.raises(ValueError, match=r"no sets \['stones'\].*discs"):
        load_images(root, names=["stones"])


def test_sixteen_bit_tiff_is_stretched_to_eight_bits(tmp_path: Path) -> None:
    write_set(tmp_path, "discs", ["a"])
    folder = tmp_path / "sets/discs/images"
    pixels = np.asarray(Image.open(folder / "a.png")).astype(np.uint16) * 9 + 1000
    (folder / "a.png").unlink()
    tifffile.imwrite(folder / "a.tif", pixels)
    (image,) = load_images(tmp_path, part="all")
    assert image.pixels.dtype == np.uint8
    assert image.pixels.min() == 0
    assert image.pixels.max() == 255


def test_kinds_are_inferred_from_masks_without_a_table(root: Path) -> None:
    kinds = {image.source: image.kind for image in load_images(root, part="all")}
    assert kinds["discs"] == "binary"


def test_a_given_kind_wins(root: Path) -> None:
    images = load_images(root, part="all", names=["cells"], kinds={"cells": "classes"})
    assert {image.kind for image in images} == {"classes"}
