"""What stages share: the blocks of a callset, the merge of its shards, the end of a run, a private work folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cnnspark.common.error_translation import explain
from cnnspark.common.log import progress, subject
from cnnspark.common.storage import location, make_room, require_free
from cnnspark.config import Config
from cnnspark.errors import InputError, UsageError
from cnnspark.execution.block_times import blocks_table, summarise, summary_text
from cnnspark.execution.blocks import Block, plan_blocks
from cnnspark.execution.merge import check_conservation, merge_shards, total_counts
from cnnspark.execution.run_folder import RunFolder
from cnnspark.execution.run_lock import private_folder
from cnnspark.execution.shards import ShardRow, shard_folder
from cnnspark.execution.tasks import Session, run_tasks
from cnnspark.formats import bcf
from cnnspark.formats.vcf import VcfHeader
from cnnspark.stages.costs import Costs, Expected, line_costs
from cnnspark.stages.inputs import CheckedInputs

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


def planned_blocks(
    session: Session,
    checked: CheckedInputs,
    config: Config,
    costs: Costs | None = None,
    join_contigs: bool = False,
) -> list[Block]:
    """Cuts the callset into blocks and counts its records, in a distributed pass.

    Args:
        session: where the pass runs.
        checked: the stage's inputs.
        config: block sizes.
        costs: what the stage's work costs; None for a stage that reads records only.
        join_contigs: whether consecutive contigs that are small make one block.

    Raises:
        InputError: the chosen regions hold no records.
    """
    vcf, lengths = checked.inputs.vcf, checked.preflight.contig_lengths
    # Reads of several samples are dense in the same places.
    reads = checked.inputs.reads or next((member.reads for member in checked.inputs.members if member.reads), None)
    expected = Expected(costs or line_costs(), reads, config.tensors.read_limit)
    blocks = plan_blocks(session, vcf, lengths, checked.regions, config.blocks, expected, join_contigs)
    if not blocks:
        raise InputError("the callset holds no records in the chosen regions; check --region")
    counted = sum(block.records for block in blocks)
    alleles = sum(block.alleles for block in blocks)
    counts = {"records": counted, "alleles": alleles, "blocks": len(blocks)}
    progress(f"{counted} records, {alleles} alleles, {len(blocks)} blocks", **counts)
    return blocks


def merge_in_task(
    session: Session, folder: RunFolder, rows: Sequence[ShardRow], header: VcfHeader, target: Location
) -> None:
    """Merges the shards to ``target`` in a task, so that the driver need not copy a whole sheet's callsets by itself.

    Raises:
        RunError: a shard is missing, or the disk is full.
    """
    # Of the rows as much as the merge looks at.
    light = [dataclasses.replace(row, input_counts=(), runtime={}, counts={}) for row in rows]
    out, text = folder.out, header.text()

    def merge(_: Iterable[int]) -> Iterator[int]:
        merge_shards(out, light, text, target, folder.require_owner)
        yield 1

    try:
        run_tasks(session, [[0]], merge, f"merge {len(rows)} shards")
    except Exception as error:
        raise explain(error) from error


def finish_run(
    session: Session, folder: RunFolder, blocks: Sequence[Block], rows: Sequence[ShardRow], header: VcfHeader,
    target: Location | None, facts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Proves conservation, merges the shards, writes the manifest and the success mark.

    Args:
        session: where the merge runs.
        folder: the run's.
        blocks: as they were cut.
        rows: the finished shards' manifest rows.
        header: of the merged callset.
        target: the merged callset; None leaves the shards.
        facts: what else the manifest says.

    Returns:
        The manifest without its shards and configuration, with ``statement``: the proof in words.

    Raises:
        RunError: records in and records out differ.
    """
    proof = check_conservation(blocks, rows)
    if target is not None:
        merge_in_task(session, folder, rows, header, target)
    manifest = {
        **facts,
        "conservation": asdict(proof),
        "runtime": report_blocks(folder, blocks, {row.block: row.runtime for row in rows}),
        "counts": total_counts(rows),
        "merged": str(target) if target else None,
        # The inputs' counts stand there added up, and the runtimes in a table of their own.
        "shards": [{k: v for k, v in asdict(row).items() if k not in ("input_counts", "runtime")} for row in rows],
    }
    folder.succeed(manifest)
    return {k: v for k, v in manifest.items() if k not in ("shards", "config")} | {"statement": str(proof)}


def report_blocks(
    folder: RunFolder, blocks: Sequence[Block], reports: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Writes the table of the blocks' runtimes, prints and returns their summary."""
    folder.report(blocks_table(blocks, reports, subject().get("sample", "")))
    summary = summarise(reports.values(), sum(block.cost for block in blocks))
    # Lines that are only copied are read while they are written, so that their parts say nothing.
    if summary and folder.stage != "filter":
        progress(summary_text(summary), **summary)
    return summary


def new_callset(out: str, overwrite: bool) -> Location:
    """Where a stage writes its one callset.

    Raises:
        UsageError: the name has another ending than .vcf.gz or .bcf, or the file exists and is not to be replaced.
    """
    target = location(out)
    if not out.endswith((".vcf.gz", bcf.SUFFIX)):
        raise UsageError(f"{out} must end in .vcf.gz or .bcf; it is written compressed and indexed")
    require_free(out, overwrite)
    return target


@contextmanager
def work_folder(target: Location, stage: str) -> Iterator[RunFolder]:
    """A private run folder beside ``target``, removed afterwards: for stages whose result is one file."""
    make_room(target)
    with private_folder(target, "work") as folder:
        yield shard_folder(str(folder), stage)
