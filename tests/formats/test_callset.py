"""Callsets as users have them: plain, gzipped, BCF, without index, unsorted, truncated."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pysam
import pytest

from cnnspark.errors import InputError
from cnnspark.formats.callset import copy_callset, count_records, kind_of, needs_copy, open_callset
from tests.conftest import read_lines, write_vcf

LINES = ["c1 5 . A C 1e-05 . DP=007", "c1 9 . A T . . .", "c2 1 . G GA . . ."]


def test_a_plain_vcf_becomes_indexed_with_the_same_lines(tmp_path: Path) -> None:
    plain = write_vcf(tmp_path / "a.vcf", LINES)
    assert needs_copy(plain)
    copy_callset(plain, tmp_path / "copy" / "a.vcf.gz")
    assert open_callset(str(tmp_path / "copy" / "a.vcf.gz")).contigs == ["c1", "c2"]
    assert read_lines(tmp_path / "copy" / "a.vcf.gz") == [line.replace(" ", "\t") for line in LINES]


def test_windows_line_ends_are_removed(tmp_path: Path) -> None:
    plain = Path(write_vcf(tmp_path / "a.vcf", LINES))
    plain.write_bytes(plain.read_bytes().replace(b"\n", b"\r\n"))
    copy_callset(str(plain), tmp_path / "a.vcf.gz")
    assert read_lines(tmp_path / "a.vcf.gz") == [line.replace(" ", "\t") for line in LINES]
    assert open_callset(str(tmp_path / "a.vcf.gz")).header.samples == ()


def test_a_bcf_is_read_through_htslib(tmp_path: Path) -> None:
    head = [
        "##fileformat=VCFv4.2",
        "##contig=<ID=c1,length=100>",
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="">',
    ]
    vcf = write_vcf(tmp_path / "a.vcf", ["c1 5 . A C 30 . DP=7"], head)
    with (
        pysam.VariantFile(vcf) as source,
        pysam.VariantFile(str(tmp_path / "a.bcf"), "wb", header=source.header) as out,
    ):
        for record in source:
            out.write(record)
    assert kind_of(str(tmp_path / "a.bcf")) == "bcf"
    copy_callset(str(tmp_path / "a.bcf"), tmp_path / "copy.vcf.gz")
    assert read_lines(tmp_path / "copy.vcf.gz") == ["c1\t5\t.\tA\tC\t30\t.\tDP=7"]


def test_a_missing_index_names_the_command_that_makes_it(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "a.vcf.gz", LINES, index=False)
    with pytest.raises(InputError, match="tabix -p vcf"):
        open_callset(path)


def test_gzip_is_distinguished_from_bgzip(tmp_path: Path) -> None:
    plain = Path(write_vcf(tmp_path / "a.vcf", LINES))
    (tmp_path / "a.vcf.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(InputError, match="bgzip"):
        open_callset(str(tmp_path / "a.vcf.gz"))


def test_a_truncated_callset_is_refused(tmp_path: Path) -> None:
    path = Path(write_vcf(tmp_path / "a.vcf.gz", LINES))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="truncated"):
        open_callset(str(path))


@pytest.mark.parametrize("lines", [["c1 9 . A T . . .", "c1 5 . A C . . ."], [LINES[0], LINES[2], LINES[1]]])
def test_an_unsorted_callset_names_the_line_and_the_remedy(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(InputError, match=r"line \d+.*bcftools sort"):
        copy_callset(write_vcf(tmp_path / "a.vcf", lines), tmp_path / "copy.vcf.gz")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "does not exist"), (b"", "0 bytes"), (b"hello world\n", "not a VCF or BCF")]
)
def test_another_file_than_a_callset_is_one_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a.vcf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_callset(str(path))


def test_an_index_older_than_its_callset_must_know_all_its_records(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "a.vcf.gz", LINES)
    os.utime(path + ".tbi", (1, 1))
    open_callset(path).close()  # copied in another order: nothing is missing
    other = write_vcf(tmp_path / "b.vcf.gz", LINES[:-1])
    os.replace(other + ".tbi", path + ".tbi")
    with pytest.raises(InputError, match="tabix -f -p vcf"):
        open_callset(path)
    assert count_records(path) == len(LINES)


def test_a_bcf_keeps_letters_beyond_ascii(tmp_path: Path) -> None:
    head = ["##fileformat=VCFv4.2", "##contig=<ID=c1,length=100>", "##note=5 µm ≥ 3"]
    vcf = write_vcf(tmp_path / "a.vcf", ["c1 5 . A C 30 . ."], head)
    with (
        pysam.VariantFile(vcf) as source,
        pysam.VariantFile(str(tmp_path / "a.bcf"), "wb", header=source.header) as out,
    ):
        for record in source:
            out.write(record)
    copy_callset(str(tmp_path / "a.bcf"), tmp_path / "copy.vcf.gz")
    with pysam.BGZFile(str(tmp_path / "copy.vcf.gz"), "rb", None) as copied:
        assert "##note=5 µm ≥ 3" in copied.read(1 << 20).decode()
