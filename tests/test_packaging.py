"""What a user gets: the manifest, the metadata, and imports that cost nothing."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

import napari_pisam

if TYPE_CHECKING:
    from pathlib import Path


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter: this one has napari loaded by napari's own pytest plugin."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def loaded_after(statements: str) -> set[str]:
    """Top-level names of the modules that are loaded after running `statements`."""
    code = f"import sys\n{statements}\nsys.stdout.write('\\n' + ' '.join(sys.modules))"
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    return {module.split(".")[0] for module in result.stdout.splitlines()[-1].split()}


def requirements(extra: str = "") -> dict[str, Requirement]:
    """What an extra adds to the installation ("" for what everybody gets)."""
    lines = importlib.metadata.requires("napari-pisam")
    assert lines is not None
    found = [Requirement(line) for line in lines]
    return {
        requirement.name: requirement
        for requirement in found
        if (requirement.marker is None and not extra)
        or (extra and requirement.marker and requirement.marker.evaluate({"extra": extra}))
    }


def tracked_files(root: Path) -> list[Path]:
    """The text files in git, or that git would take."""
    result = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        pytest.skip("not in a git checkout")
    binary = {
        ".npz",
        ".npy",
        ".safetensors",
        ".png",
        ".webp",
        ".jpg",
        ".tif",
        ".tiff",
        ".gif",
        ".pisam",
        ".zip",
    }
    paths = [root / name for name in result.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in binary]


def test_manifest_is_valid() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("napari-pisam")
    assert (manifest.name, manifest.display_name) == ("napari-pisam", "napari-pisam")


def test_every_command_of_the_manifest_can_be_imported() -> None:
    from npe2 import PluginManifest

    PluginManifest.from_distribution("napari-pisam").validate_imports()


def test_manifest_at_the_root_is_the_packaged_one(root: Path) -> None:
    packaged = root / "src" / "napari_pisam" / "napari.yaml"
    assert (root / "napari.yaml").samefile(packaged)


def test_package_is_typed(root: Path) -> None:
    assert (root / "src" / "napari_pisam" / "py.typed").is_file()


@pytest.mark.parametrize(
    "statements", ["import napari_pisam", "import napari_pisam; napari_pisam.__version__"]
)
def test_import_loads_neither_torch_nor_napari_nor_qt(statements: str) -> None:
    heavy = {"torch", "torchvision", "napari", "qtpy", "PyQt6", "numpy", "skimage", "timm"}
    assert not loaded_after(statements) & heavy


def test_command_line_help_does_not_load_torch() -> None:
    statements = (
        "from napari_pisam.cli.app import main\n"
        "sys.argv = ['napari-pisam', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert not loaded_after(statements) & {"torch", "napari", "qtpy"}


@pytest.mark.parametrize(
    ("statements", "seconds"),
    [
        ("import napari_pisam", 0.02),
        (
            "from napari_pisam.cli.app import main\nsys.argv = ['napari-pisam', '--help']\n"
            "try:\n    main()\nexcept SystemExit:\n    pass",
            0.4,
        ),
    ],
    ids=["import", "--help"],
)
def test_starting_costs_next_to_nothing(statements: str, seconds: float) -> None:
    # Of the processor, not by the clock: the machine may have other things to do.
    code = f"import sys, time\nstart = time.process_time()\n{statements}\n"
    code += "sys.stdout.write('\\n' + str(time.process_time() - start))"
    took = [float(run_python("-c", code).stdout.splitlines()[-1]) for _ in range(3)]
    assert min(took) <= seconds, took


@pytest.mark.skipif(find_spec("qtpy") is None, reason="needs the extra gui")
def test_docks_are_imported_without_what_only_computing_needs() -> None:
    heavy = ("torch", "timm", "scipy.ndimage", "scipy.spatial", "skimage.draw", "requests", "pooch")
    code = (
        "import sys, napari, napari_pisam.widgets.segment\n"
        f"sys.stdout.write(' '.join(name for name in {heavy} if name in sys.modules))"
    )
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    assert not result.stdout.strip()


def test_public_names_are_listed_and_exist() -> None:
    for name in napari_pisam.__all__:
        assert name in dir(napari_pisam)
        assert getattr(napari_pisam, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Predicter'"):
        _ = napari_pisam.Predicter


def test_version_is_the_installed_one() -> None:
    assert napari_pisam.__version__ == importlib.metadata.version("napari-pisam")


@pytest.mark.parametrize("extra", ["", "gui", "train", "all"])
def test_nothing_caps_a_dependency(extra: str) -> None:
    capped = {
        name: str(requirement.specifier)
        for name, requirement in requirements(extra).items()
        if any(clause.operator in {"<", "<=", "==", "~="} for clause in requirement.specifier)
    }
    assert not capped


def test_base_installation_has_no_gui() -> None:
    assert not {"napari", "qtpy", "superqt", "magicgui", "PyQt6"} & set(requirements())


def test_constraints_pin_exact_versions_that_fit_every_platform(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9a-z.]+", pin) for pin in pins)
    assert not [pin for pin in pins if re.match(r"nvidia-|cuda-|triton|napari-pisam", pin)]


def test_readme_begins_with_two_commands_that_the_makefile_has(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(make \w+|pip install .+)$", readme, flags=re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]
    assert commands[2].startswith('pip install "napari-pisam[all] @ git+https://')
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for command in commands[:2]:
        assert re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize("script", ["run", "system-packages"])
def test_ci_scripts_can_be_executed(root: Path, script: str) -> None:
    assert os.access(root / ".ci" / script, os.X_OK)


@pytest.mark.parametrize(
    ("forbidden", "what"),
    [
        (r"(?<![\w./~-])/(home|root|Users|work|mnt)/\w", "a path of one machine"),
        (r"(?i)(index-url|find-links|trusted-host)[ =]+\S", "an address of a package index"),
        (r"\b(ghp|gho|hf|sk|AKIA|xox[bp])[_-][A-Za-z0-9]{16,}", "a token"),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY", "a private key"),
    ],
)
def test_tracked_files_are_free_of(root: Path, forbidden: str, what: str) -> None:
    pattern = re.compile(forbidden)
    found = [
        f"{path.relative_to(root)}: {match.group()}"
        for path in tracked_files(root)
        if path.name != "test_packaging.py"
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found, f"{what}: {found}"
