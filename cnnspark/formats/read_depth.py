"""Estimates how many reads each stretch of a contig has, from the index of the reads alone.

Blocks are weighed and runs are planned by it. The bytes of a window stand for its reads, and every read is taken to be
of mean length. No Spark, no TensorFlow.
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
from cnnspark.formats.cram_containers import container_head
from cnnspark.formats.htslib import fetched_index, for_htslib, open_input, read_indexes

# Reads of a BAM, or containers of a CRAM, that are read to learn the mean length of a read.
_SAMPLED_READS = 1_000
_SAMPLED_CONTAINERS = 16
_HEAD_BYTES = 1 << 12


@dataclass(frozen=True)
class ReadDepths:
    """Mapped reads by contig and window of WINDOW_BASES.

    Attributes:
        cumulated: by contig, (windows + 1,) float64: reads that begin before each window's start.
        read_bases: mean length of a read.
    """

    cumulated: dict[str, np.ndarray]
    read_bases: float

    @staticmethod
    def of(window_reads: dict[str, np.ndarray], read_bases: float) -> ReadDepths:
        """Depths from the reads that begin in each window: by contig, (windows,) float64."""
        return ReadDepths({c: np.concatenate([[0.0], np.cumsum(n)]) for c, n in window_reads.items()}, read_bases)

    def reads(self, contig: str, start: int, end: int) -> float:
        """Reads that begin in [start, end) of a contig; 0 for an unknown contig."""
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
        """Mean depth of the window that holds the position ``start``; 0 for an unknown contig."""
        total, window = self.cumulated.get(contig), max(start, 0) // WINDOW_BASES
        if total is None or window >= len(total) - 1:
            return 0.0
        return float(total[window + 1] - total[window]) * self.read_bases / WINDOW_BASES

    @property
    def mapped(self) -> float:
        """The number of mapped reads of all contigs."""
        return float(sum(total[-1] for total in self.cumulated.values()))


def read_depths(path: str | None) -> ReadDepths | None:
    """The depths of an indexed BAM or CRAM; None without reads or index, or if the index does not tell them.

    It never fails: whoever reads the reads reports what is wrong with them.
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
    """Depths of a CRAM: the headers of some containers say how many records and bases they hold."""
    containers: dict[int, int] = {}
    for part in slices:
        containers[part.container] = containers.get(part.container, 0) + part.slice_bytes
    sampled = sorted(containers)[:: max(1, len(containers) // _SAMPLED_CONTAINERS)]
    records = bases = size_bytes = 0
    with open_input(path) as file:
        version = file.read(5)[4]
        for start in sampled:
            file.seek(start)
            head = container_head(file.read(_HEAD_BYTES), version)
            records, bases, size_bytes = records + head.records, bases + head.bases, size_bytes + containers[start]
    if not records or not size_bytes or not bases:  # reads may have no sequence
        return None
    windows: dict[str, np.ndarray] = {}
    for part in slices:
        # A slice of several contigs has a line for each, with its whole size in each.
        first, last = part.start // WINDOW_BASES, (part.start + part.span - 1) // WINDOW_BASES
        name = contigs[part.contig]
        known = windows.get(name, np.zeros(0))
        if len(known) <= last:
            known = np.concatenate([known, np.zeros(last + 1 - len(known))])
        edges = np.clip(np.arange(first, last + 2) * WINDOW_BASES, part.start, part.start + part.span)
        known[first : last + 1] += np.diff(edges) / part.span * (part.slice_bytes * records / size_bytes)
        windows[name] = known
    return ReadDepths.of(windows, bases / records)
