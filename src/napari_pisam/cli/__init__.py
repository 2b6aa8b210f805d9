"""The command line: one file per command."""

from napari_pisam.cli.app import main

__all__ = ["main"]
