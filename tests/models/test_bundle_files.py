"""The models that come with cnnspark: which is meant by a name, what their cards say, and that they score."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import benchmarks.models.bundled
from cnnspark import stages
from cnnspark.common.storage import location
from cnnspark.config import load_config
from cnnspark.errors import InputError
from cnnspark.formats.vcf import VcfSource
from cnnspark.models import bundle_files
from cnnspark.models.bundle_files import (
    BUNDLED,
    absolute_model,
    bundle_folder,
    chosen_model,
    is_bundled,
    new_bundle,
    notice,
)
from cnnspark.models.card import read_card
from cnnspark.models.cascade import Band, Cascade
from cnnspark.scoring.cascade import first_stage
from cnnspark.stages import pipeline
from cnnspark.stages.cascade import write_cascade
from cnnspark.stages.requests import RunRequest, ScoreRequest
from tests.conftest import Sample

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_a_name_is_the_bundled_model_unless_there_is_such_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert chosen_model(None, with_reads=True) == chosen_model("reads", with_reads=False) == "bundled:reads"
    assert chosen_model(None, with_reads=False) == "bundled:reference"
    assert chosen_model("models/mine", with_reads=True) == "models/mine"
    assert absolute_model("bundled:reads") == "bundled:reads" and absolute_model("mine") == str(tmp_path / "mine")
    (tmp_path / "reads").mkdir()
    assert chosen_model("reads", with_reads=True) == "reads"
    assert notice("reads") == "" and "simulated reads" in notice("bundled:reads")


def test_a_bundled_model_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no bundled model 'mine'; choose one of features"):
        read_card("bundled:mine")
    monkeypatch.setattr(bundle_files, "_FOLDER", tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no bundled models .* --model a folder"):
        read_card("bundled:reads")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_card_says_what_the_model_was_made_of(name: str) -> None:
    card = read_card(f"bundled:{name}")
    assert card.model == name
    assert "simulated" in card.data["kind"]
    assert card.data["train"] > 200_000
    edges = [*card.spec.annotation_edges, *card.spec.feature_edges]
    assert {len(row) - 1 for row in edges} == {card.training["bins"]}
    assert card.training["hidden_units"] == list(card.spec.hidden_units)
    text = (bundle_folder(f"bundled:{name}") / "model.json").read_text()
    assert os.sep + "tmp" not in text and not any(str(path).startswith("/") for path in card.data["path"])
    for group in ("SNP", "INDEL"):
        assert card.thresholds[group]["0.95"] is not None
        assert card.sensitivity_thresholds[group]["0.99"] is not None
    assert card.known is not None and len(card.known.histograms) == len(card.annotation_names) + len(card.feature_names)


def test_all_of_them_are_small() -> None:
    folder = bundle_folder("bundled:reads").parent
    found = {str(path.parent.relative_to(folder)) for path in folder.rglob("model.json")}
    assert found == {*BUNDLED, "reads/first"} - {"features"}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4_000_000


def test_the_first_of_the_bundled_cascade_is_the_bundled_features() -> None:
    first = first_stage("bundled:reads", read_card("bundled:reads"), True)
    assert first is not None and first.model == "bundled:reads/first"
    assert first.sha256 == read_card("bundled:features").sha256
    assert bundle_folder(first.model) == bundle_folder("bundled:features")
    assert (
        first_stage("bundled:reads", read_card("bundled:reads"), None) is None
    ) != benchmarks.models.bundled.CASCADE_BY_DEFAULT
    for name in ("bundled:reads/second", "bundled:features/first"):
        with pytest.raises(InputError, match="no bundled model"):
            read_card(name)


def test_a_bundle_is_installed_with_the_model_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(read_card("bundled:reads"), cascade=Cascade(read_card("bundled:features").sha256, Band(0.01, 0.99)))
    write_cascade(str(tmp_path / "both"), "bundled:features", "bundled:reads", made)
    monkeypatch.setattr(benchmarks.models.bundled, "PRETRAINED", tmp_path / "package")
    size = benchmarks.models.bundled.install(tmp_path / "both", "reads")
    installed = tmp_path / "package" / "reads"
    names = sorted(str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file())
    assert names == ["first/model.json", "first/model.keras", "model.json", "model.keras"]
    assert size == sum((installed / name).stat().st_size for name in names)
    assert read_card(str(installed)).cascade == made.cascade
    first = first_stage(str(installed), read_card(str(installed)), True)
    assert first is not None and first.sha256 == read_card("bundled:features").sha256


@pytest.mark.parametrize("with_reads", [True, False])
def test_without_a_model_the_bundled_one_scores_and_says_so(
    spark: SparkSession, sample: Sample, with_reads: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sample.unlabelled if with_reads else replace(sample.unlabelled, reads=None)
    name = "reads" if with_reads else "reference"
    summary = stages.score_callset(spark, ScoreRequest(paths, None, str(tmp_path / "scored"), sample.config))
    assert f"bundled '{name}', trained on simulated reads alone" in capsys.readouterr().err
    card = read_card(f"bundled:{name}")
    assert summary["model"] == card.sha256 and is_bundled(chosen_model(None, with_reads))
    # The same as by its folder.
    again = stages.score_callset(
        spark, ScoreRequest(paths, str(bundle_folder(f"bundled:{name}")), str(tmp_path / "again"), sample.config)
    )
    assert Path(summary["merged"]).read_bytes() == Path(again["merged"]).read_bytes()
    with VcfSource(summary["merged"]) as source:
        assert card.score_key in source.header.info


def test_a_run_without_truth_scores_and_filters_with_the_bundled_model(
    spark: SparkSession, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = pipeline.run_all(spark, RunRequest(sample.unlabelled, str(tmp_path / "run"), load_config(None, [])))
    said = capsys.readouterr().err
    assert "trained on simulated reads alone" in said and "keep 99.9% of the true alleles" in said
    assert result.model == "bundled:reads" and result.evaluation is None
    card = read_card("bundled:reads")
    by_type = card.sensitivity_thresholds
    # The header that the filter reads has three decimals.
    wanted = {group: by_type[group]["0.999"] for group in ("SNP", "INDEL")}
    assert result.thresholds == pytest.approx(wanted, abs=6e-4)
    assert result.filtered_counts["passed"] > 0


def written(target: str, *names: str, fails: bool = False, replace: bool = True) -> set[str]:
    """The files of ``target`` after these were written to it."""
    with new_bundle(target, replace) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        if fails:
            raise RuntimeError("in the middle")
    return there(target)


def there(target: str) -> set[str]:
    found = location(target).rglob("*")
    return {str(path).removeprefix(f"{location(target)}/") for path in found if path.is_file()}


@pytest.mark.parametrize("place", ["{}/m", "memory://bundles/{}/m"])
def test_a_bundle_replaces_another_with_all_its_files(place: str, tmp_path: Path) -> None:
    target = place.format(tmp_path)
    assert written(target, "first/model.json", "model.keras", "model.json") == {
        "first/model.json", "model.keras", "model.json",
    }  # fmt: skip
    with pytest.raises(InputError, match="exists; give another name or --if-exists overwrite"):
        written(target, "model.json", replace=False)
    with pytest.raises(RuntimeError):
        written(target, "history.json", fails=True)
    assert there(target) == {"first/model.json", "model.keras", "model.json"}
    assert written(target, "model.keras", "model.json") == {"model.keras", "model.json"}
    if not place.startswith("memory"):
        assert [path.name for path in tmp_path.iterdir()] == ["m"]
