"""Precision and recall under weights of the alleles: sorted once, then linear in their number.

Weights say how often an allele was drawn (:mod:`cnnspark.bootstrap`) or how much its class counts (balanced figures).
"""

from __future__ import annotations

import numpy as np

from cnnspark.schema import FALSE_VARIANT, TRUE_VARIANT


def checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 labels and finite scores; NaN below the lowest, infinities just outside the finite ones.

    Raises ValueError where they are no columns of one length, or a label is neither 0 nor 1.
    """
    labels, scores = np.asarray(labels).astype(np.int64), np.array(scores, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be one column each, of one length")
    if not np.isin(labels, (FALSE_VARIANT, TRUE_VARIANT)).all():
        raise ValueError("labels must be 0 or 1; leave alleles of unknown label out")
    finite = scores[np.isfinite(scores)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    scores[np.isposinf(scores)] = high + 1
    scores[np.isneginf(scores)] = low - 1
    scores[np.isnan(scores)] = low - 2
    return labels, scores


def two_classes(labels: np.ndarray) -> bool:
    """Whether there are true and false alleles."""
    return bool(len(labels)) and bool(labels.min() != labels.max())


def balancing_weights(labels: np.ndarray) -> np.ndarray:
    """Weights, float64 (n,), that make true and false alleles count the same in sum.

    Whole numbers, so that their sums are exact and a recall of .9 is one.
    """
    true = np.asarray(labels) == TRUE_VARIANT
    return np.where(true, float((~true).sum()), float(true.sum()))


class WeightedRanking:
    """The alleles of one score, best first; each figure takes weights (n,) in the order that the labels came in."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray):
        labels, finite = checked(labels, scores)
        self._order = np.argsort(-finite, kind="stable")
        self._true = labels[self._order].astype(np.float64)
        ranked = finite[self._order]
        self._last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        missing = np.isnan(np.asarray(scores, np.float64))[self._order]
        # A threshold keeps no allele without a score. They are all of one tie, the last.
        self._thresholds = len(self._last_of_tie) - int(missing[-1:].any())

    def curve(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Precision and recall at each distinct score, best first; None where only one class has weight."""
        weights = weights[self._order]
        kept = np.cumsum(weights)[self._last_of_tie]
        true = np.cumsum(weights * self._true)[self._last_of_tie]
        if not 0 < true[-1] < kept[-1]:
            return None
        precision = np.divide(true, kept, out=np.zeros_like(true), where=kept > 0)
        return precision, true / true[-1]

    def auprc(self, weights: np.ndarray) -> float | None:
        """Average precision, as scikit-learn's with ``sample_weight``; None where only one class has weight."""
        curve = self.curve(weights)
        return None if curve is None else float(np.sum(np.diff(curve[1], prepend=0.0) * curve[0]))

    def recall_at_precision(self, weights: np.ndarray, precision: float) -> float | None:
        """The most recall of any threshold that has at least this precision, 0 without one; None as of the others."""
        curve = self.curve(weights)
        if curve is None:
            return None
        good = curve[0][: self._thresholds] >= precision
        return float(curve[1][: self._thresholds][good].max(initial=0.0))

    def precision_at_recall(self, weights: np.ndarray, recall: float) -> float | None:
        """The highest precision of any threshold with at least this recall, 0 without one; None as of the others."""
        curve = self.curve(weights)
        if curve is None:
            return None
        good = curve[1][: self._thresholds] >= recall
        return float(curve[0][: self._thresholds][good].max(initial=0.0))
