"""Intervals by drawing blocks of the genome with replacement.

Blocks are drawn, not alleles (block bootstrap; Künsch 1989, doi:10.1214/aos/1176347265): neighbours share reads,
mapping errors and repeats, so single alleles would give intervals that are too narrow. The ends of an interval are
percentiles (Efron 1979, doi:10.1214/aos/1176344552). For a difference, both scores are taken from the same draws: what
makes both better or worse cancels out, so its interval is narrower than those of the two scores suggest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnspark.evaluation.ranking import Ranking, two_classes
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT

REPLICATES = 1000
# Percentiles of fewer draws mean nothing.
LEAST_REPLICATES = 100
# Draws times alleles of one score: a few seconds on one core. A whole genome's callset needs fewer draws, because its
# intervals are narrow.
_MOST_WORK = 2_000_000_000
# Recall at this precision is the second figure with an interval.
PRECISION = 0.99
FIGURES = ("auprc", f"recall_at_precision_{PRECISION:.2f}")


@dataclass(frozen=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Intervals of the figures (:data:`FIGURES`).

    Attributes:
        scores: score -> figure -> interval.
        differences: (first, second) -> figure -> interval of the second score's figure minus the first one's.
    """

    scores: dict[str, dict[str, Interval]] = field(default_factory=dict)
    differences: dict[tuple[str, str], dict[str, Interval]] = field(default_factory=dict)


def replicates_for(alleles: int, wanted: int = REPLICATES) -> int:
    """The number of draws for this many alleles: ``wanted``, or fewer for millions of alleles."""
    return min(wanted, max(LEAST_REPLICATES, _MOST_WORK // max(1, alleles)))


def draws(n_blocks: int, n_replicates: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Draws blocks with replacement, each time as many as there are.

    Args:
        n_blocks: How many blocks there are. With fewer than two, nothing is drawn.
        n_replicates: How many times to draw.
        seed: The same seed gives the same draws.

    Yields:
        How often each block was drawn: int64 (n_blocks,), with a sum of n_blocks.
    """
    if n_blocks < 2:
        return
    generator = np.random.default_rng(seed)
    for _ in range(n_replicates):
        yield np.bincount(generator.integers(0, n_blocks, n_blocks), minlength=n_blocks)


def interval_of(values: Sequence[float] | np.ndarray) -> Interval | None:
    """The interval from the 2.5th to the 97.5th percentile; None without values."""
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


def bootstrap(
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    blocks: np.ndarray,
    pairs: Sequence[tuple[str, str]] = (),
    n_replicates: int = REPLICATES,
    seed: int = 0,
) -> Intervals:
    """The intervals of AUPRC and of recall at precision .99 (:data:`FIGURES`) of each score and of each pair.

    Args:
        labels: (n,), 1 for true alleles and 0 for false ones.
        scores: By name, float64 (n,) each, higher is better; NaN if missing.
        blocks: int64 (n,), the number of each allele's block of the genome.
        pairs: Of scores' names, (first, second), whose difference gets an interval.
        n_replicates: How many times to draw.
        seed: The same seed gives the same intervals.

    Returns:
        The intervals; empty with fewer than two blocks or only one class. Draws that miss a class are left out.
    """
    # This import loads numba; a training draws nothing and should not wait for it.
    from cnnspark.evaluation.bootstrap_kernel import drawn_figures

    labels = np.asarray(labels)
    if not two_classes(labels):
        return Intervals()
    numbers = np.unique(np.asarray(blocks), return_inverse=True)[1].reshape(-1)
    n_true, n_false = np.bincount(numbers, labels == TRUE_VARIANT), np.bincount(numbers, labels == FALSE_VARIANT)
    rankings = {name: _ranked(labels, values, numbers) for name, values in scores.items()}
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in scores}
    for drawn in draws(len(n_true), n_replicates, seed):
        if drawn @ n_true and drawn @ n_false:
            for name, ranking in rankings.items():
                values[name].append(drawn_figures(*ranking, drawn, PRECISION))
    # A draw has both classes for all scores or for none.
    columns = {name: np.array(rows).reshape(-1, len(FIGURES)) for name, rows in values.items()}  # (draws, figures)
    differences = {(first, second): columns[second] - columns[first] for first, second in pairs}
    return Intervals(
        {name: _intervals(rows) for name, rows in columns.items()},
        {pair: _intervals(rows) for pair, rows in differences.items()},
    )


def _ranked(labels: np.ndarray, scores: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The alleles from best to worst: their blocks (int64), whether they are true, their places (int8); (n,) each."""
    ranking = Ranking(labels, scores)
    return numbers[ranking.order], labels[ranking.order] == TRUE_VARIANT, ranking.places()


def _intervals(rows: np.ndarray) -> dict[str, Interval]:
    found = {figure: interval_of(rows[:, i]) for i, figure in enumerate(FIGURES)}
    return {figure: interval for figure, interval in found.items() if interval is not None}
