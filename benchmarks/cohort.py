"""Many samples by one sheet: sixty small simulated ones, two of them broken, scored, mended and scored again.

    python -m benchmarks.cohort --samples 60

Prints what each of the two commands said and took: the first must end with exit code 4 and name the two, the second
must do just these. Beside it the time of one sample alone: what a start of Spark and TensorFlow costs is paid once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cnnspark.simulation import simulate

BROKEN = (7, 23)


def make_samples(folder: Path, samples: int, length: int) -> Path:
    """The sheet of samples on one made-up genome, two of them with truncated reads."""
    genome = simulate(folder / "genome", seed=1, length=length, coverage=2).reference
    lines = ["sample\tvcf\treads"]
    for number in range(samples):
        name = f"S{number:02d}"
        simulate(folder / name, seed=100 + number, reference=str(genome), coverage=15, sample=name)
        lines.append(f"{name}\t{name}/callset.vcf.gz\t{name}/reads.bam")
    for number in BROKEN:
        reads = folder / f"S{number:02d}" / "reads.bam"
        reads.rename(reads.with_suffix(".whole"))
        reads.write_bytes(reads.with_suffix(".whole").read_bytes()[:20_000])
    sheet = folder / "samples.tsv"
    sheet.write_text("\n".join(lines) + "\n")
    return sheet


def score(arguments: list[str]) -> tuple[int, float, str]:
    """Exit code, seconds and the last line of what a command said."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "cnnspark.cli", "score", *arguments], capture_output=True, text=True, check=False
    )
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode, time.monotonic() - started, said[-1] if said else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--length", type=int, default=30_000)
    parser.add_argument("--model", default="features")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sheet = make_samples(folder, options.samples, options.length)
        shared = ["--reference", str(folder / "genome" / "reference.fa"), "--model", options.model]
        whole = ["--sheet", str(sheet), *shared, "--out", str(folder / "out")]
        found = {}
        found["first"] = score(whole)
        finished = {path: path.stat().st_mtime_ns for path in (folder / "out" / "samples").glob("*/merged.vcf.gz")}
        for number in BROKEN:
            reads = folder / f"S{number:02d}" / "reads.bam"
            reads.with_suffix(".whole").replace(reads)
            reads.with_name("reads.bam.bai").touch()
        found["mended"] = score([*whole, "--if-exists", "resume"])
        untouched = sum(path.stat().st_mtime_ns == at for path, at in finished.items())
        one = ["--vcf", str(folder / "S00" / "callset.vcf.gz"), "--reads", str(folder / "S00" / "reads.bam"), *shared]
        found["alone"] = score([*one, "--out", str(folder / "alone")])
        records = json.loads((folder / "out" / "manifest.json").read_text())["samples"]
        for name, (code, seconds, said) in found.items():
            print(f"{name:7} exit {code}  {seconds:6.1f} s  {said.replace(temporary, '...')}")
        print(f"{len(finished)} finished in the first run, {untouched} of them left as they were by the second")
        print(f"{sum(each['result'].get('records', 0) for each in records)} records in all")
        if options.json:
            facts = {name: {"exit": code, "seconds": round(seconds, 1)} for name, (code, seconds, _) in found.items()}
            Path(options.json).write_text(json.dumps(facts | {"untouched": untouched}) + "\n")


if __name__ == "__main__":
    main()
