"""What the docks ask of whatever runs their long jobs; `widgets.background` does it with Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

Report: TypeAlias = "Callable[[int, int | None], None]"
"""Called by a job with (done, in all or None)."""

Cancelled: TypeAlias = "Callable[[], bool]"
"""Asked by a job; true means that it should end soon."""


class StartJob(Protocol):
    """`Background.start`: runs a long job in a worker and delivers on the main thread."""

    def __call__(
        self,
        title: str,
        job: Callable[..., Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> Any:
        """Start ``job(report, cancelled)``."""
