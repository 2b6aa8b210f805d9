"""Commit rules and patches against loops over single pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_pisam.session.merge import (
    CommitRule,
    Patch,
    committed_block,
    inflated,
    released_block,
    write_window,
)

VALUE = 3
SIDES = st.integers(1, 9)


@st.composite
def blocks(draw):
    shape = draw(SIDES), draw(SIDES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.int32, np.uint32]))
    return rng.integers(0, 5, shape).astype(dtype), rng.random(shape) < 0.5


def by_pixel(here, is_mask, rule):
    if rule == "overwrite":
        return VALUE if is_mask else here
    if rule == "background" and here == VALUE and not is_mask:
        return 0
    return VALUE if is_mask and here == 0 else here


@given(blocks(), st.sampled_from(list(CommitRule)))
def test_each_pixel_follows_the_rule(made, rule):
    block, crop = made
    before = block.copy()
    after = committed_block(block, crop, VALUE, rule)
    assert after.dtype == block.dtype
    assert np.array_equal(block, before)
    for place, here in np.ndenumerate(block):
        assert after[place] == by_pixel(here, crop[place], rule)


@given(blocks(), st.sampled_from(list(CommitRule)))
def test_a_patch_goes_back_and_forth(made, rule):
    block, crop = made
    after = committed_block(block, crop, VALUE, rule)
    patch = Patch.between((5, 7, 5 + block.shape[0], 7 + block.shape[1]), block, after)
    if patch is None:
        assert np.array_equal(block, after)
        return
    assert np.array_equal(patch.positions(), block != after)
    assert np.array_equal(patch.undone(after), block)
    assert np.array_equal(patch.redone(block), after)


@given(blocks(), st.integers(0, 2**32))
def test_undo_leaves_what_was_painted_since(made, seed):
    block, crop = made
    after = committed_block(block, crop, VALUE, CommitRule.OVERWRITE)
    patch = Patch.between((0, 0, *block.shape), block, after)
    painted = np.random.default_rng(seed).random(block.shape) < 0.3
    labels = np.where(painted, 99, after).astype(block.dtype)
    expected = np.where(painted, 99, block)
    assert np.array_equal(labels if patch is None else patch.undone(labels), expected)


@given(blocks(), st.sampled_from(list(CommitRule)))
def test_release_gives_back_what_was_under_the_object(made, rule):
    block, crop = made
    block[block == VALUE] = 0
    after = committed_block(block, crop, VALUE, rule)
    patch = Patch.between((0, 0, *block.shape), block, after)
    assert np.array_equal(released_block(after, crop, VALUE, patch, lambda _: None), block)


def test_release_does_not_give_pixels_to_objects_that_have_gone():
    block = np.array([[1, 1, 2, 0]], np.uint16)
    crop = np.ones((1, 4), bool)
    after = committed_block(block, crop, VALUE, CommitRule.OVERWRITE)
    patch = Patch.between((0, 0, 1, 4), block, after)
    claims = {1: np.array([[True, False, False, False]])}
    released = released_block(after, crop, VALUE, patch, claims.get)
    assert released.tolist() == [[1, 0, 2, 0]]


def test_a_patch_of_one_value_is_small():
    before = np.zeros((2000, 2000), np.uint32)
    after = before.copy()
    after[100:1900, 100:1900] = 7
    patch = Patch.between((0, 0, 2000, 2000), before, after)
    assert (patch.old, patch.new) == (0, 7)
    assert len(patch.changed) < 20_000


@pytest.mark.parametrize("size", [0, 9, 11])
def test_inflated_refuses_another_size(size):
    import zlib

    with pytest.raises(ValueError, match=f"expected {size}"):
        inflated(zlib.compress(b"0123456789"), size)


def test_inflated_refuses_damage():
    with pytest.raises(ValueError, match="damaged"):
        inflated(b"no zlib stream", 3)


def test_a_write_that_fails_is_taken_back():
    class Half:
        def __init__(self):
            self.data = np.zeros((4, 4), int)
            self.fails = True

        def __setitem__(self, key, value):
            self.data[:2, :2] = value[:2, :2]
            if self.fails:
                self.fails = False
                raise OSError("disk full")
            self.data[key] = value

    labels = Half()
    with pytest.raises(OSError, match="disk full"):
        write_window(labels, (0, 0, 4, 4), np.zeros((4, 4), int), np.ones((4, 4), int))
    assert not labels.data.any()
