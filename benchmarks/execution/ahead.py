"""What decoding the next block gains while the network runs on this one (``score.read_ahead``), in one task.

    python -m benchmarks.execution.ahead --data ../shared/data --blocks 8 --runs 3

The same blocks of the simulated callset are scored with and without, alternately, on one core and on two, in one
process. Seconds by the clock, on a machine that does nothing else, are what a user gains; processor time shows what the
thread costs.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from benchmarks.support.callsets import blocks_of, inputs_of
from benchmarks.support.command import arguments, finish
from benchmarks.support.measure import Timing, in_rounds
from benchmarks.support.scoring_task import ScoringTask
from cnnspark.execution.blocks import Block, BlockSettings
from cnnspark.execution.prefetch import in_turn
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.tensors.block_tensors import Inputs


def score(blocks: Sequence[Block], inputs: Inputs, model: str, read_ahead: int) -> tuple[float, float]:
    """Scores the blocks; returns seconds by the clock and of the processor."""
    work = ScoringTask(inputs, f"bundled:{model}", ScoreSettings(read_ahead=read_ahead)).work
    started, used = time.perf_counter(), time.process_time()
    with closing(in_turn(blocks, work)) as turns:
        for block, rest in turns:
            for _ in rest(block).lines:
                pass
    return time.perf_counter() - started, time.process_time() - used


def measure(blocks: Sequence[Block], inputs: Inputs, model: str, runs: int) -> list[dict[str, Any]]:
    """A row for each number of cores, with and without reading ahead."""
    every = sorted(os.sched_getaffinity(0))

    def on_cores(cores: int, read_ahead: int) -> Callable[[], tuple[float, float]]:
        def work() -> tuple[float, float]:
            use_cores(every[:cores])
            return score(blocks, inputs, model, read_ahead)

        return work

    score(blocks[:2], inputs, model, 0)  # compiles, and loads the model
    ways = {(cores, ahead): on_cores(cores, ahead) for cores in (1, 2) for ahead in (0, 1) if cores <= len(every)}
    found = {way: Timing.of(each) for way, each in in_rounds(ways, runs, warm_up=False).items()}
    use_cores(every)
    rows = []
    for (cores, ahead), timing in found.items():
        plain = found[cores, 0]
        rows.append({
            "model": model, "cores": cores, "ahead": ahead, "records": sum(block.records for block in blocks),
            "wall s": statistics.median(timing.wall), "cpu s": statistics.median(timing.cpu),
            "wall, of none ahead": median_ratio(timing.wall, plain.wall),
            "cpu, of none ahead": median_ratio(timing.cpu, plain.cpu),
        })  # fmt: skip
    return rows


def median_ratio(seconds: Sequence[float], others: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(seconds, others, strict=True))


def use_cores(cores: list[int]) -> None:
    """Keeps all threads of the process on these cores, those that TensorFlow has started included."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


def main() -> None:
    parser = arguments(__doc__, runs=3)
    parser.add_argument("--model", action="append", help="a bundled one; may be repeated [reads, features]")
    parser.add_argument("--records", type=int, default=1000, help="of a block [1000]")
    parser.add_argument("--blocks", type=int, default=6)
    options = parser.parse_args()
    inputs = inputs_of(options.data, "sim")
    blocks = blocks_of(inputs.vcf, BlockSettings(records=options.records))[: options.blocks]
    rows = []
    for model in options.model or ["reads", "features"]:
        rows += measure(blocks, inputs, model, options.runs)
    finish(options, rows)


if __name__ == "__main__":
    main()
