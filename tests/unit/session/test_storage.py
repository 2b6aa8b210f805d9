"""Session files: what is written comes back, what others wrote is checked."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_session import SHAPE, fake_session, mask_of, save_session
from napari_pisam.images.image_source import ImageSource
from napari_pisam.predict.areas import Answer, Area
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session import storage
from napari_pisam.session.file_format import PackedMasks
from napari_pisam.session.identity import is_same_image
from napari_pisam.session.records import Record, SessionObject, SessionState
from napari_pisam.session.session import CommitRule, ModelRef
from napari_pisam.session.storage import (
    ImageView,
    SavedPlane,
    SessionFile,
    count_objects,
    load_session,
    save_planes,
)

OLD = Path(__file__).parents[2] / "fixtures" / "session_v1.pisam"
BOX = Prompts((4, 4, 12, 12))
OTHER = Prompts((8, 8, 18, 18), [(9.25, 9.5), (17, 17)], [True, False])
VIEW = ImageView("cells.tif", (3,), None, (0,), False, ((0.0, 255.5),))
TRANSFORMS = {"scale": [0.5, 0.5], "units": ["µm", "µm"]}


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
    save_session(path, busy_session(), VIEW, TRANSFORMS)
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
    loaded = load_session(path)
    assert (loaded.planes[0].view, loaded.transforms) == (VIEW, TRANSFORMS)


def test_the_same_session_gives_the_same_file(path, tmp_path):
    again = tmp_path / "again.pisam"
    save_session(again, busy_session().to_state(), VIEW, TRANSFORMS)
    assert again.read_bytes() == path.read_bytes()
    save_session(again, restored(path), VIEW, TRANSFORMS)
    first, second = load_session(path), load_session(again)
    assert first.planes[0].view == second.planes[0].view
    assert first.transforms == second.transforms
    assert len(first.state.journal) == len(second.state.journal)


def test_one_file_holds_all_planes_each_with_its_axes(tmp_path):
    first, second = busy_session(), fake_session()
    second.new_object(OTHER)
    second.commit()
    planes = (
        SavedPlane(first.to_state(), ImageView("t", (0,)), {(1, 2, 5, 6): "ab"}),
        SavedPlane(second.to_state(), ImageView("t", (4,), axes=(2, 0))),
    )
    save_planes(tmp_path / "s.pisam", SessionFile(planes, shown=1))
    loaded = load_session(tmp_path / "s.pisam")
    assert [plane.view for plane in loaded.planes] == [plane.view for plane in planes]
    assert loaded.planes[0].windows == {(1, 2, 5, 6): "ab"}
    for plane, session in zip(loaded.planes, (first, second), strict=True):
        again = fake_session()
        again.set_predictor(again.predictor, session.model)
        again.from_state(plane.state)
        assert seen(again) == seen(session)
    assert loaded.state is loaded.planes[1].state
    assert count_objects(tmp_path / "s.pisam") == len(first.objects) + 1


def test_a_file_written_by_version_1_opens():
    loaded = load_session(OLD)
    view = ImageView("image.tif", (1,), None, None, False, ((0.0, 60000.0),))
    assert loaded.planes[0].view == view
    rng = np.random.default_rng(7)
    stack = rng.integers(0, 60_000, (2, *SHAPE), dtype=np.uint16)
    assert is_same_image(loaded.state.signature, {}, ImageSource(stack, plane=1))
    assert not is_same_image(loaded.state.signature, {}, ImageSource(stack, plane=0))
    session = fake_session()
    session.set_image(SHAPE, loaded.state.signature, lambda predictor: None)
    assert session.restore(loaded.state)
    first = busy_session()
    assert [one.id for one in session.objects] == [one.id for one in first.objects]
    committed = [one.id for one in first.objects if one.committed]
    assert {int(v) for v in np.unique(session.labels)} == {0, *committed}
    for number in committed:
        assert np.array_equal(session.labels == number, first.labels == number)
    assert count_objects(OLD) == len(first.objects)


def test_a_file_written_by_version_2_opens():
    loaded = load_session(OLD.with_name("session_v2.pisam"))
    assert loaded.planes[0].view == VIEW
    assert seen(restored(OLD.with_name("session_v2.pisam"))) == seen(busy_session())


DRAWN = Prompts.from_strokes(
    (4, 4, 12, 12),
    [(((5.0, 5.0),), True), (((6.25, 6.0), (7.0, 9.5), (8.0, 8.0)), False)],
    areas=[Area.of((2, 14, 6, 20)), Area.of([(1, 1), (9, 1), (5, 9.125)], False)],
)


def drawn_session(*more):
    """Objects with scribbles and areas."""
    session = fake_session()
    outline = Prompts(areas=[Area.of([(1, 1), (9, 1), (5, 9.125)])])
    for prompts in (DRAWN, OTHER, outline, *more):
        session.new_object(prompts)
        session.commit()
    return session


def seen_but_stale(session):
    """What `seen` shows without what depends on the model of now."""
    return [one[:3] + one[4:] for one in seen(session)]


def test_a_file_written_by_version_3_opens():
    again = fake_session()
    again.from_state(load_session(OLD.with_name("session_v3.pisam")).state)
    assert seen_but_stale(again) == seen_but_stale(drawn_session())


def test_scribbles_areas_and_answers_come_back(tmp_path):
    fine, solid = Prompts((14, 2, 18, 7), answer="fine"), Prompts((0, 22, 9, 29), answer="solid")
    session = drawn_session(fine, solid)
    session.segment_all([(20, 0, 22, 5), Prompts((20, 8, 22, 12), answer="fine")])
    save_session(tmp_path / "s.pisam", session)
    again = fake_session()
    again.from_state(load_session(tmp_path / "s.pisam").state)
    assert seen_but_stale(again) == seen_but_stale(session)
    found = again.objects[0].prompts
    assert found.strokes == DRAWN.strokes
    assert found.areas == DRAWN.areas
    answers = [(one.prompts.answer, one.mask.answer) for one in again.objects]
    fine, solid = Answer.FINE, Answer.SOLID
    asked = [(fine, fine), (solid, solid), (None, solid), (fine, fine)]
    assert answers == [(None, solid), (None, solid), (None, None), *asked]
    entry = load_session(tmp_path / "s.pisam").state.journal[-1]
    assert entry.boxes == (Prompts((20, 0, 22, 5)), Prompts((20, 8, 22, 12), answer="fine"))


def test_many_large_objects_have_room(tmp_path):
    """The bits of 120 objects of 3,000 px are above 128 MiB, the limit of version 1."""
    side, shape = 3000, (4000, 4000)
    rows, cols = np.ogrid[:side, :side]
    disc = (rows - side / 2) ** 2 + (cols - side / 2) ** 2 < (side / 2 - 1) ** 2
    crop = mask_of(disc).crop
    records = []
    for number in range(1, 121):
        origin = (number % 100, number % 90)
        prompts = Prompts((origin[0], origin[1], origin[0] + side, origin[1] + side))
        bbox = (*origin, origin[0] + crop.shape[0], origin[1] + crop.shape[1])
        mask = Mask(shape, bbox, crop, 0.5, bbox)
        view = SessionObject(number, prompts, mask, committed=False, stale=False)
        records.append(Record(view, prompts))
    state = SessionState(shape, "large", CommitRule.KEEP, 121, None, tuple(records), ())
    save_planes(tmp_path / "s.pisam", SessionFile((SavedPlane(state),)))
    assert (tmp_path / "s.pisam").stat().st_size < 64 << 20
    assert count_objects(tmp_path / "s.pisam") == 120


def test_a_mask_is_packed_once(tmp_path, monkeypatch):
    session, packed, calls = busy_session(), PackedMasks(), []
    real = zlib.compress
    monkeypatch.setattr(zlib, "compress", lambda *given: calls.append(1) or real(*given))
    content = SessionFile((SavedPlane(session.to_state()),))
    save_planes(tmp_path / "s.pisam", content, packed)
    first = len(calls)
    save_planes(tmp_path / "s.pisam", content, packed)
    assert first > 0
    assert len(calls) == first


def test_masks_that_do_not_fit_the_memory_are_not_unpacked(path, monkeypatch):
    monkeypatch.setattr(storage, "_most_pixels", lambda: 20)
    with pytest.raises(ValueError, match="more memory than this computer has"):
        load_session(path)


def test_pixels_painted_by_hand_come_back(tmp_path):
    first = fake_session()
    first.new_object(BOX)
    first.commit()
    first.labels[6:8, 6:8] = 0  # erased
    first.labels[18:20, 20:22] = 1  # added
    first.labels[20:22, 2:4] = 77  # another cell
    first.touch_labels((6, 2, 22, 22))
    save_session(tmp_path / "s.pisam", first)
    second = fake_session()
    second.restore(load_session(tmp_path / "s.pisam").state)
    assert np.array_equal(second.labels, first.labels)


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
        save_session(path, busy_session(), VIEW, TRANSFORMS)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_transforms_that_are_not_json_are_refused(tmp_path):
    with pytest.raises(ValueError, match="transforms cannot be written as JSON"):
        save_session(tmp_path / "s.pisam", busy_session(), transforms={"a": {1}})
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
    assert (described["format"], described["version"]) == ("napari-pisam session", 4)
    assert described["planes"][0]["models"] == [
        {"name": "tiny", "sha256": "ab" * 32, "device": "cpu"}
    ]
    with np.load(path) as arrays:  # it is an npz file too
        assert arrays["clicks"].tolist() == OTHER.points.tolist()
        assert arrays["click_labels"].tolist() == [True, False]


def change(*keys, to):
    """A change of one value in session.json, of the first plane where it has such a field."""

    def make(described):
        target = described["planes"][0] if keys[0] in described["planes"][0] else described
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = to

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (change("version", to=5), "is of version 5, this software reads up to 4"),
        (change("planes", to=[]), r"planes is \[\], expected at least one plane"),
        (change("shown", to=1), "shown is 1, expected a whole number from 0 to 0"),
        (change("windows", to=[[[0, 0, 99, 99], "ab"]]), "expected a window inside the image"),
        (change("image", "axes", to=[1, 1]), "expected two different axes"),
        (change("masks", 0, "bytes", to=3), r"masks\[0\]: Compressed data"),
        (change("tiles", 0, "dtype", to="<f8"), r"tiles\[0\].dtype is"),
        (change("tiles", 0, "bytes", to=3), r"tiles\[0\]: Compressed data"),
        (change("format", to="zip"), "format is"),
        (change("shape", to=[24]), r"shape is \[24\], expected a list of 2"),
        (change("shape", to=[10, 30]), "expected a window inside the image"),
        (change("objects", 0, "id", to="1"), r'objects\[0\].id is "1", expected a whole number'),
        (change("objects", 0, "id", to=6), "two of the same id"),
        (change("objects", 0, "prompts", to=99), r"objects\[0\].prompts is 99"),
        (change("objects", 0, "mask", to=None), r"objects\[0\] is committed and has no mask"),
        (change("objects", 0, "patch", to=1), "another window than its mask"),
        (change("prompts", 1, "clicks", to=3), r"prompts\[\d\] needs more data"),
        (
            change("prompts", 0, "answer", to="thin"),
            r'answer is "thin", expected one of solid, fine',
        ),
        (change("masks", 0, "answer", to=1), r"masks\[0\].answer is 1, expected one of solid"),
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
        (lambda d: d["planes"][0].pop("journal"), "journal is missing"),
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
        (lambda m: m.update({"session.json": b'{"a": NaN}'}), "not valid JSON \\(it holds NaN"),
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
    write(path, members | {"mask_bytes.npy": header + bytes(129 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"mask_bytes.npy has \d+ bytes, at most"):
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
