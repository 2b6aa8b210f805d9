"""Finds out in the background what kind of picture each image looks like. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari_pisam.images.kinds import ImageKind, guess_kind
from napari_pisam.layers.images import image_source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.session.session import Execute


class ImageKinds:
    """Looks at every image once, off the main thread: lazy data may take their time.

    Parameters
    ----------
    execute : Execute
        Runs a job in the background and delivers on the main thread.
    found : callable
        Called without arguments when another image's kind is known.
    """

    def __init__(self, execute: Execute, found: Callable[[], None]) -> None:
        self._execute, self._found = execute, found
        self._kinds: WeakKeyDictionary[Any, ImageKind | None] = WeakKeyDictionary()

    def kind_of(self, image: Any, plane: ImagePlane | None) -> ImageKind | None:
        """Kind of an image, as far as it is known by now; asks for it the first time.

        Parameters
        ----------
        image : napari Image layer or None
        plane : ImagePlane or None
            The one that is displayed, of which a few small windows are read.
        """
        if image is None or plane is None:
            return None
        if image not in self._kinds:
            self._kinds[image] = None
            self._ask(image, plane)
        return self._kinds[image]

    def _ask(self, image: Any, plane: ImagePlane) -> None:
        try:
            source = image_source_of(image, plane).source
        except ValueError:
            return
        of = ref(image)

        def keep(kind: ImageKind | None) -> None:
            alive = of()
            if alive is not None and kind is not None:
                self._kinds[alive] = kind
                self._found()

        # Advice only: where the image cannot be read, the prediction says so.
        self._execute(lambda: guess_kind(source), keep, lambda _error: None)
