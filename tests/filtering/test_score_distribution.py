"""The expected false discovery rate: by hand, against the plain sum, and on alleles drawn from their own scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnspark.filtering.score_distribution import ScoreCounts, expected_fdr, fdr_threshold


def score_of(p: float) -> float:
    return math.log((p + 1e-7) / (1 - p + 1e-7))


def test_the_lowest_threshold_whose_rate_fits_is_taken() -> None:
    scores = ScoreCounts.of([score_of(p) for p in (0.99, 0.99, 0.9, 0.5)])
    # From the top: .01, .01, then (.01 + .01 + .1) / 3 = .04, then .62 / 4 = .155.
    assert expected_fdr(scores) == pytest.approx([0.155, 0.04, 0.01])
    assert fdr_threshold(scores, 0.05) == pytest.approx(score_of(0.9))
    assert fdr_threshold(scores, 0.02) == pytest.approx(score_of(0.99))
    assert fdr_threshold(scores, 0.2) == pytest.approx(0.0, abs=1e-6)
    assert fdr_threshold(scores, 0.001) is None
    assert fdr_threshold(ScoreCounts.of([]), 0.5) is None


@given(st.lists(st.integers(-160, 160).map(lambda x: x / 10), min_size=1, max_size=40), st.floats(0.001, 0.9))
def test_it_is_the_mean_of_one_less_p_over_what_passes(scores: list[float], wanted: float) -> None:
    def rate(threshold: float) -> float:
        false = [1 - min(1.0, (math.exp(s) * (1 + 1e-7) - 1e-7) / (1 + math.exp(s))) for s in scores if s >= threshold]
        return sum(false) / len(false)

    fits = [score for score in scores if rate(score) <= wanted + 1e-12]
    found = fdr_threshold(ScoreCounts.of(scores), wanted + 1e-12)
    assert found == (min(fits) if fits else None)


def test_the_expected_rate_is_the_real_one_where_scores_are_calibrated() -> None:
    random = np.random.default_rng(3)
    p = random.beta(0.4, 0.4, 20_000)
    true = random.random(len(p)) < p
    scores = np.array([round(score_of(each), 3) for each in p])
    for wanted in (0.01, 0.05, 0.2):
        threshold = fdr_threshold(ScoreCounts.of(scores), wanted)
        assert threshold is not None
        passing = scores >= threshold
        error = math.sqrt(wanted / passing.sum())
        assert abs((~true[passing]).mean() - wanted) < 4 * error
