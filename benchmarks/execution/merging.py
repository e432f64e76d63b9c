"""Merging a large callset's shards: seconds, MB/s beside a plain copy of the same bytes, memory, and the index's share.

    python -m benchmarks.execution.merging [--shards 1000] [--records 5000000] [--runs 3] [--json FILE]

The shards are written by the very function that the tasks call, of made-up lines as long as HG002's. The plain copy
puts the same shards into one file. Each run of both is in a process of its own, alternately; the index's share is
measured in the same round. Last a shard is written as a task does it, beside compressing the
same text.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pysam

from benchmarks.scoring.limits import compress, file_copy
from benchmarks.support.command import arguments, finish
from benchmarks.support.measure import Timing, figure, in_rounds, time_in_rounds
from benchmarks.support.processes import peak_bytes
from cnnspark.execution.blocks import Block
from cnnspark.execution.merge import merge_shards
from cnnspark.execution.shards import MERGED, BlockOutput, ShardRow, shard_folder, write_shard
from cnnspark.formats.regions import Region

CONTIGS = 20
CONTIG_BASES = 150_000_000
# Records of the shard that is written: those of a usual block.
WRITTEN = 1_000
_INFO = (
    "AC={ac};AF={af:.3f};AN=2;BaseQRankSum={a:.3f};DP={dp};ExcessHet=3.0103;FS={b:.3f};MLEAC={ac};MLEAF={af:.3f};"
    "MQ={mq:.2f};MQRankSum={c:.3f};QD={d:.2f};ReadPosRankSum={e:.3f};SOR={f:.3f};CNN_2D={g:.3f};CNN_ALT_SCORES={g:.3f}"
)


def header() -> str:
    """The header: contigs and the columns' names."""
    contigs = "".join(f"##contig=<ID=chr{i + 1},length={CONTIG_BASES}>\n" for i in range(CONTIGS))
    return f"##fileformat=VCFv4.2\n{contigs}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tSAMPLE\n"


def made_tails(count: int, draw: random.Random) -> list[str]:
    """The columns from QUAL to the sample's, for ``count`` records."""
    tails = []
    for _ in range(count):
        dp, ac = draw.randrange(5, 80), draw.choice((1, 1, 2))
        values = {name: draw.uniform(-3, 3) for name in "ace"} | {name: draw.uniform(0, 30) for name in "bdf"}
        info = _INFO.format(ac=ac, af=ac / 2, dp=dp, mq=draw.uniform(40, 60), g=draw.uniform(-16, 16), **values)
        depth = draw.randrange(dp + 1)
        gt = f"{'0/1' if ac == 1 else '1/1'}:{dp - depth},{depth}:{dp}:{draw.randrange(100)}"
        tails.append(f"{draw.uniform(30, 3000):.2f}\t.\t{info}\tGT:AD:DP:GQ\t{gt}")
    return tails


def lines_of(block: Block, records: int, tails: Sequence[str]) -> Iterator[str]:
    """The block's records, most of them SNVs, evenly over it."""
    draw = random.Random(block.index)
    step = (block.region.end - block.region.start) // records
    alleles = ["A\tC", "C\tT", "G\tA", "T\tC", "AT\tA", "A\tACC", "CTTG\tC"]
    for i in range(records):
        pos = block.region.start + 1 + i * step + draw.randrange(step)
        yield f"{block.region.contig}\t{pos}\t.\t{draw.choice(alleles)}\t{draw.choice(tails)}"


