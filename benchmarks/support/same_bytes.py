"""Whether two commits write the same bytes: both checkouts run the same commands, and their outputs are compared.

    python -m benchmarks.support.same_bytes --before FOLDER [--after FOLDER] --data ../shared/data --work DIR

FOLDER is a checkout of cnnspark; its own ``.venv`` runs it, or the Python of ``--python-before``, ``--python-after``.
For each set of ``SETS``: ``score`` with each bundled model, ``filter`` by precision and by tranches, ``tensors`` and
``evaluate``. Compared are VCFs (header and records, decompressed), the rows of tensors (not their Parquet files),
``metrics.json``, and ``manifest.json`` without times, paths and configuration. One line says what each comparison
found; the exit code is 1 if anything differs.

Outputs stay in ``--work`` under the checkout's commit, and are used again if the checkout has no uncommitted change.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("reads", "features", "reference")
COMMANDS = ("score", "filter", "tensors", "evaluate")
# Small blocks, so that several are merged.
SETTINGS = ("--set", "blocks.records=200")
# Entries of a manifest that differ between two runs of one commit, and 'config', which names modules.
UNSTABLE = re.compile(r"(^|_)(seconds|runtime|config|path|merged|out|changed|inputs_changed)$")
EXCERPT = 60


@dataclass(frozen=True)
class Inputs:
    """The files of a set, relative to the data's folder."""

    vcf: str
    reads: str
    reference: str
    known: str  # the resource of 'filter' by tranches, and the truth of 'tensors'
    bed: str  # a file, or the one line of it
    labels: str = ""  # for 'evaluate'; without, it is given truth and BED
    regions: tuple[str, ...] = ()


