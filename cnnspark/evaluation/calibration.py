"""How far a score's probabilities can be believed: equally wide bins, and the share of alleles that are true in each.

The metrics (:func:`calibration_figures`), the table (:func:`cnnspark.evaluation.threshold_tables.calibration_table`)
and the report's picture (:func:`reliability`) take their bins from here.

The share of a bin has one of two 95% intervals:

- **By blocks** (:func:`share_intervals`), in ``calibration.tsv`` and ``metrics.json``: blocks of the genome are drawn
  with replacement, as for every other figure in those files. It allows for neighbours that share reads, and it needs
  the positions of the alleles.
- **Wilson's** (:func:`wilson_interval`), in ``pictures.json`` and the report: it takes the alleles as independent, so
  it is slightly too narrow. But each point of the picture has its bar: drawing blocks gives no interval for a callset
  within a single block, and one of no width for a bin of a single allele.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.evaluation.bootstrap import Interval, draws, interval_of
from cnnspark.variants.alleles import TRUE_VARIANT
from cnnspark.variants.score_fields import probability_of_score

N_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """One bin of probabilities: what was predicted, what is true, with Wilson's 95% interval."""

    predicted: float  # mean
    true: float  # share
    low: float
    high: float
    alleles: int


def bin_numbers(probabilities: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """The number of each probability's bin, from 0.

    Args:
        probabilities: float64 (n,), each between 0 and 1.
        n_bins: How many bins, equally wide; the last one also holds 1.

    Returns:
        int64 (n,).
    """
    return np.minimum((probabilities * n_bins).astype(np.int64), n_bins - 1)


def calibration_figures(
    labels: np.ndarray, probabilities: np.ndarray, n_bins: int = N_BINS
) -> tuple[float | None, float | None]:
    """Brier score and expected calibration error; both None without alleles.

    The error is the mean over the bins, weighted by their alleles, of |share of true alleles - mean probability|
    (Naeini et al. 2015, AAAI 29).

    Args:
        labels: (n,), 0 or 1.
        probabilities: (n,), between 0 and 1; alleles with NaN are left out.
        n_bins: How many bins, equally wide.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    known = ~np.isnan(probabilities)
    labels, probabilities = labels[known].astype(np.float64), probabilities[known]
    if not len(labels):
        return None, None
    bins = bin_numbers(probabilities, n_bins)
    excess = np.bincount(bins, weights=labels - probabilities, minlength=n_bins)  # share minus mean, times alleles
    return float(np.mean((probabilities - labels) ** 2)), float(np.abs(excess).sum() / len(labels))


def reliability(labels: np.ndarray, scores: np.ndarray, n_bins: int = N_BINS) -> tuple[Reliability, ...]:
    """Predicted and real shares of true alleles by bin, of the bins that hold an allele.

    Args:
        labels: (n,), 0 or 1.
        scores: float64 (n,), log odds; alleles with NaN are left out.
        n_bins: How many bins, equally wide.
    """
    known = ~np.isnan(scores)
    true, probabilities = labels[known] == TRUE_VARIANT, probability_of_score(scores[known])
    bins = bin_numbers(probabilities, n_bins)
    found = []
    for number in np.unique(bins):
        chosen = bins == number
        n, n_true = int(chosen.sum()), int(true[chosen].sum())
        low, high = wilson_interval(n_true, n)
        found.append(Reliability(float(probabilities[chosen].mean()), n_true / n, low, high, n))
    return tuple(found)


def wilson_interval(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% interval of a share of ``n`` independent draws (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Alleles that share reads are not independent, so it is slightly too narrow for them. (0, 1) if ``n`` is 0.
    """
    if not n:
        return 0.0, 1.0
    share, spread = successes / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # At shares of 0 and 1 rounding may leave the share itself just outside.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def share_intervals(
    bins: np.ndarray, true: np.ndarray, blocks: np.ndarray, n_bins: int, n_replicates: int, seed: int
) -> Sequence[Interval | None]:
    """The 95% interval of each bin's share of true alleles, by drawing blocks of the genome with replacement.

    Args:
        bins: int64 (n,), the number of each allele's bin.
        true: float64 (n,), 1 for true alleles and 0 for false ones.
        blocks: int64 (n,), the number of each allele's block, 0, 1, ...
        n_bins: How many bins there are.
        n_replicates: How many times to draw.
        seed: Of the draws; the same seed gives the same intervals.

    Returns:
        An interval for each bin; None for a bin that is empty in every draw, and for all if there is only one block.
    """
    n_blocks = int(blocks.max(initial=-1)) + 1
    cells, size = blocks * n_bins + bins, n_blocks * n_bins
    # Alleles and true alleles of each block and bin: (blocks, bins).
    alleles, true_alleles = (np.bincount(cells, w, size).reshape(n_blocks, n_bins) for w in (None, true))
    shares: list[list[float]] = [[] for _ in range(n_bins)]
    for drawn in draws(n_blocks, n_replicates, seed):
        in_bin, true_in_bin = drawn @ alleles, drawn @ true_alleles
        for k in np.flatnonzero(in_bin):
            shares[k].append(float(true_in_bin[k] / in_bin[k]))
    return [interval_of(values) for values in shares]
