"""``napari-pisam replay``, with the micro model: the session's labels again, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from fake_session import at_once, save_session
from micro import micro_model
from napari_pisam.cli.app import app
from napari_pisam.docks.segment.cleaning import clean, merge
from napari_pisam.images.image_source import ImageSource
from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.predict.areas import Area
from napari_pisam.predict.predictor import Predictor
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session.identity import PlaneIdentity
from napari_pisam.session.session import CommitRule, ModelRef, Session
from napari_pisam.session.storage import (
    ImageView,
    SavedPlane,
    SessionFile,
    load_session,
    save_planes,
)
from napari_pisam.weights import loading as weights

HASH = "ab" * 32
SHAPE = (90, 110)


@pytest.fixture
def micro(monkeypatch):
    """Every model is the micro model; its hash can be changed."""
    said = {"sha256": HASH}

    def load(name, *, progress=None, cancel=None):
        return weights.LoadedModel(micro_model(), said["sha256"], "MIT", "embedded")

    monkeypatch.setattr(weights, "load_model", load)
    return said


@pytest.fixture
def work(tmp_path):
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 60_000, (2, *SHAPE), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "image.tif", stack, metadata={"axes": "TYX"})
    return tmp_path


def made_session(work):
    """A session with corrections, overlaps, boxes in one go, objects picked up again and undo.

    Some of its commits were cleaned, and objects that were there.
    """
    source = ImageSource(tifffile.imread(work / "image.tif"), plane=1)
    session = Session(at_once)
    session.set_image(
        SHAPE, PlaneIdentity(source).signature(), lambda predictor: predictor.set_image(source)
    )
    session.set_labels(np.zeros(SHAPE, np.uint16))
    session.set_predictor(Predictor(micro_model(), "cpu"), ModelRef("tiny", HASH, "cpu"))
    first = Prompts((4, 6, 50, 60))
    session.new_object(first)
    session.set_prompts(1, first.with_clicks([(20, 20), (40, 50)], [True, False]))
    session.cleaning = CLEANING
    session.commit()
    fine = Prompts((0, 60, 40, 109), answer="fine")
    session.segment_all([(10, 30, 80, 90), fine, (50, 0, 89, 50)], batch=2)
    session.cleaning = Cleaning()
    session.live = False
    opened = [
        session.new_object(Prompts((2, 2, 30, 30))),
        session.new_object(Prompts((8, 70, 60, 99))),
    ]
    session.live = True
    session.segment_all([(60, 5, 85, 35)], opened=opened)
    session.rule = CommitRule.OVERWRITE
    session.new_object(Prompts((30, 30, 70, 100)))
    session.commit()
    session.reopen(2)
    session.set_prompts(2, session.get(2).prompts.with_clicks([(60, 60)], [True]))
    session.rule = CommitRule.KEEP
    session.commit()
    strokes = [(((20.0, 12.5), (30.0, 30.0)), True), (((25.0, 20.0),), False)]
    areas = [Area.of((60, 60, 85, 105)), Area.of([(8, 8), (8, 20), (14, 14)], False)]
    session.new_object(Prompts.from_strokes((4, 6, 50, 60), strokes, areas=areas))
    session.commit()
    session.new_object(Prompts((60, 60, 85, 105)))
    session.commit()
    session.undo()
    session.discard(3)
    clean(session, [4], Cleaning(grow=-1, smooth=2))
    merge(session, [4, 1])
    return session


CLEANING = Cleaning(fill_holes=True, largest=True, smooth=1.5)
VIEW = ImageView("image.tif", plane=(1,))


@pytest.fixture
def saved(work, micro):
    session = made_session(work)
    save_session(work / "s.pisam", session, VIEW)
    return session


@pytest.fixture
def run(work, monkeypatch):
    monkeypatch.chdir(work)

    def invoke(*arguments):
        return CliRunner().invoke(app, ["replay", *arguments])

    return invoke


ARGUMENTS = ("s.pisam", "--image", "image.tif", "-o", "labels.tif")


def test_replay_gives_the_same_labels(run, saved, work):
    assert len(np.unique(saved.labels)) > 3  # the random model finds something
    result = run(*ARGUMENTS)
    assert result.exit_code == 0, result.stderr
    labels = tifffile.imread("labels.tif")
    assert labels.dtype == np.uint16
    assert np.array_equal(labels, saved.labels)
    cleanings = [getattr(entry, "cleaning", None) for entry in saved.to_state().journal]
    assert cleanings.count(CLEANING) == 3
    with tifffile.TiffFile("labels.tif") as file:
        described = json.loads(file.pages.first.description)
    assert described["models"] == [{"name": "tiny", "sha256": HASH}]
    assert described["session"] == "s.pisam"


def test_replay_of_a_restored_and_continued_session_gives_the_same_labels(run, saved, work):
    second = made_session(work)
    second.from_state(load_session(work / "s.pisam").state)
    second.new_object(Prompts((0, 0, 20, 30)))
    second.commit()
    save_session(work / "s.pisam", second, VIEW)
    result = run(*ARGUMENTS)
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(tifffile.imread("labels.tif"), second.labels)


def refused(result, work):
    assert result.exit_code == 2
    assert not (work / "labels.tif").exists()
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_another_image_is_refused(run, saved, work):
    tifffile.imwrite(work / "image.tif", np.zeros((2, *SHAPE), np.uint16))
    said = refused(run(*ARGUMENTS), work)
    assert said.startswith("Error: s.pisam was made with another image (image.tif)")


def test_an_image_of_other_axes_is_refused(run, saved, work):
    tifffile.imwrite(work / "image.tif", np.zeros(SHAPE, np.uint16))
    assert "was made with another image" in refused(run(*ARGUMENTS), work)


def test_other_weights_are_refused(run, saved, work, micro):
    micro["sha256"] = "cd" * 32
    said = refused(run(*ARGUMENTS), work)
    assert "abababababab" in said
    assert "cdcdcdcdcdcd" in said
    assert "--model PATH" in said


def test_a_damaged_session_is_refused(run, saved, work):
    (work / "s.pisam").write_bytes((work / "s.pisam").read_bytes()[:-100])
    assert "cannot be read as a session file" in refused(run(*ARGUMENTS), work)


def test_a_session_that_is_not_there_is_refused(run, work):
    assert "There is no session file" in refused(run(*ARGUMENTS), work)


def test_an_output_that_is_an_input_is_refused(run, saved, work):
    result = run("s.pisam", "--image", "image.tif", "-o", "image.tif")
    assert result.exit_code == 2
    assert "is also an input" in result.stderr


def test_a_checkpoint_has_to_be_named(run, work, micro):
    session = made_session(work)
    session.set_predictor(Predictor(micro_model(), "cpu"), ModelRef("mine.safetensors", HASH))
    session.new_object(Prompts((0, 0, 20, 30)))
    session.commit()
    save_session(work / "s.pisam", session, VIEW)
    assert "'mine.safetensors'. Give its path with --model" in refused(run(*ARGUMENTS), work)
    assert run(*ARGUMENTS, "--model", "mine.safetensors").exit_code == 0
    assert np.array_equal(tifffile.imread("labels.tif"), session.labels)


LIMITS = (((0.0, 60_000.0),), ((20_000.0, 30_000.0),))


def session_with_two_contrasts(work):
    """Two objects, each predicted with the contrast that was set then."""
    stack = tifffile.imread(work / "image.tif")
    session = Session(at_once)
    seen = {}
    session.set_image(
        SHAPE,
        PlaneIdentity(ImageSource(stack, plane=1)).signature(),
        lambda predictor: predictor.set_image(seen["source"]),
    )
    session.set_labels(np.zeros(SHAPE, np.uint16))
    for limits, box in zip(LIMITS, [(4, 6, 50, 60), (30, 50, 85, 105)], strict=True):
        seen["source"] = ImageSource(stack, plane=1, contrast_limits=limits)
        session.set_predictor(
            Predictor(micro_model(), "cpu"), ModelRef("tiny", HASH, "cpu", limits)
        )
        session.new_object(Prompts(box))
        session.commit()
    return session


def test_another_contrast_during_the_session_gives_the_same_labels(run, work, micro):
    session = session_with_two_contrasts(work)
    save_session(work / "s.pisam", session, VIEW)
    result = run(*ARGUMENTS)
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(tifffile.imread("labels.tif"), session.labels)


def seen_together(work, kind):
    """A dock's session on two channels in colours: of an axis of one file, or layers."""
    pytest.importorskip("napari", reason="napari is not installed")
    from napari.components import ViewerModel

    from napari_pisam.docks.segment.controller import SegmentController
    from napari_pisam.docks.segment.files import saving_job

    stack = tifffile.imread(work / "image.tif")
    viewer, paths = ViewerModel(), [work / "image.tif"]
    if kind == "axis":
        viewer.add_image(stack, name="cells")
    else:
        paths = [work / "actin.tif", work / "dna.tif"]
        for path, channel, color in zip(paths, stack, ("green", "magenta"), strict=True):
            tifffile.imwrite(path, channel)
            viewer.add_image(
                channel, name=path.stem, colormap=color, blending="additive", gamma=0.8
            )
    controller = SegmentController(viewer, at_once)
    controller.start()
    work_on = controller.workspace
    if kind == "axis":
        work_on.planes.channels.choose_axis(work_on.planes.image, 0)
    predictor = Predictor(micro_model(), "cpu")
    controller.set_model(predictor, ModelRef("tiny", HASH, "cpu"))
    controller.session.new_object(Prompts((4, 6, 50, 60), [(20, 20)], [True]))
    controller.commit()
    saving_job(work_on.planes, work / "s.pisam")()
    labels = np.asarray(work_on.choice["labels"].data)
    controller.close()
    return labels, [part for path in paths for part in ("--image", str(path))]


