"""The comparison of two commits: of one with itself, and the differences that each kind of output can have."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.support import same_bytes
from cnnspark.config import InputPaths

ROOT = Path(__file__).resolve().parents[2]
HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def write_gzipped(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


SCORED = ["score reference: merged.vcf.gz", "score reference: manifest.json"]
REST = ["filter precision: precision.vcf.gz", "filter tranches: tranches.vcf.gz", "tensors: data",
        "tensors: manifest.json", "evaluate: metrics.json"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("only", "compared"), [(["--only", "score"], SCORED), pytest.param([], [*SCORED, *REST], id="all")]
)
def test_a_checkout_writes_the_same_bytes_as_itself(
    simulated: InputPaths, tmp_path, capsys, monkeypatch, only: list[str], compared: list[str]
):
    assert simulated.reads and simulated.reference and simulated.truth and simulated.bed
    small = same_bytes.Inputs(simulated.vcf, simulated.reads, simulated.reference, simulated.truth, simulated.bed)
    monkeypatch.setattr(same_bytes, "SETS", {"small": small})
    given = ["--before", str(ROOT), "--python-before", sys.executable, "--python-after", sys.executable]
    assert same_bytes.main([*given, "--work", str(tmp_path), "--model", "reference", *only]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == [f"small, {what}" for what in compared]
    (scored,) = tmp_path.glob("before-*/small/reference/merged.vcf.gz")
    size = len(gzip.decompress(scored.read_bytes()))
    assert lines[0].endswith(f"{size:,} bytes  equal")
    assert lines[-1] == f"all {len(compared)} comparisons are equal"


def test_the_first_line_that_differs_is_shown_from_shortly_before(tmp_path):
    line = f"c1\t5\t.\tA\tC\t9\tPASS\t{'X' * 100};CNN_2D=1.5\n"
    before = write_gzipped(tmp_path / "a.vcf.gz", HEADER + line * 2)
    after = write_gzipped(tmp_path / "b.vcf.gz", HEADER + line + line.replace("1.5", "1.6"))
    assert same_bytes.compare_output("vcf", before, before).difference == ""
    found = same_bytes.compare_output("vcf", before, after)
    assert found.difference == "line 4: 'XXXXXXXXXX;CNN_2D=1.5\\n' -> 'XXXXXXXXXX;CNN_2D=1.6\\n'"
    shorter = write_gzipped(tmp_path / "c.vcf.gz", HEADER + line)
    assert same_bytes.compare_output("vcf", before, shorter).difference.startswith("line 4: 'c1")
    missing = same_bytes.compare_output("vcf", before, tmp_path / "d.vcf.gz")
    assert missing.difference == "missing: after"


def tensors(folder: Path, values: list[list[float]], alts: list[str], compression: str = "zstd") -> Path:
    """A dataset of two files with one row or more each."""
    folder.mkdir()
    for number, rows in enumerate((slice(0, 1), slice(1, None))):
        table = pa.table({"values": pa.array(values[rows], pa.list_(pa.float32())), "alt": alts[rows]})
        pq.write_table(table, folder / f"{number}.parquet", compression=compression)
    return folder


def test_rows_are_compared_whatever_the_files_bytes_are(tmp_path):
    before = tensors(tmp_path / "a", [[0.0, np.nan], [1.0, 2.0]], ["A", "C"])
    after = tensors(tmp_path / "b", [[0.0, np.nan], [1.0, 2.0]], ["A", "C"], compression="none")
    found = same_bytes.compare_output("tensors", before, after)
    assert (found.amount, found.difference) == ("2 rows x 2", "")
    other = tensors(tmp_path / "c", [[-0.0, np.nan], [1.0, 2.0]], ["A", "G"])
    assert same_bytes.compare_output("tensors", before, other).difference == (
        "row 0, column values (2 of 2 columns differ)"
    )
    more = tensors(tmp_path / "d", [[0.0, np.nan], [1.0, 2.0], [3.0, 4.0]], ["A", "C", "T"])
    assert same_bytes.compare_output("tensors", before, more).difference == "2 rows -> 3"


def test_times_paths_and_configuration_are_left_out_of_json(tmp_path):
    def written(side: str, auroc: float, seconds: float) -> Path:
        path = tmp_path / side / "evaluated" / "metrics.json"
        path.parent.mkdir(parents=True)
        values = {"auroc": [auroc, None], "runtime": {"tasks": 1}, "block_seconds": seconds, "config": {"x": side}}
        path.write_text(json.dumps(values | {"inputs": {str(tmp_path / side / "x.bed"): 7}}))
        return path

    before, after, other = written("a", 0.5, 1.0), written("b", 0.5, 2.0), written("c", 0.75, 1.0)
    found = same_bytes.compare_output("metrics", before, after)
    assert (found.amount, found.difference) == ("3 values", "")
    assert same_bytes.compare_output("metrics", before, other).difference == "/auroc/0: 0.5 -> 0.75"


def test_a_python_that_runs_another_checkout_is_refused(tmp_path):
    checkout = same_bytes.Checkout.of(tmp_path, Path(sys.executable), tmp_path / "work", "before")
    with pytest.raises(SystemExit, match="does not run the cnnspark of"):
        checkout.check()
