"""Paired reads of a sample with an Illumina machine's errors: by quality, by strand and context, by homopolymer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.reference import C, G
from cnnspark.simulation.genome import END_MARGIN, Contig
from cnnspark.simulation.sample import Molecule

READ_LENGTH = 150
# Kinds of systematic error sites.
ONE_STRAND, LATE_CYCLES, NOISY = range(3)
# Homopolymers from this length on stutter.
STUTTER_MIN_RUN = 8
# A base fewer is the commoner stutter.
STUTTER_DELETION_SHARE = 0.65
# Distance of a stutter or a molecule's end that keeps shifted reads inside.
_MARGIN = 4


@dataclass(frozen=True)
class ErrorSites:
    """Positions of the joined reference where the same wrong base is read again and again (site arrays: (m,))."""

    site_of_pos: np.ndarray  # int32 (genome + 1,), -1 where there is none; the last entry is for "unplaced"
    kind: np.ndarray  # int8
    wrong_base: np.ndarray  # uint8, base code
    reverse_strand: np.ndarray  # bool, for ONE_STRAND
    rate: np.ndarray  # share of the reads of that kind
    quality: np.ndarray  # mean base quality of the wrong base
    stutter_rate: np.ndarray  # float32 (genome + 1,), by first base of a homopolymer


@dataclass(frozen=True)
class Fragments:
    """Sequenced fragments, in order of their making (arrays: (n,))."""

    start: np.ndarray  # int64, in the joined molecules
    length: np.ndarray  # int64
    read1_left: np.ndarray  # bool: the first read is the forward one, on the left
    is_duplicate: np.ndarray  # bool


@dataclass(frozen=True)
class JoinedMolecules:
    """All molecules end to end; positions are those of the contigs end to end."""

    codes: np.ndarray  # uint8 (total,)
    ref_pos: np.ndarray  # int64 (total,), -1 unplaced
    offsets: np.ndarray  # int64 (molecules + 1,)
    run_starts: np.ndarray  # int64, homopolymers that stutter: first base
    run_rates: np.ndarray  # share of the reads that stutter there


@dataclass(frozen=True)
class RawReads:
    """Reads on one side of the fragments, in the reference's direction, with the true place of each base."""

    bases: np.ndarray  # uint8 (n, READ_LENGTH), base codes
    quals: np.ndarray  # uint8 (n, READ_LENGTH)
    ref_pos: np.ndarray  # int64 (n, READ_LENGTH), joined position, -1 where inserted or unplaced


