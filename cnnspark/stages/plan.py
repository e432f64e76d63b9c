"""What a scoring run will take, from indexes alone: records, blocks, time, memory and output, before anything runs.

The indexes say in windows of 16 kb how many records and reads there are; :mod:`cnnspark.stages.costs` says what an
allele and a read cost. Alleles per record are those of the callset's first records. Everything but the counts of
records is an estimate. No Spark, no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pysam

from cnnspark.common.storage import is_url
from cnnspark.errors import InputError
from cnnspark.execution.blocks import TASKS_PER_SLOT, WINDOW_BASES, BlockSettings
from cnnspark.formats.bgzf import open_bgzf
from cnnspark.formats.binning_index import WINDOW_BASES as INDEX_BASES
from cnnspark.formats.binning_index import find_index, read_binning_index
from cnnspark.formats.callset import kind_of, open_callset, require_file
from cnnspark.formats.contigs import check_regions
from cnnspark.formats.htslib import VCF_INDEXES, fetched_index, for_htslib, input_bytes, read_indexes
from cnnspark.formats.read_depth import ReadDepths, read_depths
from cnnspark.formats.regions import END_OF_CONTIG, Region, merge_regions, parse_region
from cnnspark.formats.vcf import ENCODING
from cnnspark.models.selection import select_model
from cnnspark.scoring.cascade import first_stage
from cnnspark.stages.costs import USUAL_DEPTH, USUAL_READ_BASES, Costs, Weigher, Work, scoring_costs
from cnnspark.tensors.chunks import CHUNK_RECORDS, CHUNK_SPAN
from cnnspark.tensors.site_features import READ_REACH
from cnnspark.variants.alleles import unscorable_reason

if TYPE_CHECKING:
    from cnnspark.config import Config, InputPaths

_SAMPLED_RECORDS = 1_000
# Assumed, as it differs from place to place: Spark, workers, TensorFlow and the model, before the first block.
START_SECONDS = 15.0
# Measured, docs/performance.md.
COUNT_SECONDS = 9e-6  # of the counting pass, for each record
TASK_SECONDS = 0.08  # handing a task to a Python worker
MERGE_SECONDS = 2e-8  # for each byte of output
WORKER_BYTES = 1_000 << 20  # Python, TensorFlow, a model
READ_BYTES = 1_500  # a read while it is decoded
ALLELE_BYTES = 60_000  # an allele's tensor, its share of a padded batch included
DRIVER_BYTES = 300 << 20  # Python alone, without blocks; Spark's JVM is as large as spark.driver.memory says
BLOCK_BYTES = 20_000  # a block's row in the driver
SCORE_BYTES = 9.0  # of output for each allele, compressed
SHARD_BYTES = 2_500  # of a shard beside its records


@dataclass(frozen=True)
class ContigPlan:
    """The plan of one contig; everything but ``records`` is an estimate."""

    contig: str
    records: int
    alleles: int
    mean_depth: float | None  # at the records; None where it is not known
    blocks: int
    seconds: float  # of one core


@dataclass(frozen=True)
class Plan:
    """What one callset will take, or several: plans add up."""

    contigs: tuple[ContigPlan, ...]
    work: Work
    core_seconds: float
    longest_block_seconds: float
    task_memory_bytes: int
    driver_memory_bytes: int
    output_bytes: int
    samples: int = 1
    notes: tuple[str, ...] = ()

    @property
    def records(self) -> int:
        """Records of the callset."""
        return round(self.work.records)

    @property
    def blocks(self) -> int:
        """Blocks, each one shard."""
        return round(self.work.blocks)

    def __add__(self, other: Plan) -> Plan:
        """Both callsets in one run: times and sizes add up, memory is that of the larger."""
        merged: dict[str, ContigPlan] = {contig.contig: contig for contig in self.contigs}
        for contig in other.contigs:
            known = merged.get(contig.contig)
            merged[contig.contig] = _joined(known, contig) if known else contig
        return Plan(
            contigs=tuple(merged.values()),
            work=self.work + other.work,
            core_seconds=self.core_seconds + other.core_seconds,
            longest_block_seconds=max(self.longest_block_seconds, other.longest_block_seconds),
            task_memory_bytes=max(self.task_memory_bytes, other.task_memory_bytes),
            driver_memory_bytes=self.driver_memory_bytes + other.driver_memory_bytes - DRIVER_BYTES,
            output_bytes=self.output_bytes + other.output_bytes,
            samples=self.samples + other.samples,
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    def wall_seconds(self, cores: int) -> float:
        """Seconds until the merged callset is there, on so many cores."""
        tasks = min(self.blocks, TASKS_PER_SLOT * cores)
        spread = (self.core_seconds + tasks * TASK_SECONDS) / max(1, cores)
        return START_SECONDS + max(spread, self.longest_block_seconds) + self.output_bytes / 2 * MERGE_SECONDS

    def to_dict(self, cores: int) -> dict[str, Any]:
        """The plan as plain values."""
        return {**asdict(self), "records": self.records, "blocks": self.blocks, "cores": cores,
                "wall_seconds": self.wall_seconds(cores)}  # fmt: skip


def _joined(one: ContigPlan, other: ContigPlan) -> ContigPlan:
    records = one.records + other.records
    depth = None
    if one.mean_depth is not None and other.mean_depth is not None:
        depth = (one.mean_depth * one.records + other.mean_depth * other.records) / max(1, records)
    return ContigPlan(
        one.contig, records, one.alleles + other.alleles, depth, one.blocks + other.blocks, one.seconds + other.seconds
    )


def plan_callsets(callsets: Sequence[InputPaths], config: Config, model: str | None = None) -> Plan:
    """What scoring these callsets will take, as one run of a sample sheet.

    A callset of several samples is planned as if each of them carried every allele; no index tells who does.
    """
    plans = []
    for paths in callsets:
        of_each = [dataclasses.replace(paths, reads=member.reads, members=()) for member in paths.members]
        plans += [plan_callset(each, config, model) for each in of_each or [paths]]
        if of_each:
            note = "a callset of several samples is planned as if each carried every allele: it will take less"
            plans[-1] = dataclasses.replace(plans[-1], notes=(*plans[-1].notes, note))
    return functools.reduce(Plan.__add__, plans)


def plan_callset(paths: InputPaths, config: Config, model: str | None = None) -> Plan:
    """What scoring one callset will take.

    Args:
        paths: callset and reads; chosen regions.
        config: all settings.
        model: a bundle's folder or the name of a bundled model; None for the default.

    Raises:
        InputError: an index is missing, cannot be read or holds no counts, or a region names a contig that the callset
            does not have; with the command that helps.
    """
    paths = paths.absolute()
    vcf = str(paths.vcf)
    selected = select_model(model or config.model, paths.reads is not None)
    costs = scoring_costs(selected.card.model, selected.needs_reads)
    windows, alleles_each = _callset(vcf)
    depths: ReadDepths | None = None
    notes: tuple[str, ...] = ()
    if selected.needs_reads:
        depths, notes = _reads(paths.reads, selected.path, windows)
    if first_stage(selected.path, selected.card, config.score.cascade) is not None:
        # The share that goes on depends on the callset, and no index tells it.
        notes = (*notes, "planned as if every allele went on to the second model: it will take less")
    chosen = [parse_region(text, windows) for text in paths.regions]
    check_regions(chosen, windows, vcf)
    weigher = Weigher(costs, depths, config.tensors.read_limit)
    total, contigs, densest, in_block = Work(), [], 0.0, 0.0
    for contig, records in windows.items():
        own = [region for region in merge_regions(chosen) if region.contig == contig]
        share = _shares(len(records), own) if chosen else np.ones(len(records))
        if not (records * share).sum():
            continue
        found = _contig(contig, records * share, alleles_each, weigher, config.blocks)
        total += found.work
        densest, in_block = max(densest, found.most_reads), max(in_block, found.most_in_block)
        contigs.append(
            ContigPlan(
                contig, round(found.work.records), round(found.work.alleles), found.depth, round(found.work.blocks),
                costs.seconds(found.work) + COUNT_SECONDS * found.work.records,
            )
        )  # fmt: skip
    if not contigs:
        raise InputError("the callset holds no records in the chosen regions; check --region")
    counted = sum(records.sum() for records in windows.values())
    in_one = min(config.blocks.records, total.records)
    size_bytes = input_bytes(vcf) * total.records / counted + SCORE_BYTES * total.alleles
    return Plan(
        contigs=tuple(contigs),
        work=total,
        core_seconds=sum(contig.seconds for contig in contigs),
        longest_block_seconds=in_block,
        task_memory_bytes=round(WORKER_BYTES + densest * READ_BYTES + in_one * alleles_each * ALLELE_BYTES),
        driver_memory_bytes=round(DRIVER_BYTES + BLOCK_BYTES * total.blocks),
        # Shards and the merged callset.
        output_bytes=round(2 * size_bytes + SHARD_BYTES * total.blocks),
        notes=notes,
    )


def _callset(vcf: str) -> tuple[dict[str, np.ndarray], float]:
    """Records by contig and window of INDEX_BASES, and scorable alleles a record."""
    require_file(vcf, "callset")
    kind = kind_of(vcf)
    if kind == "vcf":
        raise InputError(f"{vcf} is plain text, which has no index to plan from; run 'bgzip' and 'tabix -p vcf' on it")
    suffixes = VCF_INDEXES if kind == "bgzf" else (".csi",)
    with fetched_index(vcf, suffixes) as fetched:
        index = fetched or find_index(vcf, suffixes)
        if kind == "bcf":
            if index is None:
                raise InputError(f"{vcf} has no index; create one with 'bcftools index {vcf}'")
            with pysam.VariantFile(for_htslib(vcf), index_filename=fetched) as file:
                names = [str(name) for name in file.header.contigs]
                pairs = [(r.ref or "", list(r.alts or ())) for r in islice(file, _SAMPLED_RECORDS)]
        else:
            open_callset(vcf).close()  # says what is wrong with it
            names = []
            with open_bgzf(vcf) as file:
                lines = islice((line for line in file if line and not line.startswith(b"#")), _SAMPLED_RECORDS)
                split = (line.decode(ENCODING).split("\t", 5) for line in lines)
                pairs = [(columns[3], columns[4].split(",")) for columns in split if len(columns) > 5]
        own_names, indexed = read_binning_index(str(index), vcf)
    if any(contig.records is None for contig in indexed if len(contig.window_bytes)):
        raise InputError(f"the index of {vcf} holds no counts; make it again with 'tabix -f -p vcf {vcf}'")
    scorable = sum(unscorable_reason(ref, alt) is None for ref, alts in pairs for alt in alts)
    windows = {
        name: contig.window_records for name, contig in zip(own_names or names, indexed, strict=False) if contig.records
    }
    return windows, scorable / max(1, len(pairs))


def _reads(reads: str | None, model: str, windows: dict[str, np.ndarray]) -> tuple[ReadDepths, tuple[str, ...]]:
    """The depths to plan by, and notes on them."""
    if not reads:
        raise InputError(f"the model {model} looks at reads; give --reads")
    if not is_url(reads):
        require_file(reads, "reads")
        if find_index(reads, read_indexes(reads)) is None:
            raise InputError(f"{reads} has no index; run 'samtools index {reads}'")
    depths = read_depths(reads)
    if depths is not None:
        return depths, ()
    each = USUAL_DEPTH / USUAL_READ_BASES * INDEX_BASES
    usual = {contig: np.full(len(records) + 1, each) for contig, records in windows.items()}
    said = f"the depth of {reads} cannot be told from an index: {USUAL_DEPTH:g}x is taken"
    return ReadDepths.of(usual, USUAL_READ_BASES), (said,)


def _shares(windows: int, regions: Sequence[Region]) -> np.ndarray:
    """(windows,) how much of each window the regions cover."""
    edges = np.arange(windows + 1) * INDEX_BASES
    covered = np.zeros(windows)
    for region in regions:
        covered += np.diff(np.clip(edges, region.start, min(region.end, END_OF_CONTIG)))
    return covered / INDEX_BASES


@dataclass(frozen=True)
class _Found:
    work: Work
    depth: float | None
    most_reads: float  # decoded at once
    most_in_block: float  # seconds of the dearest block


def _contig(contig: str, records: np.ndarray, alleles_each: float, weigher: Weigher, settings: BlockSettings) -> _Found:
    """The work of a contig with (windows,) records. Within a window they are taken to lie at random."""
    depths, costs = weigher.depths, weigher.costs
    if depths is None:
        weights, depth, density, read_bases = records, np.zeros(len(records)), np.zeros(len(records)), 1.0
    else:
        depth = np.array([depths.depth(contig, w * INDEX_BASES) for w in range(len(records))])
        read_bases = depths.read_bases
        density = depth / read_bases  # reads that begin at a base
        spacing = np.minimum(INDEX_BASES / np.maximum(records, 1e-9), 2 * READ_REACH)
        weights = records * np.array(
            [
                weigher.relative(alleles_each, d, gap * d / read_bases)
                for d, gap in zip(depth.tolist(), spacing.tolist(), strict=True)
            ]
        )
    # A block ends with its weight or its bases, whichever comes first, and at each multiple of the counting window.
    held = np.maximum(weights / settings.records, np.where(records > 0, INDEX_BASES / settings.bases, 0))
    counted = (np.arange(len(held)) * INDEX_BASES + INDEX_BASES // 2) // WINDOW_BASES
    parts = np.bincount(counted, held) if len(held) else np.zeros(0)
    blocks = float(np.ceil(parts).sum())
    # Reads are decoded where a record is near, and again beyond the ends of each chunk.
    around = _sum_around(records, 1) * (2 * READ_REACH / (3 * INDEX_BASES))
    near = 1 - np.exp(-around)
    chunked = np.maximum.reduce([near * INDEX_BASES / CHUNK_SPAN, records / CHUNK_RECORDS, held])
    reads = density * (near * INDEX_BASES + chunked * 2 * READ_REACH)
    alleles = records * alleles_each
    work = Work(
        blocks=blocks,
        records=float(records.sum()),
        alleles=float(alleles.sum()),
        rows=float((alleles * np.minimum(depth, weigher.read_limit)).sum()),
        reads=float(reads.sum()),
    )
    at_once = _sum_around(density * INDEX_BASES * (near > 0.01), (CHUNK_SPAN + 2 * READ_REACH) // INDEX_BASES // 2)
    per_window = (
        costs.record * records
        + costs.allele * alleles
        + costs.row * alleles * np.minimum(depth, weigher.read_limit)
        + costs.read * reads
    )
    return _Found(
        work=work,
        depth=float((depth * records).sum() / records.sum()) if depths is not None else None,
        most_reads=float(at_once.max(initial=0)),
        most_in_block=float(_longest(per_window, held, costs)),
    )


def _sum_around(values: np.ndarray, distance: int) -> np.ndarray:
    """(n,) the sums of so many neighbours on each side and the value itself."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    return total[np.minimum(at + distance + 1, len(values))] - total[np.maximum(at - distance, 0)]


