"""A session as plain JSON values and a few arrays, and back; see `storage` for the file.

Prompts, masks and patches are listed once and named by their place in the list. Their bulk is in
the arrays, one after the other in the order of the lists.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_pisam.predict.mask import Mask
from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.merge import CommitRule, Patch
from napari_pisam.session.records import (
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_pisam.session.json_reader import Node

Arrays = dict[str, "NDArray[Any]"]

# The arrays of a file: name -> (dtype, columns or None for one axis, most bytes).
ARRAYS: Mapping[str, tuple[str, int | None, int]] = {
    "clicks": ("<f8", 2, 64 << 20),
    "click_labels": ("|b1", None, 4 << 20),
    "mask_bits": ("|u1", None, 128 << 20),
    "patch_bytes": ("|u1", None, 128 << 20),
}
_LARGEST_ID = 2**32 - 1
_LARGEST_SIDE = 2**31

_T = TypeVar("_T")


class _Writer:
    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {"models": [], "prompts": [], "masks": [], "patches": []}
        self._places: dict[tuple[str, object], int] = {}
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ARRAYS}
        # An object that is gone could hand its id() to another one.
        self._alive: list[object] = []

    def arrays(self) -> Arrays:
        result = {}
        for name, (dtype, columns, _) in ARRAYS.items():
            empty = np.zeros((0,) if columns is None else (0, columns), dtype=dtype)
            result[name] = np.concatenate([empty, *self._parts[name]]).astype(dtype, copy=False)
        return result

    def _place(self, name: str, key: object, describe: Callable[[], Any]) -> int:
        if (name, key) not in self._places:
            described = describe()
            self._places[name, key] = len(self.lists[name])
            self.lists[name].append(described)
        return self._places[name, key]

    def model(self, model: ModelRef | None) -> int | None:
        if model is None:
            return None
        described = {"name": model.name, "sha256": model.sha256, "device": model.device}
        return self._place("models", model, lambda: described)

    def prompts(self, prompts: Prompts | None) -> int | None:
        if prompts is None:
            return None

        def describe() -> dict[str, Any]:
            self._parts["clicks"].append(prompts.points)
            self._parts["click_labels"].append(prompts.labels)
            mask = None if prompts.mask is None else self.mask_prompt(prompts.mask)
            return {"box": _list(prompts.box), "clicks": len(prompts.points), "mask": mask}

        return self._place("prompts", prompts, describe)

    def mask_prompt(self, mask: MaskPrompt) -> int:
        return self._mask(mask, mask.crop, {"bbox": list(mask.bbox), "score": 1.0, "window": None})

    def mask(self, mask: Mask | None) -> int | None:
        if mask is None:
            return None
        score = float(mask.score) if math.isfinite(mask.score) else None
        described = {"bbox": list(mask.bbox), "score": score, "window": list(mask.window)}
        return self._mask(mask, mask.crop, described)

    def _mask(self, mask: object, crop: NDArray[np.bool_], described: dict[str, Any]) -> int:
        def describe() -> dict[str, Any]:
            self._alive.append(mask)
            self._parts["mask_bits"].append(np.packbits(crop))
            return described

        return self._place("masks", id(mask), describe)

    def patch(self, patch: Patch | None) -> int | None:
        if patch is None:
            return None

        def describe() -> dict[str, Any]:
            self._alive.append(patch)
            described: dict[str, Any] = {"bbox": list(patch.bbox), "changed": len(patch.changed)}
            self._bytes(patch.changed)
            for name, stored in (("old", patch.old), ("new", patch.new)):
                is_value = isinstance(stored, int)
                described[name] = stored if is_value else None
                described[f"{name}_bytes"] = 0 if isinstance(stored, int) else len(stored)
                self._bytes(b"" if isinstance(stored, int) else stored)
            return described

        return self._place("patches", id(patch), describe)

    def _bytes(self, data: bytes) -> None:
        self._parts["patch_bytes"].append(np.frombuffer(data, np.uint8))

    def record(self, record: Record) -> dict[str, Any]:
        return {
            "id": record.view.id,
            "prompts": self.prompts(record.view.prompts),
            "mask": self.mask(record.view.mask),
            "mask_prompts": self.prompts(record.mask_prompts),
            "model": self.model(record.model),
            "committed": record.view.committed,
            "patch": self.patch(record.footprint),
            "order": record.order,
        }

    def entry(self, entry: JournalEntry) -> dict[str, Any]:
        if isinstance(entry, Committed):
            return {
                "op": "commit",
                "id": entry.id,
                "prompts": self.prompts(entry.prompts),
                "rule": entry.rule.value,
                "model": self.model(entry.model),
            }
        if isinstance(entry, BatchCommitted):
            return {
                "op": "boxes",
                "ids": list(entry.ids),
                "boxes": [list(box) for box in entry.boxes],
                "written": list(entry.written),
                "rule": entry.rule.value,
                "model": self.model(entry.model),
            }
        if isinstance(entry, Released):
            return {"op": "release", "id": entry.id, "discarded": entry.discarded}
        return {"op": "start", "id": entry.id, "mask": self.mask_prompt(entry.mask)}


def encode(state: SessionState) -> tuple[dict[str, Any], Arrays]:
    """Turn a session into JSON values and arrays named as in `ARRAYS`."""
    writer = _Writer()
    objects = [writer.record(record) for record in state.records]
    journal = [writer.entry(entry) for entry in state.journal]
    fields = {
        "shape": list(state.shape),
        "signature": state.signature,
        "rule": state.rule.value,
        "next_id": state.next_id,
        "current": state.current,
        **writer.lists,
        "objects": objects,
        "journal": journal,
    }
    return fields, writer.arrays()


def _list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)


class _Supply:
    """Takes an array's elements one after the other."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self._next = 0

    def take(self, count: int, node: Node) -> NDArray[Any]:
        part = self._array[self._next : self._next + count]
        if len(part) != count:
            raise ValueError(f"{node.where} needs more data than the file has.")
        self._next += count
        return part


