"""Use an installation as a stranger would: dock, box, click, commit, export; and the other dock.

``python .ci/try_installed.py FOLDER``, with a display (a virtual one will do), in an environment
that has the wheel and nothing of the checkout. Prints what each step took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

started = time.monotonic()


def say(what: str) -> None:
    """Print a step with the seconds since the start."""
    sys.stdout.write(f"{time.monotonic() - started:6.2f} s  {what}\n")
    sys.stdout.flush()


def main() -> None:
    """Take the steps; any failure ends it with a traceback."""
    folder = Path(sys.argv[1])
    import napari_pisam

    say(f"napari_pisam {napari_pisam.__version__} from {Path(napari_pisam.__file__).parent}")
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication

    def wait(condition: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"Nothing came within {seconds} s.")
            QApplication.processEvents()
            time.sleep(0.01)

    viewer = napari.Viewer()
    QApplication.processEvents()
    say("the viewer is open")
    viewer.open_sample("napari-pisam", "coins")
    _, dock = viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Segment")
    controller = dock.controller
    wait(lambda: controller.session is not None)
    say(f"Segment is open; torch is {'' if 'torch' in sys.modules else 'not '}loaded")
    boxes, clicks = (controller.workspace.choice[role] for role in ("boxes", "clicks"))
    r0, c0, r1, c1 = 14, 302, 74, 367
    boxes.add(np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]]), shape_type="rectangle")
    current = lambda: controller.session.current  # noqa: E731
    wait(lambda: current() is not None and current().mask is not None)
    say(f"the first box has its mask of {current().mask.area} px")
    clicks.add([44.0, 335.0])
    wait(lambda: len(current().prompts.points) == 1 and not controller.session.is_busy)
    say("the click is answered")
    controller.commit()
    labels = controller.workspace.choice["labels"].data
    wait(lambda: bool((np.asarray(labels) == 1).any()))
    say(f"committed: {int((np.asarray(labels) == 1).sum())} px")
    dock.export_panel.labels_requested.emit(str(folder / "labels.tif"))
    wait((folder / "labels.tif").is_file)
    say("exported labels.tif")
    _, tune = viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Fine-tune")
    wait(lambda: bool(tune.controller.learning.rows))
    say(f"Fine-tune is open: {tune.controller.objects_summary}")
    viewer.close()


if __name__ == "__main__":
    main()
