"""The sentence that says what to do next: it speaks of the tool that is in the hand. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_pisam.docks.segment.keys import KEYS
from napari_pisam.predict.areas import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.session.session import Session, SessionObject

PANNED = "A drag with the click tool moves the view. Press K, or Draw a box, to draw one."


def hint(work: Workspace, tool: str, *, is_loading: bool) -> str:
    """Say what to do next.

    Parameters
    ----------
    work : Workspace
        Its layers and its session.
    tool : str
        See `Tools.role`.
    is_loading : bool
        Whether a model is on its way.
    """
    session = work.session
    if session is None:
        return _without_session(work)
    if work.choice["boxes"] is None or work.choice["clicks"] is None:
        return "Press New prompt layers: boxes and clicks are drawn on layers of their own."
    if is_loading:
        return "Loading the model … you can go on drawing."
    current = session.current
    if current is None or current.prompts is None:
        return _for_a_new_object(session, tool)
    return _for_an_object(session, current, tool)


def still_open(numbers: Sequence[int]) -> str:
    """Say that objects are not in the labels that are being exported; nothing where all are."""
    if not numbers:
        return ""
    first = ", ".join(str(number) for number in numbers[:5]) + (" …" if len(numbers) > 5 else "")
    if len(numbers) == 1:
        return f"Object {first} is still open and not in the file: commit it and export again."
    return (
        f"{len(numbers)} objects are still open and not in the file ({first}): commit them and "
        "export again."
    )


def _without_session(work: Workspace) -> str:
    if work.choice["image"] is not None:
        return work.planes.problem or "Reading the image …"
    if work.choice.candidates["image"]:
        return "Choose the image to segment under Layers."
    return "Open an image to begin: it is taken by itself."


def _for_a_new_object(session: Session, tool: str) -> str:
    if not session.live and tool == "boxes":
        return "Draw boxes; then Predict, or Segment all boxes."
    return {
        "boxes": "Draw a box around an object, or click on it.",
        "clicks": "Click on an object; K takes the box tool.",
        "scribble": "Draw a line along an object, within it.",
        "outline": "Draw around an object: the outline is its mask, until clicks change it.",
    }.get(tool, "Press Draw a box [K], then draw one around an object.")


def _other_answer(current: SessionObject) -> str:
    """Say how to have the other of two answers, until the first click."""
    mask, prompts = current.mask, current.prompts
    if mask is None or mask.answer is None or prompts is None or prompts.click_count:
        return ""
    other = "what is solid" if mask.answer is Answer.FINE else "thin lines in the box"
    return f" ({KEYS['other']}: {other})"


def _for_an_object(session: Session, current: SessionObject, tool: str) -> str:
    name = f"Object {current.id}"
    if current.committed:
        if tool == "clicks":
            return f"{name} is in the labels. Click where it is wrong to correct it; N leaves it."
        return f"{name} is in the labels. Double-click its row to correct it."
    if current.mask is None:
        return f"{name}: waiting for its mask …" if session.live else "Press Predict."
    other = _other_answer(current)
    return {
        "boxes": f"{name}: W commits it; a box begins another object.",
        "clicks": f"{name}: click where it is wrong{other}; W commits.",
        "scribble": f"{name}: draw along what is wrong, FG what is missing, BG what is too much.",
    }.get(tool, f"{name}: W commits it; FG or BG takes the click tool.")
