"""The band of a cascade against a slow oracle that tries every band with plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from cnnspark.errors import InputError
from cnnspark.evaluation.bootstrap import draws
from cnnspark.evaluation.ranking import Ranking
from cnnspark.models.cascade import Band
from cnnspark.scoring import cascade_band
from cnnspark.scoring.cascade_band import choose_band, combined, figures

EDGES = (0.0, 0.01, 0.05, 0.2, 0.5)


@pytest.fixture(autouse=True)
def few_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer bands and draws, which the oracle takes seconds for."""
    monkeypatch.setattr(cascade_band, "EDGES", EDGES)
    monkeypatch.setattr(cascade_band, "DRAWS", 20)


def made_up(seed: int, first_noise: float, count: int = 600) -> tuple[np.ndarray, ...]:
    """Labels, probabilities by a worse and a better model, stretches and callsets."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.5).astype(np.int64)
    signal = 6 * (labels - 0.5)
    second = 1 / (1 + np.exp(-(signal + rng.normal(size=count))))
    first = 1 / (1 + np.exp(-(signal + first_noise * rng.normal(size=count))))
    return labels, first, second, np.arange(count) // 50, np.arange(count) % 2


@pytest.mark.parametrize(
    ("band", "held"),
    [
        (Band(0, 1), [True, True, True, True]),
        (Band(0.5, 0.5), [False, False, False, False]),
        (Band(0.2, 0.9), [False, True, False, False]),
        (Band(0.9, 1), [False, False, True, True]),
    ],
)
def test_a_band_has_its_lower_end_and_not_its_upper_one_but_for_1(band: Band, held: list[bool]) -> None:
    assert band.holds(np.array([0.0, 0.2, 0.9, 1.0])).tolist() == held


def test_there_is_no_band_outside_of_0_to_1() -> None:
    for low, high in ((-0.1, 0.5), (0.6, 0.5), (0.5, 1.1), (float("nan"), 0.5)):
        with pytest.raises(ValueError, match="no band of probabilities"):
            Band(low, high)


def slow_choice(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, stretches: np.ndarray, callsets: np.ndarray
) -> tuple[Band, int]:
    """The definition of the module's docstring, word by word."""
    threshold = max(t for t in second if second[labels == 1][second[labels == 1] >= t].size >= 0.999 * labels.sum())

    def plain(values: np.ndarray) -> list[float]:
        precision, recall, _ = precision_recall_curve(labels, values)
        kept = [label for label, value in zip(labels, values, strict=True) if value >= threshold]
        return [
            average_precision_score(labels, values),
            max(r for p, r in zip(precision, recall, strict=True) if p >= 0.99),
            sum(kept) / labels.sum(),
            sum(kept) / len(kept),
        ]

    def lowest_gains(values: np.ndarray, chosen: np.ndarray) -> list[float]:
        numbers = np.unique(stretches[chosen], return_inverse=True)[1]
        one, other = (Ranking(labels[chosen], v[chosen]) for v in (second, values))
        gains = []
        for drawn in draws(numbers.max() + 1, cascade_band.DRAWS):
            w = drawn[numbers].astype(float)
            if one.auprc(w) is not None:
                gains.append((
                    other.auprc(w) - one.auprc(w),
                    other.recall_at_precision(0.99, w) - one.recall_at_precision(0.99, w),
                ))  # fmt: skip
        return np.percentile(gains, 2.5, axis=0).tolist()

    def holds(band: Band) -> bool:
        values = combined(first, second, band)
        if any(a - b > 0.0005 + 1e-12 for a, b in zip(plain(second), plain(values), strict=True)):
            return False
        gains = lowest_gains(values, np.arange(len(labels)))
        gains += [lowest_gains(values, np.flatnonzero(callsets == c))[1] for c in np.unique(callsets)]
        return min(gains) >= -0.0005 - 1e-12

    bands = [Band(low, 1 - edge) for low, edge in itertools.product(EDGES, EDGES)]
    held = {(band.low, band.high): holds(band) for band in bands}

    def trusted(band: Band) -> bool:
        return all(ok for (low, high), ok in held.items() if low <= band.low and high >= band.high)

    best = min(
        (band for band in bands if trusted(band)), key=lambda b: (b.holds(first).sum(), b.low - b.high)
    )  # fmt: skip
    return best, int(best.holds(first).sum())


@pytest.mark.parametrize(("seed", "noise"), [(0, 1.5), (1, 1.0)])
def test_the_band_is_that_of_the_slow_oracle(seed: int, noise: float) -> None:
    alleles = made_up(seed, noise)
    found = choose_band(*alleles)
    band, passed_on = slow_choice(*alleles)
    assert (found.passed_on, found.alleles) == (passed_on, 600)
    assert found.band.holds(alleles[1]).tolist() == band.holds(alleles[1]).tolist()
    assert 0 < passed_on < 600  # or the test would say little
    assert all(found.alone[name] - found.cascade[name] <= 0.0005 for name in found.alone)


def test_two_models_that_say_the_same_pass_nothing_on() -> None:
    labels, _, second, stretches, callsets = made_up(3, 1.0)
    found = choose_band(labels, second, second, stretches, callsets)
    assert found.passed_on == 0 and found.share == 0
    assert found.cascade == found.alone


def test_a_first_model_that_knows_nothing_passes_all_on() -> None:
    labels, _, second, stretches, callsets = made_up(4, 1.0)
    noise = np.random.default_rng(5).random(len(labels))
    found = choose_band(labels, noise, second, stretches, callsets)
    assert found.share > 0.99 and found.cascade["AUPRC"] == pytest.approx(found.alone["AUPRC"], abs=5e-4)


def test_one_callset_that_would_lose_widens_the_band() -> None:
    labels, first, second, stretches, callsets = made_up(6, 1.0)
    together = choose_band(labels, first, second, stretches, np.zeros_like(callsets))
    # In the second callset the first model is surest of what is false: a tenth of its false alleles.
    odd = np.flatnonzero((callsets == 1) & (labels == 0))[::10]
    first[odd] = 0.96
    apart = choose_band(labels, first, second, stretches, callsets)
    assert apart.passed_on > together.passed_on
    assert apart.band.high > 0.96


def test_figures_at_the_threshold_are_counts() -> None:
    labels, values = np.array([1, 1, 0, 0]), np.array([0.9, 0.3, 0.5, 0.1])
    found = figures(labels, values, 0.3)
    assert found["recall at the threshold for 0.999"] == 1.0
    assert found["precision at the threshold for 0.999"] == pytest.approx(2 / 3)
    assert found["recall at precision 0.99"] == 0.5


def test_too_few_alleles_are_one_sentence() -> None:
    labels, first, second, stretches, callsets = made_up(7, 1.0, count=40)
    with pytest.raises(InputError, match="too few to choose a band by; give data with 25 of each"):
        choose_band(labels, first, second, stretches, callsets)
    labels, first, second, stretches, callsets = made_up(7, 1.0)
    with pytest.raises(InputError, match="in 1 stretches"):
        choose_band(labels, first, second, np.zeros_like(stretches), callsets)
