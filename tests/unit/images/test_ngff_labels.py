"""Labels as OME-Zarr: what others read, and what is on the disk."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from napari_pisam.images.image_files import open_image
from napari_pisam.images.label_formats import LabelImage, format_for, read_labels
from napari_pisam.images.ngff_labels import (
    check_label_place,
    finish_labels,
    new_labels,
    open_labels,
    write_label_zarr,
    written_parts,
)
from napari_pisam.session.numbers import numbers_in


def chunk_files(path):
    return [one for one in (path / "0").rglob("*") if one.is_file() and one.name != "zarr.json"]


def image_zarr(path, version="0.5"):
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=np.zeros((40, 60), np.uint8), chunks=(40, 60))
    axes = [{"name": name, "type": "space"} for name in "yx"]
    transform = [{"type": "scale", "scale": [1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": transform}]
    image = {"version": version, "axes": axes, "datasets": datasets}
    attributes = {"multiscales": [image]}
    group.attrs.update(
        {"ome": {"version": version} | attributes} if version == "0.5" else attributes
    )
    return path


def mask(row, col, height, width):
    return SimpleNamespace(
        crop=np.ones((height, width), bool), bbox=(row, col, row + height, col + width)
    )


def metadata(path):
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]


def test_the_metadata_are_those_of_the_specification(tmp_path):
    path = tmp_path / "cells.ome.zarr"
    planes = {(0,): {1: mask(5, 5, 30, 40)}, (2,): {70_000: mask(1500, 1200, 300, 300)}}
    write_label_zarr(
        path, planes, (3, 2000, 1600), axes="ZYX", scale=(2, 0.5, 0.25), units=("um",) * 3
    )
    ome = metadata(path)
    assert ome["version"] == "0.5"
    [image] = ome["multiscales"]
    assert image["axes"] == [
        {"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"
    ]
    assert [one["coordinateTransformations"] for one in image["datasets"]] == [
        [{"type": "scale", "scale": [2.0, 0.5 * n, 0.25 * n]}] for n in (1, 2)
    ]
    assert [one["label-value"] for one in ome["image-label"]["colors"]] == [1, 70_000]
    assert all(len(one["rgba"]) == 4 for one in ome["image-label"]["colors"])
    levels = [zarr.open_array(path / one["path"], mode="r") for one in image["datasets"]]
    assert [one.shape for one in levels] == [(3, 2000, 1600), (3, 1000, 800)]
    assert levels[0].dtype == np.uint32
    assert (levels[0][0, 5:35, 5:45] == 1).all()
    np.testing.assert_array_equal(levels[1][2], levels[0][2, ::2, ::2])
    assert (levels[1][2] == 70_000).sum() == 150**2


def test_labels_of_an_image_are_in_its_labels_group_and_named_there(tmp_path):
    image = image_zarr(tmp_path / "image.zarr")
    for name in ("cells", "nuclei", "cells"):
        target = image / "labels" / name
        assert format_for(target).name == "ome-zarr"
        write_label_zarr(target, {(): {3: mask(1, 2, 5, 6)}}, (40, 60))
    assert metadata(image / "labels")["labels"] == ["nuclei", "cells"]
    assert metadata(image / "labels" / "cells")["image-label"]["source"] == {"image": "../../"}
    assert sorted(one.name for one in (image / "labels").iterdir()) == [
        "cells",
        "nuclei",
        "zarr.json",
    ]
    with open_image(image / "labels" / "cells") as opened:
        assert opened.data[1:6, 2:8].tolist() == [[3] * 6] * 5


def test_what_is_written_comes_back(tmp_path):
    labels = np.random.default_rng(0).integers(0, 9, (70, 90)).astype(np.uint16)
    image = LabelImage(labels, {1: "nucleus", 2: "wall"}, "", (0.5, 0.25), "um")
    for path in (tmp_path / "a.ome.zarr", tmp_path / "b.zarr"):
        format_for(path).write(path, image)
        found = read_labels(path)
        np.testing.assert_array_equal(found.labels, labels)
        assert dict(found.classes) == {1: "nucleus", 2: "wall"}
        assert (found.pixel_size, found.unit) == ((0.5, 0.25), "um")


def test_a_commit_into_a_huge_array_writes_the_chunks_that_it_touches(tmp_path):
    path = tmp_path / "huge.zarr"
    labels = new_labels(path, (50_000, 50_000), np.uint32)
    assert not chunk_files(path)
    began = time.process_time()
    block = labels[20_000:21_500, 30_000:31_500]
    block[100:-100, 100:-100] = 7
    labels[20_000:21_500, 30_000:31_500] = block
    seconds = time.process_time() - began
    # Rows 20,100 to 21,399 and cols 30,100 to 31,399 of chunks of 512 px: 3 x 4 of them.
    assert len(chunk_files(path)) == (21_399 // 512 - 20_100 // 512 + 1) * (
        31_399 // 512 - 30_100 // 512 + 1
    )
    assert seconds < 0.3
    again = open_labels(path)
    assert again[21_000, 31_000] == 7
    # Nothing but those is looked through for numbers, and for the pyramid.
    began = time.process_time()
    assert numbers_in(again) == {7}
    assert time.process_time() - began < 0.3
    finish_labels(path)
    shapes = [
        zarr.open_array(path / one["path"], mode="r").shape
        for one in metadata(path)["multiscales"][0]["datasets"]
    ]
    assert shapes[0] == (50_000, 50_000)
    assert max(shapes[-1]) <= 1024
    last = zarr.open_array(
        path / metadata(path)["multiscales"][0]["datasets"][-1]["path"], mode="r"
    )
    assert set(np.unique(last[:])) == {0, 7}


def test_labels_that_were_finished_are_edited_and_finished_again(tmp_path):
    path = tmp_path / "a.zarr"
    new_labels(path, (1500, 1500))[:100, :100] = 1
    finish_labels(path)
    again = open_labels(path)
    again[:100, :100] = 0
    again[1400:, 1400:] = 2
    finish_labels(path)
    ome = metadata(path)
    assert [one["label-value"] for one in ome["image-label"]["colors"]] == [2]
    half = zarr.open_array(path / ome["multiscales"][0]["datasets"][1]["path"], mode="r")
    np.testing.assert_array_equal(half[:], again[::2, ::2])


def test_parts_are_known_of_such_arrays_only(tmp_path):
    assert written_parts(np.zeros((3, 3), np.uint8)) is None
    other = zarr.create_array(tmp_path / "a", shape=(9, 9), chunks=(3, 3), dtype="u1", fill_value=4)
    assert written_parts(other) is None
    sharded = zarr.create_array(
        tmp_path / "b", shape=(8, 8), chunks=(2, 2), shards=(4, 4), dtype="u1"
    )
    assert written_parts(sharded) is None


def test_what_is_no_place_for_labels_is_refused_with_a_sentence(tmp_path):
    image = image_zarr(tmp_path / "image.zarr")
    old = image_zarr(tmp_path / "old.zarr", "0.4")
    (tmp_path / "photos.zarr").mkdir()
    for path, words in {
        image: "holds no labels.*image.zarr.labels.cells",
        image / "cells": "where labels have their place",
        old / "labels" / "cells": "version 0.4",
        tmp_path / "photos.zarr": "holds no labels",
        tmp_path / "nowhere" / "a.zarr": "does not exist",
    }.items():
        with pytest.raises(ValueError, match=words):
            check_label_place(path)
    from pathlib import PurePosixPath

    with pytest.raises(ValueError, match="on the network"):
        check_label_place(PurePosixPath("s3:/bucket/a.zarr"))


def test_a_read_only_folder_is_refused_with_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    new_labels(path, (10, 10))
    monkeypatch.setattr(os, "access", lambda place, mode: place != path)
    with pytest.raises(ValueError, match="it is read-only"):
        open_labels(path)
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(ValueError, match="It can be read; write the labels elsewhere"):
        new_labels(tmp_path / "b.zarr", (10, 10))


@pytest.mark.parametrize("made", [{"chunks": (64, 96)}, {"chunks": (64, 96), "shards": (128, 192)}])
def test_labels_that_others_laid_out_get_a_pyramid_too(tmp_path, made):
    path = tmp_path / "a.zarr"
    new_labels(path, (1300, 700))
    values = np.arange(1300 * 700).reshape(1300, 700) // 9000
    group = zarr.open_group(path)
    group.create_array("0", shape=(1300, 700), dtype="u2", overwrite=True, **made)[:] = values
    finish_labels(path)
    datasets = metadata(path)["multiscales"][0]["datasets"]
    half = zarr.open_array(path / datasets[1]["path"], mode="r")
    np.testing.assert_array_equal(half[:], values[::2, ::2])


def test_what_ends_early_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    write_label_zarr(path, {(): {1: mask(0, 0, 5, 5)}}, (40, 60))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_pisam.images.ngff_labels.finish_labels", stop)
    with pytest.raises(KeyboardInterrupt):
        write_label_zarr(path, {(): {2: mask(0, 0, 5, 5)}}, (40, 60))
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]
    assert open_labels(path)[0, 0] == 1


def test_damaged_metadata_are_a_sentence(tmp_path):
    path = tmp_path / "a.zarr"
    new_labels(path, (10, 10))
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"]["ome"]["multiscales"] = [{"axes": 3, "datasets": []}]
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="cannot be read as OME-Zarr"):
        open_labels(path)
