"""Whether a callset is what a model knows: its annotations and site features against those of the training alleles.

The model's card holds a histogram of each named input. Tasks count each block's values in the same cells, the counts
travel in the blocks' manifest rows, and the driver compares the sums. Pure, and cheap: some milliseconds a block.

The distance is the total variation between two histograms, half the sum over the cells of |p - q|: the share of the
alleles that would have to have another value for the two to be alike (0 alike, 1 nothing in common; Levin, Peres and
Wilmer, "Markov chains and mixing times", 4.1). Missing values are a cell, and so are values below and above all of the
training's, so one number says a lost annotation, a shifted one and one out of range.

Alleles come in clusters (paralogs, repeats), so a few hundred of the very same kind of callset differ from the whole by
more than chance among independent alleles would have it. How much, is measured on the training alleles themselves: for
each name, the distance of chunks of neighbouring alleles from all others. It shrinks as that of two means, with
sqrt(1 / n + 1 / m); ``noise`` is what stands before it.

A model that was trained on several datasets (other depths, other callers) is compared with the nearest of them: nothing
real is like their mixture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cnnspark.common.log import listed
from cnnspark.tensors.input_histogram import Histogram, bin_edges, cell_count, count_cells

# Tenths of the training alleles, or fewer where values repeat: finer cells would mostly add noise.
BINS = 10
# A quarter of the alleles elsewhere, beyond the noise. With a caller's own annotations the same callset has .05, reads
# thinned to 80 % .25, to half .61 (INFO/DP), another sequencing .84 (insert size), another caller 1.
LIMIT = 0.25
# However few the alleles: where all are elsewhere, that is said.
HIGHEST_LIMIT = 0.95
# Fewer than this many scored alleles say nothing about a callset.
LEAST_ALLELES = 20
# The training alleles are cut into this many chunks, or more: of 50 to 500 alleles. Most of them, by the quantile, are
# no further from the others than a name's noise says.
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
    """One of the datasets of a training: counts in the cells of the whole's histograms, and noise, by name."""

    alleles: int
    counts: tuple[tuple[int, ...], ...]
    noise: tuple[float, ...]


@dataclass(frozen=True)
class KnownValues:
    """What a model has seen: a histogram of each of its named inputs over ``alleles`` training alleles.

    ``parts`` are the datasets, where there were several.
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
        """From plain JSON values. Raises KeyError, TypeError or ValueError where they are not such."""
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
        """What a callset is compared with: each dataset by itself, or the whole."""
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
    """The counts of each column of ``values`` (n, names), in the cells of the card's histograms."""
    columns = zip(known.histograms, values.T, strict=True)
    return [count_cells(column, np.array(histogram.edges)).tolist() for histogram, column in columns]


def distance(counts: Sequence[int] | np.ndarray, others: Sequence[int] | np.ndarray) -> float:
    """Total variation between two histograms of the same cells (module docstring); 0 where one is empty."""
    p, q = np.asarray(counts, np.float64), np.asarray(others, np.float64)
    if not p.sum() or not q.sum():
        return 0.0
    return float(0.5 * np.abs(p / p.sum() - q / q.sum()).sum())


def known_values(names: Sequence[str], values: np.ndarray, datasets: np.ndarray | None = None) -> KnownValues:
    """The histograms of training alleles ``values`` (n, names), NaN where missing, in the order of the genome.

    ``datasets`` (n,) are the numbers of the datasets that they are of, where there are several.
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
    """The counts of a column (n,) in the order of the genome, and its noise (:class:`Histogram`)."""
    n = len(column)
    rows = min(max(n // CHUNKS, CHUNK_ALLELES[0]), CHUNK_ALLELES[1])
    chunks = [slice(first, first + rows) for first in range(0, n - rows + 1, rows)]
    counts = count_cells(column, edges)
    inside = [count_cells(column[chunk], edges) for chunk in chunks]
    apart = [distance(chunk, counts - chunk) for chunk in inside]
    # One chunk is nothing to compare: then as if a chunk could have nothing in common with the others.
    widest = float(np.quantile(apart, CHUNK_QUANTILE)) if len(apart) > 1 else 1.0
    noise = widest / math.sqrt(1 / rows + 1 / max(1, n - rows))
    return tuple(counts.tolist()), round(noise, 4)


@dataclass(frozen=True)
class InputDistance:
    """How far one annotation or site feature of a callset is from the training data."""

    name: str
    distance: float
    limit: float
    missing: float  # share of the alleles
    trained_missing: float
    out_of_range: float  # share of the alleles below the least or above the greatest trained value
    minimum: float | None  # trained
    maximum: float | None
    counts: tuple[int, ...]

    @property
    def known(self) -> bool:
        return self.distance <= self.limit

    def __str__(self) -> str:
        if self.minimum is None:
            what = "never there in training"
        elif self.missing - self.trained_missing > 0.5:
            what = "missing"
        else:
            what = f"distance {self.distance:.2f}"
        return f"{self.name} ({what})"


@dataclass(frozen=True)
class Comparison:
    """A callset's inputs against those that the model knows; none where there were too few alleles."""

    alleles: int
    inputs: tuple[InputDistance, ...]

    @property
    def outside(self) -> list[InputDistance]:
        """The inputs that are not as the model knows them, the furthest beyond its limit first."""
        strange = [each for each in self.inputs if not each.known]
        return sorted(strange, key=lambda each: each.limit - each.distance)

    def sentence(self) -> str:
        """What is wrong and what to do; empty where all is as the model knows it."""
        outside = self.outside
        if not outside:
            return ""
        # Another caller lacks dozens of annotations at once.
        named = listed(outside, NAMED, letters=None)
        lie = "lies" if len(outside) == 1 else "lie"
        return (
            f"the callset is not what the model was trained on: {len(outside)} of its {len(self.inputs)} inputs {lie} "
            f"elsewhere, {named} (see guard.json); use or train a model for this caller, depth and sequencing"
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
    """Compares a callset's counts (:func:`add_counts` of all blocks) with the training data's, of several datasets with
    the nearest: the one that leaves the fewest inputs elsewhere, and of such the one of the smallest distances.

    The limit is LIMIT and the noise of both sides: noise x sqrt(1 / n + 1 / n_trained).
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
    """Counts as short texts: a manifest row holds a hundred such, and a genome has thousands of rows."""
    return [" ".join(map(str, each)) for each in counts]


def add_counts(known: KnownValues, packed: Iterable[Sequence[str]]) -> list[list[int]]:
    """The blocks' counts (:func:`pack_counts`) added up; blocks without any add nothing."""
    total = [np.zeros(len(histogram.counts), np.int64) for histogram in known.histograms]
    for block in packed:
        for sums, text in zip(total, block, strict=False):
            sums += np.array(text.split(), np.int64)
    return [sums.tolist() for sums in total]
