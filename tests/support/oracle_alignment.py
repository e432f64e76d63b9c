"""The simulator's aligner, slow and plain: one read at a time, blocks as objects, numpy's own sums for the scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnspark.simulation.alignment import (
    CLIP,
    GAP_EXTEND,
    GAP_OPEN,
    MATCH,
    MIN_ALIGNED,
    MISMATCH,
    OP_D,
    OP_I,
    OP_M,
    OP_S,
)

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


def align_one(bases: np.ndarray, ref_pos: np.ndarray, reference: np.ndarray) -> tuple[int, int, int, Cigar] | None:
    """(start, end, edit distance, CIGAR) of one read, None where too little of it can be placed."""
    known = np.flatnonzero(ref_pos >= 0)
    if not len(known):
        return None
    breaks = np.flatnonzero((np.diff(known) != 1) | (np.diff(ref_pos[known]) != 1)) + 1
    blocks = [Block(int(b[0]), int(b[-1]) + 1, int(ref_pos[b[0]])) for b in np.split(known, breaks)]
    core = max(range(len(blocks)), key=lambda i: (blocks[i].end - blocks[i].start, -i))
    right = best_way(bases, reference, blocks[core:])
    # The left side is the right side of the mirrored read.
    mirrored = [block.mirrored(len(bases), len(reference)) for block in blocks[core::-1]]
    left = [
        block.mirrored(len(bases), len(reference)) for block in best_way(bases[::-1], reference[::-1], mirrored)[::-1]
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


def best_way(bases: np.ndarray, reference: np.ndarray, blocks: list[Block]) -> list[Block]:
    """The best alignment from the first block's start to the read's right end, as the blocks it uses."""
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
