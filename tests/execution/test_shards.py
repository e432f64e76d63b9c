"""Shards, manifest rows, merge and resume: nothing is lost, half written or done twice."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pysam
import pytest

from cnnspark.errors import InputError, RunError, UsageError
from cnnspark.execution.blocks import Block, BlockSettings, cut_window, number_blocks
from cnnspark.execution.merge import check_conservation, check_order, merge_shards
from cnnspark.execution.shards import (
    MERGED,
    MERGED_BCF,
    BlockOutput,
    ShardRow,
    finished_rows,
    merged_file,
    remove_merged_of_other_type,
    shard_folder,
    write_shard,
)
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfSource
from tests.conftest import ROOT, read_lines, write_vcf

RECORDS = [f"c1 {pos} . A {alt} . . ." for pos in (1, 5, 5, 8, 9, 20, 31, 31, 40) for alt in "CT"]
RECORDS += [f"c2 {pos} id{pos} AC G . . ." for pos in range(3, 60, 7)]


def blocks_of(source: VcfSource, records: int) -> list[Block]:
    windows = [Region(contig) for contig in source.contigs]
    return number_blocks((w, cut_window(source.lines(w), w, BlockSettings(records))) for w in windows)


def run(source: VcfSource, out: Path, records: int, if_exists: str = "fail", fail_at: int = -1) -> list[int]:
    """A whole run without Spark; returns the blocks that were worked on."""
    folder, blocks, done = shard_folder(str(out)), blocks_of(source, records), []
    folder.open({"stage": "test"}, blocks, if_exists)
    (out / "shards").mkdir(exist_ok=True)

    def work(block: Block) -> BlockOutput:
        done.append(block.index)
        if block.index == fail_at:
            raise RuntimeError("killed")
        return BlockOutput(source.lines(block.region), Counter({"seen": block.records}))

    finished = {row.block for row in finished_rows(folder)}
    for block in blocks:
        if block.index not in finished:
            write_shard(folder, block, source.header.text(), work)
    rows = finished_rows(folder)
    proof = check_conservation(blocks, rows)
    merge_shards(out, rows, source.header.text(), out / MERGED)
    folder.succeed({"statement": str(proof)})
    return done


@pytest.fixture
def source(tmp_path: Path) -> VcfSource:
    return VcfSource(write_vcf(tmp_path / "in.vcf.gz", RECORDS))


@pytest.mark.parametrize("records", [1, 2, 3, 5, 16, 1000])
def test_the_merged_file_has_the_callsets_records_however_they_are_cut(
    source: VcfSource, tmp_path: Path, records: int
) -> None:
    run(source, tmp_path / "out", records)
    assert read_lines(tmp_path / "out" / MERGED) == read_lines(source.path)
    with pysam.TabixFile(str(tmp_path / "out" / MERGED)) as indexed:
        assert len(list(indexed.fetch("c1", 30, 31))) == 4


def test_the_merged_file_is_one_bgzf_file_for_bcftools(source: VcfSource, tmp_path: Path) -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    run(source, tmp_path / "out", 3)
    for command in (["bcftools", "view", "-H"], ["bcftools", "index", "--nrecords"]):
        ours = subprocess.run([*command, str(tmp_path / "out" / MERGED)], capture_output=True, text=True, check=True)
        theirs = subprocess.run([*command, source.path], capture_output=True, text=True, check=True)
        assert ours.stdout == theirs.stdout
        assert ours.stderr == ""


def test_a_shard_is_a_vcf_of_its_own(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    shards = sorted((tmp_path / "out" / "shards").glob("*.vcf.gz"))
    assert len(shards) == 5
    for shard in shards:
        with pysam.VariantFile(str(shard)) as vcf:
            records = list(vcf)
            assert records
            assert [str(r) for r in vcf.fetch(records[0].contig)] == [str(r) for r in records]


def test_other_tools_can_go_on_from_the_rows(source: VcfSource, tmp_path: Path) -> None:
    """bcftools puts the shards together in the rows' order, as docs/formats.md says."""
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    run(source, tmp_path / "out", 5)
    rows = finished_rows(shard_folder(str(tmp_path / "out")))
    joined = tmp_path / "joined.vcf.gz"
    command = ["bcftools", "concat", "--naive", "-o", str(joined), *(row.file for row in rows)]
    subprocess.run(command, cwd=tmp_path / "out", check=True, capture_output=True)
    assert read_lines(joined) == read_lines(source.path)


