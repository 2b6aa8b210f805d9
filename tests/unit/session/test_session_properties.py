"""Any sequence of operations can be undone and redone, and touches only its windows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_session import SHAPE, drawn, fake_session
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session.session import CommitRule

FOREIGN = 9
COORDINATES = st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1))


@st.composite
def prompts(draw):
    (r0, c0), (r1, c1) = draw(COORDINATES), draw(COORDINATES)
    box = (min(r0, r1) - 0.5, min(c0, c1) - 0.5, max(r0, r1) + 0.5, max(c0, c1) + 0.5)
    clicks = draw(st.lists(st.tuples(COORDINATES, st.booleans()), max_size=2))
    return Prompts(box, [c for c, _ in clicks], [f for _, f in clicks])


NUMBERS = st.integers(0, 5)
EDITS = (
    st.tuples(st.just("new"), st.none() | prompts()),
    st.tuples(st.just("prompts_current"), st.none() | prompts()),
    st.tuples(st.just("commit"), NUMBERS),
    st.tuples(st.just("discard"), NUMBERS),
    st.tuples(st.just("reopen"), NUMBERS),
    st.tuples(st.just("rule"), st.sampled_from(list(CommitRule))),
    st.tuples(st.just("boxes"), st.lists(prompts(), min_size=1, max_size=4)),
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("clear"), st.none()),
)
MOVES = (
    st.tuples(st.just("prompts"), st.tuples(NUMBERS, st.none() | prompts())),
    st.tuples(st.just("select"), NUMBERS),
    st.tuples(st.just("undo"), st.none()),
    st.tuples(st.just("redo"), st.none()),
)


def any_labels():
    labels = np.zeros(SHAPE, np.uint16)
    labels[3:9, 3:9] = FOREIGN
    labels[12:20, 14:25] = FOREIGN + 1
    return labels


def do(session, operation, value):
    """Do something; what cannot be done raises and has to change nothing."""
    numbers = [one.id for one in session.objects]
    if operation in ("commit", "discard", "reopen", "select"):
        value = numbers[value % len(numbers)] if numbers else None
    if operation == "new":
        session.new_object(value)
    elif operation == "prompts_current":
        if session.current is not None and not session.current.committed:
            session.set_prompts(session.current.id, value)
    elif operation == "prompts":
        if numbers:
            session.set_prompts(numbers[value[0] % len(numbers)], value[1])
    elif operation == "rule":
        session.rule = value
    elif operation == "boxes":
        opened = [one.id for one in session.objects if one.is_only_box]
        session.segment_all([one.box for one in value], opened=opened, batch=2)
    elif operation == "start":
        if session.get(FOREIGN) is None and (session.labels[3:9, 3:9] == FOREIGN).any():
            session.start_from_label(FOREIGN, session.labels[3:9, 3:9] == FOREIGN, (3, 3))
    elif operation in ("clear", "undo", "redo"):
        getattr(session, operation)()
    elif operation == "select":
        session.select(value)
    elif value is not None:
        getattr(session, operation)(value)


def seen(session):
    objects = [(one.id, one.prompts, one.committed) for one in session.objects]
    return objects, session.labels.tolist()


def attempt(session, operation, value):
    before = seen(session)
    try:
        do(session, operation, value)
    except ValueError:
        assert seen(session) == before


def is_rightly_refused(session, text):
    """Whether it says that other labels cover all of an object, and they do."""
    if "would get no pixel" not in text:
        return False
    one = session.get(int(text.split()[1]))
    row0, col0, row1, col1 = one.mask.bbox
    under = session.labels[row0:row1, col0:col1][one.mask.crop]
    return bool(((under != 0) & (under != one.id)).all())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(*EDITS, *MOVES), max_size=14), st.booleans())
def test_undone_entirely_and_redone(operations, live):
    session = fake_session(labels=any_labels())
    session.live = live
    begin = seen(session)
    refused = []
    for operation in operations:
        told = len(session.failures)
        attempt(session, *operation)
        refused += [text for text in session.failures[told:] if is_rightly_refused(session, text)]
    end = seen(session)
    count = 0
    while session.can_undo:
        assert session.undo()
        count += 1
    assert seen(session) == begin
    for _ in range(count):
        assert session.redo()
    assert seen(session) == end
    rest = [text for text in session.failures if text not in refused]
    assert all("were not committed" in text for text in rest)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(*EDITS), max_size=12))
def test_each_undo_without_a_current_object_takes_back_what_was_last(operations):
    session = fake_session(labels=any_labels())
    states = [seen(session)]
    for operation in operations:
        attempt(session, *operation)
        if seen(session) != states[-1]:
            states.append(seen(session))
    for state in reversed(states[:-1]):
        session.select(None)  # else the current object's prompts would come first
        assert session.undo()
        assert seen(session) == state
    while session.can_undo:  # what changed nothing to be seen, a commit of painted pixels say
        session.undo()
    assert seen(session) == states[0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(*EDITS, *MOVES), max_size=14))
def test_labels_change_only_in_the_windows_that_are_told(operations):
    session = fake_session(labels=any_labels())
    for operation, value in operations:
        windows, before = [], session.labels.copy()
        masks = {tuple(one.mask.bbox) for one in session.objects if one.mask is not None}
        session.labels_changed.connect(windows.append)
        attempt(session, operation, value)
        session.labels_changed.disconnect()
        outside = np.ones(SHAPE, bool)
        for row0, col0, row1, col1 in windows:
            outside[row0:row1, col0:col1] = False
        assert np.array_equal(session.labels[outside], before[outside])
        if operation in ("commit", "discard", "reopen"):
            assert set(windows) <= masks


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(*EDITS, *MOVES), max_size=14))
def test_masks_that_are_not_stale_are_those_of_their_prompts(operations):
    session = fake_session(labels=any_labels())
    for operation in operations:
        attempt(session, *operation)
        for one in session.objects:
            if one.mask is not None and not one.stale:
                assert np.array_equal(one.mask.to_array(), drawn(SHAPE, one.prompts))
        current = session.current
        if current is not None and current.prompts is not None and not current.committed:
            assert current.mask is not None
            assert not current.stale


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(*EDITS, *MOVES), max_size=12))
def test_labels_hold_no_number_of_an_object_that_is_not_committed(operations):
    session = fake_session()  # empty labels: every number in them is an object's
    for operation in operations:
        attempt(session, *operation)
        committed = {one.id for one in session.objects if one.committed}
        assert set(np.unique(session.labels).tolist()) <= committed | {0}
