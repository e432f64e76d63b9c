"""The strata of alleles: hand-made records, one for each rule."""

from __future__ import annotations

from pathlib import Path

import pysam
import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.evaluation import strata
from cnnspark.evaluation.strata import (
    IN_NONE,
    RegionFile,
    StratumReader,
    check_region_files,
    dimensions,
    length_code,
    parse_region_files,
)
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.variants.allele_depth import SampleCounts

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
ONE = VcfHeader([f"{COLUMNS}\tFORMAT\tS1"])
TWO = VcfHeader([f"{COLUMNS}\tFORMAT\tS1\tS2"])
NONE = VcfHeader([COLUMNS])
#          1         11        21        31        41
GENOME = "ACGTACGATC" + "A" * 12 + "GCTAGCATGA" + "CA" * 15 + "GATTCGGACTAC" * 8


def record(text: str) -> Record:
    return Record(text.replace(" ", "\t"))


@pytest.fixture
def reference(tmp_path: Path) -> ReferenceSource:
    (tmp_path / "r.fa").write_text(f">c1\n{GENOME}\n")
    pysam.faidx(str(tmp_path / "r.fa"))
    return ReferenceSource(str(tmp_path / "r.fa"))


def names(reader: StratumReader, of: Record, alt: int = 1) -> dict[str, str | None]:
    codes = reader.codes(of, alt)
    assert list(codes) == [dimension.name for dimension in reader.dimensions]
    return {d.name: None if codes[d.name] == IN_NONE else d.strata[codes[d.name]] for d in reader.dimensions}


@pytest.mark.parametrize(
    ("gained", "name"),
    [
        (0, None), (1, "insertion 1"), (2, "insertion 2-5"), (5, "insertion 2-5"), (6, "insertion 6-15"),
        (15, "insertion 6-15"), (16, "insertion 16-50"), (50, "insertion 16-50"), (51, "insertion 51+"),
        (-1, "deletion 1"), (-5, "deletion 2-5"), (-6, "deletion 6-15"), (-16, "deletion 16-50"),
        (-900, "deletion 51+"),
    ],
)  # fmt: skip
def test_indels_are_binned_by_sign_and_length(gained: int, name: str | None) -> None:
    code = length_code(gained)
    assert (None if code == IN_NONE else strata.INDEL_LENGTH.strata[code]) == name


@pytest.mark.parametrize(
    ("ref", "alt", "kind", "length"),
    [
        ("A", "G", "transition", None), ("T", "C", "transition", None), ("A", "C", "transversion", None),
        ("g", "t", "transversion", None), ("AC", "GT", None, None), ("A", "AT", None, "insertion 1"),
        ("TAA", "GAA", "transversion", None), ("CAAA", "CA", None, "deletion 2-5"),
        ("AC", "GTTT", None, "insertion 2-5"), ("A", "N", None, None),
    ],
)  # fmt: skip
def test_kinds_are_those_of_the_trimmed_allele(ref: str, alt: str, kind: str | None, length: str | None) -> None:
    found = names(StratumReader(NONE, None, sample=None), record(f"c1 5 . {ref} {alt} 9 . ."))
    assert (found["substitution"], found["indel length"]) == (kind, length)
    assert found["depth"] is None and found["allele fraction"] is None


@pytest.mark.parametrize(
    ("header", "sample", "text", "alt", "depth", "fraction"),
    [
        (ONE, 0, "c1 5 . A C,G 9 . DP=99 GT:AD:DP 1/2:2,6,12:25", 2, 25.0, 0.6),  # GATK, bcftools
        (ONE, 0, "c1 5 . A C,G 9 . . GT:RO:AO 1/2:5,.:3,2", 1, None, None),  # one number is missing
        (ONE, 0, "c1 5 . A C,G 9 . . GT:RO:AO 1/2:5:3,2", 1, 10.0, 0.3),  # freebayes
        (ONE, 0, "c1 5 . A C 9 . DP=8;RO=2;AO=6 GT 0/1", 1, 8.0, 0.75),  # freebayes' INFO
        (ONE, 0, "c1 5 . A C 9 . DP=8 GT:AD 0/1:0,0", 1, 8.0, None),  # no read: no share
        (ONE, 0, "c1 5 . A C 9 . DP=8 GT:AD 0/1:.", 1, 8.0, None),
        (ONE, 0, "c1 5 . A C 9 . DP=nan GT:AD 0/1:x,y", 1, None, None),
        (ONE, 0, "c1 5 . A C,G 9 . . GT:AD 0/1:5,5", 2, 10.0, None),  # a list that is too short
        (NONE, None, "c1 5 . A C 9 . DP=8;AD=6,2", 1, 8.0, 0.25),
        (TWO, 1, "c1 5 . A C 9 . DP=80;RO=40;AO=40 GT:AD 0/1:5,5 1/1:1,9", 1, 10.0, 0.9),
        (TWO, 1, "c1 5 . A C 9 . DP=80;RO=40;AO=40 GT 0/1 1/1", 1, None, None),  # INFO is of both samples
        (TWO, None, "c1 5 . A C 9 . DP=80 GT:AD 0/1:5,5 1/1:1,9", 1, None, None),
    ],
)  # fmt: skip
def test_depth_and_fraction_come_from_what_the_caller_wrote(
    header: VcfHeader, sample: int | None, text: str, alt: int, depth: float | None, fraction: float | None
) -> None:
    found = SampleCounts(header, sample).of(record(text), alt)
    assert found == pytest.approx([float("nan") if v is None else v for v in (depth, fraction)], nan_ok=True)


