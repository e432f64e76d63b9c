"""Measures scores against a truth: precision and recall, intervals, strata, calibration, counts of a callset.

:func:`evaluate_scores` gives all metrics of an :class:`AlleleScores` table by group and score, :func:`metric_pairs`
those of one score. These names are loaded when they are first used: training measures too often to wait for more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.evaluation.metrics import AlleleScores, Metrics, evaluate_scores, metric_pairs

__all__ = ["AlleleScores", "Metrics", "evaluate_scores", "metric_pairs"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AlleleScores": ".metrics",
        "Metrics": ".metrics",
        "evaluate_scores": ".metrics",
        "metric_pairs": ".metrics",
    },
)
