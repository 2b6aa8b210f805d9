"""Which objects there are to learn from, and which of them validate."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from finetune_runs import clicks, discs
from lazy_arrays import Lazy
from napari_pisam.learn.finetune import sources
from napari_pisam.learn.finetune.parts import dividing_cut
from napari_pisam.learn.finetune.sources import (
    ObjectRow,
    SourceImage,
    check_split,
    from_folders,
    list_objects,
    split,
)


def many(count, image="a", side=10):
    return [
        ObjectRow(image, i + 1, (0, 20 * i, side, 20 * i + side), side * side) for i in range(count)
    ]


def test_objects_are_listed_with_box_area_and_clicks():
    labels = np.zeros((50, 60), np.int32)
    labels[5:15, 10:30] = 7
    labels[20:40, 3:9] = 3
    image = SourceImage("a", labels, labels, {7: clicks((6, 11, True), (1, 1, False))}, "session")
    assert list_objects([image]) == [
        ObjectRow("a", 3, (20, 3, 40, 9), 120, 0, "session"),
        ObjectRow("a", 7, (5, 10, 15, 30), 200, 2, "session"),
    ]


def test_an_object_across_blocks_is_one(monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 16)
    labels = np.zeros((40, 50), np.uint8)
    labels[10:35, 12:44] = 5
    (row,) = list_objects([SourceImage("a", labels, labels)])
    assert (row.box, row.area) == ((10, 12, 35, 44), 25 * 32)


def test_numbers_of_any_size_are_labels():
    labels = np.zeros((20, 40), np.int64)
    labels[2:12, 2:12], labels[2:12, 20:30], labels[15:, :] = 2**40, 2**33, -1
    rows = list_objects([SourceImage("a", labels, labels)])
    assert [(row.label, row.area) for row in rows] == [(2**33, 100), (2**40, 100)]


def test_a_bool_mask_is_one_object():
    labels = np.zeros((20, 40), bool)
    labels[2:12, 2:12] = True
    assert [row.label for row in list_objects([SourceImage("a", labels, labels)])] == [1]


def test_no_pixel_of_the_image_is_read():
    image = Lazy((60, 200))
    list_objects([replace(discs(), image=image)])
    assert image.largest_read == 0


def test_labels_are_read_by_block():
    labels = Lazy((5000, 3000))
    list_objects([SourceImage("a", labels, labels)])
    assert labels.largest_read <= 2048**2


def test_seventy_thousand_objects_are_listed_and_split():
    labels = np.arange(265 * 265, dtype=np.uint32).reshape(265, 265) + 1
    labels = labels.repeat(6, axis=0).repeat(6, axis=1)
    rows = split(list_objects([SourceImage("a", labels, labels)]), 0.25)
    assert len(rows) == 265 * 265
    held = sum(row.part == "validation" for row in rows)
    assert abs(held / len(rows) - 0.25) < 0.01


def test_an_object_too_small_to_learn_from_is_unused_and_says_why():
    labels = np.zeros((20, 40), np.uint8)
    labels[2:12, 2:12], labels[2:5, 20:24] = 1, 2
    rows = list_objects([SourceImage("a", labels, labels)])
    assert [row.part for row in rows] == ["training", "unused"]
    assert "12 px" in rows[1].note


def test_only_the_chosen_labels_count():
    rows = list_objects([discs(only=frozenset({20, 40, 999}))])
    assert [row.label for row in rows] == [20, 40]


def test_labels_of_another_shape_are_refused_with_both_shapes():
    image = SourceImage("cells", np.zeros((40, 50)), np.zeros((40, 51), int))
    with pytest.raises(ValueError, match=r"'cells' have shape \(40, 51\), its image \(40, 50\)"):
        list_objects([image])


def test_labels_without_objects_are_refused():
    image = SourceImage("cells", np.zeros((40, 50)), np.zeros((40, 50), int))
    with pytest.raises(ValueError, match="'cells' hold no object"):
        list_objects([discs(), image])


def test_labels_that_are_not_integers_are_refused():
    image = SourceImage("cells", np.zeros((40, 50)), np.zeros((40, 50)))
    with pytest.raises(ValueError, match="float64, expected integers"):
        list_objects([image])


def test_a_stack_is_refused():
    image = SourceImage("cells", np.zeros((9, 40, 50)), np.zeros((9, 40, 50), int))
    with pytest.raises(ValueError, match="choose one plane"):
        list_objects([image])


def test_double_names_are_refused():
    with pytest.raises(ValueError, match="2 images have the name 'discs'"):
        list_objects([discs(), discs()])


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ValueError, match="nothing to learn from"):
        list_objects([])


def test_several_images_are_split_by_image():
    rows = split([*many(6, "a"), *many(5, "b"), *many(4, "c")], 0.25)
    parts = {(row.image, row.part) for row in rows}
    assert len(parts) == 3
    assert Counter(row.part for row in rows)["validation"] == 4


def test_another_seed_chooses_other_images():
    rows = [row for name in "abcdefgh" for row in many(3, name)]
    chosen = {
        tuple(sorted({r.image for r in split(rows, 0.25, seed) if r.part == "validation"}))
        for seed in range(5)
    }
    assert len(chosen) > 1


@pytest.mark.parametrize("counts", [(1, 1), (40, 1), (1, 40)])
def test_neither_part_is_ever_empty(counts):
    rows = split([*many(counts[0], "a"), *many(counts[1], "b")], 0.25)
    assert {row.part for row in rows} == {"training", "validation"}
    assert check_split(rows) == []


def test_one_image_is_cut_straight():
    rows = split(many(12), 0.25)
    parts = {p: [r.box for r in rows if r.part == p] for p in ("training", "validation")}
    assert len(parts["validation"]) == 3
    cut = dividing_cut(parts["training"], parts["validation"])
    assert cut is not None
    assert cut[0] == 1


def test_the_cut_goes_where_objects_do_not_overlap():
    boxes = [(0, 0, 100, 30), (0, 10, 100, 40), (0, 20, 100, 50), (120, 0, 150, 50)]
    rows = split([ObjectRow("a", i, box, 500) for i, box in enumerate(boxes)], 0.4)
    assert [row.part for row in rows] == ["training"] * 3 + ["validation"]


def test_unused_objects_stay_unused():
    rows = many(5)
    rows[2] = replace(rows[2], part="unused")
    assert split(rows)[2].part == "unused"


def test_one_object_is_refused_and_it_is_said_why():
    with pytest.raises(ValueError, match=r"only one object \('a', 1\).*whether that helped"):
        split(many(1))


def test_a_part_that_the_user_emptied_is_named():
    assert "validate" in check_split(many(3))[0]
    held = [replace(row, part="validation") for row in many(3)]
    assert "train on" in check_split(held)[0]


def test_parts_that_are_mixed_have_no_cut():
    boxes = [(0, 0, 9, 9), (0, 20, 9, 29), (0, 40, 9, 49)]
    assert dividing_cut([boxes[0], boxes[2]], [boxes[1]]) is None


def test_folders_give_images_with_their_objects(tmp_path):
    for number in range(2):
        image = discs(seed=number)
        for folder, array in (("images", image.image >> 4), ("masks", image.labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels = array.astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    images, skipped = from_folders(tmp_path / "images", tmp_path / "masks", kind="instances")
    assert [(image.name, image.origin) for image in images] == [("0", "folder"), ("1", "folder")]
    assert skipped == []
    assert len(list_objects(images)) == 8
