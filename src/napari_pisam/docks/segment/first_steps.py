"""The first minute with the dock: which step comes next, and when it is over. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_pisam.session.session import Session

STEPS = (
    "open an image",
    "draw a box around an object",
    "click where the mask is wrong",
    "press W: it is in the labels",
)
SAMPLES = {"coins": "Coins", "cells": "Cells", "filaments": "Filaments"}
"""The sample images of ``napari.yaml``: their keys and titles."""


def next_step(session: Session | None) -> int:
    """Return the place in `STEPS` of what to do next."""
    if session is None:
        return 0
    current = session.current
    if current is None or current.prompts is None or current.mask is None:
        return 1
    return 2 if len(current.prompts.points) == 0 else 3


def is_over(session: Session | None) -> bool:
    """Whether an object was committed: from then on it is known how."""
    return session is not None and any(one.committed for one in session.objects)
