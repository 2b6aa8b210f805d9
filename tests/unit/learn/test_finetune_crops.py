"""What of the images is written into a run's folder, and read back."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest

from finetune_runs import clicks, discs, make_run, settings
from lazy_arrays import Lazy
from napari_pisam.learn.finetune import crops, run
from napari_pisam.learn.finetune.crops import (
    plan_crops,
    read_objects,
    training_items,
    used_rows,
    write_crops,
)
from napari_pisam.learn.finetune.layout import OBJECTS, read_json
from napari_pisam.learn.finetune.run import FineTuneRun
from napari_pisam.learn.finetune.sources import ObjectRow, SourceImage, list_objects, split


class Corners:
    """Labels of any size: a square of 40 px in each corner; never read as a whole."""

    def __init__(self, shape):
        self.shape, self.dtype, self.ndim = shape, np.dtype(np.uint32), 2
        self.largest_read = 0

    def __getitem__(self, key):
        rows, cols = (np.arange(n)[part] for part, n in zip(key, self.shape, strict=True))
        self.largest_read = max(self.largest_read, rows.size * cols.size)
        labels = np.zeros((rows.size, cols.size), np.uint32)
        for number, (top, left) in enumerate(((0, 0), (1, 1))):
            near = [
                (part >= (n - 40 if far else 0)) & (part < (n if far else 40))
                for part, n, far in zip((rows, cols), self.shape, (top, left), strict=True)
            ]
            labels[np.outer(*near)] = 70_000 + number
        return labels


def test_a_small_image_is_kept_whole_as_it_is_shown(tmp_path):
    image = discs(contrast_limits=(1000, 1255))
    made = make_run(tmp_path / "run", [image])
    item = read_objects(made.folder)[0].item
    shown = np.clip(image.image[:, : item.pixels.shape[1]].astype(int) - 1000, 0, 255)
    assert np.abs(item.pixels - shown).max() <= 1


def test_objects_come_back_with_their_masks_boxes_and_parts(tmp_path):
    image = discs(clicks={20: clicks((30, 75, True))})
    rows = split(list_objects([image]))
    made = FineTuneRun.create(tmp_path / "run", settings(), [image], rows)
    found = {o.label: o for o in read_objects(made.folder)}
    assert {label: o.part for label, o in found.items()} == {r.label: r.part for r in rows}
    assert found[20].clicks == 1
    whole = slice(None)
    for row in rows:
        item = found[row.label].item
        mask = item.mask(int(item.ids[0]), whole, whole)
        r0, c0, r1, c1 = item.boxes[0]
        assert mask.sum() == row.area
        assert mask[r0:r1, c0:c1].sum() == row.area
        assert (r1 - r0, c1 - c0) == (row.box[2] - row.box[0], row.box[3] - row.box[1])


def test_no_pixel_is_seen_by_both_parts_of_one_image(tmp_path):
    made = make_run(tmp_path / "run")
    objects = read_objects(made.folder)
    held = next(o for o in objects if o.part == "validation")
    start = held.item.boxes[0][1]
    training = [o for o in objects if o.part == "training"]
    assert training
    assert all(o.item.pixels.shape[1] <= start for o in training)


def test_a_large_image_is_read_around_its_objects_only(tmp_path):
    labels = Corners((30_000, 40_000))
    image = SourceImage("large", Lazy(labels.shape), labels, contrast_limits=(0, 255))
    rows = [
        ObjectRow("large", 70_000, (0, 0, 40, 40), 1600, part="training"),
        ObjectRow("large", 70_001, (29_960, 39_960, 30_000, 40_000), 1600, part="validation"),
    ]
    made = FineTuneRun.create(tmp_path / "run", settings(), [image], rows)
    assert max(labels.largest_read, image.image.largest_read) <= 768**2
    assert [o.item.areas[0] for o in read_objects(made.folder)] == [1600, 1600]


def test_neighbours_in_a_large_image_share_a_window():
    image = SourceImage("large", Lazy((9000, 9000)), Lazy((9000, 9000)))
    boxes = [(4000, 4000 + 60 * i, 4040, 4040 + 60 * i) for i in range(4)]
    rows = [ObjectRow("large", i, box, 900) for i, box in enumerate(boxes)]
    (crop,) = plan_crops([image], rows)
    assert len(crop.rows) == 4


def test_a_huge_object_is_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "LONGEST", 204)
    monkeypatch.setattr(crops, "WHOLE", 204 * 204)
    monkeypatch.setattr(crops, "_LEAST", 100)
    labels = np.zeros((500, 500), np.uint8)
    labels[50:450, 50:450] = 9
    image = SourceImage("huge", labels, labels, contrast_limits=(0, 9))
    rows = list_objects([image])
    write_crops(tmp_path, plan_crops([image], rows))
    item = read_objects(tmp_path)[0].item
    assert item.labels.shape == item.pixels.shape == (167, 167)
    agree = (item.pixels > 127) == (item.labels > 0)
    assert agree.mean() > 0.999


def test_more_objects_than_allowed_are_drawn_from_each_part():
    rows = [replace(r, part="validation" if i % 2 else "training") for i, r in enumerate(many(50))]
    used = used_rows(settings(training_objects=7, validation_objects=3), rows)
    parts = [row.part for row in used]
    assert (parts.count("training"), parts.count("validation")) == (7, 3)
    assert used == [row for row in rows if row in used]


def many(count):
    return [ObjectRow("a", i + 1, (0, 20 * i, 10, 20 * i + 10), 100) for i in range(count)]


def test_corrected_objects_are_drawn_twice_as_often(tmp_path):
    made = make_run(tmp_path / "run", [discs(clicks={10: clicks((30, 25, True))})])
    names = [item.name for item in training_items(read_objects(made.folder))]
    assert names.count("discs:10") == 2
    assert names.count("discs:20") == 1


def test_labels_that_changed_since_they_were_listed_are_refused(tmp_path):
    image = discs()
    rows = split(list_objects([image]))
    image.labels[image.labels == 20] = 0
    with pytest.raises(ValueError, match="Object 20 of 'discs' is not in its labels any more"):
        FineTuneRun.create(tmp_path / "run", settings(), [image], rows)
    assert not (tmp_path / "run").exists()


def test_an_image_that_is_gone_is_refused(tmp_path):
    rows = split(list_objects([discs()]))
    with pytest.raises(ValueError, match="no image 'discs' any more"):
        FineTuneRun.create(tmp_path / "run", settings(), [discs("other")], rows)


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match="in use already"):
        make_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(crops, "_write_labels", full)
    with pytest.raises(ValueError, match="full; nothing was kept"):
        make_run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_listed_only_when_all_of_it_is_there(tmp_path, monkeypatch):
    whole = run.write_json
    order = []
    monkeypatch.setattr(run, "write_json", lambda path, c: (order.append(path), whole(path, c)))
    made = make_run(tmp_path / "run")
    assert [path.name for path in order] == ["run.json"]
    assert read_json(made.folder / OBJECTS) is not None
    assert FineTuneRun.open(made.folder).settings == made.settings
