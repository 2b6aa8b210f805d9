"""What commands have in common: options, and errors as one line."""

from __future__ import annotations

import contextlib
import os
import traceback
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from napari_pisam.cli.console import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_pisam.measure.regions import Pixel

TRACEBACK_VARIABLE = "NAPARI_PISAM_TRACEBACK"


class Precision(StrEnum):
    """What the image encoder computes in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Objects(StrEnum):
    """Which objects of a mask are asked for."""

    auto = "auto"
    largest = "largest"
    each = "each"
    whole = "whole"


class MaskKinds(StrEnum):
    """What the numbers in masks mean."""

    auto = "auto"
    binary = "binary"
    instances = "instances"
    classes = "classes"


class Overlap(StrEnum):
    """Whose a pixel is where objects overlap."""

    keep = "keep"
    overwrite = "overwrite"


ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME|PATH", help="A model's name or a checkpoint file.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", help="Of the image encoder; auto picks the fastest safe type."),
]


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors into one line on stderr: status 2 for bad input, 1 for what failed on the way.

    With ``NAPARI_PISAM_TRACEBACK=1`` in the environment the place of the error is printed too.
    """
    status = 1
    caught: Exception
    try:
        yield
        return
    except typer.Exit:  # a RuntimeError, and no error
        raise
    except KeyboardInterrupt:
        say("Stopped; nothing half-written is left.")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise
    except (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        status, caught = 2, error
    except MemoryError as error:
        caught = MemoryError(f"Not enough memory ({error}). Close other programs, or use --plane.")
    except (OSError, RuntimeError, ImportError) as error:
        caught = error
    if os.environ.get(TRACEBACK_VARIABLE):
        say("".join(traceback.format_exception(caught)))
    say(f"Error: {' '.join(str(caught).split())}")
    raise typer.Exit(status)


def numbers(text: str, name: str, kind: type[int] | type[float]) -> tuple[float, ...]:
    """Read numbers separated by commas.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{name} is {text!r}, expected {what} separated by commas.") from None


FillHolesOption = Annotated[
    bool, typer.Option("--fill-holes", help="Fill what an object encloses.")
]
SpecksOption = Annotated[
    int, typer.Option("--specks", metavar="PX", help="Remove parts of fewer px.")
]
LargestOption = Annotated[
    bool, typer.Option("--largest", help="Keep the largest part of each object.")
]
SmoothOption = Annotated[
    float, typer.Option("--smooth", metavar="PX", help="Round edges off by so much.")
]
GrowOption = Annotated[
    float,
    typer.Option("--grow", metavar="PX", help="Grow by so much, never over others; -2 shrinks."),
]

PixelSizeOption = Annotated[
    str | None,
    typer.Option("--pixel-size", metavar="HEIGHT,WIDTH", help="Of a pixel; one number for both."),
]
UnitOption = Annotated[str, typer.Option("--unit", help="What --pixel-size is in.")]


VoxelSizeOption = Annotated[
    str | None,
    typer.Option(
        "--pixel-size", metavar="[DEPTH,]HEIGHT,WIDTH", help="Of a pixel; one number for all."
    ),
]


def pixel_of(text: str | None, unit: str, *, has_depth: bool = False) -> Pixel | None:
    """Read the size of a pixel, where it may have a depth also that.

    Raises
    ------
    ValueError
        If it is not one, two (or three) positive numbers.
    """
    if text is None:
        return None
    from napari_pisam.measure.regions import Pixel

    sides = numbers(text, "--pixel-size", float)
    if len(sides) > 2 + has_depth:
        expected = "[DEPTH,]HEIGHT,WIDTH" if has_depth else "HEIGHT,WIDTH"
        raise ValueError(f"--pixel-size is {text!r}, expected {expected} or one number.")
    return Pixel(sides[-2:][0], sides[-1], unit, None if len(sides) == 2 else sides[0])
