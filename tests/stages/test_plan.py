"""What a plan says before anything runs, against what is counted and cut when it does."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pysam
import pytest

from cnnspark.cli import main
from cnnspark.config import Config, InputPaths, load_config
from cnnspark.errors import InputError
from cnnspark.execution.blocks import cut_window, number_blocks, windows_of
from cnnspark.formats.vcf import VcfSource
from cnnspark.stages.costs import Expected, scoring_costs
from cnnspark.stages.plan import Plan, plan_callset, plan_text
from tests.conftest import read_lines, write_vcf


def cut(paths: InputPaths, config: Config) -> tuple[int, float]:
    """Blocks, and their cost, as a run cuts them."""
    costs = scoring_costs("reads", True)
    weigher = Expected(costs, paths.reads, config.tensors.read_limit).open()
    with VcfSource(str(paths.vcf)) as source:
        windows = windows_of(source.contigs, source.header.contig_lengths)
        counted = [(w, cut_window(source.lines(w), w, config.blocks, weigher)) for w in windows]
    blocks = number_blocks(counted)
    return len(blocks), sum(block.cost for block in blocks)


def test_a_plan_is_near_what_a_run_cuts(simulated: InputPaths) -> None:
    config = load_config(None, ["blocks.records=50"])
    plan = plan_callset(simulated, config, "reads")
    blocks, cost = cut(simulated, config)
    lines = read_lines(str(simulated.vcf))
    assert plan.records == len(lines)
    assert {c.contig: c.records for c in plan.contigs} == {
        name: sum(line.startswith(f"{name}\t") for line in lines) for name in ("chrA", "chrB")
    }
    assert plan.blocks == pytest.approx(blocks, rel=0.25)
    assert scoring_costs("reads", True).seconds(plan.work) == pytest.approx(cost, rel=0.35)
    assert all(15 < (c.mean_depth or 0) < 35 for c in plan.contigs)


def test_the_shared_callsets_plans_are_near_what_runs_cut(data: Path) -> None:
    for vcf, reads in (
        ("sim/DEV.freebayes.vcf.gz", "sim/DEV.bam"),
        ("real/HG002/HG002.freebayes.vcf.gz", "real/HG002/HG002.20.bam"),
        ("real/NA12878/NA12878.freebayes.vcf.gz", "real/NA12878/NA12878.chr20.cram"),
    ):
        paths = InputPaths(vcf=str(data / vcf), reads=str(data / reads))
        plan = plan_callset(paths, Config(), "reads")
        blocks, cost = cut(paths, Config())
        assert plan.records == len(read_lines(str(paths.vcf)))
        assert abs(plan.blocks - blocks) <= max(1, 0.15 * blocks)
        assert scoring_costs("reads", True).seconds(plan.work) == pytest.approx(cost, rel=0.3)


def test_plans_of_samples_add_up(simulated: InputPaths) -> None:
    one = plan_callset(simulated, Config(), "features")
    three = one + one + one
    assert three.samples == 3 and three.records == 3 * one.records
    assert three.core_seconds == pytest.approx(3 * one.core_seconds)
    assert three.output_bytes == 3 * one.output_bytes
    assert three.task_memory_bytes == one.task_memory_bytes
    assert one.driver_memory_bytes < three.driver_memory_bytes < 1.1 * one.driver_memory_bytes
    assert [c.records for c in three.contigs] == [3 * c.records for c in one.contigs]
    assert [c.mean_depth for c in three.contigs] == pytest.approx([c.mean_depth for c in one.contigs])


def test_more_cores_take_less_time_until_the_start_is_what_is_left(simulated: InputPaths) -> None:
    plan = dataclasses.replace(plan_callset(simulated, Config(), "reads"), core_seconds=100_000.0)
    times = [plan.wall_seconds(cores) for cores in (1, 10, 100, 10**9)]
    assert times == sorted(times, reverse=True)
    assert times[0] > 100_000 and times[-1] > plan.longest_block_seconds


def test_a_region_and_a_model_without_reads_are_planned(simulated: InputPaths) -> None:
    whole = plan_callset(simulated, Config(), "reads")
    part = plan_callset(dataclasses.replace(simulated, regions=("chrA:1-16384",)), Config(), "reads")
    assert [c.contig for c in part.contigs] == ["chrA"] and 0 < part.records < whole.records
    reference = plan_callset(dataclasses.replace(simulated, reads=None), Config())
    assert reference.contigs[0].mean_depth is None and reference.work.reads == 0
    assert reference.core_seconds < whole.core_seconds
    with pytest.raises(InputError, match="chrZ"):
        plan_callset(dataclasses.replace(simulated, regions=("chrZ",)), Config(), "reads")


def test_a_bcf_with_its_index_is_planned(tmp_path: Path, simulated: InputPaths) -> None:
    bcf = str(tmp_path / "a.bcf")
    with pysam.VariantFile(str(simulated.vcf)) as source, pysam.VariantFile(bcf, "wb", header=source.header) as out:
        for record in source:
            out.write(record)
    paths = dataclasses.replace(simulated, vcf=bcf)
    with pytest.raises(InputError, match="bcftools index"):
        plan_callset(paths, Config(), "reads")
    pysam.tabix_index(bcf, preset="bcf", force=True)
    one, other = plan_callset(paths, Config(), "reads"), plan_callset(simulated, Config(), "reads")
    assert [(c.contig, c.records) for c in one.contigs] == [(c.contig, c.records) for c in other.contigs]


def test_what_is_missing_is_said_with_its_remedy(tmp_path: Path, simulated: InputPaths) -> None:
    def said(**changed: str | None) -> str:
        with pytest.raises(InputError) as error:
            plan_callset(dataclasses.replace(simulated, **changed), Config(), "reads")
        return str(error.value)

    plain = write_vcf(tmp_path / "a.vcf", ["c1 5 . A C . . ."])
    assert "bgzip" in said(vcf=plain)
    assert "tabix -p vcf" in said(vcf=write_vcf(tmp_path / "b.vcf.gz", ["c1 5 . A C . . ."], index=False))
    assert "cannot be opened" in said(vcf="nosuch://bucket/a.vcf.gz")
    assert "--reads" in said(reads=None)
    shutil.copy(str(simulated.reads), tmp_path / "reads.bam")
    assert "samtools index" in said(reads=str(tmp_path / "reads.bam"))
    empty = write_vcf(tmp_path / "c.vcf.gz", [])
    assert "no records" in said(vcf=empty)


def test_reads_elsewhere_are_taken_at_usual_depth_and_that_is_said(simulated: InputPaths) -> None:
    plan = plan_callset(dataclasses.replace(simulated, reads="nosuch://bucket/reads.bam"), Config(), "reads")
    assert "30x is taken" in plan.notes[0] and plan.work.reads > 0
    assert (plan + plan).notes == plan.notes
    assert "note: the depth of nosuch://bucket/reads.bam" in plan_text(plan, 2)


def test_the_command_prints_a_table_or_json(simulated: InputPaths, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["plan", "--vcf", str(simulated.vcf), "--reads", str(simulated.reads), "--cores", "8"]
    assert main(given) == 0
    text = capsys.readouterr().out
    assert "chrA" in text and "time on 8 cores*" in text and "* estimated" in text
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    plan = plan_callset(simulated, Config())
    assert isinstance(plan, Plan) and found == json.loads(json.dumps(plan.to_dict(8)))
    assert {"records", "blocks", "core_seconds", "wall_seconds", "output_bytes", "task_memory_bytes"} <= set(found)
    assert main(["plan", "--reads", str(simulated.reads)]) == 2


def test_the_plan_of_a_sheet_is_that_of_its_samples(
    tmp_path: Path, simulated: InputPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("1", "2"):
        for suffix, path in ((".vcf.gz", simulated.vcf), (".bam", simulated.reads)):
            shutil.copy(str(path), tmp_path / f"{name}{suffix}")
            index = {".vcf.gz": ".tbi", ".bam": ".bai"}[suffix]
            shutil.copy(f"{path}{index}", tmp_path / f"{name}{suffix}{index}")
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("sample\tvcf\treads\nS1\t1.vcf.gz\t1.bam\nS2\t2.vcf.gz\t2.bam\n")
    assert main(["plan", "--sheet", str(sheet), "--model", "reads", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    one = plan_callset(simulated, Config(), "reads")
    assert (found["samples"], found["records"]) == (2, 2 * one.records)
    assert found["core_seconds"] == pytest.approx(2 * one.core_seconds)
    # Members of one callset: as many records for each of them, which is said.
    sheet.write_text("sample\tvcf\treads\nS1\t1.vcf.gz\t1.bam\nS2\t1.vcf.gz\t2.bam\n")
    assert main(["plan", "--sheet", str(sheet), "--model", "reads", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["records"] == 2 * one.records
    assert any("as if each carried every allele" in note for note in found["notes"])
