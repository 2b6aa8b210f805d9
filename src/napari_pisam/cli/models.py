"""``napari-pisam models``: which there are, what they are good for, and whether they are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_pisam.cli.console import answer, download_progress, progress, say

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.weights.models import ModelRow


def list_models(*, measure: bool = False) -> None:
    """Print one line per model, and the fine-tuned ones.

    Parameters
    ----------
    measure
        First measure how long one image takes with each network that was not measured here yet.
    """
    from napari_pisam.weights import models

    if measure:
        _measure_new([row.variant for row in models.list_models() if row.seconds is None])
    listed = models.list_models()
    rows = [("NAME", "GOOD FOR", "SIZE", "LICENCE", "HERE", "ONE IMAGE")]
    rows += [
        (
            row.name,
            row.good_for,
            _size(row.size),
            row.licence,
            row.status,
            _seconds(row.seconds),
        )
        for row in listed
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        answer("  ".join(cells).rstrip())
    if not any(row.seconds for row in listed):
        say("How long one image takes here: napari-pisam models list --measure (once, minutes)")
    _list_fine_tuned()


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2g} s"


def _measure_new(variants: list[str]) -> None:
    """Time networks one after the other, the quick ones first; what fails is said and left out."""
    from napari_pisam.cli.benchmark import measure_once
    from napari_pisam.weights.timings import keep_seconds

    names = list(dict.fromkeys(variants))
    with progress("Measuring", len(names)) as advance:
        for name in names:
            try:
                keep_seconds({name: measure_once(name)})
            except RuntimeError as error:
                say(str(error))
            advance(1)


def _list_fine_tuned() -> None:
    """Print the runs that are better than their base, by the path that stands for them."""
    from napari_pisam.learn.finetune.runs import list_runs

    tuned = [run for run in list_runs() if run.weights is not None]
    if tuned:
        answer("\nFINE-TUNED (give the file as --model)")
    for run in tuned:
        gain = "" if run.boundary is None else "boundary IoU {:.3f} -> {:.3f}".format(*run.boundary)
        answer(f"{run.weights}  from {run.base}, {run.objects} objects  {gain}".rstrip())


def show_model(name: str) -> None:
    """Print what is known of a model.

    Raises
    ------
    ValueError
        If there is no model of that name.
    """
    from napari_pisam.model.variants import get_variant
    from napari_pisam.weights.cache import cached_path
    from napari_pisam.weights.catalogue import CATALOGUE, is_public

    row = _row(name)
    variant = get_variant(row.variant)
    lines = {
        "name": name,
        "network": variant.describe(),
        "frame": f"{variant.frame} px",
        "good for": row.good_for,
        "weights": row.status,
        "size": _size(row.size),
        "licence": row.licence or "that of the checkpoint file",
        "one image": _seconds(row.seconds),
        "cite": row.citation,
        "hash": row.hash,
        "address": row.address,
        "mirror": " ".join(CATALOGUE[name].mirrors) if name in CATALOGUE else "",
        "file": str(cached_path(name)) if is_public(name) else "",
    }
    for key, value in lines.items():
        if value:
            answer(f"{key + ':':<10} {value}")


def _row(name: str) -> ModelRow:
    from napari_pisam.weights.models import list_models

    rows = {row.name: row for row in list_models()}
    if name not in rows:
        msg = f"There is no model {name!r}. Choose one of: {', '.join(rows)}."
        raise ValueError(msg)
    return rows[name]


def download_model(name: str) -> None:
    """Download a model's weights and say where they are.

    Raises
    ------
    ValueError
        If it is not a model that can be downloaded.
    DownloadError
        If it does not arrive.
    """
    from napari_pisam.weights import cache

    with download_progress(f"Downloading {name}") as update:
        path = cache.download(name, progress=update)
    answer(str(path))


def add_model(source: str, name: str | None, expected: str | None, licence: str | None) -> None:
    """Add a checkpoint file, or one at an address, under a name of its own.

    Raises
    ------
    ValueError
        If the name cannot be used, or the file does not hold weights that can be.
    DownloadError
        If it does not arrive.
    """
    from napari_pisam.weights import added

    with download_progress(f"Downloading {source}") as update:
        model = added.add_model(source, name, expected=expected, licence=licence, progress=update)
    if expected is None and "://" in source:
        say(
            "No hash was given, so what arrived is taken for right. It is checked against that "
            "from now on."
        )
    answer(f"{model.name}: a {model.variant}, {_size(model.size)}, {model.hash}")


def remove_model(name: str) -> None:
    """Delete a model's weights from this machine.

    Raises
    ------
    ValueError
        If it is not a model that was downloaded or added.
    """
    from napari_pisam.weights import models

    deleted: list[Path] = models.remove(name)
    for path in deleted:
        answer(f"deleted {path}")
    if not deleted:
        say(f"Nothing of {name} was on this machine.")


def verify_models(name: str | None) -> bool:
    """Compute the hashes of one model's weights, or of all that are here, and say what is wrong.

    Returns
    -------
    bool
        Whether all are what they should be.

    Raises
    ------
    ValueError
        If there is no such model, or it has no weights to verify.
    """
    from napari_pisam.weights import models
    from napari_pisam.weights.files import CheckpointError

    names = [row.name for row in models.list_models() if row.is_here or row.status == "missing"]
    good = True
    for each in names if name is None else [name]:
        try:
            checked = models.verify(each)
        except CheckpointError as error:
            good = False
            say(f"{each}: {error}")
        else:
            limit = "" if checked.tells_malice else "  (tells damage, not a change on purpose)"
            answer(f"{each}: good  {checked.hash}{limit}")
    return good
