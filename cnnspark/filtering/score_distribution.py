"""The distribution of a callset's scores, and the threshold for an expected false discovery rate.

A score s = ln((p + e) / (1 - p + e)) says p, the probability that the allele is real. Of the alleles above a threshold
the sum of 1 - p is the expected number of false ones, and its mean is the expected false discovery rate: the posterior
error probabilities averaged over the alleles that pass (Newton et al. 2004, Biostatistics 5:155, the direct posterior
probability approach; Käll et al. 2008, J. Proteome Res. 7:40). It holds as far as the probabilities do: they were
calibrated on the model's validation alleles, so a callset with another share of true alleles shifts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.variants.score_fields import probability_of_score


def expected_fdr(scores: ScoreCounts) -> np.ndarray:
    """The expected false discovery rate with each of the scores as the threshold: float64 (n,), scores ascending.

    An allele passes at the threshold or above. The rate falls, or stays, as the threshold rises.
    """
    false = scores.counts * (1.0 - probability_of_score(scores.values))
    return (np.cumsum(false[::-1]) / np.cumsum(scores.counts[::-1]))[::-1]


def fdr_threshold(scores: ScoreCounts, wanted: float) -> float | None:
    """The lowest score whose expected false discovery rate is at most ``wanted``, or None if no score has such a rate.

    It is the threshold that lets the most alleles pass.
    """
    fits = np.flatnonzero(expected_fdr(scores) <= wanted)
    return float(scores.values[fits[0]]) if len(fits) else None


@dataclass(frozen=True)
class ScoreCounts:
    """How often each score was seen."""

    values: np.ndarray  # (n,) float64, distinct, ascending, none of them NaN
    counts: np.ndarray  # (n,) int64, each 1 or more

    @staticmethod
    def of(scores: Iterable[float]) -> ScoreCounts:
        """Counts the scores."""
        values, counts = np.unique(np.fromiter(scores, np.float64), return_counts=True)
        return ScoreCounts(values, counts.astype(np.int64))

    @staticmethod
    def merged(parts: Sequence[ScoreCounts]) -> ScoreCounts:
        """All parts together; their order does not matter."""
        if not parts:
            return ScoreCounts.of(())
        values, where = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.concatenate([part.counts for part in parts]))
        return ScoreCounts(values, counts)

    @property
    def total(self) -> int:
        """The number of scores, equal ones counted each."""
        return int(self.counts.sum())

    def from_top(self, rank: int) -> float:
        """The score at a rank, from 0, in the descending list of all scores.

        Raises:
            IndexError: the list is shorter.
        """
        if not 0 <= rank < self.total:
            raise IndexError(rank)
        from_top = np.cumsum(self.counts[::-1])
        return float(self.values[::-1][np.searchsorted(from_top, rank, side="right")])
