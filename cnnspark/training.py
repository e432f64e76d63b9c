"""Distributed training: one replica per task of a Spark barrier stage, gradients all-reduced between them.

The driver prepares what all replicas must agree on (quantiles, class weights), starts the stage, shows its progress
and, when a replica dies, starts it again from the last epoch's checkpoint. TensorFlow runs in child processes of the
tasks (:mod:`cnnspark.training_worker`): it can join a cluster once in a process's life, and Spark reuses its Python
workers.
The model's folder must be on storage that driver and executors share.

The same settings and data give the same weights, bit by bit, on any number of replicas up to the lanes of a batch
(:mod:`cnnspark.training_step`).
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnspark import errors
from cnnspark.devices import VISIBLE, assigned_gpus
from cnnspark.errors import CnnsparkError, RunError, UsageError
from cnnspark.files import absolute, explained, has_files, is_remote, location, make_parents, make_room, remove, size
from cnnspark.log import about
from cnnspark.models.bundled import absolute_model, chosen_model
from cnnspark.models.card import Card, read_card
from cnnspark.session import described
from cnnspark.sheet_run import sample_folders
from cnnspark.training_job import prepare_job
from cnnspark.training_parts import FIRST_PART, parts_folder, parts_of
from cnnspark.training_settings import HISTORY_LINES_FILE, STATE_FILE, ReplicaJob, TrainSettings, checkpoint_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.files import Location

# Last lines of a failed replica's standard error that go into the message.
TAIL_LINES = 30
# As "-m cnnspark.training_worker", but with the folder of the user out of the path: a random.py there would be run.
_START_WORKER = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; import runpy; "
    "runpy.run_module('cnnspark.training_worker', run_name='__main__', alter_sys=True)"
)
# How long a replica that gives up stays, so that the others, who mostly give up for the same reason, can say so too.
GRACE_SECONDS = 2.0


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


@about(stage="train")
def train(
    spark: SparkSession,
    data: str | Sequence[str],
    model_out: str,
    settings: TrainSettings,
    progress: Callable[[str], None] | None = None,
) -> TrainResult:
    """Trains ``settings.model`` on one dataset, or on several together, and writes the bundle to ``model_out``.

    The folder of ``tensors --sheet`` stands for the datasets of all its samples. With the objective ``pretrain`` labels
    are not looked at, and the bundle is one to start from (``settings.init``). With ``by_parts`` it is several
    trainings, one after another.

    Args:
        progress: is given one line for each epoch, and about one every ten seconds within; standard error by default.

    Raises UsageError (settings, too few slots, the folder exists), InputError (the dataset), RunError (the loss
    diverged, or a replica died more than ``max_retries`` times; ``if_exists="resume"`` then goes on from the last
    epoch).
    """
    say = progress or _to_stderr
    settings.require_start()
    data = [folder for path in ([data] if isinstance(data, str) else data) for folder in sample_folders(path)]
    model_out = absolute(model_out)
    if settings.log_dir and "://" not in settings.log_dir:
        settings = dataclasses.replace(settings, log_dir=os.path.abspath(settings.log_dir))
    given = {name: path for name in ("init", "picture") if (path := getattr(settings, name))}
    found: dict[str, Any] = {name: absolute_model(chosen_model(path, with_reads=True)) for name, path in given.items()}
    settings = dataclasses.replace(settings, **found)
    train_all = _train_by_parts if settings.by_parts else _train_at_once
    return train_all(spark, data, model_out, settings, say)


def _train_by_parts(
    spark: SparkSession, data: Sequence[str], model_out: str, settings: TrainSettings, say: Callable[[str], None]
) -> TrainResult:
    """The trainings of :mod:`cnnspark.training_parts` one after another; their bundles are removed at the end.

    A bundle that is to be overwritten stays until the last of them writes its own.
    """
    folder, checkpoints = parts_folder(model_out), checkpoint_folder(model_out)
    with explained(model_out):
        for unfinished in (folder, checkpoints):
            _check_folders(location(model_out), unfinished, settings.if_exists)
    parts = parts_of(settings, model_out, _first_part_is_done(settings.init))
    whole = prepare_job(data, model_out, settings).fingerprint
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
    check_slots(spark, settings)
    if settings.if_exists != "resume":
        for path in (folder, checkpoints):
            remove(path)
    for i, part in enumerate(parts, 1):
        say(f"part {i} of {len(parts)}: {part.title}")
        result = _train_at_once(spark, data, part.model_out, part.settings, say, whole, replaces=part is parts[-1])
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
    spark: SparkSession,
    data: Sequence[str],
    model_out: str,
    settings: TrainSettings,
    say: Callable[[str], None],
    whole: str = "",
    replaces: bool = False,
) -> TrainResult:
    """One training; ``whole`` is the fingerprint of that which it is a part of. ``replaces``: what is at ``model_out``
    is another's, to be overwritten also where this one is resumed."""
    folder = checkpoint_folder(model_out)
    with explained(model_out):
        _check_folders(location(model_out), folder, settings.if_exists)
    make_room(folder, "--model-out")
    job = dataclasses.replace(prepare_job(data, model_out, settings, say), whole=whole)
    if settings.if_exists == "resume" and location(model_out).exists() and not replaces:
        card = read_card(model_out)
        _require_same(model_out, card.training.get("fingerprint"), job.fingerprint)
        if not (folder / STATE_FILE).exists():
            return TrainResult(model_out, card)
    if job.lanes != settings.lanes:
        on = "1 replica" if settings.replicas == 1 else f"{settings.replicas} replicas"
        say(
            f"batches of {settings.batch_size} on {on} are computed in {job.lanes} lanes, not "
            f"{settings.lanes} (train.lanes), which changes the weights a little"
        )
    check_slots(spark, settings)
    # Only now, with all else in order, is an earlier run's state given up.
    if settings.if_exists != "resume":
        remove(folder)
    make_parents(folder / STATE_FILE)
    job = dataclasses.replace(job, resume=settings.if_exists == "resume")
    with _Follower(folder / HISTORY_LINES_FILE, settings.epochs, say):
        _run_with_retries(spark, job, say)
    card = read_card(model_out)
    if len(card.history) < settings.epochs:
        figure = "loss" if settings.pretrains else "AUPRC"
        say(f"{settings.patience} epochs without a better validation {figure}: ended after {len(card.history)}")
    if dead := card.training.get("dead_layers"):
        say(
            f"warning: layers of {model_out} say the same of nearly all held-out alleles, and so does what lies behind "
            f"them: {', '.join(dead)}; look at its figures, and train again with another train.seed or a lower "
            "train.learning_rate"
        )
    remove(folder)
    return TrainResult(model_out, card)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check_folders(model_out: Location, folder: Location, if_exists: str) -> None:
    if if_exists == "fail":
        for path in (model_out, folder):
            if path.exists():
                unfinished = ", from a training that is not finished" if path == folder else ""
                raise UsageError(
                    f"{path} exists{unfinished}; choose another --model-out, or --if-exists resume or overwrite"
                )
    if (
        model_out.exists()
        and not (model_out / "model.json").exists()
        and (model_out.is_file() or any(model_out.iterdir()))
    ):
        raise UsageError(f"{model_out} is not a model bundle; choose another --model-out")


