"""One measurement in a process of its own; `napari_pisam.cli.benchmark` starts it.

The task is JSON in the first argument, the result JSON on the last line. Ours and
segment_anything's take turns (A B A B ...), so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from segment_anything import SamPredictor, sam_model_registry

from napari_pisam.measure.metrics import iou
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import get_variant
from napari_pisam.predict.device import select_device
from napari_pisam.predict.embedding_cache import EmbeddingCache
from napari_pisam.predict.predictor import Predictor
from napari_pisam.system import peak_memory
from napari_pisam.weights.cache import cached_path
from napari_pisam.weights.catalogue import EMBEDDED
from napari_pisam.weights.checkpoint import initialise_pisam_from, load_into
from napari_pisam.weights.checkpoint_format import Checkpoint, read_checkpoint
from napari_pisam.weights.files import CheckpointError
from napari_pisam.weights.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_pisam.model.pisam import PiSam

SIDE = 1024
# (row_min, col_min, row_max, col_max) and a click in it; another one each turn, as a prompt that
# was seen before is not decoded again.
BOX = np.array([180.0, 260.0, 860.0, 720.0])
CLICK = np.array([420.0, 470.0])
# Where a turn takes longer, its first one's extra cost hardly counts, s.
_LONG = 5.0
_STEPS = ("encode", "box", "click")


def picture() -> NDArray[np.uint8]:
    """Return (1024, 1024, 3) uint8: scikit-image's astronaut, enlarged to the frame."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    if not path.is_file():
        return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def build_reference(name: str) -> tuple[Any, str]:
    """Build segment_anything's model with the public weights if they are here, else random ones."""
    torch.manual_seed(0)
    sam = sam_model_registry[name]().eval()
    path = cached_path(f"sam_{name}")
    if path.is_file():
        sam.load_state_dict(read_checkpoint(path).tensors)
        return sam, "public"
    with torch.no_grad():  # they start at zero, which would hide an error in their use
        for key, parameter in sam.image_encoder.named_parameters():
            if "pos" in key:
                parameter.normal_(0, 0.1)
    return sam, "random"


def build_ours(name: str, sam: Any) -> tuple[PiSam, bool]:
    """Build our model, and say whether its masks must be those of `sam`, whose weights it gets."""
    if name == EMBEDDED:
        with contextlib.suppress(CheckpointError):
            return load_model(name).model, False
    model = build_model(get_variant(name))
    state = {} if sam is None else sam.state_dict()
    with contextlib.suppress(CheckpointError):
        if model.has_interactor:
            return initialise_pisam_from(model, state), True
        return load_into(model, Checkpoint(state, None, None, "sam", "")), True
    return model, False


class Ours:
    """The steps of our predictor."""

    def __init__(self, model: PiSam, device: str, precision: str) -> None:
        # Without a cache: the same picture is encoded in every turn.
        self.predictor = Predictor(model, device, precision, cache=EmbeddingCache(0))
        self.mask: NDArray[np.bool_] | None = None

    def encode(self, image: NDArray[np.uint8], turn: int) -> None:
        """Set and encode the image."""
        self.predictor.set_image(image)
        self.predictor.encode()

    def box(self, image: NDArray[np.uint8], turn: int) -> None:
        """Predict from a box."""
        self.mask = self.predictor.predict(BOX + turn).to_array()

    def click(self, image: NDArray[np.uint8], turn: int) -> None:
        """Predict from the same box with a click."""
        self.predictor.predict(BOX + turn, CLICK[None] + turn, [True])


class Reference:
    """The same steps of segment_anything's predictor."""

    def __init__(self, sam: Any, device: torch.device) -> None:
        self.predictor = SamPredictor(sam.to(device))
        self.mask: NDArray[np.bool_] | None = None

    def encode(self, image: NDArray[np.uint8], turn: int) -> None:
        """Set and encode the image."""
        self.predictor.set_image(image)

    def box(self, image: NDArray[np.uint8], turn: int) -> None:
        """Predict from a box."""
        box = (BOX + turn)[[1, 0, 3, 2]]
        masks, _, _ = self.predictor.predict(box=box, multimask_output=False)
        self.mask = masks[0]

    def click(self, image: NDArray[np.uint8], turn: int) -> None:
        """Predict from the same box with a click."""
        self.predictor.predict(
            point_coords=(CLICK + turn)[None, ::-1],
            point_labels=np.array([1]),
            box=(BOX + turn)[[1, 0, 3, 2]],
            multimask_output=False,
        )


