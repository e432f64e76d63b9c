"""Distributed training: one replica per task of a Spark barrier stage, gradients all-reduced between them.

The driver prepares what all replicas must agree on (quantiles, class weights), starts the stage
(:mod:`cnnspark.training.barrier_stage`), shows its progress and, when a replica dies, has it started again from the
last epoch's checkpoint. The model's folder must be on storage that driver and executors share.

The same settings and data give the same weights, bit for bit, on any number of replicas up to the lanes of a batch
(:mod:`cnnspark.training.trainer`).
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnspark.common.log import about
from cnnspark.common.storage import (
    absolute,
    explained,
    has_files,
    location,
    make_parents,
    make_room,
    remove,
    require_free,
)
from cnnspark.errors import UsageError
from cnnspark.models.bundle_files import absolute_model, chosen_model
from cnnspark.models.card import Card, read_card
from cnnspark.tensors.joined_dataset import sample_folders
from cnnspark.training.barrier_stage import check_slots, run_with_retries
from cnnspark.training.by_parts import FIRST_PART, parts_folder, parts_of
from cnnspark.training.history_follower import HistoryFollower
from cnnspark.training.job import DATA_OPENER, prepare_job
from cnnspark.training.settings import HISTORY_LINES_FILE, STATE_FILE, TrainSettings, checkpoint_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.common.storage import Location


@dataclass(frozen=True)
class TrainResult:
    """Result of a training: the folder of the bundle, and its card."""

    model_out: str
    card: Card

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, whose weights the bundle has, alone or mixed with those of the start (``keep_start``)."""
        return int(self.card.training["best_epoch"])

    @property
    def validation(self) -> dict[str, Any]:
        """The history's row of the best epoch, measured before a share of the start's weights was mixed in."""
        return next((row for row in self.card.history if row["epoch"] == self.best_epoch), {})

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, as ``--json`` prints it."""
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
    """The AUPRC as text, or the loss if there is no AUPRC."""
    return f"AUPRC {figures[auprc]:.4f}" if auprc in figures else f"loss {figures[loss]:.4f}"


@dataclass(frozen=True)
class _Run:
    """What one training, or the several of a training by parts, have in common."""

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
    """Trains a network on one dataset, or on several together, and writes a model bundle.

    With the objective ``pretrain`` labels are ignored, and the bundle is only good to start from (``settings.init``).
    With ``by_parts`` it is several trainings, one after another.

    Args:
        spark: the session; a replica is a task of it.
        data: folders of datasets; the folder of ``tensors --sheet`` stands for the datasets of all its samples.
        model_out: the folder of the bundle, on storage that driver and executors share.
        settings: how to train.
        progress: is given one line for each epoch, and about one every ten seconds within; standard error by default.
        data_opener: what opens the data, on the driver and in each replica's process, as ``module:function``
            (:func:`cnnspark.training.job.open_by_name`).

    Returns:
        The folder and the card of the bundle.

    Raises:
        UsageError: if settings do not suit each other, the data or the model to start from; if Spark has fewer task
            slots than replicas; or if ``model_out`` exists and may not be resumed or overwritten.
        InputError: if a dataset or a model to start from cannot be used.
        RunError: if the loss diverges, nothing can be written, or a replica dies more than ``max_retries`` times;
            ``if_exists="resume"`` then goes on from the last epoch.
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
            # The bundle is written last: what stands beside it was left by a clean-up that was interrupted.
            for path in (folder, checkpoints):
                remove(path)
            return TrainResult(model_out, card)
        # With parts beside it, the bundle is the one that an interrupted run was about to overwrite.
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
    """Whether training by parts starts from a finished model of its first part, ``features``: not only pre-trained.

    Raises:
        UsageError: if no part can start from the model.
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
    """One training.

    Args:
        run: what it has in common with the others.
        model_out: the folder of its bundle.
        settings: how to train.
        whole: the fingerprint of the training by parts that it belongs to.
        replaces: the bundle at ``model_out`` is of another training, and is overwritten even if this one is resumed.
    """
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
            f"batches of {settings.batch_size} on {on} are computed in {job.lanes} lanes instead of {settings.lanes} "
            "(train.lanes), which changes the weights slightly"
        )
    check_slots(run.spark, settings)
    # An earlier run's state is removed only now that everything else is in order.
    if settings.if_exists != "resume":
        remove(folder)
    make_parents(folder / STATE_FILE)
    job = dataclasses.replace(job, resume=settings.if_exists == "resume")
    with HistoryFollower(folder / HISTORY_LINES_FILE, settings.epochs, run.say):
        run_with_retries(run.spark, job, run.say)
    card = read_card(model_out)
    _say_outcome(card, model_out, settings, run.say)
    remove(folder)
    return TrainResult(model_out, card)


def _say_outcome(card: Card, model_out: str, settings: TrainSettings, say: Callable[[str], None]) -> None:
    """Says whether training ended early, and warns of dead layers."""
    if len(card.history) < settings.epochs:
        figure = "loss" if settings.pretrains else "AUPRC"
        say(f"{settings.patience} epochs without a better validation {figure}: ended after {len(card.history)}")
    if dead := card.training.get("dead_layers"):
        say(
            f"warning: layers of {model_out} give nearly all held-out alleles the same output, and so do the layers "
            f"behind them: {', '.join(dead)}; look at its metrics, and train again with another train.seed or a lower "
            "train.learning_rate"
        )


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
