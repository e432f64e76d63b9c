"""Scoring in two stages: which model scores what, what header and records say of it, and the bundle of both."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.config import InputPaths, load_config
from cnnspark.errors import InputError, UsageError
from cnnspark.execution import shards
from cnnspark.execution.blocks import Block, share_out
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfHeader, VcfSource
from cnnspark.models.bundle import save_bundle
from cnnspark.models.card import Card, model_tensors, read_card
from cnnspark.models.cascade import Band, Cascade
from cnnspark.models.networks.registry import build_model
from cnnspark.models.spec import ModelSpec
from cnnspark.scoring import cascade_band, predict, score
from cnnspark.scoring.cascade import (
    PASSED_ON,
    FirstStage,
    first_stage,
    header_with_stages,
    refuse_untrained,
    require_pair,
)
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.stages import cascade as cascade_stage
from cnnspark.stages.explain import explain
from cnnspark.stages.plan import plan_callset
from cnnspark.stages.requests import ScoreRequest
from cnnspark.tensors.batches import scoring_batches
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.dataset import Dataset, decode
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import SITE_FEATURES, feature_columns
from cnnspark.training.data import hold_out
from cnnspark.variants.alleles import UNKNOWN
from cnnspark.variants.score_fields import log_odds
from tests.conftest import Sample, read_lines

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEATURES, READS = "bundled:features", "bundled:reads"
CARD = Card(model="reads", spec=ModelSpec(), sha256="0123456789abcdef" * 4)
FIRST = FirstStage("m/first", "features", "fedcba9876543210" * 4, "d", Band(0.002, 0.995))
HEADER = VcfHeader(["##fileformat=VCFv4.2", "#CHROM\tPOS"])


def bundle_of(out: Path, band: Band, by_default: bool = True, first: str = FEATURES, second: str = READS) -> str:
    """A bundle of two models with a band of our own."""
    made = Cascade(read_card(first).sha256, band, by_default)
    cascade_stage.write_cascade(str(out), first, second, dataclasses.replace(read_card(second), cascade=made))
    return str(out)


# Which model comes first.


def test_the_card_says_whether_there_are_two_stages_unless_a_run_does(tmp_path: Path) -> None:
    band = Band(0.01, 0.9)
    for by_default in (False, True):
        model = bundle_of(tmp_path / str(by_default), band, by_default)
        card = read_card(model)
        assert (card.model, card.cascade) == ("reads", Cascade(read_card(FEATURES).sha256, band, by_default))
        assert first_stage(model, card, False) is None
        of_first = read_card(FEATURES)
        expected = FirstStage(f"{model}/first", "features", of_first.sha256, of_first.digest, band)
        assert first_stage(model, card, True) == expected
        assert first_stage(model, card, None) == (expected if by_default else None)


def test_what_cannot_come_first_or_second_is_one_sentence(tmp_path: Path) -> None:
    card = read_card(READS)
    alone = dataclasses.replace(card, cascade=None)
    with pytest.raises(UsageError, match="has no first model .* 'cnnspark cascade', or leave --cascade out"):
        first_stage("mine", alone, True)
    for name in ("features", "gatk_2d"):
        with pytest.raises(UsageError, match=f"is a '{name}' model, and a cascade is 'features' before 'reads'"):
            first_stage("mine", dataclasses.replace(alone, model=name), True)
    with pytest.raises(UsageError, match="a 'reads' model; what comes first is 'features'"):
        require_pair("a", card, "b", card)
    features = read_card(FEATURES)
    other = dataclasses.replace(features, spec=dataclasses.replace(features.spec, feature_names=(), feature_edges=()))
    with pytest.raises(UsageError, match="a takes no site features; train it on a dataset that was built with --reads"):
        require_pair("a", other, "b", card)
    deeper = {**features.data, "tensors": {**features.data["tensors"], "read_limit": 1}}
    with pytest.raises(UsageError, match="other settings of tensors"):
        require_pair("a", dataclasses.replace(features, data=deeper), "b", card)
    with pytest.raises(UsageError, match="pre-trained only"):
        require_pair("a", dataclasses.replace(features, training={"objective": "pretrain"}), "b", card)
    with pytest.raises(UsageError, match="trained by this run"):
        refuse_untrained(True)
    model = bundle_of(tmp_path / "m", Band())
    changed = dataclasses.replace(read_card(model), cascade=Cascade("0" * 64, Band()))
    with pytest.raises(InputError, match="not the model that the band of .* was chosen for"):
        first_stage(model, changed, True)


def test_the_bundled_reads_has_a_first_model_whatever_folders_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reads").mkdir()
    no_data = str(tmp_path / "none")
    # The models go together; what is missing are the data.
    with pytest.raises(InputError, match=no_data):
        cascade_stage.make_cascade([no_data], None, READS, str(tmp_path / "out"))
    with pytest.raises(UsageError, match=f"no model to come before {tmp_path}/mine; give one with --first"):
        cascade_stage.make_cascade([no_data], None, "mine", str(tmp_path / "out"))


def test_a_card_without_a_cascade_is_written_as_it_was() -> None:
    assert "cascade" not in CARD.to_json()
    card = dataclasses.replace(CARD, cascade=Cascade("0" * 64, Band(0.1, 0.9), False, 9, 3, {"AUPRC": {"alone": 1.0}}))
    assert Card.from_json(json.loads(json.dumps(card.to_json()))) == card
    for wrong in ({"band": {"low": 2, "high": 3}}, {"band": None}, {}):
        values = card.to_json() | {"cascade": {"first_sha256": "x", **wrong}}
        with pytest.raises((KeyError, TypeError, ValueError)):
            Card.from_json(values)


# The header.


def test_the_header_says_which_models_and_which_band_and_only_once() -> None:
    header = header_with_stages(HEADER, "x.vcf", FIRST, CARD, "CNN_2D")
    text = header.text()
    assert (header.info["CNN_STAGE"].number, header.info["CNN_STAGE"].type) == ("A", "Integer")
    for said in ("First=features", FIRST.sha256, "Second=reads", CARD.sha256, "Low=0.002,High=0.995", "from 0.002 to"):
        assert said in text
    assert header_with_stages(header, "x.vcf", FIRST, CARD, "CNN_2D").text() == text
    assert header_with_stages(header, "x.vcf", None, CARD, "CNN_2D").text() == HEADER.text()


def test_a_field_of_the_same_name_and_another_type_is_refused_or_left() -> None:
    lines = ["##fileformat=VCFv4.2", '##INFO=<ID=CNN_STAGE,Number=1,Type=String,Description="">', "#CHROM\tPOS"]
    with pytest.raises(InputError, match="bcftools annotate -x INFO/CNN_STAGE"):
        header_with_stages(VcfHeader(lines), "x.vcf", FIRST, CARD, "CNN_2D")
    assert header_with_stages(VcfHeader(lines), "x.vcf", None, CARD, "CNN_2D").lines == tuple(lines)


# The scores.


def worked(inputs: Inputs, model: str, cascade: bool | None = None) -> tuple[list[Record], dict[str, int]]:
    """A contig's records through the bare function, and the counts."""
    card = read_card(model)
    tensors = model_tensors(model, card, TensorSettings())
    first = first_stage(model, card, cascade)
    work = score.score_work(inputs, ScoringPlan(model, card, tensors, ScoreSettings(), first))
    with VcfSource(inputs.vcf) as source:
        contig = source.contigs[0]
    output = work(Block(0, Region(contig)))
    return [Record(line) for line in output.lines], dict(output.counts)


