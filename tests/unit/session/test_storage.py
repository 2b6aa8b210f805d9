"""Session files: what is written comes back, what others wrote is checked."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_session import SHAPE, fake_session
from napari_pisam.images.image_source import ImageSource
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session.session import CommitRule, ModelRef
from napari_pisam.session.signature import image_signature
from napari_pisam.session.storage import ImageView, SessionMeta, load_session, save_session

BOX = Prompts((4, 4, 12, 12))
OTHER = Prompts((8, 8, 18, 18), [(9.25, 9.5), (17, 17)], [True, False])
META = SessionMeta(
    ImageView("cells.tif", (3,), None, (0,), False, ((0.0, 255.5),)),
    {"scale": [0.5, 0.5], "units": ["µm", "µm"]},
)


def busy_session():
    """Committed, overlapping, reopened, started from a label, open and promptless objects."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[3:9, 20:28] = 5
    session = fake_session(labels=labels, rule=CommitRule.OVERWRITE)
    session.set_predictor(session.predictor, ModelRef("tiny", "ab" * 32, "cpu"))
    for prompts in (BOX, OTHER):
        session.new_object(prompts)
        session.commit()
    session.start_from_label(5, labels[3:9, 20:28] == 5, (3, 20))
    session.commit()
    session.segment_all([(20, 0, 22, 5), (20, 8, 22, 12)])
    session.reopen(6)
    session.discard(8)
    session.new_object(Prompts((0, 0, 3, 3)))
    session.new_object()
    return session


def seen(session):
    return [
        (
            one.id,
            one.prompts,
            one.committed,
            one.stale,
            None if one.mask is None else (one.mask.bbox, one.mask.crop.tolist(), one.mask.score),
        )
        for one in session.objects
    ]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "session.pisam"
    save_session(path, busy_session(), META)
    return path


def restored(path, session=None):
    session = fake_session() if session is None else session
    session.set_predictor(session.predictor, ModelRef("tiny", "ab" * 32, "cpu"))
    session.from_state(load_session(path).state)
    return session


def test_a_session_comes_back_as_it_was(path):
    first, second = busy_session(), restored(path)
    assert seen(second) == seen(first)
    assert second.current.id == first.current.id
    assert second.first_id == first.first_id
    assert second.rule is CommitRule.OVERWRITE
    assert load_session(path).meta == META


def test_the_same_session_gives_the_same_file(path, tmp_path):
    again = tmp_path / "again.pisam"
    save_session(again, busy_session().to_state(), META)
    assert again.read_bytes() == path.read_bytes()
    save_session(again, restored(path), load_session(path).meta)
    first, second = load_session(path), load_session(again)
    assert first.meta == second.meta
    assert len(first.state.journal) == len(second.state.journal)


def test_lost_labels_are_written_again(path):
    first = busy_session()
    labels = np.zeros(SHAPE, np.uint16)
    session = fake_session(labels=labels)
    restored(path, session)
    assert session.rewrite_labels()
    assert np.array_equal(labels, first.labels)


