"""The dock *Pi-SAM: Segment*: panels on one side, the controller on the other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QFrame, QGroupBox, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_pisam.docks.segment.classes import Classes
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.docks.segment.first_steps import is_over, next_step
from napari_pisam.docks.segment.hints import PANNED, hint
from napari_pisam.docks.segment.image_kinds import ImageKinds
from napari_pisam.docks.segment.keys import bind_keys, keys_table
from napari_pisam.docks.segment.object_table import ObjectTable
from napari_pisam.docks.segment.series import SeriesWork
from napari_pisam.layers.proxies import unwrapped
from napari_pisam.widgets.background import Background
from napari_pisam.widgets.busy_bar import BusyBar
from napari_pisam.widgets.channels import ChannelPanel
from napari_pisam.widgets.class_dialog import ClassDialog
from napari_pisam.widgets.docked import Docked
from napari_pisam.widgets.export_panel import ExportPanel
from napari_pisam.widgets.file_actions import FileActions
from napari_pisam.widgets.getting_started import GettingStarted
from napari_pisam.widgets.layer_panel import LayerPanel
from napari_pisam.widgets.many_panel import ManyPanel
from napari_pisam.widgets.model_loader import ModelLoader
from napari_pisam.widgets.model_panel import ModelPanel
from napari_pisam.widgets.object_list import ObjectList
from napari_pisam.widgets.options_panel import OptionsPanel
from napari_pisam.widgets.parts import Section
from napari_pisam.widgets.preferences import Preferences
from napari_pisam.widgets.prompt_panel import PromptPanel
from napari_pisam.widgets.remembered import (
    follow_options,
    remember_columns,
    remember_disk,
    remember_model,
    restore_options,
)
from napari_pisam.widgets.series import SeriesBar, SeriesForm, connect_series
from napari_pisam.widgets.stack_panel import StackPanel

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari
    from qtpy.QtGui import QPaintEvent


# The window is drawn by then, and few have begun a box.
IDLE = 700  # ms
# An image is taken and layers are made for it once the dock is drawn: napari takes longer for them
# than the dock to open. In a window that is not drawn, after this time.
SHOWN = 1000  # ms
# How often it is looked how many tiles of a large object are done.
TILES = 400  # ms
WIDTH = 420  # px; can be dragged


class SegmentWidget(Docked):
    """Boxes and clicks in, labels out.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer that it is docked in.

    Attributes
    ----------
    controller : SegmentController
        What the buttons and keys call; for scripts too.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        _close_others(self._viewer)
        # napari.components brings all kinds of layers with it, which a viewer has loaded anyway.
        from napari_pisam.widgets.layer_actions import fill_layer_menu

        fill_layer_menu()
        self._background = Background()
        self._preferences = Preferences()
        self._is_beginner = not self._preferences.get("has_committed", False)
        self.controller = SegmentController(viewer, self._background.execute, self._later)
        self._kinds = ImageKinds(self._background.write, self._refresh_soon)
        self.objects = ObjectTable(
            self.controller.workspace,
            self._background.write,
            self._later,
            lambda: self.controller.stacks.line,
        )
        self.classes = Classes(self.controller.workspace)
        self.objects.touched.connect(self.classes.touch)
        self.classes.active = self.controller.kept.class_name
        self._note = ""
        self._has_begun = False
        self._unbind: dict[object, Callable[[], None]] = {}
        self.sections: list[Section] = []
        self._make_panels()
        self.objects.shown, self.objects.in_pixels = self.controller.kept.columns
        self.loader = ModelLoader(self._background, self.model_panel, self.controller)
        # Before the file is written, which is what others connect to this.
        for requested in (self.export_panel.labels_requested, self.export_panel.format_requested):
            requested.connect(lambda *_given: self.controller.before_export())
        self.files = FileActions(
            self._background, self.export_panel, self.controller, self.objects, self
        )
        self.series = SeriesWork(self.controller, self._background.write, self.files.autosaver)
        connect_series(self.series_bar, self.series_form, self.series)
        self._busy_bar = BusyBar(self, "Pi-SAM: predicting")
        # Many things change at once; they are shown once.
        self._refresh_timer = QTimer(self)
        self._refresh_timer.setSingleShot(True)
        self._refresh_timer.timeout.connect(self.refresh)
        self._tiles_timer = QTimer(self)
        self._tiles_timer.setInterval(TILES)
        self._tiles_timer.timeout.connect(self._show_tiles)
        self._idle_timer = QTimer(self)
        self._idle_timer.setSingleShot(True)
        self._idle_timer.timeout.connect(self.loader.get_ready)
        self._connect_panels()
        self._connect_controller()
        self._actions = self._make_actions()
        self._unbind[self._viewer] = bind_keys(self._viewer, self._actions)
        clean_up = self._make_cleanup()
        self.left.connect(self.stop)
        self.destroyed.connect(lambda: clean_up(viewer_stays=False))
        self._clean_up = clean_up
        self.getting_started.setVisible(self._is_beginner)
        self._later(self._begin, SHOWN)

    # -- layout -------------------------------------------------------------------------------

    def _make_panels(self) -> None:
        self.layer_panel, self.model_panel = LayerPanel(), ModelPanel()
        self.many_panel, self.export_panel = ManyPanel(), ExportPanel()
        self.prompt_panel, self.object_list = PromptPanel(self.many_panel), ObjectList()
        self.series_bar, self.series_form = SeriesBar(), SeriesForm()
        self.stack_panel = StackPanel(self.controller)
        self.getting_started = GettingStarted()
        restore_options(self.controller, self._preferences)
        remember_model(self.model_panel, self._preferences)
        remember_disk(self.controller, self.export_panel, self._preferences)
        self.channel_panel = ChannelPanel()
        kept = self.controller.kept
        self.options_panel = OptionsPanel(
            self.controller.set_rule,
            self.controller.set_look,
            self.controller.set_switches_tools,
            look=kept.look,
            rule=kept.rule,
            switches_tools=kept.switches_tools,
            on_cleaning=self.controller.set_cleaning,
            cleaning=kept.cleaning,
        )
        follow_options(self.options_panel, self._preferences)
        self.prompt_panel.live.setChecked(kept.live)
        files = QWidget()
        files_layout = QVBoxLayout(files)
        files_layout.setContentsMargins(0, 0, 0, 0)
        files_layout.addWidget(self.export_panel)
        files_layout.addWidget(_group("Series of images", self.series_form))
        keys = QLabel(keys_table())
        keys.setWordWrap(True)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(4, 0, 4, 2)
        layout.setSpacing(2)
        layout.addWidget(self.getting_started)
        layout.addWidget(self.series_bar)
        layout.addWidget(_group("Layers", self.layer_panel))
        layout.addWidget(_group("Model", self.model_panel))
        layout.addWidget(_group("Box and clicks", self.prompt_panel))
        layout.addWidget(_group("Objects", self.object_list), stretch=1)
        self.stack_section = Section(
            "Through the stack", self.stack_panel, "Carry objects from slice to slice"
        )
        layout.addWidget(self.stack_section)
        for title, panel, tip in (
            ("Options", self.options_panel.native, "How objects meet, how the preview looks"),
            ("Channels", self.channel_panel, "What the network sees together"),
            ("Files", files, "Labels and sessions to files, and back; series of images"),
            ("Keys", keys, "They work on the canvas, whichever layer is selected"),
        ):
            self.sections.append(Section(title, panel, tip))
            layout.addWidget(self.sections[-1])
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(content)
        self.content = content
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(300)

    def sizeHint(self) -> QSize:
        """Ask for no more than leaves the image most of a laptop's screen."""
        return QSize(WIDTH, super().sizeHint().height())

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Begin once the dock was drawn for the first time."""
        super().paintEvent(event)
        if not self._has_begun:
            self._later(self._begin)

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.controller.start()
            self.refresh()
            self._idle_timer.start(IDLE)

    # -- wiring -------------------------------------------------------------------------------

    def _connect_panels(self) -> None:
        controller, work = self.controller, self.controller.workspace
        self.layer_panel.chosen.connect(work.choice.choose)
        self.layer_panel.new_requested.connect(controller.new_prompt_layers)
        self.layer_panel.copy_requested.connect(work.copy_layer)
        prompt, objects = self.prompt_panel, self.object_list
        prompt.foreground_chosen.connect(controller.set_foreground)
        prompt.live_chosen.connect(controller.set_live)
        prompt.predict_requested.connect(controller.predict)
        prompt.cancel_requested.connect(controller.cancel)
        prompt.box_requested.connect(controller.draw_box)
        prompt.draw_requested.connect(controller.draw)
        prompt.use_chosen.connect(controller.change_shapes)
        prompt.other_answer_requested.connect(controller.ask_for_other_answer)
        prompt.click_requested.connect(controller.take_click_tool)
        objects.shown.connect(controller.show)
        objects.picked.connect(controller.pick)
        objects.commit_requested.connect(controller.commit)
        objects.next_requested.connect(controller.next_object)
        objects.discard_requested.connect(controller.discard)
        objects.undo_requested.connect(controller.undo)
        objects.redo_requested.connect(controller.redo)
        objects.label_requested.connect(controller.pick_selected_label)
        objects.clean_requested.connect(controller.clean)
        objects.columns_chosen.connect(self._choose_columns)
        objects.class_chosen.connect(lambda name: self.classes.give(name, objects.selected))
        objects.classes_requested.connect(self._edit_classes)
        objects.table_requested.connect(self._save_table)
        self.objects.changed.connect(self._refresh_soon)
        controller.stacks.changed.connect(self._refresh_soon)
        self.getting_started.sample_requested.connect(self._open_sample)
        self.getting_started.closed.connect(self._end_first_steps)
        self.many_panel.start_requested.connect(controller.segment_all)
        self.many_panel.cancel_requested.connect(controller.cancel)

    def _connect_controller(self) -> None:
        controller, work = self.controller, self.controller.workspace
        work.changed.connect(self._refresh_soon)
        work.objects_changed.connect(self._on_objects)
        work.busy_changed.connect(self._on_busy)
        work.hinted.connect(self._on_hint)
        work.failed.connect(self._on_failed)
        controller.tools.changed.connect(self._on_tool)
        controller.foreground_changed.connect(self.prompt_panel.show_foreground)
        controller.progressed.connect(self._on_progress)

    def _make_actions(self) -> dict[str, Callable[[], object]]:
        controller = self.controller
        return {
            "box": controller.draw_box,
            "part": lambda: controller.draw("part"),
            "scribble": lambda: controller.draw("scribble"),
            "outline": lambda: controller.draw("outline"),
            "toggle": controller.toggle_foreground,
            "other": controller.ask_for_other_answer,
            "commit": controller.commit,
            "next": controller.next_object,
            "discard": controller.discard,
            "pick": controller.pick_at_cursor,
            "predict": controller.predict,
            "hide": controller.workspace.preview.toggle,
            "undo": controller.undo,
            "redo": controller.redo,
            "next_image": lambda: self.series.move(1),
            "previous_image": lambda: self.series.move(-1),
            "done_image": self.series.finish,
            **{f"class {place}": partial(self._give_class, place) for place in range(10)},
        }

    def _give_class(self, place: int) -> None:
        self.classes.give_by_key(place, self.object_list.selected)

    def _edit_classes(self) -> None:
        known = self.controller.workspace.planes.classes
        dialog = ClassDialog(self, known, self.classes.is_shown)
        if dialog.exec():
            self.classes.edit(dialog.wanted)
            self.classes.show(dialog.layer_check.isChecked())
        dialog.deleteLater()
        self._refresh_soon()

    def _bind_layers(self) -> None:
        """Bind the keys on the prompt layers too: a layer's own keys come before the viewer's."""
        choice = self.controller.workspace.choice
        layers = {choice["boxes"], choice["clicks"]} - {None}
        wanted = {self._viewer, *layers}
        for gone in self._unbind.keys() - wanted:
            self._unbind.pop(gone)()
        for layer in wanted - self._unbind.keys():
            self._unbind[layer] = bind_keys(layer, self._actions)

    def _choose_columns(self, shown: tuple[str, ...], in_pixels: bool) -> None:
        self.objects.choose(shown, in_pixels=in_pixels)
        remember_columns(self._preferences, shown, in_pixels=in_pixels)

    def _save_table(self, path: str) -> None:
        job, name = self.objects.saving_job(Path(path)), Path(path).name
        self.files.write(job, f"Table written to {name}", "Writing the table")

    def _later(self, call: Callable[[], None], after: int = 0) -> None:
        background = self._background
        QTimer.singleShot(after, lambda: None if background.is_stopped else call())

    def stop(self) -> None:
        """End all work and let go of the viewer; another dock can go on from here."""
        self._refresh_timer.stop()
        self._tiles_timer.stop()
        self._idle_timer.stop()
        self._busy_bar.show(False)
        self.controller.kept.columns = self.objects.shown, self.objects.in_pixels
        self.controller.kept.class_name = self.classes.active
        self._clean_up(viewer_stays=True)

    def _make_cleanup(self) -> Callable[..., None]:
        # Holds no reference to the widget, which may be gone when this is called.
        background, controller, files = self._background, self.controller, self.files
        objects, series, loader = self.objects, self.series, self.loader
        bound = self._unbind

        def clean_up(*, viewer_stays: bool) -> None:
            if not background.is_stopped:
                series.close(viewer_stays=viewer_stays)
                files.close()
                objects.close()
                loader.close()
                background.stop()
                controller.close(viewer_stays=viewer_stays)
                while bound:
                    bound.popitem()[1]()

        return clean_up

    # -- what the controller says -------------------------------------------------------------

    def _refresh_soon(self) -> None:
        if not self._background.is_stopped:
            self._refresh_timer.start(0)

    def _on_objects(self) -> None:
        self._note = ""
        self._refresh_soon()

    def _on_tool(self) -> None:
        # What was said about the last tool is over; what went wrong stays to be read.
        if self._note == PANNED:
            self._note = ""
        self._refresh_soon()

    def _on_hint(self, text: str) -> None:
        self._note = text
        self._refresh_soon()

    def _on_failed(self, text: str) -> None:
        from napari.utils.notifications import show_warning

        self._on_hint(text)
        show_warning(text)

    def _on_busy(self, busy: bool) -> None:
        self.prompt_panel.show_busy(busy)
        self._busy_bar.show(busy)
        (self._tiles_timer.start if busy else self._tiles_timer.stop)()
        if not busy:
            self.many_panel.show_idle()
            self.loader.show()

    def _show_tiles(self) -> None:
        session = self.controller.session
        self.prompt_panel.show_tiles(None if session is None else session.tiles)

    def _on_progress(self, done: int, total: int) -> None:
        if done < total:
            self.many_panel.show_progress(done, total)
        else:
            self.many_panel.show_idle()

    def _open_sample(self, key: str) -> None:
        self._viewer.open_sample("napari-pisam", key)

    def _end_first_steps(self) -> None:
        self._is_beginner = False
        self._preferences.set("has_committed", True)
        self.getting_started.hide()

    def _show_first_steps(self) -> None:
        if self._is_beginner and is_over(self.controller.session):
            self._end_first_steps()
        self.getting_started.setVisible(self._is_beginner)
        if self._is_beginner:
            self.getting_started.show_step(next_step(self.controller.session))

    def refresh(self) -> None:
        """Show everything as it is now."""
        self._show_first_steps()
        work, session = self.controller.workspace, self.controller.session
        self._bind_layers()
        self.layer_panel.show_layers(work.choice.candidates, work.choice.current)
        self.layer_panel.show_seen(work.planes.seen)
        self.stack_section.setVisible(self.stack_panel.is_needed)
        self.stack_panel.refresh()
        self.sections[1].setVisible(self.channel_panel.show_channels(work.planes))
        self.model_panel.show_kind(self._kinds.kind_of(work.planes.image, work.planes.plane))
        self.classes.follow()
        current = None if session is None else session.current
        labels = work.choice["labels"]
        self.object_list.show_objects(
            self.objects.rows(),
            None if current is None else current.id,
            self.objects.shown_columns(),
        )
        chosen = self.classes.active if current is None else current.class_name
        self.object_list.show_classes(list(work.planes.classes), chosen)
        self.object_list.column_menu.show_columns(
            self.objects.columns(),
            self.objects.shown,
            in_pixels=self.objects.in_pixels,
            unit=self.objects.pixel.unit,
        )
        self.object_list.show_possible(
            commit=current is not None and current.prompts is not None,
            current=current is not None,
            undo=session is not None and session.can_undo,
            redo=session is not None and session.can_redo,
            label=session is not None and labels is not None,
        )
        text = hint(work, self.controller.tools.role, is_loading=self.loader.is_loading)
        self.prompt_panel.show_hint(self._note or text)


def _close_others(viewer: Any) -> None:
    """Close the Segment docks that the viewer has: two would draw and write the same objects."""
    window = getattr(viewer, "window", None)
    if window is None:
        return
    for other in list(window.dock_widgets.values()):
        if isinstance(other, SegmentWidget):
            other.stop()
            window.remove_dock_widget(other)


def _group(title: str, *panels: QWidget) -> QGroupBox:
    group = QGroupBox(title)
    layout = QVBoxLayout(group)
    layout.setContentsMargins(6, 2, 6, 3)
    for panel in panels:
        layout.addWidget(panel)
    return group
