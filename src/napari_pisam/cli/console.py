"""What a command says while it works: all of it on stderr, so that stdout stays for results."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from napari_pisam.images.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def say(message: str) -> None:
    """Print a line on stderr; nothing in it gives orders to the terminal."""
    typer.echo(printable(message), err=True)


def answer(text: str) -> None:
    """Print a result on stdout; nothing in it gives orders to the terminal."""
    typer.echo(printable(text))


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[float], None]]:
    """Show a bar on stderr where that is a terminal.

    Returns
    -------
    callable
        To be called with how much more is done.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, advance=done)


@contextlib.contextmanager
def download_progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a download on stderr, from its first byte on.

    Returns
    -------
    callable
        To be called with (bytes so far, bytes in all or None).
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: list[int] = []

        def update(done: int, total: int | None) -> None:
            if not tasks:
                # Most calls download nothing and should show nothing.
                tasks.append(bar.add_task(title, total=total))
            bar.update(tasks[0], completed=done, total=total)  # type: ignore[arg-type]

        yield update
