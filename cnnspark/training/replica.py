"""One replica of a training run, in a process of its own.

The barrier task (:mod:`cnnspark.training.barrier_stage`) writes a :class:`~cnnspark.training.settings.ReplicaJob` on
standard input and reads one line of JSON from standard output; when standard input closes, the task is done or gone,
and this process ends. With several replicas, TF_CONFIG says who they are.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from cnnspark.training.job import open_by_name
from cnnspark.training.settings import ReplicaJob, checkpoint_folder, learning_rate
from cnnspark.training.trainer import Trainer
from cnnspark.training.validation import VALIDATION_BATCH, trained_card, validation_of

if TYPE_CHECKING:
    from cnnspark.common.storage import Location
    from cnnspark.training.data import TrainingData

ENDED_BY_PARENT = 70
LOOKED_AT = 512  # held-out alleles by which a layer is found dead
# prctl(2)
PR_SET_PDEATHSIG = 1


def open_data(job: ReplicaJob, fields: Iterable[str]) -> TrainingData:
    """The dataset of the job; of its tensors only the named fields."""
    return open_by_name(job.data_opener, job.data, job.settings.validation, fields)


def train_replica(job: ReplicaJob, replicas: Replicas) -> dict[str, Any]:
    """All epochs that are missing, and the bundle at the end; rank 0 writes. Returns the best epoch's figures.

    Raises RunError where the loss or a held-out allele's logit is not a number, the data give another number of steps
    than promised, or what is to be written cannot be.
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
        with _said_where_full():
            history.say(trainer.taken)
    steps = -(-data.n_train // settings.batch_size)
    mine = range(replicas.rank * job.lanes // replicas.count, (replicas.rank + 1) * job.lanes // replicas.count)
    while state.epoch < settings.epochs and not state.is_over(settings.patience):
        epoch = state.epoch
        progress = EpochProgress(epoch, settings.epochs, steps, settings.batch_size)
        for batches in data.train_batches(mine, job.lanes, settings.batch_size, settings.seed, epoch):
            step = epoch * steps + len(progress.losses)
            rate = learning_rate(step, steps * settings.epochs, settings.learning_rate, settings.warmup_share)
            loss = trainer.train(batches, step, rate)
            if not np.isfinite(loss):
                raise RunError(
                    f"the loss or its gradient is no number at step {step + 1} (epoch {epoch + 1}); lower the learning "
                    "rate"
                )
            progress.losses.append(loss)
            with _said_where_full():
                events.step(step, loss, rate)
                if history.due:
                    history.write(progress.row())
        if len(progress.losses) != steps:
            raise RunError(f"epoch {epoch + 1} had {len(progress.losses)} steps, not {steps}; build the dataset again")
        row = progress.row()
        measured = validation.measure()
        if not np.isfinite(measured).all():
            what = "losses" if settings.pretrains else "scores"
            raise RunError(
                f"the network gives held-out alleles {what} that are no numbers after epoch {epoch + 1}; lower the "
                "learning rate (train.learning_rate)"
            )
        figures = validation.metrics(measured)
        row |= {f"val_{name.lower()}": figure for name, figure in figures.items()}
        _finish_epoch(state, trainer, epoch + 1, validation.value(figures), row)
        with _said_where_full():
            events.epoch((epoch + 1) * steps, row)
            if replicas.rank == 0:
                state.save(folder, _fingerprint(job, trainer))
            history.write(row)

    trainer.set_weights(_between(start, state.best, trainer.kept_shares()))
    findings = validation.findings(validation.measure())
    if replicas.rank == 0:
        some = islice(data.validation_batches(VALIDATION_BATCH), LOOKED_AT // VALIDATION_BATCH)
        dead = {} if settings.pretrains else dead_layers(trainer.activity(some))
        with _said_where_full():
            card = trained_card(job, state, findings, trainer.objective.untrained, dead)
            save_bundle(job.model_out, trainer.model, card, replace=True)
    return {"best_epoch": state.best_epoch, "epochs": state.epoch, "metrics": findings.metrics}


@contextlib.contextmanager
def _said_where_full() -> Iterator[None]:
    """A disk that is full, or a quota, said in one sentence: trying again at once would not help."""
    try:
        yield
    except (OSError, tf.errors.ResourceExhaustedError, tf.errors.UnknownError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).split("\n")[0]
        raise RunError(
            f"the checkpoint, the model or the log cannot be written ({reason or error}); free space and run it again "
            "with --if-exists resume"
        ) from error


def _fingerprint(job: ReplicaJob, trainer: Trainer) -> str:
    """What a checkpoint is only ever resumed under: the job's, and what "auto" became on this machine."""
    return f"{job.fingerprint} {trainer.compute_type}"


def _starting_state(job: ReplicaJob, trainer: Trainer, folder: Location) -> TrainingState:
    """The checkpoint or, where there is none, the beginning; rank 0 reads it and the others get it from there."""
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


def _between(start: Sequence[np.ndarray], end: Sequence[np.ndarray], shares: Sequence[float]) -> list[np.ndarray]:
    """The weights of each of which a share is the start's."""
    return [
        (kept * old + (1 - kept) * new).astype(new.dtype) if np.issubdtype(new.dtype, np.floating) else new
        for old, new, kept in zip(start, end, shares, strict=True)
    ]


def _finish_epoch(state: TrainingState, trainer: Trainer, epoch: int, value: float, row: Mapping[str, Any]) -> None:
    current = trainer.state()
    state.weights, state.optimizer, state.epoch = current.weights, current.optimizer, epoch
    state.keep_best(current.weights, value, trainer.job.settings.tolerance)
    state.history.append(dict(row))


def _end_with_parent() -> None:
    """Waits until standard input closes, because the barrier task is done or gone, and ends this process at once."""
    while sys.stdin.buffer.read(1 << 10):
        pass
    os._exit(ENDED_BY_PARENT)


def _die_with_parent() -> None:
    """Has Linux kill this process when the task's ends: one that is stopped does not see its standard input close."""
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
    # Others may still be fetching the last sum from here: the task says when all are done, by closing standard input.
    # Nor is TensorFlow's own shutdown waited for, which asks after replicas that may be gone.
    threading.Event().wait()
