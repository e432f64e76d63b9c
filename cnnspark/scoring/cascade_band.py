"""The band of a cascade: which alleles a first model may score alone without the second's figures getting worse.

An allele whose calibrated probability by the first model is inside the band gets the second model's, any other keeps
the first one's. Both are calibrated, so they rank together as they are. Figures of the validation alleles:

- the area under the precision-recall curve;
- the highest recall of any threshold with a precision of .99;
- precision and recall at the second model's own threshold that keeps .999 of the true alleles. The first two hardly
  notice alleles that are nearly surely false; a filter that must lose almost no true allele does.

A band holds what the second model reaches if none of these falls by more than ``TOLERANCE``: for the first two, no
value in the 95 % interval of the difference (:mod:`cnnspark.evaluation.bootstrap`), and for recall in each callset
separately as well. The probability at which a callset reaches that precision is its own; if it is beyond the band, the
first model's ranking counts: on simulated callsets, a band that all of them together allowed cost others up to .014 of
recall.

Bands run from one of ``EDGES`` to one minus an edge. Of those that hold, together with every band that contains them,
the one with the fewest alleles is chosen. No Spark, no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.errors import InputError
from cnnspark.evaluation.bootstrap import FIGURES, bootstrap
from cnnspark.evaluation.metrics import auprc, thresholds_by_precision, thresholds_by_sensitivity
from cnnspark.models.cascade import Band

# 0.05 points.
TOLERANCE = 0.0005
# A band's lower ends; its upper ones are one less these. Round, for a person will read them, and not closer than what
# validation alleles can tell.
EDGES = (0.0, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
PRECISION, SENSITIVITY = 0.99, 0.999
# True and false alleles each, without which nothing can be said; how few cannot show the tolerance is said beside it.
LEAST_OF_EACH_CLASS = 25
DRAWS = 400
_ROUNDING = 1e-12
_PAIR = ("second", "both")


@dataclass(frozen=True)
class ChosenBand:
    """The band, the number of alleles inside it, and the figures of the second model alone and of the cascade."""

    band: Band
    alleles: int
    passed_on: int
    alone: dict[str, float]
    cascade: dict[str, float]

    @property
    def share(self) -> float:
        """The share of the alleles that go on to the second model."""
        return self.passed_on / self.alleles


def combined(first: np.ndarray, second: np.ndarray, band: Band) -> np.ndarray:
    """The cascade's probabilities, float64 (n,), from those of both models (n,)."""
    return np.where(band.holds(first), second, first)


def figures(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """The figures that the module's docstring lists, by name.

    Args:
        labels: int (n,), 1 true, 0 false.
        probabilities: float64 (n,).
        threshold: the second model's for ``SENSITIVITY``.
    """
    true = np.asarray(labels) == 1
    kept = probabilities >= threshold
    precise = thresholds_by_precision(labels, probabilities, (PRECISION,))[PRECISION]
    return {
        "AUPRC": auprc(labels, probabilities) or 0.0,
        f"recall at precision {PRECISION}": precise.recall if precise else 0.0,
        f"recall at the threshold for {SENSITIVITY}": float(kept[true].mean()),
        f"precision at the threshold for {SENSITIVITY}": float(true[kept].mean()) if kept.any() else 0.0,
    }


def choose_band(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, stretches: np.ndarray, callsets: np.ndarray
) -> ChosenBand:
    """The band for alleles that neither model was trained on.

    Args:
        labels: int (n,), 1 true, 0 false.
        first: float64 (n,), calibrated probabilities by the first model.
        second: float64 (n,), calibrated probabilities by the second model.
        stretches: int (n,), the number of the stretch of the genome with the allele: what the bootstrap draws.
        callsets: int (n,), the number of the allele's callset.

    Raises:
        InputError: a class has fewer than LEAST_OF_EACH_CLASS alleles, or all are in one stretch.
    """
    labels = np.asarray(labels)
    n_true = int((labels == 1).sum())
    if min(n_true, len(labels) - n_true) < LEAST_OF_EACH_CLASS or len(np.unique(stretches)) < 2:
        raise InputError(
            f"{n_true} true and {len(labels) - n_true} false alleles in {len(np.unique(stretches))} stretches of the "
            f"genome are too few to choose a band by; give data with {LEAST_OF_EACH_CLASS} of each in two at least"
        )
    point = thresholds_by_sensitivity(labels, second, (SENSITIVITY,))[SENSITIVITY]
    threshold = point.threshold if point else 0.0
    alone = figures(labels, second, threshold)
    tried: dict[tuple[int, int], tuple[Band, int, dict[str, float]]] = {}
    holds = np.zeros((len(EDGES), len(EDGES)), bool)
    for i, low in enumerate(EDGES):
        for j, edge in enumerate(EDGES):
            # Wider bands have smaller i and j; they were looked at before.
            band = Band(low, 1 - edge)
            within = holds[: i + 1, : j + 1].ravel()[:-1]
            if not within.all():
                continue
            both = combined(first, second, band)
            found = figures(labels, both, threshold)
            within_tolerance = all(alone[name] - found[name] <= TOLERANCE + _ROUNDING for name in alone)
            holds[i, j] = within_tolerance and _surely(labels, second, both, stretches, callsets)
            tried[i, j] = band, int(band.holds(first).sum()), found
    # Of bands that equally many lie in the widest: other callsets may have alleles where these have none.
    i, j = min(map(tuple, np.argwhere(holds).tolist()), key=lambda at: (tried[at][1], sum(at), at))
    band, passed_on, found = tried[i, j]
    return ChosenBand(band, len(labels), passed_on, alone, found)


def _surely(
    labels: np.ndarray, second: np.ndarray, both: np.ndarray, stretches: np.ndarray, callsets: np.ndarray
) -> bool:
    """Whether the intervals of the differences leave no loss beyond the tolerance."""

    def held(chosen: np.ndarray, names: Sequence[str]) -> bool:
        scores = {"second": second[chosen], "both": both[chosen]}
        found = bootstrap(labels[chosen], scores, stretches[chosen], [_PAIR], DRAWS).differences.get(_PAIR, {})
        return all(found[name].low >= -TOLERANCE - _ROUNDING for name in names if name in found)

    if not held(np.arange(len(labels)), FIGURES):
        return False
    numbers = np.unique(callsets)
    return len(numbers) == 1 or all(held(np.flatnonzero(callsets == number), FIGURES[1:]) for number in numbers)
