"""A merged index answers as tabix's own index of the merged file does. Oracle: pysam.tabix_index, bcftools index."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pysam
import pytest

from cnnspark.errors import RunError
from cnnspark.execution.blocks import Block, BlockSettings, cut_window, number_blocks
from cnnspark.execution.merge import merge_shards
from cnnspark.execution.shards import BlockOutput, ShardRow, needs_csi, shard_folder, write_shard
from cnnspark.formats.index_merging import IndexMerger, lowest_offsets, parse_index, pseudo_bin
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfHeader, VcfSource
from tests.conftest import read_lines, write_vcf


def header_of(lengths: dict[str, int]) -> list[str]:
    contigs = [f"##contig=<ID={name},length={length}>" for name, length in lengths.items()]
    end = '##INFO=<ID=END,Number=1,Type=Integer,Description="Last base">'
    pad = '##INFO=<ID=PAD,Number=1,Type=String,Description="Length">'
    return ["##fileformat=VCFv4.2", *contigs, end, pad]


def random_records(seed: int, lengths: dict[str, int], records: int, contigs: Sequence[str]) -> list[str]:
    """Sorted records: clustered SNVs, short and very long deletions, symbolic ones with END, some of one position.

    The filler makes a contig's records more than the 64 KiB below which an indexer moves all of them into one bin.
    """
    draw = random.Random(seed)
    lines = []
    for contig in contigs:
        length = lengths[contig]
        centres = [draw.randrange(1, length) for _ in range(8)]
        spread = max(length // 1000, 50)
        around = [draw.choice(centres) + draw.randrange(-spread, spread) for _ in range(records)]
        for pos in sorted(min(max(p, 1), length - 10) for p in around):
            kind, pad = draw.random(), f"PAD={draw.getrandbits(600):x}"
            if kind < 0.03:
                end = min(length, pos + int(10 ** draw.uniform(2, 8)))
                lines.append(f"{contig} {pos} . N <DEL> . . END={end};{pad}")
            elif kind < 0.1:
                lines.append(f"{contig} {pos} . {'A' * draw.randrange(2, 300)} A . . {pad}")
            else:
                lines.append(f"{contig} {pos} . A C . . {pad}")
    return lines


class Merged:
    """Records in shards of ``size`` records, merged, and the same file with tabix's own index beside it."""

    def __init__(self, folder: Path, lines: list[str], lengths: dict[str, int], size: int, empty: bool = False):
        folder.mkdir()
        source = write_vcf(folder / "in.vcf.gz", lines, header_of(lengths), index=False)
        self.csi = max(lengths.values()) > 2**29
        pysam.tabix_index(source, preset="vcf", csi=self.csi)
        with VcfSource(source) as vcf:
            windows = [Region(contig) for contig in vcf.contigs]
            blocks = number_blocks((w, cut_window(vcf.lines(w), w, BlockSettings(size, 2**31))) for w in windows)
            assert needs_csi(vcf.header, blocks) == self.csi
            self.text, out = vcf.header.text(), shard_folder(str(folder / "out"))
            out.open({}, blocks, "fail")
            (out.out / "shards").mkdir()
            self.rows: list[ShardRow] = []
            for block in blocks:
                self.rows.append(self.shard(out, Block(2 * block.index, block.region), list(vcf.lines(block.region))))
                if empty:
                    self.rows.append(self.shard(out, Block(2 * block.index + 1, block.region), []))
        self.folder, self.target, self.size = out.out, folder / "merged.vcf.gz", size
        merge_shards(self.folder, self.rows, self.text, self.target)
        self.theirs = folder / "theirs.vcf.gz"
        shutil.copy(self.target, self.theirs)
        pysam.tabix_index(str(self.theirs), preset="vcf", csi=self.csi)

    def shard(self, out, block: Block, lines: list[str]) -> ShardRow:
        return write_shard(out, block, self.text, lambda _: BlockOutput(lines, {}), self.csi)


