"""How clicks change a mask: near to where they were made, surely there, and no further.

A network that was asked for a correction looks at everything again. What it changes far from the
clicks is rarely better than what was there, and never what the user asked for; and a clicked pixel
gets the value that was asked for, whatever the network thinks of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_pisam.measure.click_rule import depth_inside

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Clicks closer than a spot to each other contradict each other at the pixel; the later one counts.
_SWEEPS = 4


def _cells(points: NDArray[np.floating], frame: NDArray[Any]) -> NDArray[np.int_]:
    """(n, 2) (col, row) of the pixels of an (h, w) array that points, (x, y), lie in."""
    height, width = frame.shape
    cells: NDArray[np.int_] = np.clip(np.floor(points).astype(int), 0, [width - 1, height - 1])
    return cells


@dataclass(frozen=True)
class ClickPolicy:
    """How far a click may change a mask, and how surely it does; lengths in px of the frame.

    Logits are (h, w) float32 arrays, above 0 the object; points (n, 2) float arrays, (x, y),
    pixel centres at +0.5, inside; labels (n,) int arrays, 1 FG and 0 BG.

    Attributes
    ----------
    reach : int
        A change this near to a click is made by it, with all that is connected to it.
    spot : float
        Standard deviation of the spot by which a click that is not obeyed is put through: no
        further than needed.
    held_back : float
        Share of what a click changes that is held back: an unsure change does not pass, which
        nearly halves what a click can spoil and costs nothing on average.
    most_removed : float
        Share of an object that a BG click takes away at most: a network that would take more has
        changed its mind about which object is meant, which a click in the middle of one error
        does not ask for.
    left_of_it : float
        Share of the object that such a click takes away then: what lies nearest to it.
    least_estimate, least_share : float
        IoU that a network has to estimate of its other answer to a box for a click to ask for it:
        at all, and as a share of the chosen one's.
    middle : float
        How near to the middle of what is wrong, if the other answer is right, such a click is: its
        distance from what is right, as a share of the largest one.
    least_wrong : float
        Share of both answers that is wrong then, at least.
    start : float
        What a click has to overcome where a mask to start from was given, as a share of 10.
    spacing : float
        How far apart the clicks are that a network gets of a scribble, in spots.
    most : int
        How many clicks a network gets of a scribble at most: it was trained with few.
    """

    reach: int = 3
    spot: float = 1.5
    held_back: float = 0.2
    most_removed: float = 0.5
    left_of_it: float = 0.05
    least_estimate: float = 0.1
    least_share: float = 0.3
    middle: float = 0.6
    least_wrong: float = 0.2
    start: float = 0.3
    spacing: float = 4.0
    most: int = 8

    def clicks_along(
        self, line: NDArray[np.floating], *, every_pixel: bool = False
    ) -> NDArray[np.floating]:
        """Return the clicks that a click or a scribble stands for.

        Parameters
        ----------
        line : (n, 2) float array
            Its places; of one place, that is the click.
        every_pixel : bool
            All that it passes, to be obeyed there; else what a network gets of it.

        Returns
        -------
        (m, 2) float array
            In equal steps along the line, its ends included.
        """
        lengths = np.hypot(*np.diff(line, axis=0).T)
        total = float(lengths.sum())
        if not total:
            return line[:1]
        # Half a pixel apart no pixel is passed over but at a corner.
        step = 0.5 if every_pixel else self.spacing * self.spot
        count = max(2, int(np.ceil(total / step)) + 1)
        along = np.linspace(0, total, count if every_pixel else min(count, self.most))
        travelled = np.concatenate([[0], np.cumsum(lengths)])
        places = np.stack([np.interp(along, travelled, line[:, axis]) for axis in (0, 1)], axis=1)
        if not every_pixel:
            return places
        moved = np.diff(np.floor(places), axis=0).any(axis=1)
        cells: NDArray[np.floating] = places[np.concatenate([[True], moved])]
        return cells

    def follow(
        self,
        before: NDArray[np.float32],
        first: NDArray[np.float32],
        change: NDArray[np.float32],
        points: NDArray[np.floating],
        labels: NDArray[np.integer],
        last: int = 1,
    ) -> NDArray[np.float32]:
        """Follow the last of some clicks.

        Parameters
        ----------
        before
            Logits after all clicks but the last.
        first
            Logits before any click.
        change
            What the network would change of them, with all clicks.
        points, labels
            All clicks.
        last
            How many of them are the last one, which may be a scribble.

        Returns
        -------
        (h, w) float32 array
        """
        after: NDArray[np.float32] = first + (1 - self.held_back) * change
        self.keep_local(before, after, points[-last:], labels[-last:])
        if not labels[-1]:
            self.keep_most(before, after, points[-last:])
        self.obey(after, points, labels)
        return after

    def asks_for(
        self,
        other: NDArray[np.bool_],
        chosen: NDArray[np.bool_],
        points: NDArray[np.floating],
        labels: NDArray[np.integer],
    ) -> bool:
        """Tell whether the first click, or scribble, on one answer to a box asks for the other.

        It is then where it would be if the other one were right: in the middle of what it has and
        the chosen one lacks, or the other way round.

        Parameters
        ----------
        other, chosen : (h, w) bool array
            The answers' masks.
        points, labels
            Of the click, in px of the masks.
        """
        wrong = other & ~chosen if labels[0] else chosen & ~other
        size = np.count_nonzero(other | chosen)
        if not other.any() or np.count_nonzero(wrong) < max(1, self.least_wrong * size):
            return False
        cols, rows = _cells(points, wrong).T
        depth = depth_inside(wrong)
        return bool(depth[rows, cols].max() >= self.middle * depth.max())

    def keep_local(
        self,
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        points: NDArray[np.floating],
        labels: NDArray[np.integer],
    ) -> None:
        """Take back what no click asked for, in place of `after`.

        Of the pixels that change sides, those stay changed that are connected with a click of that
        kind: added ones with an FG click, removed ones with a BG click.
        """
        cells = _cells(points, after)
        was, becomes = before > 0, after > 0
        refused = np.zeros_like(was)
        for flag, changed in ((1, becomes & ~was), (0, was & ~becomes)):
            # Eight neighbours: a line one pixel wide is one change.
            parts, _ = ndimage.label(changed, np.ones((3, 3)))
            asked: set[int] = set()
            for (col, row), label in zip(cells, labels, strict=True):
                if label == flag:
                    rows = slice(max(row - self.reach, 0), row + self.reach + 1)
                    cols = slice(max(col - self.reach, 0), col + self.reach + 1)
                    asked.update(np.unique(parts[rows, cols]).tolist())
            refused |= changed & ~np.isin(parts, sorted(asked - {0}))
        after[refused] = before[refused]

    def keep_most(
        self,
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        points: NDArray[np.floating],
    ) -> None:
        """Take back most of what one BG click or scribble took away, if that is too much.

        Logits change in place of `after`.
        """
        was = before > 0
        removed = was & (after <= 0)
        area = np.count_nonzero(was)
        if np.count_nonzero(removed) <= self.most_removed * area:
            return
        away = np.ones(after.shape, dtype=np.bool_)
        cols, rows = _cells(points, after).T
        away[rows, cols] = False
        distance = ndimage.distance_transform_edt(away)
        near = np.sort(distance[removed])[int(self.left_of_it * area)]
        # Fading out towards twice as far, so that no circle is cut out.
        share = np.clip(2 - distance / max(near, 1.0), 0, 1).astype(np.float32)
        after[removed] = (before + share * (after - before))[removed]

    def obey(
        self,
        logits: NDArray[np.float32],
        points: NDArray[np.floating],
        labels: NDArray[np.integer],
    ) -> None:
        """Change logits around the clicks that they contradict, in place.

        A Gaussian spot just high enough for the clicked pixel to change sides is added there;
        where the network obeys, nothing changes.
        """
        height, width = logits.shape
        reach = int(np.ceil(4 * self.spot))
        cells = _cells(points, logits)
        # A spot may reach a click beside it: a few sweeps settle both.
        for _ in range(_SWEEPS):
            changed = False
            for (col, row), label in zip(cells, labels, strict=True):
                sign = 1.0 if label else -1.0
                # The pixels around it have a say in the mask at the image's own resolution.
                near = logits[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2]
                lacking = float((1.0 - sign * near).max())
                if lacking <= 0:
                    continue
                changed = True
                rows = np.arange(max(row - reach, 0), min(row + reach + 1, height))
                cols = np.arange(max(col - reach, 0), min(col + reach + 1, width))
                square = (rows[:, None] - row) ** 2 + (cols - col) ** 2
                spot = np.exp(-0.5 * square / self.spot**2)
                # exp(-1 / spot**2): what is left of it at the corner of the pixels around.
                spot *= sign * lacking / np.exp(-1 / self.spot**2)
                logits[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] += spot.astype(np.float32)
            if not changed:
                return


CLICKS = ClickPolicy()
"""What all predictors follow, where a variant's clicks are local."""
