"""The guard through Spark: a callset that the model knows passes silently, another one is said and, with --strict, is
exit code 5; then nothing is merged and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.config import InputPaths
from cnnspark.errors import QualityError, UsageError
from cnnspark.filtering.request import FilterOptions
from cnnspark.models.card import read_card
from cnnspark.models.input_drift import add_counts, compare, count_values
from cnnspark.stages.requests import ScoreRequest
from cnnspark.tensors.dataset import Dataset, block_file, dataset_folder
from cnnspark.tensors.dataset_card import read_columns
from tests.conftest import Sample, read_lines, write_vcf

pytestmark = pytest.mark.spark


def rewritten(sample: Sample, path: Path, info: str, to: str) -> InputPaths:
    """The sample's callset with something else in INFO."""
    with pysam.VariantFile(str(sample.paths.vcf)) as vcf:
        header, name = [line.strip() for line in str(vcf.header).splitlines()[:-1]], vcf.header.samples[0]
    lines = []
    for line in read_lines(str(sample.paths.vcf)):
        columns = line.split("\t")
        columns[7] = re.sub(info, to, columns[7]).strip(";") or "."
        lines.append("\t".join(columns))
    plain = Path(write_vcf(path.with_suffix(""), lines, header))
    plain.write_text(plain.read_text().replace("FORMAT\tS1", f"FORMAT\t{name}"))
    pysam.tabix_compress(str(plain), str(path))
    pysam.tabix_index(str(path), preset="vcf")
    return dataclasses.replace(sample.unlabelled, vcf=str(path))


