"""Compiled loops that lay reads, reference and ALT on the tensor's columns.

Which reads, in which order, and which columns insertions open: DESIGN "Tensor".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.tensors.kernel_tools import (
    DELETION,
    GAP,
    HARD_CLIP,
    INSERTION,
    PADDING,
    SKIP,
    SOFT_CLIP,
    Row,
    Rows,
    inlined,
    kernel_part,
    moves_reference,
    read_at,
    read_hash,
    smallest,
)
from cnnspark.tensors.schema import MATE_ROW, REF_COLUMN, WINDOW

_MATE_ROW = np.uint16(MATE_ROW)
_NO_MARK = np.uint16(0)


class _Layout(NamedTuple):
    """Where positions stand in the tensor of an allele: position p at ``columns[p - start]``."""

    start: int  # of the window, before columns are opened
    columns: np.ndarray  # int64 (W,); may lie outside of the tensor
    opened: np.ndarray  # int64 (W,), columns for insertions directly left of each


class _Chosen(NamedTuple):
    """The reads of a record that become rows, sorted by (start, hash)."""

    pairs: np.ndarray  # int64 (rows,), numbers of Pairs
    has_mate: np.ndarray  # bool (rows,), whether the read's mate is chosen as well


@jit
def encode(reads, reference, sites, alleles, pairs, read_limit, use_soft_clips):
    """The tensors of all alleles of the records (DESIGN "Tensor").

    Args:
        reads: Reads.
        reference: Reference.
        sites: Sites.
        alleles: Alleles of the sites.
        pairs: Pairs of the sites and the reads.
        read_limit: int, the most rows of an allele.
        use_soft_clips: bool, whether clipped bases are laid out as if they were aligned.

    Returns:
        Rows.
    """
    rows = _empty_rows(sites, pairs, len(alleles.starts), read_limit)
    columns = np.empty(WINDOW, np.int64)
    opened = np.empty(WINDOW, np.int64)
    longest = np.empty(WINDOW, np.int64)
    no_quals = np.zeros(WINDOW, np.uint8)
    for r in range(len(sites.starts)):
        layout = _Layout(sites.starts[r] - REF_COLUMN, columns, opened)
        chosen = _choose(reads, pairs, r, sites.hashes[r], read_limit)
        _find_insertions(reads, pairs, chosen, layout.start, longest)
        for a in range(sites.allele_offsets[r], sites.allele_offsets[r + 1]):
            edit = alleles.bases[alleles.offsets[a] : alleles.offsets[a + 1]]
            _open_columns(layout, longest, alleles.starts[a], alleles.ref_lengths[a], len(edit))
            _lay_reference(Row(rows.references[a], no_quals), layout, reference)
            for k in range(WINDOW):  # a copy in one statement takes four seconds to compile
                rows.alternates[a, k] = rows.references[a, k]
            _lay_edit(rows.alternates[a], layout, alleles.starts[a], alleles.ref_lengths[a], edit)
            number = a - sites.allele_offsets[r] + 1
            _lay_reads(rows, rows.offsets[a], layout, number, chosen, pairs, reads, use_soft_clips)
    return rows


@kernel_part
def _empty_rows(sites, pairs, alleles, read_limit):
    """Rows without reads, reference or ALT, the offsets set."""
    offsets = np.zeros(alleles + 1, np.int64)
    for r in range(len(sites.starts)):
        count = min(pairs.offsets[r + 1] - pairs.offsets[r], read_limit)
        for a in range(sites.allele_offsets[r], sites.allele_offsets[r + 1]):
            offsets[a + 1] = offsets[a] + count
    total = offsets[alleles]
    return Rows(
        offsets,
        np.zeros((total, WINDOW), np.uint8),
        np.zeros((total, WINDOW), np.uint8),
        np.empty(total, np.uint16),
        np.empty(total, np.uint8),
        np.empty(total, np.uint8),
        np.zeros((alleles, WINDOW), np.uint8),
        np.zeros((alleles, WINDOW), np.uint8),
    )


@kernel_part
def _choose(reads, pairs, r, record_hash, limit):
    """The pairs of record ``r`` with the ``limit`` smallest hashes, all of them if there are no more."""
    first = pairs.offsets[r]
    n = pairs.offsets[r + 1] - first
    hashes = np.empty(n, np.uint64)
    for j in range(n):
        hashes[j] = read_hash(reads, pairs.reads[first + j], record_hash)
    chosen = smallest(hashes, limit)
    # Reads come in the order of their starts already: only runs of equal starts move.
    for a in range(1, len(chosen)):
        moving = chosen[a]
        start = reads.starts[pairs.reads[first + moving]]
        b = a - 1
        while b >= 0 and reads.starts[pairs.reads[first + chosen[b]]] == start and hashes[chosen[b]] > hashes[moving]:
            chosen[b + 1] = chosen[b]
            b -= 1
        chosen[b + 1] = moving
    for j in range(len(chosen)):
        chosen[j] += first
    return _Chosen(chosen, _with_mate(reads, pairs, chosen))


@kernel_part
def _with_mate(reads, pairs, chosen):
    """Whether each chosen read's mate is also chosen: the same name, and the other of first and second in pair."""
    found = np.zeros(len(chosen), np.bool_)
    for i in range(len(chosen)):
        one = pairs.reads[chosen[i]]
        for j in range(i):
            other = pairs.reads[chosen[j]]
            if (
                reads.name_hashes[one] == reads.name_hashes[other]
                and (reads.flags[one] ^ reads.flags[other]) & 0xC0 == 0xC0
            ):
                found[i] = found[j] = True
    return found


