"""Cutting a callset into blocks: the unit of work, of a shard, and of what a validation set holds out.

Blocks are fixed by the data and the configuration alone, never by the number of executors or tasks: the bytes of
every output depend on them. A distributed pass over the callset counts its records and their digest, which the merge
later compares with what the shards hold.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cnnspark.errors import InputError, UsageError
from cnnspark.execution.tasks import LocalSession, Session, run_tasks, slices, slots
from cnnspark.formats.regions import Region, merge_regions
from cnnspark.formats.vcf import VcfSource
from cnnspark.variants.alleles import unscorable_reason

# Every multiple of this is a block boundary, so that the counting pass can be cut there. Part of the format of a run.
WINDOW_BASES = 10_000_000
DIGEST_BITS = 128
TASKS_PER_SLOT = 4
COST_DIGITS = 6
# Genome that one block calls candidates on: about 2 s at 30x.
CANDIDATE_BASES = 100_000
CANDIDATE_SECONDS = 2e-5  # for each base


@dataclass(frozen=True)
class BlockSettings:
    """How large a block is. A block is one task's work for some seconds and one shard.

    ``records`` are usual ones: a record that costs more than a usual one at 30x (its depth is in the index of the
    reads) counts for so many more.
    """

    records: int = (
        1000  # about 2 s of scoring with reads on one core; small enough to balance, to retry and to hold out
    )
    bases: int = 1_000_000  # bounds the reads of a sparse block

    def __post_init__(self) -> None:
        if self.records < 1 or self.bases < 1:
            raise UsageError("blocks.records and blocks.bases must be 1 or more")


@dataclass(frozen=True)
class Block:
    """Consecutive records of one contig. ``digest`` is that of :class:`RecordsDigest` over the callset's own lines.

    ``cost`` is predicted: seconds of one core of the machine that :mod:`cnnspark.stages.costs` was fitted on. A block
    of the genome whose records are yet to be called has ``records`` -1 and no digest.
    """

    index: int
    region: Region
    records: int = -1
    alleles: int = 0  # scorable ALT alleles
    first_record: int = 0
    digest: str = ""
    first_start: int = -1
    last_start: int = -1
    cost: float = 0.0

    @property
    def name(self) -> str:
        return f"block-{self.index:06d}"


class RecordsDigest:
    """Order-independent digest of records by (CHROM, POS, ID, REF, ALT, occurrence), to prove that none is lost.

    The sum modulo 2**128 of a BLAKE2b hash of each key; ``occurrence`` counts equal keys, so doubling a record and
    losing another cannot cancel out. All records of a position must be given to the same digest.
    """

    def __init__(self) -> None:
        self.records = 0
        self._sum = 0
        self._seen: Counter[str] = Counter()
        self._position = ""

    def add(self, line: str) -> None:
        try:
            contig, pos, identifier, ref, alt, _ = line.split("\t", 5)
        except ValueError:
            raise InputError(f"a VCF line has too few columns: '{line[:60]}'; repair the file") from None
        position = f"{contig}\t{pos}"
        if position != self._position:  # equal keys share a position, so only one position's keys are kept
            self._seen.clear()
            self._position = position
        key = f"{position}\t{identifier}\t{ref}\t{alt}"
        self._seen[key] += 1
        text = f"{key}\t{self._seen[key]}".encode("latin-1")
        self._sum += int.from_bytes(hashlib.blake2b(text, digest_size=DIGEST_BITS // 8).digest(), "big")
        self.records += 1

    def hex(self) -> str:
        return format(self._sum % 2**DIGEST_BITS, f"0{DIGEST_BITS // 4}x")


def add_digests(digests: Iterable[str]) -> str:
    """The digest of all records from those of disjoint parts."""
    return format(sum(int(d, 16) for d in digests) % 2**DIGEST_BITS, f"0{DIGEST_BITS // 4}x")


@dataclass
class _Cut:
    """A block without its number: what the counting pass returns."""

    start: int
    end: int
    first_start: int
    last_start: int
    records: int
    alleles: int
    digest: str
    cost: float = 0.0


class BlockWork(Protocol):
    """Adds up the work of one block's records, which come in order."""

    def add(self, contig: str, start: int, ref_bases: int, alleles: int) -> None:
        """One more record: its 0-based start, the length of REF in bases, its scorable alleles."""

    def seconds(self) -> float:
        """The block's predicted seconds on one core; no record may follow."""


