"""A series of images: a bar to go through it, the list of its images, and a form to open one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_pisam.docks.segment.keys import KEYS
from napari_pisam.images.files import IMAGE_SUFFIXES
from napari_pisam.session.series import State
from napari_pisam.widgets.file_dialogs import ask_folder, ask_open_paths
from napari_pisam.widgets.parts import button, switch
from napari_pisam.widgets.text import PlainLabel, tip

if TYPE_CHECKING:
    from napari_pisam.docks.segment.series import SeriesWork

_SIGNS = {State.UNTOUCHED: "○", State.BEGUN: "◐", State.DONE: "●", State.SKIPPED: "⊘"}
_LIST_HEIGHT = 110


class SeriesBar(QWidget):
    """Where one is in the series, and the ways on; shown while a series is open.

    Attributes
    ----------
    moved : Signal(int)
        Go some images on, or back.
    chosen : Signal(int)
        Go to the image at this place.
    done_requested, skip_requested : Signal()
        The image is done, or is left out.
    """

    moved = Signal(int)
    chosen = Signal(int)
    done_requested = Signal()
    skip_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.previous_button = button(
            "◀", f"The image before [{KEYS['previous_image']}]", lambda: self.moved.emit(-1)
        )
        self.next_button = button(
            "▶", f"The next image [{KEYS['next_image']}]", lambda: self.moved.emit(1)
        )
        self.done_button = button(
            "Done",
            f"This image is done; write its labels and show the next one [{KEYS['done_image']}]",
            self.done_requested.emit,
        )
        self.skip_button = button(
            "Skip", "Leave this image out, and show the next one", self.skip_requested.emit
        )
        self.list_button = switch("List", "Show all images and how far they are")
        self.progress = PlainLabel()
        self.progress.setWordWrap(False)
        self.progress.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.list = QListWidget()
        self.list.setUniformItemSizes(True)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setFixedHeight(_LIST_HEIGHT)
        self.list.setHidden(True)
        self.list.itemActivated.connect(lambda _item: self.chosen.emit(self.list.currentRow()))
        self.list.itemClicked.connect(lambda _item: self.chosen.emit(self.list.currentRow()))
        self.list_button.toggled.connect(self.list.setVisible)
        line = QHBoxLayout()
        line.setSpacing(4)
        for arrow in (self.previous_button, self.next_button):
            arrow.setFixedWidth(32)
            line.addWidget(arrow)
        line.addWidget(self.progress, stretch=1)
        for one in (self.done_button, self.skip_button, self.list_button):
            line.addWidget(one)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.setSpacing(3)
        layout.addLayout(line)
        layout.addWidget(self.list)
        self.setHidden(True)

    def show_series(self, work: SeriesWork) -> None:
        """Show where one is and how far every image is."""
        series = work.series
        self.setVisible(series is not None)
        if series is None:
            return
        reading = "Reading … " if work.is_reading else ""
        self.progress.setText(f"{reading}{series.summary}")
        self.progress.setToolTip(tip(f"{series.images[series.at].name}\nLabels: {series.labels}"))
        texts = [
            f"{_SIGNS[series.state(place)]}  {image.name}  ({series.state(place)})"
            for place, image in enumerate(series.images)
        ]
        blocker = QSignalBlocker(self.list)
        if self.list.count() != len(texts):
            self.list.clear()
            self.list.addItems(texts)
        for place, text in enumerate(texts):
            item = self.list.item(place)
            if item is not None and item.text() != text:
                item.setText(text)
        self.list.setCurrentRow(series.at)
        blocker.unblock()
        self.previous_button.setEnabled(series.at > 0)
        self.next_button.setEnabled(series.at + 1 < len(series))


class SeriesForm(QWidget):
    """Which images, and where their labels go.

    Attributes
    ----------
    requested : Signal(list, str)
        Sources, see `Series`, and the labels' folder; empty for the one beside the images.
    """

    requested = Signal(list, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._files: list[str] = []
        self.images, self.labels = QLineEdit(), QLineEdit()
        self.images.setPlaceholderText("folder, plate*/*.tif, OME-Zarr")
        self.images.setToolTip("A folder of images, a pattern, an OME-Zarr, or several files")
        self.images.textEdited.connect(self._files.clear)
        self.images.returnPressed.connect(self._request)
        self.labels.setPlaceholderText("labels, in the folder of the images")
        self.labels.setToolTip("Where labels, sessions and how far each image is are written")
        self.open_button = button(
            "Open series", "Go through these images, beginning where you were", self._request
        )
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(3)
        folder = button("Folder…", "Choose a folder of images, or an OME-Zarr", self._ask_folder)
        files = button("Files…", "Choose several images", self._ask_files)
        other = button("Folder…", "Choose the folder for the labels", self._ask_labels)
        for line, (text, field) in enumerate((("Images", self.images), ("Labels", self.labels))):
            layout.addWidget(QLabel(text), line, 0)
            layout.addWidget(field, line, 1)
        layout.addWidget(folder, 0, 2)
        layout.addWidget(files, 0, 3)
        layout.addWidget(other, 1, 2)
        layout.addWidget(self.open_button, 1, 3)
        layout.setColumnStretch(1, 1)

    def _ask_folder(self) -> None:
        if path := ask_folder(self, "Open a series of images"):
            self.show_sources([path])

    def _ask_files(self) -> None:
        kinds = " ".join(f"*{suffix}" for suffix in sorted(IMAGE_SUFFIXES))
        paths = ask_open_paths(self, "Open images", f"Images ({kinds})")
        if paths:
            self.show_sources(paths)

    def _ask_labels(self) -> None:
        if path := ask_folder(self, "The folder for the labels"):
            self.labels.setText(path)

    def show_sources(self, paths: list[str]) -> None:
        """Show what was chosen."""
        self._files[:] = paths
        self.images.setText(paths[0] if len(paths) == 1 else f"{len(paths)} files")

    def _request(self) -> None:
        sources = list(self._files) or [self.images.text().strip()]
        if sources[0]:
            self.requested.emit(sources, self.labels.text().strip())


def connect_series(bar: SeriesBar, form: SeriesForm, work: SeriesWork) -> None:
    """Let the bar and the form command a series, and show it."""
    bar.moved.connect(work.move)
    bar.chosen.connect(work.go)
    bar.done_requested.connect(work.finish)
    bar.skip_requested.connect(work.skip)
    form.requested.connect(lambda sources, labels: work.open(sources, labels or None))
    # A function without the bar in it would not know when it is gone.
    work.changed.connect(lambda: bar.show_series(work))
    bar.show_series(work)
