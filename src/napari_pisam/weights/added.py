"""A lab's own checkpoints under names of their own: copied, described, checked on every load."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.images.files import replacing, write_text
from napari_pisam.images.json_reader import parse
from napari_pisam.model.variants import VARIANTS
from napari_pisam.system import user_folder
from napari_pisam.weights.catalogue import CATALOGUE
from napari_pisam.weights.download import ResumableDownload
from napari_pisam.weights.files import CheckpointError, mismatch, regular_file, split_hash

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER_VARIABLE = "NAPARI_PISAM_MODELS"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SUFFIXES = (".safetensors", ".pth", ".pt")
_MAX_LICENCE = 100
_MAX_RECORD_BYTES = 64 * 1024

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AddedModel:
    """What is recorded of a checkpoint that was given a name.

    Attributes
    ----------
    name
        What users type.
    variant
        The network that the weights are of.
    file_name
        In `added_folder`.
    hash
        ``"sha256:..."`` of the file as it was added.
    size
        Bytes.
    licence
        As the file or the user says it.
    source
        The file or the address that it came from.
    """

    name: str
    variant: str
    file_name: str
    hash: str
    size: int
    licence: str
    source: str

    @property
    def path(self) -> Path:
        """Where the weights are."""
        return added_folder() / self.file_name


def added_folder() -> Path:
    """Folder of added models: ``NAPARI_PISAM_MODELS``, else below the user's data folder."""
    return user_folder("models", FOLDER_VARIABLE)


def added_models() -> dict[str, AddedModel]:
    """All models that were added, by name; a record that cannot be used is logged and left out."""
    found: dict[str, AddedModel] = {}
    try:
        records = sorted(added_folder().glob("*.json"))
    except OSError as error:
        _logger.warning("%s cannot be looked into (%s).", added_folder(), error.strerror or error)
        return found
    for record in records:
        try:
            found[record.stem] = _read_record(record)
        except (OSError, ValueError) as error:
            _logger.warning("%s does not describe a model (%s).", record, error)
    return found


def _read_record(record: Path) -> AddedModel:
    if record.stat().st_size > _MAX_RECORD_BYTES:
        msg = "it is too large"
        raise ValueError(msg)
    node = parse(record.read_bytes(), "it")
    texts = {one.name: node.at(one.name).text() for one in fields(AddedModel) if one.name != "size"}
    model = AddedModel(**texts, size=node.at("size").integer())
    if len(node.value) != len(fields(AddedModel)):
        msg = f"it has fields other than {', '.join(texts)} and size"
        raise ValueError(msg)
    split_hash(model.hash)
    if model.name != record.stem or Path(model.file_name).stem != model.name:
        msg = "its names contradict each other"
        raise ValueError(msg)
    if Path(model.file_name).name != model.file_name or not _NAME.fullmatch(model.name):
        msg = f"{model.file_name[:80]!r} is not the name of a file in this folder"
        raise ValueError(msg)
    return model


def add_model(
    source: str,
    name: str | None = None,
    *,
    expected: str | None = None,
    licence: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> AddedModel:
    """Copy or download a checkpoint, and give it a name.

    Parameters
    ----------
    source
        A file, or an ``https`` address.
    name
        Of the new model; by default the file's, with everything unusual in it replaced.
    expected
        Hash that the file must have, e.g. ``"sha256:0123..."``. Without one, what arrives is taken
        for right.
    licence
        Of the weights, where the file does not say it itself.
    progress
        As for `napari_pisam.weights.cache.download`.

    Raises
    ------
    ValueError
        If the name cannot be used, or the file does not hold weights that can be.
    DownloadError
        If the file does not arrive.
    OSError
        If it cannot be copied.
    """
    is_address = "://" in source
    last = source.split("?")[0].rstrip("/").rsplit("/", 1)[-1] if is_address else Path(source).name
    name = _free_name(name or re.sub(r"[^A-Za-z0-9_-]+", "-", Path(last).stem).strip("-_"))
    if expected is not None:
        split_hash(expected)
    folder = added_folder()
    folder.mkdir(parents=True, exist_ok=True)
    suffix = Path(last).suffix.lower()
    target = folder / f"{name}{suffix if suffix in _SUFFIXES else '.weights'}"
    record = target.with_suffix(".json")
    try:
        if is_address:
            ResumableDownload(
                source,
                target,
                expected=expected,
                progress=progress,
            ).run()
        else:
            _copy(regular_file(source), target, expected)
        model = _described(target, name, source, licence)
        write_text(record, json.dumps(asdict(model), indent=1) + "\n")
    finally:
        if not record.is_file():
            target.unlink(missing_ok=True)
    return model


def _free_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        msg = (
            f"{name[:80]!r} cannot be a model's name: expected up to 64 letters, digits, '-' and "
            "'_'. Give another one with --name."
        )
        raise ValueError(msg)
    taken = {known.lower() for known in (*CATALOGUE, *VARIANTS, *added_models())}
    if name.lower() in taken:
        msg = f"There is a model {name!r} already. Give another name with --name, or remove it."
        raise ValueError(msg)
    return name


def _copy(source: Path, target: Path, expected: str | None) -> None:
    problem = mismatch(source, expected)
    if problem is not None:
        msg = f"{source} {problem}. It was not added; check which file it should be."
        raise CheckpointError(msg)
    with replacing(target) as part:
        shutil.copyfile(source, part)


def _described(path: Path, name: str, source: str, licence: str | None) -> AddedModel:
    """Read what was copied, as untrusted data, and say what it is."""
    from napari_pisam.weights.checkpoint import variant_of
    from napari_pisam.weights.checkpoint_format import read_checkpoint

    checkpoint = read_checkpoint(path)
    stated = None if checkpoint.header is None else checkpoint.header.licence
    is_address = "://" in source
    return AddedModel(
        name=name,
        variant=variant_of(checkpoint).name,
        file_name=path.name,
        hash=f"sha256:{checkpoint.sha256}",
        size=path.stat().st_size,
        # One line: what a file says of itself must not look like another row of a list.
        licence=" ".join((licence or stated or "not stated").split())[:_MAX_LICENCE],
        source=source if is_address else str(Path(source).absolute()),
    )
