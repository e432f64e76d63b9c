"""A stage on a sheet's callsets: failures stay apart, finished work is kept, the tables say what became of each."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pysam
import pytest

from cnnspark.cli import main
from cnnspark.config import InputPaths, load_config
from cnnspark.errors import InputError, RunError, UsageError
from cnnspark.execution.shards import MERGED, MERGED_BCF
from cnnspark.stages import sheet_stages
from cnnspark.stages.requests import ScoreRequest
from cnnspark.stages.sample_sheet import SheetCallset
from cnnspark.stages.sheet_runner import SheetSettings, run_on_sheet
from cnnspark.tensors.dataset import Dataset
from cnnspark.tensors.joined_dataset import sample_folders
from cnnspark.training import train
from tests.conftest import Sample, read_lines, rows_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def callsets(*names: str) -> list[SheetCallset]:
    return [SheetCallset(name, (name,), InputPaths()) for name in names]


class Counting:
    """A stage that counts how often it is asked for each callset, and fails as it is told."""

    def __init__(self, **failures: Exception):
        self.failures, self.asked = failures, dict[str, int]()

    def __call__(self, each: SheetCallset, target: str, if_exists: str) -> Mapping[str, Any]:
        self.asked[each.name] = self.asked.get(each.name, 0) + 1
        if each.name in self.failures:
            raise self.failures[each.name]
        return {"records": 10, "output": target}


def run(
    spark: SparkSession, out: Path, work: Counting, *names: str, if_exists: str = "resume", prints: str = "same",
    **settings: int,
) -> Any:  # fmt: skip
    """The stage on callsets of these names."""
    fingerprints = dict.fromkeys(names, prints)
    chosen = SheetSettings(**settings)
    return run_on_sheet(spark, "test", callsets(*names), str(out), if_exists, work, fingerprints, chosen)


def test_one_failure_does_not_stop_the_others_and_only_it_is_done_again(spark: SparkSession, tmp_path: Path) -> None:
    work = Counting(b=InputError("b.bam is truncated; copy it again"))
    result = run(spark, tmp_path / "out", work, "a", "b", "c", if_exists="fail")
    assert result.counts == {"done": 2, "failed": 1}
    with pytest.raises(RunError, match=r"1 of 3 callsets failed \(b: b.bam is truncated; copy it again\)"):
        result.require_all()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    table = {row["callset"]: row for row in rows_of(tmp_path / "out" / "samples.tsv")}
    assert table["a"]["status"] == "done" and table["a"]["records"] == "10"
    assert table["b"]["status"] == "failed" and "truncated" in table["b"]["message"]

    work.failures.clear()
    again = run(spark, tmp_path / "out", work, "a", "b", "c")
    again.require_all()
    assert work.asked == {"a": 1, "b": 2, "c": 1}
    assert [outcome.kept for outcome in again.outcomes] == [True, False, True]
    assert (tmp_path / "out" / "_SUCCESS").exists()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"] == {"done": 3}


def test_a_callset_of_other_inputs_is_done_again(spark: SparkSession, tmp_path: Path) -> None:
    work = Counting()
    run(spark, tmp_path / "out", work, "a", if_exists="fail")
    run(spark, tmp_path / "out", work, "a", prints="other")
    assert work.asked == {"a": 2}


def test_what_need_not_be_the_callsets_own_fault_is_tried_once_more(spark: SparkSession, tmp_path: Path) -> None:
    work = Counting(a=RuntimeError("ExecutorLostFailure: exit code 137"), b=UsageError("no"))
    result = run(spark, tmp_path / "out", work, "a", "b", "c", if_exists="fail", at_once=1)
    assert work.asked == {"a": 2, "b": 1, "c": 1}
    assert "killed, most likely for memory" in result.outcomes[0].message


def test_no_more_are_begun_once_too_many_failed(spark: SparkSession, tmp_path: Path) -> None:
    work = Counting(a=InputError("no"), b=InputError("no"))
    result = run(spark, tmp_path / "out", work, *"abcd", if_exists="fail", at_once=1, max_failed=1)
    assert result.counts == {"failed": 2, "not started": 2} and "d" not in work.asked
    with pytest.raises(RunError, match="2 were not started"):
        result.require_all()


def test_settings_and_folders_are_checked(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--at-once"):
        SheetSettings(at_once=0)
    with pytest.raises(UsageError, match="--max-failed"):
        SheetSettings(max_failed=-1)
    run(spark, tmp_path / "out", Counting(), "a", if_exists="fail")
    with pytest.raises(UsageError, match="exists; choose another --out"):
        run(spark, tmp_path / "out", Counting(), "a", if_exists="fail")


@pytest.fixture(scope="module")
def sheet(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sheet of three callsets of the simulated sample, the third one with a truncated BAM."""
    folder = tmp_path_factory.mktemp("sheet")
    name = read_sample(str(sample.paths.vcf))
    lines = ["sample\tvcf\treads\ttruth\tbed"]
    for number in (1, 2, 3):
        for kind, path in (("vcf.gz", sample.paths.vcf), ("bam", sample.paths.reads)):
            shutil.copy(str(path), folder / f"{number}.{kind}")
        for kind, path in (("vcf.gz.tbi", f"{sample.paths.vcf}.tbi"), ("bam.bai", f"{sample.paths.reads}.bai")):
            shutil.copy(path, folder / f"{number}.{kind}")
        rename_sample(folder / f"{number}.vcf.gz", name, f"S{number}")
        lines.append(f"S{number}\t{number}.vcf.gz\t{number}.bam\t{sample.paths.truth}\t{sample.paths.bed}")
    (folder / "whole.bam").write_bytes((folder / "3.bam").read_bytes())
    with open(folder / "3.bam", "r+b") as broken:
        broken.truncate(2000)
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    return folder / "sheet.tsv"


