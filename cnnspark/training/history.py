"""What a training writes while it runs: lines of the history that the driver follows, and TensorBoard's event log."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from cnnspark.common.storage import is_remote, make_parents, write_text
from cnnspark.training.settings import HISTORY_LINES_FILE, TrainSettings

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

# In the middle of an epoch the driver gets a line at most this often.
PROGRESS_SECONDS = 10.0
# Steps whose mean loss is one point in TensorBoard.
POINT_STEPS = 20


class History:
    """``history.jsonl``, which the driver follows (:mod:`cnnspark.training.history_follower`); rank 0 writes it."""

    def __init__(self, folder: Location, rank: int):
        """Keeps the lines that are there already.

        Args:
            folder: of the training's checkpoints.
            rank: of this replica; other ranks than 0 write nothing.
        """
        self._path = folder / HISTORY_LINES_FILE if rank == 0 else None
        # Objects in a store cannot be appended to: all lines are written again, about every ten seconds.
        self._text = ""
        if self._path:
            make_parents(self._path)
            if is_remote(self._path) and self._path.exists():
                self._text = self._path.read_text()
        self._last = time.monotonic()

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row."""
        self._last = time.monotonic()
        self._append(row)

    def say(self, text: str) -> None:
        """Makes the driver show a line that belongs to no epoch."""
        self._append({"said": text})

    def _append(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row) + "\n"
        if self._path and is_remote(self._path):
            self._text += line
            write_text(self._path, self._text)
        elif self._path:
            with self._path.open("a", encoding="utf-8") as out:
                out.write(line)

    @property
    def due(self) -> bool:
        """Whether it is time for another line in the middle of an epoch."""
        return time.monotonic() - self._last > PROGRESS_SECONDS


class EpochProgress:
    """Losses and speed of one epoch.

    ``epoch`` counts from 0, ``steps`` are those of an epoch, ``losses`` those of the steps so far.
    """

    def __init__(self, epoch: int, settings: TrainSettings, steps: int):
        self.epoch, self.settings, self.steps = epoch, settings, steps
        self.losses: list[float] = []
        self._started = time.monotonic()

    def row(self) -> dict[str, Any]:
        """The line of the history.

        Returns:
            ``epoch`` (from 1), ``step`` (how many are done) and ``steps`` of the epoch, ``loss`` (the mean over the
            steps so far), ``examples_per_second``, ``seconds_left`` of the whole training.
        """
        done = len(self.losses)
        seconds = max(1e-9, time.monotonic() - self._started)
        steps_left = (self.settings.epochs - self.epoch) * self.steps - done
        return {
            "epoch": self.epoch + 1,
            "step": done,
            "steps": self.steps,
            "loss": float(np.mean(self.losses)),
            "examples_per_second": done * self.settings.batch_size / seconds,
            "seconds_left": steps_left * seconds / max(1, done),
        }


class EventLog:
    """Scalars for TensorBoard: loss and learning rate over the steps, and each epoch's metrics at its last step."""

    def __init__(self, folder: str | None, rank: int):
        """Opens the log.

        Args:
            folder: of the log; None for no log.
            rank: of this replica; other ranks than 0 write nothing.
        """
        self._writer = tf.summary.create_file_writer(folder) if folder and rank == 0 else None
        self._losses: list[float] = []

    def step(self, step: int, loss: float, rate: float) -> None:
        """Adds one step (from 0); POINT_STEPS of them are written as one point."""
        self._losses.append(loss)
        if len(self._losses) == POINT_STEPS:
            self._write(step + 1, {"loss": float(np.mean(self._losses)), "learning_rate": rate})
            self._losses = []

    def epoch(self, step: int, row: Mapping[str, Any]) -> None:
        """Writes a finished epoch and flushes the log.

        Args:
            step: how many steps the training has done.
            row: the epoch's line of the history.
        """
        kept = {name: row[name] for name in row if name.startswith("val_") or name == "examples_per_second"}
        self._write(step, {"epoch": float(row["epoch"]), "epoch_loss": row["loss"], **kept})
        if self._writer:
            self._writer.flush()

    def _write(self, step: int, scalars: Mapping[str, float]) -> None:
        if not self._writer:
            return
        # tf.summary.scalar needs the tensorboard package; the protocol buffer that it writes does not.
        values = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        with self._writer.as_default():
            tf.summary.experimental.write_raw_pb(tf.compat.v1.Summary(value=values).SerializeToString(), step=step)
