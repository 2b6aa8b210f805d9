"""An evaluation as one HTML file that needs nothing else: pictures inside, no scripts."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from napari_pisam.evaluate.pictures import MASK, TRUTH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_pisam.evaluate.pictures import Case
    from napari_pisam.evaluate.report import Table

# Nothing may be fetched, whatever a file's name says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
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


def html_report(
    title: str, tables: Sequence[Table], cases: Mapping[str, Sequence[Case]], notes: Sequence[str]
) -> str:
    """Write the report.

    Parameters
    ----------
    title : str
    tables : sequence of Table
    cases : mapping of str to sequence of Case
        By system, the worst first.
    notes : sequence of str
        Lines under the title.

    Returns
    -------
    str
        An HTML document; every name is escaped.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
    ]
    parts += [f'<p class="note">{escape(note)}</p>' for note in notes]
    for table in tables:
        parts.append(_table(table))
    if any(cases.values()):
        parts.append(
            "<h2>Worst objects</h2><p>"
            f'<span class="key" style="background:{_colour(TRUTH)}"></span> truth &nbsp; '
            f'<span class="key" style="background:{_colour(MASK)}"></span> mask. '
            "Discs are FG clicks, crosses BG clicks.</p>"
        )
    for system, found in cases.items():
        if found:
            parts.append(f'<h3>{escape(system)}</h3><div class="cases">')
            parts += [_figure(case) for case in found]
            parts.append("</div>")
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _figure(case: Case) -> str:
    data = base64.b64encode(case.png).decode("ascii")
    values = " -&gt; ".join(f"{value:.3f}" for value in case.ious)
    caption = f"{escape(case.title)}: IoU {values}"
    return (
        f'<figure><img alt="{escape(case.title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _colour(rgb: tuple[int, int, int]) -> str:
    return f"rgb({rgb[0]} {rgb[1]} {rgb[2]})"
