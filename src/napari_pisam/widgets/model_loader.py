"""Between the model panel, a worker and the controller."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_pisam.docks.segment.loading import LoadedPredictor, load_predictor, warm_up
from napari_pisam.session.requests import failure_sentence
from napari_pisam.session.session import ModelRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.jobs import Cancelled, Report
    from napari_pisam.docks.segment.controller import SegmentController
    from napari_pisam.widgets.background import Background, LongJob
    from napari_pisam.widgets.model_panel import ModelPanel


class ModelLoader:
    """Loads a model when it is asked for, or when the first prompt needs one.

    Parameters
    ----------
    background : Background
        Where it is loaded.
    panel : ModelPanel
        Which one, and where it is shown how far it is.
    controller : SegmentController
        Gets it.
    load : callable
        See `load_predictor`.
    warm_up : callable
        See `napari_pisam.docks.segment.loading.warm_up`.
    """

    def __init__(
        self,
        background: Background,
        panel: ModelPanel,
        controller: SegmentController,
        load: Callable[..., LoadedPredictor] = load_predictor,
        warm_up: Callable[[], object] = warm_up,
    ) -> None:
        self._background, self._panel, self._controller = background, panel, controller
        self._load, self._warm_up = load, warm_up
        self._job: LongJob | None = None
        self._refused: tuple[str, str] | None = None
        self.loaded: LoadedPredictor | None = None
        panel.load_requested.connect(self.load)
        panel.cancel_requested.connect(self.cancel)
        controller.workspace.model_wanted.connect(self._load_wanted)

    @property
    def is_loading(self) -> bool:
        """Whether a model is on its way."""
        return self._job is not None

    def get_ready(self) -> None:
        """Import the network's libraries, so that the first box need not wait for them."""
        if self.loaded is None and self._job is None:
            # What fails here fails again, and is told, when a model is loaded.
            self._background.execute(self._warm_up, lambda _done: None, lambda _error: None)

    def load(self, name: str, device: str) -> None:
        """Load a model, with a download if need be."""
        self._start(name, device, may_download=True)

    def _load_wanted(self) -> None:
        # What failed once would fail at every click.
        if self._panel.choice != self._refused:
            self._start(*self._panel.choice, may_download=False)

    def _start(self, name: str, device: str, *, may_download: bool) -> None:
        if self._job is not None:
            return
        self._panel.show_loading(name)
        self._job = self._background.start(
            f"Pi-SAM: loading {self._panel.models.title(name)}",
            partial(_run, self._load, name, device, may_download),
            self._done,
            partial(self._failed, (name, device)),
            self._panel.show_progress,
        )

    def cancel(self) -> None:
        """Stop what is being loaded; what has been downloaded is kept."""
        if self._job is not None:
            self._job.cancel()

    def _done(self, loaded: LoadedPredictor) -> None:
        was_cancelled = self._job is not None and self._job.is_cancelled
        self._job = None
        if was_cancelled:
            self._let_go(loaded)
            self._panel.show_idle("Cancelled.")
            return
        before = self.loaded
        self._refused, self.loaded = None, loaded
        self.show()
        model = ModelRef(loaded.name, loaded.sha256, loaded.device)
        self._controller.set_model(loaded.predictor, model)
        self._let_go(before)

    def _let_go(self, loaded: LoadedPredictor | None) -> None:
        """Let workers end what they are at, and go; not on the GUI thread."""
        if loaded is not None and loaded.cluster is not None:
            self._background.write(loaded.close, lambda _done: None, lambda _error: None)

    def close(self) -> None:
        """Let workers go, before the background stops."""
        self._let_go(self.loaded)
        self.loaded = None

    def _failed(self, choice: tuple[str, str], error: BaseException) -> None:
        was_cancelled = self._job is not None and self._job.is_cancelled
        self._job, self._refused = None, choice
        if was_cancelled:
            self._panel.show_idle("Cancelled. What has been downloaded is kept for the next time.")
            return
        known = type(error).__module__.startswith("napari_pisam") or isinstance(error, ValueError)
        text = str(error) if known else failure_sentence(error, "Loading the model")
        self._panel.show_idle(text)
        self._controller.workspace.failed.emit(text)

    def show(self) -> None:
        """Show what is loaded, and the memory that it takes now."""
        if self.loaded is not None and self._job is None:
            self._panel.show_idle(self.loaded.describe(self._panel.models.title(self.loaded.name)))


def _run(
    load: Callable[..., LoadedPredictor],
    name: str,
    device: str,
    may_download: bool,
    report: Report,
    cancelled: Cancelled,
) -> Any:
    return load(name, device, report, cancelled, may_download=may_download)
