"""The figures of one draw of the bootstrap, compiled."""

from __future__ import annotations

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.evaluation.ranking import THRESHOLD, WITHIN_TIE


@jit
def drawn_figures(blocks, true, places, drawn, wanted):
    """AUPRC and recall at a precision, with each allele counted as often as its block was drawn.

    One pass over the alleles: a few nanoseconds per allele and draw. :class:`cnnspark.evaluation.ranking.Ranking`
    with the draws as weights gives the same figures, written for reading.

    Args:
        blocks: int64 (n,), each allele's block, from the highest to the lowest score.
        true: bool (n,), whether each allele is true.
        places: int8 (n,), as :meth:`cnnspark.evaluation.ranking.Ranking.places` gives them.
        drawn: int64 (n_blocks,), how often each block was drawn.
        wanted: The precision at which recall is taken.

    Returns:
        AUPRC, and the highest recall of any threshold with at least this precision (0 without such a threshold).
    """
    kept = kept_true = last = reached = np.int64(0)
    area = 0.0
    for i in range(len(blocks)):
        times = drawn[blocks[i]]
        kept += times
        if true[i]:
            kept_true += times
        if places[i] != WITHIN_TIE and kept > 0:
            precision = kept_true / kept
            area += (kept_true - last) * precision
            last = kept_true
            if places[i] == THRESHOLD and precision >= wanted:
                reached = kept_true
    return area / kept_true, reached / kept_true
