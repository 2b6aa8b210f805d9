"""Fixtures for tests of every layer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's root."""
    return ROOT


@pytest.fixture(scope="session")
def snippets() -> Callable[[str], list[str]]:
    """The Python that a page of the documentation shows, block by block."""

    def read(page: str) -> list[str]:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)

    return read


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference data beside the checkout; a test that needs it is skipped without it."""
    shared = ROOT.parent / "shared"
    if not (shared / "golden").is_dir():
        pytest.skip("the reference data folder (../shared) is not on this machine")
    return shared