def check_slots(spark: SparkSession, settings: TrainSettings) -> None:
    """Raises UsageError where the replicas cannot all run at once, instead of Spark's wait of ten minutes.

    Executors that are still being started are waited for, ``slot_wait_seconds`` at most.
    """
    context = spark.sparkContext
    if context.getConf().get("spark.dynamicAllocation.enabled", "false").lower() == "true":
        raise UsageError(
            "barrier stages need a fixed number of executors; set spark.dynamicAllocation.enabled=false "
            f"and spark.executor.instances for {settings.replicas} replicas"
        )
    # The same count that Spark's scheduler checks a barrier stage by; cores, GPUs and task.cpus are in it.
    scala = context._jsc.sc()
    profile = scala.resourceProfileManager().defaultResourceProfile()
    # A single machine's slots are all there at once.
    local = re.fullmatch(r"local(\[.*\])?", str(context.master))
    deadline = time.monotonic() + (0.0 if local else settings.slot_wait_seconds)
    while (slots := int(scala.maxNumConcurrentTasks(profile))) < settings.replicas:
        if time.monotonic() >= deadline:
            raise UsageError(
                f"{settings.replicas} replicas need as many task slots at the same time, Spark has {slots}; "
                "give it more executors or cores, or train with fewer replicas"
            )
        time.sleep(1)


