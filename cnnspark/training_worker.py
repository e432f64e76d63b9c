"""One replica of a training run, in a process of its own: ``python -m cnnspark.training_worker``.

The barrier task (:mod:`cnnspark.training`) writes a :class:`~cnnspark.training_settings.ReplicaJob` on standard input
and reads one line of JSON from standard output; when standard input closes, the task is done or gone, and this process
ends. With several replicas, TF_CONFIG says who they are. TensorFlow's strategy is only the transport of the all-reduce:
each replica owns plain variables and applies the same summed gradient to them, so all stay equal, and equal to one
replica with the whole batch.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from cnnspark.errors import CnnsparkError, RunError
from cnnspark.losses import loss_by_name
from cnnspark.models.bundle import save_bundle
from cnnspark.models.layers import noise_keys
from cnnspark.models.registry import build_model, feed, model_inputs
from cnnspark.training_settings import (
    HISTORY_FILE,
    ReplicaJob,
    checkpoint_folder,
    learning_rate,
)
from cnnspark.training_state import TrainingState
from cnnspark.training_validation import Validation, trained_card

if TYPE_CHECKING:
    from cnnspark.training_data import TrainingData

# A line of the driver's progress in the middle of an epoch at most this often.
PROGRESS_SECONDS = 10.0
ENDED_BY_PARENT = 70


class Replicas:
    """The replicas of this run, and sums over all of them. One replica is its own sum."""

    def __init__(self, rank: int, count: int, timeout_seconds: int):
        self.rank, self.count = rank, count
        if count == 1:
            self.strategy = tf.distribute.get_strategy()
        else:
            # Without a time limit the others wait for a stalled replica for ever.
            options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout_seconds)
            self.strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        self._sum = tf.function(lambda values: self.run(lambda: self.all_reduce(values)))

    def run(self, function: Callable[[], Any]) -> Any:
        """``function`` in the context in which :meth:`all_reduce` may be called."""
        return self.strategy.run(function)

    def all_reduce(self, values: Any) -> Any:
        """The sum of a tensor over all replicas; only within :meth:`run`."""
        # A tensor from outside run() has no device yet, which the strategy refuses; its copy has.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

    def sum_tensor(self, values: Any) -> Any:
        """The sum of a tensor over all replicas."""
        return values if self.count == 1 else self._sum(values)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all replicas, in its own dtype."""
        return values if self.count == 1 else self._sum(tf.constant(values)).numpy()

    def from_first(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The arrays of rank 0, on every replica; their shapes are the same everywhere."""
        # float64 holds every float32 and every count below 2^53.
        flat = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
        flat = self.sum(flat if self.rank == 0 else np.zeros_like(flat))
        parts = np.split(flat, np.cumsum([a.size for a in arrays])[:-1])
        return [part.reshape(a.shape).astype(a.dtype) for part, a in zip(parts, arrays, strict=True)]


class Trainer:
    """The network, its optimizer and the compiled steps of one replica."""

    def __init__(self, job: ReplicaJob, replicas: Replicas):
        settings = job.settings
        self.replicas, self.job = replicas, job
        # The same weights at first on every replica and in every run.
        keras.utils.set_random_seed(settings.seed)
        self.model = build_model(settings.model, job.spec)
        self.loss = loss_by_name(settings.loss)
        self.optimizer = keras.optimizers.Adam(settings.learning_rate, epsilon=settings.adam_epsilon)
        self.optimizer.build(self.model.trainable_variables)
        self.dtypes = model_inputs(self.model)
        self.class_weights = np.asarray(job.class_weights, np.float32)
        inputs = {t.name: tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in self.model.inputs}
        row = tf.TensorSpec([None], tf.float32)
        # No dimension that varies between batches is fixed, so each function is compiled once.
        self._gradient = tf.function(self._lane_gradient, input_signature=[inputs, row, row])
        self._update = tf.function(self._apply_gradient, input_signature=[tf.TensorSpec([None, None], tf.float32)])
        self._logits = tf.function(lambda x: self.model(x, training=False), input_signature=[inputs])

    def _lane_gradient(self, inputs: dict[str, Any], labels: Any, weights: Any) -> Any:
        """The gradient of one lane's share of the loss as one vector, with that share at its end."""
        with tf.GradientTape() as tape:
            losses = self.loss(labels, self.model(inputs, training=True))
            # Over the global batch, so that the sum over the lanes is its mean.
            total = tf.reduce_sum(weights * losses) / self.job.settings.batch_size
        gradients = tape.gradient(total, self.model.trainable_variables)
        return tf.concat([tf.reshape(g, [-1]) for g in (*gradients, total)], axis=0)

    def _apply_gradient(self, lanes: Any) -> Any:
        """One update from the gradients of all lanes, a row each; returns the loss of the global batch."""
        variables = self.model.trainable_variables
        summed = tf.reduce_sum(lanes, axis=0)
        # Clipped by the norm of the whole gradient, hence after the sum. Outside the replicas' context the optimizer
        # sees one replica and does not add the gradients up a second time.
        gradient, total = summed[:-1], summed[-1]
        gradient *= tf.minimum(1.0, self.job.settings.clip_norm / (tf.norm(gradient) + 1e-12))
        parts = tf.split(gradient, [int(np.prod(v.shape)) for v in variables])
        self.optimizer.apply([tf.reshape(p, v.shape) for p, v in zip(parts, variables, strict=True)], variables)
        return total

    def train(
        self, batches: Sequence[Mapping[str, np.ndarray]], first: int, lanes: int, step: int, rate: float
    ) -> float:
        """One step on this replica's lanes of a global batch; returns the loss of the global batch.

        Each lane's gradient is a row of a matrix that is all-reduced with zeros from everybody else, and only then are
        the rows added, in their order: so the sum is the same to the last bit for any number of replicas.
        """
        rows = []
        for batch in batches:
            labels, weights = batch["label"], batch["weight"]
            weights = weights * self.class_weights[(labels > 0.5).astype(np.int64)]
            keys = noise_keys(batch["example_key"], self.job.settings.seed, step)
            inputs = feed({**batch, "noise_key": keys}, self.dtypes)
            if not len(labels):
                # A lane without rows still takes part, with one row that weighs nothing.
                inputs = {name: np.zeros((1, *values.shape[1:]), values.dtype) for name, values in inputs.items()}
                labels = weights = np.zeros(1, np.float32)
            rows.append(self._gradient(inputs, tf.constant(labels), tf.constant(weights)))
        matrix = tf.stack(rows)
        if self.replicas.count > 1:
            matrix = self.replicas.sum_tensor(tf.pad(matrix, [[first, lanes - first - len(rows)], [0, 0]]))
        self.optimizer.learning_rate.assign(rate)
        return float(self._update(matrix))

    def logits(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """The network's output (B,) without dropout."""
        return self._logits(feed(batch, self.dtypes)).numpy()

    def state(self) -> TrainingState:
        """The state at the start of a run."""
        weights = [np.array(w) for w in self.model.weights]
        return TrainingState(weights, [np.array(v) for v in self.optimizer.variables], weights)

    def restore(self, state: TrainingState) -> None:
        """Weights and optimizer variables as they were."""
        self.set_weights(state.weights)
        for variable, values in zip(self.optimizer.variables, state.optimizer, strict=True):
            variable.assign(values)

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Weights only."""
        for variable, values in zip(self.model.weights, weights, strict=True):
            variable.assign(values)


class History:
    """``history.jsonl``, which the driver follows; rank 0 writes it."""

    def __init__(self, folder: Path, rank: int):
        self._path = folder / HISTORY_FILE if rank == 0 else None
        if self._path:
            folder.mkdir(parents=True, exist_ok=True)
        self._last = time.monotonic()

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row."""
        self._last = time.monotonic()
        if self._path:
            with open(self._path, "a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")

    @property
    def due(self) -> bool:
        """Whether it is time for another line in the middle of an epoch."""
        return time.monotonic() - self._last > PROGRESS_SECONDS


class EpochProgress:
    """Losses and pace of one epoch."""

    def __init__(self, epoch: int, epochs: int, steps: int, batch_size: int):
        self.epoch, self.epochs, self.steps, self.batch_size = epoch, epochs, steps, batch_size
        self.losses: list[float] = []
        self._started = time.monotonic()

    def row(self) -> dict[str, Any]:
        """The line of the history: epochs count from 1, the loss is the mean over the epoch's steps so far."""
        done = len(self.losses)
        seconds = max(1e-9, time.monotonic() - self._started)
        steps_left = (self.epochs - self.epoch) * self.steps - done
        return {
            "epoch": self.epoch + 1,
            "step": done,
            "steps": self.steps,
            "loss": float(np.mean(self.losses)),
            "examples_per_second": done * self.batch_size / seconds,
            "seconds_left": steps_left * seconds / max(1, done),
        }


def open_data(job: ReplicaJob) -> TrainingData:
    """The dataset of the job, by the opener that its settings name."""
    module, _, function = job.settings.data_opener.partition(":")
    return getattr(importlib.import_module(module), function)(job.data, job.settings.validation)


def train_replica(job: ReplicaJob, replicas: Replicas) -> dict[str, Any]:
    """All epochs that are missing, and the bundle at the end; rank 0 writes. Returns the best epoch's figures.

    Raises RunError where the loss is not a number or the data give another number of steps than promised.
    """
    settings = job.settings
    folder = checkpoint_folder(job.model_out)
    data = open_data(job)
    trainer = Trainer(job, replicas)
    state = _starting_state(job, trainer, folder)
    trainer.restore(state)
    validation = Validation(trainer, data)
    history = History(folder, replicas.rank)
    steps = -(-data.n_train // settings.batch_size)
    lanes = settings.lanes_used(data.n_row_groups)
    mine = range(replicas.rank * lanes // replicas.count, (replicas.rank + 1) * lanes // replicas.count)
    for epoch in range(state.epoch, settings.epochs):
        progress = EpochProgress(epoch, settings.epochs, steps, settings.batch_size)
        for batches in data.train_batches(mine, lanes, settings.batch_size, settings.seed, epoch):
            step = epoch * steps + len(progress.losses)
            rate = learning_rate(step, steps * settings.epochs, settings.learning_rate, settings.warmup_share)
            loss = trainer.train(batches, mine.start, lanes, step, rate)
            if not np.isfinite(loss):
                raise RunError(f"the loss is {loss} at step {step + 1} (epoch {epoch + 1}); lower the learning rate")
            progress.losses.append(loss)
            if history.due:
                history.write(progress.row())
        if len(progress.losses) != steps:
            raise RunError(f"epoch {epoch + 1} had {len(progress.losses)} steps, not {steps}; build the dataset again")
        row = progress.row()
        figures = validation.metrics(validation.logits())
        row |= {f"val_{name.lower()}": figure for name, figure in figures.items()}
        # Area under the precision-recall curve; where one class is missing there is none, and the loss decides.
        _finish_epoch(state, trainer, epoch + 1, figures.get("AUPRC", -figures["loss"]), row)
        if replicas.rank == 0:
            state.save(folder, job.fingerprint)
        history.write(row)

    trainer.set_weights(state.best)
    metrics, thresholds = validation.by_group(validation.logits())
    if replicas.rank == 0:
        save_bundle(job.model_out, trainer.model, trained_card(job, state, metrics, thresholds), replace=True)
    return {"best_epoch": state.best_epoch, "epochs": state.epoch, "metrics": metrics}


def _starting_state(job: ReplicaJob, trainer: Trainer, folder: Path) -> TrainingState:
    """The checkpoint or, where there is none, the beginning; rank 0 reads it and the others get it from there."""
    state, replicas = trainer.state(), trainer.replicas
    if job.resume and replicas.rank == 0:
        state = TrainingState.load(folder, job.fingerprint) or state
    counters = np.array([state.epoch, state.best_epoch, state.best_value])
    arrays = replicas.from_first([counters, *state.weights, *state.optimizer, *state.best])
    counters, arrays = arrays[0], arrays[1:]
    weights, rest = arrays[: len(state.weights)], arrays[len(state.weights) :]
    state.weights, state.optimizer, state.best = weights, rest[: -len(weights)], rest[-len(weights) :]
    state.epoch, state.best_epoch, state.best_value = int(counters[0]), int(counters[1]), float(counters[2])
    return state


def _finish_epoch(state: TrainingState, trainer: Trainer, epoch: int, value: float, row: Mapping[str, Any]) -> None:
    current = trainer.state()
    state.weights, state.optimizer, state.epoch = current.weights, current.optimizer, epoch
    state.keep_best(current.weights, value, trainer.job.settings.tolerance)
    state.history.append(dict(row))


def _use_one_gpu() -> None:
    """One device for a replica, taking memory as it needs it; without a GPU nothing happens."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[0], "GPU")
        tf.config.experimental.set_memory_growth(gpus[0], True)


def _end_with_parent() -> None:
    """Waits until standard input closes, because the barrier task is done or gone, and ends this process at once."""
    while sys.stdin.buffer.read(1 << 10):
        pass
    os._exit(ENDED_BY_PARENT)


def main() -> None:
    """Reads the job, trains, prints the result as the last line and waits for the end of standard input."""
    job = ReplicaJob.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cluster = json.loads(os.environ.get("TF_CONFIG", "{}"))
    rank = int(cluster["task"]["index"]) if cluster else 0
    try:
        _use_one_gpu()
        tf.config.experimental.enable_op_determinism()
        replicas = Replicas(rank, job.settings.replicas, job.settings.timeout_seconds)
        result: dict[str, Any] = {"result": train_replica(job, replicas)}
    except CnnsparkError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    print(json.dumps({"cnnspark": result}), flush=True)
    # Others may still be fetching the last sum from here: the task says when all are done, by closing standard input.
    # Nor is TensorFlow's own shutdown waited for, which asks after replicas that may be gone.
    threading.Event().wait()


if __name__ == "__main__":
    main()
