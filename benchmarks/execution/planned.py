"""What ``cnnspark plan`` predicts against what scoring takes: core seconds, blocks, output and memory.

    python -m benchmarks.execution.planned --data ../shared/data [--set sim --set HG002] [--model reads] [--json FILE]

Each callset's blocks are cut, scored and written as shards by the functions that the tasks call, in one process on one
core: processor time, without what Spark adds. Memory is the process's own, for all sets together.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.callsets import SETS, blocks_of, inputs_of
from benchmarks.support.command import arguments, finish, use_one_core
from benchmarks.support.processes import peak_bytes
from benchmarks.support.scoring_task import ScoringTask
from cnnspark.config import Config, InputPaths
from cnnspark.stages.plan import COUNT_SECONDS, plan_callset
from cnnspark.tensors.block_tensors import Inputs

DEFAULT_SETS = ("HG002", "NA12878-cram", "sim")


def measure(name: str, inputs: Inputs, network: str, out: Path) -> dict[str, Any]:
    """What was predicted for a callset, and what scoring it took: a row of the table."""
    task = ScoringTask(inputs, f"bundled:{network}")
    started = time.monotonic()
    paths = InputPaths(vcf=inputs.vcf, reads=inputs.reads, reference=inputs.reference)
    plan = plan_callset(paths, Config(), task.model)
    planned = time.monotonic() - started
    weigher, used = task.weigher(), time.process_time()
    blocks = blocks_of(inputs.vcf, weigher=weigher)
    counting = time.process_time() - used
    task.open_shards(out, blocks)
    task.write(blocks[0])  # compiled code and shapes
    seconds, size_bytes = [], 0
    for block in blocks:
        used = time.process_time()
        row = task.write(block)
        seconds.append(time.process_time() - used)
        size_bytes += row.bytes + row.index_bytes
    predicted = np.array([block.cost for block in blocks])
    error = np.abs(predicted / np.array(seconds) - 1)
    merged_bytes = size_bytes - sum(row["header_bytes"] for row in task.folder.rows())
    return {
        "set": name, "model": network, "records": plan.records, "blocks": len(blocks), "planned blocks": plan.blocks,
        "core s": sum(seconds) + counting, "planned core s": plan.core_seconds,
        "cut blocks' s": float(predicted.sum()) + COUNT_SECONDS * plan.records,
        "block error": f"{np.median(error):.0%}", "counting us/record": 1e6 * counting / plan.records,
        "output kB": (size_bytes + merged_bytes) / 1000, "planned kB": plan.output_bytes / 1000,
        "peak MiB": peak_bytes() >> 20, "planned MiB": plan.task_memory_bytes >> 20, "planning s": planned,
    }  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--set", dest="sets", action="append", choices=sorted(SETS), help="may be repeated")
    parser.add_argument("--model", choices=("reads", "features"), default="reads")
    options = parser.parse_args()
    use_one_core()
    rows = []
    for name in options.sets or DEFAULT_SETS:
        with tempfile.TemporaryDirectory() as out:
            rows.append(measure(name, inputs_of(options.data, name), options.model, Path(out)))
    finish(options, rows)


if __name__ == "__main__":
    main()
