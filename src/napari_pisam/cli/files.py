"""Where a command may write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_pisam.images.ngff_labels import check_label_place, is_label_place
from napari_pisam.images.zarr_files import SUFFIX

if TYPE_CHECKING:
    from pathlib import Path


def check_output(path: Path, suffixes: tuple[str, ...], inputs: tuple[Path | None, ...]) -> None:
    """Find out before the work what would go wrong after it.

    Raises
    ------
    ValueError
        If the file cannot be written there, has another suffix, or is one of the inputs.
    """
    if SUFFIX in suffixes and is_label_place(path):
        check_label_place(path)
        return
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"The output is {path}, expected a name that ends in {suffixes[0]}.")
    if path.is_dir():
        raise ValueError(f"The output {path} is a folder, expected the name of a file.")
    if not path.absolute().parent.is_dir():
        raise ValueError(
            f"The folder {path.absolute().parent} does not exist. Make it, or write elsewhere."
        )
    if not os.access(path.absolute().parent, os.W_OK):
        raise ValueError(
            f"The folder {path.absolute().parent} cannot be written to. Write elsewhere."
        )
    for given in inputs:
        if given is not None and path.exists() and given.exists() and path.samefile(given):
            raise ValueError(f"The output {path} is also an input. Give it another name.")
