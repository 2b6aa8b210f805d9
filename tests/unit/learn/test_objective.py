"""Which of two answers an object is learnt by."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.learn.objective import is_fine

ROWS, COLS = np.ogrid[:96, :96]
DISC = (ROWS - 48) ** 2 + (COLS - 48) ** 2 < 40**2


@pytest.mark.parametrize(
    ("mask", "fine"),
    [
        (DISC, False),
        (DISC & (COLS % 12 < 3), True),
        # Of many small pieces.
        (DISC & (COLS % 16 < 6) & (ROWS % 16 < 6), True),
        (abs(ROWS - COLS) < 3, True),
        # A bar fills its box.
        ((abs(ROWS - 48) < 3) & (COLS > 10), False),
        (np.ones((96, 96), bool), False),
    ],
)
def test_lines_and_small_pieces_are_fine(mask: np.ndarray, fine: bool) -> None:
    assert is_fine(mask) is fine
