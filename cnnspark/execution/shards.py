"""VCF shards: one per block, written under a temporary name and committed by its manifest row, which is written last.

Layout of a run's folder (see also :mod:`cnnspark.execution.run_folder`)::

    run.json                     what the run is: inputs, configuration, blocks (written first)
    shards/block-000000.vcf.gz   header, then the block's records, BGZF, with its .tbi (or all of them .csi)
    manifest/block-000000.json   the block's row: counts, keys, digest, bytes; its presence means "finished"
    guard.json                   of a scoring run: how far its inputs are from what the model was trained on
    merged.vcf.gz, .tbi          unless --no-merge; merged.bcf, .csi with --output-type b
    blocks.tsv                   how long each block took (:mod:`cnnspark.common.stopwatch`)
    manifest.json, _SUCCESS      when all counts agree
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pysam

from cnnspark.common.log import progress
from cnnspark.common.stopwatch import measured, report
from cnnspark.common.storage import commit, explained, is_url, location, make_parents, private_file, sizes
from cnnspark.errors import InputError, RunError
from cnnspark.execution.blocks import Block, block_range, deal
from cnnspark.execution.prefetch import in_turn
from cnnspark.execution.progress import Tally, following
from cnnspark.execution.records_digest import RecordsDigest
from cnnspark.execution.run_folder import SUCCESS, RunFolder
from cnnspark.execution.tasks import Session, run_tasks, slices, slots
from cnnspark.formats import bcf
from cnnspark.formats.bgzf import BgzfWriter, write_failure
from cnnspark.formats.regions import END_OF_CONTIG, TBI_MAX_BASES
from cnnspark.formats.vcf import ENCODING, VcfHeader

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

_READ_BYTES = 1 << 20
SHARDS, MERGED, MERGED_BCF, GUARD = "shards", "merged.vcf.gz", "merged.bcf", "guard.json"


def shard_folder(out: str, stage: str = "score") -> RunFolder:
    """The run folder, at the path or URL ``out``, of a stage that writes shards."""
    indexes = (f"{MERGED}.tbi", f"{MERGED}.csi", f"{MERGED_BCF}.csi")
    return RunFolder(out, stage, (SHARDS, MERGED, MERGED_BCF, *indexes, GUARD))


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
    crc32: int  # of the file's bytes
    header_bytes: int  # compressed; the records' BGZF blocks begin here
    header_digest: str
    seconds: float
    index: str = ""  # file, as ``file``
    index_bytes: int = -1
    index_crc32: int = -1  # of the index's bytes
    counts: dict[str, int] = field(default_factory=dict)
    input_counts: Sequence[str] = ()  # of scored blocks: how annotations and site features are distributed
    runtime: Mapping[str, Any] = field(default_factory=dict)  # where the time went (cnnspark.common.stopwatch)
    predicted_seconds: float = 0.0  # of one core of the machine that cnnspark.stages.costs was fitted on
    more_contigs: Sequence[str] = ()  # whole ones, of which the shard has the records as well


class BlockOutput(NamedTuple):
    """What is written of a block, and what its row says."""

    lines: Iterable[str]  # the records, in order, without line ends
    counts: Counter  # complete once all lines are drawn
    input_counts: Sequence[str] = ()  # distribution of the inputs (cnnspark.models.input_drift.pack_counts)


BlockLines = Callable[[Block], BlockOutput]
# The merged callset's name by bcftools' letter for its type.
_MERGED_OF_TYPE = {"z": MERGED, "b": MERGED_BCF}


def merged_file(folder: RunFolder, output_type: str) -> Location:
    """The path of a run's merged callset; ``output_type`` is bcftools' letter, ``z`` (VCF) or ``b`` (BCF)."""
    return folder.out / _MERGED_OF_TYPE[output_type]


def remove_merged_of_other_type(folder: RunFolder, output_type: str) -> None:
    """Removes the merged callset of the other type, with its index, that an earlier call left: a run has only one."""
    for letter, name in _MERGED_OF_TYPE.items():
        for suffix in ("", ".tbi", ".csi"):
            if letter != output_type:
                (folder.out / f"{name}{suffix}").unlink(missing_ok=True)


def needs_csi(header: VcfHeader, blocks: Iterable[Block]) -> bool:
    """Whether a run's indexes are CSI, which they all are if one of its contigs is too long for TBI."""
    for block in blocks:
        for region in block.regions:
            end = 0 if region.end >= END_OF_CONTIG else region.end
            if max(header.contig_lengths.get(region.contig) or 0, block.last_start + 1, end) > TBI_MAX_BASES:
                return True
    return False


