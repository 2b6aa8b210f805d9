"""The numbers that a Labels layer holds, followed by what happens to the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_pisam.session.numbers import LabelNumbers, numbers_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.session.session import Execute


class LayerNumbers:
    """Looks a Labels layer through once, and then listens to what is painted on it.

    Parameters
    ----------
    layer : napari Labels layer
        Of any number of axes; never changed.
    execute : Execute
        For large layers: looks them through in the background.

    Attributes
    ----------
    numbers : LabelNumbers
        What is known.
    found : Signal()
        The layer has been looked through.
    failed : Signal(object)
        The error with which looking through it ended.
    """

    found = Signal()
    failed = Signal(object)

    def __init__(self, layer: Any, execute: Execute) -> None:
        self.numbers = LabelNumbers(lambda: layer.data)
        self.layer, self._execute = layer, execute
        self._waiting: list[Callable[[], None]] = []
        self._is_quiet = self._is_closed = False
        self._look_through()
        layer.events.data.connect(self._on_data)
        layer.events.selected_label.connect(self._on_selected)
        # Since napari 0.4.17.
        layer.events.paint.connect(self._on_paint)

    def close(self) -> None:
        """Stop listening, and waiting for what is looked through."""
        self._is_closed = True
        events = self.layer.events
        events.data.disconnect(self._on_data)
        events.selected_label.disconnect(self._on_selected)
        events.paint.disconnect(self._on_paint)
        self._waiting.clear()

    def when_known(self, call: Callable[[], None]) -> bool:
        """Call now, or as soon as the layer has been looked through; whether it was now."""
        if self.numbers.is_awaited:
            self._waiting.append(call)
            return False
        call()
        return True

    def _look_through(self) -> None:
        numbers, data = self.numbers, self.layer.data
        if numbers.is_small:
            numbers.look()
            return
        numbers.is_awaited = True

        def done(found: set[int]) -> None:
            if self._is_closed or data is not self.layer.data:
                return
            numbers.take(found)
            waiting, self._waiting = self._waiting, []
            self.found.emit()
            for call in waiting:
                call()

        def failed(error: BaseException) -> None:
            if not self._is_closed and data is self.layer.data:
                self._waiting.clear()
                self.failed.emit(error)

        # The array and not the layer: a thread must not touch layers.
        self._execute(lambda: numbers_in(data), done, failed)

    def _on_data(self, _event: Any) -> None:
        self._look_through()

    def _on_selected(self, _event: Any) -> None:
        self.numbers.choose(int(self.layer.selected_label))

    def _on_paint(self, event: Any) -> None:
        values: set[int] = set()
        for atom in event.value:
            # Tuples of (indices, old, new) before napari 0.9, and for what scripts write.
            new = atom.new_value if hasattr(atom, "new_value") else atom[2]
            values.update(int(value) for value in np.unique(new))
        self.numbers.paint(values)
