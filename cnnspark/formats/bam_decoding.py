"""Uncompressed BAM records to flat arrays, without Python per read (layout: SAM/BAM specification, section 4.2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnspark.common.numba_jit import jit

# Why a read is dropped, in the order of testing; the position is the code in the kernels.
KEPT = "kept"
REASONS = (
    KEPT,
    "unmapped",
    "secondary",
    "supplementary",
    "qc_fail",
    "duplicate",
    "low_mapping_quality",
    "no_sequence",
    "no_cigar",
    "malformed",
)
_KEPT, _UNMAPPED, _SECONDARY, _SUPPLEMENTARY, _QC_FAIL, _DUPLICATE = range(6)
_LOW_MAPPING_QUALITY, _NO_SEQUENCE, _NO_CIGAR, _MALFORMED = range(6, 10)

# The 4-bit letters "=ACMGRSVTWYHKDBN" as base codes (cnnspark.formats.reference).
_CODE_OF_NIBBLE = np.array([5, 1, 2, 5, 3, 5, 5, 5, 4, 5, 5, 5, 5, 5, 5, 5], np.uint8)


class KeptRecords(NamedTuple):
    """Where the n kept records stand in the stream, and on the contig (arrays: int64 (n,))."""

    offsets: np.ndarray  # first byte of the record
    starts: np.ndarray  # 0-based position of the first aligned base
    ends: np.ndarray  # one past the last aligned base
    cigar_offsets: np.ndarray  # first byte of the CIGAR
    cigar_counts: np.ndarray  # operations of the CIGAR


class UnpackedRecords(NamedTuple):
    """The fields of :class:`cnnspark.formats.reads.ReadBatch` of these names, of n records."""

    flags: np.ndarray  # uint16 (n,)
    mapqs: np.ndarray  # uint8 (n,)
    template_lengths: np.ndarray  # int32 (n,)
    name_hashes: np.ndarray  # uint64 (n,)
    base_offsets: np.ndarray  # int64 (n + 1,)
    bases: np.ndarray  # uint8 (total bases,)
    quals: np.ndarray  # uint8 (total bases,)
    cigar_offsets: np.ndarray  # int64 (n + 1,)
    cigar_ops: np.ndarray  # uint8 (total operations,)
    cigar_lengths: np.ndarray  # int32 (total operations,)


@jit
def _uint16(data, at):
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@jit
def _int32(data, at):
    value = (
        np.int64(data[at]) | np.int64(data[at + 1]) << 8 | np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24
    )
    return value - (np.int64(1) << 32) if value >= np.int64(1) << 31 else value


@jit
def _value_bytes(letter):
    """Size of one value of a fixed-size tag type; 0 for the others."""
    if letter == 65 or letter == 99 or letter == 67:  # A c C
        return 1
    if letter == 115 or letter == 83:  # s S
        return 2
    if letter == 105 or letter == 73 or letter == 102:  # i I f
        return 4
    return 0


@jit
def _long_cigar(data, at, end):
    """Where the CG tag of a read with more than 65,535 operations keeps them: (offset, count); (-1, 0) without."""
    while at + 3 <= end:
        letter = data[at + 2]
        value = at + 3
        if letter == 90 or letter == 72:  # Z H
            while value < end and data[value] != 0:
                value += 1
            value += 1
        elif letter == 66:  # B
            if value + 5 > end:
                return -1, 0
            count = _int32(data, value + 1)
            if data[at] == 67 and data[at + 1] == 71 and data[value] == 73:  # CG:B:I
                if count < 0 or value + 5 + 4 * count > end:
                    return -1, 0
                return value + 5, count
            value += 5 + count * _value_bytes(data[value])
        else:
            size = _value_bytes(letter)
            if size == 0:
                return -1, 0
            value += size
        if value <= at:
            return -1, 0
        at = value
    return -1, 0


@jit
def _reason_to_drop(flag, mapping_quality, drop_flags, min_mapping_quality):
    """The code in REASONS of a read with this FLAG and mapping quality, as the filter says."""
    dropped = flag & drop_flags
    if dropped & 0x4:
        return _UNMAPPED
    if dropped & 0x100:
        return _SECONDARY
    if dropped & 0x800:
        return _SUPPLEMENTARY
    if dropped & 0x200:
        return _QC_FAIL
    if dropped & 0x400:
        return _DUPLICATE
    if mapping_quality < min_mapping_quality:
        return _LOW_MAPPING_QUALITY
    return _KEPT


@jit
def _cigar_lengths(data, cigar, operations):
    """Bases of the reference and of the read that a CIGAR spans; -1 bases of the read if an operation is unknown."""
    span = np.int64(0)
    query = np.int64(0)
    known = True
    for k in range(operations):
        word = _int32(data, cigar + 4 * k)
        length = (word >> 4) & 0xFFFFFFF
        operation = word & 0xF
        if operation == 0 or operation == 7 or operation == 8:
            span += length
            query += length
        elif operation == 1 or operation == 4:
            query += length
        elif operation == 2 or operation == 3:
            span += length
        elif operation > 8:
            known = False
    return span, query if known else np.int64(-1)


@jit
def _count_records(data):
    """The number of whole records."""
    n = 0
    at = 0
    while at + 36 <= len(data):
        at += 4 + _int32(data, at)
        n += 1
    return n


@jit
def survey(data, region_start, region_end, drop_flags, min_mapping_quality, keep_unaligned):
    """First pass over the records: what to keep and how much room it takes.

    Args:
        data: uint8 (bytes,), uncompressed BAM records.
        region_start: first position of the region, 0-based.
        region_end: one past its last position.
        drop_flags: the SAM FLAG bits that drop a read.
        min_mapping_quality: reads of a lower mapping quality are dropped.
        keep_unaligned: whether reads that are unmapped or have no aligned base are kept where they stand, one base
            long, as htslib's own search by region has them.

    Returns:
        KeptRecords, and counts int64 (len(REASONS),) of what was kept and dropped; records outside of the region are
        not counted.
    """
    n = _count_records(data)
    offsets, starts, ends = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    cigar_offsets, cigar_counts = np.empty(n, np.int64), np.empty(n, np.int64)
    counts = np.zeros(len(REASONS), np.int64)
    kept = 0
    at = 0
    for _ in range(n):
        record = at
        at += 4 + _int32(data, record)
        flag, start = _uint16(data, record + 18), _int32(data, record + 8)
        reason = _reason_to_drop(flag, data[record + 13], drop_flags, min_mapping_quality)
        if reason != _KEPT:
            counts[reason] += 1
            continue
        bases = _int32(data, record + 20)
        operations = _uint16(data, record + 16)
        if bases <= 0:
            counts[_NO_SEQUENCE] += 1
            continue
        if operations == 0 and not keep_unaligned:
            counts[_NO_CIGAR] += 1
            continue
        cigar = record + 36 + np.int64(data[record + 12])
        tags = cigar + 4 * operations + (bases + 1) // 2 + bases
        if tags > at:
            counts[_MALFORMED] += 1
            continue
        if operations == 2 and _int32(data, cigar) & 0xF == 4 and _int32(data, cigar) >> 4 == bases:
            found, count = _long_cigar(data, tags, at)
            if found >= 0:
                cigar, operations = found, count
        span, query = _cigar_lengths(data, cigar, operations)
        if keep_unaligned and (operations == 0 or flag & 0x4 or span == 0):
            span = np.int64(1)
            query = bases if operations == 0 else query
        if query != bases:
            counts[_MALFORMED] += 1
            continue
        if span == 0:
            counts[_NO_CIGAR] += 1
            continue
        if start < 0 or start >= region_end or start + span <= region_start:
            continue
        counts[_KEPT] += 1
        offsets[kept], starts[kept], ends[kept] = record, start, start + span
        cigar_offsets[kept], cigar_counts[kept] = cigar, operations
        kept += 1
    return KeptRecords(
        offsets[:kept].copy(),
        starts[:kept].copy(),
        ends[:kept].copy(),
        cigar_offsets[:kept].copy(),
        cigar_counts[:kept].copy(),
    ), counts


@jit
def _name_hash(data, record):
    """FNV-1a, 64 bit, of a record's read name without its closing NUL."""
    digest = np.uint64(0xCBF29CE484222325)
    for k in range(np.int64(data[record + 12]) - 1):
        digest = (digest ^ np.uint64(data[record + 36 + k])) * np.uint64(0x100000001B3)
    return digest