class _Reader:
    def __init__(self, root: Node, arrays: Arrays) -> None:
        self._supplies = {name: _Supply(arrays[name]) for name in ARRAYS}
        height, width = (n.integer(1, _LARGEST_SIDE) for n in root.at("shape").items(2))
        self.shape = (height, width)
        self.models = [self._model(node) for node in root.at("models").items()]
        self.masks = [self._mask(node) for node in root.at("masks").items()]
        self.prompts = [self._prompts(node) for node in root.at("prompts").items()]
        self.patches = [self._patch(node) for node in root.at("patches").items()]

    def _model(self, node: Node) -> ModelRef:
        return ModelRef(
            node.at("name").text(), node.at("sha256").text(64), node.at("device").text()
        )

    def _mask(self, node: Node) -> Mask:
        bbox = node.at("bbox").bbox(self.shape)
        height, width = bbox[2] - bbox[0], bbox[3] - bbox[1]
        bits = self._supplies["mask_bits"].take(-(-height * width // 8), node)
        crop = np.unpackbits(bits, count=height * width).reshape(height, width).view(np.bool_)
        crop.flags.writeable = False
        score = node.at("score").optional(lambda n: n.number())
        window = node.at("window").optional(lambda n: n.bbox(self.shape))
        return Mask(self.shape, bbox, crop, math.nan if score is None else score, window or bbox)

    def _mask_prompt(self, node: Node) -> MaskPrompt:
        mask = _pick(node, self.masks)
        try:
            prompt = MaskPrompt.from_any(mask)
        except ValueError as error:
            raise ValueError(f"{node.where}: {error}") from error
        return prompt

    def _prompts(self, node: Node) -> Prompts:
        count = node.at("clicks").integer()
        points = self._supplies["clicks"].take(count, node)
        labels = self._supplies["click_labels"].take(count, node)
        box = node.at("box").optional(lambda n: n.box())
        mask = node.at("mask").optional(self._mask_prompt)
        try:
            return Prompts(box, points, labels, mask)
        except ValueError as error:
            raise ValueError(f"{node.where}: {error}") from error

    def _patch(self, node: Node) -> Patch:
        bbox = node.at("bbox").bbox(self.shape)
        supply = self._supplies["patch_bytes"]
        changed = supply.take(node.at("changed").integer(), node).tobytes()
        values: list[int | bytes] = []
        for name in ("old", "new"):
            packed = supply.take(node.at(f"{name}_bytes").integer(), node).tobytes()
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
        return Record(
            SessionObject(number, prompts, mask, committed, stale=False),
            mask_prompts=mask_prompts,
            model=self.model(node.at("model")),
            footprint=patch,
            order=node.at("order").integer(),
        )

    def entry(self, node: Node) -> JournalEntry:
        kind = node.at("op").text()
        if kind == "boxes":
            ids = node.at("ids").integers(1, _LARGEST_ID)
            boxes = tuple(item.box() for item in node.at("boxes").items(len(ids)))
            written = node.at("written").integers(1, _LARGEST_ID)
            rule = _rule(node.at("rule"))
            return BatchCommitted(ids, boxes, written, rule, self.model(node.at("model")))
        number = node.at("id").integer(1, _LARGEST_ID)
        if kind == "commit":
            prompts = _pick(node.at("prompts"), self.prompts)
            return Committed(number, prompts, _rule(node.at("rule")), self.model(node.at("model")))
        if kind == "release":
            return Released(number, node.at("discarded").boolean())
        if kind == "start":
            return Started(number, self._mask_prompt(node.at("mask")))
        raise node.at("op").wrong("commit, boxes, release or start")


def decode(root: Node, arrays: Arrays) -> SessionState:
    """Build a session from JSON values and arrays.

    Raises
    ------
    ValueError
        If a value is missing or wrong; says which.
    """
    reader = _Reader(root, arrays)
    records = [reader.record(node) for node in root.at("objects").items()]
    numbers = [record.view.id for record in records]
    if len(set(numbers)) != len(numbers):
        raise ValueError("objects has two of the same id.")
    return SessionState(
        reader.shape,
        root.at("signature").text(),
        _rule(root.at("rule")),
        root.at("next_id").integer(1, _LARGEST_ID + 1),
        root.at("current").optional(lambda n: n.integer(1, _LARGEST_ID)),
        tuple(sorted(records, key=lambda record: record.view.id)),
        tuple(reader.entry(node) for node in root.at("journal").items()),
    )


def _pick(node: Node, items: list[_T]) -> _T:
    if not items:
        raise node.wrong("null: the list it points into is empty")
    return items[node.integer(0, len(items) - 1)]


def _rule(node: Node) -> CommitRule:
    try:
        return CommitRule(node.text())
    except ValueError:
        raise node.wrong(f"one of {', '.join(CommitRule)}") from None
