"""The pages: the site builds without a warning, and no link leads nowhere. Nothing is fetched."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = [*sorted(Path(__file__).parents[1].glob("docs/*.md")), Path("CONTRIBUTING.md")]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
OURS = re.compile(
    r"https://(?:github\.com/napari-pisam/napari-pisam/blob|"
    r"raw\.githubusercontent\.com/napari-pisam/napari-pisam)/main/([^#\s)\"]+)(?:#([\w-]+))?"
)


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs")
def test_site_builds_strictly_and_fetches_nothing(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "not included in the" not in done.stderr, "a page is missing in mkdocs.yml's navigation"
    built = {page.parent.name for page in tmp_path.glob("*/index.html")}
    assert {"segment", "fine-tune", "reference", "faq", "how-it-works"} <= built
    loads = re.compile(r"<(?:script|img)[^>]*src=\"?https?:|<link[^>]*stylesheet[^>]*https?:")
    fetching = [
        str(page.relative_to(tmp_path))
        for page in tmp_path.glob("**/*.html")
        if loads.search(page.read_text(encoding="utf-8"))
    ]
    assert not fetching
    assert "predict_many" in (tmp_path / "reference" / "index.html").read_text(encoding="utf-8")


def test_links_of_the_readme_are_absolute(root: Path) -> None:
    links = LINK.findall((root / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 10
    assert not [link for link in links if not link.startswith("https://")]


def test_links_to_files_of_the_repository_name_files_and_headings_that_exist(root: Path) -> None:
    files = [root / name for name in ("README.md", "CHANGELOG.md", "mkdocs.yml", "pyproject.toml")]
    found = [
        (page.name, path, anchor)
        for page in (*files, *PAGES)
        for path, anchor in OURS.findall((root / page).read_text(encoding="utf-8"))
    ]
    assert len(found) > 15
    assert not [link for link in found if not (root / link[1]).is_file()]
    assert not [link for link in found if link[2] and link[2] not in headings(root / link[1])]


def test_every_command_is_on_its_page(root: Path) -> None:
    from napari_pisam.cli.app import app

    page = (root / "docs" / "command-line.md").read_text(encoding="utf-8")
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names - set(re.findall(r"`(\w+)`", page)) == set()
