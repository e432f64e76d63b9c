"""What it gains to decode the next block while the network runs on this one (``score.read_ahead``), in one task.

    python -m benchmarks.execution.ahead --data ../shared/data --blocks 8 --runs 3

The same blocks of the simulated callset are scored with and without, on one core and on two, by turns in one process.
By the clock, on a machine that does nothing else, is what a user gains; processor time shows what the thread costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from contextlib import closing
from pathlib import Path

from benchmarks.support.measure import blocks_of, machine, table
from cnnspark.execution.blocks import Block, BlockSettings
from cnnspark.execution.prefetch import in_turn
from cnnspark.models.bundle_files import chosen_model
from cnnspark.models.card import model_tensors, read_card
from cnnspark.scoring import score as scoring
from cnnspark.scoring import settings
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.tensors import block_tensors
from cnnspark.tensors.settings import TensorSettings


def score(blocks: list[Block], inputs: block_tensors.Inputs, model: str, read_ahead: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    path = chosen_model(model, with_reads=True)
    card = read_card(path)
    tensors = model_tensors(path, card, TensorSettings())
    work = scoring.score_work(inputs, ScoringPlan(path, card, tensors, settings.ScoreSettings(read_ahead=read_ahead)))
    started, used = time.perf_counter(), time.process_time()
    with closing(in_turn(blocks, work)) as turns:
        for block, rest in turns:
            for _ in rest(block).lines:
                pass
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--model", action="append", help="one or more [reads, features]")
    parser.add_argument("--records", type=int, default=1000, help="of a block")
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    sim = Path(options.data, "sim")
    inputs = block_tensors.Inputs(
        str(sim / "DEV.freebayes.vcf.gz"), str(sim / "DEV.bam"), str(sim / "ref.fa.gz"), sample="SIMDEV"
    )
    blocks = blocks_of(inputs.vcf, BlockSettings(records=options.records))[: options.blocks]
    every = sorted(os.sched_getaffinity(0))
    ways = [(cores, ahead) for cores in (1, 2) for ahead in (0, 1) if cores <= len(every)]
    rows = []
    for model in options.model or ["reads", "features"]:
        score(blocks[:2], inputs, model, 0)  # compiles, and loads the model
        wall: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
        cpu: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
        for _ in range(options.runs):
            for cores, ahead in ways:
                _use_cores(every[:cores])
                seconds, used = score(blocks, inputs, model, ahead)
                wall[cores, ahead].append(seconds)
                cpu[cores, ahead].append(used)
        _use_cores(every)
        records = sum(block.records for block in blocks)
        for cores, ahead in ways:

            def of_plain(seconds: dict[tuple[int, int], list[float]], way: tuple[int, int] = (cores, ahead)) -> float:
                each = zip(seconds[way], seconds[way[0], 0], strict=True)
                return statistics.median(with_it / without for with_it, without in each)

            rows.append(
                {
                    "model": model,
                    "cores": cores,
                    "ahead": ahead,
                    "records": records,
                    "wall s": statistics.median(wall[cores, ahead]),
                    "cpu s": statistics.median(cpu[cores, ahead]),
                    "wall, of none ahead": of_plain(wall),
                    "cpu, of none ahead": of_plain(cpu),
                }
            )
    print(machine())
    print(table(rows))
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


def _use_cores(cores: list[int]) -> None:
    """For all threads of the process: those that TensorFlow has started, too."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


if __name__ == "__main__":
    main()
