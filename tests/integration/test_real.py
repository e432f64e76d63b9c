"""The whole way on real sequencing reads, with a model trained on simulated ones. Needs CNNSPARK_DATA."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pysam
import pytest

from cnnspark import stages
from cnnspark.config import Config, InputPaths, load_config
from cnnspark.stages import pipeline
from cnnspark.stages.requests import EvaluationRequest, RunRequest, ScoreRequest
from cnnspark.training import train
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT, unscorable_reason
from cnnspark.variants.label_tables import read_label_table
from tests.conftest import read_lines
from tests.stages.test_stages import without_scores

pytestmark = [pytest.mark.real, pytest.mark.spark]

CONFIG = ["blocks.records=200", "train.epochs=2", "train.replicas=2", "train.validation=0.2"]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(None, CONFIG)


@pytest.fixture(scope="module")
def model(spark: Any, data: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    """``reads``, trained for two epochs on 400 kb of the simulated callset, on two replicas."""
    folder, sim = tmp_path_factory.mktemp("sim"), data / "sim"
    paths = InputPaths(
        vcf=str(sim / "DEV.freebayes.vcf.gz"),
        reads=str(sim / "DEV.bam"),
        reference=str(sim / "ref.fa.gz"),
        truth=str(sim / "DEV.truth.vcf.gz"),
        bed=str(sim / "DEV.conf.bed"),
        regions=("chr20:60,000-460,000",),
    )
    stages.build_dataset(spark, paths, str(folder / "tensors"), config)
    train(spark, str(folder / "tensors"), str(folder / "model"), config.train)
    return str(folder / "model")


NA12878 = ("NA12878", "NA12878.freebayes.vcf.gz", "ref.hg19.chr20.fa.gz")
SETS = [
    pytest.param(*NA12878, "NA12878.chr20.bam", id="NA12878 BAM"),
    pytest.param(*NA12878, "NA12878.chr20.cram", id="NA12878 CRAM"),
    pytest.param("HG002", "HG002.freebayes.vcf.gz", "ref.b37.20.fa.gz", "HG002.20.bam", id="HG002"),
]


@pytest.mark.parametrize(("name", "vcf", "reference", "reads"), SETS)
def test_real_callsets_come_out_as_they_were_with_every_scorable_record_scored(
    spark: Any, data: Path, config: Config, model: str, tmp_path: Path, name: str, vcf: str, reference: str, reads: str
) -> None:
    folder = data / "real" / name
    paths = InputPaths(vcf=str(folder / vcf), reads=str(folder / reads), reference=str(folder / reference))
    stages.score_callset(spark, ScoreRequest(paths, model, str(tmp_path / "out"), config))
    merged = tmp_path / "out" / "merged.vcf.gz"
    lines = read_lines(merged)
    assert without_scores(lines) == read_lines(folder / vcf)
    for line in lines:
        columns = line.split("\t")
        scorable = any(unscorable_reason(columns[3], alt) is None for alt in columns[4].split(","))
        assert ("CNN_2D=" in columns[7]) == scorable
    with pysam.TabixFile(str(merged)) as indexed:
        contig, pos = lines[100].split("\t")[:2]
        assert lines[100] in list(indexed.fetch(contig, int(pos) - 1, int(pos)))


def test_bam_and_cram_give_the_same_scores(spark: Any, data: Path, config: Config, model: str, tmp_path: Path) -> None:
    folder = data / "real" / "NA12878"
    outcomes = []
    for reads in ("NA12878.chr20.bam", "NA12878.chr20.cram"):
        paths = InputPaths(str(folder / NA12878[1]), str(folder / reads), str(folder / NA12878[2]))
        stages.score_callset(spark, ScoreRequest(paths, model, str(tmp_path / reads), config))
        outcomes.append(read_lines(tmp_path / reads / "merged.vcf.gz"))
    # Not the compressed bytes: blocks are cut by the costs that the reads' index tells, and each has its own shard.
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("tool", [["view", "-H"], ["annotate", "-x", "INFO/CNN_2D,INFO/CNN_ALT_SCORES"]])
def test_bcftools_agrees(spark: Any, data: Path, config: Config, model: str, tmp_path: Path, tool: list[str]) -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    folder = data / "real" / "HG002"
    vcf = folder / "HG002.freebayes.vcf.gz"
    paths = InputPaths(str(vcf), str(folder / "HG002.20.bam"), str(folder / "ref.b37.20.fa.gz"))
    stages.score_callset(spark, ScoreRequest(paths, model, str(tmp_path / "out"), config))

    def records(command: list[str], path: Path) -> list[str]:
        done = subprocess.run(["bcftools", *command, str(path)], capture_output=True, text=True, check=True)
        assert "[E::" not in done.stderr and "[W::" not in done.stderr
        return [line for line in done.stdout.splitlines() if not line.startswith("#")]

    ours, theirs = records(tool, tmp_path / "out" / "merged.vcf.gz"), records(["view", "-H"], vcf)
    assert (ours if tool[0] == "annotate" else without_scores(ours)) == theirs


def test_true_variants_score_above_false_ones(
    spark: Any, data: Path, config: Config, model: str, tmp_path: Path
) -> None:
    """A sanity check on some 190 true and 150 false alleles, most of these with QUAL near 0; no figure of accuracy."""
    folder = data / "real" / "NA12878"
    paths = InputPaths(
        vcf=str(folder / NA12878[1]), reads=str(folder / "NA12878.chr20.bam"), reference=str(folder / NA12878[2])
    )
    stages.score_callset(spark, ScoreRequest(paths, model, str(tmp_path / "out"), config))
    labelled = InputPaths(
        vcf=str(tmp_path / "out" / "merged.vcf.gz"), labels=str(folder / "NA12878.freebayes.labels.tsv")
    )
    result = stages.evaluate_callset(spark, EvaluationRequest(labelled, str(tmp_path / "e"), config))
    assert result.metrics["ALL"]["CNN_2D"]["auroc"] > 0.9


@pytest.mark.parametrize("caller", ["freebayes", "bcftools"])
def test_figures_by_truth_are_those_of_vcfeval_s_labels(
    spark: Any, data: Path, config: Config, tmp_path: Path, caller: str
) -> None:
    """Haplotype comparison here against the labels that vcfeval gave, on 8,000-14,000 alleles."""
    sim = data / "sim"
    common = InputPaths(vcf=str(sim / f"DEV.{caller}.vcf.gz"), reference=str(sim / "ref.fa.gz"))
    by_truth = dataclasses.replace(common, truth=str(sim / "DEV.truth.vcf.gz"), bed=str(sim / "DEV.conf.bed"))
    by_table = dataclasses.replace(common, labels=str(sim / f"DEV.{caller}.labels.tsv"))
    ours, theirs = (
        stages.evaluate_callset(spark, EvaluationRequest(paths, str(tmp_path / name), config, ["QUAL", "DP"]))
        for name, paths in (("truth", by_truth), ("table", by_table))
    )
    for group in ("ALL", "SNP", "INDEL"):
        for score in ("QUAL", "DP"):
            a, b = ours.metrics[group][score], theirs.metrics[group][score]
            assert abs(a["auprc"] - b["auprc"]) < 0.002, (group, score)
            assert abs(a["n_true"] - b["n_true"]) < 0.005 * b["n_true"], (group, score)


@pytest.mark.parametrize("name", ["reads", "features"])
@pytest.mark.parametrize("caller", ["freebayes", "bcftools"])
def test_a_bundled_model_throws_out_no_true_variant_of_any_caller(
    spark: Any, data: Path, config: Config, tmp_path: Path, caller: str, name: str
) -> None:
    folder = data / "real" / "NA12878"
    paths = InputPaths(
        str(folder / f"NA12878.{caller}.vcf.gz"), str(folder / "NA12878.chr20.bam"), str(folder / NA12878[2])
    )
    result = pipeline.run_all(spark, RunRequest(paths, str(tmp_path / "run"), config, name))
    labels = read_label_table(str(folder / f"NA12878.{caller}.labels.tsv"))
    kept = {TRUE_VARIANT: [0, 0], FALSE_VARIANT: [0, 0]}
    for line in read_lines(result.filtered):
        contig, pos, _, ref, alts, _, status, *_ = line.split("\t")
        for alt in alts.split(","):
            label = labels.get((contig, int(pos) - 1, ref, alt))
            if label in kept:
                kept[label][status == "PASS"] += 1
    assert sum(kept[TRUE_VARIANT]) > 180
    assert kept[TRUE_VARIANT][1] / sum(kept[TRUE_VARIANT]) >= 0.99
    if caller == "freebayes":  # bcftools' callset has thirty false ones
        assert kept[FALSE_VARIANT][0] / sum(kept[FALSE_VARIANT]) > 0.5
