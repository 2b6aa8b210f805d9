"""HTML pages that need nothing else: pictures inside, no scripts, every name escaped."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from napari_pisam.images.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Nothing may be fetched, whatever a file's name says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_text(text: object) -> str:
    """Escape a text: names are no markup, and give no orders to whoever reads the source."""
    return escape(printable(str(text)))


def html_page(title: str, style: str, parts: Iterable[str]) -> str:
    """Put a page together.

    Parameters
    ----------
    title : str
    style : str
        CSS.
    parts : iterable of str
        HTML, escaped already.
    """
    head = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html_text(title)}</title><style>{style}</style></head><body>",
        f"<h1>{html_text(title)}</h1>",
    ]
    return "\n".join([*head, *parts, "</body></html>\n"])


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write texts as a table."""
    head = "".join(f'<th scope="col">{html_text(column)}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def html_figure(png: bytes, title: str, caption: str) -> str:
    """Show a picture with a caption of plain text."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{html_text(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html_text(caption)}</figcaption></figure>"
    )