@pytest.fixture(scope="module")
def cohort(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> InputPaths:
    """The same records with INFO/DP as a cohort has it."""
    return rewritten(sample, tmp_path_factory.mktemp("cohort") / "a.vcf.gz", r"(^|;)DP=(\d+)", r"\1DP=5\2")


@pytest.fixture(scope="module")
def scored(spark: Any, sample: Sample, cohort: InputPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort's callset, scored without --strict."""
    out = tmp_path_factory.mktemp("scored") / "run"
    stages.score_callset(spark, ScoreRequest(cohort, sample.model, str(out), sample.config))
    return out


def command(paths: InputPaths, model: str, out: Path, *more: str) -> list[str]:
    inputs = ["--vcf", str(paths.vcf), "--reads", str(paths.reads), "--reference", str(paths.reference)]
    return ["score", *inputs, "--model", model, "--out", str(out), "--set", "blocks.records=20", *more]


def test_the_callset_that_a_model_was_trained_on_passes_silently(
    spark: Any, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(sample.unlabelled, sample.model, tmp_path / "out", "--strict")) == 0
    assert "warning" not in capsys.readouterr().err
    table = json.loads((tmp_path / "out" / "guard.json").read_text())
    assert table["compared"] and table["outside"] == []
    card = read_card(sample.model)
    assert [row["name"] for row in table["inputs"]] == [*card.annotation_names, *card.feature_names]


def test_a_model_knows_the_alleles_of_its_training_blocks(sample: Sample) -> None:
    dataset, card = Dataset(sample.dataset), read_card(sample.model)
    held = card.data["validation"]
    assert card.known is not None and card.known.alleles == card.data["train"] == dataset.card["tensors"] - held
    folder = dataset_folder(sample.dataset)
    values = np.concatenate([read_columns(block_file(folder, block["block"])) for block in dataset.blocks])
    assert not compare(card.known, count_values(card.known, values)).outside


def test_the_counts_in_the_manifest_are_those_of_all_alleles(sample: Sample, scored: Path) -> None:
    manifest = json.loads((scored / "manifest.json").read_text())
    assert manifest["guard"] == json.loads((scored / "guard.json").read_text())
    assert manifest["guard"]["alleles"] == manifest["counts"]["alleles scored"]
    for row in manifest["guard"]["inputs"]:
        assert sum(row["counts"]) == manifest["guard"]["alleles"]
    assert not any("input_counts" in row for row in manifest["shards"])
    known = read_card(sample.model).known
    assert known is not None
    rows = [json.loads(path.read_text())["input_counts"] for path in sorted((scored / "manifest").iterdir())]
    assert add_counts(known, rows) == [row["counts"] for row in manifest["guard"]["inputs"]]


def test_another_callset_is_said_and_with_strict_is_exit_code_5_and_resumable(
    spark: Any, sample: Sample, cohort: InputPaths, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(command(cohort, sample.model, out, "--strict")) == 5
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(
        r"cnnspark: \d+ of \d+ model inputs (is|are) distributed differently from the training data: ", said
    )
    assert re.search(r"INFO/DP \(distance 1\.00\)", said)
    assert "--strict" in said and "--if-exists resume" in said
    assert (out / "guard.json").read_bytes() == (scored / "guard.json").read_bytes()
    assert not any((out / name).exists() for name in ("_SUCCESS", "manifest.json", "merged.vcf.gz"))
    shards = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    assert len(shards) > 5
    # strict again: the same answer; without: it goes on from there
    assert main(command(cohort, sample.model, out, "--strict", "--if-exists", "resume")) == 5
    capsys.readouterr()
    assert main(command(cohort, sample.model, out, "--if-exists", "resume")) == 0
    assert re.search(r"warning: \d+ of \d+ model inputs (is|are) distributed differently", capsys.readouterr().err)
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()} == shards
    assert (out / "merged.vcf.gz").read_bytes() == (scored / "merged.vcf.gz").read_bytes()
    assert (out / "_SUCCESS").exists()


def test_a_resumed_run_counts_each_block_once(
    spark: Any, sample: Sample, cohort: InputPaths, scored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(scored, out)
    for name in ("manifest/block-000002.json", "shards/block-000004.vcf.gz", "guard.json", "_SUCCESS"):
        (out / name).unlink()
    stages.score_callset(spark, ScoreRequest(cohort, sample.model, str(out), sample.config, "resume"))
    assert (out / "guard.json").read_bytes() == (scored / "guard.json").read_bytes()


def test_another_callers_annotations_are_said(spark: Any, sample: Sample, tmp_path: Path) -> None:
    paths = rewritten(sample, tmp_path / "a.vcf.gz", r".*", "X=1")
    with pytest.raises(QualityError, match=r"\(missing\) and \d+ more \(see guard.json"):
        stages.score_callset(
            spark, ScoreRequest(paths, sample.model, str(tmp_path / "out"), sample.config, strict=True)
        )


def test_reads_and_reference_of_another_sample_are_said(spark: Any, sample: Sample, tmp_path: Path) -> None:
    """Another genome of the same names and lengths: what REF agrees with by chance would be scored."""
    from cnnspark.simulation import simulate

    other = simulate(tmp_path / "other", seed=6, length=60_000, coverage=20)
    paths = dataclasses.replace(sample.unlabelled, reads=str(other.reads), reference=str(other.reference))
    config = dataclasses.replace(
        sample.config, tensors=dataclasses.replace(sample.config.tensors, on_ref_mismatch="skip")
    )
    with pytest.raises(QualityError, match="alt_fraction|ref_fraction|neither_fraction|difference_|alt_"):
        stages.score_callset(spark, ScoreRequest(paths, sample.model, str(tmp_path / "out"), config, strict=True))


@pytest.fixture
def old_model(sample: Sample, tmp_path: Path) -> str:
    """The model with a card as it was before there were calibration, sensitivities and histograms."""
    shutil.copytree(sample.model, tmp_path / "old")
    card = json.loads((tmp_path / "old" / "model.json").read_text())
    for name in ("calibration", "sensitivity_thresholds", "known", "card_sha256"):
        del card[name]
    (tmp_path / "old" / "model.json").write_text(json.dumps(card))
    return str(tmp_path / "old")


def test_a_model_with_an_older_card_scores_and_compares_nothing(
    spark: Any, sample: Sample, cohort: InputPaths, old_model: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="leave --strict out"):
        stages.score_callset(
            spark, ScoreRequest(cohort, old_model, str(tmp_path / "strict"), sample.config, strict=True)
        )
    assert not (tmp_path / "strict").exists()
    out = tmp_path / "out"
    result = stages.score_callset(spark, ScoreRequest(cohort, old_model, str(out), sample.config))
    assert result["guard"] is None and not (out / "guard.json").exists()
    header = str(pysam.VariantFile(str(out / "merged.vcf.gz")).header)
    assert "_precision_0.70" in header and "_sensitivity_" not in header
    with pytest.raises(UsageError, match="no thresholds by sensitivity"):
        stages.filter_callset(
            spark, str(out), str(tmp_path / "f.vcf.gz"), sample.config, FilterOptions(sensitivity=0.9)
        )


def test_filtering_by_sensitivity_takes_the_cards_thresholds(
    spark: Any, sample: Sample, scored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "f.vcf.gz"
    assert main(["filter", "--in", str(scored), "--out", str(out), "--sensitivity", "0.995"]) == 0
    thresholds = read_card(sample.model).sensitivity_thresholds
    of_all = thresholds["ALL"]["0.995"]
    own = {group: thresholds[group]["0.995"] for group in ("SNP", "INDEL")}
    texts = [f"{group} {of_all if value is None else value:.3f}" for group, value in own.items()]
    line = f"CNN_2D below {', '.join(texts)} (sensitivity 0.995 on the model's validation data)"
    assert line in str(pysam.VariantFile(str(out)).header)
    with pytest.raises(UsageError, match="give one of --precision and --sensitivity"):
        stages.filter_callset(
            spark, str(scored), str(tmp_path / "g.vcf.gz"), sample.config, FilterOptions(precision=0.9, sensitivity=0.9)
        )
