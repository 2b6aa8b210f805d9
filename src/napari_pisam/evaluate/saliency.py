"""The saliency literature's measures, through `pysodmetrics` (the extra ``eval``)."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.measure.metrics import check_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

SALIENCY = ("s_measure", "f_max", "f_weighted", "e_measure", "hce")
"""What `SaliencyMeter.result` gives."""

MISSING = (
    "S-measure, F-measures, E-measure and HCE need pysodmetrics, which is not installed. "
    'Run: pip install "napari-pisam[eval]"'
)


def is_available() -> bool:
    """Whether `pysodmetrics` is installed; nothing is imported."""
    return importlib.util.find_spec("py_sod_metrics") is not None


class SaliencyMeter:
    """S-measure, maximal F, weighted F, mean E and relaxed HCE of a data set.

    The maximal F-measure is the maximum of the data set's mean curve over all thresholds, as in
    the tables of the literature; it cannot be averaged from single masks.

    Raises
    ------
    ImportError
        Without `pysodmetrics`.
    """

    def __init__(self) -> None:
        if not is_available():
            raise ImportError(MISSING)
        library: Any = importlib.import_module("py_sod_metrics")
        self._f = library.FmeasureV2()
        self._f.add_handler(
            handler_name="fm",
            metric_handler=library.FmeasureHandler(with_dynamic=True, with_adaptive=False),
        )
        self._s = library.Smeasure()
        self._weighted = library.WeightedFmeasure()
        self._e = library.Emeasure()
        self._hce = library.HumanCorrectionEffortMeasure()
        self.count = 0

    def step(self, predicted: NDArray[np.generic], truth: NDArray[np.bool_]) -> None:
        """Add one mask.

        Parameters
        ----------
        predicted : (H, W) bool, or float in 0..1
        truth : (H, W) bool

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        check_pair(predicted, truth)
        values = np.rint(predicted.astype(np.float64) * 255).astype(np.uint8)
        reference = truth.astype(np.uint8) * 255
        with warnings.catch_warnings():
            # Empty quarters and single pixels divide by zero in there, which it caters for.
            warnings.simplefilter("ignore")
            for meter in (self._f, self._s, self._weighted, self._e, self._hce):
                meter.step(values, reference)
        self.count += 1

    def result(self) -> dict[str, float]:
        """Return the measures of all masks so far, by the names in `SALIENCY`.

        Raises
        ------
        ValueError
            If there is none.
        """
        if not self.count:
            raise ValueError("No mask was added, expected at least one. Call step first.")
        return {
            "s_measure": float(self._s.get_results()["sm"]),
            "f_max": float(np.max(self._f.get_results()["fm"]["dynamic"])),
            "f_weighted": float(self._weighted.get_results()["wfm"]),
            "e_measure": float(np.mean(self._e.get_results()["em"]["curve"])),
            "hce": float(self._hce.get_results()["hce"]),
        }
