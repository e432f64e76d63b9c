"""Commands as processes of their own: how long they take, what they use, and what they say."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


class Watch(threading.Thread):
    """The most memory (resident, MiB) of the driver, its JVM and any worker, and the processor time of all."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.peak_mib = {"driver": 0.0, "jvm": 0.0, "worker": 0.0}
        self.cpu_seconds: dict[int, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            try:
                for process in [self.root, *self.root.children(recursive=True)]:
                    kind = "driver" if process == self.root else "jvm" if "java" in process.name() else "worker"
                    self.peak_mib[kind] = max(self.peak_mib[kind], process.memory_info().rss / 2**20)
                    times = process.cpu_times()
                    self.cpu_seconds[process.pid] = times.user + times.system
            except psutil.Error:
                continue  # a process ended while it was looked at


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    wall_seconds: float
    cpu_seconds: float  # of all its processes
    peak_mib: dict[str, float]  # driver, jvm, worker
    said: str  # standard error if it failed, else standard output

    def require_success(self) -> Ended:
        """Returns itself; ends the benchmark with what the command said if it failed."""
        if self.code:
            sys.exit(self.said)
        return self


def run_cnnspark(*arguments: str) -> Ended:
    """Runs a command of cnnspark in a process of its own."""
    command = [sys.executable, "-m", "cnnspark.cli", *arguments]
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watch = Watch(process.pid)
        watch.start()
        out, errors = process.communicate()
        wall = time.monotonic() - started
        watch.over.set()
        watch.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The watch sees the JVM and its workers, which nobody waits for, but not the last moments of each process.
    waited_for = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cpu = max(sum(watch.cpu_seconds.values()), waited_for)
    return Ended(process.returncode, wall, cpu, watch.peak_mib, errors if process.returncode else out)


def file_arguments(files: dict[str, str]) -> Sequence[str]:
    """Files by the names of their options, as arguments: ``--vcf FILE --reads FILE``."""
    return [text for name, path in files.items() for text in (f"--{name}", path)]


def peak_bytes() -> int:
    """The most memory this process had resident. Linux hands ru_maxrss on from the parent, so VmHWM is asked first."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
