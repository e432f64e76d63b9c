"""One indexed VCF (or BCF) from shards, by copying their compressed blocks and merging their indexes.

Nothing is merged unless every count, header and order agrees. There is no Spark here, so a task may merge as well.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pysam

from cnnspark.common.storage import commit, is_remote, private_file, read_ahead
from cnnspark.errors import RunError
from cnnspark.execution.blocks import Block
from cnnspark.execution.records_digest import add_digests
from cnnspark.execution.shards import ShardRow
from cnnspark.formats.bcf import SUFFIX as BCF_SUFFIX
from cnnspark.formats.bcf import write_bcf
from cnnspark.formats.bgzf import BgzfWriter, write_failure
from cnnspark.formats.binning_index import indexed_records
from cnnspark.formats.vcf import ENCODING

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

# The empty BGZF block that ends a file (SAM specification 4.1.2).
BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_COPY_BYTES = 1 << 20
_AGAIN = "start again with --if-exists overwrite"
_RESUME = "run again with --if-exists resume, which writes it anew"


@dataclass(frozen=True)
class Conservation:
    """The proof that a run prints: every record that came in went out."""

    records_in: int
    records_out: int
    blocks: int
    digest_in: str
    digest_out: str

    @property
    def holds(self) -> bool:
        """Whether counts and digests agree."""
        return self.records_in == self.records_out and self.digest_in == self.digest_out

    def __str__(self) -> str:
        return (
            f"{self.records_in} records in, {self.records_out} records out, {self.blocks} blocks, "
            f"digest {self.digest_out[:16]} {'equal' if self.holds else 'DIFFERENT'}"
        )


def check_conservation(blocks: Sequence[Block], rows: Sequence[ShardRow]) -> Conservation:
    """Compares the counts and digests of the callset's blocks with those of the shards.

    Args:
        blocks: the run's blocks.
        rows: the manifest's rows, in the order of the blocks.

    Returns:
        The sums of both, which are equal.

    Raises:
        RunError: if a row is missing, the shards have different headers, or counts or digests differ.
    """
    if [row.block for row in rows] != [block.index for block in blocks]:
        raise RunError("the manifest's blocks are not the run's blocks; start again with --if-exists overwrite")
    if len({row.header_digest for row in rows}) > 1:
        raise RunError("the shards have different headers; start again with --if-exists overwrite")
    proof = Conservation(
        records_in=sum(block.records for block in blocks),
        records_out=sum(row.records_out for row in rows),
        blocks=len(blocks),
        digest_in=add_digests(block.digest for block in blocks),
        digest_out=add_digests(row.digest for row in rows),
    )
    if not proof.holds:
        raise RunError(f"records were lost or changed ({proof}); start again with --if-exists overwrite")
    return proof


def check_order(rows: Sequence[ShardRow]) -> None:
    """Checks that the records are sorted from one shard to the next; within a shard the indexer has checked it.

    Args:
        rows: the manifest's rows, in the order in which the shards are merged.

    Raises:
        RunError: if a shard begins before the one before it ends, or a contig comes back.
    """
    done: set[str] = set()
    contig, last = "", -1
    for row in rows:
        if not row.records_out:
            continue
        (first_contig, first), (last_contig, end) = _position(row.first), _position(row.last)
        if first_contig != contig:
            done.add(contig)
            contig, last = first_contig, -1
        whole = (contig, *row.more_contigs)
        ends_well = end >= first if last_contig == contig else last_contig == whole[-1]
        if done.intersection(whole) or first < last or not ends_well:
            raise RunError(f"{row.file} ({row.first} to {row.last}) is out of order; {_AGAIN}")
        done.update(whole[:-1])
        contig, last = whole[-1], end


def _position(key: str) -> tuple[str, int]:
    contig, _, position = key.rpartition(":")
    return contig, int(position)


def merge_shards(
    folder: Location,
    rows: Sequence[ShardRow],
    header: str,
    target: Location,
    require_owner: Callable[[], None] = lambda: None,
) -> None:
    """Writes one file and its index from the shards; it appears under its name only when it is whole and indexed.

    A ``.vcf.gz`` is made without decompressing a record: the header comes once, then the BGZF blocks behind each
    shard's own header. The bytes of each shard are compared with its row's checksum meanwhile; the index is made from
    the file's own bytes, and its number of records compared. A ``.bcf`` is converted from that.

    Args:
        folder: the run's folder, which holds the shards.
        rows: the manifest's rows, in the order of the blocks.
        header: the shards' header, with its line ends.
        target: the file to write, ``.vcf.gz`` or ``.bcf``; replaced if it exists.
        require_owner: raises if another run has taken over the folder; called before the file gets its name.

    Raises:
        RunError: if a shard is not what its row says, or the shards are out of order.
    """
    check_order(rows)
    text = header.encode(ENCODING)
    if any(row.header_digest != hashlib.sha256(text).hexdigest() for row in rows):
        raise RunError(f"a shard has another header than the run; {_AGAIN}")
    # In the folder, which may be a temporary one, not beside the target; the name begins as a run's temporary files do.
    with private_file(folder / target.name) as temporary:
        merged = temporary.with_name(f"{temporary.name}.vcf.gz")
        made, suffix = merged, ".tbi"
        try:
            _write_merged(folder, rows, text, merged)
            if target.suffix == BCF_SUFFIX:
                made, suffix = temporary, ".csi"
                write_bcf(merged, made, sum(row.records_out for row in rows))
            else:
                suffix = ".csi" if any(row.index.endswith(".csi") for row in rows) else ".tbi"
                _index(merged, suffix, sum(row.records_out for row in rows))
            require_owner()
            _commit(made, target, suffix)
        finally:
            for leftover in (merged, made, Path(f"{made}.tbi"), Path(f"{made}.csi")):
                leftover.unlink(missing_ok=True)


def _index(merged: Path, suffix: str, expected: int) -> None:
    """Indexes the merged VCF by its own bytes; raises RunError if it has not the expected number of records."""
    index = f"{merged}{suffix}"
    try:
        pysam.tabix_index(str(merged), preset="vcf", force=True, csi=suffix == ".csi", index=index)
    except OSError as failure:
        raise write_failure(index, failure) from None
    indexed = indexed_records(index)
    if indexed != expected:
        raise RunError(f"the merged file has {indexed} records and the shards {expected}; {_AGAIN}")


def _write_merged(folder: Location, rows: Sequence[ShardRow], header: bytes, merged_path: Path) -> None:
    """Writes the merged VCF."""
    with BgzfWriter(merged_path) as start:
        start.write(header)
    parts = read_ahead([folder / row.file for row in rows], [row.bytes for row in rows])
    with open(merged_path, "r+b") as merged, closing(parts):
        merged.seek(-len(BGZF_EOF), os.SEEK_END)
        merged.truncate()
        for row in rows:
            with _opened(parts, folder / row.file) as shard:
                _append_records(shard, folder / row.file, row, merged)
        merged.write(BGZF_EOF)


def _opened(parts: Iterator[BinaryIO], path: Location) -> BinaryIO:
    try:
        return next(parts)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error}); {_RESUME}") from None


def _append_records(shard: BinaryIO, path: Location, row: ShardRow, merged: BinaryIO) -> None:
    damaged = RunError(f"{path} is not as the manifest says; {_RESUME}")
    remaining = row.bytes - len(BGZF_EOF) - row.header_bytes
    if shard.seek(0, os.SEEK_END) != row.bytes or remaining < 0:
        raise damaged
    shard.seek(0)
    crc = zlib.crc32(shard.read(row.header_bytes))
    while remaining:
        chunk = shard.read(min(remaining, _COPY_BYTES))
        if not chunk:
            raise damaged
        merged.write(chunk)
        crc = zlib.crc32(chunk, crc)
        remaining -= len(chunk)
    end = shard.read()
    if end != BGZF_EOF or zlib.crc32(end, crc) != row.crc32:
        raise damaged


def _commit(made: Path, target: Location, suffix: str) -> None:
    """Gives the file and its index their names; nobody sees an old index beside a new file, or the reverse."""
    target.unlink(missing_ok=True)
    for old in (".tbi", ".csi"):
        target.with_name(f"{target.name}{old}").unlink(missing_ok=True)
    index = target.with_name(f"{target.name}{suffix}")
    commit(Path(f"{made}{suffix}"), index)
    commit(made, target)
    if not is_remote(index):
        # An index that looks older than its file makes every htslib tool warn.
        os.utime(str(index))


def total_counts(rows: Sequence[ShardRow]) -> dict[str, int]:
    """Adds up the blocks' counts, by name."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.counts)
    return dict(sorted(total.items()))