def read_sample(vcf: str) -> str:
    from cnnspark.formats.vcf import VcfSource

    with VcfSource(vcf) as source:
        return source.header.samples[0]


def rename_sample(vcf: Path, old: str, new: str) -> None:
    """The callset with another name of its sample."""
    with pysam.BGZFile(str(vcf), "rb", None) as lines:
        text = b"\n".join(line for line in lines).decode("latin-1")
    with pysam.BGZFile(str(vcf), "wb", None) as out:
        out.write(text.replace(f"FORMAT\t{old}\n", f"FORMAT\t{new}\n").encode("latin-1") + b"\n")
    pysam.tabix_index(str(vcf), preset="vcf", force=True)


def test_a_sheet_is_scored_but_for_the_broken_sample_which_is_mended_later(
    spark: SparkSession, sample: Sample, sheet: Path, tmp_path: Path
) -> None:
    config = load_config(None, ["blocks.records=40"])
    shared = InputPaths(reference=sample.paths.reference)
    out = tmp_path / "out"
    first = sheet_stages.score_sheet(spark, str(sheet), ScoreRequest(shared, sample.model, str(out), config))
    assert [each.status for each in first.outcomes] == ["done", "done", "failed"]
    assert "3.bam" in first.outcomes[2].message
    merged = [out / "samples" / name / MERGED for name in ("S1", "S2", "S3")]
    assert len(read_lines(merged[0])) == first.outcomes[0].result["records"]
    kept = [path.stat().st_mtime_ns for path in merged[:2]]

    (sheet.parent / "3.bam").write_bytes((sheet.parent / "whole.bam").read_bytes())
    (sheet.parent / "3.bam.bai").touch()
    again = sheet_stages.score_sheet(spark, str(sheet), ScoreRequest(shared, sample.model, str(out), config, "resume"))
    assert [each.kept for each in again.outcomes] == [True, True, False]
    again.require_all()
    assert [path.stat().st_mtime_ns for path in merged[:2]] == kept
    # The same reads under three names: the same scores.
    columns = [[line.split("\t")[:8] for line in read_lines(path)] for path in merged]
    assert columns[0] == columns[1] == columns[2]

    shards = [path.stat().st_mtime_ns for path in sorted((out / "samples").glob("*/shards/*"))]
    bcf = sheet_stages.score_sheet(
        spark, str(sheet), ScoreRequest(shared, sample.model, str(out), config, "resume", output_type="b")
    )
    bcf.require_all()
    assert [len(list(pysam.VariantFile(str(path.with_name(MERGED_BCF))))) for path in merged] == [len(columns[0])] * 3
    assert shards == [path.stat().st_mtime_ns for path in sorted((out / "samples").glob("*/shards/*"))]


def test_tensors_of_a_sheet_train_together(spark: SparkSession, sample: Sample, sheet: Path, tmp_path: Path) -> None:
    rows = sheet.read_text().splitlines()
    two = sheet.parent / "two.tsv"
    two.write_text("\n".join(rows[:3]) + "\n")
    shared = InputPaths(reference=sample.paths.reference)
    out = str(tmp_path / "tensors")
    sheet_stages.tensors_sheet(spark, str(two), shared, out, sample.config).require_all()
    assert [Path(folder).name for folder in sample_folders(out)] == ["S1", "S2"]
    settings = dataclasses.replace(sample.config.train, epochs=1)
    data = train(spark, out, str(tmp_path / "model"), settings).card.data
    assert data["train"] + data["validation"] == 2 * Dataset(sample.dataset).card["tensors"]


def test_run_trains_on_the_sheets_truth_and_filters_every_callset(
    spark: SparkSession, sample: Sample, sheet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [line.split("\t") for line in sheet.read_text().splitlines()]
    two = sheet.parent / "one_truth.tsv"
    two.write_text("\n".join("\t".join(row) for row in (rows[0], rows[1], [*rows[2][:3], ".", "."])) + "\n")
    out = tmp_path / "run"
    settings = ["blocks.records=20", "train.model=features", "train.epochs=1", "train.validation=0.3"]
    flags = [argument for text in settings for argument in ("--set", text)]
    command = ["run", "--sheet", str(two), "--reference", str(sample.paths.reference), "--out", str(out), *flags]
    assert main([*command, "--set", "train.keep_start=0.5"]) == 2 and not out.exists()  # not after the tensors
    assert main(command) == 0, capsys.readouterr().err
    manifest = json.loads((out / "runs" / "manifest.json").read_text())
    first, second = manifest["samples"]
    assert first["result"]["metrics"]["ALL"]["CNN_2D"]["auprc"] > 0.5 and first["result"]["held_out"]
    assert not second["result"]["metrics"]
    assert len(read_lines(out / "runs" / "samples" / "S2" / "filtered.vcf.gz")) == second["result"]["records"]


def test_a_sheet_does_not_go_with_one_samples_files(sheet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--sheet", str(sheet), "--vcf", "a.vcf.gz", "--out", "nowhere"]) == 2
    assert "cannot go together" in capsys.readouterr().err
    assert main(["score", "--at-once", "2", "--vcf", "a.vcf.gz", "--out", "nowhere"]) == 2
    assert "give the sheet" in capsys.readouterr().err
