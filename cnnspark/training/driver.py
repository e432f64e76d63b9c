"""Distributed training: one replica per task of a Spark barrier stage, gradients all-reduced between them.

The driver prepares what all replicas must agree on (quantiles, class weights), starts the stage
(:mod:`cnnspark.training.barrier_stage`), shows its progress and, when a replica dies, has it started again from the
last epoch's checkpoint. The model's folder must be on storage that driver and executors share.

The same settings and data give the same weights, bit by bit, on any number of replicas up to the lanes of a batch
(:mod:`cnnspark.training.trainer`).
"""

from __future__ import annotations

import contextvars
import dataclasses
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnspark.common.log import about
from cnnspark.common.storage import (
    absolute,
    explained,
    has_files,
    is_remote,
    location,
    make_parents,
    make_room,
    remove,
    require_free,
    size,
)
from cnnspark.errors import UsageError
from cnnspark.models.bundle_files import absolute_model, chosen_model
from cnnspark.models.card import Card, read_card
from cnnspark.tensors.joined_dataset import sample_folders
from cnnspark.training.barrier_stage import check_slots, run_with_retries
from cnnspark.training.by_parts import FIRST_PART, parts_folder, parts_of
from cnnspark.training.job import prepare_job
from cnnspark.training.settings import DATA_OPENER, HISTORY_LINES_FILE, STATE_FILE, TrainSettings, checkpoint_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.common.storage import Location


@dataclass(frozen=True)
class TrainResult:
    """What a training run has come to."""

    model_out: str
    card: Card

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, whose weights the bundle has: alone, or with a share of the start's (``keep_start``)."""
        return int(self.card.training["best_epoch"])

    @property
    def validation(self) -> dict[str, Any]:
        """The figures of the best epoch, before a share of the start's weights was kept."""
        return next((row for row in self.card.history if row["epoch"] == self.best_epoch), {})

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values."""
        return {
            "model_out": self.model_out,
            "sha256": self.card.sha256,
            "best_epoch": self.best_epoch,
            "validation": self.validation,
        }

    def text(self) -> str:
        """The result in one line."""
        found = _figure(self.validation, "val_auprc", "val_loss")
        if kept := self.card.training.get("keep_start"):
            found += f", with {kept:g} of the start's weights {_figure(self.card.metrics, 'AUPRC ALL', 'loss ALL')}"
        return f"best epoch {self.best_epoch}, validation {found}: {self.model_out}"


def _figure(figures: Mapping[str, Any], auprc: str, loss: str) -> str:
    """What is shown of figures: the AUPRC or, where there is none, the loss."""
    return f"AUPRC {figures[auprc]:.4f}" if auprc in figures else f"loss {figures[loss]:.4f}"


@dataclass(frozen=True)
class _Run:
    """What one training, or the several trainings by parts, have in common."""

    spark: SparkSession
    data: Sequence[str]  # folders of datasets
    data_opener: str
    say: Callable[[str], None]


@about(stage="train")
def train(
    spark: SparkSession,
    data: str | Sequence[str],
    model_out: str,
    settings: TrainSettings,
    progress: Callable[[str], None] | None = None,
    data_opener: str = DATA_OPENER,
) -> TrainResult:
    """Trains ``settings.model`` on one dataset, or on several together, and writes the bundle to ``model_out``.

    The folder of ``tensors --sheet`` stands for the datasets of all its samples. With the objective ``pretrain`` labels
    are not looked at, and the bundle is one to start from (``settings.init``). With ``by_parts`` it is several
    trainings, one after another.

    Args:
        progress: is given one line for each epoch, and about one every ten seconds within; standard error by default.
        data_opener: what opens the data, on the driver and in each replica's process, as ``module:function``.

    Raises UsageError (settings, too few slots, the folder exists), InputError (the dataset), RunError (the loss
    diverged, or a replica died more than ``max_retries`` times; ``if_exists="resume"`` then goes on from the last
    epoch).
    """
    settings.require_start()
    data = [folder for path in ([data] if isinstance(data, str) else data) for folder in sample_folders(path)]
    model_out = absolute(model_out)
    if settings.log_dir and "://" not in settings.log_dir:
        settings = dataclasses.replace(settings, log_dir=os.path.abspath(settings.log_dir))
    given = {name: path for name in ("init", "picture") if (path := getattr(settings, name))}
    found: dict[str, Any] = {name: absolute_model(chosen_model(path, with_reads=True)) for name, path in given.items()}
    settings = dataclasses.replace(settings, **found)
    train_all = _train_by_parts if settings.by_parts else _train_at_once
    return train_all(_Run(spark, data, data_opener, progress or _to_stderr), model_out, settings)


def _train_by_parts(run: _Run, model_out: str, settings: TrainSettings) -> TrainResult:
    """The trainings of :mod:`cnnspark.training.by_parts` one after another; their bundles are removed at the end.

    A bundle that is to be overwritten stays until the last of them writes its own.
    """
    folder, checkpoints = parts_folder(model_out), checkpoint_folder(model_out)
    with explained(model_out):
        for unfinished in (folder, checkpoints):
            _check_folders(location(model_out), unfinished, settings.if_exists)
    parts = parts_of(settings, model_out, _first_part_is_done(settings.init))
    whole = prepare_job(run.data, model_out, settings, data_opener=run.data_opener).fingerprint
    if settings.if_exists == "resume" and location(model_out).exists():
        card = read_card(model_out)
        found = card.training.get("by_parts")
        if found == whole:
            # It is written last: what lies beside it is what a clean-up left that did not come to its end.
            for path in (folder, checkpoints):
                remove(path)
            return TrainResult(model_out, card)
        # With parts beside it the bundle is one that an interrupted run was to overwrite.
        if not has_files(folder):
            _require_same(model_out, found, whole)
    check_slots(run.spark, settings)
    if settings.if_exists != "resume":
        for path in (folder, checkpoints):
            remove(path)
    for i, part in enumerate(parts, 1):
        run.say(f"part {i} of {len(parts)}: {part.title}")
        result = _train_at_once(run, part.model_out, part.settings, whole, replaces=part is parts[-1])
    remove(folder)
    return result


def _first_part_is_done(init: str | None) -> bool:
    """Whether training by parts starts from a model that is its first part, ``features``, and not only pre-trained.

    Raises UsageError where it is a model that no part can start from.
    """
    if init is None:
        return False
    card = read_card(init)
    if card.model != FIRST_PART:
        raise UsageError(
            f"{init} is a '{card.model}' model, training by parts starts from '{FIRST_PART}'; choose another --init, "
            "or leave --by-parts out"
        )
    return not card.pretrained


def _require_same(model_out: str, found: object, wanted: str) -> None:
    if found != wanted:
        raise UsageError(f"{model_out} was trained with other settings or data; use --if-exists overwrite")


def _train_at_once(
    run: _Run, model_out: str, settings: TrainSettings, whole: str = "", replaces: bool = False
) -> TrainResult:
    """One training; ``whole`` is the fingerprint of that which it is a part of. ``replaces``: what is at ``model_out``
    is another's, to be overwritten also where this one is resumed."""
    folder = checkpoint_folder(model_out)
    with explained(model_out):
        _check_folders(location(model_out), folder, settings.if_exists)
    make_room(folder, "--model-out")
    job = dataclasses.replace(prepare_job(run.data, model_out, settings, run.say, run.data_opener), whole=whole)
    if settings.if_exists == "resume" and location(model_out).exists() and not replaces:
        card = read_card(model_out)
        _require_same(model_out, card.training.get("fingerprint"), job.fingerprint)
        if not (folder / STATE_FILE).exists():
            return TrainResult(model_out, card)
    if job.lanes != settings.lanes:
        on = "1 replica" if settings.replicas == 1 else f"{settings.replicas} replicas"
        run.say(
            f"batches of {settings.batch_size} on {on} are computed in {job.lanes} lanes, not "
            f"{settings.lanes} (train.lanes), which changes the weights a little"
        )
    check_slots(run.spark, settings)
    # Only now, with all else in order, is an earlier run's state given up.
    if settings.if_exists != "resume":
        remove(folder)
    make_parents(folder / STATE_FILE)
    job = dataclasses.replace(job, resume=settings.if_exists == "resume")
    with _Follower(folder / HISTORY_LINES_FILE, settings.epochs, run.say):
        run_with_retries(run.spark, job, run.say)
    card = read_card(model_out)
    if len(card.history) < settings.epochs:
        figure = "loss" if settings.pretrains else "AUPRC"
        run.say(f"{settings.patience} epochs without a better validation {figure}: ended after {len(card.history)}")
    if dead := card.training.get("dead_layers"):
        run.say(
            f"warning: layers of {model_out} say the same of nearly all held-out alleles, and so does what lies behind "
            f"them: {', '.join(dead)}; look at its figures, and train again with another train.seed or a lower "
            "train.learning_rate"
        )
    remove(folder)
    return TrainResult(model_out, card)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check_folders(model_out: Location, folder: Location, if_exists: str) -> None:
    for path in (model_out, folder):
        note = ", from a training that is not finished" if path == folder else ""
        require_free(path, if_exists != "fail", "--model-out", "resume or overwrite", note=note)
    if (
        model_out.exists()
        and not (model_out / "model.json").exists()
        and (model_out.is_file() or any(model_out.iterdir()))
    ):
        raise UsageError(f"{model_out} is not a model bundle; choose another --model-out")


