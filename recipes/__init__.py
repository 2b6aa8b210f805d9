"""How what ships with napari-pisam is made; no part of the package."""
