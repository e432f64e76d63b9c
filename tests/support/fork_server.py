"""Replicas of the tests' trainings and Spark's Python workers are forked from one process with TensorFlow.

The import takes 3 to 5 s of a core, and the tests train about a hundred replicas. The barrier stage is the product's
own; only the command of :func:`cnnspark.training.barrier_stage.replica_command` is another: a client of a few
milliseconds that hands its streams and environment to the server, which forks :func:`cnnspark.training.replica.main`
with them. Spark's daemon of Python workers (:mod:`tests.support.spark_daemon`) is such a client as well. The client
ends with the exit code of the forked process, and that process ends with the client. A fork is safe because TensorFlow
starts its threads with its first operation, and the server runs none.
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

# Where the server listens: Spark's Python workers inherit it.
ADDRESS = "CNNSPARK_TESTS_FORK_SERVER"


@contextmanager
def fork_server() -> Iterator[None]:
    """A server whose address is in the environment meanwhile. It imports TensorFlow for the first client."""
    with tempfile.TemporaryDirectory(prefix="forks-") as folder:
        address = os.path.join(folder, "socket")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(64)
            command = [sys.executable, "-m", __name__, str(listening.fileno())]
            root = str(Path(__file__).resolve().parents[2])
            paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONWARNINGS": "ignore",
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "KERAS_BACKEND": "tensorflow",
                # What NumPy counts its threads by when it is loaded.
                "OMP_NUM_THREADS": "1",
            }
            server = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.PIPE, pass_fds=[listening.fileno()],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        assert server.stdin
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            server.stdin.close()
            server.wait()


def client_command() -> list[str]:
    """What a barrier task starts instead of a replica's process."""
    return [sys.executable, "-S", str(Path(__file__).resolve().with_name("fork_client.py")), os.environ[ADDRESS]]


def run_replica_process(job: str, replicas: int, threads: int) -> dict[str, Any]:
    """:func:`cnnspark.training.barrier_stage.run_replica_process` with a replica that the server forks."""
    from cnnspark.training import barrier_stage

    own, barrier_stage.replica_command = barrier_stage.replica_command, client_command
    try:
        return barrier_stage.run_replica_process(job, replicas, threads)
    finally:
        barrier_stage.replica_command = own


class Server:
    """Forks a process for each connection, and kills that whose client is gone."""

    def __init__(self, listening: socket.socket):
        self._watched = selectors.DefaultSelector()
        self._watched.register(listening, selectors.EVENT_READ, partial(self._accept, listening))
        self._watched.register(sys.stdin.fileno(), selectors.EVENT_READ, sys.exit)  # the tests have ended
        self._mains: dict[str, Any] = {}  # by kind of process

    def serve(self) -> None:
        """Until standard input is closed."""
        while True:
            for key, _ in self._watched.select():
                if key.fd in self._watched.get_map():  # else an event before this one was the end of it
                    key.data()

    def _load(self) -> None:
        """The imports of :func:`cnnspark.training.barrier_stage.replica_command`, and of tasks that score."""
        importlib.import_module("cnnspark.formats.htslib").prepare_htslib()  # as a task that loads a model does
        setup = importlib.import_module("cnnspark.execution.tensorflow_setup")
        setup.own_process()
        with setup.lean_import():
            self._mains["replica"] = importlib.import_module("cnnspark.training.replica").main
            self._mains["daemon"] = importlib.import_module("pyspark.daemon").manager
            for module in ("models.bundle", "scoring.score", "tensors.builder", "stages.tensors"):
                importlib.import_module(f"cnnspark.{module}")
        gc.collect()
        gc.freeze()

    def _accept(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        try:
            wanted, streams = received(connection)
        except ConnectionError:
            wanted, streams = {}, []
        if not wanted:  # the client was killed before it had said what it wants
            connection.close()
            for stream in streams:
                os.close(stream)
            return
        if not self._mains:
            self._load()
        pid = os.fork()
        if not pid:
            self._watched.close()
            listening.close()
            self._become(wanted, streams)
        for stream in streams:
            os.close(stream)
        process = os.pidfd_open(pid)
        self._watched.register(process, selectors.EVENT_READ, partial(self._end, pid, process, connection))
        kill = os.kill
        if wanted["kind"] == "daemon":  # leads a group of processes: its workers end with it
            os.setpgid(pid, pid)
            kill = os.killpg
        self._watched.register(connection, selectors.EVENT_READ, partial(kill, pid, signal.SIGKILL))

    def _end(self, pid: int, process: int, connection: socket.socket) -> None:
        """Says the exit code of a replica that has ended, to a client that may be gone."""
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self._watched.unregister(process)
        self._watched.unregister(connection)
        os.close(process)
        with connection:
            try:
                connection.sendall(str(code).encode())
            except OSError:
                return

    def _become(self, wanted: dict[str, Any], streams: list[int]) -> None:
        try:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.closerange(3, 1024)
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
            os.environ.clear()
            os.environ.update(wanted["environment"])
            os.chdir(wanted["folder"])
            self._mains[wanted["kind"]]()
        finally:
            os._exit(1)


def received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a client sends: a line of JSON, and its three standard streams."""
    streams: list[int] = []
    text = b""
    while not text.endswith(b"\n"):
        part, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                streams += array.array("i", content)
        if not part:
            return {}, streams
        text += part
    return json.loads(text), streams


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this process
    Server(socket.socket(fileno=int(sys.argv[1]))).serve()
