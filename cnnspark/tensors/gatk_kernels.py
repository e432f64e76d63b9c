"""Compiled loops that lay reads and reference on GATK's columns: which reads, in which order, with which gaps.

The rules are those of GATK's NVScoreVariants, its defects included, because only so do its networks' weights give its
scores; what they are stands beside each. Arrays and conventions as in :mod:`cnnspark.tensors.pileup_kernels`.
"""

from __future__ import annotations

import numpy as np

from cnnspark.common.numba_jit import jit
from cnnspark.tensors.schema import REF_COLUMN, WINDOW

_GAP = 6
_UNMAPPED = 0x4
_M, _I, _D, _S, _H = 0, 1, 2, 4, 5
# Base codes and CIGAR operations as the letters that rows are sorted by; any base other than A, C, G, T as N.
_LETTER_OF_CODE = np.frombuffer(b"NACGTNN", np.uint8)
_LETTER_OF_OPERATION = np.frombuffer(b"MIDNSHP=X", np.uint8)
_ENDS_BEFORE = np.uint8(ord("Y"))
# More bases than a read can have between two others: the sort keys' second digit.
_POSITIONS = np.int64(1) << 40


@jit
def _mix(value):
    """splitmix64's finaliser (Steele, Lea and Flood 2014): every bit of the input reaches every bit of the output."""
    value = (value + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@jit
def _counted(operation):
    """Whether an operation moves the index at which gaps are opened: M, I, D, S; not '=' and X, nor N."""
    return operation in (_M, _I, _D, _S)


@jit
def _laid_starts(starts, flags, cigar_offsets, cigar_ops, cigar_lengths):
    """Where each read's first base would lie, soft-clipped bases counted; -1 for an unmapped read, wherever it is."""
    laid = starts.copy()
    for i in range(len(starts)):
        if flags[i] & _UNMAPPED:
            laid[i] = -1
            continue
        for k in range(cigar_offsets[i], cigar_offsets[i + 1]):
            if cigar_ops[k] == _S:
                laid[i] -= cigar_lengths[k]
            elif cigar_ops[k] != _H:
                break
    return laid


@jit
def _chosen(starts, ends, furthest_ends, begin_pos, end_pos, flags, name_hashes, record_hash, limit):
    """Reads over [begin_pos, end_pos) in the file's order; of more than ``limit`` those with the smallest hashes."""
    begin = np.searchsorted(furthest_ends, begin_pos, side="right")
    end = np.searchsorted(starts, end_pos, side="left")
    found = np.empty(max(end - begin, 0), np.int64)
    n = 0
    for i in range(begin, end):
        if ends[i] > begin_pos:
            found[n] = i
            n += 1
    found = found[:n]
    if n <= limit:
        return found
    hashes = np.empty(n, np.uint64)
    for j in range(n):
        hashes[j] = _mix(_mix(name_hashes[found[j]] ^ record_hash) ^ np.uint64(flags[found[j]]))
    return found[np.sort(np.argsort(hashes, kind="mergesort")[:limit])]


@jit
def _sort_letter(laid, start, is_snp, bases, ops, lengths):
    """The letter that a read's row is sorted by.

    SNP: the read's base that many bases behind its laid start as POS is, CIGAR ignored, the nearest one where it has
    none there. Else: the operation over the base after POS, its lengths all counted as read and reference alike; M
    gives that base, none left Y.
    """
    last = len(bases) - 1
    at = start - laid if is_snp else start + 1 - laid
    base = _LETTER_OF_CODE[bases[min(max(at, 0), last)]]
    if is_snp:
        return base
    reached = np.int64(0)
    for k in range(len(ops)):
        reached += lengths[k]
        if reached > at:
            return base if ops[k] == _M else _LETTER_OF_OPERATION[ops[k]]
    return _ENDS_BEFORE


@jit
def _opened(window_start, reads, laid, cigar_offsets, cigar_ops, cigar_lengths):
    """Columns that insertions open: their indexes, ascending, and for each the longest insertion there.

    An index counts from the window's start as if insertions and deletions before it in the same read were columns of
    it; it may lie far outside the window. Reads that begin a window's width away or further have no say.
    """
    room = 0
    for i in reads:
        room += cigar_offsets[i + 1] - cigar_offsets[i]
    indexes = np.empty(room, np.int64)
    widths = np.empty(room, np.int64)
    n = 0
    for i in reads:
        shift = window_start - laid[i]
        if abs(shift) >= WINDOW:
            continue
        at = np.int64(0)
        for k in range(cigar_offsets[i], cigar_offsets[i + 1]):
            if cigar_ops[k] == _I:
                indexes[n] = at - shift
                widths[n] = cigar_lengths[k]
                n += 1
            if _counted(cigar_ops[k]):
                at += cigar_lengths[k]
    order = np.argsort(indexes[:n], kind="mergesort")
    unique = np.empty(n, np.int64)
    longest = np.empty(n, np.int64)
    kept = 0
    for j in order:
        if kept and unique[kept - 1] == indexes[j]:
            longest[kept - 1] = max(longest[kept - 1], widths[j])
        else:
            unique[kept] = indexes[j]
            longest[kept] = widths[j]
            kept += 1
    return unique[:kept], longest[:kept]


@jit
def _gaps_of_read(shift, ops, lengths, opened, widths):
    """Where gaps go into one read: indexes, ascending, and widths.

    Its own deletions; at its own insertions what the longest one there has more; and all other opened columns. An
    insertion that had no say where columns are opened has no entry of its own.
    """
    own = np.empty(len(ops), np.int64)
    own_widths = np.empty(len(ops), np.int64)
    n = 0
    at = np.int64(0)
    for k in range(len(ops)):
        index = at - shift
        width = np.int64(-1)
        if ops[k] == _D:
            width = np.int64(lengths[k])
        elif ops[k] == _I:
            place = np.searchsorted(opened, index)
            if place < len(opened) and opened[place] == index:
                width = max(widths[place] - lengths[k], np.int64(0))
        if width >= 0:
            if n and own[n - 1] == index:
                n -= 1
            own[n] = index
            own_widths[n] = width
            n += 1
        if _counted(ops[k]):
            at += lengths[k]
    indexes = np.empty(n + len(opened), np.int64)
    gaps = np.empty(n + len(opened), np.int64)
    total = 0
    i = 0
    j = 0
    while i < n or j < len(opened):
        if j == len(opened) or (i < n and own[i] <= opened[j]):
            if j < len(opened) and own[i] == opened[j]:
                j += 1
            indexes[total] = own[i]
            gaps[total] = own_widths[i]
            i += 1
        else:
            indexes[total] = opened[j]
            gaps[total] = widths[j]
            j += 1
        total += 1
    return indexes[:total], gaps[:total]


@jit
def _lay(row, row_quals, bases, quals, shift, indexes, gaps):
    """Lays bases on a row of nothing: the first ``shift`` left out, or as many columns of nothing before them.

    Gaps of an index below 1 go to the row's very beginning, before columns of nothing too, and those of an index
    behind the last base directly behind it, wherever that is.
    """
    first = max(shift, 0)
    empty = max(-shift, 0)
    length = empty + max(len(bases) - first, 0)
    column = np.int64(0)
    g = 0
    at = np.int64(0)
    while column < WINDOW:
        while g < len(indexes) and (indexes[g] < 1 or indexes[g] <= at or at >= length):
            for _ in range(gaps[g]):
                if column < WINDOW:
                    row[column] = _GAP
                    column += 1
            g += 1
        if at >= length or column >= WINDOW:
            break
        if at >= empty:
            row[column] = bases[first + at - empty]
            row_quals[column] = quals[first + at - empty]
        column += 1
        at += 1


@jit
def encode(
    starts,
    ends,
    flags,
    mapqs,
    name_hashes,
    base_offsets,
    bases,
    quals,
    cigar_offsets,
    cigar_ops,
    cigar_lengths,
    record_starts,
    record_ends,
    record_is_snp,
    record_hashes,
    windows,
    limit,
):
    """The rows and the reference of each record.

    ``windows`` uint8 (n, W): the reference's codes before columns are opened. Returns row offsets int64 (n + 1,), and
    of all rows bases and qualities uint8 (rows, W), flags uint16 and mapping qualities uint8 (rows,); and the reference
    uint8 (n, W). Rows are sorted by the letter of :func:`_sort_letter`, then by the laid start, then as in the file.
    Only the first W bases of a read are used, before they are laid.
    """
    n = len(record_starts)
    laid = _laid_starts(starts, flags, cigar_offsets, cigar_ops, cigar_lengths)
    furthest_ends = ends.copy()
    for i in range(1, len(ends)):
        furthest_ends[i] = max(furthest_ends[i], furthest_ends[i - 1])
    offsets = np.zeros(n + 1, np.int64)
    chosen_reads = np.empty(n * min(limit, len(starts)), np.int64)
    references = np.zeros((n, WINDOW), np.uint8)
    no_quals = np.zeros(WINDOW, np.uint8)
    for r in range(n):
        chosen = _chosen(
            starts, ends, furthest_ends, record_starts[r], record_ends[r], flags, name_hashes, record_hashes[r], limit
        )
        keys = np.empty(len(chosen), np.int64)
        for j in range(len(chosen)):
            i = chosen[j]
            letter = _sort_letter(
                laid[i],
                record_starts[r],
                record_is_snp[r],
                bases[base_offsets[i] : base_offsets[i + 1]],
                cigar_ops[cigar_offsets[i] : cigar_offsets[i + 1]],
                cigar_lengths[cigar_offsets[i] : cigar_offsets[i + 1]],
            )
            keys[j] = np.int64(letter) * _POSITIONS + laid[i]
        offsets[r + 1] = offsets[r] + len(chosen)
        order = np.argsort(keys, kind="mergesort")
        for k in range(len(order)):  # a copy in one statement takes four seconds to compile
            chosen_reads[offsets[r] + k] = chosen[order[k]]
    rows = offsets[n]
    row_bases = np.zeros((rows, WINDOW), np.uint8)
    row_quals = np.zeros((rows, WINDOW), np.uint8)
    row_flags = np.empty(rows, np.uint16)
    row_mapqs = np.empty(rows, np.uint8)
    for r in range(n):
        window_start = record_starts[r] - REF_COLUMN
        reads = chosen_reads[offsets[r] : offsets[r + 1]]
        opened, widths = _opened(window_start, reads, laid, cigar_offsets, cigar_ops, cigar_lengths)
        _lay(references[r], no_quals.copy(), windows[r], no_quals, np.int64(0), opened, widths)
        for row in range(offsets[r], offsets[r + 1]):
            i = chosen_reads[row]
            shift = window_start - laid[i]
            indexes, gaps = _gaps_of_read(
                shift,
                cigar_ops[cigar_offsets[i] : cigar_offsets[i + 1]],
                cigar_lengths[cigar_offsets[i] : cigar_offsets[i + 1]],
                opened,
                widths,
            )
            begin = base_offsets[i]
            end = min(base_offsets[i + 1], begin + WINDOW)
            _lay(row_bases[row], row_quals[row], bases[begin:end], quals[begin:end], shift, indexes, gaps)
            row_flags[row] = flags[i]
            row_mapqs[row] = mapqs[i]
    return offsets, row_bases, row_quals, row_flags, row_mapqs, references
