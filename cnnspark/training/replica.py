"""One replica of a training run, in a process of its own.

The barrier task (:mod:`cnnspark.training.barrier_stage`) writes a :class:`~cnnspark.training.job.ReplicaJob` on
standard input and reads one line of JSON from standard output. When standard input closes, the task is done or gone,
and this process ends. With several replicas, TF_CONFIG holds their addresses and which of them this is.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from cnnspark.errors import CnnsparkError, RunError
from cnnspark.execution.tensorflow_setup import use_one_gpu
from cnnspark.models.bundle import save_bundle
from cnnspark.training.all_reduce import LOST_REPLICA, Replicas
from cnnspark.training.checkpoint import TrainingState
from cnnspark.training.dead_layers import dead_layers
from cnnspark.training.history import EpochProgress, EventLog, History
from cnnspark.training.job import ReplicaJob, open_by_name
from cnnspark.training.settings import TrainSettings, checkpoint_folder, learning_rate
from cnnspark.training.trainer import Trainer
from cnnspark.training.validation import VALIDATION_BATCH, Validation, trained_card, validation_of
from cnnspark.training.warm_start import weights_between

if TYPE_CHECKING:
    from cnnspark.common.storage import Location
    from cnnspark.training.data import TrainingData

ENDED_BY_PARENT = 70
LOOKED_AT = 512  # held-out alleles by which dead layers are found
# prctl(2)
PR_SET_PDEATHSIG = 1


def open_data(job: ReplicaJob, fields: Iterable[str]) -> TrainingData:
    """Opens the datasets of a job.

    Args:
        job: the training.
        fields: the fields of a tensor that are read.
    """
    return open_by_name(job.data_opener, job.data, job.settings.validation, fields)


def train_replica(job: ReplicaJob, replicas: Replicas) -> dict[str, Any]:
    """Trains all epochs that are missing, and writes the bundle at the end; rank 0 writes.

    Args:
        job: the training.
        replicas: all replicas, and which of them this is.

    Returns:
        ``best_epoch`` (from 1), ``epochs`` and ``metrics`` of the held-out alleles by name.

    Raises:
        RunError: if the loss or a held-out allele's logit is not finite, the data give another number of steps than
            their card promises, or something cannot be written.
        UsageError: if the checkpoint is of other settings or data.
        InputError: if the checkpoint, the data or a bundle to start from cannot be read.
    """
    settings = job.settings
    folder = checkpoint_folder(job.model_out)
    trainer = Trainer(job, replicas)
    data = open_data(job, trainer.dtypes)
    start = trainer.state().weights
    state = _starting_state(job, trainer, folder)
    trainer.restore(state)
    validation = validation_of(trainer, data)
    history, events = History(folder, replicas.rank), EventLog(settings.log_dir, replicas.rank)
    if trainer.taken and not state.epoch:
        with _full_disk_explained():
            history.say(trainer.taken)
    steps = -(-data.n_train // settings.batch_size)
    while state.epoch < settings.epochs and not state.is_over(settings.patience):
        row = _train_epoch(trainer, data, EpochProgress(state.epoch, settings, steps), history, events)
        figures = _validate(validation, state.epoch + 1, settings)
        row |= {f"val_{name.lower()}": figure for name, figure in figures.items()}
        _finish_epoch(state, trainer, validation.value(figures), row)
        with _full_disk_explained():
            events.epoch(state.epoch * steps, row)
            if replicas.rank == 0:
                state.save(folder, _fingerprint(job, trainer))
            history.write(row)

    trainer.set_weights(weights_between(start, state.best, trainer.kept_shares()))
    findings = validation.findings(validation.measure())
    if replicas.rank == 0:
        some = islice(data.validation_batches(VALIDATION_BATCH), LOOKED_AT // VALIDATION_BATCH)
        dead = {} if settings.pretrains else dead_layers(trainer.activity(some))
        with _full_disk_explained():
            card = trained_card(job, state, findings, trainer.objective.untrained, dead)
            save_bundle(job.model_out, trainer.model, card, replace=True)
    return {"best_epoch": state.best_epoch, "epochs": state.epoch, "metrics": findings.metrics}


def _train_epoch(
    trainer: Trainer, data: TrainingData, progress: EpochProgress, history: History, events: EventLog
) -> dict[str, Any]:
    """All steps of one epoch; returns its row of the history."""
    job, settings, replicas = trainer.job, trainer.job.settings, trainer.replicas
    epoch, steps = progress.epoch, progress.steps
    mine = range(replicas.rank * job.lanes // replicas.count, (replicas.rank + 1) * job.lanes // replicas.count)
    for batches in data.train_batches(mine, job.lanes, settings.batch_size, settings.seed, epoch):
        step = epoch * steps + len(progress.losses)
        rate = learning_rate(step, steps * settings.epochs, settings.learning_rate, settings.warmup_share)
        loss = trainer.train(batches, step, rate)
        if not np.isfinite(loss):
            raise RunError(
                f"the loss or its gradient is not finite at step {step + 1} (epoch {epoch + 1}); lower the learning "
                "rate (train.learning_rate)"
            )
        progress.losses.append(loss)
        with _full_disk_explained():
            events.step(step, loss, rate)
            if history.due:
                history.write(progress.row())
    if len(progress.losses) != steps:
        raise RunError(
            f"epoch {epoch + 1} had {len(progress.losses)} steps, the dataset's card promises {steps}; build the "
            "dataset again"
        )
    return progress.row()


def _validate(validation: Validation, epoch: int, settings: TrainSettings) -> dict[str, float]:
    """The metrics of the held-out alleles after an epoch (from 1)."""
    measured = validation.measure()
    if not np.isfinite(measured).all():
        what = "losses" if settings.pretrains else "scores"
        raise RunError(
            f"the {what} of held-out alleles are not finite after epoch {epoch}; lower the learning rate "
            "(train.learning_rate)"
        )
    return validation.metrics(measured)


@contextlib.contextmanager
def _full_disk_explained() -> Iterator[None]:
    """Turns a full disk or quota into a RunError, which is not retried: trying again at once would not help."""
    try:
        yield
    except (OSError, tf.errors.ResourceExhaustedError, tf.errors.UnknownError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).split("\n")[0]
        raise RunError(
            f"the checkpoint, the model or the log cannot be written ({reason or error}); free space and run it again "
            "with --if-exists resume"
        ) from error


def _fingerprint(job: ReplicaJob, trainer: Trainer) -> str:
    """What a checkpoint must have to be resumed: the job's fingerprint, and what "auto" became on this machine."""
    return f"{job.fingerprint} {trainer.compute_type}"


