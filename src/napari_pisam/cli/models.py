"""``napari-pisam models``: which there are, where they come from, and whether they are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from napari_pisam.cli.console import download_progress, say

if TYPE_CHECKING:
    from napari_pisam.weights.loading import ModelRow


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"


def list_models() -> None:
    """Print one line per model."""
    from napari_pisam.weights import loading as weights

    rows = [("NAME", "KIND", "STATUS", "SIZE", "LICENCE")]
    rows += [
        (row.name, row.kind, row.status, _size(row.size), row.licence or "")
        for row in weights.list_models()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    _list_fine_tuned()


def _list_fine_tuned() -> None:
    """Print the runs that are better than their base, by the path that stands for them."""
    from napari_pisam.learn.finetune.runs import list_runs

    tuned = [run for run in list_runs() if run.weights is not None]
    if tuned:
        typer.echo("\nFINE-TUNED (give the file as --model)")
    for run in tuned:
        gain = "" if run.boundary is None else "boundary IoU {:.3f} -> {:.3f}".format(*run.boundary)
        typer.echo(f"{run.weights}  from {run.base}, {run.objects} objects  {gain}".rstrip())


def show_model(name: str) -> None:
    """Print what is known of a model.

    Raises
    ------
    ValueError
        If there is no model of that name.
    """
    from napari_pisam.model.variants import VitEncoder, get_variant
    from napari_pisam.weights import loading as weights

    variant = get_variant(name)
    row = _row(name)
    if isinstance(variant.encoder, VitEncoder):
        encoder = f"ViT, {variant.encoder.depth} blocks of width {variant.encoder.embed_dim}"
    else:
        encoder = variant.encoder.backbone
    lines = {
        "name": name,
        "kind": row.kind,
        "encoder": encoder,
        "frame": f"{variant.frame} px",
        "weights": row.status,
        "size": _size(row.size),
        "licence": row.licence or "that of the checkpoint file",
        "sha256": row.sha256 or "",
    }
    if name in weights.REGISTRY:
        lines |= {
            "address": weights.REGISTRY[name].url,
            "file": str(weights.cached_path(name)),
        }
    for key, value in lines.items():
        if value:
            typer.echo(f"{key + ':':<9} {value}")


def _row(name: str) -> ModelRow:
    from napari_pisam.weights import loading as weights

    return next(row for row in weights.list_models() if row.name == name)


def download_model(name: str) -> None:
    """Download a model's weights and say where they are.

    Raises
    ------
    ValueError
        If it is not a model that can be downloaded.
    DownloadError
        If it does not arrive.
    """
    from napari_pisam.weights import loading as weights

    with download_progress(f"Downloading {name}") as update:
        path = weights.download(name, progress=update)
    typer.echo(str(path))


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
    from napari_pisam.model.variants import get_variant
    from napari_pisam.weights import loading as weights
    from napari_pisam.weights.checkpoint import CheckpointError

    if name is None:
        here = ("embedded", "missing", "downloaded")
        names = [row.name for row in weights.list_models() if row.status in here]
    else:
        get_variant(name)
        names = [name]
    good = True
    for each in names:
        try:
            if each == "tiny":
                sha256, trust = weights.load_model(each).sha256, "package"
            else:
                checked = weights.verify(each)
                sha256, trust = checked.sha256, checked.trust
        except CheckpointError as error:
            good = False
            say(f"{each}: {error}")
        else:
            typer.echo(f"{each}: good  sha256 {sha256}  (by {trust})")
    return good
