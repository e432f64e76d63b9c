"""Inputs on which cnnspark once did the wrong thing (the shared data's ``cases``): the right result or one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pysam
import pytest

from cnnspark.cli import main
from cnnspark.errors import InputError
from cnnspark.formats.index_check import require_read_index, require_vcf_index
from tests.conftest import ROOT, read_lines

INPUT_ERROR, RUN_ERROR = 3, 4


@pytest.fixture
def cases(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cases that a test may change; the test runs in an empty folder."""
    if not (data / "cases").is_dir():
        pytest.skip(f"no cases at {data / 'cases'}")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return data / "cases"


def by_quality(callset: Path, out: str = "out.vcf.gz") -> int:
    """The exit code of a filter by QUAL, which reads all records and no model."""
    return main(["filter", "--local", "--in", str(callset), "--key", "QUAL", "--threshold", "20", "--out", out])


@pytest.mark.parametrize(
    ("callset", "said"),
    [
        ("stale-tbi/new.vcf.gz", "the file has records that the index does not know"),
        ("stale-tbi-region/n1.vcf.gz", "the file has records that the index does not know"),
        ("tbi-segfault/c.vcf.gz", "cannot be read (it is truncated)"),
        ("nul-in-line/c.vcf", "line "),
        ("missing-sample-columns/c.vcf", "columns"),
        ("two-CHROM-lines/c.vcf", "several #CHROM lines"),
        ("dup_sample/in.vcf.gz", "more than once"),
        ("pos-0300/c.vcf", "position"),
        ("no-CHROM-line/c.vcf", "no #CHROM line"),
        ("blank-line-gz/c.vcf.gz", "is empty; repair or remove the line"),
        ("end-1e10/c.vcf", "END=10000000000, beyond any contig"),
        ("utf8-contig/c.vcf", "ASCII letters only"),
    ],
)
def test_a_callset_that_would_lose_something_is_refused(
    cases: Path, capsys: pytest.CaptureFixture[str], callset: str, said: str
) -> None:
    assert by_quality(cases / callset) == INPUT_ERROR
    error = capsys.readouterr().err
    assert said in error and callset.rpartition("/")[2] in error
    assert "callset.vcf.gz" not in error  # the user's file, not a copy that is gone
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["in.bcf", "in_unicode.bcf", "in.vcf.gz"])
def test_letters_of_a_header_may_be_of_any_encoding(cases: Path, name: str) -> None:
    assert by_quality(cases / "bcf_latin1" / name) == 0
    assert by_quality(cases / "bcf_latin1" / name, "out.bcf") == 0
    assert by_quality(Path("out.bcf"), "again.vcf.gz") == 0
    assert len(read_lines("again.vcf.gz")) == len(read_lines("out.vcf.gz")) == 138


