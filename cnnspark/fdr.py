"""The threshold for an expected false discovery rate, from the calibrated probabilities of a callset's own scores.

A score s = ln((p + e) / (1 - p + e)) says p, the probability that the allele is real. Of the alleles that a threshold
lets pass, the sum of 1 - p is the expected number of false ones, and its mean over them the expected false discovery
rate: the posterior error probabilities averaged over those taken (Newton et al. 2004, Biostatistics 5:155, the direct
posterior probability approach; Käll et al. 2008, J. Proteome Res. 7:40). It holds as far as the probabilities do: they
were calibrated on the model's validation alleles, and a callset with another share of true ones bends them.
"""

from __future__ import annotations

import numpy as np

from cnnspark.metrics import probability_of_score
from cnnspark.score_counts import ScoreCounts


def expected_fdr(scores: ScoreCounts) -> np.ndarray:
    """The expected false discovery rate with each of the scores as the threshold: float64 (n,), scores ascending.

    An allele passes at the threshold or above. The rate falls, or stays, as the threshold rises.
    """
    false = scores.counts * (1.0 - probability_of_score(scores.values))
    return (np.cumsum(false[::-1]) / np.cumsum(scores.counts[::-1]))[::-1]


def fdr_threshold(scores: ScoreCounts, wanted: float) -> float | None:
    """The lowest score at which the expected false discovery rate is no more than ``wanted``; None where there is none.

    It is the threshold that lets the most alleles pass.
    """
    fits = np.flatnonzero(expected_fdr(scores) <= wanted)
    return float(scores.values[fits[0]]) if len(fits) else None
