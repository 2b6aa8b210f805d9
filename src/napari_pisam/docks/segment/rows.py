"""The session's objects as the object list shows them, and which columns it has. No Qt."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_pisam.measure.regions import with_unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_pisam.docks.segment.measuring import Measures
    from napari_pisam.docks.segment.volumes import Volumes
    from napari_pisam.session.session import Session, SessionObject

Color = tuple[float, float, float]

_GREY = (0.5, 0.5, 0.5)
LOW_SCORE = 0.5
"""Below this estimate of its own, the network is more wrong than right as a rule."""
_NOTHING: Mapping[str, float] = MappingProxyType({})


class Column(NamedTuple):
    """A column of the list: what it shows, its heading, and what that means."""

    key: str
    title: str
    tip: str


KNOWN_COLUMNS = (
    Column("id", "Object", "The label that its pixels have or will get"),
    Column("class", "Class", "Of the list of classes; Alt+1 to Alt+9 give it"),
    Column(
        "score",
        "Score",
        "What its overlap with the true object is likely to be, 0 to 1",
    ),
    Column("area_px", "Area (px)", "Number of its pixels"),
    Column(
        "status",
        "Status",
        "committed: in the labels; propagated: too, from another slice, and not corrected since; "
        "preview: not yet; outdated: made from earlier prompts or by another model; "
        "erased: committed, but the labels have no pixel of it any more",
    ),
)
"""What is known without measuring."""
FIRST_COLUMNS = ("id", "score", "area_px", "status")
"""Those that are shown before anybody chose."""

# Title, which of them are areas and which lengths, and what they mean.
_MEASURES = (
    ("area", "Area", "Area"),
    ("perimeter", "Perimeter", "Length of the outline, by Crofton's formula"),
    ("length", "Length", "Long axis of the ellipse with the same second moments"),
    ("width", "Width", "Short axis of the ellipse with the same second moments"),
    ("circularity", "Circularity", "4 pi area / perimeter squared: 1 for a disc"),
    ("solidity", "Solidity", "Area by that of the convex hull"),
    ("centroid_row", "Row", "Row of its centroid, px"),
    ("centroid_col", "Col", "Column of its centroid, px"),
    ("centroid_y", "Y", "Its centroid along the rows, from the first pixel's centre"),
    ("centroid_x", "X", "Its centroid along the columns, from the first pixel's centre"),
)
_VOLUMES = (
    ("volume", "Volume", "What the labels have of it in all slices of the stack"),
    ("volume_vx", "Volume (vx)", "The same as a number of voxels"),
    ("slices", "Slices", "In how many slices the labels have it"),
    ("first_slice", "First slice", "The lowest of them"),
    ("last_slice", "Last slice", "The highest of them"),
    ("centroid_3d_z", "Z in 3D", "Its centroid along the slices, from the first one's middle"),
    ("centroid_3d_y", "Y in 3D", "Its centroid along the rows, of all slices together"),
    ("centroid_3d_x", "X in 3D", "Its centroid along the columns, of all slices together"),
)
VOLUME_KEYS = frozenset(key for key, *_ in _VOLUMES)
"""What is measured through the slices of a stack."""
_INTENSITIES = (("mean", "Mean"), ("min", "Min"), ("max", "Max"))
_POWERS = {"area": "²", "volume": "³"}


def measured_columns(
    unit: str, channels: Iterable[str], *, of_volumes: str | None = None
) -> list[Column]:
    """Return the columns of what can be measured.

    Parameters
    ----------
    unit : str
        Of lengths.
    channels : iterable of str
        Names of the pictures' channels; empty for the only one.
    of_volumes : str, optional
        Unit of lengths through a stack, where there is one.
    """
    columns = [_column(*one, unit) for one in _MEASURES]
    if of_volumes is not None:
        columns += [_column(*one, of_volumes) for one in _VOLUMES]
    for channel in channels:
        end, of = (f"_{channel}", f" {channel}") if channel else ("", "")
        for key, title in _INTENSITIES:
            tip = f"{title} of the picture's own values in its pixels{of and ':'}{of}"
            columns.append(Column(f"intensity_{key}{end}", f"{title}{of}", tip))
    return columns


def _column(key: str, title: str, tip: str, unit: str) -> Column:
    suffix = f" ({unit}{_POWERS.get(key, '')})" if with_unit(key, unit) != key else ""
    return Column(key, title + suffix, tip)


class ListedObject(NamedTuple):
    """What the list shows of an object; the colour as RGB from 0 to 1."""

    id: int
    score: float | None
    area: int | None
    status: str
    color: Color
    class_name: str = ""
    measures: Mapping[str, float] = _NOTHING

    @property
    def is_low(self) -> bool:
        """Whether the network itself thinks little of the mask."""
        return self.score is not None and self.score < LOW_SCORE

    def value(self, key: str) -> Any:
        """Return what a column holds: a number, a text, or None."""
        if key in self.measures:
            return self.measures[key]
        known = {
            "id": self.id,
            "class": self.class_name,
            "score": self.score,
            "status": self.status,
        }
        return self.area if key == "area_px" else known.get(key)

    def text(self, key: str) -> str:
        """Return what a column shows."""
        value = self.value(key)
        if value is None or isinstance(value, str):
            return value or ""
        if key == "id":
            return str(value)
        if key == "score":
            return f"low {value:.2f}" if self.is_low else f"{value:.2f}"
        return f"{value:,}" if key == "area_px" else f"{value:.5g}"

    def sort_key(self, key: str) -> tuple[Any, ...]:
        """Return what a column is sorted by; objects without a value come first."""
        value = self.value(key)
        return value is not None, ("" if value is None else value), self.id


_UNKNOWN = ListedObject(0, None, None, "", _GREY)


def as_text(rows: Sequence[ListedObject], columns: Sequence[Column]) -> str:
    """Return lines of values with tabs between, as spreadsheets paste them."""
    lines = ["\t".join(column.title for column in columns)]
    for row in rows:
        values = [row.value(column.key) for column in columns]
        lines.append("\t".join(_plain(value) for value in values))
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value)


class ObjectRows:
    """Makes rows, each once: 5,000 are looked through in a few ms."""

    def __init__(self) -> None:
        # Of what each was made: object, measures, whether erased, layer.
        self._rows: dict[int, tuple[Any, Any, Any, bool, Any, ListedObject]] = {}

    def rows(
        self, session: Session | None, labels: Any, measures: Measures, volumes: Volumes
    ) -> list[ListedObject]:
        """Return a row for each object.

        Parameters
        ----------
        session : Session or None
        labels : napari Labels layer or None
            In whose colours; grey without.
        measures : Measures
            What is known of their pixels.
        volumes : Volumes
            And of those in all slices.
        """
        known, self._rows = self._rows, {}
        if session is None:
            return []
        new = []
        for one in session.objects:
            row, is_erased = measures.found(one.id)
            made_of = one, row, volumes.row(one.id), is_erased, labels
            before = known.get(one.id)
            if before is not None and all(a is b for a, b in zip(before, made_of, strict=False)):
                self._rows[one.id] = before
                continue
            new.append(made_of)
            # Keeps its place.
            self._rows[one.id] = (*made_of, _UNKNOWN)
        colors = _colors(labels, [one.id for one, *_ in new])
        for made_of, color in zip(new, colors, strict=True):
            one, row, volume, is_erased, _ = made_of
            values = {**row, **volume} if row and volume else row or volume or _NOTHING
            self._rows[one.id] = *made_of, _listed(one, is_erased, values, color)
        return [row for *_, row in self._rows.values()]


def _colors(labels: Any, numbers: list[int]) -> list[Color]:
    """Return the colours of labels; of many at once in the time of one."""
    if labels is None or not numbers:
        return [_GREY] * len(numbers)
    mapped = labels.colormap.map(np.array(numbers))
    return [(float(red), float(green), float(blue)) for red, green, blue, _ in mapped]


def _listed(
    one: SessionObject, is_erased: bool, measures: Mapping[str, float], color: Color
) -> ListedObject:
    score = None if one.mask is None else one.mask.score
    area = None if one.mask is None else one.mask.area
    status = "erased" if is_erased else _status(one)
    return ListedObject(one.id, score, area, status, color, one.class_name, measures)


def _status(one: SessionObject) -> str:
    if one.committed:
        return "propagated" if one.is_carried else "committed"
    if one.prompts is None:
        return "empty"
    if one.mask is None:
        return "waiting"
    return "outdated" if one.stale else "preview"