class Weigher(Protocol):
    """Weighs the records of a contig one after another, in usual records."""

    def weight(self, contig: str, start: int, previous: int, alleles: int) -> float:
        """The record's weight, at least 1; ``previous`` is the 0-based start of the record before it, -1 if none."""

    def block(self) -> BlockWork:
        """The work of a new block."""


class CostModel(Protocol):
    """Predicts what records cost. It travels to the tasks, each of which opens it once."""

    def open(self) -> Weigher:
        """The weigher, with its files open."""


class EvenCosts:
    """The cost model without knowledge: each record weighs 1, and seconds are unknown (0)."""

    def open(self) -> EvenCosts:
        return self

    def weight(self, contig: str, start: int, previous: int, alleles: int) -> float:
        return 1.0

    def block(self) -> EvenCosts:
        return self

    def add(self, contig: str, start: int, ref_bases: int, alleles: int) -> None:
        pass

    def seconds(self) -> float:
        return 0.0


def cut_window(
    lines: Iterable[str], window: Region, settings: BlockSettings, weigher: Weigher | None = None
) -> list[_Cut]:
    """Cuts the records of one window into blocks that tile it; records of one position stay together.

    A block is full where its records weigh ``settings.records``; without a weigher each weighs 1.
    """
    weigher = weigher or EvenCosts()
    cuts: list[_Cut] = []
    digest, alleles, first, last = RecordsDigest(), 0, -1, -1
    weight, work = 0.0, weigher.block()

    def close(end: int) -> None:
        start = cuts[-1].end if cuts else window.start
        cost = round(work.seconds(), COST_DIGITS)
        cuts.append(_Cut(start, end, first, last, digest.records, alleles, digest.hex(), cost))

    for line in lines:
        columns = line.split("\t", 5)
        if len(columns) < 6:
            digest.add(line)  # raises
        start = max(int(columns[1]) - 1, 0)
        scorable = sum(unscorable_reason(columns[3], alt) is None for alt in columns[4].split(","))
        more = weigher.weight(window.contig, start, last, scorable)
        # Half a record more is nearer to full than half a block less.
        full = weight + more / 2 > settings.records or start - first >= settings.bases
        if digest.records and full and start > last:
            close(start)
            digest, alleles, first = RecordsDigest(), 0, start
            weight, work = 0.0, weigher.block()
        if first < 0:
            first = start
        last = start
        digest.add(line)
        alleles += scorable
        weight += more
        work.add(window.contig, start, len(columns[3]), scorable)
    if digest.records:
        close(window.end)
    return cuts


