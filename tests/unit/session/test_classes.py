"""Classes of objects: given, undone, saved, and read from older files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fake_session import SHAPE, FakePredictor, at_once
from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.classes import ClassList, ObjectClass, clean_name
from napari_pisam.session.session import CommitRule, ModelRef, Session
from napari_pisam.session.storage import SavedPlane, SessionFile, load_session, save_planes

BOX, OTHER = (2.0, 2.0, 8.0, 9.0), (12.0, 12.0, 18.0, 20.0)
OLD = Path(__file__).parents[2] / "fixtures" / "session_v1.pisam"


@pytest.fixture
def session():
    made = Session(at_once)
    made.set_image(SHAPE, "", lambda predictor: None)
    made.set_labels(np.zeros(SHAPE, np.uint16))
    made.set_predictor(FakePredictor(), ModelRef("fake"))
    return made


def classes(session):
    return {one.id: one.class_name for one in session.objects}


def test_a_class_is_given_undone_and_redone_and_nothing_else_changes(session):
    session.new_object(Prompts(BOX))
    session.commit(1)
    session.new_object(Prompts(OTHER))
    labels = session.labels.copy()
    masks = [one.mask for one in session.objects]
    session.set_class([1, 2], "nucleus")
    assert classes(session) == {1: "nucleus", 2: "nucleus"}
    assert [one.mask for one in session.objects] == masks
    session.undo()
    assert classes(session) == {1: "", 2: ""}
    session.redo()
    assert classes(session) == {1: "nucleus", 2: "nucleus"}
    np.testing.assert_array_equal(session.labels, labels)
    # The prompts before it are undone after it.
    session.undo()
    session.undo()
    assert classes(session) == {1: ""}


def test_the_same_class_again_is_no_step(session):
    session.new_object(Prompts(BOX))
    session.set_class([1], "nucleus")
    session.set_class([1], "nucleus")
    session.undo()
    assert classes(session) == {1: ""}


def test_objects_to_come_have_the_class_that_was_chosen(session):
    session.class_name = "nucleus"
    session.new_object(Prompts(BOX))
    session.commit(1)
    session.segment_all([OTHER])
    assert classes(session) == {1: "nucleus", 2: "nucleus"}
    session.reopen(1)
    assert session.get(1).class_name == "nucleus"


def test_classes_are_saved_and_come_back(session, tmp_path):
    session.new_object(Prompts(BOX))
    session.set_class([1], "nucleus")
    known = (ObjectClass("nucleus", "#ff0000"), ObjectClass("wall", "#00ff00"))
    save_planes(tmp_path / "a.pisam", SessionFile((SavedPlane(session.to_state()),), classes=known))
    again = load_session(tmp_path / "a.pisam")
    assert again.classes == known
    assert [record.view.class_name for record in again.state.records] == ["nucleus"]


def test_older_files_have_no_classes():
    old = load_session(OLD)
    assert old.classes == ()
    assert {record.view.class_name for record in old.state.records} == {""}


def test_masks_from_elsewhere_become_objects_in_one_step(session):
    labels = session.labels
    labels[0:3, 20:25] = 7
    session.set_labels(labels)
    squares = [
        (number, Prompts(mask=MaskPrompt(np.ones((3, 4), bool), (row, 1))), "nucleus")
        for number, row in ((5, 4), (7, 10), (9, 16))
    ]
    assert session.adopt(squares, commit=True)
    # 7 is somebody else's.
    numbers = [one.id for one in session.objects]
    assert numbers[0] == 5
    assert 7 not in numbers
    assert set(np.unique(session.labels)) == {0, 7, *numbers}
    assert set(classes(session).values()) == {"nucleus"}
    assert all(one.committed for one in session.objects)
    session.undo()
    assert not session.objects
    assert set(np.unique(session.labels)) == {0, 7}


def test_starts_stay_open_and_are_committed_as_they_are(session):
    start = Prompts(mask=MaskPrompt(np.ones((3, 4), bool), (4, 1)))
    session.adopt([(3, start, "")], commit=False)
    assert not session.labels.any()
    assert session.get(3).mask.area == 12
    session.commit(3)
    assert (session.labels == 3).sum() == 12


def test_a_start_that_would_get_no_pixel_stays_open(session):
    session.rule = CommitRule.KEEP
    mask = Prompts(mask=MaskPrompt(np.ones((3, 4), bool), (4, 1)))
    session.adopt([(1, mask, ""), (2, mask, "")], commit=True)
    assert [one.committed for one in session.objects] == [True, False]


def test_masks_outside_of_the_image_are_refused(session):
    outside = Prompts(mask=MaskPrompt(np.ones((3, 4), bool), (400, 1)))
    with pytest.raises(ValueError, match="inside"):
        session.adopt([(1, outside, "")], commit=True)
    assert not session.objects


@pytest.mark.parametrize("name", ["", " a", "a\nb", "x" * 101, "\x1b[2J"])
def test_names_that_cannot_be_are_refused_or_made_good(name):
    with pytest.raises(ValueError, match="expected 1 to 100"):
        ObjectClass(name, "#ffffff")
    good = clean_name(name)
    assert not good or ObjectClass(good, "#ffffff")


def test_new_classes_get_colours_of_their_own_and_names_are_not_given_twice():
    classes = ClassList()
    told = []
    classes.changed.connect(lambda: told.append(1))
    classes.add(["a", "b", "a"])
    assert len(classes) == 2
    assert len({one.color for one in classes}) == 2
    classes.merge([ObjectClass("a", "#000000")])
    assert classes.get("a").color != "#000000"
    assert len(told) == 2
    with pytest.raises(ValueError, match="Two classes"):
        classes.replace([ObjectClass("a", "#000000")] * 2)
    with pytest.raises(ValueError, match="#rrggbb"):
        ObjectClass("a", "red")
