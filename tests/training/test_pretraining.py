"""Pre-training: what is hidden and what is asked of it, the same trainer, and a bundle that only training finishes."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.training.training import run_replicas
from cnnspark import stages
from cnnspark.cli import main
from cnnspark.errors import InputError, RunError, UsageError
from cnnspark.models.bundle import load_bundle
from cnnspark.models.card import read_card
from cnnspark.models.networks.layers import QuantileEncoding
from cnnspark.models.networks.registry import build_model
from cnnspark.models.spec import ModelSpec, quantile_edges
from cnnspark.tensors.schema import WINDOW
from cnnspark.training.all_reduce import Replicas
from cnnspark.training.masking import RUN, WINDOW_RUN, mask, masked_fields, positions
from cnnspark.training.pretraining_heads import loss_names, masked_losses, pretraining_network
from cnnspark.training.replica import open_data
from cnnspark.training.trainer import Trainer
from cnnspark.training.validation import validation_of
from tests.conftest import Sample
from tests.support.synthetic_training import PER_READ, prepare_job, synthetic_batch, write_synthetic
from tests.support.trainings import SETTINGS, epochs_of, run, weights

PRETRAIN = dataclasses.replace(SETTINGS, objective="pretrain")
NAMES = (("QD", "FS", "MQ"), ("f1", "f2", "f3", "f4"))


def spec_of(batch: dict[str, np.ndarray]) -> ModelSpec:
    return ModelSpec(*NAMES, quantile_edges(batch["annotations"]), quantile_edges(batch["site_features"]))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Alleles without a label."""
    folder = Path(write_synthetic(tmp_path_factory.mktemp("synthetic"), train=65, validation=40))
    for name in ("train", "validation"):
        arrays = dict(np.load(folder / f"{name}.npz"))
        arrays["label"][:] = -1
        np.savez(folder / f"{name}.npz", **arrays)
    return str(folder)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_synthetic(tmp_path_factory.mktemp("labelled"), train=48, validation=40)


