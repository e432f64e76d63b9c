"""All stages in a row: what is kept when a run is repeated, and what is said before anything starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from cnnspark import pipeline
from cnnspark.config import InputPaths, load_config
from cnnspark.errors import InputError, UsageError
from tests.conftest import Sample, read_lines

pytestmark = pytest.mark.spark
CONFIG = load_config(None, ["blocks.records=20", "train.model=features", "train.epochs=2", "train.batch_size=16"])


def test_a_demo_that_was_interrupted_goes_on(spark: Any, tmp_path: Path) -> None:
    first = pipeline.demo(spark, str(tmp_path / "demo"), CONFIG, seed=3, length=60_000)
    folder = tmp_path / "demo" / "run"
    expected = read_lines(folder / "filtered.vcf.gz")
    reads, model = tmp_path / "demo" / "simulated" / "reads.bam", folder / "model" / "model.keras"
    untouched = [path.stat().st_mtime_ns for path in (reads, model, folder / "candidates.vcf.gz")]
    for path in (folder / "scored" / "_SUCCESS", folder / "scored" / "manifest" / "block-000001.json"):
        path.unlink()
    again = pipeline.demo(spark, str(tmp_path / "demo"), CONFIG, seed=3, length=60_000, if_exists="resume")
    assert read_lines(folder / "filtered.vcf.gz") == expected
    assert again.metrics == first.metrics
    assert [path.stat().st_mtime_ns for path in (reads, model, folder / "candidates.vcf.gz")] == untouched
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["inputs"]["vcf"] == str(folder / "candidates.vcf.gz")
    assert first.held_out and "Metrics on the held-out regions" in first.text()


def test_a_training_that_was_killed_is_overwritten(spark: Any, sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "run" / "model.ckpt").mkdir(parents=True)
    result = pipeline.run_all(spark, sample.paths, str(tmp_path / "run"), CONFIG, if_exists="overwrite")
    assert Path(result.model).exists()


def test_a_finished_model_is_used_and_measured_everywhere(spark: Any, sample: Sample, tmp_path: Path) -> None:
    result = pipeline.run_all(spark, sample.paths, str(tmp_path / "run"), CONFIG, sample.model)
    assert result.held_out == ()
    assert not (tmp_path / "run" / "tensors").exists()


@pytest.mark.parametrize(
    ("change", "model", "error"),
    [
        ({"reads": "nope.bam"}, None, InputError),
        ({"truth": None, "bed": None}, None, UsageError),
        ({"reference": None}, None, UsageError),
        ({"vcf": "nope.vcf.gz"}, None, InputError),
        ({"vcf": None}, "not-a-model", InputError),
    ],
)
def test_what_is_missing_is_said_before_the_folder_is_made(
    spark: Any, sample: Sample, tmp_path: Path, change: dict[str, Any], model: str | None, error: type[Exception]
) -> None:
    paths: InputPaths = dataclasses.replace(sample.paths, **change)
    with pytest.raises(error):
        pipeline.run_all(spark, paths, str(tmp_path / "run"), CONFIG, model)
    assert not (tmp_path / "run").exists()
