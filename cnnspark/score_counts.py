"""Scores as distinct values with their numbers: what a first pass over a callset brings to the driver.

A model's scores have three decimals, so there are at most 32,237 different ones however large the callset is. Of other
keys there may be as many as records, 16 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoreCounts:
    """How often each score was seen."""

    values: np.ndarray  # (n,) float64, distinct, ascending, none of them NaN
    counts: np.ndarray  # (n,) int64, each 1 or more

    @staticmethod
    def of(scores: Iterable[float]) -> ScoreCounts:
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
        """The score with this number, from 0, in the descending list of all. Raises IndexError beyond its end."""
        if not 0 <= rank < self.total:
            raise IndexError(rank)
        from_top = np.cumsum(self.counts[::-1])
        return float(self.values[::-1][np.searchsorted(from_top, rank, side="right")])