@pytest.mark.parametrize("kind", ["axis", "layers"])
def test_channels_that_were_seen_together_are_seen_so_again(run, work, micro, kind):
    labels, images = seen_together(work, kind)
    result = run("s.pisam", *images, "-o", "again.tif")
    assert result.exit_code == 0, result.stderr
    again = tifffile.imread("again.tif")
    # Labels that were there before the channels were joined have a slice for each.
    np.testing.assert_array_equal(np.broadcast_to(again, labels.shape), labels)
    seen = load_session(work / "s.pisam").planes[0].view.seen
    assert [one.index for one in seen] == ([0, 1] if kind == "axis" else [None, None])
    if kind == "layers":
        result = run("s.pisam", *images[:2], "-o", "again.tif")
        assert result.exit_code == 2
        assert "in this order: actin, dna" in result.stderr


def test_objects_that_differ_are_named_and_give_a_status(run, work, micro):
    session = session_with_two_contrasts(work)
    state = session.to_state()
    # As files of before tell it: one contrast for all.
    journal = tuple(replace(one, model=ModelRef("tiny", HASH, "cpu")) for one in state.journal)
    view = replace(VIEW, contrast_limits=LIMITS[1])
    save_session(work / "s.pisam", replace(state, journal=journal), view)
    result = run(*ARGUMENTS)
    assert result.exit_code == 1
    said = result.stderr.strip().splitlines()[-1]
    assert said.startswith("1 of 2 object(s) differ from the masks in s.pisam: 1 (")
    assert "contrast" in said
    assert (work / "labels.tif").is_file()


