"""What a run trains and validates on, from its settings."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_pisam.learn.compose import Bank, load_bank
from napari_pisam.learn.folder_split import split_images_or_regions
from napari_pisam.learn.folders import load_folders
from napari_pisam.learn.store import load_images
from napari_pisam.learn.synthetic import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.learn.store import StoredImage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """Images to train and to validate on, and what further ones are made up from."""

    training: list[StoredImage]
    validation: list[StoredImage]
    bank: Bank | None = None


def load_material(config: TrainConfig) -> Material:
    """Read the images and masks of a run.

    Raises
    ------
    ValueError
        If names do not match, or nothing can be read or split.
    """
    if config.images is not None and config.masks is not None:
        found = load_folders(config.images, config.masks, kind=config.mask_kind)
        if found.skipped:
            logger.warning(
                "%d unreadable file(s) are skipped:\n%s",
                len(found.skipped),
                "\n".join(found.skipped),
            )
        training, validation = split_images_or_regions(
            found.pieces, config.validation_fraction, config.seed
        )
        return Material(training, validation)
    if config.data is None:
        raise ValueError("There is no data: give data, or images and masks.")
    bank = load_bank(config.data) if (config.data / "cutouts").is_dir() else Bank()
    return Material(
        load_images(config.data, held_out=config.held_out),
        load_images(config.data, part="validation", held_out=config.held_out),
        replace(bank, kinds=remaining_kinds(config.held_out_kinds)),
    )


def remaining_kinds(held_out: Sequence[str]) -> tuple[str, ...]:
    """Families of generated images that may be trained on.

    Raises
    ------
    ValueError
        If a family does not exist.
    """
    unknown = [name for name in held_out if name not in KINDS]
    if unknown:
        raise ValueError(f"held_out_kinds has {unknown}; expected some of {', '.join(KINDS)}.")
    return tuple(name for name in KINDS if name not in held_out)
