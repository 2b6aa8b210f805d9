"""A session as plain JSON values and a few arrays, and back; see `storage` for the file.

Prompts, masks and patches are listed once and named by their place in the list. Their bulk is in
the arrays, one after the other in the order of the lists.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.predict.areas import Answer, Area
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.classes import clean_name
from napari_pisam.session.merge import CommitRule, Patch, inflated
from napari_pisam.session.records import (
    NO_CLEANING,
    BatchCommitted,
    Committed,
    JournalEntry,
    ModelRef,
    Record,
    Released,
    SessionObject,
    SessionState,
    Started,
)
from napari_pisam.session.tiles import TYPES, LabelTile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_pisam.images.json_reader import Node

Arrays = dict[str, "NDArray[Any]"]

_CLICKS: Mapping[str, tuple[str, int | None]] = {
    "clicks": ("<f8", 2),
    "click_labels": ("|b1", None),
}
_PACKED: Mapping[str, tuple[str, int | None]] = {
    "mask_bytes": ("|u1", None),
    "patch_bytes": ("|u1", None),
    "tile_bytes": ("|u1", None),
}
_DRAWN: Mapping[str, tuple[str, int | None]] = {
    "click_joined": ("|b1", None),
    "corners": ("<f8", 2),
}
ARRAYS: Mapping[int, Mapping[str, tuple[str, int | None]]] = {
    1: {**_CLICKS, "mask_bits": ("|u1", None), "patch_bytes": ("|u1", None)},
    2: {**_CLICKS, **_PACKED},
    3: {**_CLICKS, **_PACKED, **_DRAWN},
    4: {**_CLICKS, **_PACKED, **_DRAWN},
}
"""The arrays of a file, by version: name -> (dtype, columns or None for one axis). Version 1 has
the masks' bits as they are, version 2 each mask compressed, and the labels as tiles, version 3
scribbles (which clicks are joined to the one before) and the corners of areas. In version 4 prompts
and masks say which of two answers they ask for, or are."""
VERSION = max(ARRAYS)

_EFFORT = 1
_LARGEST_ID = 2**32 - 1
_LARGEST_SIDE = 2**31

_T = TypeVar("_T")


class PackedMasks:
    """Masks as compressed bits, each packed once as long as it lives; for one thread."""

    def __init__(self) -> None:
        self._packed: WeakKeyDictionary[Mask | MaskPrompt, bytes] = WeakKeyDictionary()

    def __getitem__(self, mask: Mask | MaskPrompt) -> bytes:
        """Return the bits of its crop, row by row."""
        packed = self._packed.get(mask)
        if packed is None:
            packed = zlib.compress(np.packbits(mask.crop).tobytes(), _EFFORT)
            self._packed[mask] = packed
        return packed


class Parts:
    """The arrays of a file as they grow."""

    def __init__(self, packed: PackedMasks | None = None) -> None:
        self.packed = PackedMasks() if packed is None else packed
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ARRAYS[VERSION]}

    def add(self, name: str, values: NDArray[Any] | bytes) -> int:
        """Add to the end of an array; how many bytes or rows that is."""
        part = np.frombuffer(values, np.uint8) if isinstance(values, bytes) else values
        self._parts[name].append(part)
        return len(part)

    def arrays(self) -> Arrays:
        """Return the arrays, by name."""
        result = {}
        for name, (dtype, columns) in ARRAYS[VERSION].items():
            empty = np.zeros((0,) if columns is None else (0, columns), dtype=dtype)
            result[name] = np.concatenate([empty, *self._parts[name]]).astype(dtype, copy=False)
        return result


class _Writer:
    def __init__(self, parts: Parts) -> None:
        self.lists: dict[str, list[Any]] = {"models": [], "prompts": [], "masks": [], "patches": []}
        self._places: dict[tuple[str, object], int] = {}
        self._parts = parts
        # An object that is gone could hand its id() to another one.
        self._alive: list[object] = []

    def _place(self, name: str, key: object, describe: Callable[[], Any]) -> int:
        if (name, key) not in self._places:
            described = describe()
            self._places[name, key] = len(self.lists[name])
            self.lists[name].append(described)
        return self._places[name, key]

    def model(self, model: ModelRef | None) -> int | None:
        if model is None:
            return None
        described: dict[str, Any] = {
            "name": model.name,
            "sha256": model.sha256,
            "device": model.device,
        }
        if model.contrast_limits is not None:
            described["contrast_limits"] = [list(pair) for pair in model.contrast_limits]
        return self._place("models", model, lambda: described)

    def prompts(self, prompts: Prompts | None) -> int | None:
        if prompts is None:
            return None

        def describe() -> dict[str, Any]:
            self._parts.add("clicks", prompts.points)
            self._parts.add("click_labels", prompts.labels)
            self._parts.add("click_joined", prompts.joined)
            mask = None if prompts.mask is None else self.mask_prompt(prompts.mask)
            described: dict[str, Any] = {
                "box": _list(prompts.box),
                "clicks": len(prompts.points),
                "mask": mask,
                "answer": prompts.answer,
            }
            if prompts.areas:
                described["areas"] = [self.area(area) for area in prompts.areas]
            return described

        return self._place("prompts", prompts, describe)

    def area(self, area: Area) -> dict[str, Any]:
        count = self._parts.add("corners", np.array(area.vertices))
        return {"corners": count, "foreground": area.is_foreground}

    def mask_prompt(self, mask: MaskPrompt) -> int:
        return self._mask(
            mask, {"bbox": list(mask.bbox), "score": 1.0, "window": None, "answer": None}
        )

    def mask(self, mask: Mask | None) -> int | None:
        if mask is None:
            return None
        score = float(mask.score) if math.isfinite(mask.score) else None
        described = {"bbox": list(mask.bbox), "score": score, "window": list(mask.window)}
        return self._mask(mask, described | {"answer": mask.answer})

    def _mask(self, mask: Mask | MaskPrompt, described: dict[str, Any]) -> int:
        def describe() -> dict[str, Any]:
            self._alive.append(mask)
            size = self._parts.add("mask_bytes", self._parts.packed[mask])
            return described | {"bytes": size}

        return self._place("masks", id(mask), describe)

    def patch(self, patch: Patch | None) -> int | None:
        if patch is None:
            return None

        def describe() -> dict[str, Any]:
            self._alive.append(patch)
            described: dict[str, Any] = {"bbox": list(patch.bbox), "changed": len(patch.changed)}
            self._parts.add("patch_bytes", patch.changed)
            for name, stored in (("old", patch.old), ("new", patch.new)):
                is_value = isinstance(stored, int)
                described[name] = stored if is_value else None
                described[f"{name}_bytes"] = 0 if isinstance(stored, int) else len(stored)
                self._parts.add("patch_bytes", b"" if isinstance(stored, int) else stored)
            return described

        return self._place("patches", id(patch), describe)

    def tile(self, tile: LabelTile) -> dict[str, Any]:
        dtype, data = tile.packed()
        size = self._parts.add("tile_bytes", data)
        return {"bbox": list(tile.bbox), "dtype": dtype, "bytes": size}

    def record(self, record: Record) -> dict[str, Any]:
        # Left out where there is none, as it was in the files of before.
        carried = {"source": list(record.view.source)} if record.view.source else {}
        named = {"class": record.view.class_name} if record.view.class_name else {}
        return (
            carried
            | named
            | {
                "id": record.view.id,
                "prompts": self.prompts(record.view.prompts),
                "mask": self.mask(record.view.mask),
                "mask_prompts": self.prompts(record.mask_prompts),
                "model": self.model(record.model),
                "committed": record.view.committed,
                "patch": self.patch(record.footprint),
                "order": record.order,
                **_cleaned(record.cleaning),
            }
        )

    def entry(self, entry: JournalEntry) -> dict[str, Any]:
        if isinstance(entry, Committed):
            return {
                "op": "commit",
                "id": entry.id,
                "prompts": self.prompts(entry.prompts),
                "rule": entry.rule.value,
                "model": self.model(entry.model),
                **_cleaned(entry.cleaning),
            }
        if isinstance(entry, BatchCommitted):
            return {
                "op": "boxes",
                "ids": list(entry.ids),
                "boxes": [_list(one.box) for one in entry.boxes],
                "answers": [one.answer for one in entry.boxes],
                "written": list(entry.written),
                "rule": entry.rule.value,
                "model": self.model(entry.model),
                **_cleaned(entry.cleaning),
            }
        if isinstance(entry, Released):
            return {"op": "release", "id": entry.id, "discarded": entry.discarded}
        return {"op": "start", "id": entry.id, "mask": self.mask_prompt(entry.mask)}


def encode(state: SessionState, parts: Parts) -> dict[str, Any]:
    """Turn a session into JSON values; its bulk is added to `parts`."""
    writer = _Writer(parts)
    objects = [writer.record(record) for record in state.records]
    journal = [writer.entry(entry) for entry in state.journal]
    return {
        "shape": list(state.shape),
        "signature": state.signature,
        "rule": state.rule.value,
        "next_id": state.next_id,
        "current": state.current,
        **writer.lists,
        "objects": objects,
        "journal": journal,
        "tiles": None if state.tiles is None else [writer.tile(tile) for tile in state.tiles],
    }


def _cleaned(cleaning: Cleaning | None) -> dict[str, Any]:
    return {"cleaning": asdict(cleaning)} if cleaning else {}


def _list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)


class Supplies:
    """The arrays of a file, taken piece by piece.

    Parameters
    ----------
    arrays : Arrays
        By name.
    version : int
        Of the file.
    most_pixels : int
        What all masks and tiles may have together: they are unpacked.
    """

    def __init__(self, arrays: Arrays, version: int, most_pixels: int) -> None:
        self.version = version
        self._arrays = arrays
        self._next = dict.fromkeys(arrays, 0)
        self._pixels_left = most_pixels

    def take(self, name: str, count: int, node: Node) -> NDArray[Any]:
        """Return the next `count` rows of an array."""
        start = self._next[name]
        part = self._arrays[name][start : start + count]
        if len(part) != count:
            raise ValueError(f"{node.where} needs more data than the file has.")
        self._next[name] += count
        return part

    def allow(self, pixels: int, node: Node) -> None:
        """Find out whether so many more pixels may be unpacked."""
        self._pixels_left -= pixels
        if self._pixels_left < 0:
            raise ValueError(f"{node.where}: the masks need more memory than this computer has.")


class _Reader:
    def __init__(self, root: Node, supplies: Supplies) -> None:
        self._supplies = supplies
        height, width = (n.integer(1, _LARGEST_SIDE) for n in root.at("shape").items(2))
        self.shape = (height, width)
        self.models = [self._model(node) for node in root.at("models").items()]
        self.masks = [self._mask(node) for node in root.at("masks").items()]
        self.prompts = [self._prompts(node) for node in root.at("prompts").items()]
        self.patches = [self._patch(node) for node in root.at("patches").items()]

    def _model(self, node: Node) -> ModelRef:
        limits = node.get("contrast_limits")
        return ModelRef(
            node.at("name").text(),
            node.at("sha256").text(64),
            node.at("device").text(),
            None if limits is None else limits.optional(lambda n: n.pairs()),
        )

    def _mask(self, node: Node) -> Mask:
        bbox = node.at("bbox").bbox(self.shape)
        height, width = bbox[2] - bbox[0], bbox[3] - bbox[1]
        bits = self._bits(node, height * width)
        crop = np.unpackbits(bits, count=height * width).reshape(height, width).view(np.bool_)
        crop.flags.writeable = False
        score = node.at("score").optional(lambda n: n.number())
        window = node.at("window").optional(lambda n: n.bbox(self.shape))
        value = math.nan if score is None else score
        return Mask(self.shape, bbox, crop, value, window or bbox, self._answer(node))

    def _bits(self, node: Node, pixels: int) -> NDArray[np.uint8]:
        self._supplies.allow(pixels, node)
        size = -(-pixels // 8)
        if self._supplies.version == 1:
            return self._supplies.take("mask_bits", size, node)
        packed = self._supplies.take("mask_bytes", node.at("bytes").integer(), node)
        try:
            return np.frombuffer(inflated(packed.tobytes(), size), np.uint8)
        except ValueError as error:
            raise ValueError(f"{node.where}: {error}") from error

    def tile(self, node: Node) -> LabelTile:
        bbox = node.at("bbox").bbox(self.shape)
        self._supplies.allow((bbox[2] - bbox[0]) * (bbox[3] - bbox[1]), node)
        dtype = node.at("dtype").text()
        if dtype not in TYPES:
            raise node.at("dtype").wrong(f"one of {', '.join(TYPES)}")
        data = self._supplies.take("tile_bytes", node.at("bytes").integer(), node)
        tile = LabelTile(bbox, dtype=dtype, packed=data.tobytes())
        try:
            smallest = tile.values().min(initial=0)
        except ValueError as error:
            raise ValueError(f"{node.where}: {error}") from error
        if smallest < 0 or tile.values().max(initial=0) > _LARGEST_ID:
            raise ValueError(f"{node.where} has labels outside 0 to {_LARGEST_ID}.")
        return tile

    def _mask_prompt(self, node: Node) -> MaskPrompt:
        mask = _pick(node, self.masks)
        try:
            prompt = MaskPrompt.from_any(mask)
        except ValueError as error:
            raise ValueError(f"{node.where}: {error}") from error
        return prompt

    def _prompts(self, node: Node) -> Prompts:
        count = node.at("clicks").integer()
        points = self._supplies.take("clicks", count, node)
        labels = self._supplies.take("click_labels", count, node)
        box = node.at("box").optional(lambda n: n.box())
        mask = node.at("mask").optional(self._mask_prompt)
        joined = None
        if self._supplies.version > 2:
            joined = self._supplies.take("click_joined", count, node)
        listed = node.get("areas")
        areas = [] if listed is None else [self._area(one) for one in listed.items()]
        answer = self._answer(node)
        try:
            return Prompts(box, points, labels, mask, joined, areas, answer)
        except ValueError as error:
            raise ValueError(f"{node.where}: {error}") from error

    def _answer(self, node: Node) -> Answer | None:
        """Read which of two answers prompts ask for, or a mask is."""
        return None if self._supplies.version < 4 else node.at("answer").optional(_as_answer)

    def _boxes(self, node: Node, count: int) -> tuple[Prompts, ...]:
        """Read boxes that were asked for in one call."""
        boxes = [item.box() for item in node.at("boxes").items(count)]
        answers: list[Answer | None] = [None] * count
        if self._supplies.version > 3:
            answers = [one.optional(_as_answer) for one in node.at("answers").items(count)]
        try:
            pairs = zip(boxes, answers, strict=True)
            return tuple(Prompts(box, answer=answer) for box, answer in pairs)
        except ValueError as error:
            raise ValueError(f"{node.where}: {error}") from error

    def _area(self, node: Node) -> Area:
        if self._supplies.version < 3:
            raise node.wrong("none in a file of this version")
        corners = self._supplies.take("corners", node.at("corners").integer(), node)
        is_foreground = node.at("foreground").boolean()
        try:
            return Area.of(corners, is_foreground).clipped(self.shape)
        except ValueError as error:
            raise ValueError(f"{node.where}: {error}") from error

    def _patch(self, node: Node) -> Patch:
        bbox = node.at("bbox").bbox(self.shape)
        take = partial(self._supplies.take, "patch_bytes")
        changed = take(node.at("changed").integer(), node).tobytes()
        values: list[int | bytes] = []
        for name in ("old", "new"):
            packed = take(node.at(f"{name}_bytes").integer(), node).tobytes()
            one = node.at(name).optional(lambda n: n.integer(0))
            values.append(packed if one is None else one)
        return Patch(bbox, changed, values[0], values[1])

    def model(self, node: Node) -> ModelRef | None:
        return node.optional(lambda n: _pick(n, self.models))

    def record(self, node: Node) -> Record:
        number = node.at("id").integer(1, _LARGEST_ID)
        prompts = node.at("prompts").optional(lambda n: _pick(n, self.prompts))
        mask = node.at("mask").optional(lambda n: _pick(n, self.masks))
        patch = node.at("patch").optional(lambda n: _pick(n, self.patches))
        committed = node.at("committed").boolean()
        mask_prompts = node.at("mask_prompts").optional(lambda n: _pick(n, self.prompts))
        if committed and (mask is None or mask_prompts is None):
            raise ValueError(f"{node.where} is committed and has no mask.")
        if patch is not None and (mask is None or patch.bbox != mask.bbox):
            raise ValueError(f"{node.where} has a patch of another window than its mask.")
        if patch is not None:
            # Only now: the mask's own pixels say that the window is as large as it says.
            try:
                patch.positions(), patch.old_values(), patch.new_values()
            except ValueError as error:
                raise ValueError(f"{node.where}.patch: {error}") from error
        source, of = node.get("source"), node.get("class")
        keys = () if source is None else source.integers(0, _LARGEST_ID)
        class_name = "" if of is None else clean_name(of.text())
        return Record(
            SessionObject(number, prompts, mask, committed, False, class_name, source=keys),
            mask_prompts=mask_prompts,
            model=self.model(node.at("model")),
            footprint=patch,
            order=node.at("order").integer(),
            cleaning=self._cleaning(node) or None,
        )

    def _cleaning(self, node: Node) -> Cleaning:
        given = node.get("cleaning")
        if given is None:
            return NO_CLEANING
        try:
            return Cleaning(
                given.at("fill_holes").boolean(),
                given.at("specks").integer(),
                given.at("largest").boolean(),
                given.at("smooth").number(),
                given.at("grow").number(),
            )
        except ValueError as error:
            raise ValueError(f"{given.where}: {error}") from error

    def entry(self, node: Node) -> JournalEntry:
        kind = node.at("op").text()
        if kind == "boxes":
            ids = node.at("ids").integers(1, _LARGEST_ID)
            boxes = self._boxes(node, len(ids))
            written = node.at("written").integers(1, _LARGEST_ID)
            rule = _rule(node.at("rule"))
            model = self.model(node.at("model"))
            return BatchCommitted(ids, boxes, written, rule, model, self._cleaning(node))
        number = node.at("id").integer(1, _LARGEST_ID)
        if kind == "commit":
            prompts = _pick(node.at("prompts"), self.prompts)
            rule, model = _rule(node.at("rule")), self.model(node.at("model"))
            return Committed(number, prompts, rule, model, self._cleaning(node))
        if kind == "release":
            return Released(number, node.at("discarded").boolean())
        if kind == "start":
            return Started(number, self._mask_prompt(node.at("mask")))
        raise node.at("op").wrong("commit, boxes, release or start")


def decode(root: Node, supplies: Supplies) -> SessionState:
    """Build a session from JSON values and what belongs to them.

    Raises
    ------
    ValueError
        If a value is missing or wrong; says which.
    """
    reader = _Reader(root, supplies)
    records = [reader.record(node) for node in root.at("objects").items()]
    numbers = [record.view.id for record in records]
    if len(set(numbers)) != len(numbers):
        raise ValueError("objects has two of the same id.")
    tiles = None
    if supplies.version > 1 and (listed := root.at("tiles")).value is not None:
        tiles = tuple(reader.tile(node) for node in listed.items())
    return SessionState(
        reader.shape,
        root.at("signature").text(),
        _rule(root.at("rule")),
        root.at("next_id").integer(1, _LARGEST_ID + 1),
        root.at("current").optional(lambda n: n.integer(1, _LARGEST_ID)),
        tuple(sorted(records, key=lambda record: record.view.id)),
        tuple(reader.entry(node) for node in root.at("journal").items()),
        tiles,
    )


def _pick(node: Node, items: list[_T]) -> _T:
    if not items:
        raise node.wrong("null: the list it points into is empty")
    return items[node.integer(0, len(items) - 1)]


def _as_answer(node: Node) -> Answer:
    try:
        return Answer(node.text())
    except ValueError:
        raise node.wrong(f"one of {', '.join(Answer)}, or null") from None


def _rule(node: Node) -> CommitRule:
    try:
        return CommitRule(node.text())
    except ValueError:
        raise node.wrong(f"one of {', '.join(CommitRule)}") from None
