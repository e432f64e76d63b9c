"""Paired reads of fragments with an Illumina machine's errors: by quality, by place, by repeat, by adapter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnspark.formats.reference import T, encode_bases
from cnnspark.simulation.error_sites import EARLY, EARLY_CYCLES, FORWARD, LATE, LATE_CYCLES, REVERSE, ErrorSites
from cnnspark.simulation.fragments import MARGIN, Fragments, JoinedMolecules, hashed
from cnnspark.simulation.provenance import Cause
from cnnspark.simulation.settings import SimulationSettings

# A unit fewer is the commoner stutter.
STUTTER_DELETION_SHARE = 0.65
# Illumina's TruSeq adapters, as the first and the second read run into them.
_ADAPTERS = tuple(
    encode_bases(adapter + "G" * 250)
    for adapter in ("AGATCGGAAGAGCACACGTCTGAACTCCAGTCA", "AGATCGGAAGAGCGTCGTGTAGGGAAAGAGTGT")
)
# The four qualities that a NovaSeq reports, from these qualities on.
_NOVASEQ_FROM, _NOVASEQ = np.array([7, 18, 30]), np.array([2, 12, 23, 37], dtype=np.uint8)
# Phred: P(error) = 10^(-Q/10); a base that is read as any of four is wrong three times of four at the most.
_ERROR_CHANCE = np.minimum(np.power(10.0, np.arange(64) / -10.0), 0.75).astype(np.float32)


class RawReads(NamedTuple):
    """n reads on one side of the fragments, in the reference's direction, with the true place of each base.

    Kernels of other modules take it whole. Numba's cache looks at the kernel's own file only: after a change of the
    fields here delete ``__pycache__``.
    """

    bases: np.ndarray  # uint8 (n, read length), base codes
    quals: np.ndarray  # uint8 (n, read length)
    ref_pos: np.ndarray  # int32 (n, read length), position on the piece, -1 if inserted or unplaced
    cause: np.ndarray  # uint8 (n, read length), Cause
    origin: np.ndarray  # uint8 (n,), Cause of the molecule
    stutter_from: np.ndarray  # int32 (n,), first column behind the place of a stutter, -1 without a stutter
    stutter_to: np.ndarray  # int32 (n,), column behind the bases it added (the same if it lost some)


class _Course(NamedTuple):
    """Where the bases of n reads stand in the joined molecules."""

    place: np.ndarray  # int64 (n, read length)
    inserted: np.ndarray  # bool (n, read length), added by a stutter
    stutter_from: np.ndarray  # as in RawReads
    stutter_to: np.ndarray


def sequence_side(
    joined: JoinedMolecules,
    sites: ErrorSites,
    fragments: Fragments,
    right: bool,
    settings: SimulationSettings,
    rng: np.random.Generator,
) -> RawReads:
    """Sequences the left (forward) or right (reverse) reads of n fragments.

    Args:
        joined: the molecules that the fragments are of.
        sites: where the machine and the library make the same mistake again and again.
        fragments: the n fragments.
        right: the side.
        settings: read length and profile; the seed is for what all copies of a fragment share.
        rng: draws everything else.

    Returns:
        n reads, in the order of the fragments.
    """
    read_length = settings.read_length
    first_base = fragments.start + (fragments.length - read_length if right else 0)
    course = _stutter(joined, fragments, first_base, right, read_length, rng)
    quals = _qualities(len(fragments), read_length, second=fragments.read1_left == right, rng=rng)
    if settings.profile == "novaseq":
        quals = _binned(quals)
    reads = RawReads(
        bases=joined.codes[course.place],
        quals=np.ascontiguousarray(quals[:, ::-1]) if right else quals,
        ref_pos=joined.ref_pos[course.place],
        cause=joined.cause[course.place],
        origin=fragments.origin,
        stutter_from=course.stutter_from,
        stutter_to=course.stutter_to,
    )
    reads.ref_pos[course.inserted] = -1
    reads.cause[course.inserted] = Cause.STUTTER
    _add_amplification_errors(fragments, course, reads)
    _read_into_adapter(fragments, right, reads)
    rows, columns = np.nonzero(rng.random(reads.bases.shape, dtype=np.float32) < _ERROR_CHANCE[reads.quals])
    reads.bases[rows, columns] = (reads.bases[rows, columns] - 1 + rng.integers(1, 4, len(rows))) % 4 + 1
    reads.cause[rows, columns] = Cause.OTHER
    _add_site_errors(reads, sites, fragments, right, settings, rng)
    return reads


def _stutter(
    joined: JoinedMolecules,
    fragments: Fragments,
    first_base: np.ndarray,
    right: bool,
    read_length: int,
    rng: np.random.Generator,
) -> _Course:
    """Where each read's bases stand in the joined molecules, which were added, and the columns of the stutter.

    A read stutters at most once. A lost or added unit stands at the repeat's first base, where aligners put it. What a
    read loses it gains at the end that the machine reads last.
    """
    n = len(first_base)
    columns = np.arange(read_length)
    place = first_base[:, None] + columns
    inserted = np.zeros(place.shape, dtype=bool)
    stuttering = _stuttering_repeats(joined, fragments, first_base, read_length, rng)
    rows = np.flatnonzero(stuttering >= 0)
    unit = joined.run_units[stuttering[rows]][:, None]
    at = (joined.run_starts[stuttering[rows]] - first_base[rows])[:, None]  # column of the repeat's first base
    loses = rng.random(len(rows))[:, None] < STUTTER_DELETION_SHARE
    if right:
        shift = np.where(loses, -unit * (columns < at + unit), unit * (columns < at))
        extra = ~loses & (columns >= at - unit) & (columns < at)
        begin = np.where(loses, at + unit, at - unit)
    else:
        shift = np.where(loses, unit * (columns >= at), -unit * (columns >= at + unit))
        extra = ~loses & (columns >= at) & (columns < at + unit)
        begin = at
    place[rows] += shift
    inserted[rows] = extra
    stutter_from, stutter_to = np.full(n, -1, dtype=np.int32), np.full(n, -1, dtype=np.int32)
    stutter_from[rows] = begin[:, 0]
    stutter_to[rows] = (begin + np.where(loses, 0, unit))[:, 0]
    # Only a read that runs into the adapter may reach over its molecule's end; those bases are replaced.
    return _Course(np.clip(place, 0, len(joined.codes) - 1), inserted, stutter_from, stutter_to)


def _stuttering_repeats(
    joined: JoinedMolecules,
    fragments: Fragments,
    first_base: np.ndarray,
    read_length: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Number of the repeat at which each read stutters, int64 (n,); -1 if it does not."""
    inside_from = np.maximum(first_base, fragments.start)
    inside_to = np.minimum(first_base + read_length, fragments.start + fragments.length)
    first_run = np.searchsorted(joined.run_starts, inside_from + MARGIN)
    end_run = np.searchsorted(joined.run_starts, inside_to - MARGIN)
    stuttering = np.full(len(first_base), -1, dtype=np.int64)
    for k in range(int((end_run - first_run).max(initial=0))):
        candidates = np.flatnonzero((first_run + k < end_run) & (stuttering < 0))
        runs = first_run[candidates] + k
        hit = rng.random(len(candidates)) < joined.run_rates[runs]
        stuttering[candidates[hit]] = runs[hit]
    return stuttering


