"""What a pre-flight check concludes from what it measured; the measuring is an integration test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finetune_runs import discs, settings
from napari_pisam.learn.finetune import preflight as module
from napari_pisam.learn.finetune.preflight import preflight
from napari_pisam.learn.finetune.sources import list_objects, split

GB = 10**9
PROBE = {
    "seconds_per_step": 2.0,
    "seconds_per_validation": 1.0,
    "batch": 4,
    "batch_wanted": 4,
    "memory_bytes": GB,
    "disk_bytes": GB,
}


@pytest.fixture
def check(monkeypatch, tmp_path):
    def run(rows=None, *, free_memory=8 * GB, free_disk=50 * GB, probe=None, **changes):
        monkeypatch.setattr(module, "free_memory", lambda: free_memory)
        monkeypatch.setattr(module, "_free_disk", lambda folder: free_disk)
        monkeypatch.setattr(module, "_probe", lambda *_: PROBE | (probe or {}))
        images = [discs("a", 9), discs("b", 4)]
        rows = split(list_objects(images)) if rows is None else rows
        values = {"minutes": 5.0, "epochs": None, "validate_seconds": 30.0}
        return preflight(settings(**values | changes), images, rows, root=tmp_path)

    return run


def test_enough_of_all_is_fine(check):
    result = check()
    assert result.ok
    assert result.warnings == ()
    assert "9 train, 4 validate" in result.summary
    # 300 s, of which each validation of 8 objects takes 8.
    assert result.total_seconds == 300
    assert 100 < result.steps < 150


def test_epochs_are_counted_in_steps(check):
    result = check(minutes=None, epochs=8)
    assert result.steps == 18
    assert result.total_seconds > 36


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"free_memory": GB // 2}, "needs about 1.0 GB of memory, and 0.5 GB are free"),
        ({"free_disk": GB // 2}, "GB are free. Free some space"),
        ({"rows": []}, "No object is left to train on"),
    ],
)
def test_what_cannot_work_is_refused(check, changes, message):
    result = check(**changes)
    assert not result.ok
    assert message in result.problems[0]


def test_a_machine_that_does_not_tell_its_memory_is_trusted(check):
    assert check(free_memory=None, free_disk=None).ok


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe": {"seconds_per_step": 60.0}}, "Only about"),
        ({"probe": {"batch": 1}}, "1 object(s) a step, not for 4"),
        ({"training_objects": 2}, "6 of 13 objects are used"),
    ],
)
def test_what_may_disappoint_is_said(check, changes, message):
    result = check(**changes)
    assert result.ok
    assert any(message in warning for warning in result.warnings)


def test_few_objects_are_said(check):
    rows = split(list_objects([discs("a", 9), discs("b", 4)]))
    few = [
        replace(r, part="unused") if r.part == "validation" and r.label > 10 else r for r in rows
    ]
    assert "Only 1 object validates" in check(few).warnings[0]


def test_parts_that_no_cut_divides_are_said(check):
    rows = split(list_objects([discs("a", 9), discs("b", 4)]))
    mixed = [replace(r, part="validation") if (r.image, r.label) == ("a", 50) else r for r in rows]
    assert "'a' both train and validate" in check(mixed).warnings[0]
