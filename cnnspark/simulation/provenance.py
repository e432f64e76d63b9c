"""Where each base of a simulated read comes from, and from there: why a false allele is in the callset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.formats.reference import LETTER_OF_CODE, T
from cnnspark.simulation.genome import Contig
from cnnspark.variants.haplotypes import left_normalise, make_allele


class Cause(IntEnum):
    """What put a base (or a gap) into a read. ``NONE``: it is the sample's own and the reference's."""

    NONE = 0
    HET = 1
    HOM = 2
    MOSAIC = 3
    PARALOGS = 4
    STUTTER = 5
    OXIDATION = 6
    DEAMINATION = 7
    MOTIFS = 8
    READ_ENDS = 9
    ADAPTERS = 10
    MISALIGNED = 11
    CHIMERAS = 12
    LOW_COMPLEXITY = 13
    CONTAMINATION = 14
    DUPLICATES = 15
    LOW_QUALITY = 16
    OTHER = 17  # a sequencing error that the base quality owns up to

    @property
    def is_true(self) -> bool:
        """Whether the sample has such an allele."""
        return self in TRUE_CAUSES

    @property
    def label(self) -> str:
        """The name in ``causes.tsv``."""
        return self.name.lower()


TRUE_CAUSES = (Cause.HET, Cause.HOM, Cause.MOSAIC)
_NONE, _MISALIGNED, _STUTTER, _HET, _MOSAIC = (
    int(c) for c in (Cause.NONE, Cause.MISALIGNED, Cause.STUTTER, Cause.HET, Cause.MOSAIC)
)
# (start, ref, alt), left-normalised, with the VCF's anchor base; start is relative to the contig's piece.
AlleleKey = tuple[int, str, str]


@jit
def _cause_of_mismatch(reads, i, column, at):
    """Why read ``i`` shows another base than the reference at ``at``.

    A base that stands elsewhere than where it came from is misaligned, unless the read stuttered: that shifted it.
    """
    why = np.int64(reads.cause[i, column])
    if why <= _MOSAIC and reads.ref_pos[i, column] != at:
        if reads.origin[i] != _NONE:
            return np.int64(reads.origin[i])
        return np.int64(_STUTTER if reads.stutter_from[i] >= 0 else _MISALIGNED)
    return why


@jit
def _cause_of_gap(reads, i, column, behind):
    """Why read ``i`` has an insertion of the bases [column, behind), or a deletion before both if they are equal."""
    if reads.stutter_from[i] >= 0 and column <= reads.stutter_to[i] and behind >= reads.stutter_from[i]:
        return np.int64(_STUTTER)
    if reads.origin[i] != _NONE:
        return np.int64(reads.origin[i])
    why = np.int64(_HET)
    for j in range(max(0, column - 1), min(reads.cause.shape[1], behind + 1)):
        if reads.cause[i, j] != _NONE and reads.cause[i, j] <= _MOSAIC:
            why = np.int64(reads.cause[i, j])
    # An error in what was inserted makes another allele of it.
    for j in range(column, behind):
        if reads.cause[i, j] > _MOSAIC:
            why = np.int64(reads.cause[i, j])
    return why


@jit
def observe_causes(reads, placed, counted, reference, min_qual):
    """What aligned reads show that differs from the reference, each with its cause.

    Args:
        reads: RawReads, n of them.
        placed: their Alignments.
        counted: bool (n,), the reads that a caller would count.
        reference: uint8 (length,), base codes of the piece.
        min_qual: least base quality of a mismatch.

    Returns:
        ``mismatches`` int64 (m, 3): position, base code, cause. ``gaps`` int64 (k, 5): read, position of the first
        deleted base or of the base behind an insertion, length in bases (deletions negative), column of the base
        behind the anchor, cause.
    """
    most_mismatches, most_gaps = 0, 0
    for i in range(len(counted)):
        if counted[i] and placed.start[i] >= 0:
            most_mismatches += placed.edit_distance[i]
            most_gaps += placed.n_cigar[i]
    mismatches = np.empty((most_mismatches, 3), np.int64)
    gaps = np.empty((most_gaps, 5), np.int64)
    m, g = 0, 0
    for i in range(len(counted)):
        if not counted[i] or placed.start[i] < 0:
            continue
        at, column = placed.start[i], np.int64(0)
        for k in range(placed.n_cigar[i]):
            op, length = placed.cigars[i, k] & 15, int(placed.cigars[i, k] >> 4)
            if op == 0:
                for j in range(length):
                    base = reads.bases[i, column + j]
                    if base != reference[at + j] and reads.quals[i, column + j] >= min_qual:
                        mismatches[m, 0], mismatches[m, 1] = at + j, base
                        mismatches[m, 2] = _cause_of_mismatch(reads, i, column + j, at + j)
                        m += 1
                at += length
                column += length
            elif op == 4:
                column += length
            else:
                behind = column + length if op == 1 else column
                gaps[g, 0], gaps[g, 1], gaps[g, 3] = i, at, column
                gaps[g, 2] = length if op == 1 else -length
                gaps[g, 4] = _cause_of_gap(reads, i, column, behind)
                g += 1
                if op == 1:
                    column = behind
                else:
                    at += length
    return mismatches[:m], gaps[:g]


@dataclass
class CauseCounts:
    """Reads by allele and cause, of one piece of a contig."""

    contig: Contig
    _keys: list[np.ndarray] = field(default_factory=list)
    _indels: dict[AlleleKey, dict[int, int]] = field(default_factory=dict)
    _spellings: dict[tuple[int, int, bytes], AlleleKey | None] = field(default_factory=dict)
    _table: dict[int, dict[int, int]] | None = None

    def add(self, mismatches: np.ndarray, gaps: np.ndarray, bases: np.ndarray) -> None:
        """Takes in what :func:`observe_causes` found; ``bases`` uint8 (n, read length) are the reads'."""
        self._keys.append((mismatches[:, 0] << 8) | (mismatches[:, 1] << 5) | mismatches[:, 2])
        for read, position, length, column, cause in gaps.tolist():
            inserted = bases[read, column : column + length].tobytes() if length > 0 else b""
            spelling = (position, length, inserted)
            if spelling not in self._spellings:
                self._spellings[spelling] = self._normalised(*spelling)
            key = self._spellings[spelling]
            if key is not None:
                by_cause = self._indels.setdefault(key, {})
                by_cause[cause] = by_cause.get(cause, 0) + 1

    def _normalised(self, position: int, length: int, inserted: bytes) -> AlleleKey | None:
        letters = self.contig.letters
        ref = "" if length > 0 else letters(position, position - length)
        alt = "".join(LETTER_OF_CODE[code] for code in inserted)
        start, ref, alt = left_normalise(make_allele(position, ref, alt, 0), letters)
        if start == 0:
            return None
        anchor = letters(start - 1, start)
        return start - 1, anchor + ref, anchor + alt

    def finish(self) -> None:
        """Sums up; mismatches that one read alone shows are dropped: no callset has them."""
        keys, counts = np.unique(np.concatenate([np.empty(0, np.int64), *self._keys]), return_counts=True)
        allele = keys >> 5
        totals = np.bincount(np.unique(allele, return_inverse=True)[1].reshape(-1), weights=counts)
        kept = np.repeat(totals >= 2, np.unique(allele, return_counts=True)[1])
        table: dict[int, dict[int, int]] = {}
        for key, count in zip(keys[kept].tolist(), counts[kept].tolist(), strict=True):
            table.setdefault(key >> 5, {})[key & 31] = count
        self._table = table
        self._keys, self._spellings = [], {}

    def of(self, start: int, ref: str, alt: str) -> Mapping[int, int]:
        """Reads by cause of an allele at ``start`` (POS-1 on the whole contig); empty where none was seen."""
        assert self._table is not None, "finish() comes first"
        start -= self.contig.start
        if len(ref) == len(alt) == 1:
            return self._table.get((start << 3) | LETTER_OF_CODE.index(alt), {})
        return self._indels.get((start, ref, alt), {})


def main_cause(counts: Mapping[int, int], among: Iterable[Cause]) -> tuple[Cause, int]:
    """The commonest cause of those given (the first, where several tie) and its reads; without any, ``OTHER``."""
    cause = max(among, key=lambda c: (counts.get(int(c), 0), -c))
    n = counts.get(int(cause), 0)
    return (cause, n) if n else (Cause.OTHER, 0)


assert T < 1 << 3 and max(Cause) < 1 << 5, "a base code has three bits of a key, a cause five"