def test_the_documents_say_what_a_row_has() -> None:
    text = (ROOT / "docs" / "formats.md").read_text()
    assert not [field.name for field in dataclasses.fields(ShardRow) if f"`{field.name}`" not in text]


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "whole", 5)
    with pytest.raises(RuntimeError, match="killed"):
        run(source, tmp_path / "killed", 5, fail_at=3)
    assert not (tmp_path / "killed" / "_SUCCESS").exists()
    (tmp_path / "killed" / "shards" / ".block-000003.vcf.gz.9-9").write_bytes(b"left by a killed attempt")
    assert run(source, tmp_path / "killed", 5, "resume") == [3, 4]
    assert (tmp_path / "killed" / MERGED).read_bytes() == (tmp_path / "whole" / MERGED).read_bytes()
    assert not list((tmp_path / "killed").rglob("*.9-9"))


def test_a_finished_run_has_nothing_left_to_do(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    assert run(source, tmp_path / "out", 5, "resume") == []


def test_a_shard_that_was_cut_short_is_written_again(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    shard = tmp_path / "out" / "shards" / "block-000001.vcf.gz"
    os.truncate(shard, 40)
    assert run(source, tmp_path / "out", 5, "resume") == [1]


def test_a_damaged_row_is_written_again_and_a_damaged_run_is_one_sentence(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    row, merged = tmp_path / "out" / "manifest" / "block-000001.json", (tmp_path / "out" / MERGED).read_bytes()
    whole = row.read_text()
    other = whole.replace('"records_out": 6', '"records_out": 7')
    for damaged in (whole[:40], "[]", "{}", "null", other, "\x00" * 9):
        assert damaged != whole
        row.write_text(damaged)
        assert run(source, tmp_path / "out", 5, "resume") == [1] and (tmp_path / "out" / MERGED).read_bytes() == merged
    about = tmp_path / "out" / "run.json"
    for damaged in (
        about.read_text()[:30],
        "[]",
        "{}",
        '{"stage": 3}',
        '{"stage": "score", "identity": [], "blocks": []}',
    ):
        about.write_text(damaged)
        with pytest.raises(InputError, match="run.json is damaged.*make it again"):
            run(source, tmp_path / "out", 5, "resume")


def test_an_existing_run_is_not_touched_unless_asked(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    with pytest.raises(UsageError, match="--if-exists"):
        run(source, tmp_path / "out", 5)
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert len(run(source, tmp_path / "out", 5, "overwrite")) == 5


def test_a_run_is_not_resumed_as_another(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    with pytest.raises(UsageError, match="other inputs or settings"):
        run(source, tmp_path / "out", 4, "resume")


def test_somebody_elses_folder_is_left_alone(source: VcfSource, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for mode in ("fail", "resume", "overwrite"):
        with pytest.raises(UsageError, match="not of a cnnspark run"):
            run(source, tmp_path / "out", 5, mode)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("change", ["lose", "double", "alter"])
def test_a_shard_with_other_records_is_refused(source: VcfSource, tmp_path: Path, change: str) -> None:
    folder, blocks = shard_folder(str(tmp_path / "out")), blocks_of(source, 5)
    folder.open({}, blocks, "fail")
    (tmp_path / "out" / "shards").mkdir()

    def work(block: Block) -> BlockOutput:
        lines = list(source.lines(block.region))
        changed = {
            "lose": lines[1:],
            "double": [*lines, lines[-1]],
            "alter": [lines[0].replace("\tA\t", "\tG\t"), *lines[1:]],
        }
        return BlockOutput(changed[change], Counter())

    with pytest.raises(RunError):
        write_shard(folder, blocks[0], source.header.text(), work)
    assert finished_rows(folder) == []
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_merging_refuses_a_missing_block(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    rows = finished_rows(shard_folder(str(tmp_path / "out")))
    with pytest.raises(RunError, match="blocks"):
        check_conservation(blocks_of(source, 5), rows[1:])


def test_merging_refuses_a_shard_that_is_not_as_its_row_says(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    rows = finished_rows(shard_folder(str(tmp_path / "out")))
    shard = tmp_path / "out" / rows[2].file
    shard.write_bytes(shard.read_bytes()[:-10] + b"0123456789")
    (tmp_path / "out" / MERGED).unlink()
    with pytest.raises(RunError, match="manifest"):
        merge_shards(tmp_path / "out", rows, source.header.text(), tmp_path / "out" / MERGED)
    assert not (tmp_path / "out" / MERGED).exists()


@pytest.mark.parametrize("swapped", [(0, 1), (2, 4), (0, 4)])
def test_merging_refuses_shards_out_of_order(source: VcfSource, tmp_path: Path, swapped: tuple[int, int]) -> None:
    run(source, tmp_path / "out", 5)
    rows = finished_rows(shard_folder(str(tmp_path / "out")))
    a, b = swapped
    rows[a], rows[b] = rows[b], rows[a]
    with pytest.raises(RunError, match="out of order"):
        merge_shards(tmp_path / "out", rows, source.header.text(), tmp_path / "new.vcf.gz")
    assert not (tmp_path / "new.vcf.gz").exists()


def test_a_contig_that_comes_back_is_out_of_order(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    rows = finished_rows(shard_folder(str(tmp_path / "out")))
    with pytest.raises(RunError, match="out of order"):
        check_order([*rows, dataclasses.replace(rows[-1], first="c1:900", last="c1:901")])
    check_order([*rows, dataclasses.replace(rows[-1], first="c2:59", last="c2:59")])


def test_merging_refuses_another_header(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    rows = finished_rows(shard_folder(str(tmp_path / "out")))
    with pytest.raises(RunError, match="header"):
        merge_shards(tmp_path / "out", rows, f"##new\n{source.header.text()}", tmp_path / "new.vcf.gz")


def test_records_that_are_not_sorted_are_refused_where_they_are_written(source: VcfSource, tmp_path: Path) -> None:
    folder, blocks = shard_folder(str(tmp_path / "out")), blocks_of(source, 5)
    folder.open({}, blocks, "fail")
    (tmp_path / "out" / "shards").mkdir()
    lines = list(source.lines(blocks[0].region))[::-1]
    with pytest.raises(RunError, match="not sorted"):
        write_shard(
            folder, dataclasses.replace(blocks[0], records=-1), source.header.text(), lambda _: BlockOutput(lines, {})
        )
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_a_shard_whose_index_is_gone_is_written_again(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    (tmp_path / "out" / "shards" / "block-000001.vcf.gz.tbi").unlink()
    assert run(source, tmp_path / "out", 5, "resume") == [1]


def test_an_old_index_of_another_kind_is_not_left_beside_the_merged_file(source: VcfSource, tmp_path: Path) -> None:
    """htslib takes a .csi before a .tbi."""
    run(source, tmp_path / "out", 5)
    rows, target = finished_rows(shard_folder(str(tmp_path / "out"))), tmp_path / "out" / MERGED
    Path(f"{target}.csi").write_bytes(b"old")
    merge_shards(tmp_path / "out", rows, source.header.text(), target)
    assert sorted(path.name for path in tmp_path.glob("out/*merged*")) == [MERGED, f"{MERGED}.tbi"]


def test_a_merged_file_of_the_other_type_is_removed_and_asking_for_a_path_removes_nothing(tmp_path: Path) -> None:
    folder = shard_folder(str(tmp_path))
    for name in (MERGED, f"{MERGED}.tbi", MERGED_BCF, f"{MERGED_BCF}.csi"):
        (tmp_path / name).touch()
    assert (merged_file(folder, "z"), merged_file(folder, "b")) == (tmp_path / MERGED, tmp_path / MERGED_BCF)
    assert len(list(tmp_path.iterdir())) == 4
    remove_merged_of_other_type(folder, "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [MERGED_BCF, f"{MERGED_BCF}.csi"]


def test_a_run_of_another_stage_is_left_alone(source: VcfSource, tmp_path: Path) -> None:
    from cnnspark.tensors.dataset import dataset_folder

    run(source, tmp_path / "out", 5)
    for mode in ("resume", "overwrite"):
        with pytest.raises(UsageError, match="run of 'cnnspark score'"):
            dataset_folder(str(tmp_path / "out")).check(mode)


def test_leftovers_of_killed_merges_go_with_the_next_run(source: VcfSource, tmp_path: Path) -> None:
    run(source, tmp_path / "out", 5)
    leftovers = [tmp_path / "out" / name for name in (f".{MERGED}.123.vcf.gz", ".manifest.json.abc", ".run.json.x")]
    for mode in ("resume", "overwrite"):
        for path in leftovers:
            path.touch()
        run(source, tmp_path / "out", 5, mode)
        assert not any(path.exists() for path in leftovers)