@kernel_part
def _find_insertions(reads, pairs, chosen, window_start, longest):
    """Sets ``longest`` int64 (W,) to the most bases that a chosen read has inserted left of each position."""
    longest[:] = 0
    for pair in chosen.pairs:
        read = read_at(reads, pairs.reads[pair])
        at = read.start
        inserted = np.int64(0)
        for k in range(len(read.ops)):
            operation = read.ops[k]
            length = np.int64(read.lengths[k])
            if operation == INSERTION:
                inserted += length
                if window_start <= at < window_start + WINDOW:
                    longest[at - window_start] = max(longest[at - window_start], inserted)
            elif length > 0 and moves_reference(operation):
                at += length
                inserted = np.int64(0)
                if at >= window_start + WINDOW:
                    break


@kernel_part
def _open_columns(layout, longest, edit_start, ref_length, edit_length):
    """Sets the layout of an allele: columns for what reads have inserted, and for what it inserts itself."""
    shared = min(edit_length, ref_length)
    boundary = edit_start + shared - layout.start
    opened = layout.opened
    columns = layout.columns
    for k in range(WINDOW):  # a copy in one statement takes four seconds to compile
        opened[k] = longest[k]
    if 0 <= boundary < WINDOW:
        opened[boundary] = max(opened[boundary], edit_length - shared)
    columns[REF_COLUMN] = REF_COLUMN
    for k in range(REF_COLUMN + 1, WINDOW):
        columns[k] = columns[k - 1] + 1 + opened[k]
    for k in range(REF_COLUMN - 1, -1, -1):
        columns[k] = columns[k + 1] - 1 - opened[k + 1]


@inlined
def _fill_opened(row, column, opened):
    """Sets the opened columns directly left of ``column`` to gaps."""
    for c in range(max(column - opened, 0), min(column, WINDOW)):
        row.bases[c] = GAP
        row.quals[c] = 0


@kernel_part
def _lay_reference(row, layout, reference):
    """Lays the reference on a row, with gaps in the opened columns."""
    for k in range(WINDOW):
        column = layout.columns[k]
        _fill_opened(row, column, layout.opened[k])
        index = layout.start + k - reference.start
        if 0 <= column < WINDOW and 0 <= index < len(reference.codes):
            row.bases[column] = reference.codes[index]


