"""Where one allele's annotations and site features lie among the training's: what a model's card can say of them.

The card has histograms of the training alleles, true and false together: they say what is usual, and never which end
of a value speaks for a true variant. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cnnspark.models.card import Card, Range
from cnnspark.models.input_drift import BINS
from cnnspark.tensors.input_histogram import Histogram

# Beyond these shares of the training alleles a value is unusual.
TAIL = 0.01
# Values of the training that an input is given in turn (cnnspark.reports.allele.occlusion).
SWEEP = 5
# A last bin as narrow as this share of the whole range: its middle stands for the median, wherever that lies in it.
_NARROW = 0.1
_ROUNDING = 0.02

USUAL, UNUSUAL, OUTSIDE, UNKNOWN = "usual", "unusual", "outside", "unknown"


@dataclass(frozen=True)
class Familiar:
    """An input of an allele against the training alleles; None where the card does not say.

    ``quantile`` is the share of the training values below it, linear within a bin, so roughly; ``verdict`` is one of
    USUAL, UNUSUAL, OUTSIDE and UNKNOWN, ``why`` says it in words. ``edges`` and ``shares`` are the training's bins:
    the share of the values that are there in each.
    """

    name: str
    kind: str  # "annotation" or "site feature"
    value: float | None  # None: missing
    quantile: float | None
    verdict: str
    why: str
    minimum: float | None = None
    maximum: float | None = None
    missing_share: float | None = None
    middle: float | None = None
    edges: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def sweep(self) -> tuple[float, ...]:
        """Training values to set this input to, from the least to the greatest; NaN last where 1 % and more lack it.

        Without a histogram NaN alone: missing.
        """
        if not self.edges:
            return (math.nan,)
        chosen = np.unique(np.linspace(0, len(self.edges) - 1, SWEEP).round().astype(int))
        missing = (math.nan,) if (self.missing_share or 0) >= TAIL else ()
        return (*(self.edges[i] for i in chosen), *missing)


def familiar_inputs(card: Card, annotations: np.ndarray, site_features: np.ndarray) -> tuple[Familiar, ...]:
    """The inputs that the card names, with the values of one allele.

    Args:
        annotations, site_features: float32 (A,) and (F,) as the card names them; NaN is missing.
    """
    histograms = {histogram.name: histogram for histogram in card.known.histograms} if card.known else {}
    ranges = {each.name: each for each in card.ranges}
    kinds = (
        ("annotation", card.annotation_names, annotations),
        ("site feature", card.feature_names, site_features),
    )
    return tuple(
        familiar(kind, name, float(value), histograms.get(name), ranges.get(name))
        for kind, names, values in kinds
        for name, value in zip(names, values[: len(names)], strict=True)
    )


def familiar(kind: str, name: str, value: float, histogram: Histogram | None, known: Range | None) -> Familiar:
    """One input (NaN: missing) against its histogram and, where the card has it, its range."""
    given = None if math.isnan(value) else value
    if histogram is None:
        return Familiar(name, kind, given, None, UNKNOWN, "the card does not say what the training had")
    seen = sum(histogram.counts[1:])
    quantile = None if given is None else quantile_of(histogram, given)
    verdict, why = _verdict(given, quantile, histogram, known)
    inside = histogram.counts[2:-1]
    return Familiar(
        name=name,
        kind=kind,
        value=given,
        quantile=quantile,
        verdict=verdict,
        why=why,
        minimum=histogram.edges[0] if histogram.edges else None,
        maximum=histogram.edges[-1] if histogram.edges else None,
        missing_share=round(histogram.missing_share, 6),
        middle=middle_of(histogram),
        edges=histogram.edges,
        shares=tuple(round(count / max(1, seen), 6) for count in inside) if histogram.edges else (),
    )


def _verdict(value: float | None, quantile: float | None, histogram: Histogram, known: Range | None) -> tuple[str, str]:
    missing = histogram.missing_share
    if value is None:
        if not histogram.edges:
            return USUAL, "missing, as in all of the training"
        if missing < TAIL:
            return UNUSUAL, f"missing, as in {missing:.1%} of the training"
        return USUAL, f"missing, as in {missing:.0%} of the training"
    if not histogram.edges:
        return OUTSIDE, "never there in the training"
    if value < histogram.edges[0]:
        return OUTSIDE, "below all of the training"
    if value > histogram.edges[-1]:
        return OUTSIDE, "above all of the training"
    if missing > 1 - TAIL:
        return UNUSUAL, f"there, which it is in {1 - missing:.1%} of the training"
    # The card's percentiles where it has some; a tail within a bin is long, so the quantile alone says less than is so.
    low = known.percentile_1 if known else None
    high = known.percentile_99 if known else None
    assert quantile is not None
    if value != histogram.edges[0] and (value < low if low is not None else quantile < TAIL):
        return UNUSUAL, "in the lowest hundredth of the training"
    if value != histogram.edges[-1] and (value > high if high is not None else quantile > 1 - TAIL):
        return UNUSUAL, "in the highest hundredth of the training"
    return USUAL, ""


def quantile_of(histogram: Histogram, value: float) -> float:
    """The share of the training values that are smaller: counts of whole bins, and linear within the value's own."""
    seen = sum(histogram.counts[1:])
    if not histogram.edges or not seen or value < histogram.edges[0]:
        return 0.0
    if value > histogram.edges[-1]:
        return 1.0
    edges, counts = histogram.edges, histogram.counts[2:-1]
    if len(edges) == 1:
        return 0.5
    i = min(int(np.searchsorted(edges, value, side="right")) - 1, len(counts) - 1)
    within = (value - edges[i]) / (edges[i + 1] - edges[i])
    return (histogram.counts[1] + sum(counts[:i]) + within * counts[i]) / seen


def middle_of(histogram: Histogram) -> float | None:
    """The training's median; None where the histogram cannot tell it.

    Edges are the distinct tenths. An edge is the median if the values below it are half or less and those below the
    next more; of the last bin, which holds both its edges, that cannot be known where tenths coincide.
    """
    edges, counts = histogram.edges, histogram.counts[2:-1]
    if len(edges) < 2:
        return edges[0] if edges else None
    if len(edges) == BINS + 1:
        return edges[BINS // 2]
    below = np.cumsum([0, *counts[:-1]]) / max(1, sum(counts))
    i = int(np.flatnonzero(below <= 0.5 + _ROUNDING)[-1])
    if i < len(counts) - 1:
        return edges[i]
    narrow = edges[i + 1] - edges[i] <= _NARROW * (edges[-1] - edges[0])
    return (edges[i] + edges[i + 1]) / 2 if narrow else None
