"""The stages for a Python caller: what loads when, and what results hold. Whole runs: integration/test_documents.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnspark
from cnnspark import api
from cnnspark.config import Config
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.vcf import Record
from cnnspark.variants.carriers import Member
from tests.conftest import ROOT, Sample, read_lines, write_vcf

HEADER = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=c1,length=10000>",
    '##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="x">',
    '##INFO=<ID=CNN_ALT_SCORES,Number=A,Type=Float,Description="x">',
    '##INFO=<ID=OTHER,Number=1,Type=Float,Description="x">',
]


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, cnnspark; before = set(sys.modules) & {'numpy', 'pyspark', 'pysam', 'tensorflow'};"
        "cnnspark.score; print(before, 'tensorflow' in sys.modules, 'pyspark' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set() False False"


def test_the_package_has_the_functions_and_no_others() -> None:
    for name in cnnspark.__all__:
        assert callable(getattr(cnnspark, name)) and name in dir(cnnspark)
    with pytest.raises(AttributeError, match="has no attribute 'scores'"):
        cnnspark.scores  # noqa: B018
    from cnnspark.tensors import settings  # a module of the package, not a function

    assert settings.TensorSettings


def test_a_configuration_is_a_file_settings_or_itself(tmp_path: Path) -> None:
    written = tmp_path / "x.yaml"
    written.write_text("blocks: {records: 30}\ninputs: {reads: a.bam}\n")
    config, paths = api._settings(written, vcf=Path("b.vcf.gz"))
    assert config.blocks.records == 30
    assert (paths.vcf, paths.reads) == ("b.vcf.gz", str(tmp_path / "a.bam"))
    config, paths = api._settings(
        {"blocks.records": 40, "train.model": "features", "annotations": ["QUAL", "INFO/DP"]},
        reads={"S1": Path("1.bam"), "S2": "2.bam"}, regions=["c1:1-10"],
    )  # fmt: skip
    assert (config.blocks.records, config.train.model, config.annotations) == (40, "features", ("QUAL", "INFO/DP"))
    assert paths.members == (Member("S1", "1.bam"), Member("S2", "2.bam"))
    assert (paths.reads, paths.regions) == (None, ("c1:1-10",))
    given = Config()
    assert api._settings(given)[0] is given
    with pytest.raises(UsageError, match="there is no setting 'blocks.recrods'; did you mean"):
        api._settings({"blocks.recrods": 40})


def test_a_scored_callset_is_a_table_with_a_row_for_each_alt(tmp_path: Path) -> None:
    path = write_vcf(
        tmp_path / "x.vcf.gz",
        [
            "c1 10 . A C,G 50 PASS CNN_2D=2.000;CNN_ALT_SCORES=-1.000,2.000;OTHER=7",
            "c1 20 . A <DEL>,T . LOW CNN_2D=0.500;CNN_ALT_SCORES=.,0.500",
            "c1 30 . A . 5 . .",
            "c1 40 . A T 5 . OTHER=3",
        ],
        HEADER,
    )
    table = api._table(path, "CNN_2D")
    assert table[["contig", "pos", "ref", "alt", "filter"]].values.tolist() == [
        ["c1", 10, "A", "C", "PASS"],
        ["c1", 10, "A", "G", "PASS"],
        ["c1", 20, "A", "<DEL>", "LOW"],
        ["c1", 20, "A", "T", "LOW"],
        ["c1", 40, "A", "T", "."],
    ]
    np.testing.assert_array_equal(table["score"], [-1, 2, np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(table["qual"], [50, 50, np.nan, np.nan, 5])
    np.testing.assert_array_equal(api._table(path, "OTHER")["score"], [7, 7, np.nan, np.nan, 3])
    with pytest.raises(UsageError, match="left unmerged"):
        api._table(None, "CNN_2D")
    with pytest.raises(InputError, match=r"no\.vcf\.gz does not exist; check the path"):
        api._table(str(tmp_path / "no.vcf.gz"), "CNN_2D")


def test_what_cannot_be_is_said_before_spark_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="if_exists is 'resume'; use 'fail' or 'overwrite'"):
        cnnspark.filter("x.vcf.gz", tmp_path / "y.vcf.gz", if_exists="resume", threshold=0)


@pytest.mark.spark
def test_results_are_those_of_the_files(spark: object, sample: Sample, tmp_path: Path) -> None:
    scored = cnnspark.score(
        sample.paths.vcf, sample.paths.reads, sample.paths.reference, sample.model,
        out=tmp_path / "scored", config=sample.config, output_type="b",
    )  # fmt: skip
    assert scored.key == "CNN_2D" and "records in" in scored.statement and str(scored.merged).endswith("merged.bcf")
    table = scored.to_pandas()
    filtered = cnnspark.filter(scored.out, tmp_path / "filtered.vcf.gz", threshold=0)
    records = [Record(line) for line in read_lines(filtered.out)]
    assert len(table) == sum(len(record.alts) for record in records)
    assert scored.counts["alleles scored"] == table["score"].notna().sum()
    # A BCF's floats have 32 bits.
    np.testing.assert_allclose(filtered.to_pandas()["score"], table["score"], atol=1e-5)
    assert filtered.counts["passed"] == sum(record.filter == "PASS" for record in records)
    with pytest.raises(TypeError, match="treshold"):
        cnnspark.filter(scored.out, tmp_path / "other.vcf.gz", treshold=0)
    with pytest.raises(UsageError, match=r"filtered\.vcf\.gz exists"):
        cnnspark.filter(scored.out, filtered.out, threshold=0)
