"""Many samples by one sheet: sixty small simulated ones, two of them broken, scored, mended and scored again.

    python -m benchmarks.scoring.cohort --samples 60

Prints what each of the two commands said and took: the first must end with exit code 4 and name the two, the second
must score just these. Beside it stands one sample alone: what a start of Spark and TensorFlow costs is paid once.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.support.command import arguments, finish
from benchmarks.support.processes import run_cnnspark
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


def mend(folder: Path) -> None:
    """Puts the whole reads of the broken samples back."""
    for number in BROKEN:
        reads = folder / f"S{number:02d}" / "reads.bam"
        reads.with_suffix(".whole").replace(reads)
        reads.with_name("reads.bam.bai").touch()


def score(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """A row of the table: exit code, seconds and the last line of what the command said."""
    ended = run_cnnspark("score", *arguments)
    said = ended.said.strip().splitlines()
    last = said[-1].replace(str(folder), "...") if said else ""
    return {"run": name, "exit": ended.code, "seconds": round(ended.wall_seconds, 1), "said": last}


def main() -> None:
    parser = arguments(__doc__, data=False)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--length", type=int, default=30_000)
    parser.add_argument("--model", default="features")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sheet = make_samples(folder, options.samples, options.length)
        shared = ["--reference", str(folder / "genome" / "reference.fa"), "--model", options.model]
        whole = ["--sheet", str(sheet), *shared, "--out", str(folder / "out")]
        rows = [score("first", folder, *whole)]
        finished = {path: path.stat().st_mtime_ns for path in (folder / "out" / "samples").glob("*/merged.vcf.gz")}
        mend(folder)
        rows.append(score("mended", folder, *whole, "--if-exists", "resume"))
        untouched = sum(path.stat().st_mtime_ns == at for path, at in finished.items())
        one = ["--vcf", str(folder / "S00" / "callset.vcf.gz"), "--reads", str(folder / "S00" / "reads.bam")]
        rows.append(score("alone", folder, *one, *shared, "--out", str(folder / "alone")))
        samples = json.loads((folder / "out" / "manifest.json").read_text())["samples"]
    said = {row["run"]: row.pop("said") for row in rows}
    finish(options, rows, finished=len(finished), untouched=untouched)
    for name, last in said.items():
        print(f"{name}: {last}")
    print(f"{len(finished)} finished in the first run, {untouched} of them left as they were by the second")
    print(f"{sum(each['result'].get('records', 0) for each in samples)} records in all")


if __name__ == "__main__":
    main()
