"""Cutting a callset into blocks: the unit of work, of a shard, and of what a validation set holds out.

Only the data and the configuration decide how a callset is cut, never the number of executors or tasks: the bytes of
every output depend on the blocks. A distributed pass over the callset counts its records and their digest, which the
merge later compares with those of the shards.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from cnnspark.errors import UsageError
from cnnspark.execution.records_digest import RecordsDigest, add_digests
from cnnspark.execution.tasks import LocalSession, Session, run_tasks, slices, slots
from cnnspark.formats.regions import END_OF_CONTIG, Region, in_order
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.variants.alleles import unscorable_reason

# Every multiple of this is a boundary of blocks, so that tasks can count each window alone. Part of a run's format.
WINDOW_BASES = 10_000_000
TASKS_PER_SLOT = 4
COST_DIGITS = 6
# Genome that one block calls candidates on: about 2 s at 30x.
CANDIDATE_BASES = 100_000
CANDIDATE_SECONDS = 2e-5  # for each base


@dataclass(frozen=True)
class BlockSettings:
    """How large a block is: some seconds of work, and one shard.

    ``records`` counts usual records, at a depth of 30x. A record that costs more (its depth is in the index of the
    reads) counts for several.

    Raises:
        UsageError: if a size is less than 1.
    """

    # About 2 s of scoring with reads on one core: small enough to balance, to retry and to hold out.
    records: int = 1000
    # Bounds the reads of a sparse block.
    bases: int = 1_000_000

    def __post_init__(self) -> None:
        if self.records < 1 or self.bases < 1:
            raise UsageError("blocks.records and blocks.bases must be 1 or more")


@dataclass(frozen=True)
class Block:
    """Consecutive records of one contig, or of several whole ones that are small."""

    index: int
    region: Region
    records: int = -1  # -1 if they are not called yet
    alleles: int = 0  # scorable ALT alleles
    first_record: int = 0  # its number in the callset
    digest: str = ""  # RecordsDigest of the callset's own lines; empty if they are not called yet
    first_start: int = -1  # 0-based, of the first record
    last_start: int = -1  # 0-based, of the last record; of several contigs the largest
    cost: float = 0.0  # predicted seconds of one core of the machine that cnnspark.stages.costs was fitted on
    more: tuple[Region, ...] = ()  # further contigs, whole ones

    @property
    def regions(self) -> tuple[Region, ...]:
        """The stretches that the block's records are in, in the callset's order, each of another contig."""
        return (self.region, *self.more)

    def read(self, source: VcfSource) -> Iterator[Record]:
        """The block's records, numbered through the callset."""
        number = max(0, self.first_record)
        for region in self.regions:
            for record in source.records(region, number):
                number += 1
                yield record

    @property
    def name(self) -> str:
        """The name of the block's files, without ending."""
        return f"block-{self.index:06d}"


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
    weight: float = 0.0
    more: tuple[Region, ...] = ()  # whole contigs that were joined to it


class BlockWork(Protocol):
    """Adds up the work of one block's records, which come in order."""

    def add(self, contig: str, start: int, ref_bases: int, alleles: int) -> None:
        """One more record: its 0-based start, the length of REF in bases, its scorable alleles."""

    def seconds(self) -> float:
        """The block's predicted seconds on one core; no record may follow."""


class Weigher(Protocol):
    """Weighs the records of a contig one after another; 1 is the weight of a usual record."""

    def weight(self, contig: str, start: int, previous: int, alleles: int) -> float:
        """The record's weight, at least 1; ``previous`` is the 0-based start of the record before it, -1 if none."""

    def block(self) -> BlockWork:
        """The work of a new block."""


class CostModel(Protocol):
    """Predicts what records cost. Spark sends it to the tasks, each of which opens it once."""

    def open(self) -> Weigher:
        """The weigher, with its files open."""


