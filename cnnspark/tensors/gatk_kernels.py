"""Compiled loops that lay reads and reference on GATK's columns: which reads, in which order, with which gaps.

The rules are those of GATK's NVScoreVariants, its defects included, because only so do its networks' weights give its
scores; what they are stands beside each.
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
    MATCH,
    SOFT_CLIP,
    Row,
    Rows,
    inlined,
    kernel_part,
    read_at,
    read_hash,
    smallest,
)
from cnnspark.tensors.schema import REF_COLUMN, WINDOW

_UNMAPPED = 0x4
# Base codes and CIGAR operations as the letters that rows are sorted by; any base other than A, C, G, T as N.
_LETTER_OF_CODE = np.frombuffer(b"NACGTNN", np.uint8)
_LETTER_OF_OPERATION = np.frombuffer(b"MIDNSHP=X", np.uint8)
_ENDS_BEFORE = np.uint8(ord("Y"))
# More bases than a read can have between two others: the sort keys' second digit.
_POSITIONS = np.int64(1) << 40


class GatkSites(NamedTuple):
    """n records."""

    starts: np.ndarray  # int64 (n,), of REF
    ends: np.ndarray  # int64 (n,)
    is_snp: np.ndarray  # bool (n,), whether rows are sorted by the base at POS
    hashes: np.ndarray  # uint64 (n,), for the choice of reads
    windows: np.ndarray  # uint8 (n, W), the reference's codes before columns are opened


class _Gaps(NamedTuple):
    """Gaps to be put into a row: places, ascending, and the columns of each.

    A place counts from the window's start as if insertions and deletions before it in the same read were columns of
    it; it may lie far outside the window.
    """

    places: np.ndarray  # int64 (gaps,)
    widths: np.ndarray  # int64 (gaps,)


@jit
def encode(reads, sites, limit):
    """The rows and the reference of each record.

    Rows are sorted by the letter of :func:`_sort_letter`, then by the laid start, then as in the file. Only the first W
    bases of a read are used, before they are laid.

    Args:
        reads: Reads.
        sites: GatkSites.
        limit: int, the most rows of a record.

    Returns:
        Rows: one "allele" for each record, its support and ALT 0.
    """
    laid = _laid_starts(reads)
    offsets, chosen = _sorted_reads(reads, sites, laid, limit)
    total = len(chosen)
    rows = Rows(
        offsets,
        np.zeros((total, WINDOW), np.uint8),
        np.zeros((total, WINDOW), np.uint8),
        np.empty(total, np.uint16),
        np.empty(total, np.uint8),
        np.zeros(total, np.uint8),
        np.zeros((len(sites.starts), WINDOW), np.uint8),
        np.zeros((len(sites.starts), WINDOW), np.uint8),
    )
    no_quals = np.zeros(WINDOW, np.uint8)
    for r in range(len(sites.starts)):
        window_start = sites.starts[r] - REF_COLUMN
        opened = _opened(window_start, chosen[offsets[r] : offsets[r + 1]], laid, reads)
        _lay(Row(rows.references[r], no_quals), Row(sites.windows[r], no_quals), np.int64(0), opened)
        for row in range(offsets[r], offsets[r + 1]):
            i = chosen[row]
            read = read_at(reads, i)
            shift = window_start - laid[i]
            gaps = _gaps_of_read(shift, read.ops, read.lengths, opened)
            _lay(Row(rows.bases[row], rows.quals[row]), Row(read.bases[:WINDOW], read.quals[:WINDOW]), shift, gaps)
            rows.flags[row] = reads.flags[i]
            rows.mapqs[row] = reads.mapqs[i]
    return rows


@kernel_part
def _laid_starts(reads):
    """Where each read's first base would lie, soft-clipped bases counted; -1 for an unmapped read, wherever it is."""
    laid = reads.starts.copy()
    for i in range(len(laid)):
        if reads.flags[i] & _UNMAPPED:
            laid[i] = -1
            continue
        for k in range(reads.cigar_offsets[i], reads.cigar_offsets[i + 1]):
            if reads.cigar_ops[k] == SOFT_CLIP:
                laid[i] -= reads.cigar_lengths[k]
            elif reads.cigar_ops[k] != HARD_CLIP:
                break
    return laid


@kernel_part
def _sorted_reads(reads, sites, laid, limit):
    """The reads of each record in the order of their rows: offsets int64 (n + 1,) and the reads' numbers int64."""
    n = len(sites.starts)
    offsets = np.zeros(n + 1, np.int64)
    sorted_reads = np.empty(n * min(limit, len(laid)), np.int64)
    for r in range(n):
        chosen = _chosen(reads, sites.starts[r], sites.ends[r], sites.hashes[r], limit)
        keys = np.empty(len(chosen), np.int64)
        for j in range(len(chosen)):
            at = sites.starts[r] + (0 if sites.is_snp[r] else 1) - laid[chosen[j]]
            letter = _sort_letter(read_at(reads, chosen[j]), at, sites.is_snp[r])
            keys[j] = np.int64(letter) * _POSITIONS + laid[chosen[j]]
        offsets[r + 1] = offsets[r] + len(chosen)
        order = np.argsort(keys, kind="mergesort")
        for k in range(len(order)):  # a copy in one statement takes four seconds to compile
            sorted_reads[offsets[r] + k] = chosen[order[k]]
    return offsets, sorted_reads[: offsets[n]]


