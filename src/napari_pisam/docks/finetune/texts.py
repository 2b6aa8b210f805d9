"""Times, speeds and states in words. No Qt."""

from __future__ import annotations

from typing import Any

ACTIVE = ("starting", "running", "pausing", "stopping")
"""States in which the run's process works."""

_WORDS = {
    "ready": "Ready",
    "starting": "Starting",
    "running": "Training",
    "pausing": "Pausing",
    "paused": "Paused",
    "stopping": "Stopping",
    "stopped": "Stopped",
    "finished": "Finished",
    "interrupted": "Interrupted; Resume goes on from its last checkpoint",
    "failed": "Failed",
}


def time_text(seconds: float) -> str:
    """Write a time for people: ``"45 s"``, ``"3 min 05 s"``, ``"2 h 10 min"``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def state_text(state: Any) -> str:
    """Say in one line what a run is doing."""
    word, message = _WORDS.get(state.status, str(state.status)), str(state.message)
    if not message or state.status not in (*ACTIVE, "finished", "stopped"):
        return word
    # What is a sentence of its own needs no heading.
    is_known = state.status != "running" or message.lower().startswith(word.lower())
    return message if is_known else f"{word}: {message[0].lower()}{message[1:]}"


def speed_text(state: Any) -> str:
    """Say how long it goes on and how fast it is."""
    parts = []
    if state.elapsed:
        parts.append(f"{time_text(state.elapsed)} so far")
    if state.eta is not None and state.status in (*ACTIVE, "paused"):
        parts.append(f"about {time_text(state.eta)} left")
    if state.samples_per_second and state.status in ACTIVE:
        parts.append(f"{state.samples_per_second:.1f} objects/s")
    return " · ".join(parts)
