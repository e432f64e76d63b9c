"""Where a block's time goes: a stopwatch that the steps of a block's work find by themselves, and the run's report.

``measured`` goes around the work on one block, ``part`` around a step of it, wherever that is; a step within a step
stops the outer one's clock, so that the parts add up to the whole (where a block is prepared ahead in another thread,
:mod:`cnnspark.ahead`, to the work of both threads). Without ``measured`` around it ``part`` does
nothing. Times are seconds of wall clock, memory is MiB.
"""

from __future__ import annotations

import csv
import io
import os
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cnnspark.blocks import Block

T = TypeVar("T")
PARTS = ("read", "encode", "label", "predict", "write")
_WAITING = ""  # for what another thread does: no part
# The columns of blocks.tsv.
COLUMNS = (
    *("block", "sample", "contig", "start", "end", "records", "alleles", "reads", "seconds", "predicted_seconds"),
    *(f"{part}_seconds" for part in PARTS),
    *("cpu_seconds", "peak_mib", "host", "pid", "task"),
)


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
            "start_seconds": dict(_start_seconds),
        }


# What this process does once, before its first block: Spark's start in the driver, loading the model in a worker.
_start_seconds: dict[str, float] = {}
_stopwatch: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


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


def blocks_table(blocks: Sequence[Block], reports: Mapping[int, Mapping[str, Any]], sample: str) -> str:
    """``blocks.tsv``: one row for each block, ``reports`` by the block's number. Empty where a report lacks a value."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n", restval="", extrasaction="ignore")
    table.writeheader()
    for block in blocks:
        of_block = reports.get(block.index, {})
        table.writerow(
            {
                "block": block.index,
                "sample": sample,
                "contig": block.region.contig,
                "start": block.region.start,
                "end": block.region.end,
                "records": block.records,
                "predicted_seconds": block.cost,
                **of_block,
                **{f"{name}_seconds": seconds for name, seconds in of_block.get("parts", {}).items()},
            }
        )
    return text.getvalue()


def summarise(reports: Iterable[Mapping[str, Any]], predicted_seconds: float = 0.0) -> dict[str, Any]:
    """The blocks' reports in short, for the manifest; empty where there are none.

    ``predicted_seconds`` are those of all blocks, to be compared with ``cpu_seconds`` (:mod:`cnnspark.costs`).

    A task's seconds are those of its blocks. What is done once, before the first block, is in none, but in
    ``start_seconds``: the driver waits for Spark, and each worker loads the model (that of the slowest one).
    """
    known = [each for each in reports if each]
    if not known:
        return {}
    of_task: Counter[tuple[str, int, str]] = Counter()
    for each in known:
        of_task[each["host"], each["pid"], each["task"]] += each["seconds"]
    start_seconds = dict(_start_seconds)
    for each in known:
        for name, seconds in each.get("start_seconds", {}).items():
            start_seconds[name] = max(seconds, start_seconds.get(name, 0.0))
    return {
        "seconds": round(sum(each["seconds"] for each in known), 3),
        "start_seconds": start_seconds,
        "cpu_seconds": round(sum(each["cpu_seconds"] for each in known), 3),
        "predicted_seconds": round(predicted_seconds, 3),
        "parts": {name: round(sum(each["parts"][name] for each in known), 3) for name in PARTS},
        "reads": sum(each["reads"] for each in known),
        "block_seconds": _spread([each["seconds"] for each in known]),
        "task_seconds": _spread(list(of_task.values())),
        "tasks": len(of_task),
        "peak_mib": max(each["peak_mib"] for each in known),
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    mean = sum(seconds) / len(seconds)
    # 1 where all took the same.
    over = round(max(seconds) / mean, 3) if mean else 1.0
    return {"mean": round(mean, 3), "max": round(max(seconds), 3), "max_over_mean": over}


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary in one line."""
    blocks = summary["block_seconds"]
    total = sum(summary["parts"].values()) or 1.0
    shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in summary["parts"].items() if seconds)
    starts = "".join(f"; {name} took {seconds:.1f} s" for name, seconds in summary["start_seconds"].items())
    return (
        f"a block took {blocks['mean']:.2f} s, the slowest {blocks['max']:.2f} s ({shares}); "
        f"workers held {summary['peak_mib']} MiB at most{starts}"
    )
