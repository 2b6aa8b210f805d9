"""``python -m napari_pisam.learn config.toml`` runs or continues a training run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from napari_pisam.learn.config import TrainConfig
from napari_pisam.learn.engine import fit

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    fit(TrainConfig.from_toml(Path(sys.argv[1])))
