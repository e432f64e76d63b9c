"""Calibration: figures against scikit-learn and plain loops, intervals against SciPy and a loop over drawn alleles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss

from cnnspark.evaluation.calibration import (
    N_BINS,
    bin_numbers,
    calibration_figures,
    reliability,
    share_intervals,
    wilson_interval,
)
from cnnspark.evaluation.metrics import AlleleScores
from cnnspark.evaluation.threshold_tables import calibration_table
from cnnspark.variants.score_fields import probability_of_score


def example(n: int = 3_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels and log odds."""
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 2, n)
    return labels, labels * 2.0 + rng.normal(size=n)


def test_figures_are_brier_score_and_the_binned_error() -> None:
    rng = np.random.default_rng(1)
    labels, p = rng.integers(0, 2, 300), rng.random(300)
    p[:3] = 0.0, 1.0, np.nan
    brier, error = calibration_figures(labels, p)
    known = ~np.isnan(p)
    assert brier == pytest.approx(brier_score_loss(labels[known], p[known]))
    slow = 0.0
    for i in range(10):
        in_bin = [j for j in range(300) if known[j] and (i / 10 <= p[j] < (i + 1) / 10 or (i == 9 and p[j] == 1))]
        slow += len(in_bin) / known.sum() * abs(np.mean(labels[in_bin]) - np.mean(p[in_bin]))
    assert error == pytest.approx(slow)
    assert calibration_figures(np.empty(0), np.empty(0)) == (None, None)
    perfect = np.array([0.0, 1.0])
    assert calibration_figures(perfect, perfect) == (0.0, 0.0)


def test_figures_picture_and_table_have_the_same_bins() -> None:
    labels, scores = example()
    bins = reliability(labels, scores)
    assert sum(each.alleles for each in bins) == len(labels) and len(bins) == N_BINS
    error = sum(each.alleles * abs(each.true - each.predicted) for each in bins) / len(labels)
    assert error == pytest.approx(calibration_figures(labels, probability_of_score(scores))[1])
    alleles = AlleleScores(np.full(3_000, "c1"), np.arange(3_000) * 100, np.zeros(3_000), labels, {"CNN_2D": scores})
    rows = [row for row in calibration_table(alleles, ["CNN_2D"], n_replicates=20) if row["group"] == "ALL"]
    assert [row["n"] for row in rows] == [each.alleles for each in bins]
    assert [row["share_true"] for row in rows] == pytest.approx([each.true for each in bins])
    assert [row["mean_probability"] for row in rows] == pytest.approx([each.predicted for each in bins])


def test_the_ends_of_the_bins_belong_to_the_bin_above_and_1_to_the_last() -> None:
    assert bin_numbers(np.array([0.0, 0.1, 0.55, 0.999, 1.0])).tolist() == [0, 1, 5, 9, 9]
    assert bin_numbers(np.array([0.0, 0.49, 0.5, 1.0]), 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 20), (1, 1), (3, 17), (20, 20), (400, 1000)])
def test_the_interval_is_wilsons(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_interval_by_blocks_is_that_of_a_plain_loop_over_drawn_alleles() -> None:
    rng = np.random.default_rng(2)
    bins, true, blocks = rng.integers(0, 3, 200), rng.integers(0, 2, 200).astype(float), np.arange(200) // 10
    draws, shares = np.random.default_rng(9), {0: [], 1: [], 2: []}
    for _ in range(60):
        rows = np.concatenate([np.flatnonzero(blocks == block) for block in draws.integers(0, 20, 20)])
        for number in shares:
            shares[number].append(true[rows][bins[rows] == number].mean())
    found = share_intervals(bins, true, blocks, 4, 60, seed=9)
    for number, values in shares.items():
        interval = found[number]
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert found[3] is None  # an empty bin
    assert share_intervals(bins, true, np.zeros(200, int), 4, 60, seed=9) == [None] * 4  # one block