def test_bins_of_depth_and_fraction_begin_at_their_bounds() -> None:
    reader = StratumReader(ONE, None)
    for counts, depth, fraction in (
        ("10,0", "10-19", "under .10"), ("9,1", "10-19", ".10-.20"), ("8,2", "10-19", ".20-.35"),
        ("5,4", "0-9", ".35-.65"), ("35,65", "100+", ".65-.90"), ("1,9", "10-19", ".90 and over"),
        ("0,99", "50-99", ".90 and over"),
    ):  # fmt: skip
        found = names(reader, record(f"c1 5 . A C 9 . . GT:AD 0/1:{counts}"))
        assert (found["depth"], found["allele fraction"]) == (depth, fraction), counts


def test_repeats_are_those_of_the_reference(reference: ReferenceSource) -> None:
    reader = StratumReader(ONE, reference)

    def repeats(pos: int, ref: str, alt: str) -> tuple[str | None, str | None]:
        found = names(reader, record(f"c1 {pos} . {ref} {alt} 9 . ."))
        return found["homopolymer"], found["low complexity"]

    assert repeats(3, "G", "T") == ("under 4", "no")
    assert repeats(10, "C", "CA") == ("12-20", "yes")  # the anchor stands before the run, the insertion touches it
    assert repeats(15, "A", "G") == ("12-20", "yes")
    assert repeats(27, "C", "T") == ("under 4", "no")
    assert repeats(40, "A", "C") == ("under 4", "yes")  # within (CA)15
    assert repeats(5_000, "A", "C") == (None, None)  # beyond the contig's end
    assert StratumReader(ONE, None).dimensions == dimensions(False)
    other = record("c9 5 . A C 9 . .")
    assert names(reader, other)["homopolymer"] is None


def test_an_allele_is_inside_regions_with_all_bases_that_it_changes(tmp_path: Path) -> None:
    bed = tmp_path / "exome.bed"
    bed.write_text("c1\t10\t20\nc1\t30\t31\nc2\t0\t5\n")
    files = [RegionFile("exome", str(bed))]
    reader = StratumReader(ONE, None, files)
    for pos, ref, alt, inside in (
        (11, "A", "C", True), (20, "A", "C", True), (21, "A", "C", False), (10, "A", "C", False),
        (10, "AC", "A", True),  # the deleted base is the eleventh
        (19, "ACC", "A", False),  # its second deleted base lies outside
        (10, "A", "AC", True),  # an insertion lies before the eleventh base
        (20, "A", "AC", False), (31, "T", "G", True),
    ):  # fmt: skip
        found = names(reader, record(f"c1 {pos} . {ref} {alt} 9 . ."))
        assert found["region exome"] == ("inside" if inside else "outside"), (pos, ref, alt)
    assert names(reader, record("c3 3 . A C 9 . ."))["region exome"] == "outside"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["exome.bed"], "is not name=bed"),
        (["=exome.bed"], "is not name=bed"),
        (["a="], "is not name=bed"),
        (["../x=exome.bed"], "is not name=bed"),
        (["a=x.bed", "a=y.bed"], "names 'a' twice"),
    ],
)
def test_region_files_that_are_not_named_are_refused(texts: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_region_files(texts)
    assert parse_region_files(["a.b-1=x=y.bed"]) == [RegionFile("a.b-1", "x=y.bed")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no interval"),
        ("# nothing\n", "has no interval"),
        ("c1\t5\t5\n", "has no interval"),
        ("1\t5\t9\n", r"no contig in common \('1' against 'chr1'\); did you mean 'chr1'"),
        ("x\t5\t9\n", "no contig in common"),
        ("c1\tfive\t9\n", "line 1 is not BED"),
    ],
)
def test_region_files_that_do_not_fit_are_named(tmp_path: Path, text: str, said: str) -> None:
    bed = tmp_path / "x.bed"
    bed.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        check_region_files([RegionFile("x", str(bed))], ["chr1", "chr2"], "calls.vcf.gz")
    assert "\n" not in str(caught.value) and str(bed) in str(caught.value)
    bed.unlink()
    with pytest.raises(InputError, match="x.bed cannot be read"):
        check_region_files([RegionFile("x", str(bed))], ["chr1"], "calls.vcf.gz")


def test_a_region_file_that_changes_is_read_again(tmp_path: Path) -> None:
    bed = tmp_path / "x.bed"
    for text, inside in (("c1\t0\t9\n", 1), ("c1\t10\t900\n", 0)):
        bed.write_text(text)
        reader = StratumReader(ONE, None, [RegionFile("x", str(bed))])
        assert reader.codes(record("c1 5 . A C 9 . ."), 1)["region x"] == inside
