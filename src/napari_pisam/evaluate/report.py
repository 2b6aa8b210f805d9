"""The report of an evaluation: tables, printed or with pictures of the worst objects as HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_pisam.evaluate.pictures import MASK, TRUTH
from napari_pisam.evaluate.runner import KIND_CLICKS
from napari_pisam.evaluate.saliency import MISSING, SALIENCY, is_available
from napari_pisam.images.html_page import html_figure, html_page, html_table, html_text
from napari_pisam.images.names import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_pisam.evaluate.pictures import Case
    from napari_pisam.evaluate.runner import Evaluation
    from napari_pisam.evaluate.scores import Scores

_TITLES = {
    "iou": "IoU",
    "dataset_iou": "data-set IoU",
    "boundary_iou": "boundary IoU",
    "mba": "mBA",
    "mae": "MAE",
    "s_measure": "S",
    "f_max": "F max",
    "f_weighted": "F weighted",
    "e_measure": "E mean",
    "hce": "HCE",
}
_SOURCES = 2
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem;
  color: #1d1d1f; background: #fff; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
.note { color: #555; max-width: 60rem; }
.cases { display: flex; flex-wrap: wrap; gap: 1.2rem; }
figure { margin: 0; }
figcaption { max-width: 46rem; overflow-wrap: anywhere; }
img { max-width: 100%; }
.key { display: inline-block; width: 1.6rem; height: .25rem; vertical-align: middle; }
"""


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes
    ----------
    title, note : str
    columns : list of str
    rows : list of list of str
        The first cell names the row.
    """

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""


def tables(evaluation: Evaluation) -> list[Table]:
    """Make the tables of all that was evaluated; means are over sources."""
    found = [
        _box_table(evaluation),
        _click_table(evaluation),
        _source_table(evaluation),
        _stage_table(
            evaluation.worst,
            "The worst objects, corrected (Table 2)",
            "The same clicks for all systems, in the largest errors that they share.",
        ),
        _ablation_table(evaluation),
        _efficiency_table(evaluation),
        _stage_table(
            evaluation.kinds,
            "Kinds of click, the worst objects (Table 7)",
            f"At most {KIND_CLICKS} clicks by RITM's rule.",
        ),
    ]
    return [table for table in found if table.rows]


def _measures() -> list[str]:
    """Names of the measures that there are here."""
    names = ["iou", "dataset_iou", "boundary_iou", "mba", "mae"]
    return names + list(SALIENCY) if is_available() else names


def _cells(means: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [
        "" if name not in means else f"{means[name]:.0f}" if name == "hce" else f"{means[name]:.3f}"
        for name in names
    ]


def _box_table(evaluation: Evaluation) -> Table:
    names = _measures()
    table = Table(
        "Masks from the box, and saved masks (Tables 1, 3, 4)",
        ["system", "objects", *(_TITLES[name] for name in names)],
        note="" if is_available() else MISSING,
    )
    for system, scores in evaluation.box.items():
        means = scores.mean()
        table.rows.append([system, f"{means['objects']:.0f}", *_cells(means, names)])
    return table


def _click_table(evaluation: Evaluation) -> Table:
    start = "the box" if evaluation.settings.with_box else "nothing"
    runs = evaluation.clicks
    counts = next(iter(runs.values())).checkpoints if runs else []
    limit = evaluation.settings.clicks
    table = Table(
        f"Clicks by RITM's rule, from {start}",
        [
            "system",
            *(f"IoU {count}" for count in counts),
            *(f"NoC{target}" for target in (85, 90, 95)),
            *(f"NoF{target}@{limit}" for target in (85, 90, 95)),
            "worst drop",
            "obeyed %",
            "kept %",
            "s",
        ],
        note=(
            f"IoU after so many clicks; NoC: clicks up to an IoU (most {limit}); NoF: objects that "
            "do not reach it; worst drop: the largest loss of IoU by one click, mean over objects; "
            "obeyed: clicked pixels that have the asked value right after; kept: clicks after "
            "which all pixels clicked so far have it; s: seconds a prediction."
        ),
    )
    for system, scores in runs.items():
        means = scores.mean()
        row = [system, *(f"{means[f'iou_{count}']:.3f}" for count in counts)]
        row += [f"{means[f'noc_{target}']:.2f}" for target in (85, 90, 95)]
        row += [f"{means[f'nof_{target}']:.0f}" for target in (85, 90, 95)]
        row += [f"{means['worst_drop']:.3f}"]
        row += [f"{100 * means[name]:.1f}" for name in ("obeyed", "kept")]
        table.rows.append([*row, f"{means['seconds']:.3f}"])
    return table


def _source_table(evaluation: Evaluation) -> Table:
    runs = evaluation.clicks
    counts = next(iter(runs.values())).checkpoints if runs else []
    columns = ["source", "system", "objects", "IoU", "boundary IoU"]
    table = Table("By source", [*columns, *(f"IoU {count}" for count in counts if count)])
    sources: dict[tuple[str, str], dict[str, Any]] = {}
    for system, scores in evaluation.box.items():
        for source, means in scores.by_source().items():
            sources[source, system] = dict(means)
    for system, clicked in runs.items():
        for source, means in clicked.by_source().items():
            sources.setdefault((source, system), {}).update(means)
    for (source, system), means in sorted(sources.items()):
        names = ["iou", "boundary_iou", *(f"iou_{count}" for count in counts if count)]
        table.rows.append([source, system, f"{means['objects']:.0f}", *_cells(means, names)])
    is_one = len({source for source, _ in sources}) < _SOURCES
    return Table("", []) if is_one else table


def _stage_table(stages: Mapping[str, Mapping[str, Scores]], title: str, note: str) -> Table:
    names = _measures()
    columns = ["system", "prompts", "objects", *(_TITLES[name] for name in names)]
    table = Table(title, columns, note=note)
    for system, inner in stages.items():
        for stage, scores in inner.items():
            means = scores.mean()
            if means:
                objects = f"{means['objects']:.0f}"
                table.rows.append([system, stage, objects, *_cells(means, names)])
    return table


def _ablation_table(evaluation: Evaluation) -> Table:
    names = ["iou", "boundary_iou", "mba", "mae"]
    table = Table(
        "Parts switched off (Table 5)",
        ["parts", *(_TITLES[name] for name in names)],
        note=(
            "One trained model, nothing trained anew; the paper trained each row. "
            "Evaluate checkpoints side by side to do the same."
        ),
    )
    for name, scores in evaluation.ablation.items():
        table.rows.append([name, *_cells(scores.mean(), names)])
    return table


def _efficiency_table(evaluation: Evaluation) -> Table:
    table = Table(
        "Cost (Table 6)",
        ["system", "FPS", "FLOPs (T)", "multiply-adds (T)", "parameters (M)", "learnable %"],
        note=(
            "Encoding and one box, on this machine. Sampling and element-wise work is not counted; "
            "the paper's FLOPs are multiply-adds."
        ),
    )
    for name, value in evaluation.efficiency.items():
        table.rows.append(
            [
                name,
                f"{value.fps:.2f}",
                f"{value.flops / 1e12:.4f}",
                f"{value.flops / 2e12:.4f}",
                f"{value.parameters / 1e6:.2f}",
                f"{100 * value.learnable:.2f}",
            ]
        )
    return table


def print_tables(found: Sequence[Table]) -> None:
    """Print tables on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nothing has to be squeezed into 80 columns.
        console = Console(width=200)
    for table in found:
        # Names are text, not markup: a file may be called "[red]", and worse.
        printed = RichTable(title=Text(table.title), caption=Text(table.note), box=box.SIMPLE_HEAD)
        for number, column in enumerate(table.columns):
            is_name = number < len(table.columns) and column in {
                "system",
                "source",
                "prompts",
                "parts",
            }
            printed.add_column(Text(column), justify="left" if is_name else "right")
        for row in table.rows:
            printed.add_row(*(Text(printable(cell)) for cell in row))
        console.print(printed)


