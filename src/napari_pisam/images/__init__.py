"""Pixels and masks in and out: arrays and files. Knows neither networks nor napari."""
