"""A made-up reference genome with what makes real ones hard: repeats, low complexity and collapsed paralogs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnspark.reference import LETTER_OF_CODE, A, C, G, T
from cnnspark.regions import Region

# Features nearer to a contig's end than this would be seen by too few reads.
END_MARGIN = 500
# Share of the genome whose second copy is missing from the reference.
COLLAPSED_SHARE = 0.10
_LETTERS = np.frombuffer(LETTER_OF_CODE.encode("ascii"), dtype=np.uint8)


def decode_bases(codes: np.ndarray) -> str:
    """The letters of base codes: the inverse of :func:`cnnspark.reference.encode_bases`."""
    return _LETTERS[codes].tobytes().decode("ascii")


@dataclass(frozen=True)
class Contig:
    """One sequence of the reference; regions are on this contig, sorted and disjoint."""

    name: str
    codes: np.ndarray  # uint8 (length,), base codes 1-4
    repeats: list[tuple[int, int, int]]  # (start, end, unit length) of tandem repeats, homopolymers among them
    low_complexity: list[Region]
    collapsed: list[Region]  # another copy of these exists in the sample only

    @property
    def length(self) -> int:
        return len(self.codes)

    def letters(self, start: int, end: int) -> str:
        """The letters of [start, end), cut at the ends."""
        return decode_bases(self.codes[max(0, start) : max(0, end)])


def make_contig(name: str, length: int, rng: np.random.Generator) -> Contig:
    """A contig whose GC content varies in stretches of some kilobases, strewn with repeats."""
    gc = np.empty(length)
    at = 0
    while at < length:
        end = at + int(rng.integers(1_000, 5_000))
        gc[at:end] = np.clip(rng.normal(0.42, 0.09), 0.25, 0.70)
        at = end
    strong = rng.random(length) < gc
    half = rng.random(length) < 0.5
    codes = np.where(strong, np.where(half, C, G), np.where(half, A, T)).astype(np.uint8)
    repeats: list[tuple[int, int, int]] = []
    low_complexity = []
    at = END_MARGIN + int(rng.exponential(350))
    while at < length - END_MARGIN - 400:
        kind = rng.random()
        if kind < 0.92:
            unit_length = 1 if kind < 0.60 else 2 if kind < 0.80 else int(rng.integers(3, 5))
            units = {1: 5 + int(rng.geometric(0.3)), 2: 5 + int(rng.geometric(0.15))}.get(
                unit_length, 4 + int(rng.geometric(0.25))
            )
            span = min(unit_length * min(units, 26), 90)
            # A and T homopolymers are the common ones in real genomes.
            unit = rng.choice([A, C, G, T], size=unit_length, p=[0.35, 0.15, 0.15, 0.35])
            codes[at : at + span] = np.resize(unit, span)
            repeats.append((at, at + span, unit_length))
        else:
            span = int(rng.integers(60, 300))
            unit = rng.choice([A, C, G, T], size=int(rng.integers(5, 25)), p=[0.42, 0.08, 0.08, 0.42])
            stretch = np.resize(unit, span)
            worn = rng.random(span) < 0.06
            stretch[worn] = rng.integers(1, 5, size=int(worn.sum()))
            codes[at : at + span] = stretch
            low_complexity.append(Region(name, at, at + span))
        at += span + 20 + int(rng.exponential(350))
    return Contig(name, codes, repeats, low_complexity, _collapsed_regions(name, length, rng))


def _collapsed_regions(name: str, length: int, rng: np.random.Generator) -> list[Region]:
    """Segments of 3-8 kb that make up COLLAPSED_SHARE of the contig (shorter ones where it is small)."""
    budget = int(length * COLLAPSED_SHARE)
    chosen: list[Region] = []
    while budget >= 1_000:
        span = min(int(rng.integers(3_000, 8_001)), budget)
        if budget - span < 1_000:
            span = min(budget, 8_000)
        for _ in range(1_000):
            start = int(rng.integers(2 * END_MARGIN, length - 2 * END_MARGIN - span))
            near = Region(name, start - 1_500, start + span + 1_500)
            if all(other.end <= near.start or other.start >= near.end for other in chosen):
                chosen.append(Region(name, start, start + span))
                break
        budget -= span
    return sorted(chosen)
