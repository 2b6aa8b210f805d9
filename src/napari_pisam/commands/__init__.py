"""What the command line does; `napari_pisam.cli` only reads the arguments and reports errors.

Nothing here loads torch before it computes.
"""
