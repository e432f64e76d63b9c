"""How even blocks are on a skewed callset: 1 % of the genome with 50 times the records and 5 times the reads.

    python -m benchmarks.execution.balance --data ../shared/data [--model reads] [--json FILE]

On the simulated sample's reads and reference: one SNV a kb, and one every 20 bases in 1 % of chr20, where each read is
there five times. Our blocks, and as many regions of equal length, are scored by the function that the tasks call, in
one process on one core. Measured is the processor time of each block, and of tasks that blocks are shared out to.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from benchmarks.support.callsets import blocks_of, inputs_of
from benchmarks.support.command import arguments, finish, use_one_core
from benchmarks.support.scoring_task import ScoringTask
from cnnspark.execution.blocks import Block, BlockSettings, share_out
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.tensors.block_tensors import Inputs

# The region of the simulated sample's reads.
CONTIG, FIRST, LAST = "chr20", 60_000, 3_100_000
DENSE_SHARE, DENSER, COPIES = 0.01, 50, 5
SPACING = 1_000
TASKS = 8


def skewed_reads(source: str, target: Path, dense: Region) -> str:
    """Writes the reads, those in the dense region COPIES times."""
    with pysam.AlignmentFile(source) as reads, pysam.AlignmentFile(str(target), "wb", template=reads) as out:
        for read in reads.fetch(CONTIG):
            name = read.query_name
            for copy in range(COPIES if dense.owns(read.reference_start) else 1):
                read.query_name = f"{name}.{copy}" if copy else name
                out.write(read)
    pysam.index(str(target))
    return str(target)


def skewed_callset(reference: str, target: Path, dense: Region) -> str:
    """Writes SNVs at even distances, closer in the dense region."""
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
    """``count`` regions of equal length over the same stretch as the blocks."""
    first, last = blocks[0].first_start, blocks[-1].last_start + 1
    edges = np.linspace(first, last, count + 1).astype(int)
    return [Block(i, Region(CONTIG, int(a), int(b))) for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))]


def spread(seconds: Sequence[float]) -> float:
    """The largest value divided by the mean."""
    return max(seconds) / (sum(seconds) / len(seconds))


def measure(inputs: Inputs, model: str, records: int) -> list[dict[str, Any]]:
    """A row for our blocks and one for regions of equal length."""
    task = ScoringTask(inputs, f"bundled:{model}")
    ours = blocks_of(inputs.vcf, BlockSettings(records=records), task.weigher())
    rows = []
    for name, blocks in (("ours", ours), ("equal length", equal_regions(ours, len(ours)))):
        for block in (blocks[0], max(blocks, key=lambda b: b.records)):
            task.cpu_seconds(block)  # compiled code and shapes
        seconds = [min(task.cpu_seconds(block) for _ in range(2)) for block in blocks]
        if name == "ours":
            groups = share_out(blocks, TASKS)
        else:
            groups = [list(blocks[i * len(blocks) // TASKS : (i + 1) * len(blocks) // TASKS]) for i in range(TASKS)]
        of_tasks = [sum(seconds[block.index] for block in group) for group in groups]
        rows.append({
            "cut": name, "blocks": len(blocks), "seconds": sum(seconds), "longest": max(seconds),
            "max/mean blocks": spread(seconds), "max/mean tasks": spread(of_tasks),
            "predicted": sum(block.cost for block in blocks) or None, "each": seconds,
        })  # fmt: skip
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", choices=("reads", "features"), default="reads")
    parser.add_argument("--records", type=int, default=100, help="blocks.records: the callset is small")
    options = parser.parse_args()
    use_one_core()
    sim = inputs_of(options.data, "sim")
    assert sim.reads is not None
    dense = Region(CONTIG, 1_500_000, 1_500_000 + round((LAST - FIRST) * DENSE_SHARE))
    with tempfile.TemporaryDirectory() as folder:
        vcf = skewed_callset(sim.reference, Path(folder, "skewed.vcf.gz"), dense)
        reads = skewed_reads(sim.reads, Path(folder, "skewed.bam"), dense)
        rows = measure(replace(sim, vcf=vcf, reads=reads), options.model, options.records)
    each = {row["cut"]: row.pop("each") for row in rows}
    finish(options, rows, seconds_of_blocks=each)


if __name__ == "__main__":
    main()
