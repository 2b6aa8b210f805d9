from __future__ import annotations

import numpy as np
from scipy import ndimage

from recipes.tiny.store import index_objects


def test_class_masks_become_components_and_whole_classes() -> None:
    mask = np.zeros((60, 60), np.uint16)
    mask[2:12, 2:12] = mask[30:40, 30:45] = 3
    mask[50:58, 2:20] = 7
    mask[50:52, 50:52] = 7  # too small for an object, but part of its class
    image = index_objects("set", "name", "classes", np.zeros((60, 60), np.uint8), mask)
    single = [int(i) for i in image.ids if i > 0]
    whole = [int(i) for i in image.ids if i < 0]
    assert len(single) == 3
    assert whole == [-3, -7]
    everything = slice(0, 60)
    for value in (3, 7):
        np.testing.assert_array_equal(image.mask(-value, everything, everything), mask == value)


def test_the_object_table_agrees_with_brute_force() -> None:
    rng = np.random.default_rng(0)
    mask = (ndimage.gaussian_filter(rng.standard_normal((90, 70)), 3) > 0.03).astype(np.uint8)
    image = index_objects("set", "name", "binary", np.zeros((90, 70), np.uint8), mask * 255)
    everything = (slice(0, 90), slice(0, 70))
    for which, box, area in zip(image.ids, image.boxes, image.areas, strict=True):
        rows, cols = np.nonzero(image.mask(int(which), *everything))
        assert area == len(rows) >= 30
        assert box.tolist() == [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]