def _timed(step: Callable[..., None], device: torch.device, *arguments: Any) -> float:
    started = time.perf_counter()
    step(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _summary(seconds: list[float]) -> dict[str, Any]:
    p50, p95 = np.percentile(seconds, (50, 95)).tolist()
    return {"p50": p50, "p95": p95, "seconds": seconds}


def measure_time(task: dict[str, Any]) -> dict[str, Any]:
    """Time ours and the reference in turn; compare their masks where their weights are the same."""
    device = select_device(task["device"])
    sam, kind = build_reference(task["reference"])
    model, is_same = build_ours(task["model"], sam)
    ours = Ours(model, task["device"], task["precision"])
    reference = Reference(sam, device)
    image = picture()
    seconds: dict[str, dict[str, list[float]]] = {
        step: {"ours": [], "reference": []} for step in _STEPS
    }
    overlaps = []
    for turn in range(task["repeats"] + 1):
        for step in _STEPS:
            for who, runner in (("ours", ours), ("reference", reference)):
                took = _timed(getattr(runner, step), device, image, turn)
                if turn:  # the first turn pays for the allocator and the thread pool
                    seconds[step][who].append(took)
        if ours.mask is not None and reference.mask is not None:
            overlaps.append(iou(ours.mask, reference.mask))
    result: dict[str, Any] = {
        "weights": kind if is_same else "own",
        "mask_iou": float(np.mean(overlaps)) if is_same else None,
        "machine": {
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "device": str(ours.predictor.device),
            "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "precision": str(ours.predictor.precision).removeprefix("torch."),
        },
    }
    for step, times in seconds.items():
        pairs = zip(times["reference"], times["ours"], strict=True)
        result[step] = {who: _summary(values) for who, values in times.items()}
        result[step]["ratio"] = float(np.median([theirs / own for theirs, own in pairs]))
    return result


def measure_memory(task: dict[str, Any]) -> dict[str, Any]:
    """Encode, box and click once with one predictor alone in this process."""
    device = select_device(task["device"])
    before = peak_memory()
    runner: Ours | Reference
    if task["model"] is None:
        runner = Reference(build_reference(task["reference"])[0], device)
    else:
        runner = Ours(build_ours(task["model"], None)[0], task["device"], task["precision"])
    image = picture()
    for step in _STEPS:
        getattr(runner, step)(image, 0)
    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"peak_bytes": peak_memory(), "imports_bytes": before, "device_peak_bytes": on_device}


def measure_once(task: dict[str, Any]) -> dict[str, Any]:
    """Encode an image and give it a box, twice where that is quick; the last turn counts."""
    runner = Ours(build_ours(task["model"], None)[0], task["device"], task["precision"])
    device, image = runner.predictor.device, picture()
    seconds = 0.0
    for turn in range(2):
        seconds = sum(_timed(step, device, image, turn) for step in (runner.encode, runner.box))
        if seconds > _LONG:
            break
    return {"seconds": seconds}


def check_device(task: dict[str, Any]) -> dict[str, Any]:
    """Compare a device's masks with those of the CPU; also when the device's memory is full."""
    device = select_device(task["device"])
    overlaps: dict[str, float] = {}
    if device.type != "cpu":
        overlaps = compare_devices(task["model"], str(device), task["precision"])
    return {"device": str(device), "overlaps": overlaps}


def compare_devices(name: str, device: str, precision: str) -> dict[str, float]:
    """IoU of a device's masks with those that the CPU computes in full precision.

    Returns
    -------
    dict of str to float
        From a box; after a click; from a box when the device's memory is full, 0 where the
        predictor did not go on with the CPU.
    """
    image = picture()
    exact = Ours(build_ours(name, None)[0], "cpu", "fp32")
    ours = Ours(build_ours(name, None)[0], device, precision)
    full = Ours(build_ours(name, None)[0], device, precision)
    _fill_memory_once(full.predictor.model)
    masks = []
    for runner in (exact, ours, full):
        runner.predictor.set_image(image)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that the memory is full
            box = runner.predictor.predict(BOX).to_array()
            click = runner.predictor.predict(BOX, CLICK[None], [True]).to_array()
        masks.append((box, click))
    (box, click), (own_box, own_click), (late_box, _) = masks
    fell_back = full.predictor.device.type == "cpu"
    return {
        "box": iou(own_box, box),
        "click": iou(own_click, click),
        "memory full": iou(late_box, box) if fell_back else 0.0,
    }


def _fill_memory_once(model: PiSam) -> None:
    """Let a model's encoder fail once, as it does where a device has no memory left."""
    encoder: Any = model.image_encoder
    forward = encoder.forward_features

    def full(x: torch.Tensor) -> Any:
        encoder.forward_features = forward
        raise torch.OutOfMemoryError(f"out of memory on {x.device}, for a test")

    encoder.forward_features = full


def main() -> None:
    """Run the task in the first argument."""
    task = json.loads(sys.argv[1])
    measures = {
        "time": measure_time,
        "memory": measure_memory,
        "once": measure_once,
        "check": check_device,
    }
    try:
        result = measures[task["task"]](task)
    except ValueError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    sys.stdout.write(f"{json.dumps(result)}\n")


if __name__ == "__main__":
    main()
