"""How time and memory grow with the records: generated callsets of 10,000, 100,000 and 1,000,000 records, scored.

    python -m benchmarks.execution.growth --records 10000 100000 1000000

A made-up genome with an SNV every 20 bases or so, and the bundled ``reference`` model, which needs no reads: the
records' way through blocks, tasks, network, shards, conservation and merge is the same as with reads, and a million is
done in minutes. Each size is a process of its own. Seconds are of the whole command and, without Spark's start and the
loading of TensorFlow, of the work in the blocks; memory is the most that driver, JVM and any one worker held.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pysam

from benchmarks.support.measure import Timing, figure, machine, table

SPACING_BASES = 20
LINE_BASES = 60


def write_callset(folder: Path, records: int, seed: int = 1) -> None:
    """A genome of one contig as ``ref.fa`` and SNVs on it as ``calls.vcf.gz``, both indexed."""
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


class Watch(threading.Thread):
    """The most memory (resident, MiB) of the driver, its JVM and any worker, and the processor time of all."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.peak = {"driver": 0.0, "jvm": 0.0, "worker": 0.0}
        self.cpu: dict[int, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            try:
                for process in [self.root, *self.root.children(recursive=True)]:
                    kind = "driver" if process == self.root else "jvm" if "java" in process.name() else "worker"
                    self.peak[kind] = max(self.peak[kind], process.memory_info().rss / 2**20)
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
            except psutil.Error:
                continue  # a process ended while it was looked at


def score(folder: Path, cores: int) -> dict[str, float]:
    """Scores the callset of ``folder`` by the command."""
    out = folder / "out"
    started = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "cnnspark.cli",
        "score",
        "-q",
        "--master",
        f"local[{cores}]",
        "--model",
        "reference",
    ]
    files = ["--vcf", str(folder / "calls.vcf.gz"), "--reference", str(folder / "ref.fa"), "--out", str(out)]
    with subprocess.Popen([*command, *files], stdout=subprocess.PIPE, text=True) as process:
        watch = Watch(process.pid)
        watch.start()
        process.communicate()
        watch.over.set()
        watch.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    wall = time.monotonic() - started
    manifest = json.loads((out / "manifest.json").read_text())
    runtime = manifest["runtime"]
    return {
        "records": manifest["conservation"]["records_out"],
        "blocks": manifest["conservation"]["blocks"],
        "wall s": round(wall, 1),
        "in blocks, cpu s": runtime["cpu_seconds"],
        "all cpu s": round(sum(watch.cpu.values()), 1),
        "driver MiB": round(watch.peak["driver"]),
        "JVM MiB": round(watch.peak["jvm"]),
        "worker MiB": round(watch.peak["worker"]),
    }


def growth_figure(first: dict[str, float], row: dict[str, float]) -> dict[str, Any]:
    """The rate in the blocks beside that of the smallest callset: 1 where time is proportional to the records."""
    of_row, of_first = (
        Timing((seconds,), (seconds,)) for seconds in (e["in blocks, cpu s"] / e["records"] for e in (row, first))
    )
    name, limit = f"growth: {row['records']:,.0f} records", f"of {first['records']:,.0f} records"
    return figure(name, 1.0, "records", of_row, of_first, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    rows = []
    for records in options.records:
        with tempfile.TemporaryDirectory() as folder:
            write_callset(Path(folder), records)
            rows.append(score(Path(folder), options.cores))
            print(json.dumps(rows[-1]), file=sys.stderr)
    first = rows[0]
    for row in rows:
        # 1 where time is proportional to the records, from the smallest size's time in the blocks.
        row["cpu by record, of the first"] = round(
            row["in blocks, cpu s"] / row["records"] / (first["in blocks, cpu s"] / first["records"]), 3
        )
    print(machine())
    print(table(rows))
    figures = [growth_figure(first, row) for row in rows[1:]]
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows, "figures": figures}) + "\n")


if __name__ == "__main__":
    main()