@pytest.mark.parametrize("axes", [(1, 2), (0, 2), (2, 0)])
def test_all_planes_of_an_image_are_replayed_on_their_axes(run, work, micro, axes):
    cube = np.random.default_rng(1).integers(0, 60_000, (70, 80, 90), dtype=np.uint16)
    tifffile.imwrite(work / "image.tif", cube, metadata={"axes": "ZYX"})
    (other,) = {0, 1, 2} - set(axes)
    planes, expected = [], np.zeros(cube.shape, np.uint16)
    for number, position in enumerate((3, 60)):
        plane = np.take(cube, position, axis=other)
        source = ImageSource(plane if axes[0] < axes[1] else plane.T)
        session = Session(at_once)
        session.set_image(source.shape, PlaneIdentity(source).signature(), _giving(source))
        session.set_labels(np.zeros(source.shape, np.uint16), first_id=1 + 2 * number)
        session.set_predictor(Predictor(micro_model(), "cpu"), ModelRef("tiny", HASH, "cpu"))
        session.new_object(Prompts((4, 6, 50, 60)))
        session.commit()
        planes.append(SavedPlane(session.to_state(), ImageView("c", (position,), axes=axes)))
        index = [slice(None)] * 3
        index[other] = position
        labels = session.labels
        expected[tuple(index)] = labels if axes[0] < axes[1] else labels.T
    save_planes(work / "s.pisam", SessionFile(tuple(planes)))
    result = run(*ARGUMENTS)
    assert result.exit_code == 0, result.stderr
    assert len(np.unique(expected)) == 3
    assert np.array_equal(tifffile.imread("labels.tif"), expected)


def _giving(source):
    return lambda predictor: predictor.set_image(source)


def test_a_picture_that_differs_between_the_samples_is_refused(run, saved, work):
    stack = tifffile.imread(work / "image.tif")
    stack[1, 70:75, 65:69] += 1
    tifffile.imwrite(work / "image.tif", stack, metadata={"axes": "TYX"})
    assert "was made with another image" in refused(run(*ARGUMENTS), work)
