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

from cnnspark.errors import UsageError
from cnnspark.execution.blocks import Block, BlockSettings, cut_window, number_blocks, windows_of
from cnnspark.formats.vcf import VcfSource
from cnnspark.tensors.site_features import SITE_FEATURES


def pin_to_one_core() -> int:
    """Keeps this process, its later threads and children included, on one core; returns how many it had."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    return len(cores)


def require_current(path: str, feature_names: Sequence[str]) -> None:
    """Raises UsageError where tensors that are kept have other site features than those that are built today.

    Those of GATK's encoding have none.
    """
    if tuple(feature_names) not in ((), SITE_FEATURES):
        raise UsageError(f"{path} has the site features of another version; remove it, or choose another folder")


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
    """Seconds of repeated runs by the clock, and of the process's own time, which other programs hardly touch."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    def divided(self, times: int) -> Timing:
        """Of one, where each run did the work so often."""
        return Timing(tuple(s / times for s in self.wall), tuple(s / times for s in self.cpu))


def by_turns(works: Mapping[str, Callable[[], object]], runs: int) -> dict[str, Timing]:
    """Times several works that are to be compared: each once a round, so that a busy minute hits all of them.

    One round before is not counted.
    """
    wall: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            started, used = time.perf_counter(), time.process_time()
            work()
            if turn:
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - used)
    return {name: Timing(tuple(wall[name]), tuple(cpu[name])) for name in works}


def figure(
    name: str, things: float, unit: str, work: Timing, limit: Timing | None = None, limit_name: str = ""
) -> dict[str, Any]:
    """A figure as the table, the JSON and the regression guard have it, in processor time.

    ``ratio`` is the limit's seconds by the work's, round by round: the median, and the least and greatest. Without a
    limit there is none.
    """
    rates = [things / seconds for seconds in work.cpu]
    ratios = [a / b for a, b in zip(limit.cpu, work.cpu, strict=True)] if limit else []
    return {
        "name": name,
        "rate": statistics.median(rates),
        "low": min(rates),
        "high": max(rates),
        "unit": f"{unit}/s",
        "limit": limit_name,
        "limit_rate": things / statistics.median(limit.cpu) if limit else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_low": min(ratios) if ratios else None,
        "ratio_high": max(ratios) if ratios else None,
        "runs": len(work.cpu),
    }


def figures_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Figures as the table that every benchmark of ``python -m benchmarks`` prints."""
    names = ("name", "unit", "rate", "low", "high", "limit", "limit_rate", "ratio")
    return table([{name: figure[name] for name in names} for figure in figures])


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
