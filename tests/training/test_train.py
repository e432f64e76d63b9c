"""Training through a Spark barrier stage, on a small synthetic dataset: the replicas against one, resuming against
going through, and what happens when something fails."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cnnspark.errors import InputError, RunError, UsageError
from cnnspark.models.bundle import load_bundle
from cnnspark.models.card import file_digest
from cnnspark.models.input_drift import known_values
from cnnspark.training.barrier_stage import replica_command, run_child
from cnnspark.training.checkpoint import TrainingState
from cnnspark.training.driver import TrainResult
from cnnspark.training.history_follower import HistoryFollower, progress_line
from cnnspark.training.job import ReplicaJob
from cnnspark.training.replica import ENDED_BY_PARENT
from cnnspark.training.settings import STATE_FILE, checkpoint_folder, learning_rate
from tests.support.standalone import wait_for
from tests.support.synthetic_training import prepare_job, synthetic_batch, train, write_synthetic
from tests.support.trainings import SETTINGS, epochs_of, run, weights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.spark
def test_two_replicas_of_16_equal_one_of_32_with_dropout(
    spark: "SparkSession", dataset: str, uninterrupted: str, tmp_path: Path
) -> None:
    assert SETTINGS.dropout == 0.3
    one = load_bundle(uninterrupted)
    two, lines = run(spark, dataset, tmp_path / "two", replicas=2)
    # Not nearly: lanes are added in one order, whoever has computed them.
    np.testing.assert_array_equal(weights(two.model_out), weights(uninterrupted))
    assert dataclasses.replace(one.card, sha256="") == dataclasses.replace(two.card, sha256="")
    assert epochs_of(lines) == ["epoch 1/2", "epoch 2/2"]
    assert all("alleles/s" in line and "left" in line for line in lines)
    assert sum("validation AUPRC" in line for line in lines) == 2


@pytest.mark.spark
def test_training_twice_gives_the_same_weights_and_card(
    spark: "SparkSession", dataset: str, uninterrupted: str, tmp_path: Path
) -> None:
    again, _ = run(spark, dataset, tmp_path / "again")
    np.testing.assert_array_equal(weights(again.model_out), weights(uninterrupted))
    card = load_bundle(uninterrupted).card
    assert dataclasses.replace(again.card, sha256="") == dataclasses.replace(card, sha256="")


@pytest.mark.spark
def test_the_bundle_tells_what_it_was_trained_on_and_how_good_it_is(dataset: str, uninterrupted: str) -> None:
    bundle = load_bundle(uninterrupted)
    card = bundle.card
    assert card.annotation_names == ("QD", "FS", "MQ") and card.feature_names == ("f1", "f2", "f3", "f4")
    trained = synthetic_batch(65, seed=1)
    for i, found in enumerate(card.ranges):
        column = trained["annotations"][:, i]
        assert found.maximum == pytest.approx(np.nanmax(column))
        assert found.missing_share == pytest.approx(np.isnan(column).mean())
    assert (card.data["train"], card.data["validation"]) == (65, 70)
    assert (card.data["train_false"], card.data["train_true"]) == (33, 32)
    held = synthetic_batch(70, seed=2)
    area = average_precision_score(held["label"], bundle.logits(held))
    assert card.metrics["AUPRC ALL"] == pytest.approx(area, abs=1e-6)
    best = max(card.history, key=lambda row: row["val_auprc"])
    assert card.training["best_epoch"] == best["epoch"]
    assert best["val_auprc"] == pytest.approx(area, abs=1e-6)
    # held-out alleles at or above a threshold have the precision that it is for
    from cnnspark.variants.score_fields import log_odds

    kept = log_odds(bundle.predict(held)) >= card.thresholds["ALL"]["0.70"] - 1e-4
    assert held["label"][kept].mean() >= 0.70
    assert set(card.thresholds) == set(card.sensitivity_thresholds) == {"ALL", "SNP", "INDEL"}
    assert not checkpoint_folder(uninterrupted).exists()


@pytest.mark.spark
def test_the_result_names_the_bundle_its_digest_and_the_best_epochs_figures(uninterrupted: str) -> None:
    card = load_bundle(uninterrupted).card
    result = TrainResult(uninterrupted, card)
    row = next(row for row in card.history if row["epoch"] == result.best_epoch)
    assert result.to_dict() == {
        "model_out": uninterrupted,
        "sha256": file_digest(Path(uninterrupted) / "model.keras"),
        "best_epoch": result.best_epoch,
        "validation": row,
    }
    assert result.text() == f"best epoch {result.best_epoch}, validation AUPRC {row['val_auprc']:.4f}: {uninterrupted}"


@pytest.mark.spark
def test_scores_are_calibrated_on_the_held_out_alleles(uninterrupted: str) -> None:
    from cnnspark.evaluation.calibration import calibration_figures
    from cnnspark.models.calibration import cross_fitted, fit_platt, probabilities
    from cnnspark.variants.score_fields import log_odds

    bundle, held = load_bundle(uninterrupted), synthetic_batch(70, seed=2)
    labels, logits = held["label"], bundle.logits(held)
    found, expected = bundle.card.calibration, fit_platt(logits, labels)
    assert (found.slope, found.intercept) == pytest.approx((expected.slope, expected.intercept), rel=1e-3)
    assert found.slope != 1
    honest = probabilities(cross_fitted(logits, labels, np.arange(70) // 50))
    for name, values in (("calibration error", honest), ("calibration error uncalibrated", probabilities(logits))):
        error = calibration_figures(labels, values)[1]
        assert bundle.card.metrics[f"{name} ALL"] == pytest.approx(error, abs=1e-3)
    # true alleles at or above a threshold are the share that it is for, and one score more would lose too many
    scores = log_odds(bundle.predict(held))[labels == 1]
    for wanted in ("0.90", "0.95", "0.99", "0.995", "0.999"):
        threshold = bundle.card.sensitivity_thresholds["ALL"][wanted]
        assert np.mean(scores >= threshold - 1e-4) >= float(wanted)
        assert np.mean(scores > threshold + 1e-4) < float(wanted)


@pytest.mark.spark
def test_the_card_has_histograms_of_the_training_alleles(uninterrupted: str) -> None:
    known = load_bundle(uninterrupted).card.known
    trained = synthetic_batch(65, seed=1)
    assert known is not None and known.alleles == 65
    values = np.concatenate([trained["annotations"], trained["site_features"]], axis=1)
    assert known == known_values(("QD", "FS", "MQ", "f1", "f2", "f3", "f4"), values)


@pytest.mark.spark
def test_the_reads_network_learns_what_only_the_reads_show(spark: "SparkSession", tmp_path: Path) -> None:
    data = write_synthetic(tmp_path / "data", train=320, validation=80)
    result, _ = run(spark, data, tmp_path / "model", model="reads", epochs=4, batch_size=16)
    assert result.card.metrics["AUPRC ALL"] > 0.98
    held = synthetic_batch(80, seed=2)
    bundle = load_bundle(result.model_out)
    before = average_precision_score(held["label"], bundle.logits(held))
    blind = dict(held, read_mapqs=np.full_like(held["read_mapqs"], 60))
    assert before > 0.98 and average_precision_score(held["label"], bundle.logits(blind)) < 0.9


@pytest.mark.spark
def test_a_killed_replica_costs_one_retry_and_changes_nothing(
    spark: "SparkSession", dataset: str, uninterrupted: str, tmp_path: Path
) -> None:
    (Path(dataset) / "fault").write_text("kill epoch 1")  # the second
    result, lines = run(spark, dataset, tmp_path / "model", replicas=2)
    assert not (Path(dataset) / "fault").exists()
    assert sum("trying again" in line for line in lines) == 1
    # the first epoch was not done again
    assert sum(line.startswith("epoch 1/2") and "validation" in line for line in lines) == 1
    np.testing.assert_array_equal(weights(result.model_out), weights(uninterrupted))


@pytest.mark.spark
def test_a_failed_training_is_resumed_by_the_same_command_and_only_by_the_same(
    spark: "SparkSession", dataset: str, uninterrupted: str, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    (Path(dataset) / "fault").write_text("kill epoch 1")
    with pytest.raises(RunError, match="--if-exists resume"):
        run(spark, dataset, out, max_retries=0)
    assert not out.exists() and checkpoint_folder(str(out)).exists()
    with pytest.raises(UsageError, match="--if-exists resume or overwrite"):
        run(spark, dataset, out)
    with pytest.raises(UsageError, match="other settings or data"):
        run(spark, dataset, out, if_exists="resume", learning_rate=0.5)
    result, lines = run(spark, dataset, out, if_exists="resume")
    assert epochs_of(lines) == ["epoch 2/2"]
    np.testing.assert_array_equal(weights(result.model_out), weights(uninterrupted))
    # finished: nothing is left to do, and nothing is overwritten by accident
    changed = (out / "model.keras").stat().st_mtime_ns
    assert run(spark, dataset, out, if_exists="resume")[1] == []
    assert (out / "model.keras").stat().st_mtime_ns == changed
    with pytest.raises(UsageError, match="exists"):
        run(spark, dataset, out)


@pytest.mark.spark
def test_a_diverging_loss_is_said_at_once_and_not_retried(spark: "SparkSession", tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_synthetic(folder, train=32, validation=8)
    arrays = dict(np.load(folder / "train.npz"))
    arrays["weight"][3] = np.nan
    np.savez(folder / "train.npz", **arrays)
    lines: list[str] = []
    with pytest.raises(RunError, match="the loss or its gradient is not finite at step 1"):
        train(spark, str(folder), str(tmp_path / "m"), dataclasses.replace(SETTINGS, replicas=2), lines.append)
    assert lines == [] and not (tmp_path / "m").exists()


@pytest.mark.spark
def test_more_replicas_than_slots_are_refused_before_anything_starts(
    spark: "SparkSession", dataset: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="4 replicas need as many task slots"):
        run(spark, dataset, tmp_path / "model", replicas=4)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_class_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_synthetic(folder, train=10, validation=4)
    arrays = dict(np.load(folder / "train.npz"))
    arrays["label"][:] = 1
    np.savez(folder / "train.npz", **arrays)
    with pytest.raises(InputError, match="no false allele"):
        prepare_job(str(folder), str(tmp_path / "m"), SETTINGS)


def test_class_weights_make_both_classes_count_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_synthetic(folder, train=20, validation=4)
    arrays = dict(np.load(folder / "train.npz"))
    arrays["label"][:] = (np.arange(20) < 5).astype(np.float32)
    np.savez(folder / "train.npz", **arrays)
    job = prepare_job(str(folder), str(tmp_path / "m"), SETTINGS)
    assert 15 * job.class_weights[0] == pytest.approx(5 * job.class_weights[1]) == pytest.approx(10)
    plain = prepare_job(str(folder), str(tmp_path / "m"), dataclasses.replace(SETTINGS, balance_classes=False))
    assert plain.class_weights == (1, 1)


def test_a_job_survives_json_and_its_fingerprint_is_of_what_the_weights_depend_on(dataset: str, tmp_path: Path) -> None:
    job = prepare_job(dataset, str(tmp_path / "m"), dataclasses.replace(SETTINGS, validation=("chr1", "chr2:1-5")))
    assert ReplicaJob.from_json(job.to_json()) == job
    assert ReplicaJob.from_json(job.to_json()).fingerprint == job.fingerprint
    for name, value in (("replicas", 2), ("max_retries", 4), ("timeout_seconds", 9), ("if_exists", "resume")):
        other = dataclasses.replace(job, settings=dataclasses.replace(job.settings, **{name: value}))
        assert other.fingerprint == job.fingerprint
    for name, value in (("seed", 2), ("batch_size", 64), ("dropout", 0.1), ("loss", "focal"), ("threads", 2)):
        other = dataclasses.replace(job, settings=dataclasses.replace(job.settings, **{name: value}))
        assert other.fingerprint != job.fingerprint


@pytest.mark.spark
def test_another_number_of_lanes_than_was_set_is_said(spark: "SparkSession", dataset: str, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = dataclasses.replace(SETTINGS, replicas=5)
    with pytest.raises(UsageError, match="5 replicas need as many task slots"):
        train(spark, dataset, str(tmp_path / "m"), settings, lines.append)
    assert lines == [
        "batches of 32 on 5 replicas are computed in 8 lanes instead of 4 (train.lanes), "
        "which changes the weights slightly"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicas": 33}, "batch_size is 32 for all replicas together, and there are 33"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"dropout": 1.0}, "dropout"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"if_exists": "maybe"}, "choose fail, resume or overwrite"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SETTINGS, **changes)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 1e-3, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([1e-3 * (i + 1) / 11 for i in range(10)])
    assert rates[10] == pytest.approx(1e-3) and rates[55] == pytest.approx(0.5e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 1e-6
    assert learning_rate(0, 1, 1e-3, 0.05) == 1e-3


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 2)).astype(np.float32), np.int64(7), np.zeros(0, np.float32)]
    state = TrainingState([np.asarray(a) for a in arrays], [np.asarray(arrays[1])], [np.asarray(arrays[0])], 3, 2, 0.5)
    state.history = [{"epoch": 1, "loss": 0.25}]
    state.save(tmp_path, "f")
    read = TrainingState.load(tmp_path, "f", state)
    assert read and (read.epoch, read.best_epoch, read.best_value, read.history) == (3, 2, 0.5, state.history)
    for kind in ("weights", "optimizer", "best"):
        for a, b in zip(getattr(read, kind), getattr(state, kind), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]
    assert TrainingState.load(tmp_path / "none", "f", state) is None
    other = dataclasses.replace(state, weights=state.weights[:1])
    for fingerprint, like in (("g", state), ("f", other)):
        with pytest.raises(UsageError, match="other settings or data"):
            TrainingState.load(tmp_path, fingerprint, like)
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="damaged"):
        TrainingState.load(tmp_path, "f", TrainingState([], [], []))


def test_of_epochs_that_are_alike_the_last_is_kept() -> None:
    def kept(values: list[float], tolerance: float) -> int:
        state = TrainingState([], [], [])
        for state.epoch, value in enumerate(values, 1):
            state.keep_best([np.array(state.epoch)], value, tolerance)
        assert state.best == [state.best_epoch] and state.best_value == max(values)
        return state.best_epoch

    assert kept([0.9, 0.9995, 0.999, 0.998], tolerance=1e-3) == 3
    assert kept([0.9, 0.9995, 0.9989, 0.9981, 0.9973], tolerance=1e-3) == 3  # from the highest, not step by step
    assert kept([0.9, 0.9995, 0.9995, 0.999], tolerance=0) == 2
    assert kept([-3.0, -0.5, -0.7], tolerance=1e-3) == 2  # losses, if there is no AUPRC


def test_a_checkpoint_with_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "state.npz", facts=np.array([{"epoch": 1}], dtype=object))
    with pytest.raises(InputError, match="damaged"):
        TrainingState.load(tmp_path, "f", TrainingState([], [], []))


def test_the_child_ends_when_its_parent_is_gone(dataset: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    out = str(tmp_path / "m")
    job = prepare_job(dataset, out, dataclasses.replace(SETTINGS, epochs=100_000))
    folder = checkpoint_folder(out)
    folder.mkdir()
    child = subprocess.Popen(
        replica_command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert child.stdin
    child.stdin.write(job.to_json().encode() + b"\n")
    child.stdin.flush()
    wait_for(lambda: child.poll() is not None or (folder / STATE_FILE).exists(), 300, "the first epoch's checkpoint")
    assert child.poll() is None  # it is at work
    child.stdin.close()
    assert child.wait(timeout=300) == ENDED_BY_PARENT


def test_a_failing_child_is_reported_with_its_last_lines() -> None:
    import sys

    command = [
        sys.executable,
        "-c",
        "import sys; sys.stdin.readline(); print('out of luck', file=sys.stderr); sys.exit(3)",
    ]
    with pytest.raises(RuntimeError, match="replica 1 ended with exit code 3: out of luck"):
        run_child(command, os.environ, "{}", 1, lambda: None)


def test_progress_is_shown_line_by_line_and_half_lines_wait(tmp_path: Path) -> None:
    path, lines = tmp_path / "history.jsonl", []
    row = {"epoch": 2, "step": 5, "steps": 10, "loss": 0.5, "examples_per_second": 1234.5, "seconds_left": 3725}
    path.write_text(json.dumps(row) + "\n")  # of the attempt before
    follower = HistoryFollower(path, 3, lines.append)
    with follower:
        with open(path, "a") as out:
            out.write(json.dumps(row | {"val_auprc": 0.91, "val_loss": 0.2}) + "\n" + '{"epoch"')
        follower.show_new_lines()
        assert len(lines) == 1
        with open(path, "a") as out:
            out.write(json.dumps(row)[len('{"epoch"') :] + "\n")
    shown = "loss 0.5000  validation loss 0.2000  validation AUPRC 0.9100  1,234 alleles/s  1:02:05 left"
    assert lines[0] == f"epoch 2/3  step 5/10  {shown}"
    assert lines[1] == progress_line(row, 3) and len(lines) == 2


@pytest.mark.spark
def test_training_ends_early_says_so_and_is_the_same_when_resumed(
    spark: "SparkSession", dataset: str, tmp_path: Path
) -> None:
    # A step so small that nothing gets better after the first epochs: the AUPRC stays what it was.
    changes = {"epochs": 9, "patience": 2, "learning_rate": 1e-12, "tolerance": 0.0, "log_dir": str(tmp_path / "log")}
    result, lines = run(spark, dataset, tmp_path / "model", replicas=2, **changes)
    last = result.card.history[-1]["epoch"]
    assert result.best_epoch == last - 2 < 7
    assert lines[-1] == f"2 epochs without a better validation AUPRC: ended after {last}"
    assert [path for path in (tmp_path / "log").iterdir() if "tfevents" in path.name]
    rows = json.loads((tmp_path / "model" / "history.json").read_text())
    assert rows == result.card.history and len(rows) == last
    (Path(dataset) / "fault").write_text(f"kill epoch {last - 1}")
    again, _ = run(spark, dataset, tmp_path / "again", **changes)
    assert again.card.history == result.card.history and again.best_epoch == result.best_epoch
    np.testing.assert_array_equal(weights(again.model_out), weights(result.model_out))
