"""From what the model panel says to a predictor. Imports torch only when it loads."""

from __future__ import annotations

import html
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_pisam.docks.quiet_import import quiet_import
from napari_pisam.docks.wording import memory_text
from napari_pisam.predict.workers import connect, is_scheduler
from napari_pisam.weights.catalogue import EMBEDDED

if TYPE_CHECKING:
    from napari_pisam.docks.jobs import Cancelled, Report

IN_PACKAGE = EMBEDDED
_CACHE_BYTES = 1 << 30
_DRAW_FIRST = 0.15  # s
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class LoadedPredictor:
    """A predictor and what is known of its model.

    Attributes
    ----------
    predictor : Predictor
        Ready for `set_image`.
    name : str
        The variant's name, or the checkpoint's path.
    sha256 : str
        Of the weights.
    device : str
        Where the network is, e.g. ``"cuda:0"``.
    nbytes : int
        Of the network's weights in memory.
    cache : EmbeddingCache or None
        Its encoded images.
    cluster : Cluster or None
        Where it is not this process that computes.
    """

    predictor: Any
    name: str
    sha256: str
    device: str
    nbytes: int
    cache: Any = None
    cluster: Any = None

    def close(self) -> None:
        """Let workers go; may take seconds."""
        if self.cluster is not None:
            self.cluster.close()

    def describe(self, title: str) -> str:
        """Say what is loaded where, and what memory it takes; ``title`` is the model's name."""
        if self.cluster is not None:
            return f"<b>{html.escape(title)}</b> on {html.escape(self.device)}"
        used = 0 if self.cache is None else self.cache.nbytes
        return (
            f"<b>{html.escape(title)}</b> on {html.escape(self.device)} · weights "
            f"{memory_text(self.nbytes)} · encoded images {memory_text(used)}"
        )


class DownloadNeededError(ValueError):
    """The model is not on this machine, and nobody asked for a download."""


def warm_up() -> None:
    """Import what the first prompt will need; call it off the GUI thread, while nobody waits."""
    with quiet_import():
        import_module("napari_pisam.predict.predictor")
        import_module("napari_pisam.weights.loading")
        import_module("napari_pisam.model.compact_encoder")  # timm: as long as the others


def load_predictor(
    name: str,
    device: str,
    report: Report,
    cancelled: Cancelled,
    *,
    may_download: bool = True,
) -> LoadedPredictor:
    """Download (where it is needed), check, build and move a model; call it off the GUI thread.

    Parameters
    ----------
    name : str
        A variant's name or the path of a checkpoint file.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``; or workers, see `connect`.
    report, cancelled : callable
        Progress of a download in bytes, and whether to end it.
    may_download : bool
        Whether the user asked for that; hundreds of megabytes must not come unasked.

    Raises
    ------
    DownloadNeededError
        If it would have to be downloaded and may not.
    ValueError, CheckpointError, DownloadError
        With a sentence that says what to do.
    """
    if "torch" not in sys.modules:
        # The linker has a lock of its own. OpenGL wants it to draw the box that was drawn just now,
        # and torch's libraries keep it for half a second: the box comes first.
        time.sleep(_DRAW_FIRST)
    with quiet_import():
        from napari_pisam.predict.embedding_cache import EmbeddingCache
        from napari_pisam.predict.predictor import Predictor
        from napari_pisam.weights.cache import missing_entry
        from napari_pisam.weights.loading import load_model

    # Whether workers elsewhere have it is for them to say.
    is_elsewhere = is_scheduler(device) and not device.startswith("local")
    missing = None if is_elsewhere else missing_entry(name)
    if missing is not None and not may_download:
        raise DownloadNeededError(
            f"{name} is not on this machine yet. Press Load in the dock to download it "
            f"({memory_text(missing.size)}), or choose {IN_PACKAGE}. Your prompts are kept."
        )
    if is_scheduler(device):
        return _connected(name, device, cancelled)
    loaded = load_model(name, progress=report, cancel=cancelled)
    cache = EmbeddingCache(_CACHE_BYTES)
    predictor = Predictor(loaded.model, device=device, cache=cache)
    nbytes = sum(p.numel() * p.element_size() for p in predictor.model.parameters())
    return LoadedPredictor(predictor, name, loaded.sha256, str(predictor.device), nbytes, cache)


def _connected(name: str, where: str, cancelled: Cancelled) -> LoadedPredictor:
    cluster = connect(where, name)
    if cancelled():
        cluster.close()
        raise ValueError("Connecting to the workers was cancelled.")
    predictor, info = cluster.predictor(), cluster.info
    return LoadedPredictor(predictor, name, info.sha256 or "", predictor.device, 0, cluster=cluster)
