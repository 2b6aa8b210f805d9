"""Predictions on other processes and machines, through dask.distributed.

A worker loads the model once. What is sent to it are the parts of the image that a network sees, as
the frames that it sees them in, and prompts; what comes back are masks' crops. The image stays
where it is, and the masks are those that a `Predictor` here gives.
"""

from __future__ import annotations

import contextlib
import re
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, get_worker
from distributed.scheduler import NoValidWorkerError

from napari_pisam.images.image_source import ImageSource
from napari_pisam.predict.predictor import Predictor, composed, make_prompts
from napari_pisam.predict.preprocessing import MissingFrame, SentImage, to_frame
from napari_pisam.predict.prompts import Prompts, box_prompts
from napari_pisam.predict.tiles import TiledObjects
from napari_pisam.predict.windows import window_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from napari_pisam.model.variants import Variant
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.tiles import Progress, WholeObject
    from napari_pisam.predict.windows import Window

_PLUGIN = "napari-pisam"
_RETRIES = 3
_TIMEOUT = 30
# While one task runs on a worker the next one is on its way.
_AHEAD = 2
_LOCAL = re.compile(r"local(?::([1-9][0-9]{0,3}))?")
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx|inproc)://\S+")


@dataclass(frozen=True)
class ModelInfo:
    """What the workers compute with.

    Attributes
    ----------
    variant : Variant
    sha256, source : str or None
        Of the weights, and where they are from; see `LoadedModel`.
    device : str
    """

    variant: Variant
    sha256: str | None
    source: str
    device: str

    @property
    def model(self) -> ModelInfo:
        """Itself, as a `LoadedModel` has a network here."""
        return self


class ModelPlugin(WorkerPlugin):
    """Loads a model on every worker, on those that come later too.

    Parameters
    ----------
    model, device, precision : str
        As for `Predictor`; a path is one on the workers.
    """

    name = _PLUGIN

    def __init__(self, model: str = "tiny", device: str = "auto", precision: str = "auto") -> None:
        self.model, self.device, self.precision = model, device, precision

    def setup(self, worker: Any) -> None:
        """Load the model; called by the worker."""
        predictor, sha256, source = self.load()
        info = ModelInfo(predictor.model.variant, sha256, source, str(predictor.device))
        worker.pisam = _Loaded(predictor, info)

    def load(self) -> tuple[Predictor, str | None, str]:
        """Return the predictor, the hash of its weights and where they are from."""
        from napari_pisam.weights.loading import load_model

        loaded = load_model(self.model)
        return Predictor(loaded.model, self.device, self.precision), loaded.sha256, loaded.source


@dataclass(frozen=True)
class _Loaded:
    predictor: Predictor
    info: ModelInfo
    # A worker may have several threads, a predictor has one image.
    lock: threading.Lock = field(default_factory=threading.Lock)


# -- on a worker ------------------------------------------------------------------------------


def _info() -> ModelInfo:
    info: ModelInfo = get_worker().pisam.info  # type: ignore[attr-defined]
    return info


