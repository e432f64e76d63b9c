"""Compiled loops that lay reads, reference and ALT on the tensor's columns.

Which reads, in which order, and which columns insertions open: DESIGN "Tensor". Arrays and conventions as in
:mod:`cnnspark.tensors.pileup_kernels`.
"""

from __future__ import annotations

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.tensors.schema import MATE_ROW, REF_COLUMN, WINDOW

_GAP = 6
_MATE_ROW = np.uint16(MATE_ROW)
_NO_MARK = np.uint16(0)


@jit
def _mix(value):
    """splitmix64's finaliser (Steele, Lea and Flood 2014): every bit of the input reaches every bit of the output."""
    value = (value + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@jit
def _smallest(hashes, wanted):
    """The ``wanted``-th smallest (from 1) of uint64, bit by bit from the highest; quicker to compile than a sort."""
    found = np.uint64(0)
    for shift in range(63, -1, -1):
        with_bit = found | (np.uint64(1) << np.uint64(shift))
        below = 0
        for value in hashes:
            if value < with_bit:
                below += 1
        if below < wanted:
            found = with_bit
    return found


@jit
def _choose(pair_begin, pair_end, pair_reads, starts, flags, name_hashes, record_hash, limit):
    """The pairs of a record with the ``limit`` smallest hashes, all where there are fewer, sorted by (start, hash)."""
    n = pair_end - pair_begin
    hashes = np.empty(n, np.uint64)
    for j in range(n):
        read = pair_reads[pair_begin + j]
        hashes[j] = _mix(_mix(name_hashes[read] ^ record_hash) ^ np.uint64(flags[read]))
    chosen = np.empty(min(n, limit), np.int64)
    kept = 0
    if n > limit:
        bound = _smallest(hashes, limit)
        below = 0
        for j in range(n):
            if hashes[j] < bound:
                below += 1
        equal = limit - below
        for j in range(n):
            if hashes[j] < bound or (hashes[j] == bound and equal > 0):
                if hashes[j] == bound:
                    equal -= 1
                chosen[kept] = j
                kept += 1
    else:
        for j in range(n):
            chosen[j] = j
    # Reads come in the order of their starts already: only runs of equal starts move.
    for a in range(1, len(chosen)):
        moving = chosen[a]
        b = a - 1
        while (
            b >= 0
            and starts[pair_reads[pair_begin + chosen[b]]] == starts[pair_reads[pair_begin + moving]]
            and hashes[chosen[b]] > hashes[moving]
        ):
            chosen[b + 1] = chosen[b]
            b -= 1
        chosen[b + 1] = moving
    for j in range(len(chosen)):
        chosen[j] += pair_begin
    return chosen


@jit
def _fill_opened(row, quals, column, opened, code):
    """Sets the opened columns directly left of ``column`` to ``code``."""
    for c in range(max(column - opened, 0), min(column, WINDOW)):
        row[c] = code
        quals[c] = 0


@jit
def _place(
    row,
    row_quals,
    columns,
    opened,
    window_start,
    start,
    bases,
    quals,
    ops,
    lengths,
    use_soft_clips,
):
    """Lays one read on the columns. ``columns[p - window_start]`` is position p's column, ``opened[...]`` how many
    insertion columns stand directly left of it."""
    window_end = window_start + WINDOW
    at = start
    if use_soft_clips:
        # Clipped bases are laid out as if they were aligned.
        for k in range(len(ops)):
            if ops[k] == 4:
                at -= lengths[k]
            elif ops[k] != 5 and ops[k] != 6:
                break
    query = np.int64(0)
    inserted = np.int64(0)  # bases laid already into the columns opened left of ``at``
    inside = False  # whether the base left of ``at`` belongs to the read, so that the boundary is spanned
    for k in range(len(ops)):
        operation = ops[k]
        length = np.int64(lengths[k])
        if operation == 4 and not use_soft_clips:
            query += length
            continue
        if operation == 5 or operation == 6 or length == 0:
            continue
        if operation == 1:
            if window_start <= at < window_end:
                column = columns[at - window_start]
                width = opened[at - window_start]
                if inserted == 0:
                    _fill_opened(row, row_quals, column, width, _GAP)
                for j in range(length):
                    c = column - width + inserted + j
                    if 0 <= c < WINDOW:
                        row[c] = bases[query + j]
                        row_quals[c] = quals[query + j]
            inserted += length
            query += length
            continue
        if operation == 3:
            at += length
            inserted = np.int64(0)
            inside = False
            continue
        # M, D, =, X, and S where it is used.
        for position in range(max(at, window_start), min(at + length, window_end)):
            column = columns[position - window_start]
            width = opened[position - window_start]
            spanned = position > at or (inside and inserted == 0)
            if width > 0 and spanned:
                _fill_opened(row, row_quals, column, width, _GAP)
            if 0 <= column < WINDOW:
                if operation == 2:
                    row[column] = _GAP
                else:
                    row[column] = bases[query + position - at]
                    row_quals[column] = quals[query + position - at]
        at += length
        inserted = np.int64(0)
        inside = True
        if operation != 2:
            query += length


@jit
def _with_mate(chosen, pair_reads, flags, name_hashes):
    """Whether each chosen read's mate is chosen, too: the same name, and the other of first and second in pair."""
    found = np.zeros(len(chosen), np.bool_)
    for i in range(len(chosen)):
        one = pair_reads[chosen[i]]
        for j in range(i):
            other = pair_reads[chosen[j]]
            if name_hashes[one] == name_hashes[other] and (flags[one] ^ flags[other]) & 0xC0 == 0xC0:
                found[i] = found[j] = True
    return found


@jit
def encode(
    starts,
    flags,
    mapqs,
    name_hashes,
    base_offsets,
    bases,
    quals,
    cigar_offsets,
    cigar_ops,
    cigar_lengths,
    reference,
    reference_start,
    record_starts,
    record_hashes,
    pair_offsets,
    pair_reads,
    pair_haplotypes,
    allele_offsets,
    edit_starts,
    edit_ref_lengths,
    edit_offsets,
    edit_bases,
    read_limit,
    use_soft_clips,
):
    """The tensors of all alleles of the records (DESIGN "Tensor").

    Alleles ``allele_offsets[r]:allele_offsets[r + 1]`` are record r's scorable ALTs; allele ``a``, trimmed, replaces
    ``edit_ref_lengths[a]`` bases at ``edit_starts[a]`` by ``edit_bases[edit_offsets[a]:edit_offsets[a + 1]]``.
    Returns row offsets, read_bases, read_quals, read_flags, read_mapqs, read_support, reference, alternate.
    """
    alleles = allele_offsets[len(record_starts)]
    row_offsets = np.zeros(alleles + 1, np.int64)
    for r in range(len(record_starts)):
        rows = min(pair_offsets[r + 1] - pair_offsets[r], read_limit)
        for a in range(allele_offsets[r], allele_offsets[r + 1]):
            row_offsets[a + 1] = row_offsets[a] + rows
    total = row_offsets[alleles]
    read_bases = np.zeros((total, WINDOW), np.uint8)
    read_quals = np.zeros((total, WINDOW), np.uint8)
    read_flags = np.empty(total, np.uint16)
    read_mapqs = np.empty(total, np.uint8)
    read_support = np.empty(total, np.uint8)
    references = np.zeros((alleles, WINDOW), np.uint8)
    alternates = np.zeros((alleles, WINDOW), np.uint8)
    longest = np.empty(WINDOW, np.int64)
    opened = np.empty(WINDOW, np.int64)
    columns = np.empty(WINDOW, np.int64)
    no_quals = np.zeros(WINDOW, np.uint8)
    for r in range(len(record_starts)):
        window_start = record_starts[r] - REF_COLUMN
        chosen = _choose(
            pair_offsets[r],
            pair_offsets[r + 1],
            pair_reads,
            starts,
            flags,
            name_hashes,
            record_hashes[r],
            read_limit,
        )
        with_mate = _with_mate(chosen, pair_reads, flags, name_hashes)
        longest[:] = 0
        for pair in chosen:
            read = pair_reads[pair]
            at = starts[read]
            inserted = np.int64(0)
            for k in range(cigar_offsets[read], cigar_offsets[read + 1]):
                operation = cigar_ops[k]
                length = np.int64(cigar_lengths[k])
                if operation == 1:
                    inserted += length
                    if window_start <= at < window_start + WINDOW:
                        longest[at - window_start] = max(longest[at - window_start], inserted)
                elif length > 0 and (operation == 0 or operation == 2 or operation == 3 or operation >= 7):
                    at += length
                    inserted = np.int64(0)
                    if at >= window_start + WINDOW:
                        break
        for a in range(allele_offsets[r], allele_offsets[r + 1]):
            edit = edit_bases[edit_offsets[a] : edit_offsets[a + 1]]
            shared = min(len(edit), edit_ref_lengths[a])
            boundary = edit_starts[a] + shared - window_start
            for k in range(WINDOW):  # a copy in one statement takes four seconds to compile
                opened[k] = longest[k]
            if 0 <= boundary < WINDOW:
                opened[boundary] = max(opened[boundary], len(edit) - shared)
            columns[REF_COLUMN] = REF_COLUMN
            for k in range(REF_COLUMN + 1, WINDOW):
                columns[k] = columns[k - 1] + 1 + opened[k]
            for k in range(REF_COLUMN - 1, -1, -1):
                columns[k] = columns[k + 1] - 1 - opened[k + 1]

            row = references[a]
            for k in range(WINDOW):
                _fill_opened(row, no_quals, columns[k], opened[k], _GAP)
                position = window_start + k - reference_start
                if 0 <= columns[k] < WINDOW and 0 <= position < len(reference):
                    row[columns[k]] = reference[position]
            for k in range(WINDOW):
                alternates[a, k] = row[k]
            row = alternates[a]
            for j in range(max(len(edit), edit_ref_lengths[a])):
                k = edit_starts[a] + j - window_start
                if j < shared:
                    if 0 <= k < WINDOW and 0 <= columns[k] < WINDOW:
                        row[columns[k]] = edit[j]
                elif j < edit_ref_lengths[a]:
                    if 0 <= k < WINDOW and 0 <= columns[k] < WINDOW:
                        row[columns[k]] = _GAP
                elif 0 <= boundary < WINDOW:
                    c = columns[boundary] - opened[boundary] + j - shared
                    if 0 <= c < WINDOW:
                        row[c] = edit[j]

            at_row = row_offsets[a]
            this = a - allele_offsets[r] + 1
            for support in range(4):
                for i in range(len(chosen)):
                    pair = chosen[i]
                    haplotype = pair_haplotypes[pair]
                    if haplotype <= 0:
                        shown = haplotype + 1
                    else:
                        shown = 2 if haplotype == this else 3
                    if shown != support:
                        continue
                    read = pair_reads[pair]
                    _place(
                        read_bases[at_row],
                        read_quals[at_row],
                        columns,
                        opened,
                        window_start,
                        starts[read],
                        bases[base_offsets[read] : base_offsets[read + 1]],
                        quals[base_offsets[read] : base_offsets[read + 1]],
                        cigar_ops[cigar_offsets[read] : cigar_offsets[read + 1]],
                        cigar_lengths[cigar_offsets[read] : cigar_offsets[read + 1]],
                        use_soft_clips,
                    )
                    read_flags[at_row] = flags[read] | (_MATE_ROW if with_mate[i] else _NO_MARK)
                    read_mapqs[at_row] = mapqs[read]
                    read_support[at_row] = support
                    at_row += 1
    return row_offsets, read_bases, read_quals, read_flags, read_mapqs, read_support, references, alternates
