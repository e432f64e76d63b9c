"""What the benchmarks share: one core, repeated runs, and the machine's load beside every figure."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnspark.blocks import Block, BlockSettings, cut_window, number_blocks, windows_of
from cnnspark.vcf import VcfSource


def pin_to_one_core() -> int:
    """Keeps this process, its later threads and children included, on one core; returns how many it had."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    return len(cores)


def machine() -> dict[str, Any]:
    """The processor's name, its cores and the load average of the last minute: a figure is worth little without."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = found[0] if found else name
    return {"processor": name, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs. ``cpu`` is the process's own time, which other programs of the machine hardly touch."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...] = ()

    def rate(self, things: int) -> dict[str, float | None]:
        """Things a second: median, slowest and fastest run by the clock, and the median by processor time."""
        return {
            "median": round(things / statistics.median(self.wall), 1),
            "low": round(things / max(self.wall), 1),
            "high": round(things / min(self.wall), 1),
            "by_cpu_time": round(things / statistics.median(self.cpu), 1) if self.cpu else None,
        }


def repeat(work: Callable[[], object], runs: int) -> Timing:
    """Times ``work`` after one run that is not counted (compiled code is loaded, files are in the page cache)."""
    work()
    wall, cpu = [], []
    for _ in range(runs):
        started, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return Timing(tuple(wall), tuple(cpu))


def blocks_of(vcf: str, settings: BlockSettings | None = None) -> list[Block]:
    """A callset's blocks as the jobs cut them, counted here instead of in Spark."""
    with VcfSource(vcf) as source:
        windows = windows_of(source.contigs, source.header.contig_lengths)
        return number_blocks([(w, cut_window(source.lines(w), w, settings or BlockSettings())) for w in windows])


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as aligned text."""
    names = list(rows[0])
    cells = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(
            text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
