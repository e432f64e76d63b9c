"""All stages in a row: what is kept when a run is repeated, and what is said before anything starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from cnnspark import stages
from cnnspark.config import Config, FilterChoice, InputPaths, load_config
from cnnspark.errors import InputError, UsageError
from cnnspark.models.card import Card, read_card
from cnnspark.models.selection import SelectedModel
from cnnspark.stages import pipeline
from cnnspark.stages.requests import RunRequest, ScoreRequest
from tests.conftest import Sample, read_lines

pytestmark = pytest.mark.spark
CONFIG = load_config(None, ["blocks.records=20", "train.model=features", "train.epochs=2", "train.batch_size=16"])


@pytest.mark.slow
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


def filtered_as_a_run(spark: Any, scored: str, filtered: str, config: Config, card: Card) -> dict[str, Any]:
    options = pipeline.run_filter(config.filter, SelectedModel("a/model", card))
    return stages.filter_callset(spark, scored, filtered, config, options, overwrite=True)


def test_a_training_that_was_killed_is_overwritten(spark: Any, sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "run" / "model.ckpt").mkdir(parents=True)
    result = pipeline.run_all(spark, RunRequest(sample.paths, str(tmp_path / "run"), CONFIG, if_exists="overwrite"))
    assert Path(result.model).exists()


def test_a_finished_model_is_used_and_measured_everywhere(spark: Any, sample: Sample, tmp_path: Path) -> None:
    result = pipeline.run_all(spark, RunRequest(sample.paths, str(tmp_path / "run"), CONFIG, sample.model))
    assert result.held_out == ()
    assert not (tmp_path / "run" / "tensors").exists()


def test_a_precision_that_was_chosen_is_never_lowered(spark: Any, sample: Sample, tmp_path: Path) -> None:
    card = read_card(sample.model)
    chosen = dataclasses.replace(CONFIG, filter=FilterChoice(precision=0.97))
    with pytest.raises(UsageError, match=r"has no threshold for precision 0.97 \(it has 0.7"):
        pipeline.run_all(spark, RunRequest(sample.paths, str(tmp_path / "run"), chosen, sample.model))
    assert not (tmp_path / "run").exists()
    # A model that the run itself trains is only known by then.
    scored, filtered = str(tmp_path / "scored"), str(tmp_path / "f.vcf.gz")
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, scored, CONFIG))
    with pytest.raises(UsageError, match="threshold for precision 0.97"):
        filtered_as_a_run(spark, scored, filtered, chosen, card)
    assert not Path(filtered).exists()
    # Nor is one below the usual.
    low = dataclasses.replace(CONFIG, filter=FilterChoice(precision=0.7))
    assert filtered_as_a_run(spark, scored, filtered, low, card)["thresholds"].keys() == {"SNP", "INDEL"}


def test_the_usual_precision_gives_way_to_the_next_lower_one_that_was_reached(
    spark: Any, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = read_card(sample.model)
    thresholds = {group: {"0.70": by["0.70"], "0.95": None} for group, by in card.thresholds.items()}
    card = dataclasses.replace(card, thresholds=thresholds)
    scored, filtered = str(tmp_path / "scored"), str(tmp_path / "f.vcf.gz")
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, scored, CONFIG))
    filtered_as_a_run(spark, scored, filtered, CONFIG, card)
    assert "warning: precision 0.95 was not reached in validation; filtering for 0.7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "model", "error"),
    [
        ({"reads": "nope.bam"}, None, InputError),
        ({"truth": None, "bed": None, "reference": None}, None, UsageError),
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
        pipeline.run_all(spark, RunRequest(paths, str(tmp_path / "run"), CONFIG, model))
    assert not (tmp_path / "run").exists()
