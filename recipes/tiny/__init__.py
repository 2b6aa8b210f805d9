"""How the embedded model ``tiny`` is made: image sets, generated images, stages, measures, log."""
