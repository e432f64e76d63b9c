"""VCF shards: one per block, written under a temporary name and committed by its manifest row, which is written last.

Layout of a run's folder (see also :mod:`cnnspark.runs`)::

    run.json                     what the run is: inputs, configuration, blocks (written first)
    shards/block-000000.vcf.gz   header, then the block's records, BGZF
    manifest/block-000000.json   the block's row: counts, keys, digest, bytes; its presence means "finished"
    guard.json                   of a scoring run: how far its inputs are from what the model was trained on
    merged.vcf.gz, .tbi          unless --no-merge
    manifest.json, _SUCCESS      when all counts agree
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cnnspark.bgzf import BgzfWriter
from cnnspark.blocks import Block, RecordsDigest, deal
from cnnspark.errors import RunError
from cnnspark.runs import RunFolder
from cnnspark.vcf import ENCODING, VcfHeader

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SHARDS, MERGED, GUARD = "shards", "merged.vcf.gz", "guard.json"


def shard_folder(out: str, stage: str = "score") -> RunFolder:
    """The run folder of a stage that writes shards."""
    return RunFolder(out, stage, (SHARDS, MERGED, f"{MERGED}.tbi", f"{MERGED}.csi", GUARD))


@dataclass(frozen=True)
class ShardRow:
    """What the manifest says of one finished block."""

    block: int
    contig: str
    start: int
    end: int
    records_in: int
    records_out: int
    first: str
    last: str
    digest: str
    file: str
    bytes: int
    header_bytes: int  # compressed; the records' BGZF blocks begin here
    header_digest: str
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    input_counts: Sequence[str] = ()  # of scored blocks: how annotations and site features lie


class BlockOutput(NamedTuple):
    """A block's lines in order, the counter that is filled while they are drawn, and what its row says of its inputs
    (:func:`cnnspark.guard.pack_counts`)."""

    lines: Iterable[str]
    counts: Counter
    input_counts: Sequence[str] = ()


BlockLines = Callable[[Block], BlockOutput]


def write_shard(folder: RunFolder, block: Block, header: str, work: BlockLines) -> ShardRow:
    """Writes one block's shard and commits it. Raises RunError where records were lost, doubled or changed."""
    folder.require_owner()
    started = time.monotonic()
    name = f"{block.name}.vcf.gz"
    # Two attempts of one task (speculation, a lost executor that lives on) must not write into one file.
    temporary = folder.out / SHARDS / f".{name}.{os.getpid()}-{time.monotonic_ns()}"
    digest, first, last = RecordsDigest(), "", ""
    try:
        with BgzfWriter(temporary) as shard:
            shard.write(header.encode(ENCODING))
            shard.flush()  # the records begin on a BGZF block boundary, so that merging is copying
            header_bytes = shard.tell() >> 16
            output = work(block)
            for line in output.lines:
                digest.add(line)
                last = ":".join(line.split("\t", 2)[:2])
                first = first or last
                shard.write((line + "\n").encode(ENCODING))
        folder.require_owner()  # who took over has removed this file, or will put another in its place
        if block.records >= 0 and (digest.records != block.records or digest.hex() != block.digest):
            raise RunError(
                f"block {block.region} has {block.records} records and {digest.records} would have been written, "
                "or their keys differ; was the callset changed during the run? Start again with --if-exists overwrite"
            )
        row = ShardRow(
            block=block.index,
            contig=block.region.contig,
            start=block.region.start,
            end=block.region.end,
            records_in=digest.records if block.records < 0 else block.records,
            records_out=digest.records,
            first=first,
            last=last,
            digest=digest.hex(),
            file=f"{SHARDS}/{name}",
            bytes=temporary.stat().st_size,
            header_bytes=header_bytes,
            header_digest=hashlib.sha256(header.encode(ENCODING)).hexdigest(),
            seconds=round(time.monotonic() - started, 3),
            counts=dict(sorted(output.counts.items())),
            input_counts=list(output.input_counts),
        )
        os.replace(temporary, folder.out / SHARDS / name)
    finally:
        temporary.unlink(missing_ok=True)
    folder.commit(block, asdict(row))
    return row


def finished_rows(folder: RunFolder, block: Block | None = None) -> list[ShardRow]:
    """The rows of finished blocks (or of one) whose shard is there with the stated size, by block."""
    rows = []
    for values in folder.rows(block):
        row = ShardRow(**values)
        shard = folder.out / row.file
        if shard.exists() and shard.stat().st_size == row.bytes:
            rows.append(row)
    return rows


def write_shards(
    spark: SparkSession,
    folder: RunFolder,
    blocks: Sequence[Block],
    header: VcfHeader,
    make_work: Callable[[], BlockLines],
) -> list[ShardRow]:
    """Writes the shards of the blocks that are not finished, in executors, and returns every block's row.

    ``make_work`` is shipped to the tasks and called once in each: it opens files and models there.
    """
    (folder.out / SHARDS).mkdir(exist_ok=True)
    finished = {row.block for row in finished_rows(folder)}
    missing = [block for block in blocks if block.index not in finished]
    text = header.text()

    def write(part: Iterable[Block]) -> Iterator[int]:
        work = make_work()
        for block in part:
            # An earlier attempt of this task may have come this far.
            if block.index not in {row.block for row in finished_rows(folder, block)}:
                write_shard(folder, block, text, work)
            yield block.index

    if missing:
        deal(spark, missing).mapPartitions(write).count()
    rows = finished_rows(folder)
    left = sorted({block.index for block in blocks} - {row.block for row in rows})
    if left:
        raise RunError(
            f"{len(left)} blocks are missing after the run (first: {left[0]}); run again, --if-exists resume"
        )
    return rows
