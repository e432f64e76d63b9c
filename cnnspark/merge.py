"""One indexed VCF from shards, by copying their compressed blocks; refuses unless every count agrees."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import pysam

from cnnspark.blocks import Block, add_digests
from cnnspark.errors import RunError
from cnnspark.files import commit, is_remote, private_file
from cnnspark.shards import ShardRow

if TYPE_CHECKING:
    from cnnspark.files import Location

# The empty BGZF block that ends a file (SAM specification 4.1.2).
BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
# A TBI index holds positions below 2**29; longer contigs need CSI (tabix specification).
TBI_MAX_BASES = 2**29


@dataclass(frozen=True)
class Conservation:
    """The proof that a run prints: what came in went out."""

    records_in: int
    records_out: int
    blocks: int
    digest_in: str
    digest_out: str

    @property
    def holds(self) -> bool:
        return self.records_in == self.records_out and self.digest_in == self.digest_out

    def __str__(self) -> str:
        return (
            f"{self.records_in} records in, {self.records_out} records out, {self.blocks} blocks, "
            f"key digest {self.digest_out[:16]} {'equal' if self.holds else 'DIFFERENT'}"
        )


def check_conservation(blocks: Sequence[Block], rows: Sequence[ShardRow]) -> Conservation:
    """Adds up counts and digests of the callset's blocks and of the shards. Raises RunError where they differ."""
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


def merge_shards(folder: Location, rows: Sequence[ShardRow], header: str, target: Location) -> None:
    """Writes ``target`` (``.vcf.gz``) and its index from the shards of ``folder``, in the order of the blocks.

    Records are never decompressed: the header comes once, then each shard's BGZF blocks behind its own header.
    ``target`` appears only when it is whole and indexed. Raises RunError where a shard is not what its row says.
    """
    with private_file(target) as temporary, private_file(target.with_name(f"{target.name}.index")) as index:
        with pysam.BGZFile(str(temporary), "wb", None) as start:
            start.write(header.encode("latin-1"))
        with open(temporary, "r+b") as merged:
            merged.seek(-len(BGZF_EOF), os.SEEK_END)
            merged.truncate()
            for row in rows:
                _append_records(folder / row.file, row, merged)
            merged.write(BGZF_EOF)
        longest = max((int(row.last.rsplit(":", 1)[1]) for row in rows if row.last), default=0)
        use_csi = longest >= TBI_MAX_BASES
        pysam.tabix_index(str(temporary), preset="vcf", force=True, csi=use_csi, index=str(index))
        place = target.with_name(f"{target.name}{'.csi' if use_csi else '.tbi'}")
        commit(index, place)
        commit(temporary, target)
        if not is_remote(place):
            # An index that looks older than its file makes every htslib tool warn.
            os.utime(str(place))


def _append_records(shard: Location, row: ShardRow, merged: BinaryIO) -> None:
    with shard.open("rb") as part:
        size = part.seek(0, os.SEEK_END)
        part.seek(size - len(BGZF_EOF))
        if size != row.bytes or part.read() != BGZF_EOF:
            raise RunError(f"{shard} is not as the manifest says; delete it and run again with --if-exists resume")
        part.seek(row.header_bytes)
        remaining = size - len(BGZF_EOF) - row.header_bytes
        while remaining:
            chunk = part.read(min(remaining, 1 << 20))
            merged.write(chunk)
            remaining -= len(chunk)


def total_counts(rows: Sequence[ShardRow]) -> dict[str, int]:
    """The blocks' counts added up."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.counts)
    return dict(sorted(total.items()))
