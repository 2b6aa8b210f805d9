"""What is asked of each object, and what the means are of."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.evaluate import protocols
from napari_pisam.measure import metrics
from recipes.tiny.quality import (
    MeasureOptions,
    by_source,
    grouped,
    measure,
    over_sources,
    report,
)


def disc(shape=(60, 80), radius=15):
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(ys - 30, xs - 40) < radius


class Follower:
    """The box, and squares of 9 px around clicks: a model that obeys."""

    def set_image(self, image):
        pass

    def predict(self, box=None, points=None, labels=None):
        mask = np.zeros((60, 80), bool)
        top, left, bottom, right = (round(value + 0.5) for value in box)
        mask[top:bottom, left:right] = True
        for (row, col), sign in zip(points or [], labels or [], strict=True):
            row, col = int(row), int(col)
            mask[max(row - 4, 0) : row + 5, max(col - 4, 0) : col + 5] = sign
        return mask


class Stubborn(Follower):
    """The box, whatever is clicked."""

    def predict(self, box=None, points=None, labels=None):
        return super().predict(box)


class Breaking(Follower):
    """The truth, until something is clicked."""

    def predict(self, box=None, points=None, labels=None):
        return super().predict(box, points, labels) & ~disc() if points else disc(radius=14)


def test_an_object_is_measured_as_the_protocols_measure_it():
    truth, system = disc(), Follower()
    row = measure(system, truth, MeasureOptions(clicks=10))
    run = protocols.run_clicks(system, truth, 10)
    assert [row[f"iou_{n}"] for n in (0, 1, 3, 5, 10)] == [run.ious[n] for n in (0, 1, 3, 5, 10)]
    assert row["filled"] == pytest.approx(run.ious[0])
    assert row["boundary_iou_0"] == metrics.boundary_iou(run.first, truth)
    after = protocols.predict_mask(system, protocols.box_of(truth), run.clicks[:5])
    assert row["boundary_iou_5"] == metrics.boundary_iou(after, truth)
    assert row["noc_90"] == metrics.number_of_clicks(run.ious, 0.9, 10)
    assert row["kind_both"] == row["iou_5"]
    for kind, signs in (("background", (False,)), ("foreground", (True,))):
        alone = protocols.run_clicks(system, truth, 5, signs=signs)
        assert row[f"kind_{kind}"] == alone.ious[-1]


def test_a_model_that_does_not_listen_shows():
    row = measure(Stubborn(), disc(), MeasureOptions(clicks=3))
    assert (row["clicks"], row["obeyed_clicks"], row["kept_clicks"]) == (3, 0, 0)
    assert row["worst_drop"] == 0
    assert row["noc_90"] == 3


def test_a_click_that_breaks_a_mask_is_a_drop():
    row = measure(Breaking(), disc(), MeasureOptions(clicks=2, kinds=False))
    assert row["worst_drop"] == pytest.approx(row["iou_0"], abs=0.05)
    assert row["noc_90"] == 2 or row["iou_0"] >= 0.9


def test_only_what_is_asked_for_is_given():
    row = measure(Follower(), disc(), MeasureOptions(clicks=1, kinds=False, boundary=False))
    assert not [name for name in row if name.startswith(("kind", "boundary"))]
    assert "iou_3" not in row


def test_baselines_get_the_models_clicks_and_their_own():
    class Recorder(Follower):
        def __init__(self):
            self.asked = []

        def predict(self, box=None, points=None, labels=None):
            self.asked.append(points or [])
            return super().predict(box, points, labels)

    baseline = Recorder()
    row = measure(Breaking(), disc(), MeasureOptions(clicks=4, kinds=False), {"other": baseline})
    model = protocols.run_clicks(Breaking(), disc(), 4).clicks[:3]
    assert baseline.asked[0] == [(float(r), float(c)) for r, c, _ in model]
    own = protocols.run_clicks(Follower(), disc(), 3)
    assert baseline.asked[1] == []
    assert row["other_own"] == own.ious[-1]


def row(source, iou, part="compact", left_out=False, **more):
    return {"source": source, "iou_0": iou, "part": part, "left_out": left_out, **more}


def test_every_source_counts_the_same():
    rows = [row("a", 1.0), row("a", 1.0), row("b", 0.0)]
    assert over_sources(rows)["iou_0"] == pytest.approx(0.5)
    assert over_sources(rows)["objects"] == 3
    assert over_sources(rows)["sources"] == 2
    assert over_sources([]) == {}


def test_what_a_source_lacks_does_not_count_against_it():
    rows = [row("a", 1.0, boundary_iou_0=0.4), row("b", 1.0)]
    assert over_sources(rows)["boundary_iou_0"] == pytest.approx(0.4)
    assert "boundary_iou_0" not in by_source(rows)["b"]


def test_obedience_is_a_share_of_clicks_not_a_mean_of_objects():
    counts = {"obeyed_clicks": 0, "kept_clicks": 1}
    rows = [
        row("a", 1.0, clicks=1, **counts),
        row("a", 1.0, clicks=9, obeyed_clicks=9, kept_clicks=8),
        row("b", 1.0, clicks=0, obeyed_clicks=0, kept_clicks=0),
    ]
    found = by_source(rows)
    assert found["a"]["obeyed"] == pytest.approx(0.9)
    assert found["a"]["kept"] == pytest.approx(0.9)
    assert found["b"]["obeyed"] == 1


def test_networks_left_out_and_generated_sources_stand_apart():
    rows = [
        row("cracks", 0.1, "network"),
        row("coins", 0.9),
        row("leaves", 0.8, left_out=True),
        row("synthetic:cells", 0.7, left_out=True, generated=True),
    ]
    groups = grouped(rows)
    assert list(groups) == [
        ("seen", "compact"),
        ("seen", "network"),
        ("seen", "all"),
        ("left out", "compact"),
        ("generated, left out", "compact"),
    ]
    assert over_sources(groups["seen", "compact"])["iou_0"] == pytest.approx(0.9)


def test_the_report_has_a_line_for_each_group_and_source():
    rows = [
        row("cracks", 0.125, "network", kind_both=0.25, otsu_same=0.375),
        row("coins", 0.875, kind_both=0.5, otsu_same=0.625),
    ]
    text = report(rows)
    assert "| seen | network | 1 | 1 | 0.125 |" in text
    assert "| coins | 1 | 0.875 |" in text
    assert "kind_both" in text
    assert "otsu_same" in text
    assert "| cracks | 1 | 0.125 |" in text
