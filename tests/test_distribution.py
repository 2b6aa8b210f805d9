"""What is handed out: the wheel, the recipe for conda, the citation, what GitHub runs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CONDA_NAMES = {
    "torch": "pytorch",
    "xxhash": "python-xxhash",
    "lightning-fabric": "pytorch-lightning",
}


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"needs {module}, which the extra dev brings")


def run(*command: str, **options: Any) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, **options
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built without a network."""
    if importlib.util.find_spec("hatch_vcs") is None:
        pytest.skip("needs hatchling and hatch-vcs, which the extra dev brings")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=root)
    (found,) = folder.glob("*.whl")
    return found


def test_wheel_holds_the_package_with_its_notices_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size <= 30e6
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"napari_pisam"}
    inside = {name.partition("/")[2] for name in names}
    assert {"napari.yaml", "py.typed", "weights/tiny.safetensors", "weights/README.md"} <= inside
    notices = ("LICENSE", "LICENSE-Apache-2.0", "THIRD_PARTY_NOTICES.md")
    assert {*(f"licenses/{name}" for name in notices), "METADATA"} <= inside
    assert not [name for name in names if re.search(r"(^|/)(tests?|recipes|benchmarks)/", name)]


def test_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = (
        "import napari_pisam as pisam, numpy as np; from napari_pisam.sample_data import cells\n"
        "image = cells()[0][0]; predictor = pisam.Predictor('tiny', device='cpu')\n"
        "predictor.set_image(image); mask = predictor.predict(box=(100, 100, 200, 200))\n"
        "print(pisam.__file__, mask.area)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    said = run(sys.executable, "-c", code, cwd=tmp_path, env=environment).split()
    assert said[0].startswith(str(tmp_path))
    assert int(said[1]) > 100


def test_description_on_the_index_has_links_and_a_licence(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
    metadata = archive.read(name).decode()
    for line in ("License-Expression: MIT", "Classifier: Framework :: napari", "Keywords: "):
        assert f"\n{line}" in metadata
    urls = re.findall(r"^Project-URL: (\w+), https://\S+$", metadata, flags=re.MULTILINE)
    assert set(urls) >= {"Homepage", "Documentation", "Source", "Issues", "Changelog"}


@needs("rattler_build")
def test_recipe_for_conda_is_rendered_with_what_pip_would_install(root: Path) -> None:
    from rattler_build import Stage0Recipe, VariantConfig

    recipe = Stage0Recipe.from_file(root / "conda" / "recipe.yaml")
    (variant,) = recipe.render(VariantConfig({}))
    rendered = variant.recipe.to_dict()
    assert rendered["package"]["name"] == "napari-pisam"
    conda = {str(line).replace(" ", "") for line in rendered["requirements"]["run"]}
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["gui"], *extras["train"], *extras["formats"]]
    wanted = {f"python{project['requires-python']}"}
    for line in lines:
        name, version = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(>=.+)", line).groups()  # type: ignore[union-attr]
        wanted.add(f"{CONDA_NAMES.get(name, name)}{version}")
    assert conda == wanted


@needs("check_jsonschema")
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", ".github/workflows/*.yml"),
        ("dependabot", ".github/dependabot.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_what_github_reads_follows_its_schema(root: Path, schema: str, files: str) -> None:
    found = [str(path) for path in root.glob(files)]
    assert found
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    run(*command, *found)


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_workflows_pass_actionlint(root: Path) -> None:
    run("actionlint", *(str(path) for path in root.glob(".github/workflows/*.yml")))


def test_workflows_test_what_the_classifiers_say(root: Path) -> None:
    workflow = (root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (tested,) = re.findall(r"^ +python: (\[.+\])$", workflow, flags=re.MULTILINE)
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert json.loads(tested) == said


def test_hooks_before_a_commit_use_the_ruff_of_the_constraints(root: Path) -> None:
    hooks = (root / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (pinned,) = re.findall(
        r"^ruff==(.+)$", (root / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert f"rev: v{pinned}\n" in hooks


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a build of its own on Linux only")
@pytest.mark.parametrize("index_has_it", [True, False])
def test_torch_without_cuda_is_installed_first_or_it_is_said_why_not(
    root: Path, tmp_path: Path, index_has_it: bool
) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    refusal = 'case "$*" in *+cpu*) exit 1;; esac' if not index_has_it else ""
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{refusal}\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "setup", "TORCH=cpu", f"VENV={tmp_path}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    *_, torch, everything = calls
    assert re.search(r"torch==[\d.]+\+cpu torchvision==[\d.]+\+cpu$", torch)
    assert everything.endswith("-c constraints.txt -e .[dev]")
    assert ("no CPU build" in done.stderr) is not index_has_it
