"""What work costs: seconds of one core by alleles, reads and records, fitted to measured blocks.

The figures are of the machine named in docs/performance.md. Another machine is faster or slower by about the same
factor throughout, so the figures balance work anywhere; a run's manifest says how far the seconds were off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from cnnspark.formats.binning_index import WINDOW_BASES
from cnnspark.formats.read_depth import ReadDepths, read_depths
from cnnspark.tensors.chunks import CHUNK_RECORDS, CHUNK_SPAN
from cnnspark.tensors.site_features import READ_REACH

# A usual record: one allele, this depth, reads of this length, and as far from the last as those of a genome are.
USUAL_DEPTH = 30.0
USUAL_READ_BASES = 150.0
USUAL_SPACING = 1_000.0


@dataclass(frozen=True)
class Work:
    """An amount of work, in units that cost; amounts add up."""

    blocks: float = 0
    records: float = 0
    alleles: float = 0  # scorable ones
    rows: float = 0  # alleles x depth, the depth no higher than read_limit
    reads: float = 0  # decoded, as often as they are

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Costs:
    """Seconds of one core for each unit of :class:`Work`; the costs of two steps add up to the cost of both."""

    block: float = 0
    record: float = 0
    allele: float = 0
    row: float = 0
    read: float = 0

    def __add__(self, other: Costs) -> Costs:
        return Costs(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def seconds(self, work: Work) -> float:
        """The seconds that this work takes on one core."""
        return (
            self.block * work.blocks
            + self.record * work.records
            + self.allele * work.alleles
            + self.row * work.rows
            + self.read * work.reads
        )

    def of_record(self, alleles: float, depth: float, reads: float, read_limit: int) -> float:
        """Seconds that one more record in a block costs."""
        return self.record + alleles * (self.allele + self.row * min(depth, read_limit)) + self.read * reads


# Fitted by benchmarks/execution/costs.py on 2026-11-23, a 2-core x86-64 machine that was busy with other work; how far
# they are off stands in docs/performance.md.
READ_RECORDS = Costs(record=3.75e-6)
BUILD = Costs(block=1.2e-3, allele=6.36e-5, read=2.91e-6)
BUILD_WITHOUT_READS = Costs(block=8.62e-4, allele=6.32e-5)
BUILD_GATK = Costs(block=2.79e-3, allele=1.77e-6, row=1.99e-6, read=1.54e-6)
WRITE_SHARD = Costs(block=9.1e-4, allele=1.1e-5)
WRITE_TENSORS = Costs(allele=8e-5)  # a difference of two times: of the blocks of 1,000 alleles alone
NETWORKS: Mapping[str, Costs] = MappingProxyType(
    {
        "reads": Costs(block=2.94e-2, allele=6.78e-5, row=3.78e-5),
        "features": Costs(block=1.84e-3, allele=1.37e-5, row=4.76e-7),
        "reference": Costs(block=2.44e-3, allele=8.49e-5),
        "gatk_1d": Costs(block=7.11e-3, allele=1.62e-3),
        "gatk_2d": Costs(allele=6.16e-3, row=1.49e-4),
        "gatk_2d_mix": Costs(allele=2.2e-2, row=4e-3),
    }
)


def scoring_costs(network: str, with_reads: bool) -> Costs:
    """What ``score`` costs with a network, from the callset's lines to the shard.

    A network of an unknown name costs as much as ``reads``.
    """
    if not with_reads:
        build = BUILD_WITHOUT_READS
    else:
        build = BUILD_GATK if network.startswith("gatk") else BUILD
    return READ_RECORDS + build + NETWORKS.get(network, NETWORKS["reads"]) + WRITE_SHARD


def tensor_costs(with_reads: bool) -> Costs:
    """What ``tensors`` costs, with labels and Parquet."""
    return READ_RECORDS + (BUILD if with_reads else BUILD_WITHOUT_READS) + WRITE_TENSORS


def line_costs() -> Costs:
    """What a stage costs that reads records only."""
    return READ_RECORDS + WRITE_SHARD


@dataclass(frozen=True)
class Expected:
    """The cost model of a stage: its costs, the reads whose depth counts, and the most rows of an allele."""

    costs: Costs
    reads: str | None = None
    read_limit: int = 128

    def open(self) -> Weigher:
        """Reads the index of the reads; once in each task."""
        return Weigher(self.costs, read_depths(self.reads), self.read_limit)


class Weigher:
    """Weighs the records of a contig one after another.

    Without known depths each record weighs 1 and reads cost nothing.
    """

    def __init__(self, costs: Costs, depths: ReadDepths | None = None, read_limit: int = 128):
        self.costs = costs
        self.depths = depths
        self.read_limit = read_limit
        self._usual = costs.of_record(1, USUAL_DEPTH, USUAL_SPACING * USUAL_DEPTH / USUAL_READ_BASES, read_limit)
        self._window = ("", -1)
        self._depth = 0.0

    def depth(self, contig: str, start: int) -> float:
        """The depth at a 0-based position, from the index of the reads; 0 if it is unknown."""
        window = (contig, start // WINDOW_BASES)
        if self.depths is not None and window != self._window:
            self._window, self._depth = window, self.depths.depth(contig, start)
        return self._depth

    def weight(self, contig: str, start: int, previous: int, alleles: int) -> float:
        """The record's cost in usual records, at least 1; ``previous`` is the start of the record before, -1 if none.

        What a block costs whatever it holds (reads beyond its ends) does not count: smaller blocks would repeat it.
        """
        if self.depths is None:
            return 1.0
        depth = self.depth(contig, start)
        bases = min(start - previous, 2 * READ_REACH) if previous >= 0 else 0
        return self.relative(alleles, depth, bases * depth / self.depths.read_bases)

    def relative(self, alleles: float, depth: float, reads: float) -> float:
        """The weight of a record by its alleles, its depth and the reads since the last one."""
        cost = self.costs.of_record(alleles, depth, reads, self.read_limit)
        return max(1.0, cost / self._usual) if self._usual else 1.0

    def block(self) -> BlockWork:
        """The work of a new block."""
        return BlockWork(self)


class BlockWork:
    """Adds up the work of one block, whose records come in order."""

    def __init__(self, weigher: Weigher):
        self._weigher = weigher
        self._records = self._alleles = self._in_chunk = 0
        self._rows = self._reads = 0.0
        self._contig, self._first, self._end = "", -1, 0

    def add(self, contig: str, start: int, ref_bases: int, alleles: int) -> None:
        """One more record: its 0-based start, the length of REF in bases, its scorable alleles."""
        self._records += 1
        if not alleles:
            return
        self._alleles += alleles
        if self._weigher.depths is None:
            return
        self._rows += alleles * min(self._weigher.depth(contig, start), self._weigher.read_limit)
        # As records are chunked for decoding (cnnspark.tensors.chunks).
        end = start + ref_bases
        if self._first >= 0 and (
            start - self._end > 2 * READ_REACH or end - self._first > CHUNK_SPAN or self._in_chunk == CHUNK_RECORDS
        ):
            self._close()
        if self._first < 0:
            self._contig, self._first, self._end, self._in_chunk = contig, start, end, 0
        self._end = max(self._end, end)
        self._in_chunk += 1

    def _close(self) -> None:
        depths = self._weigher.depths
        if self._first >= 0 and depths is not None:
            begin = self._first - READ_REACH - int(depths.read_bases)
            self._reads += depths.reads(self._contig, max(0, begin), self._end + READ_REACH)
        self._first = -1

    def seconds(self) -> float:
        """The block's predicted seconds on one core; no record may follow."""
        return self._weigher.costs.seconds(self.work())

    def work(self) -> Work:
        """The block's work; no record may follow."""
        self._close()
        return Work(1, self._records, self._alleles, self._rows, self._reads)