LENGTHS = {"c1": 250_000_000, "c2": 60_000, "c3": 5_000_000, "never": 1000, "c4": 130_000_000}
LONG = {"a": 2_000_000_000, "b": 700_000_000, "c": 40_000}


@pytest.fixture(scope="module", params=[(LENGTHS, 11), (LENGTHS, 150), (LONG, 40)], ids=str)
def merged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Merged]:
    lengths, size = request.param
    contigs = [name for name in lengths if name != "never"]
    lines = random_records(size, lengths, 300, contigs)
    return Merged(tmp_path_factory.mktemp("merged") / "run", lines, lengths, size, empty=size == 40)


def answers(path: Path, regions: list[Region]) -> list[list[str]]:
    with opened(path) as indexed:
        return [list(indexed.fetch(r.contig, r.start, r.end)) for r in regions]


def opened(path: Path) -> pysam.TabixFile:
    """The merged VCF; pysam by itself looks for a .tbi only."""
    return pysam.TabixFile(str(path), index=str(next(path.parent.glob(f"{path.name}.[tc][bs]i"))))


def test_any_region_gives_what_tabix_gives(merged: Merged) -> None:
    draw = random.Random(1)
    with opened(merged.theirs) as indexed:
        lines = [line.split("\t")[:2] for contig in indexed.contigs for line in indexed.fetch(contig)]
    regions = [Region(contig) for contig in dict(lines)]
    for _ in range(400):
        contig, pos = draw.choice(lines)
        start = max(0, int(pos) + int(draw.choice((-1, 1)) * 10 ** draw.uniform(0, 8)))
        regions.append(Region(contig, start, start + int(10 ** draw.uniform(0, 7))))
    ours, theirs = answers(merged.target, regions), answers(merged.theirs, regions)
    assert ours == theirs
    assert sum(bool(found) for found in ours) > 100
    assert Path(f"{merged.target}.csi").exists() == merged.csi != Path(f"{merged.target}.tbi").exists()


def test_long_deletions_are_found_by_queries_in_later_shards(merged: Merged) -> None:
    """A query far to the right of a long deletion must find it in the shard where it begins."""
    found = 0
    for line in read_lines(merged.target):
        columns = line.split("\t")
        if columns[4] != "<DEL>":
            continue
        end = int(columns[7].split(";")[0].removeprefix("END="))
        (lines,) = answers(merged.target, [Region(columns[0], end - 1, end)])
        assert line in lines
        found += len({line.split("\t")[1] for line in lines}) > 1
    assert found


def test_counts_are_those_of_bcftools_and_tabix(merged: Merged) -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    for option in ("--stats", "--nrecords"):
        ours, theirs = (
            subprocess.run(["bcftools", "index", option, str(path)], capture_output=True, text=True, check=True).stdout
            for path in (merged.target, merged.theirs)
        )
        assert ours == theirs
    assert subprocess.run(["bcftools", "view", "-H", str(merged.target)], capture_output=True, check=True).stderr == b""


def test_contigs_spans_counts_and_windows_are_those_of_tabix(merged: Merged) -> None:
    suffix = ".csi" if merged.csi else ".tbi"
    ours, theirs = (parse_index(Path(f"{p}{suffix}").read_bytes()) for p in (merged.target, merged.theirs))
    kinds = [(index.magic, index.min_shift, index.depth, index.columns) for index in (ours, theirs)]
    assert kinds[0] == kinds[1]
    for a, b in zip(ours.contigs, theirs.contigs, strict=True):
        assert (a.name, a.span, a.records) == (b.name, b.span, b.records)
        # Tabix fills windows without records from the left, where a record of an earlier shard stands for them.
        assert len(a.linear) == len(b.linear)
        assert (a.linear >= b.linear).all()


