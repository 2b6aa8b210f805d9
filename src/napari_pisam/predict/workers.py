"""The way to predictions elsewhere: `cluster` is imported only where dask.distributed is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from napari_pisam.predict.cluster import Cluster

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(predictor: Any, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Do work for items, in their order; several at a time where workers elsewhere predict."""
    found: Iterator[Result] = getattr(predictor, "each", map)(work, items)
    return found


def is_scheduler(text: str) -> bool:
    """Whether a text says workers, ``local:2`` or an address, and no device of this process."""
    return text.startswith("local") or "://" in text


def connect(where: str, model: str, device: str = "auto", precision: str = "auto") -> Cluster:
    """Start workers here, or connect to those of a scheduler; see `Cluster`.

    Raises
    ------
    ValueError
        If that cannot be, or dask.distributed is not installed.
    """
    try:
        from napari_pisam.predict.cluster import Cluster, ModelPlugin
    except ImportError:
        raise ValueError(
            "Computing on workers needs dask.distributed, which is not installed. Run: pip install "
            '"napari-pisam[distributed]"'
        ) from None
    return Cluster(where, ModelPlugin(model, device, precision))
