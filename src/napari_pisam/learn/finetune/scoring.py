"""How good a network is on a run's objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.learn.dataset import ValidationSamples, focused_window, is_visible
from napari_pisam.learn.engine import evaluate
from napari_pisam.learn.objective import iou
from napari_pisam.measure.metrics import boundary_iou

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_pisam.learn.encoding import FrozenEncoder
    from napari_pisam.learn.finetune.crops import RunObject
    from napari_pisam.learn.store import StoredImage
    from napari_pisam.model.pisam import PiSam
    from napari_pisam.model.variants import Focus

COUNTS = (0, 3)
"""Numbers of simulated clicks that are scored: the box alone, and after three corrections."""


@dataclass(frozen=True)
class ObjectScore:
    """One object's measures, by number of clicks as in `COUNTS`.

    Attributes
    ----------
    iou, boundary : tuple of float
    """

    iou: tuple[float, ...]
    boundary: tuple[float, ...]

    @property
    def value(self) -> float:
        """One number: the mean of all."""
        return float(np.mean(self.iou + self.boundary))


@dataclass(frozen=True, eq=False)
class Shown:
    """What a picture of an object needs.

    Attributes
    ----------
    image : (h, w, 3) uint8
        What the network looked at.
    truth, mask : (h, w) bool
        The mask is that of the box alone.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    mask: NDArray[np.bool_]


class Scorer:
    """Scores networks on fixed objects, seen as the predictor sees them.

    Parameters
    ----------
    objects : sequence of RunObject
    model
        Any of the networks: how it looks at an object counts.
    largest : int
        Largest side of the pictures, px; smaller objects are shown in smaller ones, as the
        predictor does.
    frozen
        Gives what the image encoder says, where it does not train.
    shown : int
        Objects to keep pictures of.
    """

    def __init__(
        self,
        objects: Sequence[RunObject],
        model: PiSam,
        largest: int,
        frozen: FrozenEncoder | None,
        shown: int = 0,
    ) -> None:
        focus = model.variant.focus
        frames = [natural_frame(known.item, focus, largest) for known in objects]
        entries = [(known.item, 0, frame) for known, frame in zip(objects, frames, strict=True)]
        # By frame: checkpoints have scores in this order.
        order = sorted(range(len(objects)), key=frames.__getitem__)
        self.places = [i for i in order if is_visible(entries[i], focus)]
        """Which of the objects are scored: one that vanishes at the frame's size is not."""
        self.samples = ValidationSamples([entries[i] for i in self.places], focus)
        self._frozen = frozen
        self._shown = shown
        self.shown: dict[int, Shown] = {}

    def __len__(self) -> int:
        """Count the objects that are scored."""
        return len(self.places)

    def score(
        self,
        model: PiSam,
        check: Callable[[], None] | None = None,
        fabric: Fabric | None = None,
    ) -> dict[int, ObjectScore]:
        """Score a network.

        Parameters
        ----------
        model
            In eval mode.
        check : callable, optional
            Called between two masks; what it raises ends the scoring.
        fabric : Fabric, optional
            Shares the objects among its processes, which all get the scores.

        Returns
        -------
        dict of int to ObjectScore
            By place among the objects.
        """

        def measure(
            index: int, clicks: int, logits: Tensor, mask: Tensor, valid: Tensor
        ) -> tuple[float, float]:
            if check is not None:
                check()
            rows, cols = (int(valid[0, 0].any(dim).sum()) for dim in (1, 0))
            predicted = (logits[0, 0, :rows, :cols] > 0).cpu().numpy()
            truth = (mask[0, 0, :rows, :cols] > 0.5).cpu().numpy()
            place = self.places[index]
            if clicks == 0 and place < self._shown:
                image = self.samples[index]["image"][:, :rows, :cols].permute(1, 2, 0)
                self.shown[place] = Shown(image.numpy(), truth, predicted)
            return float(iou(logits, mask, valid)), boundary_iou(predicted, truth)

        table = evaluate(model, self.samples, COUNTS, measure, frozen=self._frozen, fabric=fabric)
        columns = [tuple(zip(*rows, strict=True)) for rows in table.tolist()]
        return {place: ObjectScore(*both) for place, both in zip(self.places, columns, strict=True)}


def natural_frame(item: StoredImage, focus: Focus | None, largest: int) -> int:
    """Return the side, at most ``largest``, of the frame that the predictor shows an object in."""
    if focus is None:
        return largest
    return min(focused_window(item, 0, focus).frame or largest, largest)


def means(scores: dict[int, ObjectScore]) -> tuple[float, float]:
    """Mean IoU and boundary IoU from the box alone."""
    return (
        float(np.mean([score.iou[0] for score in scores.values()])),
        float(np.mean([score.boundary[0] for score in scores.values()])),
    )


def overall(scores: dict[int, ObjectScore]) -> float:
    """One number by which weights are compared."""
    return float(np.mean([score.value for score in scores.values()]))


def pack(scores: dict[int, ObjectScore]) -> dict[str, list[list[float]]]:
    """Return scores as plain values, which a checkpoint can hold."""
    return {str(place): [list(s.iou), list(s.boundary)] for place, s in scores.items()}


def unpack(packed: dict[str, list[list[float]]]) -> dict[int, ObjectScore]:
    """Return the scores that `pack` packed."""
    return {int(place): ObjectScore(tuple(a), tuple(b)) for place, (a, b) in packed.items()}


def check_finite(model: nn.Module) -> bool:
    """Whether all weights are finite."""
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())
