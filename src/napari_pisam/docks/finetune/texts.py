"""States, times, verdicts and failures in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_pisam.learn.finetune.state import RunState

_WORDS = {
    "ready": "Ready",
    "starting": "Starting",
    "running": "Training",
    "pausing": "Pausing",
    "paused": "Paused",
    "stopping": "Stopping",
    "stopped": "Stopped",
    "finished": "Finished",
    "interrupted": "Interrupted. Resume goes on from the last checkpoint",
    "failed": "Training failed",
}


def time_text(seconds: float) -> str:
    """Write a time for people: ``"45 s"``, ``"3 min 05 s"``, ``"2 h 10 min"``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def state_text(state: RunState) -> str:
    """Say in one line what a run is doing."""
    word, message = _WORDS[state.status], state.message
    if not message or state.status in ("ready", "paused", "interrupted", "failed"):
        return word
    # What is a sentence of its own needs no heading.
    is_known = state.status != "running" or message.lower().startswith(word.lower())
    return message if is_known else f"{word}: {message[0].lower()}{message[1:]}"


def speed_text(state: RunState) -> str:
    """Say how long it goes on and how fast it is."""
    parts = []
    if state.elapsed:
        end = "of training" if state.is_over else "so far"
        parts.append(f"{time_text(state.elapsed)} {end}")
    if state.eta is not None and state.is_active:
        parts.append(f"about {time_text(state.eta)} left")
    if state.samples_per_second and state.is_active and state.status != "paused":
        parts.append(f"{state.samples_per_second:.1f} objects/s")
    return " · ".join(parts)


def verdict_text(state: RunState | None) -> tuple[str, bool]:
    """Say how good a run's weights are, and whether that is its last word.

    While it trains there is no verdict: what is best so far looks better, or worse, than it is.
    """
    if state is None:
        return "Press Start, or choose an earlier run above: its verdict is shown here.", False
    if not state.is_over:
        values, base = state.boundary_validation.y, state.base_boundary
        if not len(values) or base is None:
            return "The verdict comes at the end.", False
        return (
            f"Provisional, at step {state.step}: boundary IoU {values[-1]:.3f} (base {base:.3f}). "
            "The verdict comes at the end."
        ), False
    untold = "No verdict: training ended before it was validated. Train longer."
    return state.verdict or untold, True


def failure_text(error: BaseException, what: str) -> str:
    """Say what went wrong and what to do.

    Parameters
    ----------
    error : BaseException
        Our own errors, and those about a value, say it themselves.
    what : str
        What failed, as the beginning of a sentence.
    """
    if isinstance(error, ValueError) or type(error).__module__.startswith("napari_pisam"):
        return str(error)
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        return f"{what} failed: not enough memory. Close other programs, or use fewer images."
    if isinstance(error, OSError):
        return f"{what} failed: {reason}. Check that the disk has room and the files are there."
    return f"{what} failed ({type(error).__name__}: {reason}). Your layers and files are unchanged."
