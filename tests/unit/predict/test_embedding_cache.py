"""Encoded images are kept by last use, in memory and on disk; a broken file is a miss."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch

from micro import micro_model
from napari_pisam.images.image_source import ImageSource
from napari_pisam.model.pisam import EncodedImage
from napari_pisam.predict.embedding_cache import EmbeddingCache, embedding_key, model_fingerprint
from napari_pisam.predict.predictor import Predictor

KEYS = [f"{n:064x}" for n in range(8)]


def entry(value=1.0, rgb=True):
    return EncodedImage(
        torch.full((1, 4, 4, 4), value),  # 256 bytes
        None,
        torch.full((1, 2, 4, 8), value) if rgb else None,  # 256 bytes
        (60, 64),
    )


def same(first, second):
    return (
        first.size == second.size
        and torch.equal(first.embedding, second.embedding)
        and (first.rgb is None) == (second.rgb is None)
        and (first.rgb is None or torch.equal(first.rgb, second.rgb))
    )


def test_what_was_put_is_got():
    cache, value = EmbeddingCache(), entry()
    cache.put(KEYS[0], value)
    assert same(cache.get(KEYS[0]), value)
    assert cache.get(KEYS[1]) is None


def test_the_entry_unused_for_longest_goes_first():
    cache = EmbeddingCache(max_bytes=2 * 512)
    cache.put(KEYS[0], entry())
    cache.put(KEYS[1], entry())
    cache.get(KEYS[0])
    cache.put(KEYS[2], entry())
    assert cache.get(KEYS[1]) is None
    assert cache.get(KEYS[0]) is not None
    assert cache.nbytes == 1024


def test_an_entry_larger_than_the_memory_is_not_kept():
    cache = EmbeddingCache(max_bytes=511)
    cache.put(KEYS[0], entry())
    assert len(cache) == 0


def test_putting_twice_counts_once():
    cache = EmbeddingCache()
    cache.put(KEYS[0], entry())
    cache.put(KEYS[0], entry(2.0))
    assert cache.nbytes == 512


@pytest.mark.parametrize("rgb", [True, False])
def test_the_disk_outlives_the_process(tmp_path, rgb):
    EmbeddingCache(disk=tmp_path / "new").put(KEYS[0], entry(rgb=rgb))
    found = EmbeddingCache(disk=tmp_path / "new").get(KEYS[0])
    assert same(found, entry(rgb=rgb))
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{KEYS[0]}.safetensors"]


@pytest.mark.parametrize("content", [b"", b"broken", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_broken_file_is_a_miss_and_is_removed(tmp_path, content):
    path = tmp_path / f"{KEYS[0]}.safetensors"
    path.write_bytes(content)
    cache = EmbeddingCache(disk=tmp_path)
    assert cache.get(KEYS[0]) is None
    assert not path.exists()
    cache.put(KEYS[0], entry())
    assert path.exists()


def test_a_truncated_file_is_a_miss(tmp_path):
    EmbeddingCache(disk=tmp_path).put(KEYS[0], entry())
    path = tmp_path / f"{KEYS[0]}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert EmbeddingCache(disk=tmp_path).get(KEYS[0]) is None


def test_the_oldest_files_go_first(tmp_path):
    cache = EmbeddingCache(disk=tmp_path, disk_max_bytes=2048)
    for age, key in enumerate(KEYS[:4]):
        cache.put(key, entry())
        os.utime(tmp_path / f"{key}.safetensors", (1000 + age, 1000 + age))
    left = {path.stem for path in tmp_path.iterdir()}
    assert KEYS[3] in left
    assert KEYS[0] not in left
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2048


def test_a_disk_that_cannot_be_written_does_not_stop_the_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(disk=tmp_path / "file" / "folder")
    cache.put(KEYS[0], entry())
    assert cache.get(KEYS[0]) is not None


@pytest.mark.parametrize("key", ["../../outside", "", "ABCDEF0123"])
def test_a_key_that_is_no_digest_is_refused(tmp_path, key):
    with pytest.raises(ValueError, match="hex"):
        EmbeddingCache(disk=tmp_path).put(key, entry())


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="expected 0 or more"):
        EmbeddingCache(max_bytes=-1)


def test_many_threads_may_use_it():
    cache, errors = EmbeddingCache(max_bytes=3 * 512), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for n in rng.integers(0, 8, 200):
            cache.put(KEYS[n], entry(float(n)))
            found = cache.get(KEYS[rng.integers(0, 8)])
            if found is not None and not torch.equal(found.embedding, found.embedding):
                errors.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert cache.nbytes <= 3 * 512


def test_other_weights_have_another_fingerprint():
    assert model_fingerprint(micro_model(0)) == model_fingerprint(micro_model(0))
    assert model_fingerprint(micro_model(0)) != model_fingerprint(micro_model(1))


def test_keys_differ_by_weights_precision_and_pixels():
    frame = np.zeros((3, 4, 4), np.float32)
    keys = {
        embedding_key("a", torch.float32, frame),
        embedding_key("b", torch.float32, frame),
        embedding_key("a", torch.bfloat16, frame),
        embedding_key("a", torch.float32, frame + 1),
        embedding_key("a", torch.float32, frame.reshape(3, 2, 8)),
    }
    assert len(keys) == 5


def test_an_image_encoded_ahead_is_not_encoded_again(monkeypatch):
    cache = EmbeddingCache()
    predictor = Predictor(micro_model(), device="cpu", cache=cache)
    images = [np.random.default_rng(n).integers(0, 255, (48, 60), np.uint8) for n in range(2)]
    predictor.set_image(images[0])
    before = predictor.predict(box=(10, 12, 30, 40))
    predictor.encode_ahead(ImageSource(images[1]))
    assert len(cache) == 2
    # The image that is set is the same, and the one to come is known.
    np.testing.assert_array_equal(predictor.predict(box=(10, 12, 30, 40)).crop, before.crop)
    monkeypatch.setattr(cache, "put", lambda *_: pytest.fail("encoded again"))
    predictor.set_image(images[1])
    predictor.predict(box=(10, 12, 30, 40))


def test_nothing_is_encoded_ahead_where_the_window_is_not_known():
    cache = EmbeddingCache()
    predictor = Predictor(micro_model(), device="cpu", cache=cache)
    predictor.encode_ahead(ImageSource(np.zeros((200, 300), np.uint8)))
    assert len(cache) == 0
