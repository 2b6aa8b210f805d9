"""The benchmark scripts' common part: which objects, which sources are unseen, which model."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

import pytest

from micro import micro_model
from recipes.tiny import decoders, fixed_objects, scoring
from recipes.tiny.config import RecipeConfig
from recipes.tiny.fixed_objects import FixedObject, choose_objects, write_objects
from recipes.tiny.sets import load_images
from training_sets import write_sets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sets and one for validation only, with a list of their objects."""
    root = write_sets(tmp_path)
    images = load_images(root, part="validation")
    write_objects(tmp_path / "objects.csv", choose_objects(images, {"compact": 2, "class": 2}))
    monkeypatch.setattr(scoring, "OBJECTS", tmp_path / "objects.csv")
    return root


def start(data: Path, monkeypatch: pytest.MonkeyPatch, seconds: float = 60, **changes) -> None:
    """Make this process one of those that measure, with a small network."""
    monkeypatch.setattr(scoring, "load", lambda model: (micro_model(), ["cells"], ["rings"]))
    monkeypatch.setattr(scoring, "_STATE", {})
    plan = scoring.Plan("micro", str(data), **({"clicks": 2} | changes))
    scoring._start(plan, time.time() + seconds)


def test_fewer_objects_are_the_first_ones(data: Path) -> None:
    one, two = (scoring.chosen_objects(data, count) for count in (1, 2))
    assert {item.rank for item in one} == {0}
    assert set(one) < set(two)
    assert {item.source for item in scoring.chosen_objects(data, 2, sources=["discs"])} == {"discs"}
    assert {item.part for item in scoring.chosen_objects(data, 2, parts=["class"])} == {"class"}


def test_data_without_the_listed_sets_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sets missing: \['cells', 'discs', 'mushrooms'\]"):
        scoring.chosen_objects(tmp_path / "elsewhere", 1)


def test_a_time_limit_would_cut_all_sources_alike(data: Path) -> None:
    jobs = scoring.jobs_of(scoring.chosen_objects(data, 2))
    ranks = [min(one.rank for one in job.objects) for job in jobs]
    assert ranks == sorted(ranks)
    assert len({(job.source, job.image) for job in jobs}) == len(jobs)


def test_relatives_of_what_was_held_out_are_unseen_too(tmp_path: Path) -> None:
    found = scoring.left_out(["coffee_leaf_lesions"], ["rings"], tmp_path)
    assert found >= {"coffee_leaf", "coffee_leaf_lesions", "mushrooms", "synthetic:rings"}
    assert not found & {"pebbles", "axon_sem_axons", "synthetic:cells"}


def test_every_object_of_an_image_is_measured(data: Path, monkeypatch) -> None:
    start(data, monkeypatch, baselines=("otsu",))
    for job in scoring.jobs_of(scoring.chosen_objects(data, 2)):
        rows, missed = scoring._measure(job)
        assert len(rows) == len(job.objects)
        assert not missed
        for row, one in zip(rows, job.objects, strict=True):
            assert row["area"] == one.area
            assert row["left_out"] == (job.source in {"cells", "mushrooms"})
            assert 0 <= row["otsu_same"] <= 1
            assert 0 <= row["iou_1"] <= 1


def test_generated_objects_are_measured_as_such(data: Path, monkeypatch) -> None:
    monkeypatch.setattr(fixed_objects, "GENERATED_SIDE", 96)
    start(data, monkeypatch, clicks=1)
    (job,) = scoring.jobs_of(scoring.generated_objects(["rings"], 1))
    (row,), _ = scoring._measure(job)
    assert (row["source"], row["generated"], row["left_out"]) == ("synthetic:rings", True, True)


def test_when_the_time_is_over_the_rest_is_named(data: Path, monkeypatch) -> None:
    start(data, monkeypatch, seconds=-1)
    job = scoring.jobs_of(scoring.chosen_objects(data, 1))[0]
    rows, missed = scoring._measure(job)
    assert not rows
    assert missed == [f"{job.source}/{job.image}: no time left"] * len(job.objects)


def test_masks_that_changed_are_noticed(data: Path, monkeypatch) -> None:
    start(data, monkeypatch)
    job = scoring.jobs_of(scoring.chosen_objects(data, 1, sources=["discs"]))[0]
    other = FixedObject("discs", job.image, 1, "compact", 7, 0)
    with pytest.raises(ValueError, match="choose a new one"):
        scoring._measure(scoring.Job("discs", job.image, (other,)))


def test_processes_share_the_work(data: Path, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    scoring.add_options(parser)
    out = tmp_path / "out.json"
    options = parser.parse_args(
        [str(data), "--objects", "1", "--clicks", "1", "--parts", "class", "--json", str(out)]
    )
    rows, missed = scoring.score(scoring.plan_of(options, "tiny"), scoring.objects_of(options), 2)
    assert [row["source"] for row in rows] == ["discs"]
    assert not missed
    scoring.write(options, "text", {"rows": rows})
    assert json.loads(out.read_text())["rows"] == rows


def test_weights_that_are_not_there_are_said_at_once(data: Path, tmp_path: Path) -> None:
    plan = scoring.Plan(str(tmp_path / "lost.safetensors"), str(data), clicks=0)
    with pytest.raises(ValueError, match="lost"):
        scoring.score(plan, scoring.chosen_objects(data, 1), processes=1)


def test_the_three_runs_differ_in_decoder_and_folder_only(tmp_path: Path) -> None:
    base = RecipeConfig(data=tmp_path, output=tmp_path / "runs", seed=3)
    runs = [decoders.settings_of(base, decoder) for decoder in decoders.DECODERS]
    assert [run.output.name for run in runs] == ["sam", "hqsam", "pisam"]
    alike = [run.model_dump(exclude={"decoder", "output"}) for run in runs]
    assert alike[0] == alike[1] == alike[2] == base.model_dump(exclude={"decoder", "output"})


def test_the_three_stand_below_each_other() -> None:
    def row(iou: float, part: str):
        return {"source": "a", "part": part, "left_out": False, "iou_0": iou}

    rows = {
        "sam": [row(0.25, "compact"), row(0.125, "network")],
        "hqsam": [row(0.5, "compact")],
        "pisam": [row(0.75, "compact")],
    }
    text = decoders.table(rows)
    assert "| seen | compact | Pi-SAM | 1 | 0.750 |" in text
    assert "| seen | network | SAM's decoder | 1 | 0.125 |" in text
    assert text.index("SAM's decoder | 1 | 0.250") < text.index("HQ-SAM's branch | 1 | 0.500")