def windows_of(
    contigs: Sequence[str], lengths: Mapping[str, int | None], regions: Sequence[Region] = ()
) -> list[Region]:
    """The windows that the counting pass reads: the callset's contigs, or the chosen regions, cut at WINDOW_BASES.

    A contig's last window is open, so that records past a contig's stated end are kept too.
    """
    chosen = [Region(contig) for contig in contigs]
    if regions:
        order = {contig: i for i, contig in enumerate(contigs)}
        inside = [r for r in merge_regions(regions) if r.contig in order]
        chosen = sorted(inside, key=lambda r: (order[r.contig], r.start))
    windows = []
    for region in chosen:
        stop = min(region.end, lengths.get(region.contig) or 0)
        start = region.start
        while start < region.end:
            boundary = (start // WINDOW_BASES + 1) * WINDOW_BASES
            end = boundary if boundary < stop else region.end
            windows.append(Region(region.contig, start, end))
            start = end
    return windows


def _cut_windows(
    windows: Iterable[Region], path: str, settings: BlockSettings, costs: CostModel
) -> Iterator[tuple[Region, list[_Cut]]]:
    weigher = costs.open()
    with VcfSource(path) as source:
        for window in windows:
            yield window, cut_window(source.lines(window), window, settings, weigher)


def plan_blocks(
    spark: Session,
    vcf: str,
    lengths: Mapping[str, int | None],
    regions: Sequence[Region] = (),
    settings: BlockSettings | None = None,
    costs: CostModel | None = None,
) -> list[Block]:
    """The blocks of a bgzipped, indexed callset, in its order, counted by a distributed pass.

    Args:
        lengths: contig lengths in bases where known; a contig of unknown length is one window.
        regions: what to take of the callset (a record belongs where its POS lies); all of it where empty.
        costs: predicts what records cost; without it they all weigh the same.
    """
    settings, costs = settings or BlockSettings(), costs or EvenCosts()
    with VcfSource(vcf) as source:
        windows = windows_of(source.contigs, lengths, regions)
    if not windows:
        return []
    cut = partial(_cut_windows, path=vcf, settings=settings, costs=costs)
    groups = slices(windows, TASKS_PER_SLOT * slots(spark))
    return number_blocks(run_tasks(spark, groups, cut, "count records and cut blocks"))


def number_blocks(counted: Iterable[tuple[Region, list[_Cut]]]) -> list[Block]:
    """Blocks from the cuts of windows that are in the callset's order."""
    blocks: list[Block] = []
    first_record = 0
    for window, cuts in counted:
        for cut in cuts:
            blocks.append(
                Block(
                    index=len(blocks),
                    region=Region(window.contig, cut.start, cut.end),
                    records=cut.records,
                    alleles=cut.alleles,
                    first_record=first_record,
                    digest=cut.digest,
                    first_start=cut.first_start,
                    last_start=cut.last_start,
                    cost=cut.cost,
                )
            )
            first_record += cut.records
    return blocks


def deal(spark: Session, blocks: Sequence[Block]) -> list[list[Block]]:
    """The blocks in groups, one a task: TASKS_PER_SLOT for each slot, each of about the same predicted cost. Without
    Spark there is one, in the callset's order.

    Handing a task to a Python worker costs about 80 ms of waiting on sockets, so a task holds several blocks. Which
    task a block is in has no part in its bytes.
    """
    return share_out(blocks, 1 if isinstance(spark, LocalSession) else TASKS_PER_SLOT * slots(spark))


def candidate_windows(lengths: Mapping[str, int], regions: Sequence[Region] = ()) -> list[Block]:
    """The blocks of a genome on which alleles are yet to be called: CANDIDATE_BASES each, cut at its multiples."""
    order = {contig: i for i, contig in enumerate(lengths)}
    chosen = [Region(contig, 0, length) for contig, length in lengths.items()]
    if regions:
        inside = [region for region in merge_regions(regions) if region.contig in order]
        chosen = sorted(inside, key=lambda region: (order[region.contig], region.start))
    blocks: list[Block] = []
    for region in chosen:
        start = region.start
        while start < region.end:
            end = min(region.end, (start // CANDIDATE_BASES + 1) * CANDIDATE_BASES)
            blocks.append(Block(len(blocks), Region(region.contig, start, end), cost=(end - start) * CANDIDATE_SECONDS))
            start = end
    return blocks


def share_out(blocks: Sequence[Block], tasks: int) -> list[list[Block]]:
    """The blocks in at most ``tasks`` groups of about even cost, dearest group first; within one in their order.

    The dearest block that is left goes to the group that has least: never more than a third above the best there is
    (Graham 1969). Where no cost is known (a run that an older version began) groups have even numbers of blocks.
    """
    tasks = min(len(blocks), tasks)
    groups: list[list[Block]] = [[] for _ in range(tasks)]
    least = [(0.0, 0, task) for task in range(tasks)]
    for block in sorted(blocks, key=lambda block: (-block.cost, block.index)):
        cost, count, task = heapq.heappop(least)
        groups[task].append(block)
        heapq.heappush(least, (cost + block.cost, count + 1, task))
    groups.sort(key=lambda group: -sum(block.cost for block in group))
    return [sorted(group, key=lambda block: block.index) for group in groups]


def block_range(blocks: Sequence[Block], total: int) -> str:
    """Which blocks a job works on, as text."""
    first, last = blocks[0], blocks[-1]
    return f"{len(blocks)} of {total} blocks, {first.index} ({first.region}) to {last.index} ({last.region})"
