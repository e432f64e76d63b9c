"""What ``cnnspark plan`` predicts against what scoring takes: core seconds, blocks, output and memory.

    python -m benchmarks.execution.planned --data ../shared/data [--set sim --set HG002] [--model reads] [--json FILE]

Each callset's blocks are cut, scored and written as shards by the functions that the tasks call, in one process on one
core; processor time, what Spark adds left out. Memory is the process's own, all sets together.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.measure import machine, pin_to_one_core, table
from cnnspark.common.log import set_quiet
from cnnspark.config import Config, InputPaths
from cnnspark.execution.blocks import BlockSettings, cut_window, number_blocks, windows_of
from cnnspark.execution.shards import SHARDS, shard_folder, write_shard
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import VcfSource
from cnnspark.models.card import model_tensors, read_card
from cnnspark.scoring.output import score_header
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.score import score_work
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.stages.costs import Expected, scoring_costs
from cnnspark.stages.plan import COUNT_SECONDS, plan_callset
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.settings import TensorSettings

SETS = {
    "sim": ("sim/DEV.freebayes.vcf.gz", "sim/DEV.bam", "sim/ref.fa.gz"),
    "HG002": ("real/HG002/HG002.freebayes.vcf.gz", "real/HG002/HG002.20.bam", "real/HG002/ref.b37.20.fa.gz"),
    "NA12878-cram": (
        "real/NA12878/NA12878.freebayes.vcf.gz",
        "real/NA12878/NA12878.chr20.cram",
        "real/NA12878/ref.hg19.chr20.fa.gz",
    ),
}


def measure(vcf: str, reads: str, reference: str, network: str, out: str) -> dict[str, Any]:
    """A row of the table."""
    model = f"bundled:{network}"
    card = read_card(model)
    started = time.monotonic()
    plan = plan_callset(InputPaths(vcf=vcf, reads=reads, reference=reference), Config(), model)
    planned = time.monotonic() - started
    tensors = model_tensors(model, card, TensorSettings())
    expected = Expected(scoring_costs(card.model, card.looks_at_reads), reads, tensors.read_limit)
    with VcfSource(vcf) as source:
        windows = windows_of(source.contigs, ReferenceSource(reference).lengths)
        weigher, used = expected.open(), time.process_time()
        cuts = [(w, cut_window(source.lines(w), w, BlockSettings(), weigher)) for w in windows]
        counting = time.process_time() - used
        header = score_header(source.header, vcf, card).text()
    blocks = number_blocks(cuts)
    work = score_work(Inputs(vcf, reads, reference, ""), ScoringPlan(model, card, tensors, ScoreSettings()))
    folder = shard_folder(out)
    folder.open({}, blocks, "overwrite")
    (folder.out / SHARDS).mkdir()
    write_shard(folder, blocks[0], header, work)  # compiled code and shapes
    seconds, size_bytes = [], 0
    for block in blocks:
        used = time.process_time()
        row = write_shard(folder, block, header, work)
        seconds.append(time.process_time() - used)
        size_bytes += row.bytes + row.index_bytes
    predicted = np.array([block.cost for block in blocks])
    error = np.abs(predicted / np.array(seconds) - 1)
    merged_bytes = size_bytes - sum(row["header_bytes"] for row in folder.rows())
    return {
        "model": network, "records": plan.records, "blocks": len(blocks), "planned blocks": plan.blocks,
        "core s": sum(seconds) + counting, "planned core s": plan.core_seconds,
        "cut blocks' s": float(predicted.sum()) + COUNT_SECONDS * plan.records,
        "block error": f"{np.median(error):.0%}", "counting us/record": 1e6 * counting / plan.records,
        "output kB": (size_bytes + merged_bytes) / 1000, "planned kB": plan.output_bytes / 1000,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "planned MiB": plan.task_memory_bytes >> 20, "planning s": planned,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--set", dest="sets", action="append", choices=sorted(SETS), default=None)
    parser.add_argument("--model", choices=("reads", "features"), default="reads")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    set_quiet(True)
    pin_to_one_core()
    rows = []
    for name in options.sets or sorted(SETS):
        with tempfile.TemporaryDirectory() as out:
            vcf, reads, reference = (str(Path(options.data, file).absolute()) for file in SETS[name])
            rows.append({"set": name, **measure(vcf, reads, reference, options.model, out)})
        print(table([{"": name, **{k: v for k, v in row.items() if k != "set"}} for row in rows[-1:]]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