def _add_amplification_errors(fragments: Fragments, course: _Course, reads: RawReads) -> None:
    """Writes the wrong base that all copies of a fragment have into the reads."""
    rows = np.flatnonzero(fragments.error_place >= 0)
    found, columns = np.nonzero((course.place[rows] == fragments.error_place[rows, None]) & ~course.inserted[rows])
    rows = rows[found]
    reads.bases[rows, columns] = (reads.bases[rows, columns] - 1 + fragments.error_shift[rows]) % 4 + 1
    reads.cause[rows, columns] = Cause.DUPLICATES


def _read_into_adapter(fragments: Fragments, right: bool, reads: RawReads) -> None:
    """Writes what follows the end of a fragment that is shorter than the read into the reads."""
    read_length = reads.bases.shape[1]
    short = np.flatnonzero(fragments.length < read_length)
    if not len(short):
        return
    # Bases of adapter, by column: 1, 2, ... from the fragment's end on.
    behind = np.arange(read_length)[None, :] - fragments.length[short, None]
    if right:
        behind = behind[:, ::-1]
    rows, columns = np.nonzero(behind >= 0)
    second = (fragments.read1_left[short] == right)[rows]
    adapter = np.where(second, _ADAPTERS[1][behind[rows, columns]], _ADAPTERS[0][behind[rows, columns]])
    reads.bases[short[rows], columns] = 5 - adapter if right else adapter
    reads.ref_pos[short[rows], columns] = -1
    reads.cause[short[rows], columns] = Cause.ADAPTERS