class _Follower:
    """Shows the lines that rank 0 adds to the history, from a thread, while the driver waits for the stage."""

    def __init__(self, path: Location, epochs: int, say: Callable[[str], None]):
        self._path, self._epochs, self._say = path, epochs, say
        self._offset = size(path) or 0
        # Each look at an object is a request.
        self._pause_seconds = 5.0 if is_remote(path) else 1.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._follow,), daemon=True)

    def __enter__(self) -> _Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def _follow(self) -> None:
        while not self._stop.wait(self._pause_seconds):
            self._read()

    def _read(self) -> None:
        if (size(self._path) or 0) <= self._offset:
            return
        with self._path.open("rb") as history:
            history.seek(self._offset)
            text = history.read()
        whole = text[: text.rfind(b"\n") + 1]  # a line may be half written
        self._offset += len(whole)
        for line in whole.splitlines():
            self._say(progress_line(json.loads(line), self._epochs))


def progress_line(row: Mapping[str, Any], epochs: int) -> str:
    """One line of the history as text."""
    if "said" in row:
        return str(row["said"])
    parts = [f"epoch {row['epoch']}/{epochs}", f"step {row['step']}/{row['steps']}", f"loss {row['loss']:.4f}"]
    names = {"val_loss": "validation loss", "val_auprc": "validation AUPRC"}
    parts += [f"{shown} {row[name]:.4f}" for name, shown in names.items() if name in row]
    parts.append(f"{row['examples_per_second']:,.0f} alleles/s")
    left = int(row["seconds_left"])
    parts.append(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left")
    return "  ".join(parts)
