"""The sequence that a simulation is made on: a made-up genome, or pieces of a real one, and what is hard in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cnnspark.formats.reference import LETTER_OF_CODE, OTHER, A, C, G, ReferenceSource, T
from cnnspark.formats.regions import Region

# Features nearer to a piece's end than this would be seen by too few reads.
END_MARGIN = 500
# A contig is simulated in pieces of at most this many bases: some 60 bytes of memory each.
PIECE_BASES = 4_000_000
# A run of N at least this long is a gap of the assembly: pieces end there.
_GAP_BASES = 500
# Units that make a tandem repeat, by length of the unit.
MIN_UNITS = {1: 6, 2: 4, 3: 4, 4: 4}
# A window of these many bases is of low complexity from this score on (as DUST counts triplets: Morgulis et al. 2006,
# doi:10.1089/cmb.2006.13.1028; its usual threshold is 2).
_WINDOW, _LOW_COMPLEXITY_SCORE = 64, 2.0
_READ_AT_ONCE = 1 << 24
_LETTERS = np.frombuffer(LETTER_OF_CODE.encode("ascii"), dtype=np.uint8)


def decode_bases(codes: np.ndarray) -> str:
    """The letters of base codes: the inverse of :func:`cnnspark.formats.reference.encode_bases`."""
    return _LETTERS[codes].tobytes().decode("ascii")


@dataclass(frozen=True)
class Contig:
    """A contig of the reference, or a piece of it; positions are those of ``codes``, the piece begins at ``start``."""

    name: str
    codes: np.ndarray  # uint8 (length,), base codes
    start: int = 0
    repeats: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int64))  # tandem_repeats(codes)
    low_complexity: list[Region] = field(default_factory=list)  # sorted, disjoint
    collapsed: list[Region] = field(default_factory=list)  # another copy of these exists in the sample only

    @property
    def length(self) -> int:
        """The contig's length in bases."""
        return len(self.codes)

    @property
    def end(self) -> int:
        """One past the piece's last base on the whole contig."""
        return self.start + self.length

    def letters(self, start: int, end: int) -> str:
        """The letters of [start, end), cut at the ends."""
        return decode_bases(self.codes[max(0, start) : max(0, end)])


def survey(name: str, codes: np.ndarray, start: int, collapsed_share: float, rng: np.random.Generator) -> Contig:
    """A piece with its repeats and low complexity found, and its collapsed segments drawn."""
    return Contig(
        name,
        codes,
        start,
        tandem_repeats(codes),
        low_complexity(name, codes),
        _collapsed_regions(name, len(codes), collapsed_share, rng),
    )


