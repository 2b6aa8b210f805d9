"""A run becomes weights that can be shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from napari_pisam.learn.run_state import LAST
from napari_pisam.model.pisam import build_model
from napari_pisam.weights.checkpoint_format import save_checkpoint
from recipes.tiny.config import RecipeConfig
from recipes.tiny.starting import variant_of_run
from recipes.tiny.training import summary_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_pisam.model.pisam import PiSam


def run_of(path: Path) -> Path | None:
    """Folder of the training run that a path means: itself, or that of its ``last.pt``."""
    folder = path if path.is_dir() else path.parent
    return folder if path.suffix != ".safetensors" and (folder / LAST).is_file() else None


def model_of_run(run: Path, part: Literal["ema", "model"] = "ema") -> tuple[PiSam, RecipeConfig]:
    """Build the network that a run has come to, and read the run's settings.

    Parameters
    ----------
    run
        Output folder of a training run, which may go on meanwhile.
    part
        The averaged weights, or the last ones.

    Returns
    -------
    PiSam
        In eval mode, at its variant's own frame: the frame of training is not the frame of use.
    RecipeConfig

    Raises
    ------
    ValueError
        If the run's files cannot be read or do not fit each other.
    """
    config = RecipeConfig.from_toml(run / "config.toml")
    variant = variant_of_run(config)
    model = build_model(variant)
    try:
        state = torch.load(run / LAST, weights_only=True, map_location="cpu")
        model.load_state_dict(state[part])
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{run / LAST} does not fit {run / 'config.toml'} ({error}).") from error
    return model.eval(), config


def export_weights(run: Path, folder: Path, *, licence: str = "MIT") -> Path:
    """Write a run's averaged weights as ``NAME.safetensors``, with their hash in ``SHA256SUMS``.

    Parameters
    ----------
    run
        Output folder of a training run.
    folder
        Where to write.
    licence
        Licence of the weights, kept in the file's header.

    Returns
    -------
    Path
        The weights: float16, with the variant and a training summary in the header.
    """
    model, config = model_of_run(run)
    state = torch.load(run / LAST, weights_only=True, map_location="cpu")
    summary = summary_of(config, state["step"], state["elapsed"])
    path = folder / f"{config.variant}.safetensors"
    write_weights(path, model, licence=licence, training_summary=summary, dtype=torch.float16)
    return path


def write_weights(path: Path, weights: PiSam | Mapping[str, Tensor], **saved: Any) -> None:
    """Write weights as `save_checkpoint` does, with their hash in ``SHA256SUMS`` beside them."""
    digest = save_checkpoint(path, weights, **saved)
    (path.parent / "SHA256SUMS").write_text(f"{digest}  {path.name}\n")
