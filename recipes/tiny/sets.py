"""Named image sets: `sets/NAME/images/*` and `sets/NAME/masks/*`, paired by stem, decoded once."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_pisam.images.folders import files_by_name, match_images
from napari_pisam.images.image_files import open_plane
from napari_pisam.images.mask_files import infer_kind, open_mask
from recipes.tiny.facts import FactsTable, SetFacts, read_facts, split_images
from recipes.tiny.store import SetImage, index_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.images.mask_files import MaskKind

logger = logging.getLogger(__name__)


def _read(path: Path) -> NDArray[Any]:
    """Read the one plane of an image file, all of it: (H, W) or (H, W, C)."""
    with open_plane(path) as image:
        pixels = image.read((slice(0, image.shape[0]), slice(0, image.shape[1])))
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _to_uint8(pixels: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"{path} has shape {pixels.shape}; expected (H, W) or (H, W, 3)")
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    low, high = np.percentile(pixels, (0.1, 99.9))
    stretched = (pixels.astype(np.float32) - low) * (255.0 / max(float(high - low), 1e-6))
    return np.asarray(np.clip(stretched, 0, 255).astype(np.uint8))


def _decode(
    source: str, image: Path, mask: Path, facts: SetFacts, kind: MaskKind | None = None
) -> SetImage:
    pixels = _to_uint8(_read(image), image)
    with open_mask(mask) as opened:
        values = opened.read()
    kind = kind or facts.kind or infer_kind([(values, opened.is_lossy)])
    item = index_objects(source, image.stem, kind, pixels, values)
    return replace(item, thin_classes=facts.thin_classes, coarse_classes=facts.coarse_classes)


def load_image(root: Path, source: str, name: str) -> SetImage:
    """Decode one image of a set, as `load_images` does.

    Parameters
    ----------
    root : Path
        Folder that holds `sets/NAME/images` and `sets/NAME/masks`.
    source, name : str
        Set and stem.

    Raises
    ------
    ValueError
        If it is not there, or cannot be read.
    """
    folder = root / "sets" / source
    found = []
    for part in ("images", "masks"):
        paths = files_by_name(folder / part).get(name, [])
        if len(paths) != 1:
            raise ValueError(f"{folder / part} holds {len(paths)} files {name}.*; expected one.")
        found += paths
    try:
        return _decode(source, found[0], found[1], read_facts(root)[source])
    except (OSError, ValueError, MemoryError) as error:
        raise ValueError(f"{found[0]} or its mask cannot be read ({error}).") from error


def load_images(
    root: Path,
    *,
    part: Literal["training", "validation", "all"] = "training",
    names: Sequence[str] | None = None,
    held_out: Sequence[str] = (),
    kinds: Mapping[str, MaskKind] | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    threads: int = 2,
) -> list[SetImage]:
    """Decode one part of the image sets below a root.

    Parameters
    ----------
    root : Path
        Folder that holds `sets/NAME/images` and `sets/NAME/masks`.
    part : {"training", "validation", "all"}
        Which images. Validation-only and held-out sets are validation as a whole.
    names : sequence of str, optional
        Sets to read; all by default.
    held_out : sequence of str
        Further sets to keep out of training.
    kinds : mapping, optional
        Kind of the masks by set. Else `root/sets.toml` counts, else the masks' values.
    validation_fraction, seed
        See `split_images`.
    threads : int
        Decoding threads.

    Returns
    -------
    list of SetImage
        Images with at least one object. Unreadable files are left out with a warning that names
        and counts them.

    Raises
    ------
    ValueError
        If a set in `names` or `held_out` does not exist.
    napari_pisam.images.folders.NameMismatchError
        If images and masks of a set do not match.
    """
    folder = root / "sets"
    available = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    unknown = [name for name in (*(names or ()), *held_out) if name not in available]
    if unknown or not available:
        raise ValueError(f"{folder} has no sets {unknown}; it holds {available}")
    facts = read_facts(root)
    given = dict(kinds or {})
    closed = facts.validation_only | set(held_out)

    jobs: list[tuple[str, Path, Path]] = []
    pairs = {
        name: [
            (image, mask)
            for _, image, mask in match_images(folder / name / "images", folder / name / "masks")
        ]
        for name in available
    }
    for name in names or available:
        training = _training_stems(name, pairs, facts, closed, validation_fraction, seed)
        for image, mask in pairs[name]:
            if part == "all" or (image.stem in training) == (part == "training"):
                jobs.append((name, image, mask))

    def decode(job: tuple[str, Path, Path]) -> SetImage | str:
        try:
            return _decode(*job, facts[job[0]], given.get(job[0]))
        except (OSError, ValueError, MemoryError) as error:
            return f"{job[1]}: {error}"

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(decode, jobs))
    broken = [result for result in results if isinstance(result, str)]
    if broken:
        logger.warning("%d unreadable files are skipped:\n%s", len(broken), "\n".join(broken))
    return [item for item in results if isinstance(item, SetImage) and len(item.ids)]


def _training_stems(
    name: str,
    pairs: Mapping[str, list[tuple[Path, Path]]],
    facts: FactsTable,
    closed: frozenset[str] | set[str],
    validation_fraction: float,
    seed: int,
) -> set[str]:
    """Return the stems of a set that are trained on; relatives are split as one."""
    family = facts.family(name)
    relatives = [other for other in pairs if facts.family(other) == family]
    if closed & set(relatives):
        return set()
    stems = [pair[0].stem for other in relatives for pair in pairs[other]]
    if any(facts[other].one_specimen for other in relatives):
        return set(stems)
    return set(split_images(stems, validation_fraction, seed, facts.group(family))[0])
