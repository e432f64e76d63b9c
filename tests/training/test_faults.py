"""What happens to a training when something fails: a replica that stands still, a full disk, a loss that is not finite.

Every fault is real, in a real replica's process (:meth:`tests.support.synthetic_training.SyntheticData._interfere`).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import contextlib
import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cnnspark.errors import InputError, RunError
from cnnspark.training.settings import checkpoint_folder
from tests.conftest import ROOT, Sample
from tests.support.synthetic_training import prepare_job, train, write_synthetic
from tests.support.trainings import SETTINGS, epochs_of, run, weights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def stopped_processes() -> list[int]:
    """Replicas of this machine that were stopped by a signal, and that nobody has ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = (status.parent / "cmdline").read_bytes()
            of_replica = b"cnnspark.training.replica" in command or b"tests.support.fork_server" in command
            if of_replica and re.search(r"State:\s+T", status.read_text()):
                found.append(int(status.parent.name))
        except OSError:  # ended meanwhile
            continue
    return found


@pytest.mark.slow
def test_a_stalled_replica_times_out_and_is_replaced(
    spark: "SparkSession", dataset: str, uninterrupted: str, tmp_path: Path
) -> None:
    before = stopped_processes()
    (Path(dataset) / "fault").write_text("stop epoch 1")
    result, lines = run(spark, dataset, tmp_path / "model", replicas=2, timeout_seconds=15)
    retried = [line for line in lines if "trying again" in line]
    assert len(retried) == 1 and "did not answer within 15 s (train.timeout_seconds)" in retried[0]
    np.testing.assert_array_equal(weights(result.model_out), weights(uninterrupted))
    assert stopped_processes() == before


def test_a_full_disk_at_a_checkpoint_is_one_sentence_and_the_run_is_resumed(
    spark: "SparkSession", dataset: str, uninterrupted: str, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    (Path(dataset) / "fault").write_text("full epoch 1")
    with pytest.raises(RunError, match=r"cannot be written \(File too large\); free space .* --if-exists resume"):
        run(spark, dataset, out)
    folder = checkpoint_folder(str(out))
    assert {path.name for path in folder.iterdir()} == {"state.npz", "history.jsonl"} and not out.exists()
    job = prepare_job(dataset, str(out), SETTINGS)
    with np.load(folder / "state.npz") as stored:  # the one before, whole
        facts = json.loads(stored["facts"].tobytes())
    assert facts["epoch"] == 1 and facts["fingerprint"] == f"{job.fingerprint} float32"
    result, lines = run(spark, dataset, out, if_exists="resume")
    assert epochs_of(lines) == ["epoch 2/2"]
    np.testing.assert_array_equal(weights(result.model_out), weights(uninterrupted))


def test_a_full_disk_at_the_bundle_leaves_no_half_of_one(
    spark: "SparkSession", dataset: str, uninterrupted: str, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    (Path(dataset) / "fault").write_text("full pass 3")  # after two epochs: the figures of the bundle
    with pytest.raises(RunError, match="cannot be written"):
        run(spark, dataset, out)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]
    result, lines = run(spark, dataset, out, if_exists="resume")
    assert lines == []  # nothing is trained again
    np.testing.assert_array_equal(weights(result.model_out), weights(uninterrupted))


def test_an_absurd_learning_rate_is_said_at_once(spark: "SparkSession", dataset: str, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"the loss or its gradient is not finite at step \d+ \(epoch 1\); lower the learning rate"
    ):
        run(spark, dataset, tmp_path / "model", learning_rate=1e30, model="reads")
    assert not (tmp_path / "model").exists()


def test_held_out_scores_that_are_no_numbers_are_said_with_the_epoch(
    spark: "SparkSession", dataset: str, tmp_path: Path
) -> None:
    # One step an epoch: the loss of the first is finite, and so is its gradient.
    with pytest.raises(RunError, match=r"scores of held-out alleles are not finite after epoch 1; lower"):
        run(spark, dataset, tmp_path / "model", learning_rate=1e30, batch_size=65)
    assert not (tmp_path / "model").exists()


def test_fewer_row_groups_than_replicas_are_said_before_anything_starts(spark: "SparkSession", tmp_path: Path) -> None:
    data = write_synthetic(tmp_path / "data", train=12, validation=4)
    settings = dataclasses.replace(SETTINGS, replicas=2)
    opener = "tests.support.synthetic_training:open_one_row_group"
    with pytest.raises(InputError, match="the training blocks have 1 for 2 replicas"):
        train(spark, data, str(tmp_path / "model"), settings, print, opener)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_class_that_validation_lacks_leaves_the_loss_to_decide(spark: "SparkSession", tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_synthetic(folder, train=40, validation=20)
    held = dict(np.load(folder / "validation.npz"))
    held["label"][:] = 1
    np.savez(folder / "validation.npz", **held)
    card = run(spark, str(folder), tmp_path / "model")[0].card
    assert all("val_auprc" not in row for row in card.history)
    best = min(card.history, key=lambda row: row["val_loss"])
    assert card.training["best_epoch"] == best["epoch"]


@pytest.mark.slow
def test_ctrl_c_ends_a_training_at_once_and_it_is_resumable(sample: Sample, tmp_path: Path) -> None:
    out = tmp_path / "model"
    command = [sys.executable, "-m", "cnnspark.cli", "train", "--master", "local[2]", "--data", sample.dataset]
    command += ["--model-out", str(out), "--model", "features", "--epochs", "100000", "--batch-size", "16"]
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stderr
    try:
        for line in child.stderr:
            if "epoch 2/" in line:
                break
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does it
        rest = child.communicate(timeout=60)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == 130
    assert "interrupted; run again with --if-exists resume" in rest
    assert "Traceback" not in rest and "trying again" not in rest
    assert (checkpoint_folder(str(out)) / "state.npz").exists() and not out.exists()