def _binned(quals: np.ndarray) -> np.ndarray:
    """Base qualities as a NovaSeq reports them, uint8."""
    return _NOVASEQ[np.searchsorted(_NOVASEQ_FROM, quals, side="right")]


def _qualities(n: int, read_length: int, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Base qualities by cycle, uint8 (n, read_length): high, falling towards the 3' end, worse in second reads."""
    cycle = np.arange(read_length, dtype=np.float32)
    mean = 36.5 - 1.5 * np.exp(-cycle / 3) - 7.0 * (cycle / read_length) ** 2.5
    quals = rng.standard_normal((n, read_length), dtype=np.float32)
    quals *= 2.2
    quals += mean
    quals += (rng.normal(0, 1.6, n) - 1.2 * second).astype(np.float32)[:, None]
    dips = rng.random((n, read_length), dtype=np.float32) < 0.012
    quals[dips] -= rng.uniform(8, 22, int(dips.sum())).astype(np.float32)
    # Reads that go bad: quality breaks down in the last third.
    bad = np.flatnonzero(rng.random(n) < 0.05)
    bad_from = rng.integers(2 * read_length // 3, read_length - 5, len(bad))
    quals[bad] -= (cycle >= bad_from[:, None]) * rng.uniform(12, 30, len(bad)).astype(np.float32)[:, None]
    return np.clip(np.rint(quals, out=quals), 2, 40, out=quals).astype(np.uint8)


def _add_site_errors(
    reads: RawReads,
    sites: ErrorSites,
    fragments: Fragments,
    right: bool,
    settings: SimulationSettings,
    rng: np.random.Generator,
) -> None:
    """Writes wrong bases at the error sites into the reads; where the machine errs it lowers the quality in part."""
    read_length = reads.bases.shape[1]
    at_site = sites.site_of_pos[reads.ref_pos]
    rows, columns = np.nonzero(at_site >= 0)
    site = at_site[rows, columns]
    only = sites.only[site]
    by_fragment = sites.by_fragment[site]
    cycle = read_length - 1 - columns if right else columns
    # A fragment's strand is its first read's, a read's is its own.
    on_reverse = np.where(by_fragment, ~fragments.read1_left[rows], right)
    eligible = ~((only == FORWARD) & on_reverse) & ~((only == REVERSE) & ~on_reverse)
    eligible &= ~((only == LATE_CYCLES) & (cycle < read_length - LATE))
    eligible &= ~((only == EARLY_CYCLES) & (cycle >= EARLY))
    # The machine reads its own errors at any molecule's site; a mosaic allele is the sample's.
    eligible &= (sites.cause[site] != Cause.MOSAIC) | (fragments.origin[rows] == Cause.NONE)
    drawn = np.where(by_fragment, hashed(settings.seed, fragments.family[rows], site), rng.random(len(site)))
    hit = eligible & (drawn < sites.rate[site])
    rows, columns, site = rows[hit], columns[hit], site[hit]
    reads.bases[rows, columns] = sites.wrong_base[site]
    reads.cause[rows, columns] = sites.cause[site]
    lowered = np.clip(rng.normal(sites.quality[site], 4.0), 6, 40).astype(np.uint8)
    if settings.profile == "novaseq":
        # Binned like all others, yet a base that a caller counts.
        lowered = np.maximum(_binned(lowered), 12)
    own = reads.quals[rows, columns]
    reads.quals[rows, columns] = np.where(sites.quality[site] > 0, np.minimum(own, lowered), own)


assert T == 4, "a base's complement is 5 minus its code"
