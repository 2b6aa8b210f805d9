"""The list of objects that is measured on: the same every time, and of these masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from recipes.tiny.facts import read_facts
from recipes.tiny.fixed_objects import (
    choose_objects,
    generated_object,
    part_of,
    read_objects,
    write_objects,
)
from recipes.tiny.sets import load_image, load_images
from recipes.tiny.store import index_objects
from training_sets import SHARED, needs_shared, write_sets

if TYPE_CHECKING:
    from pathlib import Path

LISTED = "benchmarks/objects.csv"
COUNTS = {"compact": 4, "class": 2, "network": 2}


def two_bars(source: str = "bars", kind: str = "binary"):
    mask = np.zeros((60, 60), np.uint8)
    mask[5:15, 5:55] = 1
    mask[30:50, 5:55] = 1
    return index_objects(source, "one", kind, np.zeros((60, 60), np.uint8), mask)


def test_objects_are_the_same_every_time_and_others_with_another_seed(tmp_path: Path) -> None:
    images = load_images(write_sets(tmp_path), part="all")
    first = choose_objects(images, COUNTS)
    assert choose_objects(reversed(images), COUNTS) == first
    assert choose_objects(images, COUNTS, seed=1) != first


def test_objects_come_from_as_many_images_as_there_are(tmp_path: Path) -> None:
    images = load_images(write_sets(tmp_path), part="all", names=["cells"])
    chosen = choose_objects(images, {"compact": 6})
    assert [one.rank for one in chosen] == list(range(6))
    assert len({one.image for one in chosen[:5]}) == 5
    assert len({(one.image, one.object) for one in chosen}) == 6


def test_all_pieces_of_a_class_are_no_compact_object() -> None:
    item = two_bars()
    assert [part_of(item, index) for index in range(len(item.ids))] == [
        "compact",
        "compact",
        "class",
    ]


def test_a_network_is_taken_whole() -> None:
    chosen = choose_objects([replace(two_bars(), thin_classes=frozenset({1}))], COUNTS)
    assert [(one.part, one.object, one.area) for one in chosen] == [("network", -1, 1500)]


def test_a_list_survives_its_file(tmp_path: Path) -> None:
    chosen = choose_objects([two_bars()], COUNTS)
    write_objects(tmp_path / "list.csv", chosen)
    assert read_objects(tmp_path / "list.csv") == chosen


@pytest.mark.parametrize(
    "text", ["", "source,image\na,b\n", "source,image,object,part,area,rank\na,b,1,knot,1,0\n"]
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    if text:
        with pytest.raises(ValueError, match="is not a list of objects"):
            read_objects(tmp_path / "list.csv")
    else:
        assert read_objects(tmp_path / "list.csv") == []


def test_an_object_of_other_masks_is_refused() -> None:
    item = two_bars()
    one = choose_objects([item], COUNTS)[0]
    assert int(item.ids[one.index_in(item)]) == one.object
    with pytest.raises(ValueError, match="choose a new one"):
        replace(one, area=one.area + 1).index_in(item)


def test_one_image_is_read_as_all_are(tmp_path: Path) -> None:
    root = write_sets(tmp_path)
    several = {item.name: item for item in load_images(root, part="all", names=["cells"])}
    one = load_image(root, "cells", "b3")
    assert one.kind == several["b3"].kind
    np.testing.assert_array_equal(one.ids, several["b3"].ids)
    np.testing.assert_array_equal(one.pixels, several["b3"].pixels)


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds 0 files b9\.\*"):
        load_image(write_sets(tmp_path), "cells", "b9")


@pytest.mark.parametrize("kind", ["cells", "cracks"])
def test_generated_objects_repeat(kind: str) -> None:
    pixels, truth, part = generated_object(kind, 1)
    again = generated_object(kind, 1)
    np.testing.assert_array_equal(pixels, again[0])
    np.testing.assert_array_equal(truth, again[1])
    assert part == ("network" if kind == "cracks" else "compact")
    assert truth.shape == pixels.shape[:2]
    assert not np.array_equal(truth, generated_object(kind, 2)[1])


@needs_shared
def test_the_list_of_the_repository_fits_the_data(root: Path) -> None:
    listed = read_objects(root / LISTED)
    for source in ("sand_grains", "concrete_damage"):
        own = [one for one in listed if one.source == source]
        items = {one.image: load_image(SHARED, source, one.image) for one in own}
        for one in own:
            assert part_of(items[one.image], one.index_in(items[one.image])) == one.part
    facts = read_facts(SHARED)
    thin = {
        name
        for name in facts
        if facts[name].thin_classes
        and (facts[name].validation_only or not facts[name].one_specimen)
    }
    assert {one.source for one in listed if one.part == "network"} == thin


@needs_shared
def test_no_listed_image_is_trained_on(root: Path) -> None:
    listed = {(one.source, one.image) for one in read_objects(root / LISTED)}
    assert {source for source, _ in listed} >= read_facts(SHARED).validation_only
    held = {(item.source, item.name) for item in load_images(SHARED, names=["pebbles", "octa_faz"])}
    assert held
    assert not held & listed