def draw_error_sites(contigs: Sequence[Contig], rng: np.random.Generator) -> ErrorSites:
    """Systematic errors of the machine on this genome."""
    joined = np.concatenate([contig.codes for contig in contigs])
    size = len(joined)
    # Known Illumina habit: the base after GGC is misread, on the strand that reads GGC (Nakamura et al. 2011,
    # doi:10.1093/nar/gkr344).
    forward = np.flatnonzero((joined[:-3] == G) & (joined[1:-2] == G) & (joined[2:-1] == C)) + 3
    reverse = np.flatnonzero((joined[1:-2] == G) & (joined[2:-1] == C) & (joined[3:] == C))
    after_ggc = np.concatenate([forward, reverse])
    on_reverse = np.arange(len(after_ggc)) >= len(forward)
    chosen = rng.random(len(after_ggc)) < min(1.0, size / 2_600 / max(1, len(after_ggc)))
    late = rng.integers(END_MARGIN, size - END_MARGIN, size // 4_000)
    noisy = rng.integers(END_MARGIN, size - END_MARGIN, size // 4_000)
    positions = np.concatenate([after_ggc[chosen], late, noisy])
    counts = (int(chosen.sum()), len(late), len(noisy))
    kind = np.repeat(np.array([ONE_STRAND, LATE_CYCLES, NOISY], dtype=np.int8), counts)
    rate = np.concatenate(
        [rng.uniform(0.2, 0.7, counts[0]), rng.uniform(0.6, 1.0, counts[1]), rng.uniform(0.12, 0.36, counts[2])]
    )
    quality = np.concatenate(
        [rng.uniform(16, 36, counts[0]), rng.uniform(12, 30, counts[1]), rng.uniform(11, 24, counts[2])]
    )
    wrong_base = ((joined[positions] - 1 + rng.integers(1, 4, len(positions))) % 4 + 1).astype(np.uint8)
    site_of_pos = np.full(size + 1, -1, dtype=np.int32)
    site_of_pos[positions] = np.arange(len(positions))
    reverse_strand = np.concatenate([on_reverse[chosen], np.zeros(counts[1] + counts[2], dtype=bool)])
    stutter_rate = np.append(0.02 + 0.13 * rng.beta(1, 3, size), 0.05).astype(np.float32)
    return ErrorSites(site_of_pos, kind, wrong_base, reverse_strand, rate, quality, stutter_rate)


def join_molecules(molecules: Sequence[Molecule], contig_offsets: np.ndarray, sites: ErrorSites) -> JoinedMolecules:
    """The molecules end to end, with the homopolymers that stutter."""
    codes = np.concatenate([molecule.codes for molecule in molecules])
    ref_pos = np.concatenate([np.where(m.ref_pos >= 0, m.ref_pos + contig_offsets[m.contig], -1) for m in molecules])
    offsets = np.cumsum([0, *(len(molecule.codes) for molecule in molecules)])
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    lengths = np.diff(np.append(starts, len(codes)))
    long_runs = (lengths >= STUTTER_MIN_RUN) & (ref_pos[starts] >= 0)
    starts, lengths = starts[long_runs], lengths[long_runs]
    # Longer runs stutter more: the drawn rate holds at 8 bases and grows by a tenth with each base.
    rates = np.minimum(sites.stutter_rate[ref_pos[starts]] * (1 + 0.1 * (lengths - STUTTER_MIN_RUN)), 0.3)
    return JoinedMolecules(codes, ref_pos, offsets, starts, rates)


def draw_fragments(
    molecules: Sequence[Molecule], joined: JoinedMolecules, coverage: float, rng: np.random.Generator
) -> Fragments:
    """Fragments of all molecules, each sequenced to half of ``coverage``; 5 % once more, as duplicates.

    Fragments of extreme GC content are rarer, so depth varies as it does in real libraries.
    """
    starts, lengths = [], []
    strong = np.concatenate([[0], np.cumsum((joined.codes == C) | (joined.codes == G))])
    for molecule, offset in zip(molecules, joined.offsets, strict=False):
        size = len(molecule.codes)
        # Two reads a fragment, half of the depth a haplotype; what GC bias takes away (0.88 remain) is added before.
        wanted = int(round(size * coverage / 2 / (2 * READ_LENGTH) / 0.88 / 1.05))
        length = np.clip(np.rint(rng.normal(400, 60, wanted)), READ_LENGTH + 30, 650).astype(np.int64)
        start = offset + _MARGIN + rng.integers(0, size - length - 2 * _MARGIN)
        gc = (strong[start + length] - strong[start]) / length
        kept = rng.random(wanted) < np.exp(-(((gc - 0.44) / 0.30) ** 2))
        starts.append(start[kept])
        lengths.append(length[kept])
    start, length = np.concatenate(starts), np.concatenate(lengths)
    read1_left = rng.random(len(start)) < 0.5
    again = np.flatnonzero(rng.random(len(start)) < 0.05)
    is_duplicate = np.arange(len(start) + len(again)) >= len(start)
    every = np.concatenate([np.arange(len(start)), again])
    return Fragments(start[every], length[every], read1_left[every], is_duplicate)


def sequence_side(
    joined: JoinedMolecules,
    sites: ErrorSites,
    fragments: Fragments,
    part: slice,
    right: bool,
    rng: np.random.Generator,
) -> RawReads:
    """The left (forward) or right (reverse) reads of some fragments."""
    start, read1_left = fragments.start[part], fragments.read1_left[part]
    first_base = start + (fragments.length[part] - READ_LENGTH if right else 0)
    place, inserted = _stutter(joined, first_base, right, rng)
    bases = joined.codes[place]
    ref_pos = np.where(inserted, -1, joined.ref_pos[place])
    quals = _qualities(len(start), second=read1_left == right, rng=rng)
    # Errors by quality: Phred, P(error) = 10^(-Q/10).
    chance = np.power(10.0, np.arange(64) / -10.0).astype(np.float32)
    if right:
        quals = np.ascontiguousarray(quals[:, ::-1])
    rows, columns = np.nonzero(rng.random(bases.shape, dtype=np.float32) < chance[quals])
    bases[rows, columns] = (bases[rows, columns] - 1 + rng.integers(1, 4, len(rows))) % 4 + 1
    _add_systematic_errors(sites, bases, quals, ref_pos, right, rng)
    return RawReads(bases, quals, ref_pos)


def _stutter(
    joined: JoinedMolecules, first_base: np.ndarray, right: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where each read's bases lie in the joined molecules, and which were added: a read stutters at most once.

    A lost or added base stands at the homopolymer's first base, where aligners put it. What a read loses it gains at
    the end that the machine reads last.
    """
    n = len(first_base)
    columns = np.arange(READ_LENGTH)
    place = first_base[:, None] + columns
    inserted = np.zeros(place.shape, dtype=bool)
    first_run = np.searchsorted(joined.run_starts, first_base + _MARGIN)
    end_run = np.searchsorted(joined.run_starts, first_base + READ_LENGTH - _MARGIN)
    stuttering = np.full(n, -1, dtype=np.int64)
    for k in range(int((end_run - first_run).max(initial=0))):
        candidates = np.flatnonzero((first_run + k < end_run) & (stuttering < 0))
        runs = first_run[candidates] + k
        hit = rng.random(len(candidates)) < joined.run_rates[runs]
        stuttering[candidates[hit]] = runs[hit]
    rows = np.flatnonzero(stuttering >= 0)
    at = (joined.run_starts[stuttering[rows]] - first_base[rows])[:, None]  # column of the run's first base
    loses = rng.random(len(rows))[:, None] < STUTTER_DELETION_SHARE
    if right:
        shift = np.where(loses, -(columns <= at).astype(np.int64), (columns < at - 1).astype(np.int64))
        extra = ~loses & (columns == at - 1)
        shift = np.where(extra, 1, shift)
    else:
        shift = np.where(loses, (columns >= at).astype(np.int64), -(columns > at).astype(np.int64))
        extra = ~loses & (columns == at)
    place[rows] += shift
    inserted[rows] = extra
    return place, inserted


def _qualities(n: int, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Base qualities by cycle, uint8 (n, READ_LENGTH): high, falling towards the 3' end, worse in second reads."""
    cycle = np.arange(READ_LENGTH, dtype=np.float32)
    mean = 36.5 - 1.5 * np.exp(-cycle / 3) - 7.0 * (cycle / READ_LENGTH) ** 2.5
    level = rng.normal(0, 1.6, n).astype(np.float32) - 1.2 * second
    quals = mean + level[:, None] + rng.normal(0, 2.2, (n, READ_LENGTH)).astype(np.float32)
    dips = rng.random((n, READ_LENGTH), dtype=np.float32) < 0.012
    quals -= dips * rng.uniform(8, 22, (n, READ_LENGTH)).astype(np.float32)
    # Reads that go bad: quality breaks down in the last cycles.
    bad_from = np.where(rng.random(n) < 0.05, rng.integers(100, READ_LENGTH - 5, n), READ_LENGTH)
    quals -= (cycle >= bad_from[:, None]) * rng.uniform(12, 30, n)[:, None]
    return np.clip(np.rint(quals), 2, 40).astype(np.uint8)


def _add_systematic_errors(
    sites: ErrorSites, bases: np.ndarray, quals: np.ndarray, ref_pos: np.ndarray, right: bool, rng: np.random.Generator
) -> None:
    """Wrong bases at the error sites, in place; their qualities are lowered in part, as real machines do."""
    at_site = sites.site_of_pos[ref_pos]
    rows, columns = np.nonzero(at_site >= 0)
    site = at_site[rows, columns]
    kind = sites.kind[site]
    cycle = READ_LENGTH - 1 - columns if right else columns
    eligible = (kind == NOISY) | ((kind == ONE_STRAND) & (sites.reverse_strand[site] == right))
    eligible |= (kind == LATE_CYCLES) & (cycle >= READ_LENGTH - 30)
    hit = eligible & (rng.random(len(site)) < sites.rate[site])
    rows, columns, site = rows[hit], columns[hit], site[hit]
    lowered = np.clip(rng.normal(sites.quality[site], 4.0), 6, 40).astype(np.uint8)
    bases[rows, columns] = sites.wrong_base[site]
    quals[rows, columns] = np.minimum(quals[rows, columns], lowered)
