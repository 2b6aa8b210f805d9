"""The adapter to pysodmetrics: where it is installed against it, else against what it is given."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from scipy import ndimage

from napari_pisam.evaluate import saliency
from napari_pisam.measure import metrics

needs_library = pytest.mark.skipif(
    not saliency.is_available(), reason='pysodmetrics is not installed: pip install ".[eval]"'
)


def masks(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((48, 64)), 4)
    return noise > 0.02, np.roll(noise, 2, 0) > 0.01


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(saliency, "is_available", lambda: False)
    with pytest.raises(ImportError, match=r"pip install .*napari-pisam\[eval\]"):
        saliency.SaliencyMeter()


@needs_library
def test_f_max_of_one_mask_is_the_f_measure_at_beta_squared_0_3():
    predicted, truth = masks(0)
    meter = saliency.SaliencyMeter()
    meter.step(predicted, truth)
    precision = (predicted & truth).sum() / predicted.sum()
    recall = (predicted & truth).sum() / truth.sum()
    everything = truth.mean()  # threshold 0 takes all pixels
    expected = [1.3 * p * r / (0.3 * p + r) for p, r in ((precision, recall), (everything, 1.0))]
    assert meter.result()["f_max"] == pytest.approx(max(expected), abs=1e-6)


@needs_library
def test_right_masks_have_the_best_values():
    meter = saliency.SaliencyMeter()
    for seed in range(3):
        _, truth = masks(seed)
        meter.step(truth, truth)
    result = meter.result()
    assert set(result) == set(saliency.SALIENCY)
    assert result["hce"] == 0
    for name in ("s_measure", "f_max", "f_weighted"):
        assert result[name] == pytest.approx(1, abs=1e-3)


@needs_library
def test_mae_is_that_of_the_library():
    import py_sod_metrics

    theirs, ours = py_sod_metrics.MAE(), []
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 200, (30, 40)).astype(np.uint8)
        _, truth = masks(seed)
        truth = truth[:30, :40]
        theirs.step(values, truth.astype(np.uint8) * 255)
        ours.append(metrics.mean_absolute_error(values / 255, truth))
    assert np.mean(ours) == pytest.approx(theirs.get_results()["mae"], abs=1e-9)


class Recorder:
    """Stands for every class of the library: remembers what it is given."""

    def __init__(self, **options):
        self.steps = []

    def add_handler(self, handler_name, metric_handler):
        self.handler = handler_name

    def step(self, pred, gt):
        self.steps.append((pred, gt))

    def get_results(self):
        curve = np.array([0.2, 0.6, 0.4])
        return {
            "sm": np.float64(0.1),
            "wfm": np.float64(0.2),
            "hce": np.float64(7),
            "em": {"curve": curve},
            "fm": {"dynamic": curve},
        }


@pytest.fixture
def stub(monkeypatch):
    names = ("FmeasureV2", "Smeasure", "WeightedFmeasure", "Emeasure")
    library = types.ModuleType("py_sod_metrics")
    for name in (*names, "HumanCorrectionEffortMeasure", "FmeasureHandler"):
        setattr(library, name, Recorder)
    monkeypatch.setitem(sys.modules, "py_sod_metrics", library)
    monkeypatch.setattr(saliency, "is_available", lambda: True)


def test_the_library_gets_8_bit_grey(stub):
    meter = saliency.SaliencyMeter()
    truth = np.array([[True, False]])
    meter.step(np.array([[0.5, 1.0]]), truth)
    predicted, reference = meter._s.steps[0]
    assert (predicted.dtype, reference.dtype) == (np.uint8, np.uint8)
    assert predicted.tolist() == [[128, 255]]
    assert reference.tolist() == [[255, 0]]


def test_curves_become_their_maximum_and_mean(stub):
    meter = saliency.SaliencyMeter()
    meter.step(np.array([[True]]), np.array([[True]]))
    result = meter.result()
    assert result["f_max"] == pytest.approx(0.6)
    assert result["e_measure"] == pytest.approx(0.4)
    assert (result["s_measure"], result["f_weighted"], result["hce"]) == (0.1, 0.2, 7)


def test_a_meter_without_masks_has_no_result(stub):
    with pytest.raises(ValueError, match="No mask was added"):
        saliency.SaliencyMeter().result()
