"""Precision, recall and the areas under their curves: alleles sorted once, then linear in their number.

Weights say how often an allele was drawn (:mod:`cnnspark.evaluation.bootstrap`) or how much its class counts (balanced
figures).

scikit-learn has most of these figures, and the tests measure by it; but loading it, with SciPy and pandas, takes more
processor time than a callset's figures, and each replica of a training and each command would pay for it.
"""

from __future__ import annotations

import numpy as np

from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT


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


# What an allele's place in a ranking is: another of its tie follows, or it is the tie's last. Those without a score are
# a tie that is no threshold.
WITHIN_TIE, END_OF_TIE, THRESHOLD = range(3)


class Ranking:
    """The alleles of one score, best first.

    Figures take weights (n,) in the order that the labels came in; without them each allele counts once. They are None
    where only one class has weight. A threshold is a score that an allele has, so that alleles of equal scores are kept
    or left together, and those without a score are never kept.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray):
        labels, finite = checked(labels, scores)
        # The alleles' numbers, best first.
        self.order = np.argsort(-finite, kind="stable")
        self._true = labels[self.order].astype(np.float64)
        ranked = finite[self.order]
        self._last_of_tie = np.flatnonzero(np.diff(ranked, append=np.inf))
        missing = np.isnan(np.asarray(scores, np.float64))[self.order]
        # Those without a score are all of one tie, the last.
        self._n_thresholds = len(self._last_of_tie) - int(missing[-1:].any())
        self._thresholds = ranked[self._last_of_tie[: self._n_thresholds]]

    def places(self) -> np.ndarray:
        """What each allele's place is, int8 (n,), best first: WITHIN_TIE, END_OF_TIE or THRESHOLD."""
        places = np.full(len(self.order), WITHIN_TIE, np.int8)
        places[self._last_of_tie] = END_OF_TIE
        places[self._last_of_tie[: self._n_thresholds]] = THRESHOLD
        return places

    def counts(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The weight of the false and of the true alleles that are kept at each distinct score, best first.

        Those without a score count as one more, the lowest.
        """
        ordered = np.ones(len(self.order)) if weights is None else weights[self.order]
        true = np.cumsum(ordered * self._true)[self._last_of_tie]
        return np.cumsum(ordered)[self._last_of_tie] - true, true

    def curve(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Precision and recall at each distinct score, as :meth:`counts`."""
        false, true = self.counts(weights)
        if not (len(true) and true[-1] > 0 and false[-1] > 0):
            return None
        return _shares(true, false + true), true / true[-1]

    def operating_points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision, recall and threshold of every threshold, best first; empty where there is no true allele."""
        false, true = self.counts()
        if not (len(true) and true[-1] > 0):
            return np.empty(0), np.empty(0), np.empty(0)
        n = self._n_thresholds
        return _shares(true, false + true)[:n], (true / true[-1])[:n], self._thresholds

    def auprc(self, weights: np.ndarray | None = None) -> float | None:
        """Average precision, as scikit-learn's with ``sample_weight``."""
        curve = self.curve(weights)
        return None if curve is None else float(np.sum(np.diff(curve[1], prepend=0.0) * curve[0]))

    def auroc(self) -> float | None:
        """Area under the ROC curve, the share of pairs of a true and a false allele that are in order."""
        false, true = self.counts()
        if not (len(true) and true[-1] > 0 and false[-1] > 0):
            return None
        # Of a tie's pairs half: the trapezoids below the curve.
        above = np.append(0.0, true[:-1]) + true
        return float(np.sum(np.diff(false, prepend=0.0) * above) / (2 * true[-1] * false[-1]))

    def recall_at_precision(self, precision: float, weights: np.ndarray | None = None) -> float | None:
        """The most recall of any threshold that has at least this precision, 0 without one."""
        curve = self.curve(weights)
        return None if curve is None else self._best(curve[1], curve[0] >= precision)

    def precision_at_recall(self, recall: float, weights: np.ndarray | None = None) -> float | None:
        """The highest precision of any threshold with at least this recall, 0 without one."""
        curve = self.curve(weights)
        return None if curve is None else self._best(curve[0], curve[1] >= recall)

    def _best(self, figure: np.ndarray, good: np.ndarray) -> float:
        n = self._n_thresholds
        return float(figure[:n][good[:n]].max(initial=0.0))


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The part of the whole; 0 of nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
