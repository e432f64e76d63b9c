"""Precision, recall and the areas under their curves: alleles are sorted once, each figure is one pass over them.

Weights say how often an allele was drawn (:mod:`cnnspark.evaluation.bootstrap`) or how much its class counts (balanced
figures).

scikit-learn has most of these figures, and the tests compare with it. But loading it, with SciPy and pandas, takes more
processor time than the figures of a callset, and each replica of a training and each command would pay for it.
"""

from __future__ import annotations

import numpy as np

from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT


def checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and finite scores that rank like the given ones.

    Args:
        labels: (n,), 0 or 1.
        scores: (n,); infinite ones are moved just outside the finite scores, NaN below all others.

    Returns:
        int64 (n,) and float64 (n,).

    Raises:
        ValueError: If they are not columns of one length, or a label is neither 0 nor 1.
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
    """Whether both true and false alleles are among ``labels``, (n,)."""
    return bool(len(labels)) and bool(labels.min() != labels.max())


def balancing_weights(labels: np.ndarray) -> np.ndarray:
    """Weights, float64 (n,), that give true and false alleles the same sum.

    They are whole numbers, so that sums are exact and a recall of .9 compares as .9.
    """
    true = np.asarray(labels) == TRUE_VARIANT
    return np.where(true, float((~true).sum()), float(true.sum()))


# An allele's place in a ranking: another one with the same score follows; it is the last one with its score, which is
# not a threshold (alleles without a score); or it is the last one with a score that is a threshold.
WITHIN_TIE, END_OF_TIE, THRESHOLD = range(3)


class Ranking:
    """The alleles of one score, best first.

    Figures take weights (n,) in the order of the labels; without weights each allele counts once. They are None if only
    one class has weight. A threshold is a score that an allele has: alleles with equal scores are kept or dropped
    together, and those without a score are never kept.

    Attributes:
        order: int64 (n,), the alleles' numbers, best first.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray):
        """Sorts the alleles.

        Args:
            labels: (n,), 1 for true alleles and 0 for false ones.
            scores: float64 (n,), higher is better; NaN ranks lowest.

        Raises:
            ValueError: If they are not columns of one length, or a label is neither 0 nor 1.
        """
        labels, finite = checked(labels, scores)
        self.order = np.argsort(-finite, kind="stable")
        self._true = labels[self.order].astype(np.float64)
        ranked = finite[self.order]
        self._last_of_tie = np.flatnonzero(np.diff(ranked, append=np.inf))
        missing = np.isnan(np.asarray(scores, np.float64))[self.order]
        # Those without a score are one tie, the last.
        self._n_thresholds = len(self._last_of_tie) - int(missing[-1:].any())
        self._thresholds = ranked[self._last_of_tie[: self._n_thresholds]]

    def places(self) -> np.ndarray:
        """Each allele's place, int8 (n,), best first: WITHIN_TIE, END_OF_TIE or THRESHOLD."""
        places = np.full(len(self.order), WITHIN_TIE, np.int8)
        places[self._last_of_tie] = END_OF_TIE
        places[self._last_of_tie[: self._n_thresholds]] = THRESHOLD
        return places

    def counts(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The weights of the false and of the true alleles that are kept at each distinct score, best first.

        Alleles without a score count as one more distinct score, the lowest.

        Returns:
            Two columns, float64 (distinct scores,).
        """
        ordered = np.ones(len(self.order)) if weights is None else weights[self.order]
        true = np.cumsum(ordered * self._true)[self._last_of_tie]
        return np.cumsum(ordered)[self._last_of_tie] - true, true

    def curve(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Precision and recall at each distinct score, best first, as for :meth:`counts`; None with one class."""
        false, true = self.counts(weights)
        if not (len(true) and true[-1] > 0 and false[-1] > 0):
            return None
        return _shares(true, false + true), true / true[-1]

    def operating_points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision, recall and score of every threshold, best first: float64 (thresholds,) each.

        Empty without true alleles.
        """
        false, true = self.counts()
        if not (len(true) and true[-1] > 0):
            return np.empty(0), np.empty(0), np.empty(0)
        n = self._n_thresholds
        return _shares(true, false + true)[:n], (true / true[-1])[:n], self._thresholds

    def auprc(self, weights: np.ndarray | None = None) -> float | None:
        """Average precision, as scikit-learn's ``average_precision_score`` with ``sample_weight``."""
        curve = self.curve(weights)
        return None if curve is None else float(np.sum(np.diff(curve[1], prepend=0.0) * curve[0]))

    def auroc(self) -> float | None:
        """Area under the ROC curve: the share of pairs of a true and a false allele that are ranked correctly."""
        false, true = self.counts()
        if not (len(true) and true[-1] > 0 and false[-1] > 0):
            return None
        # Pairs within a tie count half: trapezoids below the curve.
        above = np.append(0.0, true[:-1]) + true
        return float(np.sum(np.diff(false, prepend=0.0) * above) / (2 * true[-1] * false[-1]))

    def recall_at_precision(self, precision: float, weights: np.ndarray | None = None) -> float | None:
        """The most recall of any threshold with at least this precision; 0 if there is none."""
        curve = self.curve(weights)
        return None if curve is None else self._best(curve[1], curve[0] >= precision)

    def precision_at_recall(self, recall: float, weights: np.ndarray | None = None) -> float | None:
        """The highest precision of any threshold with at least this recall; 0 if there is none."""
        curve = self.curve(weights)
        return None if curve is None else self._best(curve[0], curve[1] >= recall)

    def _best(self, figure: np.ndarray, good: np.ndarray) -> float:
        n = self._n_thresholds
        return float(figure[:n][good[:n]].max(initial=0.0))


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part over whole, element by element; 0 if the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
