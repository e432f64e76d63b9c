"""What a genome costs, and a thousand: core-hours and bytes, from the rates that were measured.

    python -m benchmarks --only rate --json results.json
    python -m benchmarks.tensors.genome_cost --data ../shared/data --rates results.json

Measured are the rate of a task at a genome's density and 30x (``score ..., genome`` of :mod:`benchmarks.scoring.rate`)
and the bytes of real/HG002: 100 kb of reads, its records, its scored shard. Everything else is extrapolated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.support.callsets import inputs_of
from benchmarks.support.command import DATA, table
from cnnspark.execution.blocks import BlockSettings
from cnnspark.formats.vcf import VcfSource
from cnnspark.tensors.site_features import READ_REACH

RECORDS = 5_000_000
GENOME_BASES = 3_100_000_000
# A manifest row of a scored block with what the guard counts (docs/operations.md).
ROW_BYTES = 5_000
MEASURED_BASES = 100_000  # that the reads of real/HG002 cover


@dataclass(frozen=True)
class Sizes:
    """Compressed bytes: of reads for a base of the genome, and of a record as it comes and as it is scored."""

    reads_by_base: float
    record_in: float
    record_out: float


@dataclass(frozen=True)
class GenomeBytes:
    """Bytes that one genome moves over a network if its files are far from the executors; nothing is shuffled."""

    reads: float  # decoded once, and those beside each block's ends once more
    callset: float  # read twice: to count records and cut blocks, and to score
    shards: float  # written, read once more by the merge
    merged: float
    driver: float  # rows of blocks


def core_hours(records_per_second: float, records: int = RECORDS, genomes: int = 1) -> float:
    """Hours of one core at this rate.

    Raises:
        ValueError: If the rate is not positive.
    """
    if records_per_second <= 0:
        raise ValueError(f"a rate of {records_per_second} records a second cannot be")
    return genomes * records / records_per_second / 3600


def genome_bytes(sizes: Sizes, records: int = RECORDS, bases: int = GENOME_BASES) -> GenomeBytes:
    """Bytes of a genome with ``records`` records, evenly spread over it."""
    settings = BlockSettings()
    blocks = max(records / settings.records, bases / settings.bases)
    beside = 1 + blocks * 2 * READ_REACH / bases
    shards = records * sizes.record_out
    return GenomeBytes(
        reads=bases * sizes.reads_by_base * beside,
        callset=2 * records * sizes.record_in,
        shards=2 * shards,
        merged=shards,
        driver=blocks * ROW_BYTES,
    )


def measured_sizes(data: str, figures: Mapping[str, Mapping[str, Any]]) -> Sizes:
    """The sizes of real/HG002."""
    inputs = inputs_of(data, "HG002")
    assert inputs.reads is not None
    with VcfSource(inputs.vcf) as source:
        records = sum(1 for contig in source.contigs for _ in source._file.fetch(contig))
    out = next(figure["bytes_by_record"] for figure in figures.values() if figure.get("bytes_by_record"))
    return Sizes(
        Path(inputs.reads).stat().st_size / MEASURED_BASES, Path(inputs.vcf).stat().st_size / records, float(out)
    )


def report(figures: Mapping[str, Mapping[str, Any]], sizes: Sizes) -> str:
    """The tables of core-hours and of bytes, as text."""
    rows = []
    for name, figure in figures.items():
        if name.endswith(", genome"):
            hours = core_hours(figure["rate"])
            rows.append({"model": name.removeprefix("score ").removesuffix(", genome"),
                         "records/s/core, measured": figure["rate"], "core-hours a genome": hours,
                         "1,000 genomes": 1000 * hours})  # fmt: skip
    if not rows:
        raise SystemExit("the rates hold no figure 'score ..., genome'; run 'python -m benchmarks --only rate'")
    moved = asdict(genome_bytes(sizes))
    gigabytes = [{"GB": name, "a genome": value / 1e9, "1,000 genomes": value / 1e6} for name, value in moved.items()]
    return (
        f"extrapolated to {RECORDS:,} records on {GENOME_BASES:,} bases at 30x\n{table(rows)}\n\n"
        f"measured: {sizes.reads_by_base:.1f} bytes of reads a base, {sizes.record_in:.0f} bytes a record as it comes "
        f"(header included), {sizes.record_out:.0f} as it is written\n{table(gigabytes)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA)
    parser.add_argument(
        "--rates", required=True, metavar="FILE", help="the --json of benchmarks.scoring.rate, or of all"
    )
    options = parser.parse_args()
    figures = {figure["name"]: figure for figure in json.loads(Path(options.rates).read_text())["figures"]}
    print(report(figures, measured_sizes(options.data, figures)))


if __name__ == "__main__":
    main()
