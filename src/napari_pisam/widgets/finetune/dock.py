"""The dock *Pi-SAM: Fine-tune*: panels on one side, the controller on the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_pisam.docks.finetune.controller import FineTuneController
from napari_pisam.docks.finetune.run_control import TrainingBackend
from napari_pisam.docks.segment.layer_choice import LayerChoice
from napari_pisam.docks.segment.preview import is_preview
from napari_pisam.layers.proxies import unwrapped
from napari_pisam.learn.finetune.settings import setting_fields
from napari_pisam.widgets.background import Background
from napari_pisam.widgets.docked import Docked
from napari_pisam.widgets.finetune.objects_panel import ObjectsPanel
from napari_pisam.widgets.finetune.run_panel import RunPanel
from napari_pisam.widgets.finetune.segment_link import find_segment
from napari_pisam.widgets.finetune.settings_panel import SettingsPanel
from napari_pisam.widgets.finetune.training_panel import TrainingPanel
from napari_pisam.widgets.parts import titled
from napari_pisam.widgets.preferences import Preferences

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari

_POLL = 200  # ms
_HELLO = (
    "Start checks first whether it can work; then it trains until the time is over or you stop."
)


class FineTuneWidget(Docked):
    """Corrections in, a better model out.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer that it is docked in.
    backend : TrainingBackend, optional
        What trains.

    Attributes
    ----------
    controller : FineTuneController
        What the buttons call; for scripts too.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, backend: TrainingBackend | None = None
    ) -> None:
        super().__init__()
        viewer = unwrapped(viewer)
        self._viewer, self._backend = viewer, backend or TrainingBackend()
        self._background = Background()
        self.controller = FineTuneController(
            viewer,
            self._background.start,
            self._backend,
            lambda open_it: find_segment(viewer, open_it=open_it),
        )
        # Only to follow the layer list: nothing is chosen by it.
        self._layers = LayerChoice(viewer, is_preview)
        self._make_panels()
        self._connect_panels()
        self._connect_controller()
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL)
        self._timer.timeout.connect(self._on_timer)
        self._timer.start()
        clean_up = self._make_cleanup()
        self.left.connect(clean_up)
        self.destroyed.connect(clean_up)
        self.run_panel.show_note(_HELLO)
        self._show_layers()
        self._show_runs()
        self._show_objects()
        self.controller.set_values(self.settings_panel.values)
        self.controller.take_up()
        self.controller.add_session(is_asked=False)

    def _make_panels(self) -> None:
        self.objects_panel = ObjectsPanel()
        self.settings_panel = SettingsPanel(setting_fields())
        self.settings_panel.remember(Preferences())
        self.training_panel, self.run_panel = TrainingPanel(), RunPanel()
        prepare = QWidget()
        layout = QVBoxLayout(prepare)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(6)
        layout.addWidget(titled("Objects to learn from", self.objects_panel), stretch=1)
        layout.addWidget(titled("Settings", self.settings_panel))
        self.tabs = QTabWidget()
        self.tabs.addTab(_Page(prepare), "Objects and settings")
        self.tabs.addTab(_Page(self.training_panel), "Training")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2)
        outer.addWidget(self.tabs, stretch=1)
        outer.addWidget(self.run_panel)

    # -- wiring -------------------------------------------------------------------------------

    def _connect_panels(self) -> None:
        controller, learning = self.controller, self.controller.learning
        objects, run, training = self.objects_panel, self.run_panel, self.training_panel
        objects.session_requested.connect(lambda: controller.add_session())
        objects.layers_requested.connect(
            lambda image, labels, every: controller.add_layers(image, labels, all_slices=every)
        )
        objects.folders_requested.connect(lambda a, b: controller.add_folders(Path(a), Path(b)))
        objects.part_requested.connect(learning.set_part)
        objects.removal_requested.connect(
            lambda lines: learning.remove({learning.rows[line].image for line in lines})
        )
        objects.fraction_chosen.connect(learning.set_fraction)
        objects.split_requested.connect(learning.split_again)
        self.settings_panel.edited.connect(controller.set_values)
        run.check_requested.connect(lambda: controller.check())
        run.start_requested.connect(controller.start)
        run.pause_requested.connect(controller.runner.pause)
        run.resume_requested.connect(controller.runner.resume)
        run.stop_requested.connect(controller.stop)
        training.run_chosen.connect(controller.runner.open)
        training.result.use_requested.connect(controller.use)
        training.result.export_requested.connect(lambda path: controller.export(Path(path)))

    def _connect_controller(self) -> None:
        controller = self.controller
        controller.changed.connect(self._on_changed)
        controller.learning.changed.connect(self._show_objects)
        controller.learning.activity.changed.connect(self._on_reading)
        controller.checked.connect(self._on_checked)
        controller.failed.connect(self._on_failed)
        controller.hinted.connect(self._on_hinted)
        controller.runner.changed.connect(self._on_state)
        controller.runner.began.connect(self._on_began)
        controller.runner.ended.connect(self._on_ended)
        self._layers.listed.connect(self._show_layers)

    def _make_cleanup(self) -> Callable[[], None]:
        # Holds no reference to the widget, which is gone when this is called.
        background, controller, layers = self._background, self.controller, self._layers

        def clean_up() -> None:
            if not background.is_stopped:
                background.stop()
                layers.close()
                controller.close()

        return clean_up

    # -- what the controller says -------------------------------------------------------------

    def _on_timer(self) -> None:
        self.controller.runner.poll()
        if self.controller.activity.title:
            self._on_changed()

    def _on_changed(self) -> None:
        controller = self.controller
        self.run_panel.show_state(
            controller.runner.state,
            controller.activity.title,
            controller.activity.detail,
            is_occupied=controller.is_occupied,
            is_own=controller.runner.is_own,
            can_resume=controller.runner.can_resume,
        )

    def _on_state(self, state: Any) -> None:
        runner = self.controller.runner
        self.training_panel.show_state(
            state,
            None if runner.run is None else runner.run.folder,
            is_going=runner.is_own,
            is_busy=bool(self.controller.activity.title),
        )
        self._on_changed()

    def _on_began(self) -> None:
        self.tabs.setCurrentIndex(1)
        self.run_panel.show_note("")
        self._show_runs()
        self._show_objects()

    def _on_ended(self, _state: Any) -> None:
        self._show_runs()
        self.settings_panel.list_results()
        segment = find_segment(self._viewer)
        if segment is not None:
            segment.list_results()

    def _on_checked(self, result: Any) -> None:
        texts = [result.summary, *result.warnings]
        self.run_panel.show_note(" ".join(text for text in texts if text))

    def _on_hinted(self, text: str) -> None:
        self.run_panel.show_note(text)

    def _on_failed(self, text: str) -> None:
        self.run_panel.show_note(text, is_problem=True)
        if self.visibleRegion().isEmpty():  # nobody sees the note
            from napari.utils.notifications import show_warning

            show_warning(text)

    def _on_reading(self) -> None:
        is_reading = self.controller.learning.activity.is_busy
        self.objects_panel.show_busy(is_reading)
        if not is_reading:
            self._show_objects()

    def _show_objects(self) -> None:
        learning = self.controller.learning
        summary = self.controller.objects_summary
        self.objects_panel.show_objects(learning.rows, summary, learning.fraction)
        if not learning.problems:
            self.run_panel.clear_problem()

    def _show_layers(self) -> None:
        found = self._layers.candidates
        self.objects_panel.show_layers(found["image"], found["labels"])

    def _show_runs(self) -> None:
        run = self.controller.runner.run
        self.training_panel.show_runs(
            self._backend.list_runs(), None if run is None else run.folder
        )


class _Page(QScrollArea):
    """A page that scrolls up and down, and is never cut off at its side."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def minimumSizeHint(self) -> QSize:
        """Return the least size: the content's width with the theme's fonts."""
        content, bar = self.widget(), self.verticalScrollBar()
        width = 0 if content is None else content.minimumSizeHint().width()
        room = 0 if bar is None else bar.sizeHint().width()
        return QSize(width + room, super().minimumSizeHint().height())
