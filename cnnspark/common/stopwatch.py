"""Where a block's time goes: a stopwatch that each step of a block's work finds by itself.

:func:`measured` goes around the work on one block, :func:`part` around a step of it, in whatever module that is. A
step within a step stops the outer one's clock, so the parts add up to the whole (to the work of both threads, if a
block is prepared ahead in another thread, :mod:`cnnspark.execution.prefetch`). Outside of ``measured``, ``part`` does
nothing. Times are seconds of wall clock, memory is MiB. :mod:`cnnspark.execution.block_times` makes the run's report.
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
# The steps of a block's work; the names are columns of blocks.tsv.
PARTS = ("read", "encode", "label", "predict", "write")
_WAITING = ""  # waiting for another thread, whose own stopwatch counts the work: reported as no part


class Stopwatch:
    """The time since it was made, by part, and counts of what was worked on.

    ``seconds`` has the time of each of PARTS, ``counts`` the ``reads`` and ``alleles``.
    """

    def __init__(self, base: str):
        """Starts the clock; ``base``, one of PARTS, gets all time that is in no other part."""
        self.seconds = dict.fromkeys((*PARTS, _WAITING), 0.0)
        self.counts: Counter[str] = Counter()
        self._part = base
        self._started = self._since = time.perf_counter()
        self._cpu = time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the time within as this part, instead of the part around it."""
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
        """Counts the time until now; the clock goes on."""
        self._switch(self._part)

    def add(self, other: Stopwatch) -> None:
        """Adds the parts and counts of another stopwatch, of work done before or in another thread."""
        self.counts.update(other.counts)
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds

    def report(self) -> dict[str, Any]:
        """The measurements of a block's row, as plain JSON values."""
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


# Seconds of what this process does once, before its first block: Spark's start in the driver, loading the model in a
# worker.
_start_seconds: dict[str, float] = {}
_stopwatch: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


def start_seconds() -> dict[str, float]:
    """The seconds of each start that this process has measured (:func:`starting`), by name."""
    return dict(_start_seconds)


@contextmanager
def starting(name: str, adds: bool = False) -> Iterator[None]:
    """Measures something that a process does once, before its first block, for the run's report.

    Args:
        name: what is measured, as the report names it: ``starting Spark``, ``loading the model``.
        adds: whether the time is added to an earlier one of the same name, instead of replacing it.
    """
    started = time.perf_counter()
    yield
    before = _start_seconds.get(name, 0.0) if adds else 0.0
    _start_seconds[name] = round(before + time.perf_counter() - started, 3)


@contextmanager
def measured(base: str) -> Iterator[Stopwatch]:
    """Measures the work within, or each call if it decorates a function; ``base`` as for :class:`Stopwatch`."""
    stopwatch = Stopwatch(base)
    token = _stopwatch.set(stopwatch)
    try:
        yield stopwatch
    finally:
        stopwatch.stop()
        _stopwatch.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Counts the work within, or each call if it decorates a function, as one of PARTS of what is measured.

    Nothing may be yielded within: the consumer's time would be counted as this part.
    """
    stopwatch = _stopwatch.get()
    if stopwatch is None:
        yield
    else:
        with stopwatch.part(name):
            yield


def add_count(name: str, number: int) -> None:
    """Adds to a count of what is measured: ``reads`` or ``alleles``."""
    if stopwatch := _stopwatch.get():
        stopwatch.counts[name] += number


def joined(future: Future[tuple[T, Stopwatch]]) -> T:
    """Waits for work that another thread does and measures, and adds that work's parts to what is measured here.

    Args:
        future: gives the work's result and the stopwatch around it.

    Returns:
        The work's result. The time spent waiting counts as no part.
    """
    stopwatch = _stopwatch.get()
    if stopwatch is None:
        return future.result()[0]
    with stopwatch.part(_WAITING):
        value, beside = future.result()
    stopwatch.add(beside)
    return value


def report() -> dict[str, Any]:
    """The measurements so far (:meth:`Stopwatch.report`); empty outside of :func:`measured`."""
    stopwatch = _stopwatch.get()
    return stopwatch.report() if stopwatch else {}


def peak_mib() -> int:
    """The most memory that this process ever held, in MiB (VmHWM of proc(5); getrusage on other systems)."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):  # in kB; ru_maxrss would include the parent's
                return int(line.split()[1]) >> 10
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes >> 20


def task_name() -> str:
    """The Spark task that this code runs in: stage, partition and attempt as ``3.12.0``; empty outside of a task."""
    if "pyspark" not in sys.modules:
        return ""
    from pyspark import TaskContext

    context = TaskContext.get()
    return f"{context.stageId()}.{context.partitionId()}.{context.attemptNumber()}" if context else ""