def make_shards(out: Path, shards: int, records: int) -> list[ShardRow]:
    """Writes ``shards`` indexed shards with ``records`` records in all; returns their rows."""
    folder = shard_folder(str(out))
    folder.open({"stage": "benchmark"}, [], "fail")
    (out / "shards").mkdir()
    tails = made_tails(20_000, random.Random(1))
    per_contig = -(-shards // CONTIGS)
    bases, rows = CONTIG_BASES // per_contig, []
    for index in range(shards):
        contig, place = divmod(index, per_contig)
        block = Block(index, Region(f"chr{contig + 1}", place * bases, (place + 1) * bases))
        rows.append(
            write_shard(
                folder, block, header(), lambda b: BlockOutput(lines_of(b, records // shards, tails), Counter())
            )
        )
    return rows


def copy(out: Path, rows: Sequence[ShardRow], target: Path) -> None:
    """Copies the shards' bytes into one file."""
    file_copy([out / row.file for row in rows], target)


def merge(out: Path, rows: Sequence[ShardRow], target: Path) -> None:
    merge_shards(out, rows, header(), target)


def index(out: Path, rows: Sequence[ShardRow], target: Path) -> None:
    """Indexes the merged file by its own bytes, as the merge does."""
    pysam.tabix_index(str(out / MERGED), preset="vcf", force=True, index=str(target))


WORK: dict[str, Callable[[Path, Sequence[ShardRow], Path], None]] = {
    "copy": copy,
    "merge": merge,
    "index": index,
}


def measured(name: str, out: Path, rows: Sequence[ShardRow], target: Path) -> dict[str, float]:
    """Seconds by the clock and of the processor in this fresh process, and its memory before and at its highest."""
    before, used = peak_bytes(), resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    WORK[name](out, rows, target)
    seconds = time.perf_counter() - started
    now = resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "before_bytes": before, "peak_bytes": peak_bytes()}


def measure_writing(out: Path, records: int, runs: int) -> dict[str, Any]:
    """The figure of writing a shard with its index, beside compressing the same text."""
    folder = shard_folder(str(out))
    block = Block(0, Region("chr1", 0, CONTIG_BASES))
    folder.open({"stage": "benchmark"}, [block], "fail")
    (out / "shards").mkdir()
    lines = list(lines_of(block, records, made_tails(20_000, random.Random(1))))
    text = "".join([header(), *(f"{line}\n" for line in lines)]).encode()
    found = time_in_rounds(
        {
            "write": lambda: write_shard(folder, block, header(), lambda _: BlockOutput(lines, Counter())),
            "compress": lambda: compress(text, out / "compressed.gz"),
        },
        runs,
    )
    return figure("write a shard", records, "records", found["write"], found["compress"], "BGZF")


def measure(out: Path, shards: int, records: int, runs: int) -> dict[str, Any]:
    """Makes the shards, runs all works alternately and returns medians and figures."""
    rows = make_shards(out, shards, records)

    def in_own_process(name: str) -> dict[str, float]:
        target = out / (MERGED if name == "merge" else f"{name}.out")
        with multiprocessing.get_context("spawn").Pool(1) as process:
            return process.apply(measured, (name, out, rows, target))

    found = in_rounds({name: partial(in_own_process, name) for name in WORK}, runs, warm_up=False)
    medians = {
        name: {key: statistics.median(run[key] for run in each) for key in each[0]} for name, each in found.items()
    }
    timings = {name: Timing.of((r["seconds"], r["cpu_seconds"]) for r in each) for name, each in found.items()}
    records, bytes_ = sum(row.records_out for row in rows), sum(row.bytes for row in rows)
    for name in ("copy", "merge"):
        medians[name]["mb_per_second"] = bytes_ / 1e6 / medians[name]["seconds"]
    return {
        "shards": len(rows),
        "records": records,
        "bytes": bytes_,
        "index_bytes": sum(row.index_bytes for row in rows),
        "merged_index_bytes": (out / f"{MERGED}.tbi").stat().st_size,
        "runs": runs,
        "medians": medians,
        "figures": [figure("merge", records, "records", timings["merge"], timings["copy"], "file copy")],
    }


def main() -> None:
    parser = arguments(__doc__, data=False, runs=3)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--records", type=int, default=5_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder) / "run", options.shards, options.records, options.runs)
        result["figures"].append(measure_writing(Path(folder) / "written", WRITTEN, max(7, options.runs)))
    print(f"{result['records']:,} records in {result['shards']:,} shards, {result['bytes'] / 1e6:,.0f} MB")
    rows = [
        {"work": name, "s": each["seconds"], "processor s": each["cpu_seconds"], "MB/s": each.get("mb_per_second"),
         "peak MiB": each["peak_bytes"] / 2**20, "MiB before": each["before_bytes"] / 2**20}
        for name, each in result["medians"].items()
    ]  # fmt: skip
    finish(options, rows, result.pop("figures"), **result)


if __name__ == "__main__":
    main()
