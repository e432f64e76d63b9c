"""How even blocks are on a skewed callset: 1 % of the genome with 50 times the records and 5 times the reads.

    python -m benchmarks.execution.balance --data ../shared/data [--model reads] [--json FILE]

On the simulated sample's reads and reference: one SNV a kb, and one each 20 bases in 1 % of chr20, where each read is
there five times. Our blocks, and as many regions of equal length, are scored by the function that the tasks call, in
one process on one core; processor time of each, and of tasks that blocks are shared out to.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from benchmarks.support.measure import machine, pin_to_one_core, table
from cnnspark.common.log import set_quiet
from cnnspark.execution.blocks import Block, BlockSettings, cut_window, number_blocks, share_out, windows_of
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfSource
from cnnspark.models.card import model_tensors, read_card
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.score import score_work
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.stages.costs import Expected, scoring_costs
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.settings import TensorSettings

# Where the simulated sample's reads lie.
CONTIG, FIRST, LAST = "chr20", 60_000, 3_100_000
DENSE_SHARE, DENSER, COPIES = 0.01, 50, 5
SPACING = 1_000
TASKS = 8


def skewed_reads(source: str, target: Path, dense: Region) -> str:
    """The reads with those in the dense region COPIES times."""
    with pysam.AlignmentFile(source) as reads, pysam.AlignmentFile(str(target), "wb", template=reads) as out:
        for read in reads.fetch(CONTIG):
            name = read.query_name
            for copy in range(COPIES if dense.owns(read.reference_start) else 1):
                read.query_name = f"{name}.{copy}" if copy else name
                out.write(read)
    pysam.index(str(target))
    return str(target)


def skewed_callset(reference: str, target: Path, dense: Region) -> str:
    """SNVs at even distances, closer in the dense region."""
    source = ReferenceSource(reference)
    text = source.sequence(CONTIG, 0, LAST)
    close = range(dense.start, dense.end, SPACING // DENSER)
    starts = sorted({*range(FIRST, LAST, SPACING), *close})
    with pysam.BGZFile(str(target), "wb", None) as out:
        lines = ["##fileformat=VCFv4.2", f"##contig=<ID={CONTIG},length={source.lengths[CONTIG]}>",
                 "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]  # fmt: skip
        for start in starts:
            ref = text[start].upper()
            if ref in "ACGT":
                lines.append(f"{CONTIG}\t{start + 1}\t.\t{ref}\t{'CGTA'['ACGT'.index(ref)]}\t50\t.\t.")
        out.write(("\n".join(lines) + "\n").encode())
    pysam.tabix_index(str(target), preset="vcf", force=True)
    return str(target)


def equal_regions(blocks: Sequence[Block], count: int) -> list[Block]:
    """As many regions of equal length, over the same stretch."""
    first, last = blocks[0].first_start, blocks[-1].last_start + 1
    edges = np.linspace(first, last, count + 1).astype(int)
    return [Block(i, Region(CONTIG, int(a), int(b))) for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))]


def spread(seconds: Sequence[float]) -> float:
    """The largest over the mean."""
    return max(seconds) / (sum(seconds) / len(seconds))


def measure(inputs: Inputs, model: str, records: int) -> list[dict[str, Any]]:
    """A row for our blocks and one for regions of equal length."""
    model = f"bundled:{model}"
    card = read_card(model)
    tensors = model_tensors(model, card, TensorSettings())
    expected = Expected(scoring_costs(card.model, card.looks_at_reads), inputs.reads, tensors.read_limit)
    settings = BlockSettings(records=records)
    with VcfSource(inputs.vcf) as source:
        windows = windows_of(source.contigs, source.header.contig_lengths)
        weigher = expected.open()
        ours = number_blocks([(w, cut_window(source.lines(w), w, settings, weigher)) for w in windows])
    work = score_work(inputs, ScoringPlan(model, card, tensors, ScoreSettings()))

    def seconds_of(block: Block) -> float:
        started = time.process_time()
        for _ in work(block).lines:
            pass
        return time.process_time() - started

    rows = []
    for name, blocks in (("ours", ours), ("equal length", equal_regions(ours, len(ours)))):
        for block in (blocks[0], max(blocks, key=lambda b: b.records)):
            seconds_of(block)  # compiled code and shapes
        seconds = [min(seconds_of(block) for _ in range(2)) for block in blocks]
        if name == "ours":
            groups = share_out(blocks, TASKS)
        else:
            groups = [list(blocks[i * len(blocks) // TASKS : (i + 1) * len(blocks) // TASKS]) for i in range(TASKS)]
        of_tasks = [sum(seconds[block.index] for block in group) for group in groups]
        row: dict[str, Any] = {"cut": name, "blocks": len(blocks), "seconds": sum(seconds),
                               "longest": max(seconds), "max/mean blocks": spread(seconds),
                               "max/mean tasks": spread(of_tasks)}  # fmt: skip
        predicted = np.array([block.cost for block in blocks])
        row["predicted"] = float(predicted.sum()) or None
        row["each"] = seconds
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--model", choices=("reads", "features"), default="reads")
    parser.add_argument("--records", type=int, default=100, help="blocks.records: the callset is small")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    set_quiet(True)
    pin_to_one_core()
    sim = Path(options.data, "sim").absolute()
    dense_bases = round((LAST - FIRST) * DENSE_SHARE)
    dense = Region(CONTIG, 1_500_000, 1_500_000 + dense_bases)
    with tempfile.TemporaryDirectory() as folder:
        reference = str(sim / "ref.fa.gz")
        inputs = Inputs(
            skewed_callset(reference, Path(folder, "skewed.vcf.gz"), dense),
            skewed_reads(str(sim / "DEV.bam"), Path(folder, "skewed.bam"), dense),
            reference,
            "SIMDEV",
        )
        rows = measure(inputs, options.model, options.records)
    print(table([{k: v for k, v in row.items() if k != "each"} for row in rows]))
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