@measured("write")
def write_shard(folder: RunFolder, block: Block, header: str, work: BlockLines, csi: bool = False) -> ShardRow:
    """Writes one block's shard with its index and commits it.

    Args:
        folder: the run's folder; ``shards`` exists in it.
        block: the block.
        header: the shard's header, with its line ends.
        work: gives the block's records.
        csi: whether the index is CSI instead of TBI.

    Returns:
        The row that is now in the manifest.

    Raises:
        RunError: if records were lost, doubled or changed, or cannot be indexed, or another run owns the folder.
        OSError: if the files cannot be written.
    """
    folder.require_owner()
    started = time.monotonic()
    name = f"{block.name}.vcf.gz"
    suffix = ".csi" if csi else ".tbi"
    target, index_target = folder.out / SHARDS / name, folder.out / SHARDS / f"{name}{suffix}"
    digest, first, last = RecordsDigest(), "", ""
    # Two attempts of one task (speculation, a lost executor that is still running) must not write into one file.
    with private_file(target) as temporary, private_file(index_target) as index:
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
        folder.require_owner()  # a run that took over has removed this file, or will replace it
        if block.records >= 0 and (digest.records != block.records or digest.hex() != block.digest):
            raise RunError(
                f"block {block.region} has {block.records} records and {digest.records} would have been written, "
                "or other records; was the callset changed during the run? Start again with --if-exists overwrite"
            )
        _make_index(temporary, index, block, csi)
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
            crc32=_crc32(temporary),
            header_bytes=header_bytes,
            index=f"{SHARDS}/{name}{suffix}",
            index_bytes=index.stat().st_size,
            index_crc32=_crc32(index),
            header_digest=hashlib.sha256(header.encode(ENCODING)).hexdigest(),
            seconds=round(time.monotonic() - started, 3),
            counts=dict(sorted(output.counts.items())),
            input_counts=list(output.input_counts),
            runtime=report(),
            predicted_seconds=block.cost,
            more_contigs=[region.contig for region in block.more],
        )
        commit(temporary, target)
        commit(index, index_target)
    folder.commit(block, asdict(row))
    return row


def _make_index(shard: Path, index: Path, block: Block, csi: bool) -> None:
    try:
        pysam.tabix_index(str(shard), preset="vcf", force=True, csi=csi, index=str(index))
    except OSError as failure:
        cause = write_failure(index, failure)
        if cause.errno is not None:
            raise cause from None
        raise RunError(
            f"the records of block {block.region} cannot be indexed: they are not sorted by position, or one ends "
            "beyond base 2^29 of a contig whose length the header does not say; mend that and run again with "
            "--if-exists resume"
        ) from None


