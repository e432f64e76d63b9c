"""Alignments as an aligner would write them, from the true place of each base.

The scores are those of bwa mem: near a read's end an insertion or deletion costs more than mismatches or a soft clip,
so the aligner does not open it there. At some indels it goes even further from the end without a gap, as aligners do
that look at one read at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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


class Alignments(NamedTuple):
    """How n reads were placed. Kernels take it whole, as :class:`cnnspark.simulation.sequencing.RawReads`."""

    start: np.ndarray  # int64 (n,), position of the first aligned base on the piece; -1 if the read is not placed
    end: np.ndarray  # int64 (n,), one past the last aligned base
    edit_distance: np.ndarray  # int64 (n,), the NM tag
    cigars: np.ndarray  # uint32 (n, operations), BAM's: length << 4 | operation
    n_cigar: np.ndarray  # int64 (n,), operations of each CIGAR


class Blocks(NamedTuple):
    """Stretches of one read that follow the reference base by base, in the order of the read (m blocks)."""

    starts: np.ndarray  # int64 (m,), first base of the read
    ends: np.ndarray  # int64 (m,), one past the last base of the read
    refs: np.ndarray  # int64 (m,), position of the first base on the piece


def unopened_bases(contig: Contig, variants: Sequence[Variant], share: float, rng: np.random.Generator) -> np.ndarray:
    """Draws how near to a read's end the aligner opens no gap, for each base of the contig.

    Args:
        contig: the piece that reads are aligned to.
        variants: the sample's true variants; every indel among them may become one that is hard to align.
        share: how much of this mechanism, 1 is the usual amount.
        rng: draws the indels and the bases.

    Returns:
        int16 (length,), in bases; 0 leaves it to the scores. With a ``share`` of 0 it is ALWAYS_OPEN everywhere: then
        no read is misaligned.
    """
    if share == 0:
        return np.full(contig.length, ALWAYS_OPEN, dtype=np.int16)
    bases = np.zeros(contig.length, dtype=np.int16)
    for variant in variants:
        if len(variant.ref) != len(variant.alt) and rng.random() < UNOPENED_SHARE * share:
            bases[variant.start : variant.end + 1] = rng.integers(*UNOPENED_BASES)
    return bases


def align(reads: RawReads, reference: np.ndarray, unopened: np.ndarray) -> Alignments:
    """Places n reads on a piece of the reference.

    Args:
        reads: the reads, in the reference's direction.
        reference: uint8 (length,), base codes of the piece.
        unopened: int16 (length,), from :func:`unopened_bases`.

    Returns:
        The alignments, in the order of the reads.
    """
    return _align_all(reads.bases, reads.ref_pos, reference, unopened)


@jit
def _best_way(bases, reference, unopened, blocks, n):
    """The best alignment from block 0's start to the read's right end: (last block that it uses, where that one ends).

    In each of the n blocks the read either goes straight on without gaps, to its end or to a soft clip, or over the gap
    to the next block.
    """
    read_length, reference_length = len(bases), len(reference)
    starts, ends, refs = blocks
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
def _find_blocks(ref_pos, blocks):
    """Fills in the blocks of a read from the place of each base, int32 (read length,); returns how many there are.

    Bases behind the MAX_BLOCKS-th block belong to none.
    """
    n = 0
    for j in range(len(ref_pos)):
        at = ref_pos[j]
        if at < 0:
            continue
        if n > 0 and blocks.ends[n - 1] == j and blocks.refs[n - 1] + j - blocks.starts[n - 1] == at:
            blocks.ends[n - 1] = j + 1
            continue
        if n == MAX_BLOCKS:
            break
        blocks.starts[n], blocks.ends[n], blocks.refs[n] = j, j + 1, at
        n += 1
    return n


@jit
def _longest(blocks, n):
    """The number of the longest of n blocks, the first of several."""
    longest = 0
    for b in range(1, n):
        if blocks.ends[b] - blocks.starts[b] > blocks.ends[longest] - blocks.starts[longest]:
            longest = b
    return longest


@jit
def _mirror(blocks, last, read_length, reference_length, mirrored):
    """Fills in the blocks 0 to ``last`` as they are when read and reference are turned round, the last one first."""
    for b in range(last + 1):
        mirrored.starts[last - b] = read_length - blocks.ends[b]
        mirrored.ends[last - b] = read_length - blocks.starts[b]
        mirrored.refs[last - b] = reference_length - (blocks.refs[b] + blocks.ends[b] - blocks.starts[b])


@jit
def _is_placed(blocks, first, last):
    """Whether the blocks ``first`` to ``last`` are enough for an alignment, and none of them is empty."""
    aligned = 0
    for b in range(first, last + 1):
        if blocks.ends[b] <= blocks.starts[b]:
            return False
        aligned += blocks.ends[b] - blocks.starts[b]
    return aligned >= MIN_ALIGNED


@jit
def _write_cigar(blocks, first, last, read_length, cigar):
    """Fills in the CIGAR of a read that is aligned by some blocks; returns its operations and the bases in its gaps."""
    starts, ends, refs = blocks
    k, gap_bases = 0, 0
    if starts[first] > 0:
        cigar[k] = (starts[first] << 4) | OP_S
        k += 1
    for b in range(first, last + 1):
        if b > first:
            inserted = starts[b] - ends[b - 1]
            deleted = refs[b] - (refs[b - 1] + ends[b - 1] - starts[b - 1])
            if inserted > 0:
                cigar[k] = (inserted << 4) | OP_I
                k += 1
            if deleted > 0:
                cigar[k] = (deleted << 4) | OP_D
                k += 1
            gap_bases += inserted + deleted
        cigar[k] = ((ends[b] - starts[b]) << 4) | OP_M
        k += 1
    if ends[last] < read_length:
        cigar[k] = ((read_length - ends[last]) << 4) | OP_S
        k += 1
    return k, gap_bases


@jit
def _mismatches(bases, reference, blocks, first, last):
    """Bases of the blocks ``first`` to ``last`` that differ from the reference."""
    n = 0
    for b in range(first, last + 1):
        for j in range(blocks.ends[b] - blocks.starts[b]):
            if bases[blocks.starts[b] + j] != reference[blocks.refs[b] + j]:
                n += 1
    return n


@jit
def _align_all(bases, ref_pos, reference, unopened):
    """The Alignments of all reads: uint8 (n, read length) base codes, int32 (n, read length) places on the piece."""
    n, read_length = bases.shape
    start, end = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    edit_distance, n_cigar = np.zeros(n, np.int64), np.zeros(n, np.int64)
    cigars = np.zeros((n, _MAX_OPS), np.uint32)
    blocks = Blocks(np.zeros(MAX_BLOCKS, np.int64), np.zeros(MAX_BLOCKS, np.int64), np.zeros(MAX_BLOCKS, np.int64))
    mirrored = Blocks(np.zeros(MAX_BLOCKS, np.int64), np.zeros(MAX_BLOCKS, np.int64), np.zeros(MAX_BLOCKS, np.int64))
    backwards, unopened_backwards = reference[::-1], unopened[::-1]
    for i in range(n):
        n_blocks = _find_blocks(ref_pos[i], blocks)
        if n_blocks == 0:
            continue
        core = _longest(blocks, n_blocks)
        right_side = Blocks(blocks.starts[core:], blocks.ends[core:], blocks.refs[core:])
        last, right_end = _best_way(bases[i], reference, unopened, right_side, n_blocks - core)
        last += core
        # The left side is the right side of the mirrored read.
        _mirror(blocks, core, read_length, len(reference), mirrored)
        first, left_end = _best_way(bases[i, ::-1], backwards, unopened_backwards, mirrored, core + 1)
        first = core - first
        # Both sides end in blocks that each may have lengthened or cut at its own end.
        left = read_length - left_end
        blocks.refs[first] += left - blocks.starts[first]
        blocks.starts[first] = left
        blocks.ends[last] = right_end
        if _is_placed(blocks, first, last):
            n_cigar[i], gap_bases = _write_cigar(blocks, first, last, read_length, cigars[i])
            edit_distance[i] = gap_bases + _mismatches(bases[i], reference, blocks, first, last)
            start[i], end[i] = blocks.refs[first], blocks.refs[last] + blocks.ends[last] - blocks.starts[last]
    return Alignments(start, end, edit_distance, cigars, n_cigar)
