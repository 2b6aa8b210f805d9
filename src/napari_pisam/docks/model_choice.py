"""What is said of each model that can be chosen, and which one an image calls for.

No Qt, and no torch; nothing is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.docks.wording import memory_text, printable
from napari_pisam.weights.models import list_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.images.kinds import ImageKind
    from napari_pisam.weights.models import ModelRow

_HERE = {
    "embedded": "in the package",
    "missing": "its file is missing",
    "downloaded": "on this machine",
    "incomplete": "partly downloaded",
    "available": "to download",
    "added": "on this machine",
}
_LOOKS_LIKE: dict[ImageKind, str] = {
    "tissue": "stained tissue",
    "fluorescence": "fluorescence",
    "electron": "electron microscopy",
    "photograph": "a photograph",
}


def offered_models() -> list[ModelRow]:
    """List the models that can be chosen by name, and what is known of them now."""
    return [row for row in list_models() if row.status != "needs a file"]


def in_short(row: ModelRow) -> str:
    """Say it in a line or two: cost, what it is for, licence."""
    time = "" if row.seconds is None else f"{row.seconds:.2g} s an image"
    size = "" if row.size is None else memory_text(row.size)
    parts = (size, _HERE[row.status], time, row.good_for, row.licence)
    return printable(" · ".join(part for part in parts if part))


def in_full(row: ModelRow) -> str:
    """Say what there is to know before choosing a model, in lines."""
    time = "not measured yet: napari-pisam models list --measure"
    if row.seconds is not None:
        time = f"{row.seconds:.2g} s on this machine"
    size = "" if row.size is None else f"{memory_text(row.size)}, {_HERE[row.status]}"
    lines = {
        "Good for": row.good_for,
        "Size": size,
        "Licence": row.licence,
        "One image": time,
        "Cite": row.citation,
    }
    return "\n".join(f"{key}: {printable(value)}" for key, value in lines.items() if value)


def about_file(path: str) -> str:
    """Say in one line what a checkpoint file is."""
    try:
        size = f" · {memory_text(Path(path).stat().st_size)}"
    except (OSError, ValueError):
        return "a checkpoint file that is not there"
    return f"a checkpoint file of yours{size} · on this machine"


def recommend(kind: ImageKind | None, rows: Sequence[ModelRow]) -> ModelRow | None:
    """Choose the model for a kind of image: one that is here, then the smallest.

    Parameters
    ----------
    kind : ImageKind or None
        See `napari_pisam.images.kinds.guess_kind`.
    rows : sequence of ModelRow
        What there is.

    Returns
    -------
    ModelRow or None
        None where nothing is made for it.
    """
    fitting = [row for row in rows if kind is not None and row.suits == kind]
    return min(fitting, key=lambda row: (not row.is_here, row.size or 0), default=None)


def advice(kind: ImageKind | None, rows: Sequence[ModelRow], chosen: str) -> str:
    """Say which model the image calls for; nothing where the chosen one is made for it, too.

    Parameters
    ----------
    kind, rows
        See `recommend`.
    chosen : str
        A model's name, or a checkpoint file's path: who chose a file knows why.
    """
    best = recommend(kind, rows)
    now = next((row for row in rows if row.name == chosen), None)
    if kind is None or best is None or now is None or now.status == "added" or now.suits == kind:
        return ""
    cost = "here already" if best.is_here else memory_text(best.size or 0)
    return f"Looks like {_LOOKS_LIKE[kind]}: try {best.name} ({cost})."
