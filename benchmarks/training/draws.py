"""Simulated samples on real sequence: nine to train the bundled models on, and others to measure them on.

    python -m benchmarks.training.draws --data ../shared/data --work DIR

Every sample is one call of ``cnnspark simulate`` with all mechanisms. The samples to measure on have other seeds, other
sequence (which no training draw contains) and other shares of the mechanisms. ``benchmarks.accuracy.accuracy`` trains
on the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.command import DATA
from cnnspark.common.log import progress
from cnnspark.simulation import simulate
from cnnspark.simulation.settings import Mechanisms, SimulationSettings
from cnnspark.variants.candidates import CandidateSettings

REFERENCE = "reference/grch38.chr20_21.first10M.fa.gz"
TRAINED = ("chr20:60,000-6,200,000", "chr21:5,010,000-9,200,000")
# Blocks small enough that a tenth of a contig can be held out; 64 reads, which a depth of 40 seldom exceeds, halve the
# padding of repeats.
SETTINGS = ("blocks.records=1000", "tensors.read_limit=64")
UNSEEN = ("chr20:6,200,001-10,000,000", "chr21:9,200,001-10,000,000")


@dataclass(frozen=True)
class Draw:
    """One simulated sample."""

    name: str
    settings: SimulationSettings
    regions: tuple[str, ...]


def _draw(name: str, seed: int, regions: tuple[str, ...], shares: str = "", **settings: object) -> Draw:
    mechanisms = Mechanisms().changed(shares.split())
    return Draw(name, SimulationSettings(seed=seed, mechanisms=mechanisms, **settings), regions)  # type: ignore[arg-type]


TRAINING = (
    _draw("train-101", 101, TRAINED),
    _draw("train-102", 102, TRAINED, profile="novaseq"),
    _draw("train-103", 103, TRAINED, coverage=50, read_length=100, profile="novaseq"),
    _draw(
        "train-104",
        104,
        TRAINED,
        "paralogs=0.5 stutter=2 oxidation=2 deamination=2",
        coverage=20,
        fragment_mean=300,
        fragment_sd=80,
    ),
    _draw("train-105", 105, TRAINED, "duplicates=2 chimeras=2", coverage=35, read_length=250, fragment_mean=500),
    _draw(
        "train-106", 106, TRAINED, "contamination=1.67 low_complexity=2 misaligned=2 mosaic=1 paralogs=0.7", coverage=25
    ),
    # Little depth; and false alleles of which few are paralogs: what holds for both, and for all above, holds for more.
    _draw("train-107", 107, TRAINED, coverage=12),
    _draw("train-108", 108, TRAINED, "paralogs=0.3 deamination=2 contamination=1.67 duplicates=2", coverage=16),
    # True alleles as dense as in regions of old, diverged haplotypes: models took such clusters for paralogs.
    _draw("train-109", 109, TRAINED, coverage=40, read_length=100, variants=3),
)
# "mechanisms" is the one of the tables; the others differ from it in one thing each.
EVALUATION = (
    _draw("mechanisms", 901, UNSEEN),
    _draw("half-depth", 902, UNSEEN, coverage=15),
    _draw("reads-100", 903, UNSEEN, read_length=100),
    _draw("novaseq", 904, UNSEEN, profile="novaseq"),
    _draw("shares", 905, UNSEEN, "paralogs=0.2 oxidation=3 motifs=3 read_ends=3 adapters=2 chimeras=3 stutter=2"),
)
DRAWS = {draw.name: draw for draw in (*TRAINING, *EVALUATION)}


def make_sample(name: str, reference: str, work: str) -> None:
    """Simulates a draw into ``work/name``, unless it is there."""
    folder = Path(work, name)
    if not (folder / "done").exists():
        draw = DRAWS[name]
        simulate(folder, draw.settings, reference=reference, regions=draw.regions, candidates=CandidateSettings())
        (folder / "done").touch()


def make_samples(names: Iterable[str], reference: str, work: str) -> None:
    """Simulates draws, one on each core."""
    with multiprocessing.Pool() as pool:
        pool.starmap(make_sample, [(name, reference, work) for name in names], chunksize=1)


def call_with_bcftools(reference: str, work: str) -> str | None:
    """Another caller's callset of the draw "mechanisms", permissive; None without bcftools."""
    if not shutil.which("bcftools"):
        return None
    target = Path(work, "mechanisms-bcftools", "calls.vcf.gz")
    if not Path(f"{target}.tbi").exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        regions = ",".join(region.replace(",", "") for region in UNSEEN)
        piled = ["bcftools", "mpileup", "-Ou", "-f", reference, "-r", regions, "-a", "AD,DP", "-d", "1000", "-m", "2",
                 "-F", "0.05", f"{work}/mechanisms/reads.bam"]  # fmt: skip
        with subprocess.Popen(piled, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as pileup:
            call = ["bcftools", "call", "-mv", "-P", "0.1", "-Oz", "-o", str(target)]
            subprocess.run(call, stdin=pileup.stdout, check=True)
        subprocess.run(["bcftools", "index", "-t", str(target)], check=True)
    return str(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--work", required=True, help="folder for the samples")
    parser.add_argument("names", nargs="*", help="which draws [all]")
    options = parser.parse_args()
    names, reference = options.names or list(DRAWS), str(Path(options.data, REFERENCE))
    for name in names:
        progress(f"{name}: {dataclasses.asdict(DRAWS[name].settings)}")
    make_samples(names, reference, options.work)


if __name__ == "__main__":
    main()
