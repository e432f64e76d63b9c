"""Annotation vectors: which value of a list belongs to an allele, and what counts as missing."""

from __future__ import annotations

import math

import numpy as np
import pysam
import pytest

from cnnspark.errors import UsageError
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfHeader, VcfSource
from cnnspark.variants.annotations import AnnotationReader, declared_as_text, default_annotations
from tests.conftest import DATA

needs_data = pytest.mark.skipif(not (DATA / "real").is_dir(), reason=f"no real callsets at {DATA} (CNNSPARK_DATA)")


def header(*lines: str, samples: str = "\tFORMAT\tfirst\tsecond") -> VcfHeader:
    return VcfHeader(
        [
            "##fileformat=VCFv4.2",
            *lines,
            f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO{samples}",
        ]
    )


def info(name: str, number: str, kind: str = "Float") -> str:
    return f'##INFO=<ID={name},Number={number},Type={kind},Description="x">'


def fmt(name: str, number: str, kind: str = "Integer") -> str:
    return f'##FORMAT=<ID={name},Number={number},Type={kind},Description="x">'


HEADER = header(
    info("ONE", "1"),
    info("A", "A"),
    info("R", "R", "Integer"),
    info("G", "G"),
    info("TWO", "2"),
    info("DOT", "."),
    info("FLAG", "0", "Flag"),
    info("TEXT", "1", "String"),
    info("DP", "1", "Integer"),
    fmt("DP", "1"),
    fmt("AD", "R"),
    fmt("GT", "1", "String"),
)


def values(names: list[str], info_text: str, alt_index: int, sample: int = 0, qual: str = "7.5") -> list[float]:
    line = f"c\t10\t.\tA\tC,G,T\t{qual}\t.\t{info_text}\tGT:DP:AD\t0/1:31:20,11,0,3\t1/2:44:.,5,6"
    array = AnnotationReader(HEADER, names).values(Record(line), alt_index, sample)
    assert array.dtype == np.float32
    assert array.shape == (len(names),)
    return array.tolist()


@pytest.mark.parametrize(
    ("name", "text", "expected"),  # for ALT 1, 2, 3
    [
        ("QUAL", ".", [7.5, 7.5, 7.5]),
        ("ONE", "ONE=4.5", [4.5, 4.5, 4.5]),
        ("INFO/A", "A=1,2,3", [1, 2, 3]),
        ("INFO/R", "R=9,1,2,3", [1, 2, 3]),
        # genotypes 0/0 0/1 1/1 0/2 1/2 2/2 0/3 1/3 2/3 3/3: those of REF and one ALT are numbers 1, 3, 6
        ("INFO/G", "G=0,1,2,3,4,5,6,7,8,9", [1, 3, 6]),
        ("TWO", "TWO=5,6", [5, 5, 5]),
        ("DOT", "DOT=8", [8, 8, 8]),
        ("FLAG", "A=1;FLAG", [1, 1, 1]),
        ("FLAG", "A=1", [0, 0, 0]),
        ("DP", "DP=100", [100, 100, 100]),
        ("INFO/DP", "DP=100", [100, 100, 100]),
        ("FORMAT/DP", "DP=100", [31, 31, 31]),
        ("FORMAT/AD", ".", [11, 0, 3]),
        ("A", "A=1e-3,-2,1E5", [np.float32(0.001), -2, 1e5]),
    ],
)
def test_each_allele_gets_its_own_value(name, text, expected):
    assert [values([name], text, alt)[0] for alt in (1, 2, 3)] == expected


@pytest.mark.parametrize(
    ("name", "text", "alt"),
    [
        ("ONE", ".", 1),
        ("ONE", "ONE=.", 1),
        ("ONE", "ONE=", 1),
        ("ONE", "ONE", 1),
        ("ONE", "ONE=nan", 1),
        ("ONE", "ONE=inf", 1),
        ("ONE", "ONE=-Infinity", 1),
        ("ONE", "ONE=1e300", 1),
        ("ONE", "ONE=abc", 1),
        ("A", "A=1,2", 3),
        ("A", "A=.,2,3", 1),
        ("R", "R=1,2", 2),
        ("G", "G=1,2,3", 2),
        ("NOT_DECLARED", "NOT_DECLARED=3", 1),
        ("FORMAT/NOT_DECLARED", ".", 1),
    ],
)
def test_a_missing_value_or_a_text_is_nan(name, text, alt):
    assert math.isnan(values([name], text, alt)[0])