def scores_of(records: list[Record]) -> list[str]:
    """All that a run says, without the stage."""
    for record in records:
        record.drop_info(("CNN_STAGE",))
    return [record.line() for record in records]


@pytest.fixture(scope="module")
def inputs(simulated: InputPaths) -> Inputs:
    return Inputs(str(simulated.vcf), str(simulated.reads), str(simulated.reference))


@pytest.fixture(scope="module")
def alone(inputs: Inputs) -> dict[str, list[Record]]:
    return {model: worked(inputs, model, False)[0] for model in (FEATURES, READS)}


def numbers(record: Record, key: str) -> list[float]:
    return [float(text) for text in str(record.info_value(key)).split(",")]


def test_a_band_of_everything_gives_the_second_models_scores_and_an_empty_one_the_firsts(
    inputs: Inputs, alone: dict[str, list[Record]], tmp_path: Path
) -> None:
    for name, band, model, stage in (("all", Band(0, 1), READS, 2), ("none", Band(0.5, 0.5), FEATURES, 1)):
        records, counts = worked(inputs, bundle_of(tmp_path / name, band))
        assert {value for record in records for value in numbers(record, "CNN_STAGE")} == {stage}
        assert counts[PASSED_ON] == (counts["alleles scored"] if stage == 2 else 0)
        assert scores_of(records) == [record.line() for record in alone[model]]


