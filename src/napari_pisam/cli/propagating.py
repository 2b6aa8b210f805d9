"""``segment --propagate``: objects carried from the planes of their prompts through a stack."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.propagation import EndOfObject

    Index = tuple[int, ...]
    Show = Callable[[str, int], AbstractContextManager[Callable[[float], None]]]


@dataclass(frozen=True)
class Leading:
    """The axes of labels before row and column.

    Attributes
    ----------
    names : str
        One letter each.
    sizes : tuple of int
    """

    names: str
    sizes: Index

    def chosen(self, along: str | None) -> tuple[int, ...]:
        """Return the axes to go along, in order; by default the last one that has slices.

        Raises
        ------
        ValueError
            If there is no such axis.
        """
        long = [place for place, size in enumerate(self.sizes) if size > 1]
        every = ", ".join(f"{self.names[place]} = {self.sizes[place]}" for place in long)
        if not long:
            raise ValueError("--propagate needs a stack, and the image has one plane only.")
        if along is None:
            return (long[-1],)
        wanted = [part.strip().upper() for part in along.split(",")]
        found = [
            next((place for place in long if name in (self.names[place], str(place))), None)
            for name in wanted
        ]
        places = tuple(place for place in found if place is not None)
        if len(set(places)) < len(wanted):
            raise ValueError(
                f"--along is {along!r}, expected axes with slices, each once: {every}."
            )
        return places


@dataclass(frozen=True)
class Seed:
    """Where an object is known.

    Attributes
    ----------
    source : ImageSource
        Of one of its planes, as it was seen.
    plane_of : callable
        From an index among the labels' planes to one among the image's.
    anchors : dict of tuple of int to Mask
        By index among the labels' planes.
    """

    source: ImageSource
    plane_of: Callable[[Index], Index]
    anchors: dict[Index, Mask]


@dataclass(frozen=True)
class Propagation:
    """How objects are to be carried; see the command's options.

    Attributes
    ----------
    along : str, optional
        Letters or numbers of the axes, one after the other, separated by commas.
    slices : (int, int), optional
        The first and the last one.
    end : EndOfObject
    """

    along: str | None
    slices: tuple[int, int] | None
    end: EndOfObject

    def carry(
        self,
        seeds: Mapping[int, Seed],
        leading: Leading,
        predictor: Callable[[], Any],
        show: Show,
    ) -> dict[Index, dict[int, Mask]]:
        """Carry objects through the planes.

        Parameters
        ----------
        seeds : mapping of int to Seed
            By object.
        leading : Leading
        predictor : callable
            Gives one; of workers elsewhere, one for each object, as several are at it at a time.
        show : callable
            Shows a bar.

        Returns
        -------
        dict of tuple of int to dict of int to Mask
            By plane and object.

        Raises
        ------
        ValueError
            If an axis or a slice does not exist.
        """
        from napari_pisam.predict.propagation import propagate_along
        from napari_pisam.predict.workers import each

        ranges = self.ranges(leading)
        steps = 1
        for first, last in ranges.values():
            steps *= last - first + 1

        def work(number: int) -> dict[Index, Mask]:
            seed, left = seeds[number], [steps]

            def report(_step: object) -> None:
                if left[0] > 0:
                    left[0] -= 1
                    advance(1)

            known = {index: mask for index, mask in seed.anchors.items() if mask.area}
            found = propagate_along(
                predictor(),
                seed.source,
                known,
                ranges if known else {},
                plane_of=seed.plane_of,
                end=self.end,
                report=report,
            )
            advance(left[0])
            return seed.anchors | found

        planes: dict[Index, dict[int, Mask]] = {}
        with show("Propagating", steps * len(seeds)) as advance:
            for number, masks in zip(seeds, each(predictor(), work, list(seeds)), strict=True):
                for index, mask in masks.items():
                    planes.setdefault(index, {})[number] = mask
        return dict(sorted(planes.items()))

    def ranges(self, leading: Leading) -> dict[int, tuple[int, int]]:
        """Return along which axes objects are carried, and within which slices.

        Raises
        ------
        ValueError
            If an axis or a slice does not exist.
        """
        axes = leading.chosen(self.along)
        if self.slices is None:
            return {axis: (0, leading.sizes[axis] - 1) for axis in axes}
        first, last = self.slices
        if len(axes) > 1:
            raise ValueError("--slices is for one axis. Leave it out, or give --along one axis.")
        if not 0 <= first <= last < leading.sizes[axes[0]]:
            raise ValueError(
                f"--slices is {first},{last}, expected FIRST,LAST within 0 and "
                f"{leading.sizes[axes[0]] - 1}."
            )
        return {axes[0]: (first, last)}

    @property
    def description(self) -> dict[str, Any]:
        """What labels say of how they were made."""
        return {"along": self.along, "slices": self.slices, "end": asdict(self.end)}


def propagation_of(
    *, is_wanted: bool, along: str | None, slices: str | None, end: str | None
) -> Propagation | None:
    """Read the options of a propagation; None where none is wanted.

    Raises
    ------
    ValueError
        If one of them is wrong, or given without ``--propagate``.
    """
    from napari_pisam.cli.options import numbers

    given = {"--along": along, "--slices": slices, "--end": end}
    if not is_wanted:
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is for --propagate. Give that, too.")
        return None
    from napari_pisam.predict.propagation import EndOfObject

    span = _some(numbers(slices, "--slices", int), 2, "--slices") if slices else ()
    limits = () if end is None else _some(numbers(end, "--end", float), 3, "--end")
    if not all(-1 <= limit <= 1 for limit in limits):
        raise ValueError(f"--end is {end!r}, expected OVERLAP,AREA,SCORE, 1 at most each.")
    chosen = (int(span[0]), int(span[1])) if span else None
    return Propagation(along, chosen, EndOfObject(*limits))


def _some(values: Sequence[float], count: int, name: str) -> Sequence[float]:
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} numbers, expected {count}.")
    return values