def test_only_shards_without_records_give_an_index_without_records(tmp_path: Path) -> None:
    merged = Merged(tmp_path / "run", ["c 5 . A C . . ."], {"c": 1000}, 5)
    out = shard_folder(str(tmp_path / "empty"))
    out.open({}, [], "fail")
    (out.out / "shards").mkdir()
    rows = [merged.shard(out, Block(i, Region("c")), []) for i in range(3)]
    merge_shards(out.out, rows, merged.text, tmp_path / "none.vcf.gz")
    with opened(tmp_path / "none.vcf.gz") as indexed:
        assert indexed.contigs == [] and list(indexed.header)[-1].startswith("#CHROM")


def test_a_damaged_index_or_one_of_another_shard_is_refused(tmp_path: Path) -> None:
    lines = [f"c {pos} . A C . . ." for pos in range(1, 40)]
    merged = Merged(tmp_path / "run", lines, {"c": 1000}, 9)
    index = merged.folder / merged.rows[1].index
    whole, other = index.read_bytes(), (merged.folder / merged.rows[-1].index).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"TBI\1", other):
        index.write_bytes(content)
        with pytest.raises(RunError, match="resume"):
            merge_shards(merged.folder, merged.rows, merged.text, merged.target)
    index.unlink()
    with pytest.raises(RunError, match="resume"):
        merge_shards(merged.folder, merged.rows, merged.text, merged.target)


def test_one_run_has_one_kind_of_index(tmp_path: Path) -> None:
    short = Merged(tmp_path / "short", ["c 5 . A C . . ."], {"c": 1000}, 5)
    long = Merged(tmp_path / "long", ["d 5 . A C . . ."], {"d": 2**29 + 1}, 5)
    merger = IndexMerger()
    merger.add(parse_index((short.folder / short.rows[0].index).read_bytes()), 0)
    with pytest.raises(ValueError, match="kind"):
        merger.add(parse_index((long.folder / long.rows[0].index).read_bytes()), 0)


def test_a_contig_comes_once(tmp_path: Path) -> None:
    lines = ["c 5 . A C . . .", "d 5 . A C . . ."]
    both = Merged(tmp_path / "both", lines, {"c": 1000, "d": 1000}, 5)
    indexes = [parse_index((both.folder / row.index).read_bytes()) for row in both.rows]
    merger = IndexMerger()
    merger.add(indexes[0], 0)
    merger.add(indexes[1], 1000)
    with pytest.raises(ValueError, match="c comes a second time"):
        merger.add(indexes[0], 2000)


def test_which_index_follows_from_the_header_the_blocks_or_the_last_position() -> None:
    def header(length: int | None) -> VcfHeader:
        stated = "" if length is None else f",length={length}"
        return VcfHeader([f"##contig=<ID=c{stated}>", "#CHROM\tPOS"])

    block = Block(0, Region("c"), first_start=5, last_start=9)
    assert not needs_csi(header(2**29), [block])
    assert needs_csi(header(2**29 + 1), [block])
    assert not needs_csi(header(None), [block])
    assert needs_csi(header(None), [block, Block(1, Region("c"), first_start=5, last_start=2**29)])
    assert needs_csi(header(None), [Block(0, Region("c", 2**29, 2**29 + 10))])
    assert not needs_csi(header(2**29 + 1), [Block(0, Region("other"))])


def test_the_pseudo_bin_has_htslibs_number() -> None:
    assert pseudo_bin(5) == 37450  # tabix specification


def test_the_lowest_offset_of_a_bin_covers_records_that_reach_into_it() -> None:
    # Depth 1: bin 0 covers all, bins 1-8 a leaf each. A deletion in bin 0 begins at 10.
    bins, chunks = np.array([0, 2, 5]), np.array([[10, 20], [30, 40], [50, 60]])
    assert lowest_offsets(bins, bins, chunks, 1).tolist() == [10, 10, 10]
    assert lowest_offsets(bins[1:], bins[1:], chunks[1:], 1).tolist() == [30, 50]