def _longest(seconds: np.ndarray, held: np.ndarray, costs: Costs) -> float:
    """Seconds of the dearest block: windows are gathered until one is full; a fuller window is cut."""
    longest = gathered = full = 0.0
    for each, share in zip(seconds.tolist(), held.tolist(), strict=True):
        if share >= 1:
            longest = max(longest, each / share)
            continue
        gathered, full = gathered + each, full + share
        longest = max(longest, gathered)
        if full >= 1:
            gathered = full = 0.0
    return costs.block + longest


def plan_text(plan: Plan, cores: int) -> str:
    """The plan as a table for the terminal."""
    rows = [("contig", "records", "alleles*", "depth*", "blocks*", "core seconds*")]
    shown = plan.contigs[:_SHOWN_CONTIGS]
    for contig in shown:
        depth = "-" if contig.mean_depth is None else f"{contig.mean_depth:.0f}x"
        rows.append((contig.contig, f"{contig.records:,}", f"{contig.alleles:,}", depth, f"{contig.blocks:,}",
                     f"{contig.seconds:,.0f}"))  # fmt: skip
    rows.append(("all", f"{plan.records:,}", f"{plan.work.alleles:,.0f}", "", f"{plan.blocks:,}",
                 f"{plan.core_seconds:,.0f}"))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    if len(plan.contigs) > len(shown):
        lines.insert(-1, f"... and {len(plan.contigs) - len(shown)} contigs more")
    mib = 1 << 20
    lines += [
        "",
        f"time on {cores} cores*    {_duration(plan.wall_seconds(cores))}, its longest block "
        f"{plan.longest_block_seconds:,.1f} s",
        f"memory*            {plan.task_memory_bytes / mib:,.0f} MiB a task, {plan.driver_memory_bytes / mib:,.0f} MiB "
        "in the driver beside Spark's JVM",
        f"output*            {plan.output_bytes / mib:,.1f} MiB, shards and the merged VCF",
        "",
        "* estimated: depth and where records lie from the indexes, alleles from the callset's first "
        f"{_SAMPLED_RECORDS:,} records,",
        "  seconds as on the machine of docs/performance.md; the manifest of a run says how far its own were off.",
    ]
    return "\n".join(lines + [f"note: {note}" for note in plan.notes])


_SHOWN_CONTIGS = 40


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"
