"""What is made of weights once and kept until they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

_T = TypeVar("_T")


class WeightsCache(Generic[_T]):
    """A value that follows from weights; asking whether they changed reads none of them.

    To look at a weight's value makes a GPU's queue run empty, at every call. What changes with a
    weight is its object, its memory or its version, which torch counts up at every change in
    place. (Only a change through ``.data`` escapes: call `forget` after one.) Weights that were
    made in inference mode have no versions: nothing is kept of them. A copy remembers nothing.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[tuple[int, int, int], ...], _T] | None = None

    def of(self, weights: Iterable[Tensor], make: Callable[[], _T]) -> _T:
        """Return what `make` gave for these weights, calling it if they are not as they were."""
        weights = tuple(weights)
        if any(weight.is_inference() for weight in weights):
            return make()
        stamp = tuple((id(one), one.data_ptr(), one._version) for one in weights)
        if self._kept is None or self._kept[0] != stamp:
            self._kept = stamp, make()
        return self._kept[1]

    def forget(self) -> None:
        """Make the value anew at the next call."""
        self._kept = None

    def __deepcopy__(self, memo: object) -> WeightsCache[_T]:
        return WeightsCache()

    def __reduce__(self) -> tuple[type[WeightsCache[_T]], tuple[()]]:
        return WeightsCache, ()
