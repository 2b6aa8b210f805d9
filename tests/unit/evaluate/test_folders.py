"""Which files are evaluated, and what their masks are."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pisam.evaluate.folders import (
    match_folders,
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
    with pytest.raises(ValueError, match=r"a: both a\.png and a\.tif"):
        match_folders(folders / "masks")


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
