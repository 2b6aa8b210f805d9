"""The network: torch modules and checkpoints."""

from napari_pisam.model.native_libraries import isolate_triton

isolate_triton()
