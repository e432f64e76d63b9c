"""Paired reads of fragments with an Illumina machine's errors: by quality, by place, by repeat, by adapter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnspark.formats.reference import T, encode_bases
from cnnspark.simulation.error_sites import EARLY, EARLY_CYCLES, FORWARD, LATE, LATE_CYCLES, REVERSE, ErrorSites
from cnnspark.simulation.fragments import MARGIN, Fragments, JoinedMolecules, hashed
from cnnspark.simulation.provenance import Cause

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


@dataclass(frozen=True)
class RawReads:
    """n reads on one side of the fragments, in the reference's direction, with the true place of each base."""

    bases: np.ndarray  # uint8 (n, read length), base codes
    quals: np.ndarray  # uint8 (n, read length)
    ref_pos: np.ndarray  # int32 (n, read length), position on the piece, -1 where inserted or unplaced
    cause: np.ndarray  # uint8 (n, read length), Cause
    origin: np.ndarray  # uint8 (n,), Cause of the molecule
    stutter_from: np.ndarray  # int32 (n,), first column behind the place of a stutter, -1 where there is none
    stutter_to: np.ndarray  # int32 (n,), column behind the bases it added (the same where it lost some)


def sequence_side(
    joined: JoinedMolecules,
    sites: ErrorSites,
    fragments: Fragments,
    right: bool,
    read_length: int,
    profile: str,
    rng: np.random.Generator,
    seed: int,
) -> RawReads:
    """The left (forward) or right (reverse) reads of some fragments; ``seed`` is for what all copies share."""
    n = len(fragments)
    first_base = fragments.start + (fragments.length - read_length if right else 0)
    place, inserted, stutter_from, stutter_to = _stutter(joined, fragments, first_base, right, read_length, rng)
    bases = joined.codes[place]
    ref_pos = joined.ref_pos[place]
    cause = joined.cause[place]
    ref_pos[inserted] = -1
    cause[inserted] = Cause.STUTTER
    _add_amplification_errors(fragments, place, inserted, bases, cause)
    _read_into_adapter(fragments, right, bases, ref_pos, cause)
    quals = _qualities(n, read_length, second=fragments.read1_left == right, rng=rng)
    if profile == "novaseq":
        quals = _NOVASEQ[np.searchsorted(_NOVASEQ_FROM, quals, side="right")]
    if right:
        quals = np.ascontiguousarray(quals[:, ::-1])
    rows, columns = np.nonzero(rng.random(bases.shape, dtype=np.float32) < _ERROR_CHANCE[quals])
    bases[rows, columns] = (bases[rows, columns] - 1 + rng.integers(1, 4, len(rows))) % 4 + 1
    cause[rows, columns] = Cause.OTHER
    _add_site_errors(sites, fragments, right, bases, quals, ref_pos, cause, profile, rng, seed)
    return RawReads(bases, quals, ref_pos, cause, fragments.origin, stutter_from, stutter_to)


def _stutter(
    joined: JoinedMolecules,
    fragments: Fragments,
    first_base: np.ndarray,
    right: bool,
    read_length: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where each read's bases lie in the joined molecules, which were added, and the columns of the stutter.

    A read stutters at most once. A lost or added unit stands at the repeat's first base, where aligners put it. What a
    read loses it gains at the end that the machine reads last.
    """
    n = len(first_base)
    columns = np.arange(read_length)
    place = first_base[:, None] + columns
    inserted = np.zeros(place.shape, dtype=bool)
    inside_from = np.maximum(first_base, fragments.start)
    inside_to = np.minimum(first_base + read_length, fragments.start + fragments.length)
    first_run = np.searchsorted(joined.run_starts, inside_from + MARGIN)
    end_run = np.searchsorted(joined.run_starts, inside_to - MARGIN)
    stuttering = np.full(n, -1, dtype=np.int64)
    for k in range(int((end_run - first_run).max(initial=0))):
        candidates = np.flatnonzero((first_run + k < end_run) & (stuttering < 0))
        runs = first_run[candidates] + k
        hit = rng.random(len(candidates)) < joined.run_rates[runs]
        stuttering[candidates[hit]] = runs[hit]
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
    return np.clip(place, 0, len(joined.codes) - 1), inserted, stutter_from, stutter_to


def _add_amplification_errors(
    fragments: Fragments, place: np.ndarray, inserted: np.ndarray, bases: np.ndarray, cause: np.ndarray
) -> None:
    """The wrong base that all copies of a fragment have, in place."""
    rows = np.flatnonzero(fragments.error_place >= 0)
    found, columns = np.nonzero((place[rows] == fragments.error_place[rows, None]) & ~inserted[rows])
    rows = rows[found]
    bases[rows, columns] = (bases[rows, columns] - 1 + fragments.error_shift[rows]) % 4 + 1
    cause[rows, columns] = Cause.DUPLICATES


def _read_into_adapter(
    fragments: Fragments, right: bool, bases: np.ndarray, ref_pos: np.ndarray, cause: np.ndarray
) -> None:
    """What lies behind the end of a fragment that is shorter than the read, in place."""
    read_length = bases.shape[1]
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
    bases[short[rows], columns] = 5 - adapter if right else adapter
    ref_pos[short[rows], columns] = -1
    cause[short[rows], columns] = Cause.ADAPTERS


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
    sites: ErrorSites,
    fragments: Fragments,
    right: bool,
    bases: np.ndarray,
    quals: np.ndarray,
    ref_pos: np.ndarray,
    cause: np.ndarray,
    profile: str,
    rng: np.random.Generator,
    seed: int,
) -> None:
    """Wrong bases at the error sites, in place; where the machine errs it lowers the quality in part."""
    at_site = sites.site_of_pos[ref_pos]
    rows, columns = np.nonzero(at_site >= 0)
    site = at_site[rows, columns]
    only = sites.only[site]
    by_fragment = sites.by_fragment[site]
    cycle = bases.shape[1] - 1 - columns if right else columns
    # A fragment's strand is its first read's, a read's is its own.
    on_reverse = np.where(by_fragment, ~fragments.read1_left[rows], right)
    eligible = ~((only == FORWARD) & on_reverse) & ~((only == REVERSE) & ~on_reverse)
    eligible &= ~((only == LATE_CYCLES) & (cycle < bases.shape[1] - LATE)) & ~(
        (only == EARLY_CYCLES) & (cycle >= EARLY)
    )
    # The machine reads its own errors at any molecule's site; a mosaic allele is the sample's.
    eligible &= (sites.cause[site] != Cause.MOSAIC) | (fragments.origin[rows] == Cause.NONE)
    drawn = np.where(by_fragment, hashed(seed, fragments.family[rows], site), rng.random(len(site)))
    hit = eligible & (drawn < sites.rate[site])
    rows, columns, site = rows[hit], columns[hit], site[hit]
    bases[rows, columns] = sites.wrong_base[site]
    cause[rows, columns] = sites.cause[site]
    lowered = np.clip(rng.normal(sites.quality[site], 4.0), 6, 40).astype(np.uint8)
    if profile == "novaseq":
        # Binned as all others, yet a base that a caller counts.
        lowered = np.maximum(_NOVASEQ[np.searchsorted(_NOVASEQ_FROM, lowered, side="right")], 12)
    own = quals[rows, columns]
    quals[rows, columns] = np.where(sites.quality[site] > 0, np.minimum(own, lowered), own)


assert T == 4, "a base's complement is 5 minus its code"
