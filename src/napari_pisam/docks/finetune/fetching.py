"""The base model on this machine before anything is trained. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_pisam.docks.wording import memory_text

if TYPE_CHECKING:
    from napari_pisam.docks.finetune.activity import Activity
    from napari_pisam.docks.finetune.core import Core
    from napari_pisam.docks.jobs import Cancelled, Report


def fetch_base(
    core: Core, base: str, activity: Activity, report: Report, cancelled: Cancelled
) -> None:
    """Download a public base that is not here: the run's own process downloads nothing.

    For a worker. Returns early where it is cancelled.
    """

    def tell(done: int, total: int | None) -> None:
        whole = "" if total is None else f" of {memory_text(total)}"
        activity.tell(f"downloading {base}, {memory_text(done)}{whole}")
        report(done, total)

    try:
        core.fetch(base, tell, cancelled)
    except Exception:
        if not cancelled():
            raise
