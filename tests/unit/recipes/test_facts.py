from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.tiny.facts import read_facts, split_images
from recipes.tiny.sets import load_images
from training_sets import SHARED, needs_shared, write_set, write_sets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sets(tmp_path)


def test_the_split_covers_all_names_once_and_repeats() -> None:
    names = [f"n{i}" for i in range(50)]
    training, validation = split_images(names)
    assert sorted(training + validation) == sorted(names)
    assert len(validation) == 10
    assert split_images(reversed(names)) == (training, validation)
    assert split_images(names, seed=1)[1] != validation


def test_the_split_keeps_groups_together() -> None:
    names = [f"p{i // 4}_{i}" for i in range(40)]
    training, validation = split_images(names, group=r"^(p\d+)_")
    assert validation
    assert not {n.split("_")[0] for n in training} & {n.split("_")[0] for n in validation}


def test_two_images_leave_one_for_each_part() -> None:
    training, validation = split_images(["a", "b"])
    assert len(training) == len(validation) == 1


def test_a_fraction_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 <= f < 1"):
        split_images(["a"], 1.0)


def test_validation_only_and_held_out_sets_never_train(root: Path) -> None:
    training = load_images(root, held_out=["cells"])
    assert {image.source for image in training} == {"discs"}
    validation = load_images(root, part="validation", held_out=["cells"])
    assert {image.source for image in validation} == {"discs", "cells", "mushrooms"}
    assert not {i.name for i in training} & {i.name for i in validation}


def test_sets_of_the_same_pictures_split_alike(tmp_path: Path) -> None:
    write_set(tmp_path, "coffee_leaf", [f"t{i}" for i in range(12)])
    write_set(tmp_path, "coffee_leaf_lesions", [f"t{i}" for i in range(4, 10)])
    training = {image.name for image in load_images(tmp_path)}
    validation = {image.name for image in load_images(tmp_path, part="validation")}
    assert training | validation == {f"t{i}" for i in range(12)}
    assert not training & validation


def test_holding_out_one_of_two_sets_of_the_same_pictures_holds_out_both(tmp_path: Path) -> None:
    write_set(tmp_path, "coffee_leaf", ["a", "b"])
    write_set(tmp_path, "coffee_leaf_lesions", ["a", "c"])
    assert load_images(tmp_path, held_out=["coffee_leaf"]) == []


@needs_shared
def test_no_picture_of_the_real_sets_is_in_both_parts() -> None:
    names = sorted(path.name for path in (SHARED / "sets").iterdir() if path.is_dir())
    facts = read_facts(SHARED)
    assert facts.validation_only <= set(names)
    for family in {facts.family(name) for name in names}:
        relatives = [name for name in names if facts.family(name) == family]
        if any(facts[name].one_specimen for name in relatives):
            continue
        stems = [
            p.stem for name in relatives for p in (SHARED / "sets" / name / "images").iterdir()
        ]
        training, validation = split_images(stems, group=facts.group(family))
        assert training, family
        assert validation, family
        assert not set(training) & set(validation)
        assert len(validation) <= 0.55 * len(training) + 1, family


SETS = """
[discs]
kind = "classes"
use = "validation"
images = "both"
thin_classes = [2]

[cells]
kind = "binary"
use = "training"
images = "both"
thin = true
one_specimen = true
"""


def test_facts_come_from_the_table_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "sets.toml").write_text(SETS)
    facts = read_facts(tmp_path)
    assert facts["discs"].kind == "classes"
    assert facts["discs"].thin_classes == {2}
    assert facts["cells"].thin_classes == {1}
    assert facts.family("discs") == facts.family("cells") == "both"
    assert "discs" in facts.validation_only
    # What the table is silent of stays as it was known.
    assert facts.family("coffee_leaf_lesions") == facts.family("coffee_leaf")


def test_a_set_with_a_relative_for_validation_trains_nothing(tmp_path: Path) -> None:
    write_sets(tmp_path)
    (tmp_path / "sets.toml").write_text(SETS)
    assert load_images(tmp_path) == []


def test_one_specimen_stays_in_one_part(tmp_path: Path) -> None:
    write_sets(tmp_path)
    (tmp_path / "sets.toml").write_text(SETS.replace('use = "validation"', 'use = "training"'))
    assert {item.source for item in load_images(tmp_path)} == {"cells", "discs"}
    assert {i.source for i in load_images(tmp_path, part="validation")} == {"mushrooms"}


@pytest.mark.parametrize("text", ["[discs", "[discs]\nkind = 'B'\nuse = 'training'", "discs = 1"])
def test_a_table_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sets.toml").write_text(text)
    with pytest.raises(ValueError, match=r"sets\.toml cannot be used"):
        read_facts(tmp_path)
