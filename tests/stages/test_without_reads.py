"""Models that look at no reads: their datasets, training and scoring need none. And GATK's networks train."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from cnnspark import stages
from cnnspark.config import InputPaths, load_config
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.models.bundle import load_bundle
from cnnspark.models.card import read_card
from cnnspark.models.spec import moments
from cnnspark.stages import pipeline
from cnnspark.stages.preflight import choose_column
from cnnspark.stages.requests import RunRequest, ScoreRequest
from cnnspark.training import train
from cnnspark.training.job import check_data, prepare_job
from cnnspark.training.settings import TrainSettings
from tests.conftest import read_lines, write_vcf
from tests.support.synthetic_training import write_synthetic

RECORDS = 90
SETTINGS = ["blocks.records=30", "train.epochs=1", "train.validation=0.3", "train.batch_size=16"]


def first_records(simulated: InputPaths, folder: Path) -> InputPaths:
    """The simulated sample without its reads, and with the first records of its callset alone."""
    with pysam.BGZFile(str(simulated.vcf), "rb", None) as source:
        lines = [line.decode() for line in source]
    header = [line for line in lines if line.startswith("#")]
    path = folder / "first.vcf"
    path.write_text("\n".join([*header, *lines[len(header) : len(header) + RECORDS]]) + "\n")
    return dataclasses.replace(simulated, vcf=str(path), reads=None)


@pytest.mark.spark
def test_the_whole_way_with_gatk_1d_never_opens_the_reads(spark: Any, simulated: InputPaths, tmp_path: Path) -> None:
    paths = first_records(simulated, tmp_path)
    config = load_config(None, [*SETTINGS, "train.model=gatk_1d", "tensors.encoding=gatk"])
    result = pipeline.run_all(spark, RunRequest(paths, str(tmp_path / "run"), config))
    records = [Record(line) for line in read_lines(result.merged)]
    assert all(record.info_value("CNN_1D") for record in records)
    assert len(records) == RECORDS
    assert result.metrics["ALL"]["CNN_1D"]["auprc"] > 0
    card = json.loads((tmp_path / "run" / "tensors" / "dataset.json").read_text())
    assert card["with_reads"] is False and card["site_features"] == []
    assert card["annotations"][:3] == ["MQ", "DP", "SOR"]
    model = read_card(result.model)
    assert model.data["tensors"]["encoding"] == "gatk" and len(model.spec.annotation_means) == 7
    # Reads that are given are not looked at: the same bytes, though these do not exist.
    given = dataclasses.replace(paths, truth=None, bed=None, reads=str(tmp_path / "nowhere.bam"))
    stages.score_callset(spark, ScoreRequest(given, result.model, str(tmp_path / "again"), config))
    assert (tmp_path / "again" / "merged.vcf.gz").read_bytes() == Path(result.merged).read_bytes()


@pytest.mark.spark
def test_annotations_alone_train_and_score_without_reads(spark: Any, simulated: InputPaths, tmp_path: Path) -> None:
    paths = first_records(simulated, tmp_path)
    config = load_config(None, [*SETTINGS, "train.model=features"])
    stages.build_dataset(spark, paths, str(tmp_path / "tensors"), config)
    train(spark, str(tmp_path / "tensors"), str(tmp_path / "model"), config.train)
    unlabelled = dataclasses.replace(paths, truth=None, bed=None)
    stages.score_callset(spark, ScoreRequest(unlabelled, str(tmp_path / "model"), str(tmp_path / "out"), config))
    assert all("CNN_1D=" in line for line in read_lines(tmp_path / "out" / "merged.vcf.gz"))
    with pytest.raises(UsageError, match="'reads' looks at reads"):
        prepare_job(str(tmp_path / "tensors"), str(tmp_path / "m"), dataclasses.replace(config.train, model="reads"))


@pytest.mark.spark
@pytest.mark.parametrize("kind", [pytest.param("gatk_1d", marks=pytest.mark.slow), "gatk_2d"])
def test_gatks_networks_train_alike_on_one_replica_and_on_two(spark: Any, tmp_path: Path, kind: str) -> None:
    data = write_synthetic(tmp_path / "data", train=17, validation=8)
    settings = TrainSettings(model=kind, epochs=1, batch_size=8, timeout_seconds=120)
    opener = f"tests.support.synthetic_training:open_{kind}"
    weights = []
    for replicas in (1, 2):
        chosen = dataclasses.replace(settings, replicas=replicas)
        out = str(tmp_path / f"model{replicas}")
        train(spark, data, out, chosen, lambda _: None, opener)
        weights.append(np.concatenate([np.asarray(w).ravel() for w in load_bundle(out).model.weights]))
    np.testing.assert_array_equal(weights[0], weights[1])
    bundle = load_bundle(str(tmp_path / "model1"))
    batch = dict(np.load(Path(data) / "train.npz"))
    means, variances = moments(batch["annotations"])
    normalize = bundle.model.get_layer("normalize")
    np.testing.assert_allclose(np.asarray(normalize.mean), means, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(normalize.variance), variances, rtol=1e-6)
    # gamma began at 1: it was trained, the moments were not
    assert np.abs(np.asarray(normalize.gamma) - 1).max() > 1e-5


@pytest.mark.parametrize(
    ("model", "encoding", "with_reads", "message"),
    [
        ("gatk_2d", "cnnspark", True, "takes tensors of encoding gatk"),
        ("reads", "gatk", True, "--set tensors.encoding=cnnspark"),
        ("gatk_1d", "gatk", True, "build its dataset without --reads"),
        ("reference", "cnnspark", True, "build its dataset without --reads"),
        ("gatk_2d", "gatk", False, "build the dataset with --reads"),
    ],
)
def test_networks_are_trained_on_tensors_that_they_will_be_given(
    model: str, encoding: str, with_reads: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_data(model, encoding, with_reads)


def test_what_fits_is_not_refused() -> None:
    for fits in (("gatk_1d", "gatk", False), ("gatk_2d", "gatk", True), ("reads", "cnnspark", True)):
        check_data(*fits)
    for encoding in ("gatk", "cnnspark"):
        for with_reads in (False, True):
            check_data("features", encoding, with_reads)


def test_the_samples_column_without_reads_is_the_one_asked_for(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "a.vcf.gz", ["c1 5 . A C . . . GT 0/1"])
    with VcfSource(path) as vcf:
        warnings: list[str] = []
        assert choose_column(vcf, None, warnings) == choose_column(vcf, "S1", warnings) == "S1"
        assert not warnings
        with pytest.raises(InputError, match="has no sample 'S2'"):
            choose_column(vcf, "S2", warnings)
    with VcfSource(write_vcf(tmp_path / "sites.vcf.gz", ["c1 5 . A C . . ."])) as vcf:
        assert choose_column(vcf, None, warnings) == ""
