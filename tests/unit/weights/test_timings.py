from __future__ import annotations

import pytest

from napari_pisam.weights import timings
from napari_pisam.weights.timings import keep_seconds, kept_seconds


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_measured_is_kept_beside_what_was_measured_before():
    assert kept_seconds() == {}
    keep_seconds({"tiny": 0.1})
    keep_seconds({"sam_vit_b": 4.5, "tiny": 0.2})
    assert kept_seconds() == {"tiny": 0.2, "sam_vit_b": 4.5}


def test_another_processor_or_torch_makes_it_void(monkeypatch):
    keep_seconds({"tiny": 0.1})
    monkeypatch.setattr(timings, "_machine", lambda: {"cpu": "another"})
    assert kept_seconds() == {}
    keep_seconds({"sam_vit_b": 1.0})
    assert kept_seconds() == {"sam_vit_b": 1.0}


@pytest.mark.parametrize(
    "seconds", ["null", "[]", '{"tiny": null}', '{"tiny": -1}', '{"tiny": 1e400}', "[" * 50_000]
)
def test_damaged_file_counts_as_not_measured(folder, seconds):
    keep_seconds({"tiny": 0.1})
    path = folder / "timings.json"
    text = path.read_text()
    path.write_text(text[: text.index('"seconds"')] + f'"seconds": {seconds}}}')
    assert kept_seconds() == {}
    keep_seconds({"tiny": 0.3})
    assert kept_seconds() == {"tiny": 0.3}
