"""Which image a session belongs to: told apart by its values, without reading large ones."""

from __future__ import annotations

import numpy as np
import pytest

from lazy_arrays import Lazy
from napari_pisam.images.image_source import ImageSource
from napari_pisam.session import identity
from napari_pisam.session.identity import (
    FileStamp,
    PlaneIdentity,
    image_key,
    is_in_memory,
    is_same_image,
    sampled_signature,
)


def signature(image, **keywords):
    return PlaneIdentity(ImageSource(image, **keywords)).signature()


def discs(count=20, size=2048):
    """A small disc each, somewhere else, on black."""
    rng = np.random.default_rng(3)
    rows, cols = np.ogrid[:size, :size]
    for row, col in rng.integers(40, size - 40, (count, 2)):
        image = np.zeros((size, size), np.uint8)
        image[(rows - row) ** 2 + (cols - col) ** 2 < 400] = 200
        yield image


def test_twenty_discs_on_black_are_twenty_images():
    assert len({signature(image) for image in discs()}) == 20


def test_sparse_slices_are_told_apart():
    stack = np.zeros((5, 600, 600), np.uint16)
    for number in range(5):
        stack[number, 301 + 7 * number, 333] = 9
    assert len({signature(stack, plane=number) for number in range(5)}) == 5


def test_the_signature_is_of_the_values_however_they_are_stored():
    image = np.random.default_rng(0).integers(0, 60_000, (300, 70)).astype("<u2")
    expected = signature(image)
    assert signature(image.astype(">u2")) == expected
    assert signature(np.asfortranarray(image)) == expected
    stack = np.stack([image + 1, image])
    assert signature(stack, plane=1) == expected
    assert signature(stack, plane=0) != expected


@pytest.mark.parametrize("change", [(199, 199), (100, 100)])
def test_the_signature_tells_images_apart(change):
    image = np.zeros((200, 200), np.uint8)
    changed = image.copy()
    changed[change] = 1
    others = [changed, image[:, :199], image.astype(np.uint16), np.zeros((200, 200, 3), np.uint8)]
    signatures = {signature(one) for one in [image, *others]}
    signatures.add(signature([image, image[::2, ::2]]))
    assert len(signatures) == 6


def test_what_is_larger_than_the_memory_stays_unread():
    image = Lazy((100_000, 80_000))
    source = ImageSource(image)
    one = PlaneIdentity(source, (), FileStamp("/a.tif", 5, 6), in_memory=False)
    image.largest_read = 0
    assert one.signature().startswith("100000x80000x1-uint16-source-")
    assert image.largest_read == 0
    other = PlaneIdentity(source, (), FileStamp("/a.tif", 5, 7), in_memory=False)
    assert one.signature() != other.signature()
    assert one.signature() != PlaneIdentity(source, (1,), None, in_memory=False).signature()


def test_a_window_that_was_used_tells_images_apart_wherever_the_file_is():
    box = (400, 300, 460, 350)
    image = np.random.default_rng(0).integers(0, 9, (500, 400))
    first = PlaneIdentity(ImageSource(image), (), FileStamp("/a.tif", 5, 6), in_memory=False)
    windows = first.windows([box, (5, 5, 5, 9)])
    assert list(windows) == [box]
    moved = ImageSource(image.copy())
    assert is_same_image(first.signature(), windows, moved)
    changed = image.copy()
    changed[430, 320] += 1
    assert not is_same_image(first.signature(), windows, ImageSource(changed))
    assert not is_same_image(first.signature(), windows, ImageSource(image[:480]))


def test_each_window_is_read_once():
    image = Lazy((100_000, 80_000))
    one = PlaneIdentity(ImageSource(image), in_memory=False)
    box = (50_000, 1000, 50_100, 1100)
    assert one.windows([box]) == one.windows([box])
    image.largest_read = 0
    one.windows([box])
    assert image.largest_read == 0


def test_a_whole_image_is_known_again_however_it_is_read():
    image = np.random.default_rng(0).integers(0, 60_000, (300, 70)).astype(np.uint16)
    saved = signature(image)
    assert is_same_image(saved, {}, ImageSource(image.astype(">u2")))
    assert not is_same_image(saved, {}, ImageSource(image + np.uint16(1)))
    assert is_same_image(sampled_signature(ImageSource(image)), {}, ImageSource(image))


def test_what_is_in_memory_is_told_from_what_is_mapped(tmp_path):
    values = np.arange(60, dtype=np.uint16).reshape(6, 10)
    mapped = np.memmap(tmp_path / "v", np.uint16, "w+", shape=(6, 10))
    assert is_in_memory(values)
    assert is_in_memory(values[::2])
    assert not is_in_memory(mapped)
    assert not is_in_memory(np.asarray(mapped)[2:])
    assert not is_in_memory(Lazy((3, 3)))


def test_the_key_of_an_image_is_of_all_its_planes(monkeypatch):
    stack = np.zeros((5, 60, 60), np.uint16)
    keys = {image_key(stack, "a", None)}
    assert keys == {image_key(stack.copy(), "b", FileStamp("/a", 1, 2))}
    stack[4, 30, 30] = 1
    keys.add(image_key(stack, "a", None))
    monkeypatch.setattr(identity, "WHOLE_BYTES", 100)
    keys |= {image_key(stack, name, None) for name in ("a", "b")}
    keys |= {image_key(stack, "a", FileStamp("/a", 1, time)) for time in (2, 3)}
    assert len(keys) == 6
    lazy = Lazy((100_000, 80_000))
    assert image_key(lazy, "a", None) != image_key(lazy, "b", None)
    assert lazy.largest_read == 0


def test_a_file_that_may_not_be_looked_at_has_no_stamp(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"123")
    assert FileStamp.read(str(path)).size == 3
    for other in (None, "", str(tmp_path / "none"), "a\0b"):
        assert FileStamp.read(other) is None


@pytest.mark.parametrize("shape", [(40, 50), (3, 40, 50), (40, 50, 3), (2000,)])
def test_large_images_that_come_from_no_file_are_told_apart_by_some_of_their_rows(
    shape, monkeypatch
):
    monkeypatch.setattr(identity, "WHOLE_BYTES", 1000)
    empty = np.zeros(shape, np.uint16)
    key = image_key(empty, "Image", None)
    assert image_key(empty.copy(), "Image", None) == key
    # As small as what is left out between two rows.
    thick = -(-empty.nbytes // 1000)
    for place in (0, empty.shape[0] - thick):
        disc = empty.copy()
        disc[(..., slice(place, place + thick), slice(2, 9), slice(None))[-disc.ndim :]] = 9
        assert image_key(disc, "Image", None) != key