def _crc32(path: Location) -> int:
    """The CRC-32 of a file's bytes."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


def finished_rows(folder: RunFolder, block: Block | None = None) -> list[ShardRow]:
    """Reads the rows of the blocks whose shard and index exist with the sizes that the row says.

    Args:
        folder: the run's folder.
        block: a single block to look for; without it all blocks.

    Returns:
        The rows, in the order of the blocks.
    """
    rows = [row for values in folder.rows(block) if (row := _shard_row(values)) is not None]
    there = sizes(folder.out, [name for row in rows for name in (row.file, row.index)])
    return [row for row in rows if (there.get(row.file), there.get(row.index)) == (row.bytes, row.index_bytes)]


def _shard_row(values: Mapping[str, Any]) -> ShardRow | None:
    """The row of these values; None if another version wrote it, with other values."""
    try:
        return ShardRow(**values)
    except TypeError:
        return None


def _is_written(folder: RunFolder, block: Block) -> bool:
    """Whether a block has a row and a shard of the bytes that it says."""
    return any(_is_intact(folder, row) for row in finished_rows(folder, block))


def _is_intact(folder: RunFolder, row: ShardRow) -> bool:
    """Whether a shard and its index have the bytes that were written. Raises OSError if one cannot be read."""
    return all(_crc32(folder.out / name) == crc for name, crc in ((row.file, row.crc32), (row.index, row.index_crc32)))


def intact_rows(session: Session, folder: RunFolder) -> list[ShardRow]:
    """The rows of the blocks whose shards have the bytes that were written: tasks read them all.

    Args:
        session: where the tasks run.
        folder: the run's folder.
    """
    rows = finished_rows(folder)

    def intact(part: Iterable[ShardRow]) -> Iterator[int]:
        for row in part:
            try:
                if _is_intact(folder, row):
                    yield row.block
            except OSError:  # cannot be read, so that it is written anew
                continue

    # Of the rows as much as the tasks look at.
    light = [dataclasses.replace(row, input_counts=(), runtime={}, counts={}) for row in rows]
    found = (
        set(run_tasks(session, slices(light, 2 * slots(session)), intact, "check finished shards")) if rows else set()
    )
    damaged = [row for row in rows if row.block not in found]
    if damaged:
        progress(f"{len(damaged)} finished blocks are damaged and are done again, first {damaged[0].file}")
    return [row for row in rows if row.block in found]


def write_shards(
    session: Session,
    folder: RunFolder,
    blocks: Sequence[Block],
    header: VcfHeader,
    make_work: Callable[[], BlockLines],
) -> list[ShardRow]:
    """Writes the shards of the blocks that are not finished, in tasks.

    Args:
        session: where the tasks run.
        folder: the run's folder, opened.
        blocks: all blocks of the run.
        header: the shards' header.
        make_work: opens files and models; sent to the tasks and called once in each of them.

    Returns:
        The row of every block, in their order.

    Raises:
        RunError: if a block is missing afterwards, and as :func:`write_shard` does.
    """
    make_parents(folder.out / SHARDS / MERGED)
    finished = {row.block for row in intact_rows(session, folder)}
    missing = [block for block in blocks if block.index not in finished]
    text, csi = header.text(), needs_csi(header, blocks)

    def write(part: Iterable[Block]) -> Iterator[int]:
        work = make_work()
        # An earlier attempt of this task may have finished some of them; what was damaged before is done again.
        left = (block for block in part if not _is_written(folder, block))
        with closing(in_turn(left, work)) as turns:
            for block, work_of_block in turns:
                write_shard(folder, block, text, work_of_block, csi)
                yield block.index

    if missing:
        with following(Tally(folder, blocks, missing)):
            run_tasks(session, deal(session, missing), write, block_range(missing, len(blocks)))
    rows = finished_rows(folder)
    left = sorted({block.index for block in blocks} - {row.block for row in rows})
    if left:
        raise RunError(
            f"{len(left)} blocks are missing after the run (first: {left[0]}); run again, --if-exists resume"
        )
    return rows


def merged_callset(path: str) -> str:
    """The merged VCF or BCF of a scoring run's folder; any other path as it is.

    Raises:
        InputError: if the run is not finished, or has no merged file.
    """
    if is_url(path) and path.endswith((".gz", bcf.SUFFIX)):
        return path  # the URL of a file: no need to look
    folder = location(path)
    with explained(path):
        if not folder.is_dir():
            return path
    merged = next((file for name in (MERGED, MERGED_BCF) if (file := folder / name).exists()), None)
    if merged is None:
        if not (folder / SUCCESS).exists():
            raise InputError(f"{path} is not finished, or was stopped by --strict; score it with --if-exists resume")
        raise InputError(f"{path} has no {MERGED}; score it without --no-merge, or give one of its shards")
    return str(merged)
