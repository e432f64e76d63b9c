"""Platt's calibration against scikit-learn's logistic regression, closed forms and known distortions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cnnspark.evaluation.calibration import calibration_figures
from cnnspark.models.calibration import LEAST_OF_EACH_CLASS, LEAST_SLOPE, Platt, cross_fitted, fit_platt, probabilities


def distorted(count: int, slope: float, intercept: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a network whose log odds are right only after ``slope x logit + intercept``, and the labels."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0, 2.5, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-log_odds))).astype(np.float32)
    return ((log_odds - intercept) / slope).astype(np.float32), labels


@pytest.mark.parametrize(("count", "slope", "intercept"), [(80, 0.5, 0.2), (400, 2.0, -1.0), (5000, 0.3, 1.5)])
def test_the_fit_is_that_of_logistic_regression_on_platts_targets(count: int, slope: float, intercept: float) -> None:
    logits, labels = distorted(count, slope, intercept)
    n_true, n_false = int(labels.sum()), int((1 - labels).sum())
    targets = np.where(labels == 1, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))
    # A target between 0 and 1 is an allele of both classes with these weights.
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(
        np.concatenate([logits, logits]).astype(np.float64)[:, None],
        np.repeat([1, 0], count),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    found = fit_platt(logits, labels)
    assert found.slope == pytest.approx(float(oracle.coef_[0, 0]), rel=1e-4)
    assert found.intercept == pytest.approx(float(oracle.intercept_[0]), abs=1e-4)


def test_a_known_distortion_is_undone() -> None:
    found = fit_platt(*distorted(20_000, slope=0.4, intercept=-0.7))
    assert found.slope == pytest.approx(0.4, abs=0.02)
    assert found.intercept == pytest.approx(-0.7, abs=0.06)


def test_classes_that_are_apart_get_the_targets_as_their_probabilities() -> None:
    """Logits of +-1 and 50 alleles of each class: the optimum meets both targets, log odds +-ln 51."""
    labels = np.repeat([1, 0], 50)
    found = fit_platt(2.0 * labels - 1, labels)
    assert found.slope == pytest.approx(np.log(51))
    assert found.intercept == pytest.approx(0, abs=1e-9)


def test_the_scale_of_the_logits_plays_no_part() -> None:
    logits, labels = distorted(500, 0.5, 0.3)
    scaled = 20 * logits.astype(np.float64) + 700
    np.testing.assert_allclose(fit_platt(scaled, labels)(scaled), fit_platt(logits, labels)(logits), atol=1e-6)


def test_a_network_that_ranks_backwards_keeps_its_order() -> None:
    logits, labels = distorted(500, 1.0, 0.0)
    found = fit_platt(-logits, labels)
    assert found.slope == LEAST_SLOPE
    # of all lines with this slope the one whose mean probability is the mean target
    assert probabilities(found(-logits)).mean() == pytest.approx(labels.mean(), abs=0.01)


def test_logits_that_say_nothing_give_the_share_of_true_alleles() -> None:
    labels = np.repeat([1, 0], [300, 100])
    found = fit_platt(np.full(400, 2.0), labels)
    target = (300 * 301 / 302 + 100 / 102) / 400
    assert probabilities(found(np.array([2.0])))[0] == pytest.approx(target)


def test_too_few_alleles_of_a_class_leave_the_logits_as_they_are() -> None:
    logits, labels = distorted(1000, 0.5, 1.0)
    few = np.concatenate([np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)[: LEAST_OF_EACH_CLASS - 1]])
    assert fit_platt(logits[few], labels[few]) == Platt()
    assert fit_platt(logits[:0], labels[:0]) == Platt()


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 0.0), (-1.0, 0.0), (np.nan, 0.0), (1.0, np.inf)])
def test_a_calibration_that_would_change_the_ranking_cannot_be_made(slope: float, intercept: float) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Platt(slope, intercept)


def test_the_figure_of_an_allele_comes_from_a_fit_of_the_other_half() -> None:
    logits, labels = distorted(300, 0.5, 0.3)
    blocks = np.repeat([3, 8, 9, 12, 40], 60)
    even = np.isin(blocks, [3, 9, 40])
    expected = np.where(
        even, fit_platt(logits[~even], labels[~even])(logits), fit_platt(logits[even], labels[even])(logits)
    )
    np.testing.assert_array_equal(cross_fitted(logits, labels, blocks), expected)


def test_one_block_is_cut_in_its_middle() -> None:
    logits, labels = distorted(200, 0.5, 0.3)
    found = cross_fitted(logits, labels, np.full(200, 7))
    np.testing.assert_array_equal(found[:100], fit_platt(logits[100:], labels[100:])(logits[:100]))
    np.testing.assert_array_equal(found[100:], fit_platt(logits[:100], labels[:100])(logits[100:]))


def test_calibration_lessens_the_calibration_error() -> None:
    logits, labels = distorted(4000, 0.3, 0.5)
    blocks = np.arange(4000) // 100
    before = calibration_figures(labels, probabilities(logits))[1]
    after = calibration_figures(labels, probabilities(cross_fitted(logits, labels, blocks)))[1]
    assert before is not None and after is not None
    assert before > 0.05 and after < 0.02
