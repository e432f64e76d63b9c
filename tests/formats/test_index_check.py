"""Indexes of files that have changed since, of every kind, and those that belong to their file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest

from cnnspark.errors import InputError
from cnnspark.formats.binning_index import indexed_records
from cnnspark.formats.callset import open_callset
from cnnspark.formats.index_check import require_read_index, require_vcf_index
from cnnspark.formats.reads import open_reads
from tests.conftest import write_vcf

LINES = [f"c1 {pos} . A C 30 . ." for pos in range(10, 4_000, 10)] + ["c2 7 . A C 30 . ."]


def vcf(folder: Path, kept: int, csi: bool = False) -> str:
    folder.mkdir()
    path = write_vcf(folder / "a.vcf.gz", LINES[:kept], index=False)
    pysam.tabix_index(path, preset="vcf", csi=csi)
    return path


def reads(folder: Path, kept: int, kind: str) -> str:
    """A BAM or CRAM of reads on c1, then one on c2 and one that is not placed."""
    folder.mkdir()
    (folder / "ref.fa").write_text(f">c1\n{'ACGT' * 2_500}\n>c2\n{'ACGT' * 100}\n")
    pysam.faidx(str(folder / "ref.fa"))
    path = str(folder / f"a.{kind}")
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "c1", "LN": 10_000}, {"SN": "c2", "LN": 400}]}
    options = {"reference_filename": str(folder / "ref.fa"), "format_options": [b"seqs_per_slice=50"]}
    mode = "wb" if kind == "bam" else "wc"
    with pysam.AlignmentFile(path, mode, header=header, **(options if kind == "cram" else {})) as out:
        for i in range(kept + 2):
            read = pysam.AlignedSegment(out.header)
            read.query_name, read.query_sequence = f"r{i}", "ACGT" * 25
            read.query_qualities = pysam.qualitystring_to_array("I" * 100)
            if i <= kept:
                read.reference_id, read.reference_start, read.cigartuples = (
                    int(i == kept),
                    4 * i * (i < kept),
                    [(0, 100)],
                )
                read.mapping_quality = 60
            else:
                read.flag = 4
            out.write(read)
    pysam.index(path)
    return path


def check_vcf(path: str, suffix: str) -> None:
    require_vcf_index(path, f"{path}{suffix}")
    open_callset(path).close()


def check_reads(path: str, suffix: str) -> None:
    require_read_index(path, f"{path}{suffix}", path.endswith("cram"))
    open_reads(path, str(Path(path).with_name("ref.fa"))).close()


KINDS: list[tuple[Callable[[Path, int], str], str, Callable[[str, str], None]]] = [
    (lambda folder, kept: vcf(folder, kept), ".tbi", check_vcf),
    (lambda folder, kept: vcf(folder, kept, csi=True), ".csi", check_vcf),
    (lambda folder, kept: reads(folder, kept, "bam"), ".bai", check_reads),
    (lambda folder, kept: reads(folder, kept, "cram"), ".crai", check_reads),
]


@pytest.mark.parametrize(("make", "suffix", "check"), KINDS, ids=["tbi", "csi", "bai", "crai"])
def test_an_index_of_a_shorter_longer_or_empty_file_is_refused(
    tmp_path: Path,
    make: Callable[[Path, int], str],
    suffix: str,
    check: Callable[[str, str], None],
) -> None:
    files = {name: make(tmp_path / name, kept) for name, kept in (("whole", 400), ("part", 190))}
    for path in files.values():
        check(path, suffix)
    for of, name in (("part", "whole"), ("whole", "part")):
        path = shutil.copytree(Path(files[name]).parent, tmp_path / f"{name} with {of}") / Path(files[name]).name
        shutil.copy(f"{files[of]}{suffix}", f"{path}{suffix}")
        with pytest.raises(InputError, match="is not that of .* as it is now"):
            check(str(path), suffix)
    path = files["whole"]
    content = Path(f"{path}{suffix}").read_bytes()
    for damaged in (b"", content[: len(content) // 2], content[:40]):
        Path(f"{path}{suffix}").write_bytes(damaged)
        with pytest.raises(InputError, match="make it again with"):
            check(path, suffix)


def test_a_file_without_records_has_an_empty_index(tmp_path: Path) -> None:
    path = vcf(tmp_path / "empty", 0)
    assert require_vcf_index(path, f"{path}.tbi") == 0
    whole, csi = vcf(tmp_path / "whole", 20), vcf(tmp_path / "csi", len(LINES), csi=True)
    assert require_vcf_index(whole, f"{whole}.tbi") == indexed_records(f"{whole}.tbi") == 20
    assert require_vcf_index(csi, f"{csi}.csi") == indexed_records(f"{csi}.csi") == len(LINES)
    assert indexed_records(f"{path}.tbi") == 0
    with pytest.raises(InputError, match="records that the index does not know"):
        require_vcf_index(whole, f"{path}.tbi")
