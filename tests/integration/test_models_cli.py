"""``napari-pisam models``, from arguments to what is printed and written."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from micro import MICRO, micro_model
from napari_pisam.cli.app import app, models_app
from napari_pisam.model import variants
from napari_pisam.weights import cache
from napari_pisam.weights.catalogue import CATALOGUE
from napari_pisam.weights.checkpoint_format import save_checkpoint
from napari_pisam.weights.files import file_hash
from napari_pisam.weights.models import list_models

BOXES = """index,shape-type,vertex-index,axis-0,axis-1
0,rectangle,0,4,6
0,rectangle,1,30,34
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder of one's own, in which the command runs, without anything of this machine's."""
    monkeypatch.chdir(tmp_path)
    for name in ("CACHE", "MODELS", "RUNS"):
        monkeypatch.setenv(f"NAPARI_PISAM_{name}", str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def run(work):
    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_models_are_listed(run):
    result = run("models", "list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [row.name for row in list_models()]
    title, line = lines[0], next(line for line in lines if line.startswith("microsam_vit_b_lm"))
    assert line[title.index("GOOD FOR") :].startswith("cells and nuclei in light microscopy")
    assert line[title.index("SIZE") :].startswith("375 MB")
    assert line[title.index("LICENCE") :].startswith("MIT / CC BY 4.0")
    assert line[title.index("HERE") :].startswith("available")


@pytest.mark.parametrize(
    "about",
    [
        '{"base": null, "objects": null, "created": null}',
        '{"base": ["tiny"], "objects": 1e400, "created": 5}',
        '{"objects": "many", "created": {}}',
        "[" * 100_000,
        "null",
    ],
)
def test_run_that_cannot_be_read_hides_no_model_and_no_other_run(run, work, about):
    for name, content in [("bad", about), ("good", '{"base": "tiny", "objects": 12}')]:
        folder = work / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(content)
        (folder / "state.json").write_text('{"is_better": true, "status": "finished"}')
        (folder / "best.safetensors").write_bytes(b"weights")
    result = run("models", "list")
    assert result.exit_code == 0, result.stderr
    assert "sam_vit_b" in result.stdout
    assert f"{work / 'runs' / 'good' / 'best.safetensors'}  from tiny, 12 objects" in result.stdout


def test_time_of_one_image_is_measured_once_and_kept(run, work, monkeypatch):
    from napari_pisam.cli import benchmark

    measured = []

    def measure_once(name):
        if name == "sam_vit_h":
            raise RuntimeError("Not enough memory for sam_vit_h.")
        measured.append(name)
        return 1.25

    monkeypatch.setattr(benchmark, "measure_once", measure_once)
    assert "models list --measure" in run("models", "list").stderr
    result = run("models", "list", "--measure")
    assert result.exit_code == 0
    assert "Not enough memory for sam_vit_h" in result.stderr
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["microsam_vit_b_em"].endswith("  1.2 s")
    assert not lines["sam_vit_h"].endswith(" s")
    assert len(measured) == len(set(measured))
    monkeypatch.setattr(benchmark, "measure_once", None)
    assert run("models", "list").stdout == result.stdout


def test_model_is_described(run):
    result = run("models", "info", "sam_vit_b")
    assert result.exit_code == 0
    assert "https://" in result.stdout
    assert CATALOGUE["sam_vit_b"].hash in result.stdout
    assert CATALOGUE["sam_vit_b"].citation in result.stdout
    assert "mirror:" not in result.stdout
    assert CATALOGUE["sam_vit_t"].mirrors[0] in run("models", "info", "sam_vit_t").stdout


@pytest.mark.parametrize("command", ["info", "download", "verify", "remove"])
def test_model_that_does_not_exist_is_status_2(run, command):
    result = run("models", command, "sam_vit_x")
    assert result.exit_code == 2
    assert "sam_vit_x" in result.stderr


def test_download_prints_where_the_file_is(run, work, monkeypatch):
    def download(name, *, progress=None, cancel=None):
        progress(5, 10)
        progress(10, 10)
        return work / f"{name}.pth"

    monkeypatch.setattr(cache, "download", download)
    result = run("models", "download", "sam_vit_b")
    assert result.stdout.strip() == str(work / "sam_vit_b.pth")


def test_verify_tells_good_from_damaged(run, work, monkeypatch):
    (work / "cache").mkdir()
    path = cache.cached_path("sam_vit_b")
    path.write_bytes(b"damaged")
    result = run("models", "verify", "sam_vit_b")
    assert result.exit_code == 1
    assert "sam_vit_b" in result.stderr
    good = replace(CATALOGUE["sam_vit_b"], hash=file_hash(path, "xxh128"))
    monkeypatch.setitem(CATALOGUE, "sam_vit_b", good)
    result = run("models", "verify", "sam_vit_b")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"good  {good.hash}" in result.stdout
    assert "not a change on purpose" in result.stdout


def test_lab_s_own_model_is_added_used_and_removed(run, work, monkeypatch):
    rng = np.random.default_rng(0)
    tifffile.imwrite(work / "image.tif", rng.integers(0, 60000, (48, 64), dtype=np.uint16))
    (work / "boxes.csv").write_text(BOXES)
    monkeypatch.setitem(variants.VARIANTS, "micro", MICRO)
    save_checkpoint(work / "ours.safetensors", micro_model(), licence="CC0-1.0")
    result = run("models", "add", "ours.safetensors", "--name", "yeast")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("yeast: a micro, ")
    os.remove(work / "ours.safetensors")
    assert "CC0-1.0" in run("models", "list").stdout
    assert "good" in run("models", "verify", "yeast").stdout
    used = run("segment", "image.tif", "--boxes", "boxes.csv", "--model", "yeast", "-o", "out.tif")
    assert used.exit_code == 0, used.stderr
    assert "already" in run("models", "add", "image.tif", "--name", "yeast").stderr
    result = run("models", "remove", "yeast")
    assert (result.exit_code, files(work / "models")) == (0, [])
    assert run("models", "info", "yeast").exit_code == 2


def test_removing_what_is_not_there_says_so(run):
    result = run("models", "remove", "sam_vit_l")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Nothing of sam_vit_l" in result.stderr
    assert "part of the package" in run("models", "remove", "tiny").stderr


def test_page_on_models_names_commands_and_models_that_exist(root):
    text = (root / "docs" / "which-model.md").read_text(encoding="utf-8")
    commands = {command.name for command in models_app.registered_commands}
    assert set(re.findall(r"napari-pisam models (\w+)", text)) == commands
    named = set(re.findall(r"\b(?:microsam|hqsam|sam)_vit_[a-z]\w*", text))
    families = {name for name in named if name.endswith("_")}  # as in microsam_vit_b_*
    assert named - families <= {*CATALOGUE, *variants.VARIANTS}
    for family in families:
        assert any(name.startswith(family) for name in CATALOGUE)


def test_what_a_file_says_of_itself_gives_the_terminal_no_orders(run, work, monkeypatch):
    monkeypatch.setitem(variants.VARIANTS, "micro", MICRO)
    save_checkpoint(work / "a.safetensors", micro_model(), licence="MIT\x1b[2J\rfirst\nsecond")
    assert run("models", "add", "a.safetensors").exit_code == 0
    for arguments in (("list",), ("info", "a")):
        printed = run("models", *arguments).stdout
        assert "MIT" in printed
        assert not {"\x1b", "\r"} & set(printed)
        assert not any(line.startswith("second") for line in printed.splitlines())
