"""Compares one allele's annotations and site features with the training data, by the histograms on the model's card.

The histograms hold true and false training alleles together: they say what is usual, never which end of a value speaks
for a true variant. No Spark, no TensorFlow.
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
# How many training values an input is set to in turn (cnnspark.reports.allele.occlusion).
SWEEP = 5
# If the last bin is narrower than this share of the whole range, its middle stands for a median within it.
_NARROW = 0.1
_ROUNDING = 0.02

USUAL, UNUSUAL, OUTSIDE, UNKNOWN = "usual", "unusual", "outside", "unknown"


@dataclass(frozen=True)
class Familiar:
    """An input of an allele compared with the training alleles. What the card does not say is None.

    Attributes:
        name: The input's.
        kind: "annotation" or "site feature".
        value: None if missing.
        quantile: The share of training values below it; linear within a bin, so only approximate.
        verdict: USUAL, UNUSUAL, OUTSIDE or UNKNOWN.
        why: The verdict in words; empty for a usual value that is present.
        minimum: The lowest training value.
        maximum: The highest training value.
        missing_share: The share of training alleles without a value.
        middle: The training's median.
        edges: Of the training's bins, (b + 1).
        shares: The share of the present training values in each bin, (b).
    """

    name: str
    kind: str
    value: float | None
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
        """Training values to set this input to, ascending; NaN last if at least 1% of the training alleles lack it.

        Without a histogram only NaN: missing.
        """
        if not self.edges:
            return (math.nan,)
        chosen = np.unique(np.linspace(0, len(self.edges) - 1, SWEEP).round().astype(int))
        missing = (math.nan,) if (self.missing_share or 0) >= TAIL else ()
        return (*(self.edges[i] for i in chosen), *missing)


def familiar_inputs(card: Card, annotations: np.ndarray, site_features: np.ndarray) -> tuple[Familiar, ...]:
    """Compares all inputs of one allele with the training data.

    Args:
        card: The model's; it names the inputs.
        annotations: float32 (A,), in the card's order; NaN is missing.
        site_features: float32 (F,), in the card's order; NaN is missing.
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
    """Compares one input (NaN: missing) with its histogram and its range; either may be missing on the card."""
    given = None if math.isnan(value) else value
    if histogram is None:
        return Familiar(name, kind, given, None, UNKNOWN, "the card does not describe the training data")
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
            return USUAL, "missing, as in all training alleles"
        if missing < TAIL:
            return UNUSUAL, f"missing, as in only {missing:.1%} of the training alleles"
        return USUAL, f"missing, as in {missing:.0%} of the training alleles"
    if not histogram.edges:
        return OUTSIDE, "never present in training"
    if value < histogram.edges[0]:
        return OUTSIDE, "below all training values"
    if value > histogram.edges[-1]:
        return OUTSIDE, "above all training values"
    if missing > 1 - TAIL:
        return UNUSUAL, f"present, as in only {1 - missing:.1%} of the training alleles"
    # The card's percentiles if it has them: a bin at the end can hold a long tail, so the quantile is less exact.
    low = known.percentile_1 if known else None
    high = known.percentile_99 if known else None
    assert quantile is not None
    if value != histogram.edges[0] and (value < low if low is not None else quantile < TAIL):
        return UNUSUAL, "in the lowest 1% of the training values"
    if value != histogram.edges[-1] and (value > high if high is not None else quantile > 1 - TAIL):
        return UNUSUAL, "in the highest 1% of the training values"
    return USUAL, ""


def quantile_of(histogram: Histogram, value: float) -> float:
    """The share of training values below ``value``: counts of whole bins, linear within the value's own bin."""
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
    """The training's median; None if the histogram cannot tell it.

    The edges are the distinct deciles. An edge is the median if at most half of the values are below it, and more than
    half below the next one. The last bin holds both its edges, so it does not tell if deciles coincide.
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
