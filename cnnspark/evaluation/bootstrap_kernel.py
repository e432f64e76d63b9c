"""The figures of one draw of the bootstrap, compiled."""

from __future__ import annotations

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.evaluation.ranking import THRESHOLD, WITHIN_TIE


@jit
def drawn_figures(blocks, true, places, drawn, wanted):
    """AUPRC, and the most recall at a precision of ``wanted``, of alleles whose blocks were drawn so often.

    One pass, so that a draw costs some nanoseconds an allele; :class:`cnnspark.evaluation.ranking.Ranking` is the same
    in plain sight.
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
