"""Histograms of annotations and site features: bin edges from quantiles, and how many values are in each bin.

Three modules build on them: a dataset's card shows each column (:mod:`cnnspark.tensors.dataset_card`), a model's card
keeps what a callset is compared with (:mod:`cnnspark.models.input_drift`), and networks encode numbers by quantiles
(:mod:`cnnspark.models.spec`). NaN is a missing value, and infinite values count as missing. No Spark, no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Histogram:
    """How many values of one annotation or site feature are in each bin.

    Attributes:
        name: Name of the annotation or site feature.
        edges: Ascending, distinct edges of the bins; empty if every value was missing when they were chosen.
        counts: Number of missing values, of values below the first edge, of values in each bin, and of values above the
            last edge (:func:`cell_count` numbers). A bin includes its lower edge, the last bin both of its edges. A
            single edge is a bin of one value.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def missing_share(self) -> float:
        """Share of the values that are missing, 0 to 1."""
        return self.counts[0] / max(1, sum(self.counts))


def finite_values(column: np.ndarray) -> np.ndarray:
    """The values of ``column`` (n,) that are there, float64 (m,)."""
    return column[np.isfinite(column)].astype(np.float64)


def bin_edges(column: np.ndarray, bins: int) -> np.ndarray:
    """The edges of bins that hold about equally many values.

    Args:
        column: (n,), NaN where missing.
        bins: Number of bins; fewer come out if values repeat.

    Returns:
        Distinct quantiles in steps of 1 / ``bins``, float64, at most ``bins`` + 1; empty if every value is missing.
    """
    seen = finite_values(column)
    return np.unique(np.quantile(seen, np.linspace(0, 1, bins + 1))) if len(seen) else np.zeros(0)


def capped_bin_edges(column: np.ndarray, bins: int, most_of_a_bin: float) -> np.ndarray:
    """The edges of bins that hold about equally many values, when no single value may fill a bin.

    Many features have one value nearly everywhere: plain quantiles would give all bins to it.

    Args:
        column: (n,), NaN where missing.
        bins: Number of bins; fewer come out if there are few distinct values.
        most_of_a_bin: The most that one distinct value counts, as a share of a bin.

    Returns:
        The least and the greatest value, and between them quantiles of the distinct values, each of which weighs as
        often as it occurs, up to the cap. Ascending and distinct, of the dtype of ``column``, at most ``bins`` + 1;
        empty if every value is missing.
    """
    seen = column[np.isfinite(column)]
    if not len(seen):
        return seen
    distinct, occurrences = np.unique(seen, return_counts=True)
    weights = np.minimum(occurrences, max(1.0, len(seen) * most_of_a_bin / bins))
    # The smallest values at which the summed weight reaches each step; the margin is for the rounding of the sums.
    steps = np.arange(1, bins) / bins - 1e-12
    inner = distinct[np.searchsorted(np.cumsum(weights) / weights.sum(), steps)]
    return np.unique(np.concatenate([distinct[:1], inner, distinct[-1:]]))


def count_half_open(column: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts the values between edges; each interval includes its lower edge alone.

    Args:
        column: (n,), NaN where missing.
        edges: (E,), ascending and distinct.

    Returns:
        int64 (E + 1,): values below the first edge, in each interval between neighbouring edges, and at or above the
        last edge. Without edges all values that are not missing.
    """
    return np.bincount(np.searchsorted(edges, finite_values(column), side="right"), minlength=len(edges) + 1)


def count_cells(column: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts the values in the cells of a :class:`Histogram`.

    Args:
        column: (n,), NaN where missing.
        edges: (E,), ascending and distinct.

    Returns:
        int64 (:func:`cell_count` of the edges,), as :attr:`Histogram.counts`.
    """
    between = count_half_open(column, edges)
    cells = np.zeros(cell_count(edges), np.int64)
    cells[0] = len(column) - between.sum()
    if not len(edges):
        cells[-1] = between[0]
        return cells
    cells[1 : len(between)] = between[:-1]
    # The last bin includes the last edge.
    at_last = np.count_nonzero(column.astype(np.float64) == edges[-1])
    cells[-2] += at_last
    cells[-1] = between[-1] - at_last
    return cells


def cell_count(edges: Sequence[float] | np.ndarray) -> int:
    """Number of counts in a :class:`Histogram` with these edges: missing, below, the bins, above."""
    return max(1, len(edges) - 1) + 3 if len(edges) else 3