def _run(step: str, image: SentImage, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """Run a step of the predictor; what cannot succeed elsewhere either is told and not raised."""
    loaded: _Loaded = get_worker().pisam  # type: ignore[attr-defined]
    with loaded.lock:
        loaded.predictor.set_image(image)
        try:
            found = getattr(loaded.predictor, step)(*arguments)
        except MissingFrame as missing:
            return "missing", missing.window
        except ValueError as error:
            return "refused", str(error)
        finally:
            loaded.predictor.forget_image()
    if step == "predict":
        found = found.without_logits()
    return "found", found


# -- here -------------------------------------------------------------------------------------


class Cluster:
    """Workers that predict.

    Parameters
    ----------
    where : str
        ``"local"`` or ``"local:N"``: N processes on this computer, as many as it has processors by
        default; else the address of a scheduler, such as ``"tcp://gpu-box:8786"``. Certificates
        for ``tls://`` are those of dask's own configuration.
    plugin : ModelPlugin, optional
        Which model they load.

    Raises
    ------
    ValueError
        If there is no such scheduler, or it has no worker that can load the model.
    """

    def __init__(self, where: str, plugin: ModelPlugin | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self._running: set[Any] = set()
        self._cancelled = 0
        try:
            self._client = self._connect(where)
            plugin = plugin or ModelPlugin()
            try:
                self._client.register_plugin(plugin)
                self.info: ModelInfo = self._client.submit(_info, pure=False).result(_TIMEOUT)
            except Exception as error:
                raise ValueError(
                    f"The workers of {where} cannot load {plugin.model!r} ({_words(error)}). "
                    "Install the same napari-pisam there, with the model's file at the same path."
                ) from error
            count = len(self._client.scheduler_info(n_workers=-1)["workers"])
            self.size = max(1, count)
            # What is sent takes memory here until it is answered.
            self.slots = threading.BoundedSemaphore(_AHEAD * self.size)
        except BaseException:
            self._stack.close()
            raise

    def _connect(self, where: str) -> Client:
        local = _LOCAL.fullmatch(where)
        if local is None and not _ADDRESS.fullmatch(where):
            raise ValueError(
                f"The scheduler is {where!r}, expected local, local:4 or an address such as "
                "tcp://gpu-box:8786."
            )
        if local is not None:
            count = None if local[1] is None else int(local[1])
            cluster: Any = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                # Any free port, for nobody but this computer.
                dashboard_address="127.0.0.1:0",
            )
            return self._enter(self._stack.enter_context(cluster))
        try:
            client = self._enter(where)
            client.wait_for_workers(1, timeout=_TIMEOUT)
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            raise ValueError(
                f"There is no scheduler with a worker at {where} ({_words(error)}). Start them "
                "there with 'dask scheduler' and 'dask worker ADDRESS --nthreads 1'."
            ) from error
        return client

    def _enter(self, where: Any) -> Client:
        client: Client = self._stack.enter_context(
            Client(where, timeout=_TIMEOUT)  # type: ignore[no-untyped-call]
        )
        return client

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Call off what runs and let the workers go; local ones end."""
        self.cancel()
        self._stack.close()

    def cancel(self) -> None:
        """Call off what is not finished; a worker still ends what it is at, some seconds."""
        self._cancelled += 1
        for future in list(self._running):
            future.cancel(force=True)

    def predictor(self) -> RemotePredictor:
        """Return a predictor that computes on the workers; several may be used at a time."""
        return RemotePredictor(self)

    def each(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Do work that waits for workers for each of some items, several at a time, in order."""
        begun = self._cancelled

        def still(item: Any) -> Any:
            if begun != self._cancelled:
                raise CancelledError
            return work(item)

        # A pool for each call: what waits for a place in the same one would never get it.
        with ThreadPoolExecutor(_AHEAD * self.size) as threads:
            asked = [threads.submit(still, item) for item in items]
            try:
                for one in asked:
                    yield one.result()
            except BaseException:
                # Who has taken the last answer may not ask for another one, which ends up here,
                # too: others' work goes on then.
                if not all(one.done() for one in asked):
                    threads.shutdown(wait=False, cancel_futures=True)
                    self.cancel()
                raise

    def run(self, step: str, image: SentImage, *arguments: Any) -> tuple[str, Any]:
        """Run a step on any worker, again elsewhere where one is lost."""
        # What is large travels once, and is not looked at to tell tasks apart.
        future = self._client.submit(_run, step, image, arguments, pure=False, retries=_RETRIES)
        self._running.add(future)
        try:
            found: tuple[str, Any] = future.result()
            return found
        except (KilledWorker, NoValidWorkerError) as error:
            raise RuntimeError(
                f"Workers were lost again and again at one object ({_words(error)}). Their memory "
                "may be too small: give them more, or fewer threads."
            ) from error
        finally:
            self._running.discard(future)


class RemotePredictor:
    """Predicts on the workers of a cluster what a `Predictor` predicts here; same calls.

    Parameters
    ----------
    cluster : Cluster
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._tiles = TiledObjects(cluster.info.variant)
        self._source: ImageSource | None = None

    @property
    def model(self) -> ModelInfo:
        """What is known of the network: its variant."""
        return self._cluster.info

    @property
    def device(self) -> str:
        """Where it computes, in words."""
        return f"{self._cluster.size} worker(s), {self._cluster.info.device}"

    def cancel(self) -> None:
        """Call off what the workers have not finished."""
        self._cluster.cancel()

    @property
    def parallel(self) -> int:
        """How many calls are computed at a time."""
        return self._cluster.size

    @property
    def each(self) -> Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]:
        """As `map`, but several at a time."""
        return self._cluster.each

    def set_image(self, image: Any, **view: Any) -> None:
        """Choose the image, as `Predictor.set_image` does; nothing is sent before a prompt."""
        self._source = image if isinstance(image, ImageSource) else ImageSource(image, **view)
        self._tiles.clear()

    def is_in_tiles(self, prompts: Prompts) -> bool:
        """Whether an object may be looked at in tiles."""
        return self._tiles.may_apply_to_any(prompts)

    def predict(
        self,
        box: ArrayLike | Prompts | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        mask: Any = None,
        *,
        progress: Progress | None = None,
    ) -> Mask:
        """Predict the mask of one object, as `Predictor.predict` does; it has no logits."""
        source = self._image()
        prompts = make_prompts(box, points, labels, mask).validated_for(source.shape)
        if not self.is_in_tiles(prompts):
            found: Mask = self._run("predict", [prompts], prompts)
            return found
        return composed(prompts, source.shape, partial(self._predict_one, progress=progress))

    def predict_many(self, boxes: ArrayLike | Sequence[Prompts]) -> list[Mask]:
        """Predict one mask per box, as `Predictor.predict_many` does."""
        source = self._image()
        prompts = [one.validated_for(source.shape) for one in box_prompts(boxes)]
        masks: dict[Prompts, Mask] = {}
        asked = [one for one in prompts if not self._tiles.may_apply(one)]
        if asked:
            masks.update(zip(asked, self._run("predict_many", asked, asked), strict=True))
        large = [one for one in prompts if one not in masks]
        # Seen as a whole several at a time, one after the other in tiles, several of these at once.
        seen = self.each(self._whole, large)
        masks.update(zip(large, map(self._finished, large, seen), strict=True))
        return [masks[one] for one in prompts]

    # -- steps ----------------------------------------------------------------------------------

    def _image(self) -> ImageSource:
        if self._source is None:
            raise RuntimeError("There is no image. Call set_image(image) first.")
        return self._source

    def _predict_one(self, prompts: Prompts, progress: Progress | None = None) -> Mask:
        if not self._tiles.may_apply(prompts):
            found: Mask = self._run("predict", [prompts], prompts)
            return found
        return self._finished(prompts, self._whole(prompts), progress)

    def _whole(self, prompts: Prompts) -> WholeObject:
        found: WholeObject = self._run("predict_whole", [prompts], prompts)
        return found

    def _finished(
        self, prompts: Prompts, whole: WholeObject, progress: Progress | None = None
    ) -> Mask:
        """Look at what was seen as a whole in tiles, where it is to be."""
        source = self._image()
        if not self._tiles.apply(prompts, whole):
            return whole.as_mask(source.shape).without_logits()
        return self._tiles.predict(whole, prompts, source.levels, self._look, progress, self.each)

    def _look(
        self, window: Window, prompts: Prompts, start: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._send(
            "predict_tile", {window: self._frame(window)}, window, prompts, start
        )
        return found

    def _run(self, step: str, prompts: Sequence[Prompts], argument: Any) -> Any:
        """Run a step with the windows of prompts."""
        source, variant = self._image(), self._cluster.info.variant
        windows = {window_in(source, one, variant) for one in prompts if not one.areas}
        return self._send(step, windows, argument)

    def _send(self, step: str, windows: Iterable[Window], *arguments: Any) -> Any:
        source = self._image()
        with self._cluster.slots:
            frames = {window: self._frame(window) for window in windows}
            while True:
                image = SentImage(source.levels, frames)
                kind, found = self._cluster.run(step, image, *arguments)
                if kind == "found":
                    return found
                if kind == "refused":
                    raise ValueError(found)
                # Which windows several boxes or outlines take is known while they are predicted.
                frames[found] = self._frame(found)

    def _frame(self, window: Window) -> NDArray[np.float32]:
        return to_frame(self._image(), window, self._cluster.info.variant.frame)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
