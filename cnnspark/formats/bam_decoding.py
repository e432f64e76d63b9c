"""Uncompressed BAM records to flat arrays, without Python per read (layout: SAM/BAM specification, section 4.2)."""

from __future__ import annotations

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
def survey(data, region_start, region_end, drop_flags, min_mapping_quality, keep_unaligned):
    """First pass over the records: what to keep and how much room it takes.

    ``drop_flags`` are the SAM FLAG bits that drop a read. With ``keep_unaligned``, reads that are unmapped or have no
    aligned base are kept where they stand, one base long, as htslib's own search by region has them.

    Returns (offsets, starts, ends, cigar offsets, cigar counts) int64 (kept,), and counts int64 (len(REASONS),).
    """
    n = 0
    at = 0
    while at + 36 <= len(data):
        at += 4 + _int32(data, at)
        n += 1
    rows = np.empty((5, n), np.int64)
    counts = np.zeros(len(REASONS), np.int64)
    kept = 0
    at = 0
    for _ in range(n):
        record = at
        at += 4 + _int32(data, record)
        flag = np.int64(data[record + 18]) | np.int64(data[record + 19]) << 8
        dropped = flag & drop_flags
        start = _int32(data, record + 8)
        if dropped & 0x4:
            reason = _UNMAPPED
        elif dropped & 0x100:
            reason = _SECONDARY
        elif dropped & 0x800:
            reason = _SUPPLEMENTARY
        elif dropped & 0x200:
            reason = _QC_FAIL
        elif dropped & 0x400:
            reason = _DUPLICATE
        elif data[record + 13] < min_mapping_quality:
            reason = _LOW_MAPPING_QUALITY
        else:
            reason = _KEPT
        if reason != _KEPT:
            counts[reason] += 1
            continue
        bases = _int32(data, record + 20)
        operations = np.int64(data[record + 16]) | np.int64(data[record + 17]) << 8
        cigar = record + 36 + np.int64(data[record + 12])
        if bases <= 0:
            counts[_NO_SEQUENCE] += 1
            continue
        if operations == 0 and not keep_unaligned:
            counts[_NO_CIGAR] += 1
            continue
        if cigar + 4 * operations + (bases + 1) // 2 + bases > at:
            counts[_MALFORMED] += 1
            continue
        if operations == 2 and _int32(data, cigar) & 0xF == 4 and _int32(data, cigar) >> 4 == bases:
            tags = cigar + 4 * operations + (bases + 1) // 2 + bases
            found, count = _long_cigar(data, tags, at)
            if found >= 0:
                cigar, operations = found, count
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
        if keep_unaligned and (operations == 0 or flag & 0x4 or span == 0):
            span = np.int64(1)
            if operations == 0:
                query = np.int64(bases)
        if not known or query != bases:
            counts[_MALFORMED] += 1
            continue
        if span == 0:
            counts[_NO_CIGAR] += 1
            continue
        if start < 0 or start >= region_end or start + span <= region_start:
            continue
        counts[_KEPT] += 1
        rows[0, kept] = record
        rows[1, kept] = start
        rows[2, kept] = start + span
        rows[3, kept] = cigar
        rows[4, kept] = operations
        kept += 1
    return rows[:, :kept].copy(), counts


@jit
def unpack(data, rows):
    """Second pass: the flat arrays of the kept records (fields of :class:`cnnspark.formats.reads.ReadBatch`, in its
    order)."""
    n = rows.shape[1]
    flags = np.empty(n, np.uint16)
    mapqs = np.empty(n, np.uint8)
    template_lengths = np.empty(n, np.int32)
    name_hashes = np.empty(n, np.uint64)
    base_offsets = np.zeros(n + 1, np.int64)
    cigar_offsets = np.zeros(n + 1, np.int64)
    for i in range(n):
        base_offsets[i + 1] = base_offsets[i] + _int32(data, rows[0, i] + 20)
        cigar_offsets[i + 1] = cigar_offsets[i] + rows[4, i]
    bases = np.empty(base_offsets[n], np.uint8)
    quals = np.empty(base_offsets[n], np.uint8)
    cigar_ops = np.empty(cigar_offsets[n], np.uint8)
    cigar_lengths = np.empty(cigar_offsets[n], np.int32)
    for i in range(n):
        record = rows[0, i]
        name_length = np.int64(data[record + 12])
        mapqs[i] = data[record + 13]
        flags[i] = np.uint16(data[record + 18]) | np.uint16(data[record + 19]) << 8
        template_lengths[i] = _int32(data, record + 32)
        # FNV-1a, 64 bit, of the name without its closing NUL.
        digest = np.uint64(0xCBF29CE484222325)
        for k in range(name_length - 1):
            digest = (digest ^ np.uint64(data[record + 36 + k])) * np.uint64(0x100000001B3)
        name_hashes[i] = digest
        for k in range(rows[4, i]):
            word = _int32(data, rows[3, i] + 4 * k)
            cigar_ops[cigar_offsets[i] + k] = word & 0xF
            cigar_lengths[cigar_offsets[i] + k] = (word >> 4) & 0xFFFFFFF
        stored_operations = np.int64(data[record + 16]) | np.int64(data[record + 17]) << 8
        sequence = record + 36 + name_length + 4 * stored_operations
        length = base_offsets[i + 1] - base_offsets[i]
        first = base_offsets[i]
        for k in range(length):
            byte = np.int64(data[sequence + k // 2])
            bases[first + k] = _CODE_OF_NIBBLE[byte >> 4 if k % 2 == 0 else byte & 0xF]
        qualities = sequence + (length + 1) // 2
        absent = data[qualities] == 0xFF
        for k in range(length):
            quals[first + k] = 0 if absent else data[qualities + k]
    return (
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
