"""Predictions on worker processes: the same masks, whoever is lost on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

pytest.importorskip("distributed", reason="needs napari-pisam[distributed]")

from micro import micro_model
from micro_cluster import BrokenPlugin, MicroPlugin
from napari_pisam.cli.app import app
from napari_pisam.model.variants import Focus
from napari_pisam.predict.areas import Area
from napari_pisam.predict.cluster import Cluster
from napari_pisam.predict.predictor import Predictor
from napari_pisam.predict.prompts import Prompts
from napari_pisam.predict.propagation import EndOfObject
from napari_pisam.weights import loading

IMAGE = np.random.default_rng(0).integers(0, 255, (120, 220), dtype=np.uint8)
BOXES = [(3 * n, 9 * n, 3 * n + 20 + n, 9 * n + 30) for n in range(20)]


@pytest.fixture(scope="module")
def cluster():
    with Cluster("local:2", MicroPlugin(delay=0.05)) as made:
        yield made


@pytest.fixture
def here():
    # Sums are added up in another order with other threads; a worker has one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    predictor = Predictor(micro_model(), "cpu", "fp32")
    predictor.set_image(IMAGE)
    yield predictor
    torch.set_num_threads(threads)


@pytest.fixture
def there(cluster):
    predictor = cluster.predictor()
    predictor.set_image(IMAGE)
    return predictor


def same(one, other):
    assert (one.shape, one.bbox, one.score) == (other.shape, other.bbox, other.score)
    np.testing.assert_array_equal(one.crop, other.crop)


def close(one, other):
    assert (one.shape, one.answer) == (other.shape, other.answer)
    assert one.score == pytest.approx(other.score, abs=1e-4)
    assert (one.to_array() == other.to_array()).mean() > 0.999


PROMPTS = {
    "a box": Prompts((10, 20, 40, 60)),
    "clicks": Prompts((10, 20, 40, 60), [(12, 25), (30, 50)], [True, False]),
    "a click alone": Prompts(None, [(50, 90)], [True]),
    "a mask": Prompts(None, [(12, 25)], [True], (np.ones((20, 30), bool), (5, 9))),
    "a large box": Prompts((4, 6, 100, 90)),
    "a large box with clicks": Prompts((4, 6, 100, 90), [(10, 20)], [True]),
    "boxes": Prompts((10, 20, 40, 60), areas=[Area.of([(60, 150), (100, 200)])]),
    "a large box and where it is not": Prompts(
        (4, 6, 100, 90), areas=[Area.of([(0, 0), (60, 60)], is_foreground=False)]
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_masks_are_the_same_bit_for_bit(here, there, name):
    same(there.predict(PROMPTS[name]), here.predict(PROMPTS[name]))


def test_boxes_of_one_call_are_the_same_bit_for_bit(here, there):
    boxes = [*BOXES[:6], (4, 6, 100, 90)]
    for one, other in zip(there.predict_many(boxes), here.predict_many(boxes), strict=True):
        same(one, other)


def test_large_objects_at_the_same_time_do_not_call_each_other_off(cluster, here, there):
    boxes = [(4, 6 + n, 100, 90 + n) for n in range(6)]
    for mask, box in zip(cluster.each(there.predict, boxes), boxes, strict=True):
        same(mask, here.predict(box))


def test_lines_are_looked_at_in_tiles_as_they_are_here():
    changes = {"fine_answer": True, "focus": Focus(frame=64)}
    here = Predictor(micro_model(**changes), "cpu", "fp32")
    here.set_image(IMAGE)
    boxes = [(10, 20, 40, 60), (3, 5, 20, 25), (60, 100, 110, 160)]
    asked = [Prompts(box, answer=answer) for box in boxes for answer in ("solid", "fine")]
    asked.append(Prompts(boxes[0], areas=[Area.of([(60, 150), (100, 200)])], answer="fine"))
    with Cluster("local:1", MicroPlugin(**changes)) as made:
        there = made.predictor()
        there.set_image(IMAGE)
        for one in asked:
            # A worker has another number of threads, and adds up in another order.
            close(there.predict(one), here.predict(one))
        for one, prompts in zip(there.predict_many(asked[:-1]), asked, strict=False):
            close(one, here.predict(prompts))


def test_a_worker_that_is_killed_costs_its_running_tasks_only(cluster, here, there):
    pids = list(cluster._client.run(os.getpid).values())
    assert len(pids) == 2
    begun = threading.Event()
    counts = {"calls": 0}

    def work(box):
        counts["calls"] += 1
        if counts["calls"] == 6:
            begun.set()
        return there.predict(box)

    def kill():
        begun.wait(60)
        os.kill(pids[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = list(cluster.each(work, BOXES))
    killer.join()
    for one, box in zip(found, BOXES, strict=True):
        same(one, here.predict(box))
    # Another one comes in its place, with the model.
    end = time.monotonic() + 60
    while len(cluster._client.scheduler_info(n_workers=-1)["workers"]) < 2:
        assert time.monotonic() < end
        time.sleep(0.2)
    same(there.predict(BOXES[0]), here.predict(BOXES[0]))


def test_the_dock_on_workers_writes_the_labels_that_it_writes_alone(cluster, here):
    pytest.importorskip("napari", reason="napari is not installed")
    from napari.components import ViewerModel

    from fake_session import at_once
    from napari_pisam.docks.segment.controller import SegmentController

    stack, written = np.stack([IMAGE, IMAGE[::-1]]), []
    for predictor in (here, cluster.predictor()):
        viewer = ViewerModel()
        viewer.add_image(stack)
        controller = SegmentController(viewer, at_once)
        controller.start()
        controller.set_model(predictor)
        work = controller.workspace
        controller.set_live(False)
        for row0, col0, row1, col1 in BOXES:
            corners = [[0, row0, col0], [0, row0, col1], [0, row1, col1], [0, row1, col0]]
            work.choice["boxes"].add(np.array(corners), shape_type="rectangle")
        controller.set_rule("overwrite")
        controller.segment_all()
        controller.pick(3)
        work.choice["clicks"].add([0, 30, 40])
        controller.predict()
        controller.commit()
        controller.set_end(EndOfObject(0, 0, -1))
        controller.pick(3)
        controller.propagate(1)
        written.append(work.choice["labels"].data)
        controller.cancel()
        controller.close()
    assert set(np.unique(written[0][1])) == {0, 3}
    np.testing.assert_array_equal(written[0], written[1])


def test_what_is_called_off_reaches_the_workers(cluster, there):
    ended = []

    def work(box):
        if len(ended) == 4:
            cluster.cancel()
        ended.append(box)
        return there.predict(box)

    with pytest.raises(CancelledError):
        list(cluster.each(work, BOXES))
    assert len(ended) < len(BOXES) / 2
    end = time.monotonic() + 30
    while any(cluster._client.processing().values()):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_tiles_of_a_large_object_can_be_called_off(there):
    def stop(done, total):
        if done >= 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        there.predict(PROMPTS["a large box"], progress=stop)


def test_wrong_prompts_are_a_sentence_at_once(there):
    with pytest.raises(ValueError, match="outside the image"):
        there.predict((500, 500, 600, 600))
    fresh = type(there)(there._cluster)
    with pytest.raises(RuntimeError, match="Call set_image"):
        fresh.predict(BOXES[0])


@pytest.mark.parametrize("where", ["somewhere", "local:0", "local:x", "tcp:/a"])
def test_what_is_no_address_is_a_sentence(where):
    with pytest.raises(ValueError, match="expected local, local:4 or an address"):
        Cluster(where, MicroPlugin())


def test_workers_without_the_model_are_a_sentence():
    with pytest.raises(ValueError, match=r"cannot load 'nowhere.*no such model here"):
        Cluster("local:1", BrokenPlugin("nowhere.pth"))


def test_no_scheduler_is_a_sentence(monkeypatch):
    monkeypatch.setattr("napari_pisam.predict.cluster._TIMEOUT", 1)
    with pytest.raises(ValueError, match="no scheduler with a worker at tcp"):
        Cluster("tcp://127.0.0.1:9", MicroPlugin())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in range(3):
        tifffile.imwrite(tmp_path / f"cells{n}.tif", IMAGE[:, 20 * n :])
    lines = ["index,shape-type,vertex-index,axis-0,axis-1"]
    for index, (r0, c0, r1, c1) in enumerate(BOXES[:10]):
        for place, corner in enumerate([(r0, c0), (r0, c1), (r1, c1), (r1, c0)]):
            lines.append(f"{index},rectangle,{place},{corner[0]},{corner[1]}")
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")

    def load(name, *, progress=None, cancel=None):
        return loading.LoadedModel(micro_model(), "0" * 64, "MIT", "micro")

    monkeypatch.setattr(loading, "load_model", load)
    return tmp_path


# As the workers of these tests compute.
CPU = ("--device", "cpu", "--precision", "fp32")


def segment(*arguments):
    return CliRunner().invoke(app, ["segment", *arguments, "--boxes", "boxes.csv", *CPU])


def test_the_command_gives_the_same_files_with_workers(cluster, folder, monkeypatch):
    here = segment("cells0.tif", "cells1.tif", "cells2.tif", "-o", "here")
    assert here.exit_code == 0, here.stderr
    asked = []

    def connect(where, plugin):
        asked.append((where, plugin.model))
        return contextlib.nullcontext(cluster)

    monkeypatch.setattr("napari_pisam.predict.cluster.Cluster", connect)
    arguments = ("--scheduler", "tcp://gpu-box:8786")
    there = segment("cells0.tif", "cells1.tif", "cells2.tif", "-o", "there", *arguments)
    assert there.exit_code == 0, there.stderr
    assert asked == [("tcp://gpu-box:8786", "tiny")]
    for n in range(3):
        found = []
        for one in ("here", "there"):
            with tifffile.TiffFile(folder / one / f"cells{n}.tif") as file:
                found.append((file.asarray(), file.pages[0].description))
        assert found[0][0].any()
        np.testing.assert_array_equal(found[0][0], found[1][0])
        assert found[0][1] == found[1][1]
    (folder / "cells1.tif").write_bytes(b"broken")
    result = segment("cells0.tif", "cells1.tif", "-o", "again", *arguments)
    assert result.exit_code == 2
    assert "1 of 2 images were left out: cells1.tif" in result.stderr
    assert (folder / "again" / "cells0.tif").is_file()


def test_without_dask_the_command_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari_pisam.predict.cluster", None)
    result = segment("cells0.tif", "-o", "a.tif", "--scheduler", "local")
    assert result.exit_code == 2
    assert "napari-pisam[distributed]" in result.stderr
