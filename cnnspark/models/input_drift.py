"""Whether a callset resembles a model's training data: its annotations and site features are compared one by one.

The model's card holds a histogram of each named input. Tasks count each block's values in the same cells, the counts
travel in the blocks' manifest rows, and the driver compares the sums. That costs some milliseconds a block. No Spark,
no TensorFlow.

The distance is the total variation between two histograms, half the sum over the cells of |p - q|: the share of the
alleles that would need another value to make the two alike (0 alike, 1 nothing in common; Levin, Peres and Wilmer,
"Markov chains and mixing times", 4.1). Missing values are a cell, and so are values below and above all of the
training's, so one number shows a lost annotation, a shifted one and one out of range.

Alleles come in clusters (paralogs, repeats), so a few hundred from the same kind of callset differ from the whole more
than independent alleles would. By how much is measured on the training alleles themselves: for each name, the distance
of chunks of neighbouring alleles from all others. It shrinks like that of two means, with sqrt(1 / n + 1 / m);
``noise`` is the factor before it.

A model that was trained on several datasets (other depths, other callers) is compared with the nearest of them, because
no real callset resembles their mixture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cnnspark.common.log import listed
from cnnspark.tensors.input_histogram import Histogram, bin_edges, cell_count, count_cells

# Tenths of the training alleles, or fewer if values repeat: finer cells would mostly add noise.
BINS = 10
# Share of the alleles in other cells, beyond the noise. Measured with a caller's own annotations: .05 for the same
# callset, .25 with reads thinned to 80 %, .61 to half (INFO/DP), .84 for another sequencing (insert size), 1 for
# another caller.
LIMIT = 0.25
# However few the alleles: if all of them are in other cells, the user is told.
HIGHEST_LIMIT = 0.95
# Fewer than this many scored alleles say nothing about a callset.
LEAST_ALLELES = 20
# The training alleles are cut into at least this many chunks, each of 50 to 500 alleles. The noise of an input is such
# that this quantile of the chunks is no further from the others.
CHUNKS, CHUNK_ALLELES, CHUNK_QUANTILE = 20, (50, 500), 0.95
# Names that the sentence lists; guard.json has all.
NAMED = 3


@dataclass(frozen=True)
class TrainedHistogram(Histogram):
    """The histogram of one input over the training alleles.

    Attributes:
        noise: n neighbouring alleles are mostly within ``noise`` x sqrt(1 / n + 1 / m) of m others.
    """

    noise: float


@dataclass(frozen=True)
class KnownPart:
    """One of the datasets of a training.

    Attributes:
        alleles: Number of its training alleles.
        counts: For each input its counts in the cells of the whole training's histogram.
        noise: For each input its noise (:class:`TrainedHistogram`).
    """

    alleles: int
    counts: tuple[tuple[int, ...], ...]
    noise: tuple[float, ...]


@dataclass(frozen=True)
class KnownValues:
    """The inputs that a model was trained on.

    Attributes:
        alleles: Number of training alleles.
        histograms: One for each named input.
        parts: The datasets, if the training had several.
    """

    alleles: int
    histograms: tuple[TrainedHistogram, ...]
    parts: tuple[KnownPart, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names, in the order of the counts."""
        return tuple(histogram.name for histogram in self.histograms)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> KnownValues:
        """The inputs from the plain values of a card.

        Raises:
            KeyError, TypeError, ValueError: if they are something else.
        """
        histograms = []
        for each in values["histograms"]:
            histogram = TrainedHistogram(**each | {k: tuple(each[k]) for k in ("edges", "counts")})
            if len(histogram.counts) != cell_count(histogram.edges):
                raise ValueError(f"the histogram of '{histogram.name}' has {len(histogram.counts)} counts")
            histograms.append(histogram)
        parts = []
        for each in values.get("parts", ()):
            part = KnownPart(int(each["alleles"]), tuple(map(tuple, each["counts"])), tuple(map(float, each["noise"])))
            if [len(c) for c in part.counts] != [len(h.counts) for h in histograms] or len(part.noise) != len(
                histograms
            ):
                raise ValueError("a part's histograms are not those of the whole")
            parts.append(part)
        return KnownValues(int(values["alleles"]), tuple(histograms), tuple(parts))

    @property
    def compared(self) -> tuple[KnownValues, ...]:
        """The datasets that a callset is compared with, one by one; the whole training if it had a single one."""
        return tuple(
            KnownValues(
                part.alleles,
                tuple(
                    replace(histogram, counts=counts, noise=noise)
                    for histogram, counts, noise in zip(self.histograms, part.counts, part.noise, strict=True)
                ),
            )
            for part in self.parts
        ) or (self,)


