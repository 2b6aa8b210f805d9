"""Labels on disk are never left with half an object, whenever the process is killed."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from killed_commits import AUTOSAVES, killed_commit


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_kill_in_the_midst_of_edits_leaves_no_half_object(zarr_format, tmp_path, monkeypatch):
    monkeypatch.setenv(AUTOSAVES, str(tmp_path / "autosaves"))
    rng = random.Random(zarr_format)
    tried = [killed_commit(tmp_path, rng, zarr_format) for _ in range(8)]
    assert all(is_whole for _, is_whole in tried)
    assert any(taken_back for taken_back, _ in tried)
    assert not any((tmp_path / "autosaves" / "unfinished").iterdir())
