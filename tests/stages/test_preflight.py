"""Inputs against each other, before any work."""

from __future__ import annotations

from pathlib import Path

import pysam
import pytest

from cnnspark.errors import InputError
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfSource
from cnnspark.stages.preflight import check_inputs, choose_sample, versions
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.alleles import ref_agrees
from tests.conftest import write_vcf

SEQUENCE = "ACGTACGTAC" * 20


def reference_at(folder: Path, name: str = "c1", length: int = 200) -> ReferenceSource:
    path = folder / f"{name}-{length}.fa"
    path.write_text(f">{name}\n{SEQUENCE[:length]}\n")
    pysam.faidx(str(path))
    return ReferenceSource(str(path))


def reads_at(
    folder: Path, samples: tuple[str, ...] = ("S1",), contig: str = "c1", length: int = 200, mapped: bool = True
) -> ReadSource:
    path = str(folder / "reads.bam")
    groups = [{"ID": f"g{i}", "SM": name} for i, name in enumerate(samples)]
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": contig, "LN": length}], "RG": groups}
    with pysam.AlignmentFile(path, "wb", header=header) as out:
        if mapped:
            read = pysam.AlignedSegment(out.header)
            read.query_name, read.query_sequence, read.flag = "r", SEQUENCE[:50], 0
            read.reference_id, read.reference_start, read.mapping_quality = 0, 0, 60
            read.cigartuples = [(0, 50)]
            out.write(read)
    pysam.index(path)
    return ReadSource(path)


def callset_at(folder: Path, records: list[str], contig: str = "c1", length: int = 200) -> VcfSource:
    head = ["##fileformat=VCFv4.2", f"##contig=<ID={contig},length={length}>"]
    return VcfSource(write_vcf(folder / "a.vcf.gz", [f"{r} GT 0/1" for r in records], head))


GOOD = ["c1 5 . A C . . .", "c1 6 . C <DEL> . . ."]


def test_inputs_that_fit_have_no_warnings(tmp_path: Path) -> None:
    found = check_inputs(callset_at(tmp_path, GOOD), reads_at(tmp_path), reference_at(tmp_path))
    assert (found.sample, found.warnings) == ("S1", [])
    assert found.contig_lengths == {"c1": 200}


@pytest.mark.parametrize(
    ("records", "contig", "said"),
    [
        (["chr1 5 . A C . . ."], "1", "only the 'chr' prefix differs"),
        (["1 5 . A C . . ."], "chr1", "only the 'chr' prefix differs"),
        (["c9 5 . A C . . ."], "c1", "no contig in common"),
        (["c1 5 . A C . . .", "c9 5 . A C . . ."], "c1", "1 contigs that .* lacks"),
    ],
)
def test_contigs_that_do_not_fit_are_named(tmp_path: Path, records: list[str], contig: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_inputs(callset_at(tmp_path, records, contig), None, reference_at(tmp_path, contig))


def test_a_region_excuses_contigs_that_it_leaves_out(tmp_path: Path) -> None:
    vcf = callset_at(tmp_path, ["c1 5 . A C . . .", "c9 5 . A C . . ."])
    assert check_inputs(vcf, None, reference_at(tmp_path), [Region("c1")]).warnings == []


def test_lengths_that_differ_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="200 bases long .* 190"):
        check_inputs(callset_at(tmp_path, GOOD), None, reference_at(tmp_path, length=190))
    with pytest.raises(InputError, match="150 bases long"):
        check_inputs(callset_at(tmp_path, GOOD), reads_at(tmp_path, length=150), reference_at(tmp_path))


def test_a_ref_that_is_not_the_references_is_an_error_or_a_warning(tmp_path: Path) -> None:
    vcf = callset_at(tmp_path, ["c1 5 . T C . . ."])
    with pytest.raises(InputError, match="REF of c1:5 is T .* but A .* --on-ref-mismatch skip"):
        check_inputs(vcf, None, reference_at(tmp_path))
    found = check_inputs(vcf, None, reference_at(tmp_path), settings=TensorSettings(on_ref_mismatch="skip"))
    assert "1 of 1 records" in found.warnings[0]


@pytest.mark.parametrize(
    ("ref", "letters", "agrees"),
    [
        ("ac", "AC", True),
        ("AC", "AG", False),
        ("AN", "AC", True),
        ("AC", "AR", True),
        ("N", " ", True),
        ("A", " ", False),
        ("AC", "A", False),
    ],
)
def test_ambiguous_letters_agree_with_any_base(ref: str, letters: str, agrees: bool) -> None:
    assert ref_agrees(ref, letters) is agrees


def test_letters_off_the_contig_are_blanks(tmp_path: Path) -> None:
    reference = reference_at(tmp_path, length=10)
    assert reference.letters("c1", -2, 3) == "  ACG"
    assert reference.letters("c1", 8, 13) == "AC   "
    assert reference.letters("c1", -5, -2) == "   "


def test_a_gvcf_is_said_to_be_one(tmp_path: Path) -> None:
    vcf = callset_at(tmp_path, ["c1 5 . A <NON_REF> . . END=9", "c1 10 . C T,<NON_REF> . . ."])
    assert "gVCF" in check_inputs(vcf, None, reference_at(tmp_path)).warnings[0]


def test_a_callset_with_nothing_to_score_is_warned_of(tmp_path: Path) -> None:
    found = check_inputs(callset_at(tmp_path, ["c1 5 . A <DEL> . . ."]), None, reference_at(tmp_path))
    assert "can be scored" in found.warnings[0]


def test_reads_without_a_mapped_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mapped reads"):
        check_inputs(callset_at(tmp_path, GOOD), reads_at(tmp_path, mapped=False), reference_at(tmp_path))


def test_the_sample_is_the_reads_own(tmp_path: Path) -> None:
    vcf, warnings = callset_at(tmp_path, GOOD), []  # type: ignore[var-annotated]
    assert choose_sample(vcf, reads_at(tmp_path), None, warnings) == "S1"
    with pytest.raises(InputError, match="holds reads of 'other' but"):
        choose_sample(vcf, reads_at(tmp_path, ("other",)), None, warnings)
    with pytest.raises(InputError, match="2 samples"):
        choose_sample(vcf, reads_at(tmp_path, ("a", "b")), None, warnings)
    with pytest.raises(InputError, match="no sample 'x'"):
        choose_sample(vcf, reads_at(tmp_path), "x", warnings)
    assert warnings == []
    assert choose_sample(vcf, reads_at(tmp_path, ("other",)), "S1", warnings) == "S1"
    assert choose_sample(vcf, reads_at(tmp_path, ()), None, warnings) == "S1"
    assert len(warnings) == 2


def test_versions_name_what_must_agree() -> None:
    found = versions()
    assert found["pyarrow"] == "14.0.2" and found["petastorm"] == "0.13.1"