def count_values(known: KnownValues, values: np.ndarray) -> list[list[int]]:
    """Counts values in the cells of a card's histograms.

    Args:
        known: The card's inputs.
        values: (n, names), NaN where missing.

    Returns:
        For each name its counts, as :attr:`cnnspark.tensors.input_histogram.Histogram.counts`.
    """
    columns = zip(known.histograms, values.T, strict=True)
    return [count_cells(column, np.array(histogram.edges)).tolist() for histogram, column in columns]


def distance(counts: Sequence[int] | np.ndarray, others: Sequence[int] | np.ndarray) -> float:
    """The total variation between two histograms of the same cells, 0 to 1 (module docstring); 0 if one is empty."""
    p, q = np.asarray(counts, np.float64), np.asarray(others, np.float64)
    if not p.sum() or not q.sum():
        return 0.0
    return float(0.5 * np.abs(p / p.sum() - q / q.sum()).sum())


def known_values(names: Sequence[str], values: np.ndarray, datasets: np.ndarray | None = None) -> KnownValues:
    """The histograms of training alleles.

    Args:
        names: Names of the inputs.
        values: (n, names), NaN where missing; alleles in the order of the genome.
        datasets: Number of each allele's dataset, (n,), if there are several.
    """
    histograms = []
    for name, column in zip(names, values.T, strict=True):
        edges = bin_edges(column, BINS)
        counts, noise = _count_with_noise(column, edges)
        histograms.append(TrainedHistogram(name, tuple(edges.tolist()), counts, noise))
    numbers = np.unique(datasets) if datasets is not None else ()
    parts = []
    for number in numbers if len(numbers) > 1 else ():
        own = values[datasets == number]
        counted = [
            _count_with_noise(column, np.array(histogram.edges))
            for column, histogram in zip(own.T, histograms, strict=True)
        ]
        parts.append(KnownPart(len(own), tuple(c for c, _ in counted), tuple(n for _, n in counted)))
    return KnownValues(len(values), tuple(histograms), tuple(parts))