def test_a_restored_object_gives_back_what_it_had_covered(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[6:20, 3:9] = 5
    labels[10, 4:7] = 7
    first = fake_session(labels=labels.copy(), rule=CommitRule.OVERWRITE)
    first.new_object(BOX)
    first.commit()
    save_session(tmp_path / "s.pisam", first)
    second = restored(tmp_path / "s.pisam", fake_session(labels=first.labels))
    second.reopen(8)
    assert np.array_equal(second.labels, labels)


def test_a_session_of_another_image_is_refused(path):
    session = fake_session()
    session.set_image(SHAPE, "another", lambda predictor: None)
    with pytest.raises(ValueError, match="belongs to another image"):
        restored(path, session)
    assert session.objects == ()


def test_what_was_there_stays_when_writing_fails(path, monkeypatch):
    before = path.read_bytes()

    def full(*_args, **_keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space left"):
        save_session(path, busy_session(), META)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_transforms_that_are_not_json_are_refused(tmp_path):
    with pytest.raises(ValueError, match="transforms cannot be written as JSON"):
        save_session(tmp_path / "s.pisam", busy_session(), SessionMeta(transforms={"a": {1}}))
    assert list(tmp_path.iterdir()) == []


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_the_file_is_json_and_arrays_that_numpy_reads(path):
    described = json.loads(contents(path)["session.json"])
    assert (described["format"], described["version"]) == ("napari-pisam session", 1)
    assert described["models"] == [{"name": "tiny", "sha256": "ab" * 32, "device": "cpu"}]
    with np.load(path) as arrays:  # it is an npz file too
        assert arrays["clicks"].tolist() == OTHER.points.tolist()
        assert arrays["click_labels"].tolist() == [True, False]


def change(*keys, to):
    """A change of one value in session.json."""

    def make(described):
        target = described
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = to

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (change("version", to=2), "is of version 2, this software reads up to 1"),
        (change("format", to="zip"), "format is"),
        (change("shape", to=[24]), r"shape is \[24\], expected a list of 2"),
        (change("shape", to=[10, 30]), "expected a window inside the image"),
        (change("objects", 0, "id", to="1"), r'objects\[0\].id is "1", expected a whole number'),
        (change("objects", 0, "id", to=6), "two of the same id"),
        (change("objects", 0, "prompts", to=99), r"objects\[0\].prompts is 99"),
        (change("objects", 0, "mask", to=None), r"objects\[0\] is committed and has no mask"),
        (change("objects", 0, "patch", to=1), "another window than its mask"),
        (change("prompts", 1, "clicks", to=3), r"prompts\[\d\] needs more data"),
        (change("prompts", 0, "box", to=[1, 1, 1, 1]), r"prompts\[0\]: .*no area"),
        (change("prompts", 0, "box", to=[1, 1, 1, "a"]), r"prompts\[0\].box\[3\] is"),
        (change("masks", 0, "bbox", to=[0, 0, 99, 99]), r"masks\[0\].bbox"),
        (change("masks", 0, "bbox", to=[3, 3, 2, 9]), r"masks\[0\].bbox"),
        (change("patches", 0, "changed", to=2), r"objects\[0\].patch: Compressed data"),
        (change("journal", 0, "op", to="format"), r"journal\[0\].op is .*expected commit, boxes"),
        (change("journal", 0, "rule", to="mine"), r"journal\[0\].rule is .*keep, overwrite"),
        (change("rule", to=3), "rule is 3, expected one of keep"),
        (change("current", to=-1), "current is -1"),
        (change("next_id", to=True), "next_id is true"),
        (change("image", to=[]), "image is "),
        (change("image", "rgb", to=1), "image.rgb is 1, expected true or false"),
        (lambda d: d.pop("journal"), "journal is missing"),
    ],
)
def test_a_wrong_value_is_named(path, make, message):
    members = contents(path)
    described = json.loads(members["session.json"])
    make(described)
    write(path, members | {"session.json": json.dumps(described)})
    with pytest.raises(ValueError, match=message) as caught:
        load_session(path)
    assert "cannot be read as a session file" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: m.pop("clicks.npy"), "it holds"),
        (lambda m: m.update({"../evil.npy": b""}), "it holds"),
        (lambda m: m.update({"session.json": b"{"}), "session.json is damaged"),
        (lambda m: m.update({"session.json": b'{"a": NaN}'}), "NaN is no JSON"),
        (lambda m: m.update({"session.json": b"[" * 100_000}), "damaged"),
        (lambda m: m.update({"session.json": b"\xff"}), "session.json is damaged"),
        (lambda m: m.update({"clicks.npy": b"PK"}), "cannot be read"),
        (lambda m: m.update({"clicks.npy": npy(np.zeros((2, 3)))}), r"shape \(2, 3\)"),
        (lambda m: m.update({"clicks.npy": npy(np.zeros((2, 2), "f4"))}), "dtype float32"),
        (lambda m: m.update({"clicks.npy": npy(np.zeros((2, 2), order="F"))}), "not as long"),
        (lambda m: m.update({"clicks.npy": m["clicks.npy"][:-8]}), "not as long"),
        (lambda m: m.update({"clicks.npy": npy(np.full((2, 2), np.nan))}), "NaN"),
        (
            lambda m: m.update({"clicks.npy": m["clicks.npy"].replace(b"(2, 2)", b"(9**9, 2)")}),
            "cannot be read",
        ),
        (
            lambda m: m.update({"click_labels.npy": m["click_labels.npy"][:-1] + b"\x07"}),
            "other values than 0 and 1",
        ),
        (lambda m: m.update({"clicks.npy": pickled()}), "dtype object"),
    ],
)
def test_a_damaged_member_is_refused(path, make, message):
    members = contents(path)
    make(members)
    write(path, members)
    with pytest.raises(ValueError, match=message):
        load_session(path)


def npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([print, 1], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def test_a_member_larger_than_allowed_is_not_unpacked(path):
    members = contents(path)
    header = npy(np.zeros(0, np.uint8)).replace(b"(0,)", b"(1,)")
    write(path, members | {"mask_bits.npy": header + bytes(129 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"mask_bits.npy has \d+ bytes, at most"):
        load_session(path)


def test_no_file_and_no_zip_are_said(tmp_path):
    with pytest.raises(ValueError, match="There is no session file"):
        load_session(tmp_path / "none.pisam")
    (tmp_path / "text.pisam").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read as a session file"):
        load_session(tmp_path / "text.pisam")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_file_with_damaged_bytes_never_crashes(path, data):
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    damaged = path.with_name("damaged.pisam")
    damaged.write_bytes(content)
    with contextlib.suppress(ValueError):
        load_session(damaged)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_file_with_exchanged_values_never_crashes(path, data):
    members = contents(path)
    described = json.loads(members["session.json"])
    target, key = described, None
    while isinstance(target, (dict, list)) and target:
        parent = target
        keys = sorted(target) if isinstance(target, dict) else range(len(target))
        key = data.draw(st.sampled_from(list(keys)))
        target = parent[key]
    values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    parent[key] = data.draw(values | st.text(max_size=3) | st.lists(st.integers(), max_size=4))
    damaged = path.with_name("damaged.pisam")
    write(damaged, members | {"session.json": json.dumps(described)}, zipfile.ZIP_STORED)
    session = fake_session()
    with contextlib.suppress(ValueError):
        session.from_state(load_session(damaged).state)


# -- the image's signature ----------------------------------------------------------------------


class Counting:
    """A large image that counts the pixels that are read."""

    def __init__(self, shape):
        self.shape = shape
        self.dtype = np.dtype(np.uint16)
        self.read = 0

    def __array__(self, *_args, **_keywords):
        raise AssertionError("the whole array was asked for")

    def __getitem__(self, key):
        block = np.zeros(tuple(part.stop - part.start for part in key), self.dtype)
        self.read += block.size
        return block


def test_the_signature_reads_a_bounded_part():
    image = Counting((100_000, 80_000))
    assert image_signature(ImageSource(image)).startswith("100000x80000x1-uint16-")
    assert image.read <= 16 * 64 * 64


def test_the_signature_is_of_the_values_however_they_are_stored():
    image = np.random.default_rng(0).integers(0, 60_000, (300, 70)).astype("<u2")
    expected = image_signature(ImageSource(image))
    assert image_signature(ImageSource(image.astype(">u2"))) == expected
    assert image_signature(ImageSource(np.asfortranarray(image))) == expected
    stack = np.stack([image + 1, image])
    assert image_signature(ImageSource(stack, plane=1)) == expected
    assert image_signature(ImageSource(stack, plane=0)) != expected


def test_the_signature_tells_images_apart():
    image = np.zeros((200, 200), np.uint8)
    changed = image.copy()
    changed[199, 199] = 1
    others = [changed, image[:, :199], image.astype(np.uint16), np.zeros((200, 200, 3), np.uint8)]
    signatures = {image_signature(ImageSource(one)) for one in [image, *others]}
    signatures.add(image_signature(ImageSource([image, image[::2, ::2]])))
    assert len(signatures) == 6


def test_an_image_smaller_than_a_block_is_read_whole():
    image = np.zeros((3, 5), np.uint8)
    changed = image.copy()
    changed[2, 4] = 1
    assert image_signature(ImageSource(image)) != image_signature(ImageSource(changed))
