"""What is said of models that can be chosen, and which one is recommended."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import skimage.data

from napari_pisam.docks import model_choice
from napari_pisam.docks.model_choice import advice, in_full, in_short, offered_models, recommend
from napari_pisam.images.image_source import ImageSource
from napari_pisam.images.kinds import guess_kind
from napari_pisam.weights.cache import cached_path
from napari_pisam.weights.catalogue import CATALOGUE
from napari_pisam.weights.timings import keep_seconds


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NAPARI_PISAM_MODELS", str(tmp_path / "models"))
    return tmp_path


def row_of(name):
    return next(row for row in offered_models() if row.name == name)


def test_what_is_offered_are_the_models_of_the_catalogue():
    assert [row.name for row in offered_models()] == list(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_of_each_model_use_size_licence_and_place_are_said(name):
    entry, row = CATALOGUE[name], row_of(name)
    place = "in the package" if entry.is_embedded else "to download"
    for text in (in_short(row), in_full(row)):
        assert entry.good_for in text
        assert entry.licence in text
        assert place in text
        assert "MB" in text or "GB" in text
    assert entry.citation in in_full(row)


def test_what_was_measured_and_downloaded_is_said():
    name = "microsam_vit_t_lm"
    assert "not measured yet" in in_full(row_of(name))
    assert "s an image" not in in_short(row_of(name))
    keep_seconds({"sam_vit_t": 0.84})
    cached_path(name).write_bytes(b"weights")
    assert "0.84 s an image" in in_short(row_of(name))
    assert "0.84 s on this machine" in in_full(row_of(name))
    assert "on this machine" in in_short(row_of(name))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("tissue", "microsam_vit_b_histopathology"),
        ("fluorescence", "microsam_vit_t_lm"),
        ("electron", "microsam_vit_t_em"),
        ("photograph", "sam_vit_t"),
    ],
)
def test_every_kind_of_image_has_a_model_that_is_made_for_it(kind, name):
    rows = offered_models()
    best = recommend(kind, rows)
    assert best is not None
    assert best.name == name
    assert f"try {name} (" in advice(kind, rows, "tiny")
    assert advice(kind, rows, name) == ""
    # Not a word of another one where the chosen one is of the kind.
    for other in (row.name for row in rows if row.suits == kind):
        assert advice(kind, rows, other) == ""


def test_a_model_that_is_here_comes_before_a_smaller_one():
    rows = offered_models()
    rows = [replace(r, status="downloaded") if r.name == "microsam_vit_b_lm" else r for r in rows]
    assert advice("fluorescence", rows, "tiny").endswith("try microsam_vit_b_lm (here already).")


def test_where_nothing_is_known_nothing_is_said():
    rows = offered_models()
    assert recommend(None, rows) is None
    assert advice(None, rows, "tiny") == ""
    # Who chose a file, or a model of one's own, knows why.
    assert advice("tissue", rows, "/somewhere/mine.safetensors") == ""
    yeast = replace(rows[0], name="yeast", status="added")
    assert advice("tissue", [*rows, yeast], "yeast") == ""


def test_a_checkpoint_file_is_told_by_its_size(tmp_path):
    path = tmp_path / "mine.safetensors"
    assert "not there" in model_choice.about_file(str(path))
    path.write_bytes(bytes(3_000_000))
    assert "3 MB" in model_choice.about_file(str(path))


def test_advice_for_a_real_picture_downloads_nothing(folders, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    kind = guess_kind(ImageSource(skimage.data.immunohistochemistry()))
    text = advice(kind, offered_models(), "tiny")
    assert text == "Looks like stained tissue: try microsam_vit_b_histopathology (375 MB)."
    assert list(folders.iterdir()) == []


def test_what_is_said_of_models_needs_no_network_library():
    code = (
        "import sys\nfrom napari_pisam.docks.model_choice import advice, offered_models\n"
        "assert advice('tissue', offered_models(), 'tiny')\n"
        "assert not {'torch', 'torchvision', 'qtpy', 'napari'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