class EvenCosts:
    """The cost model that knows nothing: each record weighs 1, and seconds are unknown (0)."""

    def open(self) -> EvenCosts:
        """Itself: there is nothing to open."""
        return self

    def weight(self, contig: str, start: int, previous: int, alleles: int) -> float:
        """1, whatever the record."""
        return 1.0

    def block(self) -> EvenCosts:
        """Itself."""
        return self

    def add(self, contig: str, start: int, ref_bases: int, alleles: int) -> None:
        """Nothing to add up."""

    def seconds(self) -> float:
        """0: unknown."""
        return 0.0


def cut_window(
    lines: Iterable[str], window: Region, settings: BlockSettings, weigher: Weigher | None = None
) -> list[_Cut]:
    """Cuts the records of one window into blocks that tile it; records of one position stay together.

    Args:
        lines: the window's records, in order, without line ends.
        window: the region that the blocks tile.
        settings: a block is full when its records weigh ``records``, or span ``bases``.
        weigher: weighs the records; without it each weighs 1.

    Returns:
        The blocks, not yet numbered; empty without records.

    Raises:
        InputError: if a line has fewer than six columns.
    """
    weigher = weigher or EvenCosts()
    cuts: list[_Cut] = []
    digest, alleles, first, last = RecordsDigest(), 0, -1, -1
    weight, work = 0.0, weigher.block()

    def close(end: int) -> None:
        start = cuts[-1].end if cuts else window.start
        cost = round(work.seconds(), COST_DIGITS)
        cuts.append(_Cut(start, end, first, last, digest.records, alleles, digest.hex(), cost, weight))

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

    Args:
        contigs: the callset's contigs, in its order.
        lengths: their lengths in bases, as far as they are known; a contig of unknown length is one window.
        regions: what to take of the contigs; all of them if empty.

    Returns:
        The windows, in the callset's order. A contig's last window is open, to keep records past its stated end.
    """
    windows = []
    for region in in_order(regions, contigs) if regions else [Region(contig) for contig in contigs]:
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
    session: Session,
    vcf: str,
    lengths: Mapping[str, int | None],
    regions: Sequence[Region] = (),
    settings: BlockSettings | None = None,
    costs: CostModel | None = None,
    join_contigs: bool = False,
) -> list[Block]:
    """Cuts a callset into blocks, counting its records in a distributed pass.

    Args:
        session: where the tasks run.
        vcf: path or URL of the bgzipped, indexed callset.
        lengths: contig lengths in bases, as far as they are known; a contig of unknown length is one window.
        regions: what to take of the callset (its POS says where a record belongs); all of it if empty.
        settings: how large a block is.
        costs: predicts what records cost; without it they all weigh the same.
        join_contigs: whether consecutive contigs that are small make one block.

    Returns:
        The blocks that hold a record, in the callset's order.

    Raises:
        InputError: if the callset cannot be read, has no index, or has a line of too few columns.
    """
    settings, costs = settings or BlockSettings(), costs or EvenCosts()
    with VcfSource(vcf) as source:
        windows = windows_of(source.contigs, lengths, regions)
    if not windows:
        return []
    cut = partial(_cut_windows, path=vcf, settings=settings, costs=costs)
    groups = slices(windows, TASKS_PER_SLOT * slots(session))
    counted = run_tasks(session, groups, cut, "count records and cut blocks")
    return number_blocks(join_small_contigs(counted, settings) if join_contigs else counted)


def join_small_contigs(
    counted: Iterable[tuple[Region, list[_Cut]]], settings: BlockSettings
) -> Iterator[tuple[Region, list[_Cut]]]:
    """Joins whole contigs of one cut each, as many as a block holds: each block costs tens of milliseconds.

    Args:
        counted: each window and what :func:`cut_window` returned for it, in the callset's order.
        settings: how large a block is; bases are counted from the first to the last record of each contig.

    Yields:
        The same, less the windows that were joined to one before them and those without records.
    """
    group: list[tuple[Region, _Cut]] = []  # whole contigs that make one block
    weight, bases = 0.0, 0
    for window, cuts in counted:
        if not cuts:
            continue
        whole = window.start == 0 and window.end >= END_OF_CONTIG and len(cuts) == 1
        span = cuts[-1].last_start - cuts[0].first_start + 1
        full = weight + cuts[0].weight > settings.records or bases + span > settings.bases
        if group and (full or not whole):
            yield _joined(group)
            group, weight, bases = [], 0.0, 0
        if whole:
            group.append((window, cuts[0]))
            weight, bases = weight + cuts[0].weight, bases + span
        else:
            yield window, cuts
    if group:
        yield _joined(group)


def _joined(group: Sequence[tuple[Region, _Cut]]) -> tuple[Region, list[_Cut]]:
    """The first window of some whole contigs, with one cut for all of them."""
    cuts = [cut for _, cut in group]
    together = replace(
        cuts[0],
        records=sum(cut.records for cut in cuts),
        alleles=sum(cut.alleles for cut in cuts),
        last_start=max(cut.last_start for cut in cuts),
        digest=add_digests(cut.digest for cut in cuts),
        cost=round(sum(cut.cost for cut in cuts), COST_DIGITS),
        more=tuple(window for window, _ in group[1:]),
    )
    return group[0][0], [together]


def number_blocks(counted: Iterable[tuple[Region, list[_Cut]]]) -> list[Block]:
    """Numbers the blocks of windows that are in the callset's order, through all of them.

    Args:
        counted: each window and what :func:`cut_window` returned for it.

    Returns:
        The blocks.
    """
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
                    more=cut.more,
                )
            )
            first_record += cut.records
    return blocks


def deal(session: Session, blocks: Sequence[Block]) -> list[list[Block]]:
    """Groups the blocks into tasks of about the same predicted cost.

    Handing a task to a Python worker costs about 80 ms of waiting on sockets, so a task holds several blocks. A block's
    bytes do not depend on its task.

    Args:
        session: where the tasks run.
        blocks: the blocks to work on.

    Returns:
        One group for each task: TASKS_PER_SLOT for each of Spark's slots; without Spark a single one, in the callset's
        order.
    """
    return share_out(blocks, 1 if isinstance(session, LocalSession) else TASKS_PER_SLOT * slots(session))


def candidate_windows(lengths: Mapping[str, int], regions: Sequence[Region] = ()) -> list[Block]:
    """Cuts a genome on which no alleles are called yet into blocks, at the multiples of CANDIDATE_BASES.

    Args:
        lengths: the contigs and their lengths in bases, in the order of the reference.
        regions: what to take of the contigs, with their ends inside; all of them if empty.

    Returns:
        The blocks, in the order of the contigs.
    """
    blocks: list[Block] = []
    whole = [Region(contig, 0, length) for contig, length in lengths.items()]
    for region in in_order(regions, lengths) if regions else whole:
        start = region.start
        while start < region.end:
            end = min(region.end, (start // CANDIDATE_BASES + 1) * CANDIDATE_BASES)
            blocks.append(Block(len(blocks), Region(region.contig, start, end), cost=(end - start) * CANDIDATE_SECONDS))
            start = end
    return blocks


def share_out(blocks: Sequence[Block], tasks: int) -> list[list[Block]]:
    """Shares the blocks out among at most ``tasks`` groups of about the same cost.

    The dearest remaining block goes to the group of the least cost. The dearest group is then never more than a third
    above the best possible one (Graham 1969). If no cost is known (a run that an older version began), the groups have
    the same number of blocks.

    Args:
        blocks: the blocks, in any order.
        tasks: the most groups there may be.

    Returns:
        The groups, the dearest first; blocks within one in the callset's order. No group is empty.
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
    """Names the blocks that a job works on, of ``total``, for Spark's UI; there is at least one."""
    first, last = blocks[0], blocks[-1]
    return f"{len(blocks)} of {total} blocks, {first.index} ({first.region}) to {last.index} ({last.region})"
