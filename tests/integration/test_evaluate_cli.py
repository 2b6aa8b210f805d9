"""``napari-pisam evaluate`` from arguments to files, with the micro model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from micro import micro_model
from napari_pisam.cli.app import app
from napari_pisam.weights import loading as weights


@pytest.fixture
def run(monkeypatch, tmp_path):
    def load(name, *, progress=None, cancel=None):
        return weights.LoadedModel(micro_model(), "ab" * 32, "MIT", "embedded")

    monkeypatch.setattr(weights, "load_model", load)
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks", "saved"):
        (tmp_path / "cells" / folder).mkdir(parents=True)
    for number, suffix in enumerate((".png", ".jpg", ".tif")):
        labels = np.zeros((40, 48), np.uint16)
        labels[4:16, 5:20] = 3
        labels[20:36, 22 : 40 + number] = 300
        picture = (labels > 0).astype(np.uint8) * 150 + 40
        path = tmp_path / "cells" / "images" / f"{number}{suffix}"
        if suffix == ".tif":
            tifffile.imwrite(path, picture.astype(np.uint16) * 100)
        else:
            Image.fromarray(picture).convert("RGB").save(path)
        Image.fromarray(labels).save(tmp_path / "cells" / "masks" / f"{number}.png")
        tifffile.imwrite(tmp_path / "cells" / "saved" / f"{number}.tif", labels.astype(np.uint8))

    def invoke(*arguments):
        return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])

    return invoke


FOLDERS = ("--images", "cells/images", "--masks", "cells/masks")


def test_a_model_is_evaluated_and_the_numbers_written(run, tmp_path):
    result = run(*FOLDERS, "--model", "tiny", "--clicks", "2", "--json", "a.json")
    assert result.exit_code == 0, result.stderr
    assert "tiny" in result.stdout
    assert "3 object(s) in 3 image(s)" in result.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["images"] == 3
    assert content["settings"]["clicks"] == 2
    # 300 is the larger of the two instances of each mask.
    assert {row["object"] for row in content["rows"]} == {300}
    assert content["clicks"]["tiny"]["mean"]["objects"] == 3
    assert not list(tmp_path.glob(".*.part"))


def test_models_and_baselines_share_the_tables(run, tmp_path):
    arguments = ("--model", "tiny", "--baselines", "otsu,box", "--objects", "each", "--clicks", "1")
    result = run(*FOLDERS, *arguments, "--json", "a.json")
    assert result.exit_code == 0, result.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    assert list(content["box"]) == ["otsu", "box", "tiny"]
    # Bright rectangles on dark ground: Otsu's side of the box is all of it, and so is the box.
    assert content["box"]["box"]["mean"]["iou"] == 1
    assert content["objects"] == 6


def test_saved_masks_are_scored_without_a_model(run, tmp_path):
    result = run(
        "--masks", "cells/masks", "--predictions", "BiRefNet=cells/saved", "--json", "a.json"
    )
    assert result.exit_code == 0, result.stderr
    means = json.loads((tmp_path / "a.json").read_text())["box"]["BiRefNet"]["mean"]
    assert (means["iou"], means["mae"]) == (1, 0)


def test_all_protocols_and_the_report(run, tmp_path):
    arguments = ("--protocols", "worst,ablation,efficiency", "--clicks", "1", "--limit", "2")
    result = run(*FOLDERS, "--model", "tiny", *arguments, "--html", "a.html", "--json", "a.json")
    assert result.exit_code == 0, result.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["images"] == 2
    assert list(content["ablation"])[1] == "tiny: no RGB embedding"
    assert content["efficiency"]["tiny"]["parameters"] > 0
    assert set(content["worst"]["tiny"]) == {"box", "1 click", "2 clicks", "5 clicks"}
    page = (tmp_path / "a.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    for table in ("Table 2", "Table 5", "Table 6", "Table 7"):
        assert table in page
        assert table in result.stdout


def test_a_folder_of_sources_is_read(run, tmp_path):
    result = run("--data", ".", "--baselines", "box", "--json", "a.json")
    assert result.exit_code == 0, result.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    assert list(content["box"]["box"]["sources"]) == ["cells"]


def test_names_in_a_file_are_used_alone(run, tmp_path):
    (tmp_path / "test.txt").write_text("# held out\ncells/1\n")
    result = run(*FOLDERS, "--baselines", "box", "--only", "test.txt", "--json", "a.json")
    assert result.exit_code == 0, result.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    assert {row["image"] for row in content["rows"]} == {"1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "There are no masks"),
        (("--masks", "cells/masks"), "Nothing is evaluated"),
        (("--masks", "cells/masks", "--model", "tiny"), "A model needs images"),
        (("--masks", "nothing", "--predictions", "cells/saved"), "There is no folder"),
        ((*FOLDERS, "--baselines", "magic"), "expected some of: box, otsu"),
        ((*FOLDERS, "--model", "tiny", "--protocols", "table9"), "expected some of: worst"),
        ((*FOLDERS, "--baselines", "box", "--protocols", "ablation"), "The ablation needs a model"),
        ((*FOLDERS, "--baselines", "box", "--json", "a.txt"), "ends in .json"),
        ((*FOLDERS, "--baselines", "box", "--no-box", "--clicks", "0"), "has to be a click"),
        ((*FOLDERS, "--baselines", "box", "--only", "none.txt"), "There is no file none.txt"),
        (("--data", "cells", "--baselines", "box"), "holds no NAME/images"),
        ((*FOLDERS, "--images", "cells/images", "--baselines", "box"), "2 --images and 1 --masks"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, tmp_path, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_all_names_that_do_not_match_are_in_the_one_line(run, tmp_path):
    (tmp_path / "cells" / "images" / "0.png").rename(tmp_path / "cells" / "images" / "zero.png")
    result = run(*FOLDERS, "--baselines", "box", "--json", "a.json")
    assert result.exit_code == 2
    assert "0: no image" in result.stderr
    assert "zero: no mask" in result.stderr
    assert not (tmp_path / "a.json").exists()


def test_a_stack_is_named_and_left_out(run, tmp_path):
    stack = np.zeros((5, 40, 48), np.uint8)
    tifffile.imwrite(tmp_path / "cells" / "images" / "2.tif", stack, metadata={"axes": "ZYX"})
    result = run(*FOLDERS, "--baselines", "box", "--clicks", "0")
    assert result.exit_code == 0
    assert "is a stack of shape (5, 40, 48)" in result.stderr
    assert "2 object(s) in 2 image(s), 1 file(s) left out" in result.stderr
