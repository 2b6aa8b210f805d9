"""The Fine-tune dock's logic on a viewer model: no window, fake runs, jobs at once or by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
pytest.importorskip("pydantic", reason="pydantic is not installed: pip install '.[train]'")

from napari.components import ViewerModel
from skimage.io import imsave

from fake_dock import ImagePredictor, click, draw_box
from fake_finetune import FakeBackend, Jobs
from fake_session import at_once
from napari_pisam.docks.finetune.controller import FineTuneController
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.session.session import ModelRef

SHAPE = (60, 240)


def discs(count=4, number=1):
    """(H, W) uint16 labels: discs in a row, numbered from `number`."""
    labels = np.zeros(SHAPE, np.uint16)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for place in range(count):
        labels[(rows - 30) ** 2 + (cols - 30 - 55 * place) ** 2 < 400] = number + place
    return labels


class Link:
    """Segment, as far as the Fine-tune dock sees it."""

    def __init__(self, controller=None):
        self.controller, self.used, self.is_loading = controller, [], False

    def sessions(self):
        found = self.controller.workspace.planes.sessions
        return [(image, plane, one) for image, of in found.items() for plane, one in of.items()]

    def use(self, weights, device):
        self.used.append((weights, device))
        return not self.is_loading


class Dock:
    """A controller with what it said."""

    def __init__(self, tmp_path, *, link=None, by_hand=False, **result):
        self.viewer = ViewerModel()
        self.backend, self.jobs = FakeBackend(tmp_path, **result), Jobs(by_hand=by_hand)
        self.link = link
        self.controller = FineTuneController(
            self.viewer, self.jobs, self.backend, lambda open_it: self.link
        )
        self.failures, self.hints, self.ended = [], [], []
        self.controller.failed.connect(self.failures.append)
        self.controller.hinted.connect(self.hints.append)
        self.controller.runner.ended.connect(self.ended.append)

    def add(self, labels=None, name="cells"):
        """Add a pair of layers and take it."""
        labels = discs() if labels is None else labels
        image = self.viewer.add_image(np.random.default_rng(0).random(SHAPE), name=name)
        layer = self.viewer.add_labels(labels, name=f"{name} labels")
        self.controller.add_layers(image, layer)
        return image, layer

    @property
    def rows(self):
        return self.controller.learning.rows

    @property
    def parts(self):
        return [row.part for row in self.rows]

    @property
    def run(self):
        return self.backend.runs[-1]


@pytest.fixture
def dock(tmp_path):
    return Dock(tmp_path)


# -- what is learned from -------------------------------------------------------------------------


def test_layers_become_objects_that_are_split(dock):
    dock.add()
    assert [(row.image, row.label, row.origin) for row in dock.rows] == [
        ("cells", number, "layers") for number in (1, 2, 3, 4)
    ]
    assert sorted(dock.parts) == ["training"] * 3 + ["validation"]
    assert dock.controller.learning.summary == "3 train, 1 validate · 1 image"


def test_labels_without_an_object_are_refused_with_a_sentence(dock):
    dock.add(np.zeros(SHAPE, np.uint16))
    assert dock.rows == []
    assert len(dock.failures) == 1
    assert "cells" in dock.failures[0]
    assert "object" in dock.failures[0]


def test_one_object_is_listed_and_start_says_that_one_is_too_few(dock):
    dock.add(discs(1))
    assert len(dock.rows) == 1
    dock.controller.start()
    assert dock.backend.checks == dock.backend.runs == []
    assert "only one object" in dock.failures[-1]


def test_labels_of_another_size_are_refused_and_both_sizes_are_named(dock):
    image = dock.viewer.add_image(np.zeros(SHAPE), name="cells")
    layer = dock.viewer.add_labels(np.ones((60, 200), np.uint8), name="wrong")
    dock.controller.add_layers(image, layer)
    assert dock.rows == []
    assert "(60, 200)" in dock.failures[0]
    assert "(60, 240)" in dock.failures[0]


def test_what_was_painted_after_adding_is_not_learned_from(dock):
    _, layer = dock.add()
    layer.data[:] = 0
    source = dock.controller.learning.images["cells"]
    np.testing.assert_array_equal(source.labels[:, :], discs())


def test_seventy_thousand_labels_are_listed(tmp_path):
    dock = Dock(tmp_path)
    labels = np.arange(70_000, dtype=np.uint32).reshape(700, 100)
    labels = np.kron(labels + 1, np.ones((6, 6), np.uint32))
    image = dock.viewer.add_image(np.zeros(labels.shape, np.uint8), name="many")
    dock.controller.add_layers(image, dock.viewer.add_labels(labels, name="many labels"))
    assert len(dock.rows) == 70_000
    counts = {part: dock.parts.count(part) for part in set(dock.parts)}
    assert set(counts) == {"training", "validation"}


def test_every_slice_with_labels_becomes_an_image(dock):
    stack = np.zeros((5, *SHAPE), np.uint16)
    stack[1], stack[3] = discs(2), discs(3)
    image = dock.viewer.add_image(np.zeros(stack.shape), name="stack")
    layer = dock.viewer.add_labels(stack, name="stack labels")
    dock.viewer.dims.set_point(0, 3)
    dock.controller.add_layers(image, layer)
    assert list(dock.controller.learning.images) == ["stack [3]"]
    dock.controller.add_layers(image, layer, all_slices=True)
    assert list(dock.controller.learning.images) == ["stack [3]", "stack [1]"]
    assert len(dock.rows) == 5
    parts = {row.image: {other.part for other in dock.rows if other.image == row.image}
             for row in dock.rows}  # fmt: skip
    assert sorted(parts.values(), key=str) == [{"training"}, {"validation"}]


def test_the_same_layers_twice_are_there_once(dock):
    image, layer = dock.add()
    layer.data[:, :60] = 0
    dock.controller.add_layers(image, layer)
    assert [row.label for row in dock.rows] == [2, 3, 4]


def test_folders_are_read_and_two_files_of_the_same_name_stay_apart(dock, tmp_path):
    for folder in ("a", "b"):
        for kind, array in (("images", np.zeros(SHAPE, np.uint8)), ("masks", discs())):
            (tmp_path / folder / kind).mkdir(parents=True)
            imsave(tmp_path / folder / kind / "one.png", array.astype(np.uint8),
                   check_contrast=False)  # fmt: skip
    for folder in ("a", "b", "a"):
        dock.controller.add_folders(tmp_path / folder / "images", tmp_path / folder / "masks")
    assert dock.failures == []
    assert len(dock.controller.learning.images) == 2
    assert len(dock.rows) == 8


def test_folders_that_do_not_fit_are_refused_with_the_names(dock, tmp_path):
    for kind, name in (("images", "a"), ("masks", "b")):
        (tmp_path / kind).mkdir()
        imsave(tmp_path / kind / f"{name}.png", discs().astype(np.uint8), check_contrast=False)
    dock.controller.add_folders(tmp_path / "images", tmp_path / "masks")
    assert dock.rows == []
    assert "a" in dock.failures[0]


def test_what_the_user_decided_stays_when_another_image_comes(dock):
    dock.add()
    chosen = dock.parts.index("training")
    dock.controller.learning.set_part([chosen], "unused")
    dock.add(name="more")
    assert dock.rows[chosen].part == "unused"
    dock.controller.learning.split_again()
    assert "unused" not in dock.parts


def test_a_validation_set_emptied_by_hand_is_refused(dock):
    dock.add()
    dock.controller.learning.set_part(range(4), "training")
    dock.controller.start()
    assert dock.backend.checks == []
    assert "valid" in dock.failures[-1]


def test_an_image_can_be_taken_out(dock):
    dock.add()
    dock.add(name="more")
    dock.controller.learning.remove(["cells"])
    assert {row.image for row in dock.rows} == {"more"}


def test_while_labels_are_read_nothing_else_is_read_or_started(tmp_path):
    dock = Dock(tmp_path, by_hand=True)
    image, layer = dock.add()
    dock.controller.add_layers(image, layer)
    dock.controller.start()
    assert len(dock.jobs.waiting) == 1
    dock.jobs.run()
    assert len(dock.rows) == 4


# -- from Segment -----------------------------------------------------------------------------


@pytest.fixture
def segmented(tmp_path):
    """Two objects committed in Segment, the first one with two clicks, and the dock."""
    dock = Dock(tmp_path)
    dock.viewer.add_image(np.zeros(SHAPE), name="cells")
    segment = SegmentController(dock.viewer, at_once)
    segment.start()
    segment.set_model(ImagePredictor(), ModelRef("fake"))
    choice = segment.workspace.choice
    draw_box(choice["boxes"], (10.0, 10.0, 40.0, 40.0))
    click(choice["clicks"], 42, 20)
    segment.set_foreground(False)
    click(choice["clicks"], 12, 12)
    segment.commit()
    draw_box(choice["boxes"], (10.0, 100.0, 40.0, 140.0))
    segment.commit()
    dock.segment, dock.link = segment, Link(segment)
    return dock


def test_committed_objects_come_with_their_clicks(segmented):
    segmented.controller.add_session()
    assert [(row.label, row.clicks, row.origin) for row in segmented.rows] == [
        (1, 2, "session"),
        (2, 0, "session"),
    ]
    clicks = segmented.controller.learning.images["cells"].clicks
    np.testing.assert_array_equal(clicks[1].points, [(42, 20), (12, 12)])
    assert clicks[1].labels.tolist() == [True, False]


def test_labels_that_were_not_committed_here_are_not_taken_from_segment(segmented):
    segmented.segment.workspace.choice["labels"].data[50:, 200:] = 9
    segmented.controller.add_session()
    assert [row.label for row in segmented.rows] == [1, 2]


def test_committed_objects_are_there_without_their_labels_layer(segmented):
    segmented.viewer.layers.remove(segmented.segment.workspace.choice["labels"])
    segmented.controller.add_session()
    assert [row.area for row in segmented.rows] == [
        one.mask.area for one in segmented.segment.session.objects
    ]


def test_an_image_that_is_committed_in_replaces_its_layer_pair(segmented):
    image = segmented.segment.workspace.choice["image"]
    segmented.controller.add_layers(image, segmented.segment.workspace.choice["labels"])
    segmented.controller.add_session()
    assert [row.origin for row in segmented.rows] == ["session", "session"]


def test_nothing_committed_is_said_where_it_was_asked_for(dock):
    dock.controller.add_session(is_asked=False)
    assert dock.hints == []
    dock.controller.add_session()
    assert "Segment" in dock.hints[0]


# -- check and start ---------------------------------------------------------------------------


def test_start_checks_and_then_begins_a_run_with_what_is_shown(dock):
    dock.add()
    dock.controller.set_values({"base": "tiny", "minutes": 2.0, "epochs": None})
    dock.controller.start()
    settings, images, rows = dock.backend.created[0]
    assert settings.minutes == 2.0
    assert [image.name for image in images] == ["cells"]
    assert [row.part for row in rows] == dock.parts
    assert len(dock.backend.checks) == 1
    assert dock.run.commands == ["start"]
    assert dock.controller.runner.state.status == "running"


def test_a_check_counts_until_something_changes(dock):
    dock.add()
    dock.controller.check()
    dock.controller.start()
    assert len(dock.backend.checks) == 1
    dock.controller.stop()
    dock.controller.learning.split_again()
    dock.controller.start()
    assert len(dock.backend.checks) == 2


def test_a_problem_is_shown_and_nothing_starts(tmp_path):
    dock = Dock(tmp_path, problems=("The disk has room for 3 MB, 200 MB are needed.",))
    dock.add()
    dock.controller.start()
    assert dock.failures == ["The disk has room for 3 MB, 200 MB are needed."]
    assert dock.backend.runs == []


def test_a_change_during_the_check_does_not_start_what_was_not_checked(tmp_path):
    dock = Dock(tmp_path, by_hand=True)
    dock.add()
    dock.jobs.run()
    dock.controller.start()
    dock.controller.learning.split_again()
    dock.jobs.run()
    assert dock.backend.runs == []
    assert "again" in dock.hints[-1]


def test_stop_gives_up_a_check(tmp_path):
    dock = Dock(tmp_path, by_hand=True)
    dock.add()
    dock.jobs.run()
    dock.controller.start()
    dock.controller.stop()
    dock.jobs.run()
    assert dock.backend.runs == []
    assert dock.hints[-1] == "The check was given up; nothing was started."
    assert not dock.controller.is_occupied


def test_settings_that_do_not_work_are_refused(dock):
    dock.add()
    dock.controller.set_values({"batch": -1})
    dock.controller.start()
    assert "batch" in dock.failures[-1]
    assert dock.backend.checks == []


def test_missing_packages_are_named_with_the_command_that_installs_them(dock):
    dock.add()
    dock.backend.missing = ["lightning-fabric"]
    dock.controller.start()
    assert "pip install 'napari-pisam[train]'" in dock.failures[-1]


def test_the_base_is_fetched_before_the_check_and_stop_gives_that_up(tmp_path):
    dock = Dock(tmp_path, by_hand=True)
    dock.add()
    dock.jobs.run()
    dock.controller.set_values({"base": "sam_vit_b"})
    dock.controller.start()

    def fetch(base, report, cancelled):
        report(1_000_000, 375_000_000)
        assert dock.controller.activity.detail == "downloading sam_vit_b, 1 MB of 375 MB"
        dock.controller.stop()
        assert cancelled()
        raise OSError("cancelled")

    dock.backend.fetch = fetch
    dock.jobs.run()
    assert dock.backend.checks == dock.failures == []
    assert "given up" in dock.hints[-1]


def test_a_run_that_cannot_be_written_leaves_the_dock_usable(dock):
    dock.add()
    dock.backend.create_error = OSError(28, "No space left on device")
    dock.controller.start()
    assert "No space left" in dock.failures[-1]
    dock.backend.create_error = None
    dock.controller.start()
    assert dock.run.commands == ["start"]


def test_a_layer_deleted_while_it_trains_changes_nothing(dock):
    dock.add()
    dock.controller.start()
    dock.viewer.layers.clear()
    dock.run.finish(is_better=True)
    dock.controller.runner.poll()
    assert [state.status for state in dock.ended] == ["finished"]
    assert len(dock.rows) == 4


# -- the run and its result ----------------------------------------------------------------------


def test_pause_resume_and_stop_reach_the_run(dock):
    dock.add()
    dock.controller.start()
    runner = dock.controller.runner
    runner.pause()
    assert runner.state.status == "paused"
    assert runner.can_resume
    runner.resume()
    dock.controller.stop()
    assert dock.run.commands == ["start", "pause", "resume", "stop"]
    assert not runner.is_active


def test_only_one_run_at_a_time(dock):
    dock.add()
    dock.controller.start()
    dock.controller.start()
    assert len(dock.backend.runs) == 1
    assert "Stop it" in dock.hints[-1]


def test_a_run_of_before_is_opened_and_goes_on(dock):
    dock.add()
    dock.controller.start()
    dock.controller.close()
    other = Dock(dock.backend.root)
    other.backend.runs = dock.backend.runs
    other.controller.runner.open(dock.run.folder)
    assert other.controller.runner.state.status == "interrupted"
    assert other.controller.runner.can_resume
    other.controller.runner.resume()
    assert dock.run.commands == ["start", "close", "resume"]


def reopened(dock):
    """Another dock, later, with the same runs."""
    other = Dock(dock.backend.root)
    other.backend.runs = dock.backend.runs
    return other


def test_an_interrupted_run_is_taken_up_and_does_not_go_on_by_itself(dock):
    dock.add()
    dock.controller.start()
    dock.controller.close()
    other = reopened(dock)
    other.controller.take_up()
    assert other.controller.runner.can_resume
    assert other.hints == ["run1 was interrupted. Resume goes on with it, Start begins a new run."]
    assert not other.controller.is_occupied
    assert dock.run.commands == ["start", "close"]


@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "ready"])
def test_a_run_that_came_to_its_end_is_not_taken_up(dock, status):
    dock.add()
    dock.controller.start()
    dock.run.state = replace(dock.run.state, status=status)
    other = reopened(dock)
    other.controller.take_up()
    assert other.controller.runner.state is None
    assert other.hints == other.failures == []


def test_a_run_of_another_window_is_watched_and_another_one_can_be_started(dock):
    dock.add()
    dock.controller.start()
    other = reopened(dock)
    other.add()
    other.controller.take_up()
    assert other.controller.runner.is_active
    assert "another process" in other.hints[-1]
    assert not other.controller.is_occupied
    other.controller.close()
    assert dock.run.commands == ["start"]
    other.controller.start()
    assert len(other.backend.runs) == 2
    assert other.controller.runner.is_own


def test_a_run_whose_files_are_damaged_is_told_once(dock):
    dock.add()
    dock.controller.start()

    def poll():
        raise TypeError("int() argument must be a string, not 'NoneType'")

    dock.run.poll = poll
    dock.controller.runner.poll()
    dock.controller.runner.poll()
    assert len(dock.failures) == 1
    assert dock.failures[0].startswith("Reading the run failed")
    assert not dock.controller.is_occupied


def test_a_damaged_run_cannot_be_opened_and_the_dock_goes_on(dock, tmp_path):
    def open_it(folder):
        raise RecursionError("maximum recursion depth exceeded")

    dock.backend.open = open_it
    dock.controller.runner.open(tmp_path / "deep")
    assert dock.failures[0].startswith("Opening the run failed (RecursionError")
    dock.add()
    dock.controller.start()
    assert dock.run.commands == ["start"]


def test_a_run_that_cannot_be_started_says_so_and_is_not_going_on(dock):
    dock.add()
    began = []
    dock.controller.runner.began.connect(lambda: began.append(True))
    dock.backend.refusal = "No process can be started for the training."
    dock.controller.start()
    assert dock.failures == ["No process can be started for the training."]
    assert began == []
    assert not dock.controller.is_occupied


def test_a_folder_that_is_no_run_is_refused(dock, tmp_path):
    dock.controller.runner.open(tmp_path / "nothing")
    assert "is no run" in dock.failures[0]


def test_what_a_run_refuses_is_said(dock):
    dock.add()
    dock.controller.start()
    dock.run.refusal = "It runs already in another napari."
    dock.controller.runner.pause()
    assert dock.failures == ["It runs already in another napari."]


def test_a_better_result_goes_to_segment(dock):
    dock.add()
    dock.link = Link()
    dock.controller.set_values({"device": "cpu"})
    dock.controller.start()
    dock.run.finish(is_better=True)
    dock.controller.runner.poll()
    dock.controller.use()
    assert dock.link.used == [(dock.run.folder / "best.safetensors", "cpu")]


def test_segment_that_is_loading_is_not_said_to_have_the_result(dock):
    dock.add()
    dock.link = Link()
    dock.controller.start()
    dock.run.finish(is_better=True)
    dock.controller.runner.poll()
    dock.link.is_loading = True
    dock.controller.use()
    assert "Wait for it" in dock.hints[-1]
    dock.link.is_loading = False
    dock.controller.use()
    assert dock.hints[-1] == "Segment loads run1. Boxes, clicks and labels stay."


def test_a_result_that_is_not_better_is_not_used(dock):
    dock.add()
    dock.link = Link()
    dock.controller.start()
    dock.run.finish(is_better=False)
    dock.controller.runner.poll()
    dock.controller.use()
    assert dock.link.used == []
    assert "better than the base" in dock.hints[-1]


def test_weights_are_exported(dock, tmp_path):
    dock.add()
    dock.controller.start()
    dock.run.finish(is_better=True)
    dock.controller.runner.poll()
    dock.controller.export(tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.safetensors").read_bytes() == b"weights"
    assert "mine.safetensors" in dock.hints[-1]


def test_the_same_state_is_told_once(dock):
    dock.add()
    dock.controller.start()
    told = []
    dock.controller.runner.changed.connect(told.append)
    for _ in range(3):
        dock.controller.runner.poll()
    dock.run.state = replace(dock.run.state, step=1)
    dock.controller.runner.poll()
    assert [state.step for state in told] == [1]
