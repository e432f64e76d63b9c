"""The frame of a benchmark's command: the arguments that most have, one quiet core, and results as tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnspark.common.log import set_quiet

DATA = "../shared/data"


def arguments(doc: str | None, *, data: bool = True, runs: int = 0, work: str = "") -> argparse.ArgumentParser:
    """The parser of a benchmark, with ``--json`` and the usual arguments that it asks for.

    Args:
        doc: The module's docstring, shown by ``--help``.
        data: Whether it reads the shared data (``--data``).
        runs: How often it measures by default (``--runs``); 0 for no such argument.
        work: What ``--work`` is a folder for; empty for no such argument.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if data:
        parser.add_argument("--data", default=DATA, help=f"the shared data [{DATA}]")
    if work:
        parser.add_argument("--work", required=True, metavar="DIR", help=f"folder for {work}")
    if runs:
        parser.add_argument("--runs", type=int, default=runs, help=f"how often each is measured [{runs}]")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    return parser


def use_one_core() -> None:
    """Keeps this process, its later threads and children included, on one core: without GPU, without progress lines."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    set_quiet(True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def machine() -> dict[str, Any]:
    """The processor's name, its cores and the load average of the last minute, which every figure needs beside it."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = found[0] if found else name
    return {"processor": name, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}


def machine_text() -> str:
    """The machine as the line above a table."""
    facts = machine()
    return f"{facts['processor']}, {facts['cores']} cores, load {facts['load']}"


def finish(
    options: argparse.Namespace, rows: Sequence[Mapping[str, Any]] = (), figures: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> None:  # fmt: skip
    """Prints the machine and the tables; with ``--json`` writes these and ``more`` there."""
    print(machine_text())
    if rows:
        print(table(rows))
    if figures:
        print(figures_table(figures))
    tables = {name: each for name, each in (("rows", rows), ("figures", figures)) if each}
    write_results(options, {**tables, **more})


def write_results(options: argparse.Namespace, results: Mapping[str, Any]) -> None:
    """Writes ``--json``, if it was given, with the machine beside the results."""
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), **results}, indent=1) + "\n")


def figures_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Figures as the table that every benchmark of ``python -m benchmarks`` prints."""
    names = ("name", "unit", "rate", "low", "high", "limit", "limit_rate", "ratio")
    return table([{name: figure[name] for name in names} for figure in figures])


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