@jit
def _unpack_sequence(data, record, bases, quals):
    """Fills in the base codes and qualities of a record, uint8 (bases,) each."""
    at = record + 36 + np.int64(data[record + 12]) + 4 * _uint16(data, record + 16)
    for k in range(len(bases)):
        byte = np.int64(data[at + k // 2])
        bases[k] = _CODE_OF_NIBBLE[byte >> 4 if k % 2 == 0 else byte & 0xF]
    at += (len(bases) + 1) // 2
    absent = data[at] == 0xFF
    for k in range(len(bases)):
        quals[k] = 0 if absent else data[at + k]


@jit
def unpack(data, kept):
    """Second pass: the flat arrays of the kept records.

    Args:
        data: uint8 (bytes,), uncompressed BAM records.
        kept: KeptRecords of :func:`survey`.

    Returns:
        UnpackedRecords.
    """
    n = len(kept.offsets)
    flags = np.empty(n, np.uint16)
    mapqs = np.empty(n, np.uint8)
    template_lengths = np.empty(n, np.int32)
    name_hashes = np.empty(n, np.uint64)
    base_offsets = np.zeros(n + 1, np.int64)
    cigar_offsets = np.zeros(n + 1, np.int64)
    for i in range(n):
        base_offsets[i + 1] = base_offsets[i] + _int32(data, kept.offsets[i] + 20)
        cigar_offsets[i + 1] = cigar_offsets[i] + kept.cigar_counts[i]
    bases = np.empty(base_offsets[n], np.uint8)
    quals = np.empty(base_offsets[n], np.uint8)
    cigar_ops = np.empty(cigar_offsets[n], np.uint8)
    cigar_lengths = np.empty(cigar_offsets[n], np.int32)
    for i in range(n):
        record = kept.offsets[i]
        mapqs[i] = data[record + 13]
        flags[i] = _uint16(data, record + 18)
        template_lengths[i] = _int32(data, record + 32)
        name_hashes[i] = _name_hash(data, record)
        for k in range(kept.cigar_counts[i]):
            word = _int32(data, kept.cigar_offsets[i] + 4 * k)
            cigar_ops[cigar_offsets[i] + k] = word & 0xF
            cigar_lengths[cigar_offsets[i] + k] = (word >> 4) & 0xFFFFFFF
        of_read = slice(base_offsets[i], base_offsets[i + 1])
        _unpack_sequence(data, record, bases[of_read], quals[of_read])
    return UnpackedRecords(
        flags,
        mapqs,
        template_lengths,
        name_hashes,
        base_offsets,
        bases,
        quals,
        cigar_offsets,
        cigar_ops,
        cigar_lengths,
    )
