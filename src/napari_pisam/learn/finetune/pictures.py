"""Pictures of validation objects, and the report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_pisam.images.drawing import enlarged
from napari_pisam.images.files import replacing
from napari_pisam.images.html_page import html_page, html_table, html_text
from napari_pisam.learn.finetune.layout import PREVIEW, REPORT, picture_inside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_pisam.learn.finetune.scoring import Shown

_SIDE = 320
_TRUTH, _BEFORE, _AFTER = (255, 255, 255), (213, 94, 0), (86, 180, 233)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem;
  color: #1d1d1f; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } figcaption { font-size: 13px; overflow-wrap: anywhere; }
svg { border: 1px solid #ddd; } img { max-width: 20rem; }
"""


def picture(shown: Shown, *, is_base: bool) -> bytes:
    """Draw an object with the truth's outline and the mask's, as PNG."""
    scale = _SIDE / max(shown.truth.shape)
    height, width = (max(1, round(n * scale)) for n in shown.truth.shape)
    size = width, height
    canvas = np.array(Image.fromarray(shown.image).resize(size, Image.Resampling.BILINEAR))
    colour = _BEFORE if is_base else _AFTER
    # The mask over the truth: where they agree, its colour is seen.
    for mask, paint in ((shown.truth, _TRUTH), (shown.mask, colour)):
        _, edge = enlarged(mask, size)
        canvas[edge] = paint
    stream = io.BytesIO()
    Image.fromarray(canvas).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def preview_name(place: int, *, is_base: bool) -> str:
    """Name the picture of an object, as a path inside the run's folder."""
    return f"{PREVIEW}/{place:04d}_{'before' if is_base else 'after'}.png"


def write_previews(folder: Path, shown: Mapping[int, Shown], *, is_base: bool) -> dict[str, str]:
    """Write the pictures of some objects, each whole or not at all.

    Returns
    -------
    dict of str to str
        Their files by the objects' places, as a checkpoint can hold it.

    Raises
    ------
    OSError
        If one cannot be written.
    """
    (folder / PREVIEW).mkdir(exist_ok=True)
    names = {}
    for place, content in shown.items():
        name = preview_name(place, is_base=is_base)
        try:
            with replacing(folder / name) as part:
                part.write_bytes(picture(content, is_base=is_base))
        except PermissionError:  # on Windows: it is being shown; the next one will do
            if not (folder / name).is_file():
                raise
        names[str(place)] = name
    return names


def write_report(folder: Path, state: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write the report of a run as it stands.

    Parameters
    ----------
    folder : Path
    state : mapping
        What the child says of itself.
    about : mapping
        Settings, as text.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    title = f"Fine-tuning of {about.get('base', '')}"
    parts = [
        f"<p><b>{html_text(state.get('verdict', ''))}</b></p>",
        f"<p>{int(state.get('step', 0))} steps, {float(state.get('elapsed', 0)) / 60:.1f} minutes; "
        f"the best weights after step {int(state.get('best_step', 0))}.</p>",
        "<h2>Boundary IoU from the box alone</h2>",
        _chart(state.get("points", [])),
        "<p>Dark: objects that validate. Light: objects that train. Dashed: the base.</p>",
        "<h2>Validation objects before and after</h2><p>White: your mask. Orange: the base. Blue: "
        "after training.</p>",
        _pairs(folder, state.get("previews", [])),
        "<h2>Each validation object</h2>",
        _table(state.get("objects", [])),
        "<h2>Settings</h2>",
        html_table(("Setting", "Value"), ((key, str(value)) for key, value in about.items())),
    ]
    with replacing(folder / REPORT) as part:
        part.write_text(html_page(title, _STYLE, parts), encoding="utf-8")


def _chart(points: Sequence[Mapping[str, Any]]) -> str:
    width, height, margin = 640, 240, 36
    known = [p for p in points if p.get("boundary_validation") is not None]
    if not known:
        return "<p>Nothing was validated.</p>"
    steps = [float(p["step"]) for p in known]
    keys = ("boundary_training", "boundary_validation")
    values = [float(p[key]) for p in known for key in keys if p.get(key) is not None]
    low, high = max(0.0, min(values) - 0.02), min(1.0, max(values) + 0.02)

    def place(step: float, value: float) -> str:
        x = margin + (width - 2 * margin) * step / max(steps[-1], 1.0)
        y = height - margin - (height - 2 * margin) * (value - low) / max(high - low, 1e-6)
        return f"{x:.1f},{y:.1f}"

    def line(key: str, style: str) -> str:
        line_points = " ".join(
            place(float(p["step"]), float(p[key])) for p in known if p.get(key) is not None
        )
        return f'<polyline fill="none" points="{line_points}" {style}/>'

    base = float(known[0]["boundary_validation"])
    ends = " ".join((place(0, base), place(steps[-1], base)))
    return "\n".join(
        [
            f'<svg width="{width}" height="{height}" role="img">',
            f'<polyline points="{ends}" stroke="#d55e00" stroke-dasharray="4" fill="none"/>',
            line("boundary_training", 'stroke="#a6cee3" stroke-width="2"'),
            line("boundary_validation", 'stroke="#1f4e79" stroke-width="2"'),
            f'<text x="4" y="{margin}" font-size="12">{high:.2f}</text>',
            f'<text x="4" y="{height - margin}" font-size="12">{low:.2f}</text>',
            f'<text x="{width - margin}" y="{height - 8}" font-size="12" text-anchor="end">'
            f"{steps[-1]:.0f} steps</text></svg>",
        ]
    )


def _pairs(folder: Path, previews: Sequence[Mapping[str, Any]]) -> str:
    figures = []
    for p in previews:
        images = []
        for key in ("before", "after"):
            path = picture_inside(folder, p[key])
            try:
                data = "" if path is None else base64.b64encode(path.read_bytes()).decode("ascii")
            except OSError:
                continue
            images.append(f'<img alt="{key}" src="data:image/png;base64,{data}">')
        text = (
            f"{p['image']}, object {p['label']}: IoU {float(p['iou_before']):.3f} -> "
            f"{float(p['iou_after']):.3f}"
        )
        figures.append(
            f"<figure>{''.join(images)}<figcaption>{html_text(text)}</figcaption></figure>"
        )
    return f'<div class="pairs">{"".join(figures)}</div>'


def _table(objects: Sequence[Mapping[str, Any]]) -> str:
    head = ("Object", "IoU before", "IoU after", "Boundary IoU before", "Boundary IoU after")
    rows = []
    for o in objects:
        values = (*o["iou"], *o["boundary"])
        numbers = ("" if value is None else f"{float(value):.3f}" for value in values)
        rows.append((f"{o['image']}, {o['label']}", *numbers))
    return html_table(head, rows)
