"""A merged callset as BCF: all records, nothing invented. Oracle: pysam's own reading of VCF and BCF."""

from __future__ import annotations

from pathlib import Path

import pysam
import pytest

from cnnspark.errors import InputError, RunError
from cnnspark.formats.bcf import require_contigs, write_bcf
from cnnspark.formats.vcf import VcfSource
from tests.conftest import write_vcf
from tests.execution.test_shards import RECORDS, finished_rows, merge_shards, run, shard_folder

DECLARED = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=c1,length=10000>",
    '##FILTER=<ID=q10,Description="">',
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="">',
]


def test_a_merged_bcf_has_the_records_and_an_index(tmp_path: Path) -> None:
    source = VcfSource(write_vcf(tmp_path / "in.vcf.gz", RECORDS))
    run(source, tmp_path / "out", 3)
    rows, target = finished_rows(shard_folder(str(tmp_path / "out"))), tmp_path / "out" / "merged.bcf"
    merge_shards(tmp_path / "out", rows, source.header.text(), target)
    with pysam.VariantFile(str(target)) as ours, pysam.VariantFile(source.path) as theirs:
        assert [str(record) for record in ours] == [str(record) for record in theirs]
        assert [r.pos for r in ours.fetch("c2", 11, 24)] == [17, 24]
    assert sorted(path.name for path in (tmp_path / "out").glob("*merged.bcf*")) == ["merged.bcf", "merged.bcf.csi"]
    before = target.read_bytes()
    merge_shards(tmp_path / "out", rows, source.header.text(), target)
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ("c1 7 . A C . q10 XX=3 GT 0/1", r"INFO/XX \(first at c1:7\)"),
        ("c1 7 . A C . q10 FLAG GT 0/1", "INFO/FLAG"),
        ("c1 7 . A C . q10;q99 DP=3 GT 0/1", "FILTER/q99"),
        ("c1 7 . A C . q10 DP=3 GT:AD 0/1:1,2", "FORMAT/AD"),
        ("c9 7 . A C . q10 DP=3 GT 0/1", "contig c9"),
    ],
)
def test_a_field_that_the_header_does_not_declare_is_refused(
    tmp_path: Path, record: str, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = ["c1 5 . A C . PASS DP=3 GT 0/1", record]
    vcf = write_vcf(tmp_path / "in.vcf.gz", lines, DECLARED, index=False)
    with pytest.raises(RunError, match=f"does not declare {named}.*output-type z"):
        write_bcf(Path(vcf), tmp_path / "out.bcf", 2)
    assert capfd.readouterr().err == ""  # the sentence says it, not htslib


def test_declared_fields_are_all_written(tmp_path: Path) -> None:
    lines = ["c1 5 . A C . PASS DP=3 GT 0/1", "c1 7 . A C . q10 . GT 0/1", "c1 7 . A G . . DP=. . ."]
    vcf = write_vcf(tmp_path / "in.vcf.gz", lines, DECLARED, index=False)
    write_bcf(Path(vcf), tmp_path / "out.bcf", 3)
    with pysam.VariantFile(str(tmp_path / "out.bcf")) as bcf:
        assert [r.info.get("DP") for r in bcf] == [3, None, None]
        assert "Dummy" not in str(bcf.header)


def test_a_bcf_with_another_number_of_records_is_refused(tmp_path: Path) -> None:
    vcf = write_vcf(tmp_path / "in.vcf.gz", RECORDS, index=False)
    with pytest.raises(RunError, match="went into the BCF"):
        write_bcf(Path(vcf), tmp_path / "out.bcf", len(RECORDS) + 1)


def test_an_undeclared_contig_is_found_before_the_work(tmp_path: Path) -> None:
    source = VcfSource(write_vcf(tmp_path / "in.vcf.gz", ["c9 7 . A C . . ."]))
    require_contigs(source.header, ["c1"])
    with pytest.raises(InputError, match="contig 'c9'.*output-type z"):
        require_contigs(source.header, source.contigs)