def _count_with_noise(column: np.ndarray, edges: np.ndarray) -> tuple[tuple[int, ...], float]:
    """The counts of a column (n,) in the order of the genome, and its noise (:class:`TrainedHistogram`)."""
    n = len(column)
    rows = min(max(n // CHUNKS, CHUNK_ALLELES[0]), CHUNK_ALLELES[1])
    chunks = [slice(first, first + rows) for first in range(0, n - rows + 1, rows)]
    counts = count_cells(column, edges)
    inside = [count_cells(column[chunk], edges) for chunk in chunks]
    apart = [distance(chunk, counts - chunk) for chunk in inside]
    # A single chunk has no others to compare with: then as if it could have nothing in common with them.
    widest = float(np.quantile(apart, CHUNK_QUANTILE)) if len(apart) > 1 else 1.0
    noise = widest / math.sqrt(1 / rows + 1 / max(1, n - rows))
    return tuple(counts.tolist()), round(noise, 4)


@dataclass(frozen=True)
class InputDistance:
    """How far one annotation or site feature of a callset is from the training data.

    Attributes:
        name: Name of the input.
        distance: Total variation, 0 to 1.
        limit: The greatest distance of an input that is distributed as in the training data.
        missing: Share of the callset's alleles without it.
        trained_missing: Share of the training alleles without it.
        out_of_range: Share of the callset's alleles below the least or above the greatest trained value.
        minimum: Least trained value; None if all were missing.
        maximum: Greatest trained value; None if all were missing.
        counts: The callset's alleles in the cells of the histogram.
    """

    name: str
    distance: float
    limit: float
    missing: float
    trained_missing: float
    out_of_range: float
    minimum: float | None
    maximum: float | None
    counts: tuple[int, ...]

    @property
    def known(self) -> bool:
        """Whether the input is distributed as in the training data."""
        return self.distance <= self.limit

    def __str__(self) -> str:
        if self.minimum is None:
            what = "not in the training data"
        elif self.missing - self.trained_missing > 0.5:
            what = "missing"
        else:
            what = f"distance {self.distance:.2f}"
        return f"{self.name} ({what})"


@dataclass(frozen=True)
class Comparison:
    """A callset's inputs against the training data.

    Attributes:
        alleles: Number of scored alleles.
        inputs: One for each named input; empty if there are too few alleles to compare.
    """

    alleles: int
    inputs: tuple[InputDistance, ...]

    @property
    def outside(self) -> list[InputDistance]:
        """The inputs that are distributed differently from the training data, the furthest beyond its limit first."""
        strange = [each for each in self.inputs if not each.known]
        return sorted(strange, key=lambda each: each.limit - each.distance)

    def sentence(self) -> str:
        """A sentence for the user: what differs from the training data and what to do; empty if nothing does."""
        outside = self.outside
        if not outside:
            return ""
        # Another caller lacks dozens of annotations at once.
        named = listed(outside, NAMED, letters=None)
        are = "is" if len(outside) == 1 else "are"
        return (
            f"{len(outside)} of {len(self.inputs)} model inputs {are} distributed differently from the training data: "
            f"{named} (see guard.json); use or train a model for this caller, depth and sequencing"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the verdict first, then every input."""
        rows = [asdict(each) | {"known": each.known, "counts": list(each.counts)} for each in self.inputs]
        return {
            "alleles": self.alleles,
            "compared": bool(self.inputs),
            "outside": [each.name for each in self.outside],
            "inputs": rows,
        }


def compare(known: KnownValues, counts: Sequence[Sequence[int]]) -> Comparison:
    """Compares a callset with the training data.

    If the model was trained on several datasets, the comparison is with the nearest: the dataset with the fewest inputs
    beyond their limit; ties go to the smallest total distance. The limit is LIMIT plus the noise of both sides: noise x
    sqrt(1 / n + 1 / n_trained), at most HIGHEST_LIMIT.

    Args:
        known: The card's inputs.
        counts: For each input the counts of all blocks (:func:`add_counts`).
    """
    alleles = sum(counts[0]) if counts else 0
    if alleles < LEAST_ALLELES:
        return Comparison(alleles, ())
    found = [_compare_with(part, counts, alleles) for part in known.compared]
    return min(found, key=lambda each: (len(each.outside), sum(i.distance for i in each.inputs)))


def _compare_with(known: KnownValues, counts: Sequence[Sequence[int]], alleles: int) -> Comparison:
    scale = math.sqrt(1 / alleles + 1 / max(1, known.alleles))
    inputs = []
    for histogram, found in zip(known.histograms, counts, strict=True):
        inputs.append(
            InputDistance(
                name=histogram.name,
                distance=round(distance(found, histogram.counts), 6),
                limit=round(min(HIGHEST_LIMIT, LIMIT + histogram.noise * scale), 6),
                missing=round(found[0] / alleles, 6),
                trained_missing=round(histogram.missing_share, 6),
                out_of_range=round((found[1] + found[-1]) / alleles, 6),
                minimum=histogram.edges[0] if histogram.edges else None,
                maximum=histogram.edges[-1] if histogram.edges else None,
                counts=tuple(found),
            )
        )
    return Comparison(alleles, tuple(inputs))


def pack_counts(counts: Sequence[Sequence[int]]) -> list[str]:
    """Counts as short texts, because a manifest row holds a hundred of them, and a genome has thousands of rows."""
    return [" ".join(map(str, each)) for each in counts]


def add_counts(known: KnownValues, packed: Iterable[Sequence[str]]) -> list[list[int]]:
    """Adds up the counts of blocks.

    Args:
        known: The card's inputs.
        packed: Each block's counts (:func:`pack_counts`); empty for a block without counts.

    Returns:
        For each input its counts in all blocks.
    """
    total = [np.zeros(len(histogram.counts), np.int64) for histogram in known.histograms]
    for block in packed:
        for sums, text in zip(total, block, strict=False):
            sums += np.array(text.split(), np.int64)
    return [sums.tolist() for sums in total]
