"""How time and memory grow with the records: generated callsets of 10,000, 100,000 and 1,000,000 records, scored.

    python -m benchmarks.execution.growth --records 10000 100000 1000000

A made-up genome with an SNV every 20 bases or so, and the bundled ``reference`` model, which needs no reads: records
pass through the same blocks, tasks, network, shards and merge as with reads, and a million takes minutes. Each size is
a process of its own. Seconds are those of the whole command, and those of the work in the blocks, without Spark's start
and the loading of TensorFlow. Memory is the most that driver, JVM and any one worker held.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from benchmarks.support.command import arguments, finish
from benchmarks.support.measure import Timing, figure
from benchmarks.support.processes import file_arguments, run_cnnspark

SPACING_BASES = 20
LINE_BASES = 60


def write_callset(folder: Path, records: int, seed: int = 1) -> None:
    """Writes a genome of one contig as ``ref.fa`` and SNVs on it as ``calls.vcf.gz``, both indexed."""
    random = np.random.default_rng(seed)
    length = records * SPACING_BASES
    genome = np.frombuffer(b"ACGT", np.uint8)[random.integers(0, 4, length)]
    with open(folder / "ref.fa", "wb") as fasta:
        fasta.write(b">chrA\n")
        for start in range(0, length, LINE_BASES):
            fasta.write(genome[start : start + LINE_BASES].tobytes() + b"\n")
    pysam.faidx(str(folder / "ref.fa"))
    starts = np.sort(random.choice(length, records, replace=False))
    alts = np.frombuffer(b"ACGT", np.uint8)[random.integers(0, 4, records)]
    alts = np.where(alts == genome[starts], np.where(genome[starts] == ord("A"), ord("C"), ord("A")), alts)
    depths, quals = random.poisson(30, records), random.gamma(4, 50, records)
    header = (
        f"##fileformat=VCFv4.2\n##contig=<ID=chrA,length={length}>\n"
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\n"
    )
    with pysam.BGZFile(str(folder / "calls.vcf.gz"), "wb", None) as out:
        out.write(header.encode())
        for start, alt, depth, qual in zip(starts, alts, depths, quals, strict=True):
            line = f"chrA\t{start + 1}\t.\t{chr(genome[start])}\t{chr(alt)}\t{qual:.1f}\t.\tDP={depth}\tGT\t0/1\n"
            out.write(line.encode())
    pysam.tabix_index(str(folder / "calls.vcf.gz"), preset="vcf", force=True)


def score(folder: Path, cores: int) -> dict[str, Any]:
    """Scores the callset of ``folder`` by the command: a row of the table."""
    out = folder / "out"
    files = {"vcf": str(folder / "calls.vcf.gz"), "reference": str(folder / "ref.fa"), "out": str(out)}
    given = ["-q", "--master", f"local[{cores}]", "--model", "reference", *file_arguments(files)]
    ended = run_cnnspark("score", *given).require_success()
    manifest = json.loads((out / "manifest.json").read_text())
    return {
        "records": manifest["conservation"]["records_out"], "blocks": manifest["conservation"]["blocks"],
        "wall s": round(ended.wall_seconds, 1), "in blocks, cpu s": manifest["runtime"]["cpu_seconds"],
        "all cpu s": round(ended.cpu_seconds, 1), "driver MiB": round(ended.peak_mib["driver"]),
        "JVM MiB": round(ended.peak_mib["jvm"]), "worker MiB": round(ended.peak_mib["worker"]),
    }  # fmt: skip


def growth_figure(first: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The rate in the blocks beside that of the smallest callset: 1 if time is proportional to the records."""
    seconds = (each["in blocks, cpu s"] / each["records"] for each in (row, first))
    of_row, of_first = (Timing((each,), (each,)) for each in seconds)
    name, limit = f"growth: {row['records']:,.0f} records", f"of {first['records']:,.0f} records"
    return figure(name, 1.0, "records", of_row, of_first, limit)


def main() -> None:
    parser = arguments(__doc__, data=False)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for records in options.records:
        with tempfile.TemporaryDirectory() as folder:
            write_callset(Path(folder), records)
            rows.append(score(Path(folder), options.cores))
            print(json.dumps(rows[-1]), file=sys.stderr)
    first = rows[0]["in blocks, cpu s"] / rows[0]["records"]
    for row in rows:
        # 1 if time is proportional to the records, from the smallest size's time in the blocks.
        row["cpu by record, of the first"] = round(row["in blocks, cpu s"] / row["records"] / first, 3)
    finish(options, rows, [growth_figure(rows[0], row) for row in rows[1:]])


if __name__ == "__main__":
    main()
