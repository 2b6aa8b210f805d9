"""Many images: their order and names, their states, and the file that keeps them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_pisam.session.series import STATE_FILE, Series, State


def image(path, value=0, shape=(12, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full(shape, value, np.uint8))


def names(series):
    return [one.name for one in series.images]


@pytest.fixture
def folder(tmp_path):
    for name in ("cell10", "cell9", "b/cell1"):
        image(tmp_path / "images" / f"{name}.tif")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def test_a_folder_is_in_the_order_in_which_people_count(folder):
    assert names(Series(folder)) == ["b/cell1", "cell9", "cell10"]


def test_a_pattern_and_a_list(folder):
    assert names(Series(folder / "cell*.tif")) == ["cell9", "cell10"]
    assert names(Series(f"{folder}/**/*.tif")) == ["b/cell1", "cell9", "cell10"]
    listed = [folder / "cell10.tif", folder / "b" / "cell1.tif"]
    assert names(Series(listed)) == ["cell10", "cell1"]


def test_labels_in_the_images_folder_are_no_images(folder):
    series = Series(folder)
    series.write(1, np.ones((12, 16), np.uint16))
    again = Series(folder)
    assert series.labels == folder / "labels"
    assert names(again) == names(series)


def test_positions_of_a_file_are_images(tmp_path):
    with tifffile.TiffWriter(tmp_path / "wells.ome.tif", ome=True) as file:
        for value in range(3):
            file.write(np.full((12, 16), value, np.uint8), metadata={"axes": "YX"})
    series = Series(tmp_path)
    assert names(series) == ["wells-p1", "wells-p2", "wells-p3"]
    for place in range(3):
        with series.open(place) as opened:
            assert np.asarray(opened.data)[0, 0] == place


def test_two_images_of_one_name_are_refused(folder):
    image(folder / "cell9.png.tif")
    (folder / "cell9.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cell9\.png and .*cell9\.tif have one name"):
        Series(folder)


@pytest.mark.parametrize("source", ["nowhere/*.tif", "images/notes.txt", "empty"])
def test_no_image_is_said(folder, source):
    (folder.parent / "empty").mkdir()
    series = folder.parent / source
    if source.endswith("txt"):
        # What is named is an image to be opened, and says then what it is.
        with pytest.raises(ValueError, match="is not an image"), Series(series).open(0):
            pass
    else:
        with pytest.raises(ValueError, match="There is no image in"):
            Series(series)


def test_states_and_place_come_back(folder):
    series = Series(folder)
    assert series.summary == "1 of 3, 0 done"
    series.at = 2
    series.mark(0, State.DONE)
    series.mark(1, State.SKIPPED)
    series.save()
    again = Series(folder)
    assert again.at == 2
    assert again.summary == "3 of 3, 1 done, 1 skipped"
    assert [again.state(place) for place in range(3)] == ["done", "skipped", "untouched"]
    assert again.places(State.UNTOUCHED, State.BEGUN) == [2]


def test_states_of_images_that_are_away_are_kept(folder, tmp_path):
    series = Series(folder)
    series.mark(0, State.DONE)
    series.save()
    (folder / "b" / "cell1.tif").rename(tmp_path / "away.tif")
    fewer = Series(folder)
    fewer.save()
    (tmp_path / "away.tif").rename(folder / "b" / "cell1.tif")
    assert Series(folder).state(0) is State.DONE


def test_labels_that_are_there_already_are_begun(folder, tmp_path):
    image(tmp_path / "mine" / "cell9.tif")
    series = Series(folder, tmp_path / "mine")
    assert [series.state(place) for place in range(3)] == ["untouched", "begun", "untouched"]


def test_what_is_written_is_read_back(folder):
    series, labels = Series(folder), np.zeros((12, 16), bool)
    labels[2:5, 3:9] = True
    path = series.write(0, labels)
    assert path == folder / "labels" / "b" / "cell1.tif"
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    assert Series(folder).state(0) is State.DONE


GOOD = {"format": "napari-pisam series", "version": 1, "at": "cell9", "states": {"cell9": "done"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b"[]", "expected an object with fields"),
        (json.dumps(GOOD | {"version": 2}), "of version 1"),
        (json.dumps(GOOD | {"states": ["done"]}), "expected a state for each name"),
        (json.dumps(GOOD | {"states": {"cell9": "nearly"}}), 'states.cell9 is "nearly"'),
        (json.dumps(GOOD | {"at": 3}), "at is 3, expected a text"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "at"}), "at is missing"),
    ],
)
def test_a_damaged_state_is_a_sentence_and_stays(folder, content, message):
    path = folder / "labels" / STATE_FILE
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"does not say how far the images are") as error:
        Series(folder)
    assert message in str(error.value)
    assert "Rename it to begin anew" in str(error.value)
    assert path.read_bytes() == before


def test_a_state_that_cannot_be_written_leaves_the_one_before(folder, monkeypatch):
    series = Series(folder)
    series.mark(0, State.DONE)
    series.save()
    series.mark(0, State.SKIPPED)
    monkeypatch.setattr("json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        series.save()
    monkeypatch.undo()
    assert Series(folder).state(0) is State.DONE
