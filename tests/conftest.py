"""Fixtures for tests of every layer."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference data beside the checkout; a test that needs it is skipped without it."""
    shared = ROOT.parent / "shared"
    if not (shared / "golden").is_dir():
        pytest.skip("the reference data folder (../shared) is not on this machine")
    return shared
