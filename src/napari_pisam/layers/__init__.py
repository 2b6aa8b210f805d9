"""Between napari's layers and prompts, images and labels; napari without Qt.

napari itself is imported by the functions that need it: the command line asks `can_show` where
napari may not be installed. Nothing here imports torch before a prediction.
"""
