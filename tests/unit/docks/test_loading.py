"""Loading a model for a dock."""

from __future__ import annotations

import pytest

from napari_pisam.docks.segment import loading
from napari_pisam.weights.catalogue import CATALOGUE, EMBEDDED


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != EMBEDDED])
def test_a_model_that_is_not_here_is_not_downloaded_unasked(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path))

    def refuse(*_args, **_options):
        raise AssertionError("a download was begun")

    monkeypatch.setattr("napari_pisam.weights.loading.load_model", refuse)
    with pytest.raises(loading.DownloadNeededError, match=f"{name} is not on this machine yet"):
        loading.load_predictor(name, "cpu", refuse, lambda: False, may_download=False)
    assert list(tmp_path.iterdir()) == []
