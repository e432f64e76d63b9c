"""The barrier stage of a training: one replica a task, each in a process of its own; it is retried if a replica dies.

TensorFlow runs in child processes of the tasks (:mod:`cnnspark.training.replica`): it can join a cluster once in a
process's life, and Spark reuses its Python workers.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cnnspark import errors
from cnnspark.errors import CnnsparkError, RunError, UsageError
from cnnspark.execution.session import described
from cnnspark.execution.tensorflow_setup import VISIBLE, assigned_gpus
from cnnspark.training.job import ReplicaJob
from cnnspark.training.settings import TrainSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Last lines of a failed replica's standard error that go into the message.
TAIL_LINES = 30
# The user's folder is taken out of the path: a random.py there would be run.
_START_WORKER = """
import sys
sys.path[:] = [p for p in sys.path if p]
from cnnspark.execution.tensorflow_setup import lean_import, own_process
own_process()
with lean_import():
    from cnnspark.training.replica import main
main()
"""
# How long a replica that gives up stays: the others mostly give up for the same reason, and can report it as well.
GRACE_SECONDS = 2.0


def check_slots(spark: SparkSession, settings: TrainSettings) -> None:
    """Checks that all replicas can run at once; Spark itself would wait for ten minutes.

    Waits for executors that are still starting, ``slot_wait_seconds`` at most.

    Args:
        spark: the session.
        settings: have the number of replicas.

    Raises:
        UsageError: if there are too few task slots, or Spark allocates executors dynamically.
    """
    context = spark.sparkContext
    if context.getConf().get("spark.dynamicAllocation.enabled", "false").lower() == "true":
        raise UsageError(
            "training (a barrier stage of Spark) needs a fixed number of executors; set "
            f"spark.dynamicAllocation.enabled=false and spark.executor.instances for {settings.replicas} replicas"
        )
    # The same count that Spark's scheduler checks for a barrier stage; it considers cores, GPUs and task.cpus.
    scala = context._jsc.sc()
    profile = scala.resourceProfileManager().defaultResourceProfile()
    # On a single machine all slots exist from the start.
    local = re.fullmatch(r"local(\[.*\])?", str(context.master))
    deadline = time.monotonic() + (0.0 if local else settings.slot_wait_seconds)
    while (slots := int(scala.maxNumConcurrentTasks(profile))) < settings.replicas:
        if time.monotonic() >= deadline:
            raise UsageError(
                f"{settings.replicas} replicas need as many task slots at the same time, Spark has {slots}; "
                "give it more executors or cores, or train with fewer replicas"
            )
        time.sleep(1)


def run_with_retries(spark: SparkSession, job: ReplicaJob, say: Callable[[str], None]) -> None:
    """Runs the barrier stage, and again from the checkpoint if a replica dies: Spark never retries such a stage.

    Args:
        spark: the session.
        job: the training.
        say: is given a line for each retry.

    Raises:
        RunError: if replicas die more than ``max_retries`` times, or Spark ends.
        CnnsparkError: the error that a replica explained; it is not retried.
    """
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

    Args:
        job: as JSON.
        replicas: how many there are.
        threads: of the process.

    Returns:
        What :func:`cnnspark.training.replica.train_replica` gives.

    Raises:
        RuntimeError: with the error that the process explained, or else the last lines of its standard error.
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
        # Replicas of one machine would all take its first GPU; Spark's resource scheduling assigns one to each.
        environment[VISIBLE] = "-1"
    if replicas > 1:
        host = context.getTaskInfos()[rank].address.rsplit(":", 1)[0]
        with socket.socket() as probe:
            # The port is held until all have theirs. If another process takes it before TensorFlow binds it, the stage
            # is retried.
            probe.bind(("", 0))
            workers = context.allGather(f"{host}:{probe.getsockname()[1]}")
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
        )
    return run_child(replica_command(), environment, job, rank, context.barrier)


def replica_command() -> list[str]:
    """The command that starts a replica's process (:mod:`cnnspark.training.replica`)."""
    return [sys.executable, "-c", _START_WORKER]


def run_child(
    command: list[str], environment: Mapping[str, str], job: str, rank: int, wait_for_others: Callable[[], None]
) -> dict[str, Any]:
    """Runs a replica's process, which reads its job from standard input, and returns its result.

    Args:
        command: that starts it.
        environment: its environment variables.
        job: as JSON.
        rank: of the replica.
        wait_for_others: returns when all replicas have their results.

    Raises:
        RuntimeError: as :func:`run_replica_process`.
    """
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
        # Standard input stays open as long as this task lives: when it closes, the child ends as well.
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(job + "\n")
            child.stdin.flush()
        for line in child.stdout:
            if line.startswith('{"cnnspark":'):
                outcome = json.loads(line)["cnnspark"]
                break
        if "result" in outcome:
            # If a process ended while another fetches the last sum from it, that one would fail.
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
    """What a replica reported, taken from Spark's long message, or else the first line of that."""
    match = re.search(r"<<(replica \d+ ended with exit code .*?)>>", text, re.DOTALL)
    return match[1] if match else text.strip().split("\n")[0]
