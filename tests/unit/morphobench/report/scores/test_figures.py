"""Figures of scores: what lies on the front, and what a segmentation got right."""

from __future__ import annotations

import numpy as np

from morphobench.report.results import RunResults
from morphobench.report.scores.figures import pareto_front
from morphobench.report.scores.segmentations import agreement_picture, draw_segmentations
from morphobench.report.style import Absent


def test_the_pareto_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    costs, scores = rng.random(40), rng.random(40)
    front = pareto_front(costs.tolist(), scores.tolist())
    beaten = [
        ((costs <= costs[i]) & (scores >= scores[i]) & ((costs < costs[i]) | (scores > scores[i]))).any()
        for i in range(40)
    ]
    assert sorted(front) == [i for i in range(40) if not beaten[i]]


def test_agreement_pictures_tell_missed_from_spurious():
    picture = agreement_picture(np.array([[1, 0, 1, 0]]), np.array([[1, 1, 0, 0]]))
    assert len({tuple(pixel) for pixel in picture[0]}) == 4
    assert picture[0, 0].tolist() == [1, 1, 1]
    assert picture[0, 3].tolist() == [0, 0, 0]


def test_unreadable_test_images_are_a_reason_and_not_a_failure(results, monkeypatch):
    def lost(results, dataset):
        raise OSError("disk on fire")

    monkeypatch.setattr(RunResults, "test_split", lost)
    absent = [drawn for drawn in draw_segmentations(results) if isinstance(drawn, Absent)]
    assert [drawn.name for drawn in absent] == ["segmentation-degraded-digits", "segmentation-vessels"]
    assert absent[0].reason == "the test images could not be read: disk on fire"
