"""How long a small job takes, and what of it is start: the 492 records of HG002, scored by Spark and without.

    python -m benchmarks.execution.startup --data ../shared/data --runs 5

Each run is the command in a process of its own, by turns, so that what else the machine does falls on all alike.
Seconds by the clock are what a user waits; processor time, of all processes together, is what can be compared on a busy
machine. The parts are those that the run's manifest has: Spark's start (the JVM and its session), the loading of the
model in the process that scores (most of it is TensorFlow's import), and the only block. The rest is Python's own
start, counting, the first task's worker and the merge.

Then the same callset several times in one session, cut into many blocks, as a sheet's callsets follow each other: all
but the first find a worker that has the model, and what is left is Spark's share of small tasks.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.execution.growth import Watch
from benchmarks.support.measure import machine, table
from cnnspark.stages.requests import ScoreRequest

Run = dict[str, float]


def timed(command: Sequence[str]) -> Run:
    """Seconds by the clock and processor time of a command with all that it starts."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        watch = Watch(process.pid)
        watch.start()
        _, said = process.communicate()
        wall = time.monotonic() - started
        watch.over.set()
        watch.join()
    if process.returncode:
        sys.exit(said)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The watch sees the JVM and its workers, which nobody waits for, but not the last moments of each process.
    waited_for = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall s": wall, "cpu s": max(sum(watch.cpu.values()), waited_for)}


def scored(arguments: Sequence[str], more: Sequence[str]) -> Run:
    """A scoring run, with the parts that its manifest says."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        found = timed([sys.executable, "-m", "cnnspark.cli", "score", "-q", *arguments, *more, "--out", str(out)])
        runtime = json.loads((out / "manifest.json").read_text())["runtime"]
    starts = runtime["start_seconds"]
    return found | {
        "Spark s": starts.get("starting Spark", 0.0),
        "model s": starts["loading the model"],
        "block s": runtime["block_seconds"]["max"],
    }


def in_one_session(files: dict[str, Any], model: str, cores: int, times: int) -> list[float]:
    """Seconds by the clock of each scoring, one after the other in a session."""
    from cnnspark import stages
    from cnnspark.config import InputPaths, load_config
    from cnnspark.execution.session import spark_session

    seconds, config = [], load_config(None, ["blocks.records=20"])
    with spark_session("startup", f"local[{cores}]") as spark, tempfile.TemporaryDirectory() as folder:
        for number in range(times):
            started = time.monotonic()
            stages.score_callset(
                spark, ScoreRequest(InputPaths(**files), f"bundled:{model}", f"{folder}/{number}", config)
            )
            seconds.append(round(time.monotonic() - started, 2))
    return seconds


def row(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Medians, and of the whole command the fastest and the slowest."""
    walls = [run["wall s"] for run in runs]
    of_each: dict[str, Any] = {"command": name, "runs": len(runs)}
    for key in ("wall s", "cpu s", "Spark s", "model s", "block s"):
        known = [run[key] for run in runs if key in run]
        of_each[key] = round(statistics.median(known), 2) if known else None
    return of_each | {"fastest s": round(min(walls), 2), "slowest s": round(max(walls), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--model", default="reads")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    folder = Path(options.data, "real", "HG002").absolute()
    files = {"vcf": "HG002.freebayes.vcf.gz", "reads": "HG002.20.bam", "reference": "ref.b37.20.fa.gz"}
    paths: dict[str, Any] = {name: str(folder / file) for name, file in files.items()}
    arguments = [text for name, path in paths.items() for text in (f"--{name}", path)]
    arguments += ["--model", options.model]
    ways = {
        "--help": lambda: timed([sys.executable, "-m", "cnnspark.cli", "--help"]),
        "score": lambda: scored(arguments, ["--master", f"local[{options.cores}]"]),
        "score --local": lambda: scored(arguments, ["--local"]),
    }
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for turn in range(options.runs + 1):
        for name, way in ways.items():
            found = way()
            if turn:  # the first round compiles, and brings the files into memory
                runs[name].append(found)
                print(json.dumps({"command": name, **found}), file=sys.stderr, flush=True)
    rows = [row(name, of_way) for name, of_way in runs.items()]
    print(machine())
    print(table(rows))
    again = in_one_session(paths, options.model, options.cores, options.runs + 1)
    print("one callset after the other in a session: " + ", ".join(f"{seconds:.1f}" for seconds in again) + " s")
    if options.json:
        results = {"machine": machine(), "rows": rows, "runs": runs, "in one session": again}
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