def _starting_state(job: ReplicaJob, trainer: Trainer, folder: Location) -> TrainingState:
    """The checkpoint, or the beginning if it is missing; rank 0 reads it and sends it to the others."""
    state, replicas = trainer.state(), trainer.replicas
    if job.resume and replicas.rank == 0:
        state = TrainingState.load(folder, _fingerprint(job, trainer), state) or state
    counters = np.array([state.epoch, state.best_epoch, state.highest_epoch, state.best_value])
    arrays = replicas.from_first([counters, *state.weights, *state.optimizer, *state.best])
    counters, arrays = arrays[0], arrays[1:]
    weights, rest = arrays[: len(state.weights)], arrays[len(state.weights) :]
    state.weights, state.optimizer, state.best = weights, rest[: -len(weights)], rest[-len(weights) :]
    state.epoch, state.best_epoch, state.highest_epoch = (int(count) for count in counters[:3])
    state.best_value = float(counters[3])
    return state


def _finish_epoch(state: TrainingState, trainer: Trainer, value: float, row: Mapping[str, Any]) -> None:
    current = trainer.state()
    state.weights, state.optimizer, state.epoch = current.weights, current.optimizer, state.epoch + 1
    state.keep_best(current.weights, value, trainer.job.settings.tolerance)
    state.history.append(dict(row))


def _end_with_parent() -> None:
    """Waits until standard input closes because the barrier task is done or gone, then ends this process at once."""
    while sys.stdin.buffer.read(1 << 10):
        pass
    os._exit(ENDED_BY_PARENT)


def _die_with_parent() -> None:
    """Makes Linux kill this process when the task's ends: a stopped process does not see its standard input close."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Reads the job, trains, prints the result as the last line and waits for the end of standard input."""
    _die_with_parent()
    job = ReplicaJob.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cluster = json.loads(os.environ.get("TF_CONFIG", "{}"))
    rank = int(cluster["task"]["index"]) if cluster else 0
    try:
        use_one_gpu(tf)
        tf.config.experimental.enable_op_determinism()
        replicas = Replicas(rank, job.settings.replicas, job.settings.timeout_seconds)
        result: dict[str, Any] = {"result": train_replica(job, replicas)}
    except CnnsparkError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, LOST_REPLICA) and job.settings.replicas > 1:
            # The last line is what the driver shows.
            print(
                f"another replica is gone, or did not answer within {job.settings.timeout_seconds} s "
                "(train.timeout_seconds)",
                file=sys.stderr,
            )
        sys.stderr.flush()
        os._exit(1)
    print(json.dumps({"cnnspark": result}), flush=True)
    # Others may still be fetching the last sum from here: the task closes standard input when all are done. This also
    # avoids TensorFlow's own shutdown, which asks after replicas that may be gone.
    threading.Event().wait()
