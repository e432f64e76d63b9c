"""Where a block's time goes: a stopwatch that the steps of a block's work find by themselves, and the run's report.

``measured`` goes around the work on one block, ``part`` around a step of it, wherever that is; a step within a step
stops the outer one's clock, so that the parts add up to the whole (where a block is prepared ahead in another thread,
:mod:`cnnspark.execution.prefetch`, to the work of both threads). Without ``measured`` around it ``part`` does
nothing. Times are seconds of wall clock, memory is MiB.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future


T = TypeVar("T")
PARTS = ("read", "encode", "label", "predict", "write")
_WAITING = ""  # for what another thread does: no part


class Stopwatch:
    """The time since it was made, by part; ``base`` is the part of everything that is in no other."""

    def __init__(self, base: str):
        self.seconds = dict.fromkeys((*PARTS, _WAITING), 0.0)
        self.counts: Counter[str] = Counter()
        self._part = base
        self._started = self._since = time.perf_counter()
        self._cpu = time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        outer = self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def _switch(self, name: str) -> str:
        now = time.perf_counter()
        before, self._part = self._part, name
        self.seconds[before] += now - self._since
        self._since = now
        return before

    def stop(self) -> None:
        """Counts what has passed until now."""
        self._switch(self._part)

    def add(self, other: Stopwatch) -> None:
        """Adds parts and counts of work that was done beside, or before."""
        self.counts.update(other.counts)
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds

    def report(self) -> dict[str, Any]:
        """What a block's row says of its work: plain values."""
        self.stop()
        return {
            "seconds": round(self._since - self._started, 3),
            "parts": {name: round(self.seconds[name], 4) for name in PARTS},
            "cpu_seconds": round(time.process_time() - self._cpu, 3),
            "reads": self.counts["reads"],
            "alleles": self.counts["alleles"],
            "peak_mib": peak_mib(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "task": task_name(),
            "start_seconds": start_seconds(),
        }


# What this process does once, before its first block: Spark's start in the driver, loading the model in a worker.
_start_seconds: dict[str, float] = {}
_stopwatch: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


def start_seconds() -> dict[str, float]:
    """Seconds of what this process did once, before its first block, by name."""
    return dict(_start_seconds)


@contextmanager
def starting(name: str, adds: bool = False) -> Iterator[None]:
    """Measures the start of ``name`` within, for the report of the run; ``adds`` to what that took before."""
    started = time.perf_counter()
    yield
    before = _start_seconds.get(name, 0.0) if adds else 0.0
    _start_seconds[name] = round(before + time.perf_counter() - started, 3)


@contextmanager
def measured(base: str) -> Iterator[Stopwatch]:
    """Measures the work within, or as a decorator each call."""
    stopwatch = Stopwatch(base)
    token = _stopwatch.set(stopwatch)
    try:
        yield stopwatch
    finally:
        stopwatch.stop()
        _stopwatch.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """The work within, or as a decorator each call, is this part of what is measured. Nothing may be yielded within."""
    stopwatch = _stopwatch.get()
    if stopwatch is None:
        yield
    else:
        with stopwatch.part(name):
            yield


def add_count(name: str, number: int) -> None:
    """Adds to the counts of what is measured: "reads" or "alleles"."""
    if stopwatch := _stopwatch.get():
        stopwatch.counts[name] += number


def joined(future: Future[tuple[T, Stopwatch]]) -> T:
    """Waits for what another thread does and measures. The wait is no part; the work's parts are added to those of what
    is measured here."""
    stopwatch = _stopwatch.get()
    if stopwatch is None:
        return future.result()[0]
    with stopwatch.part(_WAITING):
        value, beside = future.result()
    stopwatch.add(beside)
    return value


def report() -> dict[str, Any]:
    """Of the work that is being measured, so far; empty where none is."""
    stopwatch = _stopwatch.get()
    return stopwatch.report() if stopwatch else {}


def peak_mib() -> int:
    """The most memory that this process ever held, whatever it was for (proc(5)'s VmHWM, elsewhere getrusage)."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):  # in kB; ru_maxrss would have the parent's, too
                return int(line.split()[1]) >> 10
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes >> 20


def task_name() -> str:
    """Stage, partition and attempt of the Spark task that this is, as 3.12.0; empty outside of one."""
    if "pyspark" not in sys.modules:
        return ""
    from pyspark import TaskContext

    context = TaskContext.get()
    return f"{context.stageId()}.{context.partitionId()}.{context.attemptNumber()}" if context else ""
