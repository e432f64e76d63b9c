"""The tables of what the networks cost, and of what a bundle is."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from cnnspark.cli import main
from cnnspark.errors import InputError, UsageError
from cnnspark.models.bundle import save_bundle
from cnnspark.models.calibration import Platt
from cnnspark.models.card import Card, training_ranges
from cnnspark.models.cascade import Band, Cascade
from cnnspark.models.names import MODELS
from cnnspark.models.networks.registry import build_model, complexity, layer_costs
from cnnspark.models.spec import ModelSpec
from cnnspark.models.summary import bundle_summary, bundle_text, models_summary, models_text, usual_spec
from tests.conftest import ROOT


def macs_by_hand(output: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """Each number of the output is a sum over a window of inputs: places x filters x window x channels."""
    return int(np.prod(output)) * int(np.prod(kernel[:-1]))


def test_gatks_networks_cost_what_is_known_of_them() -> None:
    """The figures of the reference implementation: 122.6 and 1,509.6 million, the latter of its convolutions alone."""
    one, two = (build_model(name, usual_spec(name)) for name in ("gatk_1d", "gatk_2d"))
    assert complexity(one) == (1_681_142, pytest.approx(122.6, abs=0.05))
    by_hand = [(117, 256), (106, 256), (95, 128)]
    kernels = [(12, 4, 256), (12, 256, 256), (12, 256, 128)]
    costs = {cost.name: cost.macs for cost in layer_costs(one)}
    assert [costs[f"conv_{i}"] for i in (1, 2, 3)] == list(map(macs_by_hand, by_hand, kernels))

    costs = {cost.name: cost.macs for cost in layer_costs(two, rows=128)}
    convolutions = [costs[f"conv_{i}"] for i in (1, 2, 3, 4)]
    by_hand = [(104, 128, 64), (104, 104, 48), (80, 104, 32), (26, 80, 24)]  # type: ignore[list-item]
    kernels = [(25, 1, 15, 64), (1, 25, 64, 48), (25, 1, 48, 32), (1, 25, 32, 24)]  # type: ignore[list-item]
    assert convolutions == list(map(macs_by_hand, by_hand, kernels))
    assert sum(convolutions) / 1e6 == pytest.approx(1509.6, abs=0.05)
    assert complexity(two, rows=128) == (
        529_394,
        pytest.approx(1509.6 + (15_424 * 24 + 7 * 64 + 24 * 4) / 1e6, abs=0.05),
    )
    # Rows that no read reaches are computed once: a third of the work at 32 reads.
    assert complexity(two, rows=32)[1] < 0.35 * complexity(two, rows=128)[1]


def test_every_kind_of_layer_that_has_a_kernel_is_counted() -> None:
    for name in MODELS:
        model = build_model(name, usual_spec(name))
        costs = layer_costs(model)
        for cost in costs:
            assert (cost.macs > 0) == hasattr(model.get_layer(cost.name), "kernel"), cost.name
        assert sum(c.parameters for c in costs) == sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def test_a_network_is_not_counted_on_fewer_rows_than_it_runs_on() -> None:
    with pytest.raises(UsageError, match="8 rows or more"):
        complexity(build_model("reads", ModelSpec()), rows=4)


def test_the_table_has_every_model_and_the_cost_that_it_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    summary = models_summary()
    assert list(summary["models"]) == list(MODELS)
    assert summary["models"]["reads"]["mmac"] <= 25 and summary["models"]["reference"]["mmac"] <= 3
    text = models_text(summary)
    assert [line.split()[0] for line in text.splitlines()] == ["model", *MODELS]
    assert re.search(r"features +50 annotations, 96 site features +[\d,]+ +0\.12$", text, re.MULTILINE)
    assert main(["model-summary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(summary))


def test_the_documents_table_says_what_the_command_prints() -> None:
    rows = re.findall(r"^\| `(\w+)`.*?\| ([\d,]+) \| ([\d,.]+) \|", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    costs = models_summary()["models"]
    assert sorted(name for name, _, _ in rows) == sorted(MODELS)
    for name, parameters, mmac in rows:
        assert int(parameters.replace(",", "")) == costs[name]["parameters"], name
        assert float(mmac.replace(",", "")) == pytest.approx(
            costs[name]["mmac"], abs=0.05 if costs[name]["mmac"] > 1 else 0.005
        ), name


def test_layers_are_listed_with_shapes_that_multiply_to_their_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model-summary", "--model", "reads", "--layers", "--rows", "16"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^sequence_1 +Conv2D +16 x 64 x 16 +976 +0\.983$", text, re.MULTILINE)
    assert re.search(r"MMAC at 16 reads", text)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model"
    edges = (tuple(map(float, range(9))),)
    spec = ModelSpec(("QUAL", "INFO/MQ"), ("f",), edges * 2, edges)
    values = np.array([[1, np.nan], [2, 3.0], [3, np.nan], [4, np.nan]])
    card = Card(
        model="features",
        spec=spec,
        ranges=training_ranges(spec.annotation_names, values),
        thresholds={"ALL": {"0.90": -1.25, "0.99": None}, "SNP": {"0.90": 0.5, "0.99": 2.0}},
        sensitivity_thresholds={"ALL": {"0.995": -3.5, "0.90": 1.75}, "INDEL": {"0.90": None, "0.995": -4.25}},
        calibration=Platt(0.8125, -0.5),
        metrics={"loss ALL": 0.25, "alleles ALL": 1234.0, "AUPRC ALL": 0.98765, "AUPRC SNP": 0.99},
        training={"best_epoch": 3, "epochs": 10, "loss": "cross_entropy"},
        data={"path": "/data/tensors", "train": 5000, "train_true": 3000, "train_false": 2000, "validation": 1234},
        versions={"cnnspark": "0.1.0"},
    )
    save_bundle(path, build_model("features", spec), card)
    return path


def test_a_bundles_facts_are_those_of_its_card(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = bundle_summary(bundle)
    assert summary["missing_shares"] == {"QUAL": 0.0, "INFO/MQ": 0.75}
    assert summary["inputs"] == {"annotations": 2, "site features": 1}
    text = bundle_text(summary)
    for said in (
        "5,000 alleles (3,000 true, 2,000 false) of /data/tensors, best epoch 3 of 10",
        "annotations missing in training: INFO/MQ 75%",
        f"SHA-256 {summary['sha256'][:16]}",
        "log odds = 0.8125 x logit -0.5000",
    ):
        assert said in text
    assert re.search(r"^alleles +1,234$", text, re.MULTILINE) and re.search(
        r"^AUPRC +0.9877 +0.9900$", text, re.MULTILINE
    )
    assert re.search(r"^ALL +-1.250 +-$", text, re.MULTILINE) and re.search(r"^SNP +0.500 +2.000$", text, re.MULTILINE)
    by_sensitivity = text[text.index("score for sensitivity") :].splitlines()[:3]
    assert [line.split() for line in by_sensitivity] == [
        ["score", "for", "sensitivity", "0.90", "0.995"], ["ALL", "1.750", "-3.500"], ["INDEL", "-", "-4.250"],
    ]  # fmt: skip
    assert summary["calibration"] == {"slope": 0.8125, "intercept": -0.5}
    assert summary["sensitivity_thresholds"]["ALL"] == {"0.995": -3.5, "0.90": 1.75}
    cascade = dataclasses.asdict(Cascade("0" * 64, Band(0.01, 0.99), by_default=False, alleles=200, passed_on=50))
    assert "cascade" not in text
    two = bundle_text({**summary, "cascade": cascade})
    assert "scores all, if asked to; probabilities from 0.01 to 0.99 go on, 25.0% of 200 validation alleles" in two
    assert main(["model-summary", "--bundle", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(summary))


def test_a_card_without_training_is_shown_as_well(tmp_path: Path) -> None:
    spec = ModelSpec(feature_names=("f",), feature_edges=(tuple(map(float, range(9))),))
    save_bundle(
        tmp_path / "m", build_model("features", spec), Card("features", spec, training={"imported_from": "x.hd5"})
    )
    text = bundle_text(bundle_summary(tmp_path / "m", layers=True))
    assert "imported from x.hd5" in text and "QuantileEncoding" in text and "trained on" not in text


def test_what_cannot_be_summed_up_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="is not a model bundle"):
        bundle_summary(tmp_path)
    assert main(["model-summary", "--bundle", "x", "--model", "reads"]) == 2
    assert main(["model-summary", "--model", "resnet"]) == 2
    assert main(["model-summary", "--rows", "2"]) == 2
    assert main(["model-summary", "--bundle", str(tmp_path / "none")]) == 3
    assert "either --model or --bundle" in capsys.readouterr().err