@pytest.fixture(scope="module")
def pretrained(spark: Any, dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two epochs of ``features``, without anything happening."""
    out = tmp_path_factory.mktemp("pretrained") / "model"
    return run(spark, dataset, out, objective="pretrain")[0].model_out


def slow_draw(key: int, place: int, salt: int) -> float:
    """The hash of :mod:`cnnspark.training.masking`, in Python's whole numbers."""
    h = ((key + place * 0x9E3779B1) ^ salt) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return (h ^ (h >> 16)) / 2**32


def test_reads_are_hidden_in_runs_as_a_slow_version_does() -> None:
    batch, key = synthetic_batch(5, 3), np.array([0, -1, 7, 123456789, -(2**31)], np.int32)
    batch["read_bases"][1, 0, 60:70] = 6
    batch["read_quals"][1, 0, 60:70] = 0
    masked = mask(batch, key, "reads", spec_of(batch), 0.15, 0.3)
    share = []
    for i in range(5):
        for row in range(16):
            for column in range(WINDOW):
                hidden = slow_draw(int(key[i]), row * (WINDOW // RUN) + column // RUN, 0x68BC21EB) < 0.15
                base, quality = batch["read_bases"][i, row, column], batch["read_quals"][i, row, column]
                at = (i, row, column)
                assert (masked["read_bases"][at], masked["read_quals"][at]) == ((0, 0) if hidden else (base, quality))
                assert masked["target_read_bases"][at] == (base if hidden else 0)
                assert masked["target_read_quals"][at] == (quality if hidden and 1 <= base <= 5 else 0)
                share.append(hidden)
    assert 0.12 < np.mean(share) < 0.18
    assert (batch["read_bases"][0, 0] > 0).all()  # the batch itself is as it was


def test_values_and_the_window_are_hidden_as_a_slow_version_does() -> None:
    batch, key = synthetic_batch(40, 3), np.arange(40, dtype=np.int32) * 77 - 9
    spec = spec_of(batch)
    assert masked_fields("features", spec) == ("annotations", "site_features")
    masked = mask(batch, key, "features", spec, 0.15, 0.3)
    for name, salt in (("annotations", 0x5BD1E995), ("site_features", 0x1B873593)):
        edges = spec.annotation_edges if name == "annotations" else spec.feature_edges
        for i, row in enumerate(batch[name]):
            for place, value in enumerate(row):
                hidden = slow_draw(int(key[i]), place, salt) < 0.3
                found, target = masked[name][i, place], masked[f"target_{name}"][i, place]
                assert math.isnan(found) if hidden else found == value or math.isnan(value)
                assert math.isnan(target) == (not hidden or math.isnan(value))
                if not math.isnan(target):
                    bounds = edges[place]
                    codes = [min(1, max(0, (value - a) / (b - a))) for a, b in zip(bounds, bounds[1:], strict=False)]
                    assert target == pytest.approx(np.mean(codes), abs=1e-5)
    window = mask(batch, key, "reference", spec, 0.15, 0.3)
    assert masked_fields("reference", spec) == ("reference", "annotations") and "target_site_features" not in window
    for i in range(40):
        for column in range(WINDOW):
            hidden = slow_draw(int(key[i]), column // WINDOW_RUN, 0x02E5BE93) < 0.15
            for name in ("reference", "alternate"):
                assert window[name][i, column] == (0 if hidden else batch[name][i, column])
            assert window["target_reference"][i, column] == (batch["reference"][i, column] if hidden else 0)


@pytest.mark.parametrize("model", ["features", "reads", "reference"])
def test_what_is_hidden_depends_on_the_allele_alone(model: str) -> None:
    batch, key = synthetic_batch(6, 3), np.arange(6, dtype=np.int32) * 12345
    spec = spec_of(batch)
    whole = mask(batch, key, model, spec, 0.15, 0.3)
    chosen = np.array([4, 1])
    part = {name: values[chosen] for name, values in batch.items()}
    for name in PER_READ:  # more padding
        part[name] = np.pad(part[name], [(0, 0), (0, 8), *[(0, 0)] * (part[name].ndim - 2)])
    part = mask(part, key[chosen], model, spec, 0.15, 0.3)
    for name in (*masked_fields(model, spec), *(f"target_{field}" for field in masked_fields(model, spec))):
        found = part[name][:, :16] if name.removeprefix("target_") in PER_READ else part[name]
        np.testing.assert_array_equal(found, whole[name][chosen])
    nothing = mask({name: values[:0] for name, values in batch.items()}, key[:0], model, spec, 0.15, 0.3)
    assert all(len(values) == 0 for values in nothing.values())
    other = mask(batch, key + 1, model, spec, 0.15, 0.3)
    assert any(not np.array_equal(other[f], whole[f], equal_nan=True) for f in masked_fields(model, spec))


def test_positions_are_the_mean_of_the_networks_own_codes() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=99), rng.integers(0, 3, 99), np.zeros(99), np.full(99, np.nan)], 1)
    values[::7, 0] = np.nan
    edges = quantile_edges(values)
    outliers = values * 9
    codes = np.asarray(QuantileEncoding(edges)(outliers.astype(np.float32))).reshape(99, 4, -1)
    found = positions(outliers, edges)
    known = np.isfinite(found)
    np.testing.assert_array_equal(known, np.isfinite(values))
    np.testing.assert_allclose(found[known], codes[..., :-2].mean(axis=2)[known], atol=1e-6)


def test_the_losses_are_means_over_what_was_hidden() -> None:
    rng = np.random.default_rng(1)
    cells, values = rng.normal(size=(3, 8, WINDOW, 7)).astype(np.float32), rng.random((3, 5)).astype(np.float32)
    bases = (rng.integers(1, 7, (3, 8, WINDOW)) * (rng.random((3, 8, WINDOW)) < 0.1)).astype(np.uint8)
    bases[2] = 0  # nothing was hidden there
    quals = (rng.integers(0, 90, bases.shape) * ((bases > 0) & (bases < 6))).astype(np.uint8)
    annotations = np.where(rng.random((3, 2)) < 0.5, rng.random((3, 2)), np.nan).astype(np.float32)
    features = np.where(rng.random((3, 3)) < 0.5, rng.random((3, 3)), np.nan).astype(np.float32)
    targets = {"read_bases": bases, "read_quals": quals, "annotations": annotations, "site_features": features}
    found = np.asarray(
        masked_losses({f"target_{k}": v for k, v in targets.items()}, {"cells": cells, "values": values})
    )
    assert loss_names(tuple(targets)) == ("loss", "bases", "qualities", "values")
    for i in range(3):
        of_bases, of_quals = [], []
        for at in np.argwhere(bases[i]):
            code, output = int(bases[i][tuple(at)]), cells[i][tuple(at)].astype(np.float64)
            of_bases.append(np.log(np.exp(output[:6]).sum()) - output[code - 1])
            if code < 6:
                of_quals.append((output[6] - min(int(quals[i][tuple(at)]), 60) / 40) ** 2)
        errors = (values[i] - np.concatenate([annotations[i], features[i]])) ** 2
        of_values = errors[np.isfinite(errors)]
        parts = [np.mean(part) if len(part) else 0 for part in (of_bases, of_quals, of_values)]
        np.testing.assert_allclose(found[i], [parts[0] + 10 * (parts[1] + parts[2]), *parts], rtol=1e-4)


@pytest.mark.parametrize("model", ["features", "reads", "reference"])
@pytest.mark.parametrize("hidden_units", [(64,), (128, 64), (32, 16, 8)])
def test_the_pretrained_network_is_made_of_the_supervised_ones_layers(
    model: str, hidden_units: tuple[int, ...]
) -> None:
    batch = synthetic_batch(4, 3)
    spec = dataclasses.replace(spec_of(batch), hidden_units=hidden_units)
    supervised = build_model(model, spec)
    network = pretraining_network(model, supervised, spec)
    own = {layer.name for layer in network.layers}
    shared = [layer for layer in supervised.layers if layer.weights and "logit" not in layer.name]
    assert all(network.get_layer(layer.name) is layer for layer in shared)
    assert not own & {"logit", "counts_logit", "picture_logit"}
    assert {layer.name for layer in network.layers if layer.weights} - {layer.name for layer in shared} <= {
        "pretrain_cells", "pretrain_windows", "pretrain_values",
    }  # fmt: skip
    without = dataclasses.replace(spec, annotation_names=(), annotation_edges=(), feature_names=(), feature_edges=())
    if model != "features":
        fewer = pretraining_network(model, build_model(model, without), without)
        assert list(fewer.output) == ["cells"]


def test_the_loss_of_held_out_alleles_falls_and_the_card_has_it(dataset: str, tmp_path: Path) -> None:
    settings = dataclasses.replace(PRETRAIN, epochs=6, batch_size=16)
    rows = run_replicas(prepare_job(dataset, str(tmp_path / "m"), settings), 1)
    assert [name for name in rows[0] if name.startswith("val_")] == ["val_loss", "val_values"]
    assert rows[-1]["val_loss"] < 0.8 * rows[0]["val_loss"] and rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    card = read_card(tmp_path / "m")
    assert card.training["objective"] == "pretrain" and card.training["untrained_layers"] == ["logit"]
    assert "loss" not in card.training and card.thresholds == {} and card.calibration.slope == 1
    best = card.training["best_epoch"]
    assert best > 1 and card.metrics["loss ALL"] == pytest.approx(rows[best - 1]["val_loss"])


def test_the_reference_network_learns_window_and_annotations(dataset: str) -> None:
    opener = "tests.support.synthetic_training:open_without_reads"
    job = prepare_job(dataset, "unused", dataclasses.replace(PRETRAIN, model="reference"), data_opener=opener)
    trainer = Trainer(job, Replicas(0, 1, 60))
    data = open_data(job, trainer.dtypes)
    validation = validation_of(trainer, data)
    before = validation.metrics(validation.measure())
    assert list(before) == ["loss", "bases", "values"]
    for step, lanes in enumerate(batches for epoch in range(5) for batches in data.train_batches(
        range(job.lanes), job.lanes, 32, 1, epoch
    )):  # fmt: skip
        trainer.train(lanes, step, 3e-3)
    after = validation.metrics(validation.measure())
    assert all(after[name] < 0.9 * before[name] for name in before)
    np.testing.assert_array_equal(validation.measure(), validation.measure())


def test_two_replicas_end_with_the_weights_of_one_and_learn_from_reads(dataset: str, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        PRETRAIN, model="reads", epochs=2, batch_size=16, drop_reads=0.5, flip_strand=True, timeout_seconds=120
    )
    bundles = []
    for count in (1, 2):
        run_replicas(prepare_job(dataset, str(tmp_path / f"model{count}"), settings), count)
        bundles.append(load_bundle(tmp_path / f"model{count}"))
    for one, two in zip(bundles[0].model.weights, bundles[1].model.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    rows = bundles[0].card.history
    assert bundles[1].card.history == rows and [row["epoch"] for row in rows] == [1, 2]
    for name in ("val_loss", "val_bases", "val_qualities", "val_values"):
        assert rows[-1][name] < rows[0][name]


@pytest.mark.parametrize("compute", ["bfloat16", "float16"])
def test_mixed_precision_pretrains_like_float32_and_leaves_a_float32_network(dataset: str, compute: str) -> None:
    exact, mixed = (
        Trainer(prepare_job(dataset, "u", dataclasses.replace(PRETRAIN, mixed_precision=p)), Replicas(0, 1, 60))
        for p in (False, compute)
    )
    for step in range(4):
        batch = synthetic_batch(32, step)
        lanes = [{name: values[i::4] for name, values in batch.items()} for i in range(4)]
        losses = [trainer.train(lanes, step, 1e-3) for trainer in (exact, mixed)]
        assert losses[1] == pytest.approx(losses[0], rel=0.05)
    held = synthetic_batch(20, 99)
    np.testing.assert_allclose(mixed.measure(held), exact.measure(held), rtol=0.1, atol=0.02)
    # What is saved has the weights that were trained.
    assert mixed.model.get_layer("dense_1") is mixed.network.get_layer("dense_1")
    trained = {v.path: np.array(v) for v in mixed.trained.weights}
    np.testing.assert_array_equal(trained["dense_1/kernel"], mixed.model.get_layer("dense_1").kernel)


@pytest.mark.spark
def test_an_interrupted_pretraining_is_resumed_to_the_same_weights(
    spark: Any, dataset: str, pretrained: str, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    (Path(dataset) / "fault").write_text("kill epoch 1")
    with pytest.raises(RunError, match="--if-exists resume"):
        run(spark, dataset, out, objective="pretrain", max_retries=0)
    with pytest.raises(UsageError, match="other settings or data"):
        run(spark, dataset, out, objective="pretrain", if_exists="resume", mask_values=0.5)
    result, lines = run(spark, dataset, out, objective="pretrain", if_exists="resume")
    assert epochs_of(lines) == ["epoch 2/2"] and "validation loss" in lines[-1] and "AUPRC" not in lines[-1]
    np.testing.assert_array_equal(weights(result.model_out), weights(pretrained))
    assert result.text().startswith(f"best epoch {result.best_epoch}, validation loss ")


@pytest.mark.spark
def test_training_finishes_a_pretrained_model_with_a_new_logit(
    spark: Any, labelled: str, pretrained: str, tmp_path: Path
) -> None:
    job = prepare_job(labelled, "unused", dataclasses.replace(SETTINGS, init=pretrained, seed=7))
    trainer, before = Trainer(job, Replicas(0, 1, 60)), load_bundle(pretrained)
    assert trainer.taken == f"training starts from 4 of 5 layers of {pretrained}; new: logit"
    for layer in trainer.model.layers:
        pairs = zip(layer.weights, before.model.get_layer(layer.name).weights, strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs) == (layer.name != "logit")
    result, lines = run(spark, labelled, tmp_path / "model", init=pretrained)
    assert lines[0] == f"training starts from 4 of 5 layers of {pretrained}; new: logit"
    assert "objective" not in result.card.training and "untrained_layers" not in result.card.training
    assert result.card.spec == before.card.spec and result.card.thresholds


@pytest.mark.spark
def test_an_unlabelled_callset_of_another_caller_pretrains_and_a_truth_set_finishes(
    spark: Any, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = dataclasses.replace(sample.config, annotations=("QUAL", "INFO/MQ", "INFO/XX"))
    unlabelled, pretrained, model = (str(tmp_path / name) for name in ("unlabelled", "pretrained", "model"))
    stages.build_dataset(spark, sample.unlabelled, unlabelled, fewer)
    assert json.loads((Path(unlabelled) / "dataset.json").read_text())["labels"]["true"] == 0
    quick = ["--epochs", "2", "--batch-size", "16", "--validation", "0.3"]
    assert main(["train", "--data", unlabelled, "--model-out", model, "--model", "features", *quick]) == 3
    assert "without a label; build it with --truth and --bed or --labels, or use it for" in capsys.readouterr().err
    command = ["pretrain", "--data", unlabelled, "--model-out", pretrained, "--model", "features", *quick]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model_out"] == pretrained and set(found["validation"]) >= {"val_loss", "val_values"}

    paths = ["--vcf", str(sample.paths.vcf), "--reads", str(sample.paths.reads)]
    paths += ["--reference", str(sample.paths.reference)]
    for name in ("score", "run"):
        assert main([name, *paths, "--model", pretrained, "--out", str(tmp_path / "out")]) == 2
        text = capsys.readouterr().err.strip()
        assert text.endswith(f"{pretrained} is pre-trained only; finish it with 'cnnspark train --init {pretrained}'")
    assert not (tmp_path / "out").exists()
    assert main(["model-summary", "--bundle", pretrained]) == 0
    assert "pre-trained  on" in capsys.readouterr().out

    assert main(["train", "--data", sample.dataset, "--model-out", model, "--init", pretrained, *quick]) == 0
    said = capsys.readouterr().err
    assert "without INFO/XX, which the model knows" in said and "new: logit" in said
    card = read_card(model)
    assert card.model == "features" and card.annotation_names == ("QUAL", "INFO/MQ", "INFO/XX")
    assert set(card.thresholds) == {"ALL", "SNP", "INDEL"} and "AUPRC ALL" in card.metrics
    assert {r.name: r.missing_share for r in card.ranges}["INFO/XX"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gatk_2d"}, "'gatk_2d' cannot be pre-trained; choose one of features, reads, reference"),
        ({"mask_cells": 0.0}, "mask_cells and mask_values must be above 0 and below 1"),
        ({"model": "reference"}, "'reference' looks at no reads; build its dataset without --reads"),
    ],
)
def test_what_cannot_be_pretrained_is_said_in_one_sentence(dataset: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare_job(dataset, "unused", dataclasses.replace(PRETRAIN, **changes))


def test_tensors_of_another_encoding_cannot_be_pretrained_on(dataset: str) -> None:
    opener, settings = "tests.support.synthetic_training:open_gatk_1d", dataclasses.replace(PRETRAIN, model="reads")
    with pytest.raises(UsageError, match="encoding cnnspark"):
        prepare_job(dataset, "unused", settings, data_opener=opener)


def test_labels_are_asked_for_where_they_are_needed(dataset: str) -> None:
    with pytest.raises(InputError, match="tensors without a label"):
        prepare_job(dataset, "unused", SETTINGS)
    assert prepare_job(dataset, "unused", PRETRAIN).class_weights == (1, 1)
