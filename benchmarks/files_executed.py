"""Which files run when a person clicks, and when training starts: what a newcomer has to read.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/files_executed.py click

A real window with `tiny`. *Click*: from an FG click on the prompt layer to its preview on the
canvas, the model being loaded and the box predicted. *Start*: from the button of the Fine-tune dock
to the end of the first training step, in the window and in the process that trains.

Counted are files of this package of which a function was called; bodies of modules and classes are
not. *Way*: those that are on the stack where work is handed to a thread or a process, where the
network is called and where its mask is drawn; whoever follows the click goes through them.
*Helper*: what these call. *Passive*: called only beneath a panel, the list's rows or saving
unasked, which show or keep what came.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = "napari_pisam" + os.sep
ANSWER = "FILES_EXECUTED_ANSWER"
PASSIVE = ("docks/segment/autosaver.py", "docks/segment/rows.py", "docks/segment/hints.py")
CARRIERS = (
    "widgets/background.py",
    "widgets/segment.py",
    "widgets/finetune/run_panel.py",
    "widgets/finetune/dock.py",
)
STATIONS = (
    "widgets/background.py",
    "model/pisam.py",
    "layers/preview.py",
    "learn/finetune/process.py",
    "learn/objective.py",
)


def file_of(frame) -> str | None:
    """Path inside the package; None for other code, and for bodies of modules and classes."""
    _, found, rest = frame.f_code.co_filename.rpartition(ROOT)
    if not found or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return None
    return rest.replace(os.sep, "/")


def is_passive(file: str) -> bool:
    """Whether a file shows or keeps what came, and decides nothing about it."""
    return file in PASSIVE or (file.startswith("widgets/") and file not in CARRIERS)


class Recorder:
    """Notes the files whose functions are called, of all threads begun after it."""

    def __init__(self) -> None:
        self.way: set[str] = set()
        self.helpers: set[str] = set()
        self.passive: set[str] = set()
        self.is_on = False
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame, event: str, _argument: object) -> None:
        if not self.is_on or event != "call" or (file := file_of(frame)) is None:
            return
        if file in self.helpers and file not in STATIONS:
            return
        above, stack = frame, set()
        while above is not None:
            stack.add(file_of(above))
            above = above.f_back
        stack.discard(None)
        if any(is_passive(one) for one in stack):
            self.passive.add(file)
            return
        self.helpers.add(file)
        if file in STATIONS:
            self.way |= stack

    def files(self) -> dict[str, list[str]]:
        """Each file once, under the first of the three that it is."""
        helpers = self.helpers - self.way
        passive = self.passive - self.helpers - self.way
        return {"way": sorted(self.way), "helper": sorted(helpers), "passive": sorted(passive)}


def wait(condition, seconds: float = 300) -> None:
    """Let the window live until something is so."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came within {seconds} s")
        QApplication.processEvents()
        time.sleep(0.005)


def click(recorder: Recorder) -> dict[str, list[str]]:
    """From a click to its preview."""
    import napari
    import numpy as np
    from skimage.data import coins

    from napari_pisam.widgets.segment import SegmentWidget

    viewer = napari.Viewer(show=True)
    viewer.add_image(coins(), name="coins")
    dock = SegmentWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Pi-SAM: Segment")
    wait(lambda: dock.controller.session is not None)
    drawn_by = time.monotonic() + 2  # as for a person, the window is there before the model
    wait(lambda: time.monotonic() > drawn_by)
    session, choice = dock.controller.session, dock.controller.workspace.choice

    def shown(clicks: int) -> bool:
        one = session.current
        fresh = one is not None and one.mask is not None and not one.stale
        return fresh and len(one.prompts.points) == clicks and not session.is_busy

    box = np.array([[14, 302], [14, 367], [74, 367], [74, 302]])
    choice["boxes"].add(box, shape_type="rectangle")
    wait(lambda: shown(0))
    choice["clicks"].add([[30, 330]])
    wait(lambda: shown(1))
    recorder.is_on = True
    choice["clicks"].add([[44, 335]])
    wait(lambda: shown(2))
    viewer.window._qt_viewer.canvas.native.repaint()
    recorder.is_on = False
    viewer.close()
    return recorder.files()


def start(recorder: Recorder, folder: Path) -> dict[str, dict[str, list[str]]]:
    """From *Start* to the end of the first step."""
    import napari
    from scipy import ndimage
    from skimage.data import coins

    from napari_pisam.learn.finetune import process
    from napari_pisam.widgets.finetune.dock import FineTuneWidget

    answer = folder / "child.json"
    os.environ[ANSWER] = str(answer)
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    process.MODULE = "files_executed"
    viewer = napari.Viewer(show=True)
    image = coins()
    viewer.add_image(image, name="coins")
    viewer.add_labels(ndimage.label(ndimage.median_filter(image, 7) > 120)[0], name="truth")
    dock = FineTuneWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Pi-SAM: Fine-tune")
    objects, settings = dock.objects_panel, dock.settings_panel
    objects.layers_switch.click()
    objects.labels_combo.setCurrentIndex(objects.labels_combo.findText("truth"))
    objects.add_layers_button.click()
    wait(lambda: objects.table.model().rowCount() > 0)
    settings.unit.setCurrentText("rounds")
    settings.length.setValue(1)
    settings.editors["device"].inner.setCurrentIndex(1)
    recorder.is_on = True
    dock.run_panel.start_button.click()
    wait(answer.is_file, 500)
    recorder.is_on = False
    dock.controller.close()
    viewer.close()
    return {"window": recorder.files(), "process": json.loads(answer.read_text())}


def child() -> int:
    """Do what the process that trains does, and say what was called until the first step's end."""
    recorder = Recorder()
    from napari_pisam.learn.engine import _ProgressWriter
    from napari_pisam.learn.finetune.__main__ import main as train

    record = _ProgressWriter.add

    def add(self, *arguments, **options) -> None:
        recorder.is_on = False
        path = Path(os.environ[ANSWER])
        part = path.with_suffix(".part")
        part.write_text(json.dumps(recorder.files()))
        part.rename(path)
        record(self, *arguments, **options)

    if "--probe" not in sys.argv:  # the check before takes steps, too
        _ProgressWriter.add = add
        recorder.is_on = True
    return train()


def show(title: str, files: dict[str, list[str]]) -> None:
    """Print counts by room, and the files."""
    rooms = Counter(file.partition("/")[0] for file in (*files["way"], *files["helper"]))
    counts = ", ".join(f"{room} {count}" for room, count in sorted(rooms.items()))
    kinds = ", ".join(f"{kind} {len(names)}" for kind, names in files.items())
    print(f"{title}: {kinds}; the first two by room: {counts}")
    for kind, names in files.items():
        print(f"  {kind}: {' '.join(names)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["click", "start"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_PISAM_RUNS"] = os.environ["NAPARI_PISAM_AUTOSAVE"] = folder
        if arguments.what == "click":
            results = {"click to preview": click(recorder)}
        else:
            parts = start(recorder, Path(folder))
            results = {f"Start to first step, {name}": files for name, files in parts.items()}
    for title, files in results.items():
        show(title, files)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    sys.exit(child() if "--child" in sys.argv or "--probe" in sys.argv else main())
