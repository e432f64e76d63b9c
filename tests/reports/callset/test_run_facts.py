"""The facts of a run's folder, also of old and damaged ones, and the command that explains a call."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest

from cnnspark.errors import InputError
from cnnspark.execution.block_times import blocks_table
from cnnspark.execution.blocks import Block
from cnnspark.formats.regions import Region
from cnnspark.models.card import read_card
from cnnspark.reports.callset.run_facts import explain_command, is_scoring_run, read_run, run_of

INPUTS = {"vcf": "scored.vcf.gz", "reads": "my reads.bam", "reference": "ref.fa"}


def folder(path: Path, table: bool = True, **changes: object) -> Path:
    """A finished scoring run of two blocks, without its shards."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(json.dumps({"stage": "score", "identity": {}, "blocks": []}))
    conservation = {"records_in": 5, "records_out": 5, "blocks": 2, "digest_in": "ab" * 16, "digest_out": "ab" * 16}
    shards = [
        {"block": i, "contig": "chr1", "start": i * 100, "end": i * 100 + 100, "file": f"s{i}", "seconds": 1.5 + i,
         "counts": {}} for i in range(2)
    ]  # fmt: skip
    manifest = {
        "stage": "score", "config": {"inputs": {"reads": "r.bam"}, "model": "/nowhere", "seed": 1}, "model": "ab" * 32,
        "key": "CNN_2D", "guard": None, "counts": {"alleles scored": 5}, "conservation": conservation,
        "runtime": {"tasks": 1}, "shards": shards, "merged": None,
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest | changes))
    (path / "_SUCCESS").write_text("")
    if table:
        blocks = [Block(i, Region("chr1", i * 100, i * 100 + 100), records=3, cost=0.25) for i in range(2)]
        report = {"seconds": 2.5, "parts": {"read": 1.0}, "host": "h", "pid": 7, "task": "1.0.0"}
        (path / "blocks.tsv").write_text(blocks_table(blocks, {0: report}, "S1"))
    return path


def test_a_run_is_read(tmp_path: Path) -> None:
    out = folder(tmp_path / "run")
    assert is_scoring_run(out)
    run = read_run(str(out))
    assert str(run_of(str(out))) == str(run)
    assert run.statement == f"5 records in, 5 records out, 2 blocks, digest {'ab' * 8} equal"
    assert (run.key, run.model, run.inputs["reads"], run.runtime) == ("CNN_2D", "/nowhere", "r.bam", {"tasks": 1})
    first, second = run.blocks
    assert (first["sample"], first["contig"], first["start"], first["pid"]) == ("S1", "chr1", 0, "7")
    assert (first["seconds"], first["read_seconds"], first["predicted_seconds"]) == (2.5, 1.0, 0.25)
    # A block whose report is lost has no times.
    assert math.isnan(second["seconds"]) and second["pid"] == "" and second["start"] == 100
    assert run.card is None  # the model is gone


def test_a_run_without_a_table_of_its_blocks_has_their_seconds(tmp_path: Path) -> None:
    run = read_run(str(folder(tmp_path / "run", table=False)))
    assert [block["seconds"] for block in run.blocks] == [1.5, 2.5]
    assert all(math.isnan(block["predicted_seconds"]) for block in run.blocks)


def test_the_card_is_that_of_the_model_that_scored(tmp_path: Path) -> None:
    config = {"inputs": {}, "model": "bundled:features"}
    other = read_run(str(folder(tmp_path / "a", config=config)))
    assert other.card is None and other.model == "bundled:features"
    digest = read_card("bundled:features").sha256
    own = read_run(str(folder(tmp_path / "b", config=config, model=digest)))
    assert own.card is not None and own.card.model == "features"


@pytest.mark.parametrize("changes", [{"conservation": {"x": 1}}, {"shards": 3}, {"config": 5}, {"counts": "many"}])
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(InputError, match=r"manifest\.json is not a scoring run's .*score again"):
        read_run(str(folder(tmp_path / "run", **changes)))


def test_an_unfinished_run_is_not_read(tmp_path: Path) -> None:
    out = folder(tmp_path / "run")
    (out / "_SUCCESS").unlink()
    with pytest.raises(InputError, match="not a finished run"):
        read_run(str(out))
    assert not is_scoring_run(tmp_path)
    assert run_of(str(out)) is run_of(str(tmp_path)) is run_of("some.vcf.gz") is None


def test_the_command_is_quoted_and_names_the_alt_if_there_are_several() -> None:
    command = explain_command(INPUTS, "a model", "HLA-A*01:01", 12, "AC", 2)
    assert command is not None
    assert shlex.split(command) == [
        "cnnspark", "explain", "--vcf", "scored.vcf.gz", "--reads", "my reads.bam", "--reference", "ref.fa",
        "--model", "a model", "--at", "HLA-A*01:01:12", "--alt", "AC", "--out", "call.html",
    ]  # fmt: skip
    first = explain_command({"vcf": "x", "sample": "S1"}, "", "chr1", 12, "AC", 1)
    assert first is not None and "--alt" not in first and "--sample S1" in first
    assert "--reads BAM --reference FASTA --model MODEL" in first
    without_reads = explain_command({"vcf": "x"}, "a", "chr1", 12, "AC", 1)
    assert without_reads is not None and "--reads" not in without_reads


@pytest.mark.parametrize("contig", ["chr1;rm", "a b", "$(x)", "-x", "\x1b[0m", "chr\u0435", "`x`", "'"])
def test_an_odd_contig_gets_no_command(contig: str) -> None:
    assert explain_command(INPUTS, "m", contig, 1, "A", 1) is None
