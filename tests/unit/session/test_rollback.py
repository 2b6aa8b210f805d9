"""What was begun to be written into labels on disk and not finished is taken back."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import zarr

from napari_pisam.session.rollback import RollbackJournal, roll_back

PART = (1, slice(2, 12), slice(3, 18))
SHAPE = (3, 20, 30)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_AUTOSAVE", str(tmp_path / "autosaves"))
    return tmp_path / "autosaves" / "unfinished"


@pytest.fixture(params=[2, 3])
def labels(request, tmp_path, folder):
    place = tmp_path / "labels.zarr"
    data = zarr.create_array(
        place, shape=SHAPE, chunks=(1, 8, 8), dtype="uint16", zarr_format=request.param
    )
    data[1, :6] = 4
    return data


def begin(data, after, part=PART, written=PART):
    """Write less than what was noted, as a process that is killed."""
    journal = RollbackJournal(data)
    journal.note(part, after)
    data[written] = 7
    return journal


def test_what_was_not_finished_is_taken_back_and_what_was_painted_since_stays(labels, folder):
    before = labels[:]
    begin(labels, np.full((10, 15), 7), written=(1, slice(2, 7), slice(3, 18))).close(
        is_whole=False
    )
    labels[1, 4, 5] = 9
    assert roll_back(labels)
    before[1, 4, 5] = 9
    np.testing.assert_array_equal(labels[:], before)
    assert not roll_back(labels)
    assert not list(folder.iterdir())


def test_several_writes_of_one_edit_go_back_in_their_order(labels):
    before = labels[:]
    journal = begin(labels, np.full((10, 15), 7))
    journal.note(PART, np.full((10, 15), 8))
    labels[1, 2:6, 3:18] = 8
    journal.close(is_whole=False)
    assert roll_back(labels)
    np.testing.assert_array_equal(labels[:], before)


def test_what_was_finished_stays(labels, folder):
    begin(labels, np.full((10, 15), 7)).close(is_whole=True)
    assert not list(folder.iterdir())
    assert not roll_back(labels)
    assert (labels[PART] == 7).all()


def test_what_another_process_is_writing_is_left_alone(labels):
    journal = begin(labels, np.full((10, 15), 7))
    assert not roll_back(labels)
    assert (labels[PART] == 7).all()
    journal.close(is_whole=False)
    assert roll_back(labels)


def test_labels_that_are_elsewhere_or_in_memory_are_left_alone(labels, folder, tmp_path):
    begin(labels, np.full((10, 15), 7)).close(is_whole=False)
    other = zarr.create_array(tmp_path / "other.zarr", data=labels[:])
    assert not roll_back(other)
    for in_memory in (labels[:], zarr.create_array({}, data=labels[:])):
        begin(in_memory, np.full((10, 15), 8)).close(is_whole=False)
        assert not roll_back(in_memory)
    assert len(list(folder.iterdir())) == 1


def test_a_line_that_was_not_noted_wholly_was_not_begun(labels, folder):
    before = labels[:]
    begin(labels, np.full((10, 15), 7)).close(is_whole=False)
    (journal,) = folder.iterdir()
    journal.write_bytes(journal.read_bytes() + b'{"part": [[0, 1], [0, 2')
    assert roll_back(labels)
    np.testing.assert_array_equal(labels[:], before)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(b"[1, 2]", b"[1, 99]"),
        lambda text: text.replace(b"[1, 2], ", b""),
        lambda text: text.replace(b'"changed": "', b'"changed": "!'),
        lambda text: text.replace(b'"changed": "', b'"changed": "AAAA'),
        lambda text: text.replace(b'"new": 7', b'"new": null'),
        lambda text: text.replace(b"{", b"", 1),
    ],
)
def test_a_damaged_journal_is_named_and_changes_nothing(labels, folder, damage):
    begin(labels, np.full((10, 15), 7)).close(is_whole=False)
    (journal,) = folder.iterdir()
    journal.write_bytes(damage(journal.read_bytes()))
    before = labels[:]
    with pytest.raises(ValueError, match=journal.name):
        roll_back(labels)
    np.testing.assert_array_equal(labels[:], before)
    assert journal.exists()


def test_without_a_folder_to_note_in_labels_are_written_all_the_same(labels, folder):
    folder.parent.write_text("a file")
    begin(labels, np.full((10, 15), 7)).close(is_whole=True)
    assert (labels[PART] == 7).all()
    assert not roll_back(labels)


def test_a_disk_that_is_full_while_noting_is_told_before_anything_is_written(labels, monkeypatch):
    monkeypatch.setattr("napari_pisam.session.rollback.os.write", lambda _file, _line: 3)
    before = labels[:]
    with pytest.raises(OSError, match=r"labels|journal|space") as told:
        begin(labels, np.full((10, 15), 7))
    assert told.value.errno == errno.ENOSPC
    np.testing.assert_array_equal(labels[:], before)