def test_a_pipe_is_said_to_be_one(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    assert by_quality(Path("pipe")) == INPUT_ERROR
    assert "is a pipe or a device" in capsys.readouterr().err
    Path("pipe").unlink()


def test_an_index_is_checked_in_a_region_too(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callset, region = str(cases / "stale-tbi-region" / "n1.vcf.gz"), ["--region", "chr1:1-1000000"]
    assert tiny(cases, "score", *region, "--out", "out", vcf=callset) == INPUT_ERROR
    assert "make it again with 'tabix -f -p vcf" in capsys.readouterr().err


def test_the_last_position_of_a_contig_is_read(cases: Path) -> None:
    callset = cases / "pos-2147483647/large_chrom_csi_limit.vcf"
    assert by_quality(callset) == 0
    records = [line for line in callset.read_text().splitlines() if not line.startswith("#")]
    assert len(read_lines("out.vcf.gz")) == len(records) == 12


@pytest.mark.parametrize("reads", ["stale-bai/r.bam", "crai-truncated/r.cram"])
def test_the_index_of_reads_is_checked(cases: Path, capsys: pytest.CaptureFixture[str], reads: str) -> None:
    path = cases / reads
    command = ["score", "--local", "--vcf", str(path.with_name("c.vcf")), "--reads", str(path)]
    command += ["--reference", str(path.with_name("ref.fa")), "--model", "features", "--out", "out"]
    assert main(command) == INPUT_ERROR
    assert f"samtools index {path}" in capsys.readouterr().err


def tiny(cases: Path, command: str, *more: str, vcf: str = "", reads: str = "") -> int:
    """The exit code of a command on the small sample, or on other files of the same."""
    made = cases.parent / "awkward" / "made"
    inputs = ["--reads", reads or str(made / "tiny.bam"), "--reference", str(cases.parent / "sim" / "ref.fa.gz")]
    if command == "score":
        inputs += ["--vcf", vcf or str(made / "tiny.vcf.gz"), "--model", "features"]
    return main([command, "--local", *inputs, *more])


def test_a_read_group_that_is_called_artificial_is_not_haplotypecallers(cases: Path) -> None:
    region = ["--region", "chr20:1000000-1010000"]
    assert tiny(cases, "candidates", *region, "--out", "expected.vcf.gz") == 0
    renamed = str(cases / "rg_artificial" / "in.bam")
    assert tiny(cases, "candidates", *region, "--out", "found.vcf.gz", reads=renamed) == 0
    assert read_lines("found.vcf.gz") == read_lines("expected.vcf.gz") != []


@pytest.mark.parametrize("case", ["hdr_latin1", "bai_no_pseudobin", "pg_tabs_co"])
def test_reads_with_an_odd_header_or_index_score_as_others(cases: Path, case: str) -> None:
    assert tiny(cases, "score", "--out", "expected") == 0
    assert tiny(cases, "score", "--out", "found", reads=str(cases / case / "in.bam")) == 0
    assert read_lines("found/merged.vcf.gz") == read_lines("expected/merged.vcf.gz")


def test_names_of_samples_are_utf8(cases: Path) -> None:
    folder = cases / "sm_unicode"
    assert tiny(cases, "score", "--out", "out", vcf=str(folder / "in.vcf.gz"), reads=str(folder / "in.bam")) == 0
    assert (
        tiny(
            cases, "candidates", "--region", "chr20:1000000-1010000", "--out", "c.vcf.gz", reads=str(folder / "in.bam")
        )
        == 0
    )
    with pysam.BGZFile("c.vcf.gz", "rb", None) as lines:
        head = next(line for line in lines if line.startswith(b"#CHROM"))
    assert head.rsplit(b"\t", 1)[1].decode("utf-8").startswith("M\u00fcller")


def test_genotypes_that_nobody_has_are_said(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callset = str(cases / "strelka_nogt" / "in.vcf.gz")
    assert tiny(cases, "score", "--sample", "TUMOR", "--out", "out", vcf=callset) == INPUT_ERROR
    assert "have no genotypes (FORMAT/GT)" in capsys.readouterr().err


def test_a_declaration_is_replaced_whatever_its_order(cases: Path) -> None:
    assert tiny(cases, "score", "--out", "out", vcf=str(cases / "hdr_order" / "in.vcf.gz")) == 0
    with pysam.BGZFile("out/merged.vcf.gz", "rb", None) as lines:
        declared = [line for line in lines if line.startswith(b"##INFO=<") and b"ID=CNN_2D," in line]
    assert len(declared) == 1 and b"cnnspark" in declared[0]


@pytest.mark.parametrize("case", ["fasta-truncated", "fagz-flipped"])
def test_a_damaged_reference_is_one_sentence(cases: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    reference = next(path for path in (cases / case).iterdir() if path.name in ("ref.fa", "ref.fa.gz"))
    command = ["score", "--local", "--vcf", str(cases / case / "c.vcf"), "--reference", str(reference)]
    assert main([*command, "--model", "reference", "--out", "out"]) == INPUT_ERROR
    assert str(reference) in capsys.readouterr().err


def test_reads_without_sequence_have_no_depth(cases: Path) -> None:
    folder = cases / "zero-division-seq-star"
    for name in ("r.bam", "r.cram"):
        command = ["score", "--local", "--vcf", str(folder / "c.vcf"), "--reads", str(folder / name)]
        code = main([*command, "--reference", str(folder / "ref.fa"), "--model", "features", "--out", f"out-{name}"])
        assert code == main([*command, "--reference", str(folder / "ref.fa"), "--model", "features", "--out", "again"])
        shutil.rmtree("again", ignore_errors=True)


def test_a_byte_order_mark_hides_no_region(cases: Path) -> None:
    assert tiny(cases, "score", "--out", "scored") == 0
    figures = []
    for bed in ("two.bed", "two_plain.bed"):
        truth = ["--truth", str(cases.parent / "sim" / "DEV.truth.vcf.gz"), "--bed", str(cases / "bed_bom" / bed)]
        reference = ["--reference", str(cases.parent / "sim" / "ref.fa.gz")]
        assert main(["evaluate", "--local", "--vcf", "scored", *truth, *reference, "--out", bed]) == 0
        figures.append((Path(bed) / "metrics.json").read_text().replace(bed, ""))
    assert figures[0] == figures[1]


def test_a_damaged_shard_is_done_again(cases: Path) -> None:
    folder = cases / "resume-damaged-shard"
    command = ["score", "--local", "--vcf", str(folder / "c.vcf.gz"), "--reference", str(folder / "ref.fa")]
    command += ["--model", "reference", "--set", "blocks.records=50", "--out", "out"]
    assert main(command) == 0
    out = Path("out")
    expected = (out / "merged.vcf.gz").read_bytes()
    for name in ("_SUCCESS", "manifest.json", "merged.vcf.gz"):
        (out / name).unlink()
    max((out / "manifest").iterdir()).unlink()
    shard = out / "shards" / "block-000001.vcf.gz"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert main([*command, "--if-exists", "resume"]) == 0
    assert (out / "merged.vcf.gz").read_bytes() == expected


def test_indexes_of_the_shared_data_are_their_files(data: Path) -> None:
    found = 0
    for index in data.rglob("*"):
        path, suffix = str(index)[: -len(index.suffix)], index.suffix
        if suffix not in (".tbi", ".csi", ".bai", ".crai") or "/cases/" in path or not Path(path).exists():
            continue
        if path.endswith(".vcf.gz"):
            require_vcf_index(path, str(index))
        else:
            require_read_index(path, str(index), path.endswith(".cram"))
        found += 1
    assert found > 10
    with pytest.raises(InputError, match="begin"):
        require_vcf_index(str(next(data.rglob("HG002*.vcf.gz"))), str(next(data.rglob("tiny.vcf.gz.tbi"))))


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_a_run_whose_lines_nobody_can_read_goes_on(data: Path, tmp_path: Path, stderr: str) -> None:
    callset = data / "awkward" / "made" / "tiny.vcf.gz"
    command = f"{sys.executable} -m cnnspark filter --local --in {callset} --key QUAL --threshold 20 --out o.vcf.gz"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(f"{command} {stderr}", shell=True, cwd=tmp_path, env=environment, check=True)
    assert len(read_lines(tmp_path / "o.vcf.gz")) == 138


def test_a_name_of_210_letters_is_a_name(cases: Path) -> None:
    assert by_quality(cases.parent / "awkward" / "made" / "tiny.vcf.gz", f"{'n' * 203}.vcf.gz") == 0
    assert by_quality(cases.parent / "awkward" / "made" / "tiny.vcf.gz", f"{'n' * 300}.vcf.gz") == RUN_ERROR