@kernel_part
def _chosen(reads, begin_pos, end_pos, record_hash, limit):
    """Reads over [begin_pos, end_pos) in the file's order; of more than ``limit`` those with the smallest hashes."""
    begin = np.searchsorted(reads.furthest_ends, begin_pos, side="right")
    end = np.searchsorted(reads.starts, end_pos, side="left")
    found = np.empty(max(end - begin, 0), np.int64)
    n = 0
    for i in range(begin, end):
        if reads.ends[i] > begin_pos:
            found[n] = i
            n += 1
    hashes = np.empty(n, np.uint64)
    for j in range(n):
        hashes[j] = read_hash(reads, found[j], record_hash)
    return found[smallest(hashes, limit)]


@inlined
def _sort_letter(read, at, is_snp):
    """The letter that a read's row is sorted by.

    ``at`` is the distance of POS (SNP) or of the base after it (else) from the read's laid start.

    SNP: the read's base that many bases behind its laid start, CIGAR ignored, the nearest one if the read has no base
    there. Else: the operation over the base after POS, its lengths all counted as read and reference alike; M gives
    that base, none left Y.
    """
    base = _LETTER_OF_CODE[read.bases[min(max(at, 0), len(read.bases) - 1)]]
    if is_snp:
        return base
    reached = np.int64(0)
    for k in range(len(read.ops)):
        reached += read.lengths[k]
        if reached > at:
            return base if read.ops[k] == MATCH else _LETTER_OF_OPERATION[read.ops[k]]
    return _ENDS_BEFORE


@inlined
def _counted(operation):
    """Whether an operation moves the place at which gaps are opened: M, I, D, S; not '=' and X, nor N."""
    return operation in (MATCH, INSERTION, DELETION, SOFT_CLIP)


@kernel_part
def _opened(window_start, chosen, laid, reads):
    """The columns that insertions of the chosen reads open: at each place the longest insertion there.

    Reads that begin a window's width away or further have no say.
    """
    room = 0
    for i in chosen:
        room += reads.cigar_offsets[i + 1] - reads.cigar_offsets[i]
    places = np.empty(room, np.int64)
    widths = np.empty(room, np.int64)
    n = 0
    for i in chosen:
        shift = window_start - laid[i]
        if abs(shift) >= WINDOW:
            continue
        at = np.int64(0)
        for k in range(reads.cigar_offsets[i], reads.cigar_offsets[i + 1]):
            if reads.cigar_ops[k] == INSERTION:
                places[n] = at - shift
                widths[n] = reads.cigar_lengths[k]
                n += 1
            if _counted(reads.cigar_ops[k]):
                at += reads.cigar_lengths[k]
    order = np.argsort(places[:n], kind="mergesort")
    unique = np.empty(n, np.int64)
    longest = np.empty(n, np.int64)
    kept = 0
    for j in order:
        if kept and unique[kept - 1] == places[j]:
            longest[kept - 1] = max(longest[kept - 1], widths[j])
        else:
            unique[kept] = places[j]
            longest[kept] = widths[j]
            kept += 1
    return _Gaps(unique[:kept], longest[:kept])


@inlined
def _gaps_of_read(shift, ops, lengths, opened):
    """The gaps that go into one read: at its own deletions and insertions, and at all other opened columns.

    At its own insertions the gap is what the longest one there has more. An insertion that had no say where columns
    are opened has no entry of its own.
    """
    own = np.empty(len(ops), np.int64)
    own_widths = np.empty(len(ops), np.int64)
    n = 0
    at = np.int64(0)
    for k in range(len(ops)):
        place = at - shift
        width = np.int64(-1)
        if ops[k] == DELETION:
            width = np.int64(lengths[k])
        elif ops[k] == INSERTION:
            found = np.searchsorted(opened.places, place)
            if found < len(opened.places) and opened.places[found] == place:
                width = max(opened.widths[found] - lengths[k], np.int64(0))
        if width >= 0:
            if n and own[n - 1] == place:
                n -= 1
            own[n] = place
            own_widths[n] = width
            n += 1
        if _counted(ops[k]):
            at += lengths[k]
    return _merged(_Gaps(own[:n], own_widths[:n]), opened)


@kernel_part
def _merged(own, opened):
    """A read's own gaps and the opened columns, in the order of their places; its own count if a place has both."""
    n = len(own.places)
    places = np.empty(n + len(opened.places), np.int64)
    widths = np.empty(n + len(opened.places), np.int64)
    total = 0
    i = 0
    j = 0
    while i < n or j < len(opened.places):
        if j == len(opened.places) or (i < n and own.places[i] <= opened.places[j]):
            if j < len(opened.places) and own.places[i] == opened.places[j]:
                j += 1
            places[total] = own.places[i]
            widths[total] = own.widths[i]
            i += 1
        else:
            places[total] = opened.places[j]
            widths[total] = opened.widths[j]
            j += 1
        total += 1
    return _Gaps(places[:total], widths[:total])


@inlined
def _lay(row, letters, shift, gaps):
    """Lays bases on a row of nothing: the first ``shift`` left out, or as many columns of nothing before them.

    Gaps of a place below 1 go to the row's very beginning, before columns of nothing as well, and those of a place
    behind the last base directly behind it, wherever that is.
    """
    first = max(shift, 0)
    empty = max(-shift, 0)
    length = empty + max(len(letters.bases) - first, 0)
    column = np.int64(0)
    g = 0
    at = np.int64(0)
    while column < WINDOW:
        while g < len(gaps.places) and (gaps.places[g] < 1 or gaps.places[g] <= at or at >= length):
            for _ in range(gaps.widths[g]):
                if column < WINDOW:
                    row.bases[column] = GAP
                    column += 1
            g += 1
        if at >= length or column >= WINDOW:
            break
        if at >= empty:
            row.bases[column] = letters.bases[first + at - empty]
            row.quals[column] = letters.quals[first + at - empty]
        column += 1
        at += 1