def test_a_missing_qual_is_nan_and_the_other_values_stay():
    got = values(["QUAL", "DP", "ONE"], "ONE=2;DP=3", 1, qual=".")
    assert math.isnan(got[0])
    assert got[1:] == [3, 2]


def test_the_sample_chooses_the_column():
    reader = AnnotationReader(HEADER, ["FORMAT/DP"])
    assert [reader.sample_index(name) for name in ("first", "second", "unknown")] == [0, 1, 0]
    assert values(["FORMAT/DP", "FORMAT/AD"], ".", 2, sample=1) == [44, 6]
    assert math.isnan(values(["FORMAT/AD"], ".", 3, sample=1)[0])


def test_a_callset_without_samples_has_no_format_values():
    reader = AnnotationReader(header(fmt("DP", "1"), samples=""), ["FORMAT/DP"])
    assert np.isnan(reader.values(Record("c\t10\t.\tA\tC\t.\t.\t."), 1)).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["TEXT"], "declared as String"),
        (["FORMAT/GT"], "declared as String"),
        (["FILTER/PASS"], "not an annotation"),
        (["ONE", "ONE"], "named twice"),
    ],
)
def test_names_that_cannot_be_numbers_are_refused(names, message):
    with pytest.raises(UsageError, match=message):
        AnnotationReader(HEADER, names)


def test_a_models_annotation_that_is_declared_as_text_is_missing():
    names = ["ONE", "TEXT", "FORMAT/GT", "NONE", "FORMAT/DP"]
    reader = AnnotationReader(HEADER, names, text_is_missing=True)
    assert reader.without_field == ("TEXT", "FORMAT/GT", "NONE")
    assert [declared_as_text(HEADER, name) for name in (*names, "FLAG", "QUAL")] == ["", "String", "String"] + [""] * 4
    line = Record("c\t10\t.\tA\tC\t.\t.\tONE=3;TEXT=4\tGT:DP\t0/1:31")
    assert reader.values(line, 1) == pytest.approx([3, math.nan, math.nan, math.nan, 31], nan_ok=True)
    # In a callset of several samples the sample's own field may still be a number.
    several = header(info("DP", "1", "String"), fmt("DP", "1"))
    of_sample = AnnotationReader(several, ["INFO/DP"], of_one_sample=True, text_is_missing=True)
    assert of_sample.values(Record("c\t10\t.\tA\tC\t.\t.\tDP=4\tGT:DP\t0/1:31"), 1) == [31]


def test_default_annotations_are_the_known_ones_that_the_header_declares():
    declared = header(
        info("QD", "1"), info("MQ", "1", "String"), info("AC", "A", "Integer"), fmt("GQ", "1"), fmt("GT", "1")
    )
    assert default_annotations(declared) == ("QUAL", "INFO/QD", "FORMAT/GQ")


@needs_data
@pytest.mark.parametrize(
    "path",
    [
        "real/HG002/HG002.gatk-style.vcf.gz",
        "real/NA12878/NA12878.freebayes.vcf.gz",
        "real/NA12878/NA12878.bcftools.vcf.gz",
    ],
)
def test_real_callsets_give_what_pysam_reads(path):
    with VcfSource(str(DATA / path)) as source:
        names = default_annotations(source.header)
        reader = AnnotationReader(source.header, names)
        records = list(source.records(Region(source.contigs[0])))
    assert len(names) > 10
    finite = 0
    with pysam.VariantFile(str(DATA / path)) as file:
        for record, theirs in zip(records, file, strict=True):
            for alt_index in range(1, len(record.alts) + 1):
                got = reader.values(record, alt_index)
                for name, value in zip(names, got, strict=True):
                    column, _, key = name.rpartition("/")
                    values = theirs.samples[0] if column == "FORMAT" else theirs.info
                    if name == "QUAL":
                        expected = theirs.qual
                    else:
                        expected = values.get(key)
                        number = (file.header.formats if column == "FORMAT" else file.header.info)[key].number
                        if isinstance(expected, tuple):
                            at = {"A": alt_index - 1, "R": alt_index}.get(number, 0)
                            expected = expected[at] if at < len(expected) else None
                    if expected is None:
                        assert np.isnan(value), (record.line(), name)
                    else:
                        finite += 1
                        assert value == np.float32(expected), (record.line(), name)
    assert finite > 5 * len(records)
