"""Measures scores against a truth: precision and recall, intervals, strata, calibration, counts of a callset.

:func:`evaluate_scores` gives all metrics of an :class:`AlleleScores` table by group and score, :func:`metric_pairs`
those of one score. These names are loaded when they are first used: training measures too often to wait for more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnspark.evaluation.metrics import AlleleScores, Metrics, evaluate_scores, metric_pairs

__all__ = ["AlleleScores", "Metrics", "evaluate_scores", "metric_pairs"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cnnspark.evaluation' has no attribute '{name}'")
    from cnnspark.evaluation import metrics

    return getattr(metrics, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
