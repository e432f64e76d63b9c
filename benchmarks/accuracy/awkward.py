"""What ``score`` and ``filter`` do with bad and odd inputs: a table in Markdown.

    python -m benchmarks.accuracy.awkward --data ../shared/data > table.md

Each file of ``awkward/made`` goes through both commands; the specification's own files are counted by outcome. An
outcome is "works" (as many records out as in) or the sentence and the exit code; anything else ends the benchmark.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.support.command import DATA
from cnnspark import stages
from cnnspark.common.error_translation import explain
from cnnspark.common.log import set_quiet
from cnnspark.config import InputPaths, load_config
from cnnspark.execution.session import spark_session
from cnnspark.filtering.request import FilterOptions
from cnnspark.stages.requests import ScoreRequest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# The sample's name in the made-up callsets; their reads have another.
SAMPLE = "S1"
# Every callset has this.
KEY, THRESHOLD = "QUAL", 20.0


def outcome(work: Callable[[], object]) -> str:
    """Either "works" or the sentence with its exit code, paths shortened to names."""
    try:
        work()
    except Exception as error:
        said = explain(error)
        if said.exit_code not in (2, 3):
            raise
        return f"{said.exit_code}: {re.sub(r'/[^ ]*/', '', str(said))}"
    return "works"


def score(spark: SparkSession, paths: InputPaths, folder: Path) -> str:
    """The outcome of ``score`` with the bundled ``features`` model."""
    config = load_config()

    def once(chosen: InputPaths, out: str) -> str:
        return outcome(lambda: stages.score_callset(spark, ScoreRequest(chosen, "features", str(folder / out), config)))

    said = once(paths, "scored")
    if "holds reads of" in said and f"'{SAMPLE}'" in said:
        said = once(dataclasses.replace(paths, sample=SAMPLE), "again")
        return f"with --sample: {said}"
    return said


def filtered(spark: SparkSession, vcf: Path, folder: Path) -> str:
    """The outcome of ``filter --key QUAL --threshold 20``."""
    config = load_config()
    target = str(folder / "filtered.vcf.gz")
    return outcome(
        lambda: stages.filter_callset(spark, str(vcf), target, config, FilterOptions(threshold=THRESHOLD, key=KEY))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--every", type=int, default=1, help="take every N-th of the specification's files")
    options = parser.parse_args()
    data = Path(options.data).absolute()
    set_quiet(True)
    made, sim = data / "awkward" / "made", data / "sim"
    spark = spark_session("awkward", "local[2]")
    print("| file | `score` | `filter --key QUAL --threshold 20` |\n|---|---|---|")
    tiny = InputPaths(str(made / "tiny.vcf.gz"), str(made / "tiny.bam"), str(sim / "ref.fa.gz"))
    files = sorted(path for path in made.iterdir() if path.suffix in (".vcf", ".bam", ".cram", ".gz"))
    for path in files:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if ".vcf" in path.name:
                row = score(spark, dataclasses.replace(tiny, vcf=str(path)), folder), filtered(spark, path, folder)
            elif ".fa" in path.name:
                row = score(spark, dataclasses.replace(tiny, reference=str(path)), folder), ""
            else:
                row = score(spark, dataclasses.replace(tiny, reads=str(path)), folder), ""
            print(f"| `{path.name}` | {row[0]} | {row[1]} |", flush=True)
    for kind in ("passed", "failed"):
        scored: Counter[str] = Counter()
        chosen: Counter[str] = Counter()
        files = sorted((data / "awkward" / "hts-specs" / "test" / "vcf").glob(f"*/{kind}/**/*.vcf"))[:: options.every]
        for path in files:
            with tempfile.TemporaryDirectory() as temporary:
                paths = dataclasses.replace(tiny, vcf=str(path), reads=str(sim / "DEV.bam"))
                scored[_kind(score(spark, paths, Path(temporary)))] += 1
                chosen[_kind(filtered(spark, path, Path(temporary)))] += 1
            print(f"{path.name}", file=sys.stderr)
        print(f"| specification, {kind}: {len(files)} | {_list(scored)} | {_list(chosen)} |", flush=True)


def _kind(said: str) -> str:
    """The sentence without names and numbers, so that sentences of one kind are counted together."""
    return re.sub(r"'[^']*'|\b\d+\b(?!:)|\S+\.vcf(\.gz)?", "…", said)[:90]


def _list(counts: Counter[str]) -> str:
    return "; ".join(f"{n} × {said}" for said, n in counts.most_common())


if __name__ == "__main__":
    main()
