"""Alignments as an aligner would write them, from the true place of each base.

Reads that follow the reference base by base are aligned at once; the others one by one, with bwa mem's scores: near a
read's end an insertion or deletion costs more than mismatches or a soft clip, so it is not opened there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cnnspark.simulation.sequencing import READ_LENGTH, RawReads

# bwa mem's defaults (its options -A -B -O -E -L).
MATCH, MISMATCH, GAP_OPEN, GAP_EXTEND, CLIP = 1, -4, 6, 1, 5
# Fewer aligned bases than this are no alignment (bwa mem -T 30).
MIN_ALIGNED = 30
# Mismatches in the outermost bases that make a soft clip worth looking at.
_END_BASES, _END_MISMATCHES = 14, 2
OP_M, OP_I, OP_D, OP_S = 0, 1, 2, 4
WHOLE_READ = [(OP_M, READ_LENGTH)]

Cigar = list[tuple[int, int]]


class Block(NamedTuple):
    """Bases [start, end) of a read that follow the reference from position ``ref`` on."""

    start: int
    end: int
    ref: int

    @property
    def ref_end(self) -> int:
        return self.ref + self.end - self.start

    def mirrored(self, read_length: int, reference_length: int) -> Block:
        """The same stretch when read and reference are turned round."""
        return Block(read_length - self.end, read_length - self.start, reference_length - self.ref_end)


@dataclass(frozen=True)
class Alignments:
    """How n reads were placed; ``start`` is -1 where a read was not."""

    start: np.ndarray  # int64 (n,), joined position of the first aligned base
    end: np.ndarray  # int64 (n,), one past the last
    edit_distance: np.ndarray  # int64 (n,), the NM tag
    cigars: dict[int, Cigar]  # of the reads that are not WHOLE_READ, by row


def align(reads: RawReads, reference: np.ndarray) -> Alignments:
    """Places reads on the joined reference (uint8 base codes)."""
    steps = np.diff(reads.ref_pos, axis=1)
    plain = (reads.ref_pos[:, 0] >= 0) & (steps == 1).all(axis=1)
    wrong = np.zeros(reads.bases.shape, dtype=bool)
    wrong[plain] = reads.bases[plain] != reference[reads.ref_pos[plain]]
    for end in (wrong[:, :_END_BASES], wrong[:, -_END_BASES:]):
        plain &= end.sum(axis=1) < _END_MISMATCHES
    start = np.where(plain, reads.ref_pos[:, 0], -1)
    end_pos = np.where(plain, start + READ_LENGTH, -1)
    edit_distance = wrong.sum(axis=1)
    cigars: dict[int, Cigar] = {}
    for row in np.flatnonzero(~plain & (reads.ref_pos >= 0).any(axis=1)):
        placed = _align_one(reads.bases[row], reads.ref_pos[row], reference)
        if placed is not None:
            start[row], end_pos[row], edit_distance[row], cigars[int(row)] = placed
    return Alignments(start, end_pos, edit_distance, cigars)


def _align_one(bases: np.ndarray, ref_pos: np.ndarray, reference: np.ndarray) -> tuple[int, int, int, Cigar] | None:
    """(start, end, edit distance, CIGAR) of one read, None where too little of it can be placed."""
    known = np.flatnonzero(ref_pos >= 0)
    breaks = np.flatnonzero((np.diff(known) != 1) | (np.diff(ref_pos[known]) != 1)) + 1
    blocks = [Block(int(b[0]), int(b[-1]) + 1, int(ref_pos[b[0]])) for b in np.split(known, breaks)]
    core = max(range(len(blocks)), key=lambda i: (blocks[i].end - blocks[i].start, -i))
    right = _best_way(bases, reference, blocks[core:])
    # The left side is the right side of the mirrored read.
    mirrored = [block.mirrored(len(bases), len(reference)) for block in blocks[core::-1]]
    left = [
        block.mirrored(len(bases), len(reference)) for block in _best_way(bases[::-1], reference[::-1], mirrored)[::-1]
    ]
    # Both sides end in the core block, which each may have lengthened or cut at its own end.
    middle = Block(left[-1].start, right[0].end, left[-1].ref)
    chain = [*left[:-1], middle, *right[1:]]
    if middle.end <= middle.start or sum(block.end - block.start for block in chain) < MIN_ALIGNED:
        return None
    cigar: Cigar = [(OP_S, chain[0].start)] if chain[0].start else []
    edits = 0
    for i, block in enumerate(chain):
        if i:
            inserted, deleted = block.start - chain[i - 1].end, block.ref - chain[i - 1].ref_end
            cigar += [(op, n) for op, n in ((OP_I, inserted), (OP_D, deleted)) if n]
            edits += inserted + deleted
        cigar.append((OP_M, block.end - block.start))
        edits += int((bases[block.start : block.end] != reference[block.ref : block.ref_end]).sum())
    if chain[-1].end < len(bases):
        cigar.append((OP_S, len(bases) - chain[-1].end))
    return chain[0].ref, chain[-1].ref_end, edits, cigar


def _best_way(bases: np.ndarray, reference: np.ndarray, blocks: list[Block]) -> list[Block]:
    """The best alignment from the first block's start to the read's right end, as the blocks it uses.

    In each block the read either goes straight on without gaps, to its end or to a soft clip, or over the gap to the
    next block, whichever scores best.
    """
    best_score = 0
    best: list[Block] = []
    for i in range(len(blocks) - 1, -1, -1):
        block = blocks[i]
        straight = reference[block.ref : block.ref + len(bases) - block.start]
        scores = np.cumsum(np.where(bases[block.start : block.start + len(straight)] == straight, MATCH, MISMATCH))
        straight_score, end = int(scores[-1]), block.start + len(scores)
        peak = int(scores.argmax())
        if end < len(bases) or scores[peak] - CLIP > straight_score:
            straight_score, end = int(scores[peak]) - CLIP, block.start + peak + 1
        if i + 1 < len(blocks):
            gap = blocks[i + 1].start - block.end + blocks[i + 1].ref - block.ref_end
            gapped_score = int(scores[block.end - block.start - 1]) - GAP_OPEN - GAP_EXTEND * gap + best_score
            if gapped_score > straight_score:
                best_score, best = gapped_score, [block, *best]
                continue
        best_score, best = straight_score, [Block(block.start, end, block.ref)]
    return best
