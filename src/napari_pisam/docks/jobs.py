"""What long jobs get from whoever runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

Report: TypeAlias = "Callable[[int, int | None], None]"
"""Called by a job with (done, in all or None)."""

Cancelled: TypeAlias = "Callable[[], bool]"
"""Asked by a job; true means that it should end soon."""
