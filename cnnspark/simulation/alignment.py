"""Alignments as an aligner would write them, from the true place of each base.

Scores are bwa mem's: near a read's end an insertion or deletion costs more than mismatches or a soft clip, so it is not
opened there. At some indels even more of the read is laid out without it, as aligners do that look at reads one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.simulation.genome import Contig
from cnnspark.simulation.sample import Variant
from cnnspark.simulation.sequencing import RawReads

# bwa mem's defaults (its options -A -B -O -E -L).
MATCH, MISMATCH, GAP_OPEN, GAP_EXTEND, CLIP = 1, -4, 6, 1, 5
# Fewer aligned bases than this are no alignment (bwa mem -T 30).
MIN_ALIGNED = 30
OP_M, OP_I, OP_D, OP_S = 0, 1, 2, 4
MAX_BLOCKS = 24
_MAX_OPS = 2 + 3 * MAX_BLOCKS
# Share of the indels at which gaps are not opened within so many bases of a read's end.
UNOPENED_SHARE = 0.15
UNOPENED_BASES = (15, 60)
# Marks a genome at which every gap is opened.
ALWAYS_OPEN = -1


@dataclass(frozen=True)
class Alignments:
    """How n reads were placed; ``start`` is -1 where a read was not."""

    start: np.ndarray  # int64 (n,), position of the first aligned base on the piece
    end: np.ndarray  # int64 (n,), one past the last
    edit_distance: np.ndarray  # int64 (n,), the NM tag
    cigars: np.ndarray  # uint32 (n, operations), BAM's: length << 4 | operation
    n_cigar: np.ndarray  # int64 (n,)


def unopened_bases(contig: Contig, variants: Sequence[Variant], share: float, rng: np.random.Generator) -> np.ndarray:
    """How near to a read's end gaps stay closed beside each base, int16 (length,): 0 is what the scores say.

    ALWAYS_OPEN everywhere where ``share`` is 0: then nothing is misaligned.
    """
    if share == 0:
        return np.full(contig.length, ALWAYS_OPEN, dtype=np.int16)
    bases = np.zeros(contig.length, dtype=np.int16)
    for variant in variants:
        if len(variant.ref) != len(variant.alt) and rng.random() < UNOPENED_SHARE * share:
            bases[variant.start : variant.end + 1] = rng.integers(*UNOPENED_BASES)
    return bases


def align(reads: RawReads, reference: np.ndarray, unopened: np.ndarray) -> Alignments:
    """Places reads on the piece (uint8 base codes)."""
    return Alignments(*_align_all(reads.bases, reads.ref_pos, reference, unopened))


@jit
def _best_way(bases, reference, unopened, starts, ends, refs, n):
    """The best alignment from block 0's start to the read's right end: (last block that it uses, where that one ends).

    Block ``i`` is the bases [starts[i], ends[i]) of the read, which follow the reference from refs[i] on. In each block
    the read either goes straight on without gaps, to its end or to a soft clip, or over the gap to the next block.
    """
    read_length, reference_length = len(bases), len(reference)
    opens = np.zeros(n, np.bool_)
    straight_end = np.zeros(n, np.int64)
    best = 0
    for i in range(n - 1, -1, -1):
        length = min(read_length - starts[i], reference_length - refs[i])
        score, peak, peak_at, at_gap, score_at_gap = 0, -(1 << 30), 0, ends[i] - starts[i], 0
        for j in range(length):
            score += MATCH if bases[starts[i] + j] == reference[refs[i] + j] else MISMATCH
            if score > peak:
                peak, peak_at = score, j
            if j == at_gap - 1:
                score_at_gap = score
        end = starts[i] + length
        clipped = end < read_length or peak - CLIP > score
        straight_score = peak - CLIP if clipped else score
        straight_end[i] = starts[i] + peak_at + 1 if clipped else end
        if i + 1 < n:
            gap = starts[i + 1] - ends[i] + refs[i + 1] - (refs[i] + ends[i] - starts[i])
            gapped_score = score_at_gap - GAP_OPEN - GAP_EXTEND * gap + best
            closed = unopened[refs[i] + ends[i] - starts[i] - 1]
            opens[i] = gapped_score > straight_score or closed == ALWAYS_OPEN
            beyond = read_length - starts[i + 1]
            if closed > 0 and beyond < closed and length == read_length - starts[i]:
                # Laid out to the end, unless hardly a base would fit there.
                misfits = (MATCH * (read_length - ends[i]) - (score - score_at_gap)) / (MATCH - MISMATCH)
                if misfits <= 0.7 * (read_length - ends[i]):
                    opens[i] = False
                    straight_score, straight_end[i] = score, read_length
            best = gapped_score if opens[i] else straight_score
        else:
            best = straight_score
    last = 0
    while opens[last]:
        last += 1
    return last, straight_end[last]


@jit
def _align_all(bases, ref_pos, reference, unopened):
    """start, end, edit distance, CIGARs and their lengths of all reads: see Alignments."""
    n, read_length = bases.shape
    size = len(reference)
    start, end = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    edit_distance, n_cigar = np.zeros(n, np.int64), np.zeros(n, np.int64)
    cigars = np.zeros((n, _MAX_OPS), np.uint32)
    starts, ends, refs = np.zeros(MAX_BLOCKS, np.int64), np.zeros(MAX_BLOCKS, np.int64), np.zeros(MAX_BLOCKS, np.int64)
    left_starts, left_ends, left_refs = starts.copy(), starts.copy(), starts.copy()
    backwards, unopened_backwards = reference[::-1], unopened[::-1]
    for i in range(n):
        n_blocks = 0
        for j in range(read_length):
            at = ref_pos[i, j]
            if at < 0:
                continue
            if (
                j > 0
                and n_blocks > 0
                and ends[n_blocks - 1] == j
                and refs[n_blocks - 1] + j - starts[n_blocks - 1] == at
            ):
                ends[n_blocks - 1] = j + 1
                continue
            if n_blocks == MAX_BLOCKS:
                break
            starts[n_blocks], ends[n_blocks], refs[n_blocks] = j, j + 1, at
            n_blocks += 1
        if n_blocks == 0:
            continue
        core = 0
        for b in range(1, n_blocks):
            if ends[b] - starts[b] > ends[core] - starts[core]:
                core = b
        last, right_end = _best_way(
            bases[i], reference, unopened, starts[core:], ends[core:], refs[core:], n_blocks - core
        )
        last += core
        # The left side is the right side of the mirrored read.
        for b in range(core + 1):
            left_starts[core - b] = read_length - ends[b]
            left_ends[core - b] = read_length - starts[b]
            left_refs[core - b] = size - (refs[b] + ends[b] - starts[b])
        first, left_end = _best_way(
            bases[i, ::-1], backwards, unopened_backwards, left_starts, left_ends, left_refs, core + 1
        )
        first = core - first
        left = read_length - left_end
        # Both sides end in blocks that each may have lengthened or cut at its own end.
        refs[first] += left - starts[first]
        starts[first] = left
        ends[last] = right_end
        aligned = 0
        usable = True
        for b in range(first, last + 1):
            aligned += ends[b] - starts[b]
            usable &= ends[b] > starts[b]
        if not usable or aligned < MIN_ALIGNED:
            continue
        k, edits = 0, 0
        if starts[first] > 0:
            cigars[i, k] = (starts[first] << 4) | OP_S
            k += 1
        for b in range(first, last + 1):
            if b > first:
                inserted = starts[b] - ends[b - 1]
                deleted = refs[b] - (refs[b - 1] + ends[b - 1] - starts[b - 1])
                if inserted > 0:
                    cigars[i, k] = (inserted << 4) | OP_I
                    k += 1
                if deleted > 0:
                    cigars[i, k] = (deleted << 4) | OP_D
                    k += 1
                edits += inserted + deleted
            length = ends[b] - starts[b]
            cigars[i, k] = (length << 4) | OP_M
            k += 1
            for j in range(length):
                if bases[i, starts[b] + j] != reference[refs[b] + j]:
                    edits += 1
        if ends[last] < read_length:
            cigars[i, k] = ((read_length - ends[last]) << 4) | OP_S
            k += 1
        start[i], end[i] = refs[first], refs[last] + ends[last] - starts[last]
        edit_distance[i], n_cigar[i] = edits, k
    return start, end, edit_distance, cigars, n_cigar
