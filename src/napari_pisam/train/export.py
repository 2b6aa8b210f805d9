"""``python -m napari_pisam.train.export RUN FOLDER``: a run becomes weights that can be shipped."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from napari_pisam.model.checkpoint import save_checkpoint
from napari_pisam.model.pisam import build_model
from napari_pisam.train.config import TrainConfig
from napari_pisam.train.run_state import PRIVATE


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
    config = TrainConfig.from_toml(run / "config.toml")
    state = torch.load(run / "last.pt", weights_only=True)
    # The frame of training is not the frame of use: the weights fit any.
    model = build_model(config.variant)
    model.load_state_dict(state["ema"])
    done = {"steps": state["step"], "minutes": round(state["elapsed"] / 60)}
    summary = config.model_dump(mode="json", exclude=PRIVATE) | done
    path = folder / f"{config.variant}.safetensors"
    digest = save_checkpoint(
        path, model, licence=licence, training_summary=summary, dtype=torch.float16
    )
    (folder / "SHA256SUMS").write_text(f"{digest}  {path.name}\n")
    return path


if __name__ == "__main__":
    export_weights(Path(sys.argv[1]), Path(sys.argv[2]))
