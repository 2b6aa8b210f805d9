"""The curves for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self


class Board:
    """Context that writes points to ``FOLDER/tensorboard``; without either it does nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writer: Any = None

    def __enter__(self) -> Self:
        if self._folder is None:
            return self
        try:
            module = importlib.import_module("torch.utils.tensorboard")
        except ImportError:
            return self
        self._writer = module.SummaryWriter(str(self._folder / "tensorboard"))
        return self

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a point to each curve."""
        if self._writer is not None:
            for name, value in values.items():
                if name not in ("step", "seconds"):
                    self._writer.add_scalar(name.replace("_", "/"), value, step)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
