"""Folds: every set is left out once, with its like, and scored by the run that never saw it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from micro import micro_model
from napari_pisam.weights.checkpoint_format import save_checkpoint
from recipes.tiny import folds
from recipes.tiny.config import RecipeConfig
from recipes.tiny.facts import KNOWN, read_facts
from recipes.tiny.folds import FOLDS, KIND_FOLDS, fold_of, without_fold, write_folds
from recipes.tiny.samples import training_samples
from recipes.tiny.sets import load_images
from recipes.tiny.synthetic import KINDS
from training_sets import SHARED, needs_shared, write_sets


def settings(tmp_path: Path, **changes) -> RecipeConfig:
    return RecipeConfig.model_validate({"data": tmp_path, "output": tmp_path / "run"} | changes)


def test_no_set_and_no_family_is_in_two_folds():
    names = [name for fold in FOLDS for name in fold]
    assert len(names) == len(set(names))
    assert sorted(name for fold in KIND_FOLDS for name in fold) == sorted(KINDS)
    assert len(FOLDS) == len(KIND_FOLDS) == 5


@needs_shared
def test_sets_of_the_same_pictures_are_left_out_together():
    facts = read_facts(SHARED)
    homes: dict[str, set[int | None]] = {}
    for name in facts:
        homes.setdefault(facts.family(name), set()).add(fold_of(name))
    assert all(len(found) == 1 and None not in found for found in homes.values())
    assert {facts.family(name) for name in KNOWN} <= set(homes)


def test_sources_find_their_fold():
    assert fold_of("pebbles") == fold_of("synthetic:particles") == 2
    assert fold_of("particles") is None


@needs_shared
def test_every_set_of_the_data_is_in_a_fold():
    names = {path.name for path in (SHARED / "sets").iterdir()}
    assert names == {name for fold in FOLDS for name in fold}
    facts = read_facts(SHARED)
    assert names == set(facts)
    assert all(len(fold - facts.validation_only) >= 4 for fold in FOLDS)
    thin = {name for name in names - facts.validation_only if facts[name].thin_classes}
    assert all(fold & thin for fold in FOLDS)


@pytest.fixture
def small_folds(monkeypatch):
    monkeypatch.setattr(folds, "FOLDS", (frozenset({"cells", "mushrooms"}), frozenset({"discs"})))
    monkeypatch.setattr(folds, "KIND_FOLDS", (frozenset({"cells"}), frozenset({"cracks"})))


def test_the_files_of_the_folds_leave_them_out(tmp_path: Path, small_folds):
    write_sets(tmp_path)
    paths = write_folds(settings(tmp_path, held_out_kinds=["mesh"]), tmp_path / "folds")
    configs = [RecipeConfig.from_toml(path) for path in paths]
    assert [config.held_out for config in configs] == [["cells", "mushrooms"], ["discs"]]
    assert [config.held_out_kinds for config in configs] == [["cells", "mesh"], ["cracks", "mesh"]]
    assert [config.output.name for config in configs] == ["fold0", "fold1"]
    for config in configs:
        assert config.data is not None
        seen = {item.source for item in load_images(config.data, held_out=config.held_out)}
        assert seen == {"cells", "discs"} - set(config.held_out)


def test_a_set_in_no_fold_is_named(tmp_path: Path, small_folds, monkeypatch):
    write_sets(tmp_path)
    monkeypatch.setattr(folds, "FOLDS", (frozenset({"cells"}), frozenset({"discs"})))
    with pytest.raises(ValueError, match="mushrooms"):
        write_folds(settings(tmp_path), tmp_path / "folds")


@pytest.mark.parametrize(("training", "is_fresh"), [({}, True), ({"steps": 40}, False)])
def test_weights_that_saw_the_fold_are_no_start(tmp_path: Path, training: dict, is_fresh: bool):
    path = tmp_path / "start.safetensors"
    model = micro_model()
    save_checkpoint(path, model, licence="MIT", training_summary=training)
    start = settings(tmp_path, initial=path)
    if is_fresh:
        assert without_fold(start, 0, []).initial == path
    else:
        with pytest.raises(ValueError, match="start from fresh weights"):
            without_fold(start, 0, [])


def test_a_fold_goes_on_from_its_own_earlier_stage_and_from_no_other(tmp_path: Path):
    with pytest.raises(ValueError, match="start from fresh weights"):
        without_fold(settings(tmp_path, initial=tmp_path / "tiny.safetensors"), 0, [])
    earlier = settings(tmp_path, initial="stage1/fold{fold}/last.pt")
    assert without_fold(earlier, 3, []).initial == Path("stage1/fold3/last.pt")


def test_a_fold_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="fold is 5, expected 0 to 4"):
        without_fold(settings(tmp_path), 5, [])


def test_families_left_out_are_not_drawn(tmp_path: Path):
    write_sets(tmp_path)
    kinds = [name for name in KINDS if name != "rings"]
    config = settings(tmp_path, held_out_kinds=kinds, mixture=(0, 1, 0), frame=64)
    samples = training_samples(config)
    assert {samples.sample(index)["source"] for index in range(6)} == {"synthetic:rings"}


def test_without_cut_outs_there_are_no_composites(tmp_path: Path):
    write_sets(tmp_path)
    samples = training_samples(settings(tmp_path, mixture=(0.5, 0, 0.5)))
    np.testing.assert_allclose(samples.shares, [1, 0, 0])


def test_an_unknown_family_is_refused(tmp_path: Path):
    write_sets(tmp_path)
    with pytest.raises(ValueError, match=r"held_out_kinds has \['cats'\]"):
        training_samples(settings(tmp_path, held_out_kinds=["cats"]))