@kernel_part
def _lay_edit(bases, layout, start, ref_length, edit):
    """Replaces ``ref_length`` bases of the reference at ``start`` by those of ``edit``, in the row ``bases``."""
    shared = min(len(edit), ref_length)
    boundary = start + shared - layout.start
    for j in range(max(len(edit), ref_length)):
        k = start + j - layout.start
        if j < ref_length:
            if 0 <= k < WINDOW and 0 <= layout.columns[k] < WINDOW:
                bases[layout.columns[k]] = edit[j] if j < shared else GAP
        elif 0 <= boundary < WINDOW:
            c = layout.columns[boundary] - layout.opened[boundary] + j - shared
            if 0 <= c < WINDOW:
                bases[c] = edit[j]


@kernel_part
def _lay_reads(rows, at_row, layout, number, chosen, pairs, reads, use_soft_clips):
    """Lays the chosen reads on the rows from ``at_row`` on, for the ALT with this number among the scorable ones.

    Rows are sorted by what they support: neither, REF, this ALT, another ALT.
    """
    for support in range(4):
        for i in range(len(chosen.pairs)):
            pair = chosen.pairs[i]
            haplotype = pairs.haplotypes[pair]
            if haplotype <= 0:
                shown = haplotype + 1
            else:
                shown = 2 if haplotype == number else 3
            if shown != support:
                continue
            read = pairs.reads[pair]
            _lay_read(Row(rows.bases[at_row], rows.quals[at_row]), layout, read_at(reads, read), use_soft_clips)
            rows.flags[at_row] = reads.flags[read] | (_MATE_ROW if chosen.has_mate[i] else _NO_MARK)
            rows.mapqs[at_row] = reads.mapqs[read]
            rows.support[at_row] = support
            at_row += 1


@inlined
def _lay_read(row, layout, read, use_soft_clips):
    """Lays one read on a row of nothing."""
    window_start = layout.start
    window_end = window_start + WINDOW
    at = read.start
    if use_soft_clips:
        # Clipped bases are laid out as if they were aligned.
        for k in range(len(read.ops)):
            if read.ops[k] == SOFT_CLIP:
                at -= read.lengths[k]
            elif read.ops[k] != HARD_CLIP and read.ops[k] != PADDING:
                break
    query = np.int64(0)
    inserted = np.int64(0)  # bases laid already into the columns opened left of ``at``
    inside = False  # whether the base left of ``at`` belongs to the read, so that the boundary is spanned
    for k in range(len(read.ops)):
        operation = read.ops[k]
        length = np.int64(read.lengths[k])
        if operation == SOFT_CLIP and not use_soft_clips:
            query += length
            continue
        if HARD_CLIP <= operation <= PADDING or length == 0:
            continue
        if operation == INSERTION:
            if window_start <= at < window_end:
                column = layout.columns[at - window_start]
                width = layout.opened[at - window_start]
                if inserted == 0:
                    _fill_opened(row, column, width)
                for j in range(length):
                    c = column - width + inserted + j
                    if 0 <= c < WINDOW:
                        row.bases[c] = read.bases[query + j]
                        row.quals[c] = read.quals[query + j]
            inserted += length
            query += length
            continue
        if operation == SKIP:
            at += length
            inserted = np.int64(0)
            inside = False
            continue
        # M, D, =, X, and S if soft clips are used.
        for position in range(max(at, window_start), min(at + length, window_end)):
            column = layout.columns[position - window_start]
            width = layout.opened[position - window_start]
            spanned = position > at or (inside and inserted == 0)
            if width > 0 and spanned:
                _fill_opened(row, column, width)
            if 0 <= column < WINDOW:
                if operation == DELETION:
                    row.bases[column] = GAP
                else:
                    row.bases[column] = read.bases[query + position - at]
                    row.quals[column] = read.quals[query + position - at]
        at += length
        inserted = np.int64(0)
        inside = True
        if operation != DELETION:
            query += length