def _run_with_retries(spark: SparkSession, job: ReplicaJob, say: Callable[[str], None]) -> None:
    """The barrier stage, again from the checkpoint when a replica dies: Spark itself never retries such a stage."""
    retries = job.settings.max_retries
    for attempt in range(retries + 1):
        try:
            _run_stage(spark, job)
            return
        except Exception as error:
            if type(error).__name__ != "Py4JJavaError":  # which holds the traceback of a task as text
                raise RunError(
                    f"Spark ended in the middle of training ({type(error).__name__}); run it again with --if-exists "
                    "resume to go on from the last finished epoch"
                ) from error
            _raise_explained(str(error))
            reason = _replica_failure(str(error))
            if attempt == retries:
                raise RunError(
                    f"training failed {attempt + 1} times, last: {reason}\n"
                    "Run it again with --if-exists resume to go on from the last finished epoch"
                ) from error
            last_line = reason.split("\n")[-1]
            say(f"a replica failed, trying again from the last epoch ({attempt + 1} of {retries}): {last_line}")
            job = dataclasses.replace(job, resume=True)


def _run_stage(spark: SparkSession, job: ReplicaJob) -> None:
    text, replicas, threads = job.to_json(), job.settings.replicas, job.settings.threads

    def task(_: Iterable[int]) -> Iterable[dict[str, Any]]:
        yield run_replica_process(text, replicas, threads)

    with described(spark, f"{job.settings.model}, {replicas} replicas, at most {job.settings.epochs} epochs"):
        spark.sparkContext.parallelize(range(replicas), replicas).barrier().mapPartitions(task).collect()


def run_replica_process(job: str, replicas: int, threads: int) -> dict[str, Any]:
    """Within a barrier task: agrees on addresses with the other tasks, runs the replica's process, returns its result.

    Raises RuntimeError with the error that the process explained, else with the last lines of its standard error.
    """
    from pyspark import BarrierTaskContext

    context = BarrierTaskContext.get()
    rank = context.partitionId()
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environment["KERAS_BACKEND"] = "tensorflow"
    environment["TF_NUM_INTRAOP_THREADS"] = environment["OMP_NUM_THREADS"] = str(threads)
    environment["TF_NUM_INTEROP_THREADS"] = str(threads)
    environment.pop("TF_CONFIG", None)
    if gpus := assigned_gpus():
        environment[VISIBLE] = ",".join(gpus)
    elif replicas > 1:
        # Replicas of one machine would all take its first GPU; Spark's resource scheduling deals them out.
        environment[VISIBLE] = "-1"
    if replicas > 1:
        host = context.getTaskInfos()[rank].address.rsplit(":", 1)[0]
        with socket.socket() as probe:
            # Held until all have theirs; in the instant until TensorFlow binds it another may take it: a retry.
            probe.bind(("", 0))
            workers = context.allGather(f"{host}:{probe.getsockname()[1]}")
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
        )
    return _run_child([sys.executable, "-c", _START_WORKER], environment, job, rank, context.barrier)


def _run_child(
    command: list[str], environment: Mapping[str, str], job: str, rank: int, wait_for_others: Callable[[], None]
) -> dict[str, Any]:
    child = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert child.stdin and child.stdout and child.stderr
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    reader = threading.Thread(target=tail.extend, args=(child.stderr,), daemon=True)
    reader.start()
    outcome: dict[str, Any] = {}
    try:
        # Standard input stays open as long as this task lives: its end is the child's sign to end, too.
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(job + "\n")
            child.stdin.flush()
        for line in child.stdout:
            if line.startswith('{"cnnspark":'):
                outcome = json.loads(line)["cnnspark"]
                break
        if "result" in outcome:
            # A process that ends while another fetches the last sum from it would make that one fail.
            wait_for_others()
        elif outcome:
            time.sleep(GRACE_SECONDS)
        else:
            child.wait()
            reader.join(timeout=5)
    finally:
        child.kill()
        child.wait()
    if "result" in outcome:
        return outcome["result"]
    if outcome:
        message = f"<<explained {json.dumps(outcome)}>>"
    else:
        lines = "".join(tail).strip() or "nothing on standard error"
        message = f"<<replica {rank} ended with exit code {child.returncode}: {lines}>>"
    raise RuntimeError(message)


def _raise_explained(text: str) -> None:
    """Raises the CnnsparkError that a replica ended with, if Spark's long message holds one."""
    match = re.search(r"<<explained (\{.*?\})>>", text)
    if match:
        outcome = json.loads(match[1])
        raise getattr(errors, outcome["error"], CnnsparkError)(outcome["message"]) from None


def _replica_failure(text: str) -> str:
    """What a replica said, out of Spark's long message; else the first line of that."""
    match = re.search(r"<<(replica \d+ ended with exit code .*?)>>", text, re.DOTALL)
    return match[1] if match else text.strip().split("\n")[0]


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