SETS = {
    # HG002 has no truth in the data: another caller's callset takes its place.
    "HG002": Inputs(
        "real/HG002/HG002.freebayes.vcf.gz", "real/HG002/HG002.20.bam", "real/HG002/ref.b37.20.fa.gz",
        "real/HG002/HG002.haplotypecaller.vcf.gz", "20\t9999000\t10100000\n",
    ),
    "NA12878": Inputs(
        "real/NA12878/NA12878.freebayes.vcf.gz", "real/NA12878/NA12878.chr20.cram", "real/NA12878/ref.hg19.chr20.fa.gz",
        "real/NA12878/NA12878.truth.vcf.gz", "real/NA12878/NA12878.confident.proxy.bed",
        "real/NA12878/NA12878.freebayes.labels.tsv",
    ),
    "sim": Inputs(
        "sim/DEV.freebayes.vcf.gz", "sim/DEV.bam", "sim/ref.fa.gz", "sim/DEV.truth.vcf.gz", "sim/DEV.conf.bed",
        "sim/DEV.freebayes.labels.tsv", ("chr20:60,000-260,000", "chr21:7,750,000-7,850,000"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Checkout:
    """A checkout, the Python that runs it, and the folder of its outputs."""

    folder: Path
    python: Path
    out: Path

    @classmethod
    def of(cls, folder: Path, python: Path | None, work: Path, side: str) -> Checkout:
        """A checkout; outputs of a commit are kept, those of uncommitted changes are removed."""

        def git(*arguments: str) -> str:
            command = ["git", "-C", str(folder), *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

        commit = "" if git("status", "--porcelain", "--", "cnnspark") else git("rev-parse", "--short=12", "HEAD")
        out = work.absolute() / f"{side}-{commit or 'uncommitted'}"
        if not commit:
            shutil.rmtree(out, ignore_errors=True)
        # Not resolved: a venv's python is a link to one that knows nothing of the venv.
        return cls(folder.resolve(), (python or folder / ".venv" / "bin" / "python").absolute(), out)

    def run(self, module: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [str(self.python), *(["-m", module] if module else []), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def check(self) -> None:
        """Checks that this Python runs this folder's cnnspark.

        Raises:
            SystemExit: If it would run another one.
        """
        done = self.run("", ["-c", "import cnnspark; print(cnnspark.__file__)"])
        if done.returncode or not Path(done.stdout.strip()).is_relative_to(self.folder):
            raise SystemExit(f"{self.python} does not run the cnnspark of {self.folder}: {done.stdout}{done.stderr}")


@dataclass(frozen=True)
class Step:
    """A command, and the outputs of it that are compared, relative to the set's folder."""

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]


def steps_of(inputs: Inputs, data: Path, out: Path, models: Sequence[str]) -> list[Step]:
    """The commands of a set, in an order in which each finds what it needs."""
    regions = [argument for region in inputs.regions for argument in ("--region", region)]
    reference = ["--reference", str(data / inputs.reference)]
    bed = out / "confident.bed" if inputs.bed.endswith("\n") else data / inputs.bed
    truth = ["--truth", str(data / inputs.known), "--bed", str(bed)]
    known = ["--labels", str(data / inputs.labels)] if inputs.labels else truth
    vcf = ["--vcf", str(data / inputs.vcf), *reference, *regions]
    reads = ["--reads", str(data / inputs.reads)]
    scored = str(out / models[0])
    filters = {"precision": ["--precision", "0.95"], "tranches": ["--resource", str(data / inputs.known)]}

    def step(name: str, target: str, outputs: Sequence[str], *arguments: str) -> Step:
        command, where = name.split()[0], ["--master", "local[1]"] if name == "tensors" else ["--local"]
        return Step(name, (command, *arguments, "--out", str(out / target), *where, *SETTINGS), tuple(outputs))

    return [
        *(
            step(f"score {m}", m, [f"{m}/merged.vcf.gz", f"{m}/manifest.json"], *vcf, *reads, "--model", m)
            for m in models
        ),
        *(
            step(f"filter {way}", f"{way}.vcf.gz", [f"{way}.vcf.gz"], "--in", scored, *arguments)
            for way, arguments in filters.items()
        ),
        step("tensors", "tensors", ["tensors/data", "tensors/manifest.json"], *vcf, *reads, *truth),
        step("evaluate", "evaluated", ["evaluated/metrics.json"], "--vcf", scored, *reference, *known, *regions),
    ]


def run_step(checkout: Checkout, step: Step, folder: Path) -> str:
    """Runs a step unless its outputs are there; returns what went wrong, or nothing."""
    finished = folder / f"{step.name.replace(' ', '-')}.finished"
    text = "\n".join(step.arguments)
    if finished.exists() and finished.read_text() == text:
        return ""
    done = checkout.run("cnnspark.cli", [*step.arguments, "--if-exists", "overwrite", "-q"])
    if done.returncode:
        return f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    finished.write_text(text)
    return ""


@dataclass(frozen=True)
class Comparison:
    """What was compared, how much of it, and the first difference, or nothing."""

    what: str
    amount: str
    difference: str = ""

    def __str__(self) -> str:
        return f"{self.what:<42} {self.amount:>18}  {self.difference or 'equal'}"


def compare_output(what: str, before: Path, after: Path) -> Comparison:
    """Compares a VCF, a dataset's folder or a JSON file with its counterpart."""
    missing = [side for side, path in (("before", before), ("after", after)) if not path.exists()]
    if missing:
        return Comparison(what, "", f"missing: {' and '.join(missing)}")
    if before.is_dir():
        return compare_rows(what, before, after)
    if before.suffix == ".json":
        return compare_json(what, before, after)
    return compare_text(what, before, after)


def compare_text(what: str, before: Path, after: Path) -> Comparison:
    """Compares two gzipped files byte by byte after decompression."""
    a, b = gzip.decompress(before.read_bytes()), gzip.decompress(after.read_bytes())
    difference = ""
    if a != b:
        ours, theirs = [*a.splitlines(keepends=True), b""], [*b.splitlines(keepends=True), b""]
        line = next(i for i, (x, y) in enumerate(zip(ours, theirs, strict=False)) if x != y)
        difference = f"line {line + 1}: {_apart(repr(ours[line])[2:-1], repr(theirs[line])[2:-1])}"
    return Comparison(what, f"{len(a):,} bytes", difference)


def _apart(before: str, after: str) -> str:
    """Two texts, shown from shortly before their first difference."""
    start = max(0, len(os.path.commonprefix([before, after])) - EXCERPT // 3)
    return " -> ".join(f"'{text[start : start + EXCERPT]}'" for text in (before, after))


def row_digests(folder: Path) -> dict[str, list[bytes]]:
    """The digest of every value of a dataset, by column: rows as stored, files in the order of their names."""
    files = sorted(folder.rglob("*.parquet"))
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    return {
        name: [hashlib.sha256(_value_bytes(value)).digest() for value in table[name]]
        for name in sorted(table.column_names)
    }


def _value_bytes(value: pa.Scalar) -> bytes:
    content = value.as_py()
    if isinstance(content, bytes):
        return content
    if isinstance(content, list):  # keeps NaN apart from null, and -0 from 0
        return b"|".join(np.float64(each).tobytes() if each is not None else b"null" for each in content)
    return repr(content).encode()


def compare_rows(what: str, before: Path, after: Path) -> Comparison:
    """Compares the rows of two datasets, column by column."""
    a, b = row_digests(before), row_digests(after)
    if list(a) != list(b):
        return Comparison(what, "", f"columns {', '.join(sorted({*a} ^ {*b}))} are on one side alone")
    rows = [len(next(iter(side.values()))) for side in (a, b)]
    differing = [
        (row, name) for name in a for row, (x, y) in enumerate(zip(a[name], b[name], strict=False)) if x != y
    ]  # fmt: skip
    difference = f"{rows[0]:,} rows -> {rows[1]:,}" if rows[0] != rows[1] else ""
    if differing:
        row, name = min(differing)
        columns = len({name for _, name in differing})
        difference = f"row {row}, column {name} ({columns} of {len(a)} columns differ) {difference}".strip()
    return Comparison(what, f"{rows[0]:,} rows x {len(a)}", difference)


def stable_entries(value: Any, folder: str, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value as (path, value), without times and paths; ``folder`` is written ``DIR``."""
    if UNSTABLE.search(name.rsplit("/", 1)[-1]):
        return
    if isinstance(value, (dict, list)):
        items = sorted(value.items()) if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from stable_entries(each, folder, f"{name}/{key}".replace(folder, "DIR"))
        if not value:
            yield name, value
    else:
        yield name, value.replace(folder, "DIR") if isinstance(value, str) else value


def compare_json(what: str, before: Path, after: Path) -> Comparison:
    """Compares two JSON files, without the entries that differ from run to run."""
    a, b = (
        dict(stable_entries(json.loads(path.read_text()), str(path.parents[1]))) for path in (before, after)
    )  # fmt: skip
    difference = next(
        (f"{key}: {a.get(key, 'missing')!r} -> {b.get(key, 'missing')!r}" for key in {**a, **b}
         if key not in a or key not in b or repr(a[key]) != repr(b[key])), "",
    )  # fmt: skip
    return Comparison(what, f"{len(a):,} values", difference)


def needed(step: Step, wanted: Sequence[str]) -> bool:
    """Whether a step is asked for, or makes the scores that such a step reads."""
    command = step.name.split()[0]
    return command in wanted or (command == "score" and bool({"filter", "evaluate"} & {*wanted}))


def compare_set(
    name: str, inputs: Inputs, data: Path, sides: Sequence[Checkout], models: Sequence[str], wanted: Sequence[str]
) -> Iterator[Comparison]:
    """Runs the commands of a set with both checkouts and compares what they wrote."""
    folders = [side.out / name for side in sides]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        if inputs.bed.endswith("\n"):
            (folder / "confident.bed").write_text(inputs.bed)
    steps = [[s for s in steps_of(inputs, data, folder, models) if needed(s, wanted)] for folder in folders]
    for before, after in zip(*steps, strict=True):
        failures = [run_step(sides[0], before, folders[0]), run_step(sides[1], after, folders[1])]
        what = f"{name}, {before.name}"
        if any(failures):
            yield Comparison(what, "", f"before: {failures[0] or 'ran'}; after: {failures[1] or 'ran'}")
            continue
        for output in before.outputs:
            yield compare_output(f"{what}: {output.split('/')[-1]}", *(folder / output for folder in folders))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line for each comparison; returns 1 if any found a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--after", type=Path, default=ROOT, metavar="FOLDER", help="[this checkout]")
    parser.add_argument("--python-before", type=Path, metavar="FILE", help="[BEFORE/.venv/bin/python]")
    parser.add_argument("--python-after", type=Path, metavar="FILE", help="[AFTER/.venv/bin/python]")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder for the outputs")
    parser.add_argument("--set", dest="sets", action="append", choices=list(SETS), help="may be repeated [all]")
    parser.add_argument("--model", dest="models", action="append", choices=MODELS, help="may be repeated [all]")
    parser.add_argument("--only", action="append", choices=COMMANDS, help="and what it needs; may be repeated [all]")
    options = parser.parse_args(arguments)
    sides = [
        Checkout.of(options.before, options.python_before, options.work, "before"),
        Checkout.of(options.after, options.python_after, options.work, "after"),
    ]
    for side in sides:
        side.check()
    found, chosen = [], (options.models or MODELS, options.only or COMMANDS)
    for name in options.sets or SETS:
        for comparison in compare_set(name, SETS[name], options.data.resolve(), sides, *chosen):
            print(comparison, flush=True)
            found.append(comparison)
    different = sum(bool(comparison.difference) for comparison in found)
    print(f"{different} of {len(found)} comparisons differ" if different else f"all {len(found)} comparisons are equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
