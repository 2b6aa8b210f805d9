"""Which image belongs to which mask: the one pairing, for training and evaluation alike."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from napari_pisam.images.files import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# Names that say what a folder holds, not where it is from.
_PLAIN_NAMES = frozenset({"images", "image", "im", "imgs", "raw", "masks", "mask", "gt", "labels"})


class NameMismatchError(ValueError):
    """Images without a mask of the same name, masks without an image, or double names."""


def source_name(folder: Path) -> str:
    """Name a source by its folder, or by the one around it where that is called "masks"."""
    folder = folder.absolute()
    return folder.parent.name if folder.name.lower() in _PLAIN_NAMES else folder.name


def match_name(path: Path, folder: Path) -> str:
    """Name by which a file of a folder is matched with those of others.

    Returns
    -------
    str
        The path inside the folder without its suffix, with "/" between the parts; composed (NFC),
        since some systems decompose accents in the names that they write.
    """
    stem = path.relative_to(folder).with_suffix("")
    if stem.suffix.lower() == ".ome":
        stem = stem.with_suffix("")
    return unicodedata.normalize("NFC", stem.as_posix())


def files_by_name(folder: Path) -> dict[str, list[Path]]:
    """Find the image files of a folder and of the folders in it.

    Returns
    -------
    dict of str to list of Path
        By `match_name`; hidden files are left out. A good folder has one file of each name.

    Raises
    ------
    ValueError
        If the folder is missing or empty.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Check the path.")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        found.setdefault(match_name(path, folder), []).append(path)
    if not found:
        raise ValueError(f"{folder} holds no TIFF, PNG or JPEG. Check the path.")
    return found


def match_files(
    masks: Path,
    others: Mapping[str, Path],
    wanted: Callable[[str], bool] | None = None,
) -> list[tuple[str, Path, dict[str, Path]]]:
    """Match the files of folders by their names inside them, suffixes left out.

    Parameters
    ----------
    masks : Path
    others : mapping of str to Path
        Folders by what they hold: "image", "mask of otsu".
    wanted : callable, optional
        Whether a name is used; other names need no match then.

    Returns
    -------
    list of (str, Path, dict of str to Path)
        Name, mask, and the file of each other folder; sorted by name.

    Raises
    ------
    NameMismatchError
        Lists every name that one folder has and another has not, and all double names.
    ValueError
        If a folder is missing or empty.
    """
    problems: list[str] = []
    labels = _one_each(masks, problems)
    found = {what: _one_each(folder, problems) for what, folder in others.items()}
    names = [name for name in labels if wanted is None or wanted(name)]
    problems += [
        f"{name}: no {what}" for name in names for what, files in found.items() if name not in files
    ]
    if wanted is None:
        # What a single other folder holds needs no saying.
        suffix = {what: f" ({what} only)" if len(found) > 1 else "" for what in found}
        problems += [
            f"{name}: no mask{suffix[what]}"
            for what, files in found.items()
            for name in files
            if name not in labels
        ]
    if problems:
        where = " and ".join(str(folder) for folder in (masks, *others.values()))
        raise NameMismatchError(
            f"{len(problems)} name(s) do not match in {where}: {'; '.join(problems)}. Every mask "
            "needs one file of the same name in each folder, whatever its suffix."
        )
    return [
        (name, labels[name], {what: files[name] for what, files in found.items()})
        for name in sorted(names)
    ]


def match_images(images: Path, masks: Path) -> list[tuple[str, Path, Path]]:
    """Match images with masks: name, image and mask, sorted by name; see `match_files`."""
    return [
        (name, files["image"], mask) for name, mask, files in match_files(masks, {"image": images})
    ]


def _one_each(folder: Path, problems: list[str]) -> dict[str, Path]:
    files = files_by_name(folder)
    problems += [
        f"{name}: both {' and '.join(path.name for path in paths)} in {folder}"
        for name, paths in files.items()
        if len(paths) > 1
    ]
    return {name: paths[-1] for name, paths in files.items()}
