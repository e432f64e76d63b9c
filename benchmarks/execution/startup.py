"""How long a small job takes, and what of it is start: the 492 records of HG002, scored by Spark and without.

    python -m benchmarks.execution.startup --data ../shared/data --runs 5

Each run is the command in a process of its own, alternately, so that what else the machine does falls on all alike.
Seconds by the clock are what a user waits; processor time, of all processes together, is what can be compared on a busy
machine. The parts are those that the run's manifest has: Spark's start (the JVM and its session), the loading of the
model in the process that scores (mostly TensorFlow's import), and the only block. The rest is Python's own start,
counting, the first task's worker and the merge.

Then the same callset is scored several times in one session, cut into many blocks, like the callsets of a sheet: all
except the first find a worker that has loaded the model, and what is left is Spark's share of small tasks.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.callsets import labelled_paths
from benchmarks.support.command import arguments, finish
from benchmarks.support.measure import in_rounds
from benchmarks.support.processes import file_arguments, run_cnnspark
from cnnspark.stages.requests import ScoreRequest

Run = dict[str, float]


def timed(*arguments: str) -> Run:
    """Seconds by the clock and processor time of a command with all that it starts."""
    ended = run_cnnspark(*arguments).require_success()
    return {"wall s": ended.wall_seconds, "cpu s": ended.cpu_seconds}


def scored(*arguments: str) -> Run:
    """A scoring run, with the parts that its manifest says."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        found = timed("score", "-q", *arguments, "--out", str(out))
        runtime = json.loads((out / "manifest.json").read_text())["runtime"]
    starts = runtime["start_seconds"]
    return found | {
        "Spark s": starts.get("starting Spark", 0.0),
        "model s": starts["loading the model"],
        "block s": runtime["block_seconds"]["max"],
    }


def in_one_session(files: dict[str, Any], model: str, cores: int, times: int) -> list[float]:
    """Scores the callset ``times`` times in one session; returns the seconds of each by the clock."""
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
    """A row of the table: medians, and the fastest and the slowest run of the whole command."""
    walls = [run["wall s"] for run in runs]
    of_each: dict[str, Any] = {"command": name, "runs": len(runs)}
    for key in ("wall s", "cpu s", "Spark s", "model s", "block s"):
        known = [run[key] for run in runs if key in run]
        of_each[key] = round(statistics.median(known), 2) if known else None
    return of_each | {"fastest s": round(min(walls), 2), "slowest s": round(max(walls), 2)}


def main() -> None:
    parser = arguments(__doc__, runs=3)
    parser.add_argument("--model", default="reads")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    paths = labelled_paths(options.data, "HG002")
    del paths["labels"]
    given = [*file_arguments(paths), "--model", options.model]
    ways: dict[str, Callable[[], Run]] = {
        "--help": lambda: timed("--help"),
        "score": lambda: scored(*given, "--master", f"local[{options.cores}]"),
        "score --local": lambda: scored(*given, "--local"),
    }
    runs = in_rounds(ways, options.runs)
    again = in_one_session(paths, options.model, options.cores, options.runs + 1)
    finish(options, [row(name, of_way) for name, of_way in runs.items()], runs=runs, in_one_session=again)
    print("one callset after the other in a session: " + ", ".join(f"{seconds:.1f}" for seconds in again) + " s")


if __name__ == "__main__":
    main()
