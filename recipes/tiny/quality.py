"""How good a model is, number by number: what is asked of each object, and the means of it.

Every source counts the same in a mean. Objects of different parts (compact ones, whole classes,
networks) are never averaged together, unless that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.evaluate import protocols
from napari_pisam.images.crops import extent
from napari_pisam.measure import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.evaluate.protocols import ClickRun, Segmenter

Row = dict[str, Any]
"""What is known and was measured of one object."""

CLICKS = (0, 1, 3, 5, 10)
"""Numbers of clicks after which the IoU is given."""

KIND_CLICKS = 5
"""Clicks of one kind, or of both, in the comparison of kinds (the paper's Table 7)."""

BASELINE_CLICKS = 3
"""Clicks that the baselines get."""

_EITHER = ("clicks", "obeyed_clicks", "kept_clicks")


@dataclass(frozen=True)
class MeasureOptions:
    """What is asked of a model besides the box and the clicks.

    Attributes
    ----------
    clicks : int
        At most, after the box.
    kinds : bool
        Clicks of one kind only, and of both.
    boundary : bool
        The boundary IoU; not where outlines were drawn coarsely.
    """

    clicks: int = 20
    kinds: bool = True
    boundary: bool = True


def measure(
    system: Segmenter,
    truth: NDArray[np.bool_],
    options: MeasureOptions,
    baselines: Mapping[str, Segmenter] | None = None,
) -> Row:
    """Measure a model, and baselines beside it, on one object.

    Parameters
    ----------
    system : Segmenter
        With its image set.
    truth : (H, W) bool
        Not empty.
    options : MeasureOptions
    baselines : mapping of str to Segmenter, optional
        With the same image set. Each gets the box with the model's first clicks
        (``NAME_same``), and with clicks in its own errors (``NAME_own``): the former lie where the
        model was wrong, so that both are fair in one way only; and the box alone (``NAME_box``).

    Returns
    -------
    dict
        ``iou_0`` and so on; ``filled`` (the IoU of the box itself); ``boundary_iou_0`` and
        ``boundary_iou_5``; ``noc_90``; ``worst_drop``; numbers of clicks made, obeyed right
        afterwards, and of clicked pixels that have their value at the end; ``kind_both``,
        ``kind_foreground``, ``kind_background``; ``seconds`` a prediction. Only what was asked for.
    """
    run = protocols.run_clicks(system, truth, options.clicks)
    row: Row = {"area": int(truth.sum()), "filled": _filled(truth)}
    for count in CLICKS:
        if count <= options.clicks:
            row[f"iou_{count}"] = metrics.iou_after(run.ious, count)
    if options.boundary:
        row["boundary_iou_0"] = metrics.boundary_iou(run.first, truth)
        if options.clicks >= KIND_CLICKS:
            after = _mask_after(system, run, truth, KIND_CLICKS)
            row["boundary_iou_5"] = metrics.boundary_iou(after, truth)
    row["seconds"] = float(np.mean(run.seconds))
    if options.clicks:
        row["noc_90"] = metrics.number_of_clicks(run.ious, 0.9, options.clicks)
        row["worst_drop"] = metrics.worst_drop(run.ious)
        kept = [bool(run.last[place[:2]]) == place[2] for place in run.clicks]
        row |= dict(zip(_EITHER, (len(run.clicks), sum(run.obeyed), sum(kept)), strict=True))
    if options.kinds and options.clicks >= KIND_CLICKS:
        row["kind_both"] = metrics.iou_after(run.ious, KIND_CLICKS)
        for kind in ("foreground", "background"):
            one = protocols.run_clicks(system, truth, KIND_CLICKS, signs=protocols.KINDS[kind])
            row[f"kind_{kind}"] = one.ious[-1]
    box, same = protocols.box_of(truth), run.clicks[:BASELINE_CLICKS]
    for name, baseline in (baselines or {}).items():
        row[f"{name}_same"] = metrics.iou(protocols.predict_mask(baseline, box, same), truth)
        row[f"{name}_own"] = protocols.run_clicks(baseline, truth, BASELINE_CLICKS).ious[-1]
        row[f"{name}_box"] = metrics.iou(protocols.predict_mask(baseline, box, ()), truth)
    return row | _better_polarity(row)


def _better_polarity(row: Row) -> Row:
    """Of baselines for bright and for dark objects, the better: no prompt tells which it is."""
    return {
        name.replace("_bright", ""): max(value, row[name.replace("_bright", "_dark")])
        for name, value in row.items()
        if "_bright_" in name and name.replace("_bright", "_dark") in row
    }


def _filled(truth: NDArray[np.bool_]) -> float:
    window = extent(truth)
    return float(truth[window].mean()) if window is not None else 0.0


def _mask_after(
    system: Segmenter, run: ClickRun, truth: NDArray[np.bool_], count: int
) -> NDArray[np.bool_]:
    """Ask once more for the mask after some clicks: rows of clicks keep their two ends only."""
    if count >= len(run.clicks):
        return run.last
    return protocols.predict_mask(system, protocols.box_of(truth), run.clicks[:count])


def by_source(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Means over the objects of each source, with ``objects``; shares of clicks from their sums.

    ``obeyed`` and ``kept`` are 1 where nothing had to be clicked. A value that some of a source's
    objects lack is the mean of the others.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["source"], []).append(row)
    result = {}
    for source in sorted(found):
        names = dict.fromkeys(
            name for row in found[source] for name, value in row.items() if _is_number(value)
        )
        means = {
            name: float(np.mean([row[name] for row in found[source] if name in row]))
            for name in names
            if name not in _EITHER
        }
        if "clicks" in names:
            clicks, obeyed, kept = (sum(row[name] for row in found[source]) for name in _EITHER)
            means["obeyed"] = obeyed / clicks if clicks else 1.0
            means["kept"] = kept / clicks if clicks else 1.0
        result[source] = means | {"objects": float(len(found[source]))}
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def over_sources(rows: Iterable[Row]) -> dict[str, float]:
    """Mean over the sources of `by_source`, each counting the same; ``objects`` is their sum.

    A value that some sources lack (coarsely drawn ones have no boundary IoU) is the mean of the
    others. Empty without rows.
    """
    sources = by_source(rows)
    names = dict.fromkeys(name for means in sources.values() for name in means)
    result: dict[str, float] = {}
    for name in names:
        values = [means[name] for means in sources.values() if name in means]
        result[name] = float(np.sum(values) if name == "objects" else np.mean(values))
    if sources:
        result["sources"] = float(len(sources))
    return result


def grouped(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by whether the source was trained on, and by part.

    The former is ``"seen"`` or ``"left out"``; with ``"generated, "`` before it where a row says
    that its image is (``generated``). The part ``"all"`` comes last, where there is more than one.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for title in dict.fromkeys(_origin(row) for row in sorted(rows, key=_origin_order)):
        chosen = [row for row in rows if _origin(row) == title]
        parts = sorted({row["part"] for row in chosen}, key=_part_order)
        for part in parts:
            groups[title, part] = [row for row in chosen if row["part"] == part]
        if len(parts) > 1:
            groups[title, "all"] = chosen
    return groups


def _origin(row: Row) -> str:
    seen = "left out" if row["left_out"] else "seen"
    return f"generated, {seen}" if row.get("generated") else seen


def _origin_order(row: Row) -> tuple[bool, bool]:
    return bool(row.get("generated")), bool(row["left_out"])


def _part_order(part: str) -> tuple[int, str]:
    known = ("compact", "class", "network")
    return known.index(part) if part in known else len(known), part


# --------------------------------------------------------------------------------- as Markdown

_COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("objects", "objects", "{:.0f}".format),
    ("filled box", "filled", "{:.3f}".format),
    ("box", "iou_0", "{:.3f}".format),
    ("1 click", "iou_1", "{:.3f}".format),
    ("3", "iou_3", "{:.3f}".format),
    ("5", "iou_5", "{:.3f}".format),
    ("10", "iou_10", "{:.3f}".format),
    ("boundary IoU, box", "boundary_iou_0", "{:.3f}".format),
    ("5 clicks", "boundary_iou_5", "{:.3f}".format),
    ("NoC90", "noc_90", "{:.1f}".format),
    ("worst drop", "worst_drop", "{:.3f}".format),
    ("obeyed", "obeyed", "{:.1%}".format),
    ("kept", "kept", "{:.1%}".format),
)


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown text."""
    text = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*text, *(f"| {' | '.join(line)} |" for line in lines)])


def _cells(means: Mapping[str, float], names: Sequence[str]) -> list[str]:
    shown = [(name, show) for _, name, show in _COLUMNS if name in names]
    return [show(means[name]) if name in means else "" for name, show in shown]


def report(rows: Sequence[Row]) -> str:
    """Write all as Markdown: means by group, kinds of clicks, baselines, then the sources."""
    groups = grouped(rows)
    names = {name for row in rows for name in row} | {"objects", "obeyed", "kept"}
    columns = [name for _, name, _ in _COLUMNS if name in names]
    titles = [title for title, name, _ in _COLUMNS if name in names]
    means = {key: over_sources(group) for key, group in groups.items()}
    blocks = [
        "Means over sources.",
        markdown_table(
            ["trained on?", "part", "sources", *titles],
            (
                [*key, f"{mean['sources']:.0f}", *_cells(mean, columns)]
                for key, mean in means.items()
            ),
        ),
    ]
    extra = {name for name in names if name.startswith("kind_")}
    extra |= {name for name in names if name.endswith(("_box", "_same", "_own"))}
    if extra:
        ordered = sorted(extra, key=lambda name: (not name.startswith("kind_"), name))
        shown = ["iou_0", "iou_3", *ordered]
        blocks += [
            f"IoU after {KIND_CLICKS} clicks of each kind, and of the baselines after "
            f"{BASELINE_CLICKS}: the model's clicks (same), or clicks in their own errors (own).",
            markdown_table(
                ["trained on?", "part", *shown],
                (
                    [*key, *(f"{mean[name]:.3f}" if name in mean else "" for name in shown)]
                    for key, mean in means.items()
                ),
            ),
        ]
    for (seen, part), group in groups.items():
        if part != "all":
            lines = ([name, *_cells(mean, columns)] for name, mean in by_source(group).items())
            blocks += [f"By source: {seen}, {part}.", markdown_table(["source", *titles], lines)]
    return "\n\n".join(blocks)
