"""Training that starts from a model: its encoding and weights are taken, and the data are put into its order."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspark.config import load_config
from cnnspark.errors import InputError, UsageError
from cnnspark.models.bundle import load_bundle, save_bundle
from cnnspark.models.calibration import Platt
from cnnspark.models.card import Card, read_card, training_ranges
from cnnspark.models.input_drift import known_values
from cnnspark.models.networks.registry import build_model
from cnnspark.models.spec import ModelSpec, quantile_edges
from cnnspark.training.all_reduce import Replicas
from cnnspark.training.checkpoint import TrainingState
from cnnspark.training.job import ReplicaJob
from cnnspark.training.replica import train_replica
from cnnspark.training.settings import checkpoint_folder
from cnnspark.training.trainer import Trainer
from cnnspark.training.validation import Findings, trained_card
from cnnspark.training.warm_start import arranged, columns_text, take_weights, taken_text, weights_between
from tests.support.synthetic_training import (
    OPENER,
    LaterVersionsData,
    OtherCallersData,
    prepare_job,
    train,
    write_synthetic,
)
from tests.support.trainings import SETTINGS, epochs_of, run, weights

OTHER_CALLER = "tests.support.synthetic_training:open_of_another_caller"
LATER_VERSION = "tests.support.synthetic_training:open_of_a_later_version"


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_synthetic(tmp_path_factory.mktemp("other"), train=40, validation=30)


@pytest.fixture(scope="module")
def finished(uninterrupted: str) -> str:
    """A model that training can start from."""
    return uninterrupted


def started(data: str, init: str | None, data_opener: str = OPENER, **changes: Any) -> tuple[ReplicaJob, list[str]]:
    lines: list[str] = []
    settings = dataclasses.replace(SETTINGS, init=init, **changes)
    return prepare_job(data, "unused", settings, lines.append, data_opener), lines


@pytest.mark.spark
def test_a_training_begins_with_the_models_weights_and_encoding(others: str, finished: str) -> None:
    bundle = load_bundle(finished)
    job, lines = started(others, finished, dropout=0.1)
    assert job.spec == dataclasses.replace(bundle.card.spec, dropout=0.1) and lines == []
    trainer = Trainer(job, Replicas(0, 1, 60))
    assert trainer.taken == f"training starts from all 5 layers of {finished}"
    np.testing.assert_array_equal(np.concatenate([w.ravel() for w in trainer.state().weights]), weights(finished))
    held = dict(np.load(Path(others) / "validation.npz"))
    np.testing.assert_array_equal(trainer.measure(held), bundle.logits(held))


@pytest.mark.spark
def test_fine_tuning_a_finished_model_says_so_and_knows_the_new_data(
    spark: Any, others: str, finished: str, tmp_path: Path
) -> None:
    result, lines = run(spark, others, tmp_path / "m", init=finished, learning_rate=1e-12)
    assert lines[0] == f"training starts from all 5 layers of {finished}"
    assert epochs_of(lines[1:]) == ["epoch 1/2", "epoch 2/2"]
    np.testing.assert_allclose(weights(result.model_out), weights(finished), atol=1e-9)
    before, card = load_bundle(finished).card, result.card
    assert card.spec == before.spec and card.training["init_sha256"] == before.sha256
    trained = dict(np.load(Path(others) / "train.npz"))
    values = np.concatenate([trained["annotations"], trained["site_features"]], axis=1)
    assert card.known == known_values(("QD", "FS", "MQ", "f1", "f2", "f3", "f4"), values)
    assert card.ranges == training_ranges(("QD", "FS", "MQ"), trained["annotations"])
    assert card.data["train"] == 40 and card.calibration != before.calibration


@pytest.mark.spark
def test_a_layer_that_ends_at_zero_is_said_and_kept_in_the_card(
    spark: Any, dataset: str, finished: str, tmp_path: Path
) -> None:
    bundle = load_bundle(finished)
    _, bias = bundle.model.get_layer("dense_2").weights
    bias.assign(np.full(bias.shape, -1e4, np.float32))
    save_bundle(tmp_path / "dead", bundle.model, bundle.card)
    result, lines = run(spark, dataset, tmp_path / "model", init=str(tmp_path / "dead"), epochs=1)
    assert set(result.card.training["dead_layers"]) == {"dense_2", "logit"}
    assert any("give nearly all held-out alleles the same" in line and "dense_2, logit" in line for line in lines)
    assert "dead_layers" not in read_card(finished).training


@pytest.mark.spark
def test_the_annotations_of_another_caller_are_put_into_the_models_order(
    spark: Any, others: str, finished: str, tmp_path: Path
) -> None:
    job, lines = started(others, finished, data_opener=OTHER_CALLER)
    known = "without QD, which the model knows; XX left out, which it does not know"
    assert lines == [f"the dataset's annotations: {known}"]
    assert job.annotation_columns == (-1, 2, 1)
    assert [r.missing_share == 1 for r in job.ranges] == [True, False, False]
    data, bundle = OtherCallersData(others), load_bundle(finished)
    held = data.validation
    expected = dict(held, annotations=np.full_like(held["annotations"], np.nan))
    expected["annotations"][:, 1], expected["annotations"][:, 2] = held["annotations"].T[[2, 1]]
    np.testing.assert_array_equal(Trainer(job, Replicas(0, 1, 60)).measure(held), bundle.logits(expected))
    result, _ = run(spark, others, tmp_path / "m", init=finished, data_opener=OTHER_CALLER, replicas=2)
    assert result.card.annotation_names == ("QD", "FS", "MQ")
    one, _ = run(spark, others, tmp_path / "one", init=finished, data_opener=OTHER_CALLER)
    np.testing.assert_array_equal(weights(one.model_out), weights(result.model_out))


@pytest.mark.spark
def test_site_features_that_a_model_does_not_know_are_left_out(
    spark: Any, others: str, finished: str, tmp_path: Path
) -> None:
    job, lines = started(others, finished, data_opener=LATER_VERSION)
    assert lines == ["the dataset's site features: new, newer left out, which it does not know"]
    usual = started(others, finished)[0]
    assert (job.spec, job.known, job.feature_columns) == (usual.spec, usual.known, (1, 2, 3, 5))
    held = dict(np.load(Path(others) / "validation.npz"))
    measured = Trainer(job, Replicas(0, 1, 60)).measure(LaterVersionsData(others).validation)
    np.testing.assert_array_equal(measured, load_bundle(finished).logits(held))
    later, _ = run(spark, others, tmp_path / "later", init=finished, data_opener=LATER_VERSION, replicas=2)
    same, _ = run(spark, others, tmp_path / "same", init=finished)
    np.testing.assert_array_equal(weights(later.model_out), weights(same.model_out))
    fresh, _ = run(spark, others, tmp_path / "fresh", data_opener=LATER_VERSION)
    assert fresh.card.feature_names == ("new", "f1", "f2", "f3", "newer", "f4")


@pytest.mark.spark
def test_the_fingerprint_has_the_bundles_digest_and_not_its_place(others: str, finished: str, tmp_path: Path) -> None:
    job, _ = started(others, finished)
    moved = shutil.copytree(finished, tmp_path / "moved")
    assert started(others, str(moved))[0].fingerprint == job.fingerprint
    assert dataclasses.replace(job, init_sha256="another").fingerprint != job.fingerprint
    assert prepare_job(others, "unused", SETTINGS).fingerprint != job.fingerprint
    assert ReplicaJob.from_json(job.to_json()) == job
    other = dataclasses.replace(job, init_sha256="another")
    with pytest.raises(InputError, match="has changed since this training began"):
        Trainer(other, Replicas(0, 1, 60))


@pytest.mark.spark
def test_reads_start_as_good_as_the_features_that_they_hold(others: str, finished: str) -> None:
    trainer = Trainer(started(others, finished, model="reads")[0], Replicas(0, 1, 60))
    assert "5 of 34 layers" in trainer.taken
    held = dict(np.load(Path(others) / "validation.npz"))
    np.testing.assert_allclose(trainer.measure(held), load_bundle(finished).logits(held), atol=1e-5)
    batch = dict(np.load(Path(others) / "train.npz"))
    trainer.train([batch], 0, 1e-2)
    trainer.train([batch], 1, 1e-2)
    fresh = Trainer(started(others, finished, model="reads")[0], Replicas(0, 1, 60))
    for name in ("reads_1", "picture", "classifier", "dense_1"):  # what reads say is learned, too
        before, after = (t.model.get_layer(name).kernel.numpy() for t in (fresh, trainer))
        assert np.abs(after - before).max() > 1e-4, name


@pytest.mark.spark
def test_a_picture_is_taken_with_half_of_its_logit_and_nothing_else(others: str, finished: str, tmp_path: Path) -> None:
    job = started(others, None, model="reads", use_site_features=False, use_annotations=False)[0]
    alone = Trainer(job, Replicas(0, 1, 60))
    batch = dict(np.load(Path(others) / "train.npz"))
    for step in range(2):
        alone.train([batch], step, 1e-2)
    card = dataclasses.replace(load_bundle(finished).card, model="reads", spec=job.spec)
    assert trained_card(job, alone.state(), Findings({}, {}, {}, Platt())).known is None  # there is no input to compare
    save_bundle(tmp_path / "picture", alone.model, card)
    both = Trainer(started(others, finished, model="reads", picture=str(tmp_path / "picture"))[0], Replicas(0, 1, 60))
    assert "training starts from 5 of 34 layers" in both.taken and f"all 27 layers of {tmp_path}" in both.taken
    for name, share in (("reads_3", 1), ("window_1", 1), ("picture", 1), ("picture_logit", 0.5), ("counts_logit", 0)):
        theirs, ours = (trainer.model.get_layer(name).kernel.numpy() for trainer in (alone, both))
        np.testing.assert_array_equal(ours, share * theirs)
        assert np.abs(theirs).max() > 0
    assert both.job.fingerprint != started(others, finished, model="reads")[0].fingerprint
    with pytest.raises(UsageError, match=r"'reads' cannot start from it; .* train.picture"):
        started(others, finished, model="reads", picture=finished)
    with pytest.raises(UsageError, match="train.picture is for the model 'reads' alone, not for 'features'"):
        started(others, finished, picture=finished)


@pytest.mark.spark
def test_what_cannot_start_from_a_model_is_said_in_one_sentence(
    spark: Any, others: str, finished: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is a 'features' model, 'reference' cannot start from it"):
        started(others, finished, model="reference")
    with pytest.raises(UsageError, match="4 site features, the dataset has 0, without f1, f2, f3 and 1 more; build"):
        started(others, finished, data_opener="tests.support.synthetic_training:open_gatk_2d")
    with pytest.raises(InputError, match="is not a model bundle"):
        started(others, str(tmp_path))
    with pytest.raises(UsageError, match="choose another --model-out"):
        train(spark, others, finished, dataclasses.replace(SETTINGS, init=finished, if_exists="overwrite"))
    assert load_bundle(finished)


@pytest.mark.spark
def test_the_network_is_the_bundles_where_none_is_named(finished: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"train:\n  init: {os.path.relpath(finished, tmp_path)}\n")
    settings = load_config(str(tmp_path / "c.yaml")).train
    assert os.path.samefile(str(settings.init), finished)
    assert settings.with_flags().model == "features"
    assert settings.with_flags(model="reads").model == "reads"
    assert load_config().train.with_flags(init=finished).model == "features"


def test_layers_are_taken_by_name_and_shape() -> None:
    values = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32)
    edges = quantile_edges(values)
    spec = ModelSpec(("a", "b", "c"), ("f1", "f2", "f3", "f4"), edges[:3], edges[3:])
    model, source = build_model("features", spec), build_model("features", spec)
    taken, new = take_weights(model, source, untrained=["logit"])
    assert (taken, new) == (["annotations_codes", "site_features_codes", "dense_1", "dense_2"], ["logit"])
    np.testing.assert_array_equal(model.get_layer("dense_2").kernel, source.get_layer("dense_2").kernel)
    assert not np.array_equal(model.get_layer("logit").kernel, source.get_layer("logit").kernel)
    assert taken_text("DIR", taken, new) == "training starts from 4 of 5 layers of DIR; new: logit"
    fewer = build_model("features", dataclasses.replace(spec, feature_names=(), feature_edges=()))
    taken, new = take_weights(fewer, source)
    assert (taken, new) == (["annotations_codes", "dense_2", "logit"], ["dense_1"])
    assert taken_text("DIR", [], ["a", "b"]) == "nothing of DIR fits the network: all its layers are new"


def test_the_card_has_the_bins_and_layers_of_the_network_whatever_was_asked_for(others: str, tmp_path: Path) -> None:
    own = started(others, None, bins=3, hidden_units=(16, 8, 4))[0]
    first = str(tmp_path / "first")
    save_bundle(first, Trainer(own, Replicas(0, 1, 60)).model, Card("features", own.spec))
    job = started(others, first, bins=5)[0]
    for each in (own, job):
        card = trained_card(each, TrainingState([], [], []), Findings({}, {}, {}, Platt()))
        assert (card.training["bins"], card.training["hidden_units"]) == (3, (16, 8, 4))
        assert {len(row) for row in card.spec.feature_edges} == {4}


@pytest.mark.parametrize("mixed_precision", [False, "bfloat16"])
def test_a_share_is_kept_of_what_was_taken_and_nothing_of_chance(
    others: str, tmp_path: Path, mixed_precision: bool | str
) -> None:
    def save(name: str, model: str = "reads", **changes: Any) -> str:
        job = started(others, None, model=model, **changes)[0]
        bundle = str(tmp_path / name)
        save_bundle(bundle, Trainer(job, Replicas(0, 1, 60)).model, Card(model, job.spec))
        return bundle

    features = save("features", model="features")
    picture = save("picture", use_site_features=False, use_annotations=False)
    settings = {"model": "reads", "keep_start": 0.25, "mixed_precision": mixed_precision}
    whole = Trainer(started(others, features, picture=picture, **settings)[0], Replicas(0, 1, 60))
    part = Trainer(started(others, features, **settings)[0], Replicas(0, 1, 60))
    shares = part.kept_shares()
    names = [weight.path.split("/")[0] for weight in part.network.weights]
    # The counts of reads are new in both, the picture in one.
    for of, new in ((whole, {"classifier", "counts_logit"}), (part, {"classifier", "counts_logit", "reads_1"})):
        nothing_kept = {name for name, share in zip(names, of.kept_shares(), strict=True) if not share}
        assert new <= nothing_kept and ("reads_1" in nothing_kept) == ("reads_1" in new)
    assert len(shares) == len(part.state().weights) and set(shares) == {0.0, 0.25}
    for name, share in (("dense_1", 0.25), ("counts_logit", 0.0), ("reads_1", 0.0), ("picture_logit", 0.0)):
        assert {s for s, of in zip(shares, names, strict=True) if of == name} == {share}
    start, end = part.state().weights, [weight + 1 for weight in part.state().weights]
    for old, new, share in zip(start, weights_between(start, end, shares), shares, strict=True):
        np.testing.assert_allclose(new, old + 1 - share, atol=1e-6)
    nothing = Trainer(started(others, None, **settings)[0], Replicas(0, 1, 60))
    assert set(nothing.kept_shares()) == {0.0}


@pytest.mark.spark
def test_the_saved_model_has_the_share_of_its_start(others: str, finished: str, tmp_path: Path) -> None:
    began, *ended = (load_bundle(finished).model, *(_trained(others, finished, tmp_path, k) for k in (0.0, 0.75)))
    old, new, kept = (np.array(model.get_layer("dense_1").kernel) for model in (began, *ended))
    assert np.abs(old - new).max() > 1e-5
    np.testing.assert_allclose(kept, 0.75 * old + 0.25 * new, atol=1e-6)


def _trained(data: str, init: str, folder: Path, keep_start: float) -> Any:
    out = str(folder / f"model{keep_start}")
    settings = dataclasses.replace(SETTINGS, init=init, keep_start=keep_start, epochs=1)
    Path(str(checkpoint_folder(out))).mkdir()
    train_replica(prepare_job(data, out, settings), Replicas(0, 1, 60))
    return load_bundle(out).model


def test_columns_are_arranged_and_what_is_missing_is_nan() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(arranged(values, (2, -1, 0)), [[2, np.nan, 0], [5, np.nan, 3]])
    assert arranged(values[:0], (2, -1)).shape == (0, 2)
    assert columns_text("annotations", ("a", "b"), ("b", "a"), (1, 0)) == ""
    text = columns_text("annotations", ("a",), ("v", "w", "x", "y", "z"), (-1,))
    assert (
        text == "the dataset's annotations: without a, which the model knows; v, w, x and 2 more left out, "
        "which it does not know"
    )


@pytest.mark.parametrize("model", ["features", "reads"])
def test_a_model_may_know_no_annotation(others: str, model: str) -> None:
    settings = dataclasses.replace(SETTINGS, model=model, use_annotations=False, flip_strand=True, drop_annotations=0.5)
    job = prepare_job(others, "unused", settings)
    assert job.spec.annotation_names == () and job.spec.annotation_edges == () and len(job.spec.feature_names) == 4
    assert job.known.names == job.spec.feature_names and job.ranges == ()
    trainer = Trainer(job, Replicas(0, 1, 60))
    batch = dict(np.load(Path(others) / "train.npz"))
    assert np.isfinite(trainer.train([batch], 0, 1e-3))
    before = trainer.measure(batch)
    batch["annotations"] = batch["annotations"] + 100
    np.testing.assert_array_equal(trainer.measure(batch), before)
    with pytest.raises(UsageError, match="'reference' needs annotations"):
        dataclasses.replace(SETTINGS, model="reference", use_annotations=False)
