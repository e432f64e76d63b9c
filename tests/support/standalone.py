"""A standalone Spark cluster on 127.0.0.* whose every process can be killed: a master, workers, and what they start.

Its daemons are child processes in the foreground; their ports are the system's choice. Nothing is left when it stops.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from cnnspark.execution.session import use_bundled_java
from tests.conftest import ROOT

T = TypeVar("T")
# JVMs that live for seconds: the quick compiler alone, and one thread that collects garbage.
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
START_SECONDS, JOB_SECONDS, STOP_SECONDS = 90.0, 400.0, 10.0
EXECUTOR = "CoarseGrainedExecutorBackend"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def wait_for(found: Callable[[], T], seconds: float, what: str, pause_seconds: float = 0.05) -> T:
    """What ``found`` returns as soon as it is true. Raises TimeoutError that says ``what`` did not come."""
    end = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(pause_seconds)
    return value


def kill(processes: Sequence[psutil.Process]) -> None:
    """kill -9, and waits until they are gone; those that are gone already do not matter."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=STOP_SECONDS)


def tree(pid: int) -> list[psutil.Process]:
    """The process and all that it started, itself first; none where it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end_with_parent() -> None:
    """In a child before it becomes Spark: it is to end when the tests are killed, which cannot stop it then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Cluster:
    """A master and ``workers`` workers of ``cores`` cores each. Use it as a context."""

    def __init__(self, folder: Path, workers: int = 2, cores: int = 1, java_home: Path | None = None):
        import pyspark

        use_bundled_java()
        self.folder, self.cores = folder, cores
        self.home = Path(pyspark.__file__).parent
        for name in ("conf", "local", "work"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.environment = os.environ | {
            "SPARK_HOME": str(self.home),
            "SPARK_CONF_DIR": str(folder / "conf"),
            "SPARK_LOCAL_DIRS": str(folder / "local"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            # A worker that is gone is forgotten in 10 s, not in a minute; its heart beats four times as often.
            "SPARK_MASTER_OPTS": "-Dspark.worker.timeout=10",
            "SPARK_WORKER_OPTS": "-Dspark.worker.timeout=10",
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "JAVA_TOOL_OPTIONS": QUICK_JVM,
        }
        self.environment.pop("PYSPARK_GATEWAY_PORT", None)
        if java_home:
            self.environment["JAVA_HOME"] = str(java_home)
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._started = 0
        self._wanted = workers

    def __enter__(self) -> Cluster:
        try:
            self.master = self._start("master", "master.Master", "--webui-port", "0")
            pattern = re.compile(r"Starting Spark master at (spark://\S+)")
            self.url = wait_for(lambda: pattern.search(self._log("master")), START_SECONDS, "the master")[1]
            self.workers = [self._start_worker() for _ in range(self._wanted)]
            self._await_workers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):
            left = tree(daemon.pid)
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            kill(left)

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _start(self, name: str, daemon: str, *arguments: str, host: str = "127.0.0.1") -> subprocess.Popen[bytes]:
        command = [str(self.home / "bin" / "spark-class"), f"org.apache.spark.deploy.{daemon}",
                   "--host", host, "--port", "0", *arguments]  # fmt: skip
        with open(self.folder / f"{name}.log", "wb") as log:
            started = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder,
                preexec_fn=end_with_parent,
            )  # fmt: skip
        self._daemons.append(started)
        return started

    def _start_worker(self) -> subprocess.Popen[bytes]:
        self._started += 1
        return self._start(
            f"worker-{self._started}", "worker.Worker", "--webui-port", "0", "--cores", str(self.cores),
            "--memory", f"{self.cores}g", "--work-dir", str(self.folder / "work"), self.url,
            # Hosts of their own: Spark runs no speculative attempt on the host of the first.
            host=f"127.0.0.{self._started}",
        )  # fmt: skip

    def _await_workers(self) -> None:
        registered = lambda: self._log("master").count("Registering worker ") >= self._started  # noqa: E731
        wait_for(registered, START_SECONDS, "a worker")

    def mend(self) -> None:
        """Starts a worker for each that has been killed."""
        self.workers = [worker if worker.poll() is None else self._start_worker() for worker in self.workers]
        self._await_workers()

    def executors(self, worker: subprocess.Popen[bytes] | None = None) -> list[psutil.Process]:
        """The executors' JVMs that run now, of one worker or of all."""
        found = []
        for each in [worker] if worker else self.workers:
            for process in tree(each.pid)[1:]:
                try:
                    if EXECUTOR in " ".join(process.cmdline()):
                        found.append(process)
                except psutil.NoSuchProcess:
                    continue
        return found

    def submit(self, job: str, arguments: Sequence[str], log: Path, **conf: str) -> subprocess.Popen[bytes]:
        """``spark-submit`` of one of ``jobs/``: its process is the driver's JVM, the Python driver is its child.

        Args:
            log: where both streams go.
            conf: Spark properties, ``_`` for each ``.`` of their names less ``spark.``.
        """
        properties = {
            "spark.master": self.url,
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "512m",
            "spark.executor.memory": "512m",
            "spark.executor.cores": "1",
            **{f"spark.{name.replace('_', '.')}": value for name, value in conf.items()},
        }
        command = [str(self.home / "bin" / "spark-submit")]
        for name, value in properties.items():
            command += ["--conf", f"{name}={value}"]
        with open(log, "wb") as out:
            return subprocess.Popen(
                [*command, str(ROOT / "jobs" / job), *arguments], env=self.environment, stdout=out, stderr=out,
                cwd=self.folder, start_new_session=True, preexec_fn=end_with_parent,
            )  # fmt: skip