def real_pieces(reference: ReferenceSource, region: Region) -> Iterator[tuple[int, np.ndarray]]:
    """(start, base codes) of the pieces of a region of a real reference: gaps of the assembly left out.

    Lower case counts as upper case. Stretches that are too short for the margins are left out.
    """
    end = min(region.end, reference.lengths[region.contig])
    for begin in range(region.start, end, _READ_AT_ONCE):
        codes = reference.codes(region.contig, begin, min(begin + _READ_AT_ONCE, end))
        unknown = np.concatenate([[False], codes == OTHER, [False]])
        edges = np.flatnonzero(unknown[1:] != unknown[:-1])
        gaps = [(a, b) for a, b in edges.reshape(-1, 2).tolist() if b - a >= _GAP_BASES]
        at = 0
        for gap_start, gap_end in [*gaps, (len(codes), len(codes))]:
            n_pieces = -(-(gap_start - at) // PIECE_BASES)
            bounds = [at + (gap_start - at) * i // max(1, n_pieces) for i in range(n_pieces + 1)]
            for a, b in zip(bounds[:-1], bounds[1:], strict=True):
                if b - a > 8 * END_MARGIN:
                    yield begin + a, codes[a:b]
            at = gap_end


def make_sequence(length: int, rng: np.random.Generator) -> np.ndarray:
    """Base codes, uint8 (length,), of a sequence with repeats, whose GC content varies every few kilobases."""
    gc = np.empty(length)
    at = 0
    while at < length:
        end = at + int(rng.integers(1_000, 5_000))
        gc[at:end] = np.clip(rng.normal(0.42, 0.09), 0.25, 0.70)
        at = end
    strong = rng.random(length) < gc
    half = rng.random(length) < 0.5
    codes = np.where(strong, np.where(half, C, G), np.where(half, A, T)).astype(np.uint8)
    at = END_MARGIN + int(rng.exponential(550))
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
        else:
            span = int(rng.integers(60, 300))
            unit = rng.choice([A, C, G, T], size=int(rng.integers(5, 25)), p=[0.42, 0.08, 0.08, 0.42])
            stretch = np.resize(unit, span)
            worn = rng.random(span) < 0.06
            stretch[worn] = rng.integers(1, 5, size=int(worn.sum()))
            codes[at : at + span] = stretch
        at += span + 20 + int(rng.exponential(550))
    return codes


def tandem_repeats(codes: np.ndarray) -> np.ndarray:
    """Tandem repeats of 1-4 base units, int64 (n, 3): start, end, unit length, sorted; each by its shortest unit."""
    found = []
    for unit, min_units in MIN_UNITS.items():
        same = (codes[unit:] == codes[:-unit]) & (codes[unit:] != OTHER)
        padded = np.concatenate([[False], same, [False]])
        edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
        starts, ends = edges[:, 0], edges[:, 1] + unit
        long = ends - starts >= min_units * unit
        starts, ends = starts[long], ends[long]
        units = codes[starts[:, None] + np.arange(unit)]  # (n, unit)
        own = np.ones(len(starts), dtype=bool)
        for shorter in (n for n in range(1, unit) if unit % n == 0):
            own &= (units != np.roll(units, shorter, axis=1)).any(axis=1)
        found.append(np.stack([starts[own], ends[own], np.full(int(own.sum()), unit)], axis=1))
    repeats = np.concatenate(found)
    return repeats[np.lexsort((repeats[:, 2], repeats[:, 0]))]


def low_complexity(name: str, codes: np.ndarray) -> list[Region]:
    """Stretches whose triplets repeat: half-overlapping windows with a high score, merged."""
    step = _WINDOW // 2
    n_windows = (len(codes) - _WINDOW) // step + 1
    if n_windows < 1:
        return []
    triplets = (codes[:-2].astype(np.int64) * 6 + codes[1:-1]) * 6 + codes[2:]
    scores = np.empty(n_windows)
    for begin in range(0, n_windows, 20_000):
        count = min(20_000, n_windows - begin)
        members = triplets[(begin + np.arange(count))[:, None] * step + np.arange(_WINDOW - 2)]
        tally = np.bincount((np.arange(count)[:, None] * 216 + members).ravel(), minlength=count * 216)
        tally = tally.reshape(count, 216)
        scores[begin : begin + count] = (tally * (tally - 1) / 2).sum(axis=1) / (_WINDOW - 3)
    regions: list[Region] = []
    for window in np.flatnonzero(scores > _LOW_COMPLEXITY_SCORE).tolist():
        start, end = window * step, window * step + _WINDOW
        if start < END_MARGIN or end > len(codes) - END_MARGIN or (codes[start:end] == OTHER).any():
            continue
        if regions and regions[-1].end >= start:
            regions[-1] = Region(name, regions[-1].start, end)
        else:
            regions.append(Region(name, start, end))
    return regions


def _collapsed_regions(name: str, length: int, share: float, rng: np.random.Generator) -> list[Region]:
    """Segments of 3-8 kb that make up ``share`` of the piece (shorter ones where it is small)."""
    budget = int(length * min(share, 0.6))
    chosen: list[Region] = []
    while budget >= 1_000:
        span = min(int(rng.integers(3_000, 8_001)), budget)
        if budget - span < 1_000:
            span = min(budget, 8_000)
        for _ in range(1_000):
            start = int(rng.integers(2 * END_MARGIN, max(2 * END_MARGIN + 1, length - 2 * END_MARGIN - span)))
            near = Region(name, start - 1_000, start + span + 1_000)
            if all(other.end <= near.start or other.start >= near.end for other in chosen):
                chosen.append(Region(name, start, start + span))
                break
        budget -= span
    return sorted(chosen)