def test_each_allele_has_the_score_of_the_stage_that_it_came_to(
    inputs: Inputs, alone: dict[str, list[Record]], tmp_path: Path
) -> None:
    band = Band(0.01, 0.97)
    low, high = (float(x) for x in log_odds(np.array([band.low, band.high])))
    records, counts = worked(inputs, bundle_of(tmp_path / "m", band))
    seen: list[float] = []
    for record, first, second in zip(records, alone[FEATURES], alone[READS], strict=True):
        of_first = numbers(first, "CNN_ALT_SCORES")
        found = numbers(record, "CNN_STAGE")
        assert found == [2 if low <= value < high else 1 for value in of_first]
        both = zip(found, of_first, numbers(second, "CNN_ALT_SCORES"), strict=True)
        wanted = [value if stage == 1 else other for stage, value, other in both]
        # The second network's batches are others, and so is the order of its sums.
        assert numbers(record, "CNN_ALT_SCORES") == pytest.approx(wanted, abs=2e-3)
        assert numbers(record, "CNN_2D") == [max(numbers(record, "CNN_ALT_SCORES"))]
        seen += found
    assert 0 < counts[PASSED_ON] == seen.count(2) < len(seen) == counts["alleles scored"]
    share = counts[PASSED_ON] / counts["alleles scored"]
    assert f"{counts[PASSED_ON]} of them ({share:.1%}) passed on to 'reads'" in score.counts_text(counts)


# The command, and a whole run.


