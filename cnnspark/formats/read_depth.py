"""How many reads lie where, from the index of the reads alone: what blocks are weighed and runs are planned by.

An estimate: bytes of a window stand for reads, and all reads for reads of mean length. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pysam

from cnnspark.common.storage import is_url
from cnnspark.errors import InputError
from cnnspark.formats.binning_index import (
    WINDOW_BASES,
    CramSlice,
    IndexedContig,
    find_index,
    read_binning_index,
    read_crai,
)
from cnnspark.formats.htslib import fetched_index, for_htslib, open_input, read_indexes

# Reads, or containers of a CRAM, that are looked at for the length of a read.
_SAMPLED_READS = 1_000
_SAMPLED_CONTAINERS = 16


@dataclass(frozen=True)
class ReadDepths:
    """Mapped reads by contig and window of WINDOW_BASES.

    ``cumulated[contig]`` (windows + 1,) float64: reads that begin before each window's start.
    """

    cumulated: dict[str, np.ndarray]
    read_bases: float  # of a read, on average

    @staticmethod
    def of(window_reads: dict[str, np.ndarray], read_bases: float) -> ReadDepths:
        return ReadDepths({c: np.concatenate([[0.0], np.cumsum(n)]) for c, n in window_reads.items()}, read_bases)

    def reads(self, contig: str, start: int, end: int) -> float:
        """Reads that begin in a stretch of a contig; 0 where the reads have no such contig."""
        total = self.cumulated.get(contig)
        if total is None or end <= start:
            return 0.0
        return self._before(total, end) - self._before(total, start)

    @staticmethod
    def _before(total: np.ndarray, position: int) -> float:
        window, inside = divmod(max(position, 0), WINDOW_BASES)
        if window >= len(total) - 1:
            return float(total[-1])
        return float(total[window] + (total[window + 1] - total[window]) * (inside / WINDOW_BASES))

    def depth(self, contig: str, start: int) -> float:
        """Mean depth of the window around a position."""
        total, window = self.cumulated.get(contig), max(start, 0) // WINDOW_BASES
        if total is None or window >= len(total) - 1:
            return 0.0
        return float(total[window + 1] - total[window]) * self.read_bases / WINDOW_BASES

    @property
    def mapped(self) -> float:
        """All mapped reads."""
        return float(sum(total[-1] for total in self.cumulated.values()))


def read_depths(path: str | None) -> ReadDepths | None:
    """The depths of an indexed BAM or CRAM; None without reads, without an index, or where that cannot say.

    Nothing fails here: what is wrong with the reads is said by those who read them.
    """
    if path is None:
        return None
    try:
        with fetched_index(path, read_indexes(path)) as fetched:
            index = fetched or find_index(path, read_indexes(path))
            return None if index is None else _depths(path, index)
    except (OSError, ValueError, InputError):
        return None


def _depths(path: str, index: str) -> ReadDepths | None:
    with pysam.AlignmentFile(
        for_htslib(path), check_sq=False, ignore_truncation=True, index_filename=index if is_url(path) else None
    ) as file:
        contigs = list(file.references)
        if not file.is_cram:
            lengths = [read.query_length or 0 for read in islice(file.fetch(until_eof=True), _SAMPLED_READS)]
            of_bam = read_binning_index(index, path)[1]
            return _from_bam(contigs, of_bam, sum(lengths) / len(lengths)) if any(lengths) else None
    return _from_cram(path, contigs, read_crai(index))


def _from_bam(contigs: Sequence[str], indexed: Sequence[IndexedContig], read_bases: float) -> ReadDepths | None:
    if any(contig.records is None and len(contig.window_bytes) for contig in indexed):
        return None
    return ReadDepths.of(
        {name: contig.window_records for name, contig in zip(contigs, indexed, strict=False)}, read_bases
    )


def _from_cram(path: str, contigs: Sequence[str], slices: Sequence[CramSlice]) -> ReadDepths | None:
    """Reads of a CRAM: of some containers the header says how many records and bases they hold."""
    containers: dict[int, int] = {}
    for part in slices:
        containers[part.container] = containers.get(part.container, 0) + part.slice_bytes
    sampled = sorted(containers)[:: max(1, len(containers) // _SAMPLED_CONTAINERS)]
    records = bases = size_bytes = 0
    with open_input(path) as file:
        for start in sampled:
            file.seek(start)
            found = _container_counts(file.read(64))
            records, bases, size_bytes = records + found[0], bases + found[1], size_bytes + containers[start]
    if not records or not size_bytes:
        return None
    windows: dict[str, np.ndarray] = {}
    for part in slices:
        # A slice of several contigs stands there once for each, with its whole size each time.
        first, last = part.start // WINDOW_BASES, (part.start + part.span - 1) // WINDOW_BASES
        name = contigs[part.contig]
        known = windows.get(name, np.zeros(0))
        if len(known) <= last:
            known = np.concatenate([known, np.zeros(last + 1 - len(known))])
        edges = np.clip(np.arange(first, last + 2) * WINDOW_BASES, part.start, part.start + part.span)
        known[first : last + 1] += np.diff(edges) / part.span * (part.slice_bytes * records / size_bytes)
        windows[name] = known
    return ReadDepths.of(windows, bases / records)


def _container_counts(head: bytes) -> tuple[int, int]:
    """Records and bases that a container's header promises (CRAM specification 3, section 7)."""
    at = 4
    values = []
    # Reference, start, span, records as ITF8; record counter and bases as LTF8.
    for limit in (4, 4, 4, 4, 8, 8):
        leading = 0
        while leading < limit and head[at] & (0x80 >> leading):
            leading += 1
        if limit == 4 and leading == 4:
            value = (head[at] & 0x0F) << 28 | head[at + 1] << 20 | head[at + 2] << 12 | head[at + 3] << 4
            value |= head[at + 4] & 0x0F
        else:
            value = head[at] & (0xFF >> (leading + 1))
            for byte in head[at + 1 : at + 1 + leading]:
                value = value << 8 | byte
        values.append(value)
        at += 1 + leading
    return values[3], values[5]
