"""Boxes that are nobody's object yet: those of *Segment all boxes*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.layers import is_own

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from napari_pisam.layers.prompts import LayerBox
    from napari_pisam.predict.prompts import Box


class WaitingBoxes:
    """Takes a waiting box out of its layer when it has become an object, and puts it back."""

    def __init__(self) -> None:
        self._here: dict[Box, int] = {}
        self._taken: dict[Box, Any] = {}
        self._layer: Any = None

    @property
    def boxes(self) -> list[Box]:
        """Those in the layer, in its order."""
        return list(self._here)

    def reset(self) -> None:
        """Forget what was taken out: another plane is shown."""
        self._taken.clear()

    def read(self, found: Sequence[LayerBox], layer: Any) -> None:
        """Note the boxes of no object that are in the layer now, on the displayed plane."""
        self._layer = layer
        self._here = {one.box: one.row for one in found}

    def show(self, layer: Any, taken: Container[Box | None]) -> bool:
        """Make the layer hold just those that are no object's; foreign layers stay as they are.

        Returns
        -------
        bool
            Whether the layer was changed.
        """
        if layer is not self._layer or not is_own(layer):
            return False
        gone = {box: row for box, row in self._here.items() if box in taken}
        back = [box for box in self._taken if box not in taken]
        for box, row in gone.items():
            self._taken[box] = np.array(layer.data[row])
        if gone:
            layer.remove(list(gone.values()))
        if back:
            layer.feature_defaults = layer.feature_defaults.iloc[0].to_dict() | {"object": 0}
            vertices = [self._taken.pop(box) for box in back]
            layer.add(vertices, shape_type="rectangle")
        return bool(gone or back)

    def adopt(self, number: int) -> bool:
        """Give the last one to an object; whether there was one."""
        if not self._here:
            return False
        row = list(self._here.values())[-1]
        features = self._layer.features.copy()
        features.loc[row, "object"] = number
        self._layer.features = features
        return True
