from __future__ import annotations

import numpy as np
import pytest

from recipes.tiny.gallery import chosen_rows, drawn


@pytest.mark.parametrize(("best", "ious"), [(True, [0.9, 0.7, 0.8]), (False, [0.1, 0.2, 0.3])])
def test_each_source_is_shown_once_before_any_is_shown_twice(best, ious):
    rows = [{"source": "a", "iou_0": value} for value in (0.1, 0.3, 0.8, 0.9)]
    rows += [{"source": "b", "iou_0": value} for value in (0.2, 0.7)]
    assert [row["iou_0"] for row in chosen_rows(rows, 3, best=best)] == ious


def test_a_picture_shows_the_object_and_both_outlines():
    pixels = np.full((200, 300, 3), 90, np.uint8)
    truth, found = np.zeros((200, 300), bool), np.zeros((200, 300), bool)
    truth[80:120, 100:180] = True
    found[80:120, 110:190] = True
    picture = np.asarray(drawn(pixels, truth, found))
    assert max(picture.shape[:2]) == 300
    assert (picture == (255, 255, 255)).all(axis=-1).any()
    assert (picture == (0, 160, 255)).all(axis=-1).any()
