"""Runs the benchmarks of speed one after the other, prints tables, writes one JSON, and says what became slower.

    python -m benchmarks --data ../shared/data [--quick] [--only NAME] [--json results.json]
    python -m benchmarks --against benchmarks/baseline.json
    python -m benchmarks --write-baseline

Every figure stands beside its limit, measured alternately in the same run, and has the ratio to it (1 is as fast as
the limit). ``--against`` compares these ratios with a baseline's; the exit code is 1 if one fell by more than a fifth.
Seconds of two machines cannot be compared, ratios nearly; still, write a baseline on an idle machine.

Each benchmark runs in a process of its own, so that none warms the next one up. Accuracy (``python -m
benchmarks.accuracy.accuracy``) takes longer and is run by itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.support.command import DATA, figures_table, machine, table
from benchmarks.support.regression import compare, ratios_of, read_baseline, write_baseline

BASELINE = Path(__file__).with_name("baseline.json")
# Above this the machine does other work than ours.
IDLE_LOAD = 0.5


@dataclass(frozen=True)
class Benchmark:
    """A module that writes its figures with ``--json``, and its arguments."""

    module: str
    what: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = ()  # beside the others; None: left out of --quick
    takes_data: bool = True

    def command(self, data: str, quick: bool) -> list[str]:
        given = ["--data", data] if self.takes_data else []
        return [self.module, *given, *self.arguments, *((self.quick or ()) if quick else ())]


def _sets(*names: str) -> tuple[str, ...]:
    return tuple(argument for name in names for argument in ("--set", name))


BENCHMARKS: dict[str, Benchmark] = {
    "tensors": Benchmark(
        "benchmarks.tensors.tensors", "decode, encode, features: reads to tensors",
        (*_sets("HG002", "generated 30x", "long reads"), "--blocks", "4"), ("--runs", "3"),
    ),
    "depths": Benchmark(
        "benchmarks.tensors.tensors", "the same by depth, read length and format",
        (*_sets("NA12878", "NA12878-cram", "sim", "generated 10x", "generated 100x", "generated 300x",
                "generated 100b", "generated 250b"), "--blocks", "4", "--runs", "5"), None,
    ),
    "network": Benchmark(
        "benchmarks.models.network", "padding, codes to channels, each network, empty rows", (), ("--runs", "3"),
    ),
    "rate": Benchmark(
        "benchmarks.scoring.rate", "score end to end in one task", ("--only", "rate"),
        ("--repeats", "6", "--runs", "3"),
    ),
    "tasks": Benchmark(
        "benchmarks.scoring.rate", "two tasks on two cores", ("--only", "tasks"), ("--turns", "1", "--seconds", "4"),
    ),
    # --quick has the same sizes: what a merge costs beside a copy depends on how many records a shard has.
    "write": Benchmark(
        "benchmarks.execution.merging", "writing shards, merging them", ("--shards", "200", "--records", "400000"),
        ("--runs", "2"), takes_data=False,
    ),
    "dataset": Benchmark("benchmarks.training.dataset", "Parquet to tf.data", (), ("--runs", "3")),
    "training": Benchmark(
        "benchmarks.training.training", "a training step",
        ("--only", "networks", "--network", "reads", "--network", "features", "--network", "reference"),
        ("--runs", "3"),
    ),
    "startup": Benchmark("benchmarks.execution.startup", "start-up and small jobs", (), None),
    "job": Benchmark("benchmarks.execution.job", "what Spark adds", ("--runs", "2"), None),
    "growth": Benchmark(
        "benchmarks.execution.growth", "time by the number of records", ("--records", "10000", "100000"), None,
        takes_data=False,
    ),
}  # fmt: skip


@dataclass
class Results:
    """What the benchmarks wrote."""

    machine: dict[str, Any]
    by_name: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def figures(self) -> list[dict[str, Any]]:
        found = [each for each in self.by_name.values() if isinstance(each, dict)]
        return [figure for each in found for figure in each.get("figures", [])]

    def to_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "failed": self.failed, "figures": self.figures, "benchmarks": self.by_name}


def run_all(names: list[str], data: str, quick: bool) -> Results:
    """Runs the benchmarks of these names. If one fails, its name is printed and the others go on."""
    results = Results(machine())
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            benchmark = BENCHMARKS[name]
            print(f"== {name}: {benchmark.what}", flush=True)
            if importlib.util.find_spec(benchmark.module) is None:
                print(f"left out: there is no {benchmark.module} here", flush=True)
                continue
            target, started = Path(folder, f"{name}.json"), time.monotonic()
            command = [sys.executable, "-m", *benchmark.command(data, quick), "--json", str(target)]
            if subprocess.run(command, check=False).returncode or not target.exists():
                print(f"{name} failed; run {' '.join(command[1:-2])}", file=sys.stderr, flush=True)
                results.failed.append(name)
                continue
            results.by_name[name] = json.loads(target.read_text())
            print(f"{time.monotonic() - started:.0f} s, load {machine()['load']}\n", flush=True)
    results.machine["load_afterwards"] = machine()["load"]
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--quick", action="store_true", help="fewer runs and the shorter benchmarks: a few minutes")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), metavar="NAME",
                        help=f"one of {', '.join(BENCHMARKS)}; may be repeated")  # fmt: skip
    parser.add_argument("--against", type=Path, metavar="FILE", help="a baseline: say what moved; exit 1 where worse")
    parser.add_argument("--write-baseline", type=Path, nargs="?", const=BASELINE, metavar="FILE",
                        help="write the ratios; those not measured now stay [benchmarks/baseline.json]")  # fmt: skip
    parser.add_argument(
        "--from", dest="earlier", type=Path, metavar="FILE", help="the --json of a run: measure nothing"
    )
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if options.against and not options.against.exists():
        print(f"there is no baseline at {options.against}; write one with --write-baseline", file=sys.stderr)
        return 2
    if options.earlier:
        found = json.loads(options.earlier.read_text())
        results = Results(found["machine"], found["benchmarks"], found["failed"])
    else:
        if not Path(options.data, "real").is_dir():
            print(f"there is no data at {options.data}; give the folder with --data", file=sys.stderr)
            return 2
        chosen = options.only or [
            name for name, each in BENCHMARKS.items() if not options.quick or each.quick is not None
        ]
        results = run_all(chosen, options.data, options.quick)
    figures = results.figures
    if figures:
        print(f"all figures, processor time unless said; {results.machine}\n{figures_table(figures)}")
    if options.json:
        Path(options.json).write_text(json.dumps(results.to_json(), indent=1) + "\n")
    if (options.against or options.write_baseline) and results.machine["load"] > IDLE_LOAD:
        print(f"warning: the machine's load was {results.machine['load']} before the run; other work changes ratios, "
              "by a half in bad moments: write and compare baselines on an idle machine", file=sys.stderr)  # fmt: skip
    worse = False
    if options.against:
        comparison = compare(read_baseline(options.against), ratios_of(figures))
        if comparison.changes:
            print(table(comparison.rows()))
        print(comparison.sentence())
        worse = bool(comparison.worse) or not comparison.changes
    if options.write_baseline:
        written = datetime.now(timezone.utc).date().isoformat()
        write_baseline(options.write_baseline, figures, {"written": written, "machine": results.machine})
    return 1 if worse or results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
