"""An allele's inputs compared with the training data: quantiles against the training values themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnnspark.models.card import Range, training_ranges
from cnnspark.models.input_drift import Histogram, known_values
from cnnspark.reports.allele.input_familiarity import (
    OUTSIDE,
    SWEEP,
    UNKNOWN,
    UNUSUAL,
    USUAL,
    familiar,
    middle_of,
    quantile_of,
)

RNG = np.random.default_rng(3)
COLUMNS = {
    "continuous": RNG.normal(size=4000),
    "counts": RNG.poisson(2.0, size=4000).astype(float),
    "mostly_one": np.where(RNG.random(4000) < 0.7, 1.0, RNG.random(4000)),
    "mostly_zero": np.where(RNG.random(4000) < 0.95, 0.0, RNG.random(4000)),
    "often_missing": np.where(np.arange(4000) % 5 < 3, np.nan, RNG.normal(size=4000)),
    "always_missing": np.full(4000, np.nan),
    "one_value": np.full(4000, 7.0),
}
HISTOGRAMS = {h.name: h for h in known_values(list(COLUMNS), np.stack(list(COLUMNS.values()), axis=1)).histograms}


@pytest.mark.parametrize("name", ["continuous", "counts", "mostly_one", "often_missing"])
def test_a_quantile_is_the_share_of_training_values_below_within_a_bin(name: str) -> None:
    seen = COLUMNS[name][np.isfinite(COLUMNS[name])]
    histogram = HISTOGRAMS[name]
    widest = max(histogram.counts[2:-1]) / len(seen)
    for value in np.quantile(seen, np.linspace(0, 1, 33)):
        below, up_to = np.mean(seen < value), np.mean(seen <= value)
        assert below - widest <= quantile_of(histogram, float(value)) <= up_to + widest
    assert quantile_of(histogram, float(seen.min()) - 1) == 0.0
    assert quantile_of(histogram, float(seen.max()) + 1) == 1.0


def test_the_middle_is_the_median_if_the_histogram_can_tell() -> None:
    for name in ("continuous", "counts", "often_missing"):
        median = float(np.nanmedian(COLUMNS[name]))
        assert middle_of(HISTOGRAMS[name]) == pytest.approx(median, abs=0.05), name
    assert middle_of(HISTOGRAMS["one_value"]) == 7.0
    assert middle_of(HISTOGRAMS["always_missing"]) is None
    # Both have the same deciles and the same counts, but their medians are 0 and 1.
    rare, common = (
        known_values(["x"], np.array([[0.0]] * a + [[1.0]] * b)).histograms[0] for a, b in ((95, 5), (5, 95))
    )
    assert (rare.edges, rare.counts) == (common.edges, common.counts)
    assert middle_of(rare) is None


@pytest.mark.parametrize(
    ("name", "value", "verdict", "why"),
    [
        ("continuous", 0.0, USUAL, ""),
        ("continuous", 9.0, OUTSIDE, "above all training values"),
        ("continuous", -9.0, OUTSIDE, "below all training values"),
        ("continuous", 3.1, UNUSUAL, "in the highest 1% of the training values"),
        ("continuous", -3.1, UNUSUAL, "in the lowest 1% of the training values"),
        ("continuous", math.nan, UNUSUAL, "missing, as in only 0.0% of the training alleles"),
        ("often_missing", math.nan, USUAL, "missing, as in 60% of the training alleles"),
        ("always_missing", math.nan, USUAL, "missing, as in all training alleles"),
        ("always_missing", 1.0, OUTSIDE, "never present in training"),
        ("one_value", 7.0, USUAL, ""),
        ("one_value", 8.0, OUTSIDE, "above all training values"),
        ("mostly_one", 1.0, USUAL, ""),  # the greatest value, and the usual one
        ("mostly_zero", 0.0, USUAL, ""),
    ],
)
def test_what_is_said_of_a_value(name: str, value: float, verdict: str, why: str) -> None:
    (known,) = training_ranges([name], COLUMNS[name][:, None])
    found = familiar("annotation", name, value, HISTOGRAMS[name], known)
    assert (found.verdict, found.why) == (verdict, why)
    assert found.value == (None if math.isnan(value) else value)


def test_the_percentiles_of_the_card_say_more_than_a_bin() -> None:
    # The last tenth reaches from 1 to 101, but all its values except one are near 1.
    values = np.concatenate([np.linspace(0, 1, 900), np.linspace(1, 1.5, 99), [101.0]])[:, None]
    histogram = known_values(["x"], values).histograms[0]
    (known,) = training_ranges(["x"], values)
    assert familiar("annotation", "x", 50.0, histogram, known).verdict == UNUSUAL
    assert familiar("site feature", "x", 50.0, histogram, None).verdict == USUAL


def test_training_values_to_set_an_input_to_are_few_from_end_to_end() -> None:
    found = familiar("site feature", "continuous", 0.0, HISTOGRAMS["continuous"], None)
    assert len(found.sweep) == SWEEP
    assert (found.sweep[0], found.sweep[-1]) == (found.minimum, found.maximum)
    missing = familiar("site feature", "often_missing", 0.0, HISTOGRAMS["often_missing"], None).sweep
    assert math.isnan(missing[-1]) and len(missing) == SWEEP + 1
    assert familiar("site feature", "one_value", 7.0, HISTOGRAMS["one_value"], None).sweep == (7.0,)


def test_without_a_histogram_the_verdict_is_unknown() -> None:
    found = familiar("annotation", "MQ", 60.0, None, Range("MQ", 0.0, 1.0, 2.0, 3.0, 4.0, 0.0))
    assert (found.verdict, found.quantile, found.middle) == (UNKNOWN, None, None)
    assert [math.isnan(value) for value in found.sweep] == [True]


def test_shares_of_the_bins_add_up_to_one() -> None:
    for name, histogram in HISTOGRAMS.items():
        assert isinstance(histogram, Histogram)
        shares = familiar("site feature", name, math.nan, histogram, None).shares
        assert sum(shares) == pytest.approx(1.0 if histogram.edges else 0.0, abs=1e-4)
