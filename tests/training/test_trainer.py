"""A replica's step: lanes that add up the same for everybody, mixed precision, what ends a training."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.training.training import run_replicas
from cnnspark.errors import InputError, UsageError
from cnnspark.models.bundle import load_bundle
from cnnspark.models.networks.layers import noise_keys
from cnnspark.models.networks.registry import build_model, feed
from cnnspark.models.spec import ModelSpec
from cnnspark.training.all_reduce import Replicas
from cnnspark.training.checkpoint import TrainingState
from cnnspark.training.history import POINT_STEPS, EventLog
from cnnspark.training.lane_gradients import UNITS, pack_lanes
from cnnspark.training.losses import loss_by_name
from cnnspark.training.mixed_precision import compute_type, in_mixed_precision
from cnnspark.training.settings import TrainSettings
from cnnspark.training.trainer import Trainer
from tests.support.synthetic_training import PER_READ, prepare_job, synthetic_batch, write_synthetic

SETTINGS = TrainSettings(model="features", epochs=2, batch_size=24)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_synthetic(tmp_path_factory.mktemp("synthetic"), train=65, validation=40)


def trainer_of(data: str, **changes: Any) -> Trainer:
    settings = dataclasses.replace(SETTINGS, **changes)
    return Trainer(prepare_job(data, "unused", settings), Replicas(0, 1, 60))


def lanes_of(count: int, lanes: int, seed: int = 5) -> list[dict[str, np.ndarray]]:
    batch = synthetic_batch(count, seed)
    return [{name: values[i::lanes] for name, values in batch.items()} for i in range(lanes)]


def share(trainer: Trainer, lanes: list[dict[str, np.ndarray]], step: int = 3) -> np.ndarray:
    lanes = [{**lane, "noise_key": noise_keys(lane["example_key"], 1, step)} for lane in lanes]
    arrays, *indices = pack_lanes(lanes)
    targets = {"label": arrays["label"]}
    return trainer.lane_gradients(feed(arrays, trainer.dtypes), targets, arrays["weight"], *indices).numpy()


@pytest.mark.parametrize("model", ["features", "reads"])
def test_the_sum_over_lanes_is_the_same_for_any_dealing_to_the_last_bit(data: str, model: str) -> None:
    trainer = trainer_of(data, model=model)
    lanes = lanes_of(23, 4)  # the last lane has one example less
    whole = share(trainer, lanes)
    assert whole.dtype == np.int64 and whole[-2:].tolist() == [0, 0]
    for cuts in ([2], [1], [1, 2], [1, 2, 3]):
        parts = [lanes[a:b] for a, b in zip([0, *cuts], [*cuts, 4], strict=True)]
        np.testing.assert_array_equal(sum(share(trainer, part) for part in parts), whole)


@pytest.mark.parametrize("model", ["features", "reads"])
def test_the_sum_over_lanes_is_the_gradient_of_the_whole_batch(data: str, model: str) -> None:
    trainer = trainer_of(data, model=model)
    summed = share(trainer, lanes_of(23, 4)) / UNITS
    batch = synthetic_batch(23, 5)
    batch["noise_key"] = noise_keys(batch["example_key"], 1, 3)
    with tf.GradientTape() as tape:
        losses = loss_by_name("cross_entropy")(
            tf.constant(batch["label"]), trainer.model(feed(batch, trainer.dtypes), training=True)
        )
        total = tf.reduce_sum(losses) / SETTINGS.batch_size
    gradient = np.concatenate([np.ravel(g) for g in tape.gradient(total, trainer.model.trainable_variables)])
    np.testing.assert_allclose(summed[: len(gradient)], gradient, atol=2e-6)
    assert summed[-3] == pytest.approx(float(total), abs=1e-6)


def test_packing_keeps_each_lanes_own_padding() -> None:
    lanes = lanes_of(6, 2)
    lanes[0] = {name: values[:, :8] if name in PER_READ else values for name, values in lanes[0].items()}
    arrays, starts, rows = pack_lanes(lanes)
    assert (starts.tolist(), rows.tolist()) == ([0, 3, 6], [8, 16])
    assert arrays["read_bases"].shape[:2] == (6, 16)
    for i, lane in enumerate(lanes):
        for name, values in lane.items():
            found = arrays[name][starts[i] : starts[i + 1]]
            np.testing.assert_array_equal(found[:, : rows[i]] if name in PER_READ else found, values)


def test_a_step_whose_loss_is_no_number_changes_nothing(data: str) -> None:
    trainer = trainer_of(data)
    lanes = lanes_of(24, 4)
    lanes[2]["weight"] = lanes[2]["weight"] * np.nan
    before = trainer.state().weights
    assert np.isnan(trainer.train(lanes, 0, 1e-3))
    for old, new in zip(before, trainer.state().weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("model", ["features", pytest.param("reads", marks=pytest.mark.slow)])
def test_bfloat16_trains_like_float32_and_leaves_a_float32_network(data: str, model: str) -> None:
    exact, mixed = (trainer_of(data, model=model, mixed_precision=p) for p in (False, True))
    assert (exact.compute_type, mixed.compute_type) == ("float32", "bfloat16")
    policies = {layer.name: layer.dtype_policy.name for layer in mixed.trained.layers}
    assert "mixed_bfloat16" in policies.values()
    assert {policies[name] for name in ("logit", "annotations_codes", "site_features_codes")} == {"float32"}
    assert all(v.dtype == "float32" for v in mixed.trained.weights)
    for old, new in zip(exact.state().weights, mixed.state().weights, strict=True):
        np.testing.assert_array_equal(old, new)
    batch = synthetic_batch(20, 99)
    rounded = np.asarray(mixed.trained(feed(batch, mixed.dtypes), training=False))
    np.testing.assert_allclose(rounded, exact.measure(batch), atol=0.02)
    for step in range(8):
        losses = [trainer.train(lanes_of(24, 4, seed=step), step, 1e-3) for trainer in (exact, mixed)]
        assert losses[1] == pytest.approx(losses[0], rel=0.05)
    logits = mixed.measure(batch)
    assert logits.dtype == np.float32
    assert all(layer.dtype_policy.name == "float32" for layer in mixed.model.layers)
    np.testing.assert_allclose(logits, mixed.model(feed(batch, mixed.dtypes), training=False), atol=1e-5)
    for old, new in zip(mixed.state().weights, mixed.model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_float16_skips_a_step_that_overflows_halves_the_scale_and_is_resumed_with_it(data: str) -> None:
    trainer = trainer_of(data, mixed_precision="float16")
    lanes = lanes_of(24, 4)
    trainer.loss_scale.factor.assign(2.0**24)
    lanes[0]["weight"] = lanes[0]["weight"] * 1e4  # a gradient that float16 does not hold at this scale
    before = trainer.state().weights
    assert np.isfinite(trainer.train(lanes, 0, 1e-3))
    assert trainer.loss_scale.factor.numpy() == 2.0**23
    for old, new in zip(before, trainer.state().weights, strict=True):
        np.testing.assert_array_equal(old, new)
    losses = [trainer.train(lanes_of(24, 4, seed=step), step, 1e-3) for step in range(40)]
    assert np.mean(losses[-5:]) < np.mean(losses[5:10])
    state = trainer.state()
    again = trainer_of(data, mixed_precision="float16")
    again.restore(state)
    assert again.loss_scale.factor.numpy() == trainer.loss_scale.factor.numpy() < 2.0**24
    assert again.train(lanes_of(24, 4), 9, 1e-3) == trainer.train(lanes_of(24, 4), 9, 1e-3)


def test_mixed_precision_is_left_to_the_machine_or_said() -> None:
    assert compute_type(False) == "float32" and compute_type("float16") == "float16"
    if not tf.config.get_visible_devices("GPU"):
        assert (compute_type("auto"), compute_type(True)) == ("float32", "bfloat16")
    with pytest.raises(UsageError, match="choose auto, true, false"):
        TrainSettings(mixed_precision="half")


@pytest.mark.parametrize("kind", ["gatk_1d", "gatk_2d"])
def test_what_the_logit_is_made_from_stays_float32(kind: str) -> None:
    names = ("a", "b")
    mixed = in_mixed_precision(build_model(kind, ModelSpec(names)), "bfloat16")
    policies = {layer.name: layer.dtype_policy.name for layer in mixed.layers}
    assert (policies["classes"], policies["logits"], policies["conv_1"]) == ("float32", "float32", "mixed_bfloat16")
    between = [name for name in policies if "dropout" in name or name.startswith("rows_")]
    assert between and {policies[name] for name in between} == {"mixed_bfloat16"}


def test_a_network_in_mixed_precision_is_the_same_network(data: str) -> None:
    model = trainer_of(data, model="reads").model
    mixed = in_mixed_precision(model, "bfloat16")
    assert [w.shape for w in mixed.weights] == [w.shape for w in model.weights]
    assert [v.name for v in mixed.trainable_variables] == [v.name for v in model.trainable_variables]


def test_the_event_log_is_what_tensorboard_reads(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path / "log"), 0)
    for step in range(2 * POINT_STEPS):
        log.step(step, float(step), 1e-3)
    log.epoch(50, {"epoch": 1, "loss": 0.5, "val_auprc": 0.25, "examples_per_second": 10.0, "seconds_left": 1})
    EventLog(str(tmp_path / "log"), 1).step(0, 1.0, 1.0)  # only the first replica writes
    EventLog(None, 0).epoch(1, {"epoch": 1, "loss": 0.5})
    (path,) = (tmp_path / "log").iterdir()
    assert "tfevents" in path.name
    found: dict[tuple[str, int], float] = {}
    for record in tf.data.TFRecordDataset([str(path)]):
        event = tf.compat.v1.Event.FromString(record.numpy())
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    assert found[("loss", POINT_STEPS)] == (POINT_STEPS - 1) / 2
    assert found[("learning_rate", 2 * POINT_STEPS)] == pytest.approx(1e-3)
    assert (found[("epoch_loss", 50)], found[("val_auprc", 50)], found[("examples_per_second", 50)]) == (0.5, 0.25, 10)


def test_training_ends_after_epochs_without_a_better_one() -> None:
    state = TrainingState([], [], [], epoch=5, best_epoch=4, highest_epoch=3)
    assert [state.is_over(patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("batch", "lanes", "replicas", "groups", "used"),
    [
        (32, 4, 1, 99, 4), (32, 4, 3, 99, 4), (32, 4, 8, 99, 8), (32, 4, 5, 99, 8), (30, 4, 2, 99, 3),
        (32, 8, 3, 99, 8), (32, 8, 3, 5, 4), (7, 4, 1, 99, 1), (7, 4, 2, 99, 7), (36, 12, 5, 99, 12),
    ],
)  # fmt: skip
def test_lanes_divide_the_batch_and_are_enough(batch: int, lanes: int, replicas: int, groups: int, used: int) -> None:
    settings = TrainSettings(batch_size=batch, lanes=lanes, replicas=replicas)
    assert settings.lanes_used(groups) == used


def test_what_cannot_be_dealt_is_refused() -> None:
    with pytest.raises(InputError, match="the training blocks have 3 for 4 replicas"):
        TrainSettings(replicas=4).lanes_used(3)
    with pytest.raises(UsageError, match="cannot be divided evenly among 3 replicas and 3 row groups"):
        TrainSettings(replicas=3).lanes_used(3)


def test_one_and_three_replicas_end_with_the_same_weights_whatever_is_switched_on(data: str, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        SETTINGS, model="reads", epochs=3, batch_size=32, loss="focal", label_smoothing=0.05, hard_examples=1.0,
        drop_reads=0.5, flip_strand=True, patience=2, timeout_seconds=120,
    )  # fmt: skip
    for count in (1, 3):
        run_replicas(prepare_job(data, str(tmp_path / f"model{count}"), settings), count)
    one, three = (load_bundle(tmp_path / f"model{count}") for count in (1, 3))
    for old, new in zip(one.model.weights, three.model.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    assert three.card.history == one.card.history
    rows = json.loads((tmp_path / "model3" / "history.json").read_text())
    assert rows == one.card.history and [row["epoch"] for row in rows] == [1, 2, 3]
