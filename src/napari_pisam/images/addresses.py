"""Where images are: what a folder, a pattern, an OME-Zarr or a file of several positions holds."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.images.files import IMAGE_SUFFIXES
from napari_pisam.images.folders import match_name
from napari_pisam.images.image_files import ImageFileError, open_image, positions_in
from napari_pisam.images.zarr_files import SUFFIX, images_in_zarr, is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from napari_pisam.images.image_files import ImageFile


@dataclass(frozen=True)
class ImageAddress:
    """An image, wherever it is.

    Attributes
    ----------
    name : str
        What belongs to it is called so: labels, prompts; "/" between the parts of a path.
    path : Path
        The file, or the folder in an OME-Zarr.
    position : int
        In a file that holds several.
    """

    name: str
    path: Path
    position: int = 0

    def open(self) -> AbstractContextManager[ImageFile]:
        """Open it; see `open_image`."""
        return open_image(self.path, self.position)


def find_images(sources: Sequence[str | Path], excluded: Path | None = None) -> list[ImageAddress]:
    """Find images, in the order of the sources; folders' and patterns' as a person counts.

    Parameters
    ----------
    sources : sequence of str or Path
        Files, folders (with those in them), patterns such as ``"plate*/*.tif"``, and OME-Zarr.
    excluded : Path, optional
        A folder that is left out: the labels', often inside that of the images.

    Raises
    ------
    ValueError
        If there is no image, or two have one name.
    """
    found: dict[str, ImageAddress] = {}
    for source in sources:
        for one in _in_source(Path(source), excluded):
            if one.name in found:
                raise ValueError(
                    f"{found[one.name].path} and {one.path} have one name, and so would their "
                    "labels. Take them one by one, or by a pattern such as *.tif."
                )
            found[one.name] = one
    if not found:
        given = ", ".join(str(source) for source in sources) or "nothing"
        raise ValueError(
            f"There is no image in {given}. Expected TIFF, PNG, JPEG or OME-Zarr, folders or "
            "patterns of them."
        )
    return list(found.values())


def is_one_image(source: str | Path) -> bool:
    """Whether a source names an image itself, and not a folder or a pattern of images."""
    path = Path(source)
    return is_zarr(path) or (not path.is_dir() and not _is_pattern(path))


def folder_of(source: str | Path) -> Path:
    """Return the folder that a source's images are in."""
    path = Path(source)
    if _is_pattern(path):
        return _fixed_part(path)
    if not is_one_image(path):
        return path
    while is_zarr(path.parent):  # what is not zarr's has no place in there
        path = path.parent
    return path.parent


def _in_source(source: Path, excluded: Path | None) -> Iterator[ImageAddress]:
    if _is_pattern(source):
        root = _fixed_part(source)
        matches = (Path(one) for one in glob.glob(str(source), recursive=True))
        for path in sorted(matches, key=_as_counted):
            if is_zarr(path) or _is_image(path):
                yield from _in_file(path, root)
    elif is_one_image(source):
        yield from _in_file(source, source.parent)
    else:
        for path in _in_folder(source, excluded):
            yield from _in_file(path, source)


def _in_folder(folder: Path, excluded: Path | None) -> Iterator[Path]:
    for path in sorted(folder.iterdir(), key=_as_counted):
        if path.name.startswith(".") or (excluded is not None and _is_same(path, excluded)):
            continue
        if path.is_dir() and not is_zarr(path):
            yield from _in_folder(path, excluded)
        elif path.is_dir() or _is_image(path):
            yield path


def _in_file(path: Path, root: Path) -> Iterator[ImageAddress]:
    name = match_name(path, root)
    if is_zarr(path):
        try:
            images = images_in_zarr(path)
        except ValueError as error:
            raise ImageFileError(f"{path} cannot be read as OME-Zarr ({error}).") from error
        for image in images:
            inner = "" if image == path else f"/{image.relative_to(path).as_posix()}"
            yield ImageAddress(name.removesuffix(SUFFIX) + inner, image)
        return
    count = _positions(path)
    for position in range(count):
        # As people count, padded so that files sort as positions do.
        suffix = f"-p{position + 1:0{len(str(count))}}" if count > 1 else ""
        yield ImageAddress(name + suffix, path, position)


def _positions(path: Path) -> int:
    """Count a file's images; what cannot be read is one, and says so when it is opened."""
    try:
        return positions_in(path)
    except ImageFileError:
        return 1


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _is_same(path: Path, other: Path) -> bool:
    return os.path.normcase(path.absolute()) == os.path.normcase(other.absolute())


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _fixed_part(pattern: Path) -> Path:
    """Return the folder before a pattern's first wildcard."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


def _as_counted(path: Path) -> tuple[tuple[int, int | str], ...]:
    """Sort "cell10" behind "cell9"."""
    parts = re.split(r"(\d+)", path.as_posix().lower())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)