def html_report(
    title: str, found: Sequence[Table], cases: Mapping[str, Sequence[Case]], notes: Sequence[str]
) -> str:
    """Write the report as one HTML document that needs nothing else.

    Parameters
    ----------
    title : str
    found : sequence of Table
    cases : mapping of str to sequence of Case
        By system, the worst first.
    notes : sequence of str
        Lines under the title.
    """
    parts = [f'<p class="note">{html_text(note)}</p>' for note in notes]
    for table in found:
        note = f'<p class="note">{html_text(table.note)}</p>' if table.note else ""
        parts.append(
            f'<h2>{html_text(table.title)}</h2><div class="wide">'
            f"{html_table(table.columns, table.rows)}</div>{note}"
        )
    if any(cases.values()):
        parts.append(
            "<h2>Worst objects</h2><p>"
            f'<span class="key" style="background:{_colour(TRUTH)}"></span> truth &nbsp; '
            f'<span class="key" style="background:{_colour(MASK)}"></span> mask. '
            "Discs are FG clicks, crosses BG clicks.</p>"
        )
    for system, shown in cases.items():
        if shown:
            figures = "\n".join(html_figure(case.png, case.title, _caption(case)) for case in shown)
            parts.append(f'<h3>{html_text(system)}</h3><div class="cases">{figures}</div>')
    return html_page(title, _STYLE, parts)


def _caption(case: Case) -> str:
    return f"{case.title}: IoU {' -> '.join(f'{value:.3f}' for value in case.ious)}"


def _colour(rgb: tuple[int, int, int]) -> str:
    return f"rgb({rgb[0]} {rgb[1]} {rgb[2]})"
