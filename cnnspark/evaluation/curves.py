"""What a report draws of labelled alleles, as plain numbers: curves, operating points, histograms and reliability.

There may be millions of alleles; a curve is a few hundred points, so that it can be stored beside the metrics and drawn
again without the callset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnnspark.evaluation.calibration import Reliability, reliability
from cnnspark.evaluation.metrics import GROUPS, AlleleScores, thresholds_by_precision
from cnnspark.evaluation.ranking import Ranking
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT
from cnnspark.variants.score_fields import is_log_odds

MAX_POINTS = 300
HISTOGRAM_BINS = 40
# The highest and the lowest half per cent of the scores are drawn at the histogram's edges.
_EDGE_PERCENT = 0.5
# Precisions whose thresholds are marked on the curves.
MARKED = (0.90, 0.99)


@dataclass(frozen=True)
class Mark:
    """The point of a threshold on the curves."""

    precision_wanted: float
    threshold: float
    precision: float
    recall: float
    false_kept: float  # share of the false alleles


@dataclass(frozen=True)
class ScoreCurves:
    """The points of one score's curves for one group of alleles.

    ``precision`` over ``recall`` with thresholds ascending; ``true_kept`` over ``false_kept`` with thresholds
    descending.
    """

    recall: tuple[float, ...]
    precision: tuple[float, ...]
    false_kept: tuple[float, ...]
    true_kept: tuple[float, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Histogram:
    """Alleles by score: ``edges`` of b bins (b + 1), and the counts (b) of true and of false alleles."""

    edges: tuple[float, ...]
    true: tuple[int, ...]
    false: tuple[int, ...]
    median_true: float | None
    median_false: float | None


@dataclass(frozen=True)
class Curves:
    """Everything that a report draws of labelled alleles."""

    n_true: int
    n_false: int
    prevalence: dict[str, float]  # by group, of groups with both labels
    groups: dict[str, dict[str, ScoreCurves]]  # by group and score
    histograms: dict[str, Histogram]  # by score
    reliability: dict[str, tuple[Reliability, ...]]  # by score, of those that are log odds
    regions: tuple[str, ...] = ()  # that were compared with the truth; empty: all

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Curves:
        """Reads what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: If the values are something else.
        """

        def score_curves(of: Mapping[str, Any]) -> ScoreCurves:
            columns = {name: tuple(map(float, of[name])) for name in _CURVE_COLUMNS}
            return ScoreCurves(**columns, marks=tuple(Mark(**mark) for mark in of["marks"]))

        def histogram(of: Mapping[str, Any]) -> Histogram:
            columns = {name: tuple(of[name]) for name in ("edges", "true", "false")}
            if not len(columns["edges"]) - 1 == len(columns["true"]) == len(columns["false"]):
                raise ValueError("a histogram's counts are not one for each bin")
            return Histogram(**columns, median_true=of["median_true"], median_false=of["median_false"])

        return Curves(
            int(values["n_true"]),
            int(values["n_false"]),
            {group: float(share) for group, share in values["prevalence"].items()},
            {g: {s: score_curves(of) for s, of in by_score.items()} for g, by_score in values["groups"].items()},
            {score: histogram(of) for score, of in values["histograms"].items()},
            {score: tuple(Reliability(**each) for each in of) for score, of in values["reliability"].items()},
            tuple(map(str, values["regions"])),
        )


_CURVE_COLUMNS = ("recall", "precision", "false_kept", "true_kept")


def draw_curves(alleles: AlleleScores, regions: Sequence[str] = ()) -> Curves:
    """The curves of each group and score, from the alleles whose label is known.

    Args:
        alleles: Groups with only one class have no curves.
        regions: The regions that were compared with the truth, as the user gave them; empty: all.
    """
    known = alleles.labelled()
    groups: dict[str, dict[str, ScoreCurves]] = {}
    prevalence = {}
    for group in GROUPS:
        part = known.group(group)
        if len(np.unique(part.label)) < 2 or not part.scores:
            continue
        prevalence[group] = float(np.mean(part.label == TRUE_VARIANT))
        groups[group] = {name: _score_curves(part.label, values) for name, values in part.scores.items()}
    histograms = {name: _histogram(values, known.label) for name, values in known.scores.items()}
    return Curves(
        n_true=int((known.label == TRUE_VARIANT).sum()),
        n_false=int((known.label == FALSE_VARIANT).sum()),
        prevalence=prevalence,
        groups=groups,
        histograms={name: found for name, found in histograms.items() if found},
        reliability={n: reliability(known.label, of) for n, of in known.scores.items() if is_log_odds(n)},
        regions=tuple(regions),
    )


def _score_curves(label: np.ndarray, scores: np.ndarray) -> ScoreCurves:
    precision, recall, false_rate, true_rate = _points(label, scores)
    chosen, chosen_roc = _thinned(len(recall)), _thinned(len(false_rate))
    marks = []
    for wanted, point in thresholds_by_precision(label, scores, MARKED).items():
        if point is not None:
            kept = scores[label == FALSE_VARIANT] >= point.threshold
            marks.append(Mark(wanted, point.threshold, point.precision, point.recall, float(np.mean(kept))))
    return ScoreCurves(
        _rounded(recall[chosen]),
        _rounded(precision[chosen]),
        _rounded(false_rate[chosen_roc]),
        _rounded(true_rate[chosen_roc]),
        tuple(marks),
    )


def _points(label: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The points of both curves; missing scores rank lowest.

    Returns:
        Precision and recall, from a recall of 1 down to 0; the shares of false and of true alleles kept, from 0 up
        to 1, at the corners of that curve.
    """
    ranking = Ranking(label, scores)
    false, true = (np.append(0.0, kept) for kept in ranking.counts())
    # The first points of the curve may come from a handful of alleles; they are drawn all the same.
    precision = np.append(1.0, true[1:] / (false + true)[1:])
    # A point between two steps in the same direction is no corner.
    corner = np.concatenate([[True], (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0), [True]])
    return precision[::-1], true[::-1] / true[-1], false[corner] / false[-1], true[corner] / true[-1]


def _thinned(n: int) -> np.ndarray:
    """The numbers of the points to draw, of ``n``: always the first and the last."""
    return np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(np.int64))


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.round(values, 5).tolist())


def _histogram(values: np.ndarray, label: np.ndarray) -> Histogram | None:
    """The scores of true and of false alleles in bins; None if no score is finite."""
    finite = np.isfinite(values)
    if not finite.any():
        return None
    low, high = np.percentile(values[finite], [_EDGE_PERCENT, 100 - _EDGE_PERCENT])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    counts, medians = {}, {}
    for wanted in (TRUE_VARIANT, FALSE_VARIANT):
        chosen = values[finite & (label == wanted)]
        counts[wanted] = tuple(np.histogram(np.clip(chosen, low, high), edges)[0].tolist())
        medians[wanted] = float(np.median(chosen)) if len(chosen) else None
    return Histogram(
        tuple(edges.tolist()),
        counts[TRUE_VARIANT],
        counts[FALSE_VARIANT],
        medians[TRUE_VARIANT],
        medians[FALSE_VARIANT],
    )