@pytest.fixture(scope="module")
def two(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The sample's ``features`` model, and an untrained ``reads``, whose data were others, and which knows every second
    of the site features, in another order."""
    card = read_card(sample.model)
    names, edges = card.spec.feature_names[::-2], card.spec.feature_edges[::-2]
    spec = dataclasses.replace(card.spec, feature_names=names, feature_edges=edges)
    made = dataclasses.replace(card, model="reads", spec=spec, data={**card.data, "sha256": "", "path": []})
    second = tmp_path_factory.mktemp("second") / "reads"
    save_bundle(second, build_model("reads", spec), dataclasses.replace(made, known=None))
    return sample.model, str(second)


def test_a_model_takes_the_site_features_that_it_knows(sample: Sample, two: tuple[str, str]) -> None:
    dataset, card = Dataset(sample.dataset), read_card(two[1])
    blocks = [block["block"] for block in dataset.blocks]
    groups = list(dataset.read(blocks))
    known = np.concatenate([values["label"] for values in groups]) != UNKNOWN
    bundle = predict.loaded_model(two[1], card.digest, 1)
    found, expected = [], []
    for batch in map(decode, groups):
        found.append(predict.predicted_probabilities(bundle, batch, 64, Block(0, Region("chrA"))))
        by_name = dict(zip(SITE_FEATURES, batch.site_features.T, strict=True))
        picked = dataclasses.replace(batch, site_features=np.stack([by_name[n] for n in card.feature_names], axis=1))
        values = np.zeros(len(batch))
        for chosen, arrays in scoring_batches(picked, 64, bundle.inputs):
            values[chosen] = bundle.predict(arrays)
        expected.append(values)
    assert np.concatenate(found).std() > 1e-3
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    cards = (read_card(two[0]), card)
    labels, _, second, _, _ = cascade_stage.probabilities_of(dataset, blocks, two, cards, ScoreSettings())
    assert len(labels) == known.sum() > 50
    np.testing.assert_allclose(second, np.concatenate(expected)[known], atol=1e-6)


def test_a_site_feature_that_is_not_built_any_more_is_one_sentence(two: tuple[str, str]) -> None:
    assert feature_columns(SITE_FEATURES[::-1], "m") == list(range(len(SITE_FEATURES)))[::-1]
    assert feature_columns((), "m") == []
    card = read_card(two[0])
    older = dataclasses.replace(card.spec, feature_names=("of_before",), feature_edges=card.spec.feature_edges[:1])
    with pytest.raises(InputError, match="m expects the site feature 'of_before', which .* or train it again"):
        model_tensors("m", dataclasses.replace(card, spec=older), TensorSettings())


def test_only_blocks_that_no_model_was_trained_on_count(sample: Sample, two: tuple[str, str]) -> None:
    dataset, cards = Dataset(sample.dataset), (read_card(two[0]), read_card(two[1]))
    held = hold_out(dataset, 0.3)[1]
    assert cascade_stage.validation_blocks(dataset, [sample.dataset], two, cards) == held
    every = [block["block"] for block in dataset.blocks]
    assert cascade_stage.validation_blocks(dataset, [sample.dataset], two[1:], cards[1:]) == every
    partly = dataclasses.replace(cards[0], data={**cards[0].data, "sha256": "another"})
    with pytest.raises(UsageError, match="was trained on some of these datasets; give all 1"):
        cascade_stage.validation_blocks(dataset, [sample.dataset], two[:1], [partly])


@pytest.mark.spark
def test_the_command_makes_a_bundle_that_scores_in_two_stages_with_the_same_bytes_on_any_partitions(
    spark: SparkSession, sample: Sample, two: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "both"
    command = ["cascade", "--data", sample.dataset, "--first", two[0], "--model", two[1], "--out", str(out), "--json"]
    assert main(command) == 3 and "too few to choose a band by" in capsys.readouterr().err and not out.exists()
    monkeypatch.setattr(cascade_band, "LEAST_OF_EACH_CLASS", 2)
    monkeypatch.setattr(cascade_stage, "BLOCK_BASES", 2_000)
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    card = read_card(out)
    assert card.cascade is not None and card.cascade.by_default
    assert (card.cascade.alleles, card.cascade.passed_on) == (said["chosen"]["alleles"], said["chosen"]["passed_on"])
    assert card.cascade.figures["AUPRC"]["alone"] == pytest.approx(said["chosen"]["alone"]["AUPRC"], abs=1e-6)
    assert read_card(out / "first").sha256 == card.cascade.first_sha256 == read_card(two[0]).sha256
    assert main(command) == 2  # it is there already

    inputs = ["--vcf", str(sample.paths.vcf), "--reads", str(sample.paths.reads)]
    asked = ["score", *inputs, "--reference", str(sample.paths.reference), "--out", str(tmp_path / "x")]
    assert main([*asked, "--model", two[1], "--cascade"]) == 2
    assert "has no first model that could score before it" in capsys.readouterr().err and not (tmp_path / "x").exists()

    # An untrained second model is sure of nothing; let it have some alleles all the same.
    model = bundle_of(tmp_path / "some", Band(0.05, 0.95), first=two[0], second=two[1])
    results: list[dict[str, Any]] = []
    for tasks in (1, 3):
        monkeypatch.setattr(shards, "deal", lambda s, blocks, n=tasks: share_out(blocks, n))
        results.append(
            stages.score_callset(
                spark, ScoreRequest(sample.unlabelled, model, str(tmp_path / str(tasks)), sample.config)
            )
        )
    one, three = (Path(result["merged"]).read_bytes() for result in results)
    assert one == three
    counts = results[0]["counts"]
    assert 0 < counts[PASSED_ON] < counts["alleles scored"]
    manifest = json.loads((tmp_path / "1" / "manifest.json").read_text())
    assert manifest["cascade"]["first_sha256"] == read_card(two[0]).sha256 and manifest["counts"][PASSED_ON] > 0

    # An explanation asks the model that gave the score.
    lines = [Record(line) for line in read_lines(results[0]["merged"])]
    for stage, name in ((1, "features"), (2, "reads")):
        record = next(each for each in lines if each.info_value("CNN_STAGE") == str(stage))
        at = f"{record.contig}:{record.start + 1}"
        found = explain(InputPaths(vcf=str(tmp_path / "1")), None, at, record.alts[0], str(tmp_path / "call.html"))
        assert (found["model"]["name"], found["model"]["stage"]) == (name, stage)
        assert found["score"] == pytest.approx(float(str(record.info_value("CNN_2D"))), abs=2e-3)
        assert found["stored"]["same_model"] and f"of two models, '{name}'" in found["summary"][1]

    # Resumed otherwise than begun it is another run; scored again without the first model nothing is left of it.
    config = load_config(None, ["blocks.records=20", "score.cascade=false"])
    with pytest.raises(UsageError, match="--if-exists"):
        stages.score_callset(spark, ScoreRequest(sample.unlabelled, model, str(tmp_path / "1"), config, "resume"))
    scored = Inputs(results[0]["merged"], sample.paths.reads, str(sample.paths.reference))
    records, counts = worked(scored, model, False)
    assert records and all(each.info_value("CNN_STAGE") is None and each.info_value("CNN_2D") for each in records)
    assert PASSED_ON not in counts


def test_a_plan_says_that_less_will_go_on(inputs: Inputs, tmp_path: Path) -> None:
    paths = InputPaths(vcf=inputs.vcf, reads=inputs.reads, reference=inputs.reference)
    model = bundle_of(tmp_path / "m", Band(0.1, 0.9))
    assert any("second model" in note for note in plan_callset(paths, load_config(), model).notes)
    alone = load_config(None, ["score.cascade=false"])
    assert not any("second model" in note for note in plan_callset(paths, alone, model).notes)
