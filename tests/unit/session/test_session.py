"""What a person does to objects, one behaviour at a time."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from fake_session import SHAPE, ByHand, FakePredictor, drawn, fake_session, save_session
from napari_pisam.measure.cleaning import Cleaning, split
from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.session import CommitRule, LabelOverflowError, ModelRef, Session
from napari_pisam.session.storage import load_session

BOX = Prompts((4, 4, 12, 12))
OTHER = Prompts((8, 8, 18, 18))
CLICKED = Prompts((4, 4, 12, 12), [(4, 4)], [False])


def areas(session):
    values, counts = np.unique(session.labels, return_counts=True)
    return {int(v): int(c) for v, c in zip(values, counts, strict=True) if v}


def test_a_box_gives_a_preview_and_leaves_the_labels_alone():
    session = fake_session()
    number = session.new_object(BOX)
    assert number == 1
    assert session.current.mask.area == 81
    assert (session.current.committed, session.current.stale) == (False, False)
    assert areas(session) == {}


def test_commit_writes_the_mask_and_nothing_is_current_after_it():
    session = fake_session()
    windows = []
    session.labels_changed.connect(windows.append)
    session.new_object(CLICKED)
    assert session.commit() is True
    assert np.array_equal(session.labels == 1, drawn(SHAPE, CLICKED))
    assert windows == [session.get(1).mask.bbox]
    assert session.current is None
    assert session.get(1).committed


@pytest.mark.parametrize(
    ("rule", "expected"), [("keep", {1: 81, 2: 96}), ("overwrite", {1: 56, 2: 121})]
)
def test_the_rule_says_whose_an_overlap_is(rule, expected):
    session = fake_session(rule=CommitRule(rule))
    for prompts in (BOX, OTHER):
        session.new_object(prompts)
        session.commit()
    assert areas(session) == expected


def test_reopen_takes_the_pixels_back_and_the_corrected_object_is_committed_again():
    session = fake_session(rule=CommitRule.OVERWRITE)
    for prompts in (BOX, OTHER):
        session.new_object(prompts)
        session.commit()
    session.reopen(2)
    assert areas(session) == {1: 81}  # what 2 had covered is there again
    assert session.current.id == 2
    assert session.current.mask.area == 121
    session.set_prompts(2, Prompts((14, 14, 18, 18)))
    session.commit()
    assert areas(session) == {1: 81, 2: 25}


def test_reopen_gives_nothing_to_an_object_that_was_discarded_since():
    session = fake_session(rule=CommitRule.OVERWRITE)
    for prompts in (BOX, OTHER):
        session.new_object(prompts)
        session.commit()
    session.discard(1)
    session.reopen(2)
    assert areas(session) == {}


def test_what_was_painted_over_an_object_stays_when_it_is_reopened():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    session.labels[4:6] = 50
    session.reopen(1)
    assert areas(session) == {50: 60}


def test_new_prompts_for_a_committed_object_reopen_it():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    session.set_prompts(1, CLICKED)
    assert (session.current.id, session.current.committed) == (1, False)
    assert areas(session) == {}
    session.undo()
    session.undo()
    assert areas(session) == {1: 81}


def test_discard_removes_a_committed_object_and_undo_brings_it_back():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    session.discard(1)
    assert (areas(session), session.objects) == ({}, ())
    session.undo()
    assert areas(session) == {1: 81}
    assert session.get(1).committed


def test_the_same_prompts_again_change_nothing():
    session = fake_session()
    session.new_object(BOX)
    told = []
    session.objects_changed.connect(lambda: told.append("objects"))
    session.history_changed.connect(lambda: told.append("history"))
    session.set_prompts(1, Prompts((12, 12, 4, 4)))
    assert told == []


def test_undo_takes_the_current_object_first_then_what_was_done_last():
    session = fake_session()
    session.new_object(BOX)
    session.set_prompts(1, CLICKED)
    session.new_object(OTHER)
    session.set_prompts(2, Prompts((8, 8, 20, 20)))
    session.select(1)
    session.undo()
    assert session.get(1).prompts == BOX
    assert session.get(2).prompts == Prompts((8, 8, 20, 20))
    session.undo()
    assert session.get(2).prompts == OTHER
    session.undo()
    assert session.get(2) is None


def test_redo_takes_the_current_object_first():
    session = fake_session()
    session.new_object(BOX)
    session.new_object(OTHER)
    session.set_prompts(1, CLICKED)
    session.set_prompts(2, Prompts((8, 8, 20, 20)))
    session.undo()
    session.select(1)
    session.undo()
    session.select(2)
    session.redo()
    assert session.get(2).prompts == Prompts((8, 8, 20, 20))
    assert session.get(1).prompts == BOX
    session.redo()
    assert session.get(1).prompts == CLICKED
    assert not session.can_redo


def test_undo_shows_the_mask_of_before_without_predicting():
    session = fake_session()
    session.new_object(BOX)
    session.set_prompts(1, CLICKED)
    calls = len(session.predictor.calls)
    session.undo()
    assert session.current.mask.area == 81
    assert not session.current.stale
    assert len(session.predictor.calls) == calls


def test_undo_of_an_empty_history_says_so():
    session = fake_session()
    assert (session.undo(), session.redo()) == (False, False)


def test_without_live_only_predict_now_predicts():
    session = fake_session()
    session.live = False
    session.new_object(BOX)
    assert session.current.mask is None
    session.predict_now()
    assert session.current.mask.area == 81
    session.set_prompts(1, CLICKED)
    assert session.current.stale


def test_commit_waits_for_the_mask_of_the_last_click():
    execute = ByHand()
    session = fake_session(execute)
    session.new_object(BOX)
    execute.run()
    session.set_prompts(1, CLICKED)
    assert session.commit() is False
    session.new_object(OTHER)  # whose request may not take the place of the one above
    execute.run()
    assert session.get(1).committed
    assert np.array_equal(session.labels == 1, drawn(SHAPE, CLICKED))
    assert session.current.id == 2
    assert session.current.mask.area == 121


@pytest.mark.parametrize("how", ["undo", "cancel", "prompts"])
def test_a_commit_that_waits_can_be_called_off(how):
    execute = ByHand()
    session = fake_session(execute)
    session.new_object(BOX)
    session.commit()
    if how == "prompts":
        session.set_prompts(1, CLICKED)
    else:
        getattr(session, how)()
    execute.run()
    assert areas(session) == {}


def test_a_commit_that_waits_is_called_off_when_the_prediction_fails():
    execute = ByHand()
    session = fake_session(execute)
    session.predictor.errors.append(RuntimeError("odd"))
    session.new_object(BOX)
    session.commit()
    execute.step()
    assert len(session.failures) == 1
    session.cancel()
    execute.run()
    assert areas(session) == {}


def test_another_model_makes_previews_stale_and_keeps_prompts_and_labels():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    session.new_object(OTHER)
    session.new_object(Prompts((0, 0, 3, 3)))
    session.set_predictor(FakePredictor(), ModelRef("other"))
    assert [one.stale for one in session.objects] == [False, True, False]  # 3 was predicted anew
    assert [one.prompts for one in session.objects][:2] == [BOX, OTHER]
    assert areas(session) == {1: 81}
    session.select(2)
    assert not session.current.stale


def test_an_existing_label_becomes_an_object_and_can_shrink():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 3:11] = 7
    session = fake_session(labels=labels)
    assert session.first_id == 8
    session.start_from_label(7, labels[2:10, 3:11] == 7, (2, 3))
    assert session.current.mask.area == 64
    assert session.current.prompts.mask.bbox == (2, 3, 10, 11)
    assert session.predictor.calls == []
    assert areas(session) == {}
    session.set_prompts(7, session.current.prompts.with_clicks([(2, 3)], [False]))
    session.commit()
    expected = drawn(SHAPE, session.get(7).prompts)
    assert np.array_equal(session.labels == 7, expected)
    assert expected.sum() < 64
    while session.undo():
        pass
    assert areas(session) == {7: 64}
    assert session.objects == ()


def test_segment_all_commits_each_box_and_is_one_step():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    done = []
    boxes = [(0, c, 2, c + 2) for c in range(0, 27, 4)] + [(5, 5, 8, 8)]
    session.segment_all(boxes, progress=lambda *n: done.append(n), batch=3)
    assert done == [(0, 8), (3, 8), (6, 8), (8, 8)]
    assert areas(session) == {1: 81} | dict.fromkeys(range(2, 9), 9)
    assert [one.id for one in session.objects if not one.committed] == [9]  # all covered by 1
    session.undo()
    assert areas(session) == {1: 81}
    assert [one.id for one in session.objects] == [1]
    session.redo()
    assert len(areas(session)) == 8
    session.undo()
    session.undo()
    assert areas(session) == {}


def test_boxes_of_many_predictions_are_undone_and_redone_in_one_telling():
    session = fake_session()
    session.segment_all([(0, c, 2, c + 2) for c in range(0, 24, 4)], batch=2)
    told, windows = [], []
    session.objects_changed.connect(lambda: told.append(len(session.objects)))
    session.labels_changed.connect(windows.append)
    session.undo()
    assert (told, len(windows)) == ([0], 6)
    session.redo()
    assert (told, len(windows)) == ([0, 6], 12)


def test_clicks_go_before_the_next_batch_and_undo_stays_in_order():
    execute = ByHand()
    session = fake_session(execute)
    session.segment_all([(0, c, 2, c + 2) for c in range(0, 24, 4)], batch=2)
    execute.step()
    session.new_object(OTHER)
    execute.step()  # the batch that was already running
    assert session.current.mask is None
    execute.step()
    assert session.current.mask.area == 121
    session.set_prompts(session.current.id, BOX)
    execute.run()
    assert len(areas(session)) == 6
    before = session.labels.copy()
    count = 0
    while session.undo():
        count += 1
    assert areas(session) == {}
    for _ in range(count):
        session.redo()
    assert np.array_equal(session.labels, before)


@pytest.mark.parametrize("how", ["cancel", "undo"])
def test_segment_all_can_be_stopped_between_batches(how):
    execute = ByHand()
    session = fake_session(execute)
    session.segment_all([(0, c, 2, c + 2) for c in range(0, 24, 4)], batch=2)
    execute.step()
    getattr(session, how)()
    execute.run()
    assert len(areas(session)) == (2 if how == "cancel" else 0)
    assert not session.is_busy
    session.segment_all([(10, 10, 12, 12)])
    execute.run()


def test_segment_all_keeps_what_was_done_when_a_batch_fails():
    session = fake_session()
    session.predictor.errors = []
    real = session.predictor.predict_many

    def predict_many(boxes):
        if boxes[0].box[1] >= 8:
            raise MemoryError("256 MB")
        return real(boxes)

    session.predictor.predict_many = predict_many
    session.segment_all([(0, c, 2, c + 2) for c in range(0, 24, 4)], batch=2)
    assert len(areas(session)) == 2
    assert len(session.failures) == 1
    assert "not enough memory" in session.failures[0]


def test_a_number_that_does_not_fit_is_refused_until_the_labels_are_wider():
    session = fake_session(labels=np.zeros(SHAPE, np.uint8))
    session.first_id = 256
    session.new_object(BOX)
    assert session.needed_dtype() == np.uint32
    with pytest.raises(LabelOverflowError, match=r"label 256 does not fit.*at most 255.*uint32"):
        session.commit()
    assert areas(session) == {}
    session.set_labels(session.labels.astype(session.needed_dtype()))
    assert session.needed_dtype() is None
    assert session.commit()
    assert areas(session) == {256: 81}
    with pytest.raises(LabelOverflowError):
        session.set_labels(np.zeros(SHAPE, np.uint8))


def test_new_numbers_are_above_those_in_the_labels_also_after_undo():
    session = fake_session()
    session.new_object(BOX)
    labels = np.zeros(SHAPE, np.uint16)
    labels[0, 0] = 40
    session.set_labels(labels)
    session.undo()
    assert session.new_object(BOX) == 41


class FullDisk(np.ndarray):
    """Labels whose store has no room left while `full`."""

    def __setitem__(self, key, value):
        if getattr(self, "full", False):
            self.full = False
            raise OSError(28, "No space left on device")
        super().__setitem__(key, value)


@pytest.mark.parametrize("action", ["commit", "undo", "redo", "reopen", "discard"])
def test_a_full_disk_is_told_and_changes_nothing(action):
    session = fake_session(labels=np.zeros(SHAPE, np.uint16).view(FullDisk))
    session.new_object(BOX)
    if action != "commit":
        session.commit()
    if action == "redo":
        session.undo()
    before = (np.array(session.labels), session.objects, session.can_undo, session.can_redo)
    session.labels.full = True
    result = getattr(session, action)(*([1] if action in ("commit", "reopen", "discard") else []))
    assert result is False
    assert len(session.failures) == 1
    assert "No space left" in session.failures[0]
    assert np.array_equal(session.labels, before[0])
    assert (session.objects, session.can_undo, session.can_redo) == before[1:]
    getattr(session, action)(*([1] if action in ("commit", "reopen", "discard") else []))
    assert not np.array_equal(session.labels, before[0])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda s: s.commit(), "No object is selected"),
        (lambda s: s.commit(5), "There is no object 5"),
        (lambda s: s.select(5), "There is no object 5"),
        (lambda s: s.commit(s.new_object()), "has no prompts"),
        (lambda s: (s.new_object(BOX), s.set_labels(None), s.commit()), "no labels to commit to"),
        (lambda s: s.set_labels(np.zeros((3, 4), int)), r"shape \(3, 4\), expected the image's"),
        (lambda s: s.set_labels(np.zeros(SHAPE)), "dtype float64, expected integers"),
        (lambda s: s.segment_all([(0, 0, 3, 3), (90, 90, 99, 99)]), "Box 2: .*outside"),
        (lambda s: s.start_from_label(0, np.ones((2, 2), bool), (0, 0)), "0 is the background"),
        (lambda s: s.start_from_label(3, np.ones((2, 2), bool), (23, 0)), "expected inside"),
        (lambda s: (s.new_object(id=4), s.new_object(id=4)), "Object 4 cannot be made"),
        (lambda s: (s.set_predictor(None), s.new_object(BOX), s.commit()), "Load a model"),
        (lambda s: (s.set_predictor(None), s.segment_all([(0, 0, 3, 3)])), "no model"),
        (lambda s: Session(None).segment_all([(0, 0, 3, 3)]), "There is no image"),
    ],
)
def test_what_cannot_be_done_is_said(action, message):
    with pytest.raises(ValueError, match=message):
        action(fake_session())


def test_an_object_that_would_get_no_pixel_is_not_committed():
    session = fake_session()
    session.new_object(OTHER)
    session.commit()
    session.new_object(Prompts((9, 9, 11, 11)))
    with pytest.raises(ValueError, match="would get no pixel"):
        session.commit()
    assert not session.current.committed
    assert areas(session) == {1: 121}


def test_an_empty_mask_is_not_committed():
    session = fake_session()
    session.new_object(Prompts((4, 4, 5, 5), [(4, 4)], [False]))
    assert session.current.mask.area == 0
    with pytest.raises(ValueError, match="no pixel to commit"):
        session.commit()


def test_clear_removes_the_open_objects_and_can_be_undone():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    session.new_object(OTHER)
    session.new_object(CLICKED)
    session.clear()
    assert [one.id for one in session.objects] == [1]
    assert areas(session) == {1: 81}
    session.undo()
    assert [one.prompts for one in session.objects] == [BOX, OTHER, CLICKED]


def test_another_image_forgets_the_objects_and_keeps_labels_that_fit():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    session.set_image(SHAPE, "second", lambda predictor: None)
    assert (session.objects, session.current, session.can_undo) == ((), None, False)
    assert areas(session) == {1: 81}
    assert session.first_id == 2
    session.set_image((5, 5), "third", lambda predictor: None)
    assert session.labels is None


def test_labels_that_are_only_read_and_written_in_windows():
    class Windows:
        """20,000 x 20,000, of which only small windows may be touched."""

        shape = (20_000, 20_000)
        dtype = np.dtype(np.uint32)

        def __init__(self):
            self.pixels = {}

        def __array__(self, *args, **kwargs):
            raise AssertionError("the whole array was asked for")

        def __getitem__(self, key):
            assert all(part.stop - part.start < 100 for part in key)
            return np.array(
                [
                    [self.pixels.get((r, c), 0) for c in range(key[1].start, key[1].stop)]
                    for r in range(key[0].start, key[0].stop)
                ],
                dtype=self.dtype,
            )

        def __setitem__(self, key, block):
            for (r, c), value in np.ndenumerate(block):
                self.pixels[key[0].start + r, key[1].start + c] = int(value)

    class Far(FakePredictor):
        def predict(self, box=None, points=None, labels=None, mask=None):
            from napari_pisam.predict.mask import Mask

            r0, c0, r1, c1 = (round(value) for value in box.box)
            crop = np.ones((r1 - r0, c1 - c0), bool)
            return Mask(Windows.shape, (r0, c0, r1, c1), crop, 0.5, (r0, c0, r1, c1))

    session = fake_session(labels=Windows(), shape=Windows.shape)
    session.set_predictor(Far())
    session.new_object(Prompts((15_000, 15_000, 15_010, 15_010)))
    session.commit()
    assert sum(value == 1 for value in session.labels.pixels.values()) == 100
    session.undo()
    assert not any(session.labels.pixels.values())


def test_importing_a_session_imports_neither_torch_nor_qt_nor_napari():
    code = (
        "import sys; import napari_pisam.session.session, napari_pisam.session.storage, "
        "napari_pisam.session.identity; "
        "print([m for m in ('torch', 'napari', 'qtpy', 'PyQt6') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_a_click_costs_the_same_after_many_committed_objects():
    session = fake_session(rule=CommitRule.OVERWRITE)
    session.objects_changed.connect(lambda: None)

    def work():
        """One object from box to commit; the memory that stays and the steps it took."""
        steps = [0]

        def count(*_):
            steps[0] += 1

        tracemalloc.start()
        sys.setprofile(count)
        session.new_object(BOX)
        session.set_prompts(session.current.id, CLICKED)
        session.commit()
        sys.setprofile(None)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return steps[0], kept

    for _ in range(5):
        work()
    first = np.median([work() for _ in range(9)], axis=0)
    session.live = False
    for _ in range(500):
        session.new_object(BOX)
        session.predict_now()
        session.commit()
    session.live = True
    last = np.median([work() for _ in range(9)], axis=0)
    assert last[0] == first[0]
    assert last[1] < 1.2 * first[1] + 2000


def waiting_objects(session, boxes):
    session.live = False
    return [session.new_object(Prompts(box)) for box in boxes]


def test_segment_all_predicts_open_boxes_together_and_is_one_step():
    session = fake_session()
    calls = count_batches(session)
    opened = waiting_objects(session, [(0, c, 2, c + 2) for c in range(0, 16, 4)])
    session.select(opened[1])
    session.predict_now()  # this one has its mask already
    done = []
    session.segment_all([(5, 5, 7, 7)], opened=opened, progress=lambda *n: done.append(n), batch=3)
    assert [len(boxes) for boxes in calls] == [3, 1]
    assert done == [(0, 5), (1, 5), (4, 5), (5, 5)]
    assert areas(session) == dict.fromkeys(range(1, 6), 9)
    assert session.current is None
    session.undo()
    assert areas(session) == {}
    assert [(one.id, one.committed) for one in session.objects] == [(n, False) for n in opened]
    session.redo()
    assert areas(session) == dict.fromkeys(range(1, 6), 9)


def count_batches(session):
    calls = []
    real = session.predictor.predict_many

    def predict_many(boxes):
        calls.append(list(boxes))
        return real(boxes)

    session.predictor.predict_many = predict_many
    return calls


@pytest.mark.parametrize("how", ["edited", "discarded", "committed"])
def test_segment_all_leaves_an_open_box_alone_that_was_changed_meanwhile(how):
    execute = ByHand()
    session = fake_session(execute)
    first, second = waiting_objects(session, [(0, 0, 2, 2), (0, 4, 2, 6)])
    session.segment_all([], opened=[first, second])
    if how == "edited":
        session.set_prompts(second, Prompts((0, 8, 2, 10)))
    else:
        (session.discard if how == "discarded" else session.commit)(second)
    execute.run()
    assert areas(session) == ({1: 9, 2: 9} if how == "committed" else {1: 9})
    assert not session.failures


def test_the_next_boxes_are_computed_while_the_last_ones_are_written():
    execute = ByHand()
    session = fake_session(execute)
    session.segment_all([(0, c, 2, c + 2) for c in range(0, 16, 4)], batch=2)
    written = []
    session.labels_changed.connect(lambda _window: written.append(len(execute.jobs)))
    execute.step()
    assert written == [1, 1]
    execute.run()
    assert len(areas(session)) == 4


def test_segment_all_says_how_many_boxes_were_not_committed():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    session.segment_all([(5, 5, 8, 8), (0, 20, 2, 22)])
    assert len(areas(session)) == 2
    (sentence,) = session.failures
    assert sentence.startswith("1 of 2 boxes were not committed")


def test_after_a_failed_write_segment_all_stops_and_computes_nothing_more():
    execute = ByHand()
    session = fake_session(execute)
    calls = count_batches(session)
    session.segment_all([(0, c, 2, c + 2) for c in range(0, 24, 4)], batch=2)
    store = session._document.store
    store.write = lambda *_: (_ for _ in ()).throw(OSError("No space left on device"))
    execute.run()
    assert len(calls) == 2
    assert areas(session) == {}
    assert not session.is_busy
    (sentence,) = session.failures
    assert "No space left" in sentence


# -- what others do to the labels ----------------------------------------------------------------


def test_a_new_object_gets_a_number_that_the_labels_do_not_have():
    labels = np.zeros(SHAPE, np.uint16)
    labels[20:, 20:] = [[1] * 10] * 4
    session = fake_session(labels=labels)
    session.new_object(BOX, id=1)
    session.commit()
    assert [(one.id, one.committed) for one in session.objects] == [(2, True)]
    assert (labels == 1).sum() == 40
    assert (labels == 2).any()
    session.undo()
    assert [(one.id, one.committed) for one in session.objects] == [(1, False)]
    assert not (labels == 2).any()
    session.redo()
    assert [(one.id, one.committed) for one in session.objects] == [(2, True)]


def test_a_label_painted_after_an_object_was_begun_is_not_joined():
    session = fake_session()
    for number in (1, 2):
        session.new_object(BOX if number == 1 else Prompts((15, 1, 20, 9)))
        session.labels[22:24, 25:28] = number
        session.commit()
        session.labels[22:24, 25:28] = 0
    assert [one.id for one in session.objects] == [2, 3]


def test_boxes_segmented_together_get_numbers_that_the_labels_do_not_have():
    session = fake_session()
    session.labels[0, 0] = 2
    opened = session.new_object(BOX)
    boxes = [(15.0, 1.0, 20.0, 9.0), (15.0, 12.0, 20.0, 19.0)]
    session.segment_all(boxes, opened=[opened])
    assert all(one.committed for one in session.objects)
    assert [one.id for one in session.objects] == [1, 3, 4]
    assert (session.labels == 2).sum() == 1


def test_an_ignore_label_at_the_end_of_the_type_takes_no_numbers():
    labels = np.zeros(SHAPE, np.uint32)
    labels[0] = 2**32 - 1
    labels[1, 0] = 5
    session = fake_session(labels=labels)
    assert session.new_object(BOX) == 6
    session.commit()
    assert session.needed_dtype() is None


@pytest.mark.parametrize(
    ("dtype", "wider"),
    [
        (np.uint8, np.uint32),
        (np.uint16, np.uint32),
        (np.int8, np.int32),
        (np.int16, np.int32),
        (np.int32, np.int64),
    ],
)
def test_full_labels_say_a_type_that_they_can_become(dtype, wider):
    session = fake_session(labels=np.zeros(SHAPE, dtype))
    session.new_object(BOX, id=np.iinfo(dtype).max + 1)
    with pytest.raises(LabelOverflowError, match=f"wider type: {np.dtype(wider)}"):
        session.commit()
    assert session.needed_dtype() == wider
    session.set_labels(session.labels.astype(session.needed_dtype()))
    session.commit()


def test_erased_pixels_stay_erased_when_an_object_is_picked_up_and_committed_again():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    before = session.labels.copy()
    session.labels[5:8] = 0
    erased = session.labels.copy()
    assert (before != erased).any()
    session.reopen(1)
    assert not session.labels.any()
    np.testing.assert_array_equal(session.current.mask.to_array(), erased == 1)
    session.commit()
    np.testing.assert_array_equal(session.labels, erased)
    session.undo()
    session.undo()
    np.testing.assert_array_equal(session.labels, erased)
    assert session.get(1).prompts == BOX


def test_pixels_painted_onto_an_object_belong_to_it_when_it_is_picked_up():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    row, col = np.argwhere(session.labels == 1)[-1]
    session.labels[row, col : col + 9] = 1
    painted = session.labels.copy()
    session.reopen(1)
    assert not session.labels.any()
    session.commit()
    np.testing.assert_array_equal(session.labels, painted)


def test_a_label_that_was_picked_up_keeps_what_was_erased_from_it():
    session = fake_session()
    session.labels[3:9, 3:12] = 7
    session.start_from_label(7, np.ones((6, 9), bool), (3, 3))
    session.commit()
    session.labels[3:5] = 0
    erased = session.labels.copy()
    session.reopen(7)
    session.commit()
    np.testing.assert_array_equal(session.labels, erased)
    assert session.get(7).committed


def test_an_object_that_was_erased_wholly_says_so():
    session = fake_session()
    session.new_object(BOX)
    session.commit()
    session.labels[:] = 0
    with pytest.raises(ValueError, match="Nothing is left of object 1"):
        session.reopen(1)
    session.discard(1)
    assert session.objects == ()


# -- cleaning ---------------------------------------------------------------------------------


def squares():
    """Two committed objects beside each other and an open one."""
    session = fake_session()
    for box in ((2, 2, 9, 9), (2, 10, 9, 17), (14, 2, 20, 9)):
        session.new_object(Prompts(box))
        if box[0] == 2:
            session.commit()
    return session


def grown(session, number, by=2):
    mask = session.pixels(number)
    crop, origin = Cleaning(grow=by).apply(mask.crop, mask.origin, SHAPE)
    return MaskPrompt.from_any((crop, origin))


def test_a_committed_object_is_reshaped_in_one_step_and_neighbours_keep_their_pixels():
    session = squares()
    before = session.labels.copy()
    wanted = grown(session, 1)
    assert session.reshape({1: wanted})
    assert (session.labels == 1).sum() > (before == 1).sum()
    assert np.array_equal(session.labels == 2, before == 2)
    assert session.get(1).committed
    assert session.get(1).prompts == Prompts(mask=wanted)
    session.undo()
    assert np.array_equal(session.labels, before)
    assert session.get(1).prompts.box == (2, 2, 9, 9)
    session.redo()
    session.rule = CommitRule.OVERWRITE
    session.reshape({1: grown(session, 1)})
    assert (session.labels == 2).sum() < (before == 2).sum()


def test_an_open_object_is_reshaped_and_clicks_go_on_from_there():
    session = squares()
    smaller = grown(session, 3, -2)
    session.reshape({3: smaller})
    assert session.get(3).mask.bbox == smaller.bbox
    assert not session.get(3).stale
    session.set_prompts(3, session.get(3).prompts.with_clicks([(3, 20)], [True]))
    session.undo()
    session.undo()
    assert session.get(3).prompts.box == (14, 2, 20, 9)


def test_two_become_one_and_one_two_each_in_one_step():
    session = squares()
    before = session.labels.copy()
    both = MaskPrompt.joined([session.pixels(1), session.pixels(2)])
    session.reshape({1: both, 2: None})
    assert session.get(2) is None
    assert np.array_equal(session.labels == 1, before > 0)
    halves = split(both.crop, np.array([(4.0, -1.0), (4.0, 30.0)]))
    first, second = (MaskPrompt.from_any((half, both.origin)) for half in halves)
    session.reshape({1: first, 7: second})
    assert session.get(7).committed
    assert np.array_equal(session.labels > 0, before > 0)
    assert (session.labels == 7).any()
    session.undo()
    session.undo()
    assert np.array_equal(session.labels, before)
    assert [one.id for one in session.objects] == [1, 2, 3]


def test_pixels_painted_by_hand_belong_to_what_is_reshaped():
    session = squares()
    session.labels[10:12, 2:5] = 1
    session.reshape({1: session.pixels(1)})
    assert (session.labels[10:12, 2:5] == 1).all()
    session.discard(1)
    assert not (session.labels == 1).any()


def test_masks_are_cleaned_when_they_are_committed_and_once_only(tmp_path):
    session = fake_session()
    session.cleaning = Cleaning(grow=2)
    session.new_object(Prompts((8, 8, 12, 12)))
    raw = session.current.mask.area
    session.commit()
    first = session.labels.copy()
    assert (first == 1).sum() > raw
    session.reopen(1)
    session.commit()
    assert np.array_equal(session.labels, first)
    save_session(tmp_path / "s.pisam", session)
    state = load_session(tmp_path / "s.pisam").state
    assert [one.cleaning for one in state.journal if hasattr(one, "cleaning")] == [
        Cleaning(grow=2)
    ] * 2
    again = fake_session(labels=session.labels.copy())
    again.cleaning = Cleaning(grow=2)
    again.from_state(state)
    again.reopen(1)
    again.commit()
    assert np.array_equal(again.labels, first)
    session.set_prompts(1, Prompts((8, 8, 12, 13)))
    session.commit()
    assert (session.labels == 1).sum() > (first == 1).sum()
