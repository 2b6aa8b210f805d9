"""The first mask as an animation of the real window: part of ``make screenshots``.

The mouse draws a box around a coin, clicks where the mask differs most from a watershed of the
edges, W commits; then another coin. Writes docs/images/first-mask.webp. Needs a display, a virtual
one will do.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import napari
import numpy as np
from PIL import Image, ImageDraw
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from scipy.ndimage import distance_transform_edt
from screenshots import FOLDER, has_mask, own_places, wait
from skimage.filters import sobel
from skimage.measure import label
from skimage.segmentation import watershed

from napari_pisam.sample_data import coins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.widgets.segment import SegmentWidget

SIZE, SHOWN = (1200, 720), (900, 540)  # of the window and of the animation, px
BOXES = ((14.0, 302.0, 74.0, 367.0), (93.0, 243.0, 146.0, 298.0))
STEPS = 5  # of a drag
ARROW = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))
QUALITY = 80  # of WebP; a GIF would have too few colours
CENTER, ZOOM = (95.0, 275.0), 2.2  # of the view: the coins at the right


class Film:
    """Frames of the window, with the mouse that no picture of a window has."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._frames: list[Image.Image] = []
        self._times: list[int] = []
        self.mouse = QPoint(60, 60)

    def take(self, milliseconds: int) -> None:
        """Take a frame that is shown for some time."""
        wait(lambda: True)
        frame = Image.fromarray(self._viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        window, canvas = self._viewer.window._qt_window, canvas_of(self._viewer)
        place = canvas.mapTo(window, self.mouse)
        scale = frame.width / window.width()
        arrow = [(scale * (place.x() + x), scale * (place.y() + y)) for x, y in ARROW]
        ImageDraw.Draw(frame).polygon(arrow, fill="white", outline="black")
        self._frames.append(frame.resize(SHOWN, Image.Resampling.LANCZOS))
        self._times.append(milliseconds)

    def save(self, path: Path) -> None:
        """Write the animation."""
        first, *others = self._frames
        first.save(
            path, save_all=True, append_images=others, duration=self._times, loop=0, quality=QUALITY
        )


def canvas_of(viewer: napari.Viewer) -> object:
    """Return the widget that the mouse draws on."""
    return viewer.window._qt_viewer.canvas.native


class Hand:
    """A mouse on the canvas."""

    def __init__(self, viewer: napari.Viewer, film: Film) -> None:
        self._viewer, self._film = viewer, film
        self._canvas = canvas_of(viewer)

    def place(self, row: float, col: float) -> QPoint:
        """Find a pixel of the image on the canvas."""
        view = self._viewer.window._qt_viewer.canvas.view
        scene = view.scene.transform.map([col, row, 0, 1])
        x, y = scene[:2] / scene[3]
        return QPoint(round(x), round(y))

    def move(self, row: float, col: float) -> None:
        """Move the mouse."""
        self._film.mouse = self.place(row, col)
        QTest.mouseMove(self._canvas, self._film.mouse)

    def drag(self, box: tuple[float, float, float, float]) -> None:
        """Draw a box."""
        r0, c0, r1, c1 = box
        self.move(r0, c0)
        self._film.take(500)
        button = Qt.MouseButton.LeftButton
        QTest.mousePress(self._canvas, button, pos=self._film.mouse)
        for part in np.linspace(0, 1, STEPS + 1)[1:]:
            self.move(r0 + part * (r1 - r0), c0 + part * (c1 - c0))
            self._film.take(120)
        QTest.mouseRelease(self._canvas, button, pos=self._film.mouse)

    def click(self, row: float, col: float) -> None:
        """Click with the left button."""
        self.move(row, col)
        self._film.take(600)
        QTest.mouseClick(self._canvas, Qt.MouseButton.LeftButton, pos=self._film.mouse)

    def press(self, key: str) -> None:
        """Press a key."""
        QTest.keyClick(self._canvas, key)


def coins_by_edges(image: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the coins as labels."""
    markers = np.zeros(image.shape, int)
    markers[image < 30], markers[image > 150] = 1, 2
    found: NDArray[np.intp] = label(watershed(sobel(image), markers) == 2)
    return found


def worst_place(mask: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> tuple[tuple[int, int], bool]:
    """Return (row, col) in the middle of the largest error, and whether it is missing there."""
    depth = distance_transform_edt(mask != wanted)
    row, col = np.unravel_index(np.argmax(depth), depth.shape)
    return (int(row), int(col)), bool(wanted[row, col])


def correct(hand: Hand, dock: SegmentWidget, wanted: NDArray[np.bool_]) -> None:
    """Click once where the mask is wrong."""
    session = dock.controller.session
    place, is_missing = worst_place(session.current.mask.to_array(), wanted)
    if not is_missing:
        hand.press("q")
    hand.click(*place)
    wait(lambda: len(session.current.prompts.points) == 1 and has_mask(dock))
    wait(lambda: not session.is_busy)


def main() -> None:
    """Segment two coins and film it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER)
    folder = parser.parse_args().output
    own_places()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    image, options, _ = coins()[0]
    viewer.add_image(image, **{"name": "coins"} | options)
    _, dock = viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Segment")
    wait(lambda: dock.controller.session is not None)
    wait(lambda: dock.controller.workspace.choice["boxes"] is not None)
    camera = viewer.scene.camera
    camera.center, camera.zoom = (0.0, *CENTER), ZOOM
    film = Film(viewer)
    hand = Hand(viewer, film)
    film.take(1200)
    truth = coins_by_edges(image)
    for number, box in enumerate(BOXES):
        hand.drag(box)
        wait(lambda: has_mask(dock))
        film.take(1200)
        if number == 0:
            r0, c0, r1, c1 = (int(one) for one in box)
            here = np.bincount(truth[r0:r1, c0:c1][truth[r0:r1, c0:c1] > 0])
            correct(hand, dock, truth == here.argmax())
            film.take(1200)
        hand.press("w")
        wait(lambda: dock.controller.session.current is None)
        film.take(900)
    film.take(1500)
    folder.mkdir(parents=True, exist_ok=True)
    film.save(folder / "first-mask.webp")
    viewer.close()


if __name__ == "__main__":
    main()
