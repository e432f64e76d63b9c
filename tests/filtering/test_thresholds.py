"""FILTER from scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspark.common.log import set_quiet
from cnnspark.errors import UsageError
from cnnspark.execution.blocks import Block
from cnnspark.execution.shards import ShardRow
from cnnspark.filtering.record_filter import split_counts
from cnnspark.filtering.thresholds import (
    FilterSettings,
    allele_scores,
    card_threshold,
    passes,
    record_score,
    score_key_of,
)
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.variants.score_fields import GROUPS
from tests.conftest import write_vcf

SETTINGS = FilterSettings("CNN_2D", {"SNP": 1.0, "INDEL": -1.0}, "a test")
HEADER = VcfHeader(
    [
        "##fileformat=VCFv4.2",
        '##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="">',
        "##cnnspark_threshold=<ID=CNN_2D_SNP_precision_0.90,Key=CNN_2D,Group=SNP,Precision=0.90,Value=0.500>",
        "##cnnspark_threshold=<ID=CNN_2D_INDEL_precision_0.90,Key=CNN_2D,Group=INDEL,Precision=0.90,Value=-0.500>",
        "##cnnspark_threshold=<ID=CNN_2D_SNP_precision_0.99,Key=CNN_2D,Group=SNP,Precision=0.99,Value=3.000>",
        '##FILTER=<ID=q10,Description="">',
        "#CHROM\tPOS",
    ]
)


def thresholds_of(header: VcfHeader, wanted: float, kind: str = "precision") -> dict[str, float]:
    return {group: card_threshold(header, "CNN_2D", group, wanted, kind) for group in GROUPS}


@pytest.mark.parametrize(
    ("ref", "alt", "info", "passed"),
    [
        ("A", "C", "CNN_2D=1.000", True),  # at the threshold is not below it
        ("A", "C", "CNN_2D=0.999", False),
        ("A", "AT", "CNN_2D=0.000", True),
        ("A", "AT", "CNN_2D=-1.001", False),
        ("A", "C,AT", "CNN_2D=0.5;CNN_ALT_SCORES=-5.000,0.500", True),  # the indel reaches its own threshold
        ("A", "C,AT", "CNN_2D=0.5;CNN_ALT_SCORES=0.500,-5.000", False),  # the SNV does not
        ("A", "C,*", "CNN_2D=2;CNN_ALT_SCORES=2.000,.", True),
        ("A", "C", "DP=5", None),
        ("A", "C", "CNN_2D=.", None),
        ("A", "<DEL>", "CNN_2D=5", None),
        ("A", "C", "CNN_2D=nan", False),
    ],
)
def test_a_record_passes_where_an_allele_reaches_the_threshold_of_its_type(
    ref: str, alt: str, info: str, passed: bool | None
) -> None:
    assert passes(Record(f"c\t5\t.\t{ref}\t{alt}\t.\t.\t{info}"), SETTINGS) is passed


def test_thresholds_come_from_the_header_that_scoring_wrote() -> None:
    assert thresholds_of(HEADER, 0.9) == {"SNP": 0.5, "INDEL": -0.5}


def test_a_precision_that_the_card_does_not_have_names_those_it_has() -> None:
    with pytest.raises(UsageError, match="INDEL threshold for precision 0.99 .it has 0.9"):
        thresholds_of(HEADER, 0.99)
    with pytest.raises(UsageError, match="no thresholds"):
        card_threshold(HEADER, "CNN_1D", "SNP", 0.9)


def test_a_type_without_a_threshold_of_its_own_gets_that_of_all_alleles(capsys: pytest.CaptureFixture) -> None:
    set_quiet(False)  # another test's command may have been quiet
    line = "##cnnspark_threshold=<ID=CNN_2D_ALL_precision_0.99,Key=CNN_2D,Group=ALL,Precision=0.99,Value=2.500>"
    assert thresholds_of(HEADER.with_lines([line]), 0.99) == {"SNP": 3.0, "INDEL": 2.5}
    assert "no INDEL threshold for precision 0.99" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no INDEL threshold for precision 0.99"):
        card_threshold(HEADER.with_lines([line]), "CNN_2D", "INDEL", 0.99, strict=True)


def test_thresholds_by_sensitivity_stand_beside_those_by_precision() -> None:
    lines = [
        f"##cnnspark_threshold=<ID=CNN_2D_{g}_sensitivity_0.995,Key=CNN_2D,Group={g},Sensitivity=0.995,Value={v}>"
        for g, v in (("SNP", "-2.500"), ("INDEL", "-1.250"), ("ALL", "-3.000"))
    ]
    header = HEADER.with_lines(lines)
    assert thresholds_of(header, 0.995, "sensitivity") == {"SNP": -2.5, "INDEL": -1.25}
    assert thresholds_of(header, 0.9) == thresholds_of(HEADER, 0.9)
    with pytest.raises(UsageError, match="SNP threshold for sensitivity 0.9 .it has 0.995"):
        thresholds_of(header, 0.9, "sensitivity")
    with pytest.raises(UsageError, match="no thresholds by sensitivity"):
        thresholds_of(HEADER, 0.9, "sensitivity")


def test_the_score_is_found_in_the_header_or_named() -> None:
    assert score_key_of(HEADER, None) == "CNN_2D"
    with pytest.raises(UsageError, match="no INFO/VQSLOD"):
        score_key_of(HEADER, "VQSLOD")
    with pytest.raises(UsageError, match="cnnspark score"):
        score_key_of(VcfHeader(["##fileformat=VCFv4.2", "#CHROM\tPOS"]), None)


def test_the_filters_header_line_says_the_thresholds() -> None:
    header = SETTINGS.header(HEADER)
    assert '##FILTER=<ID=CNN_2D_LOW,Description="CNN_2D below SNP 1.000, INDEL -1.000 (a test)">' in header.lines
    assert "q10" in header.filters
    fresh = FilterSettings("CNN_2D", SETTINGS.thresholds, "a test", keep_filters=False).header(HEADER)
    assert list(fresh.filters) == ["CNN_2D_LOW"]


def test_the_same_filter_again_replaces_what_it_said_before() -> None:
    record = Record("c\t5\t.\tA\tC\t.\tq10;CNN_2D_LOW\tCNN_2D=2.000")
    record.set_filter(SETTINGS.id, not passes(record, SETTINGS))
    assert record.filter == "q10"


def test_dropping_the_old_filters_leaves_no_undeclared_one(tmp_path: Path) -> None:
    head = list(HEADER.lines[:-1])
    records = ["c1 5 . A C . q10 CNN_2D=2.000", "c1 6 . A C . q10 DP=5", "c1 7 . A C . q10 CNN_2D=-2.000"]
    settings = FilterSettings("CNN_2D", SETTINGS.thresholds, "a test", keep_filters=False)
    work = settings.work(write_vcf(tmp_path / "a.vcf.gz", records, head))
    lines, counts, _ = work(Block(0, Region("c1")))
    assert [line.split("\t")[6] for line in lines] == ["PASS", ".", "CNN_2D_LOW"]
    row = ShardRow(0, "c1", 0, 10, 3, 3, "", "", "", "", 0, 0, 0, "", 0.0, counts=dict(counts))
    (plain,), by_filter = split_counts([row])
    assert plain.counts == {"passed": 1, "not scored": 1, "filtered": 1}
    assert by_filter == {"SNP": {".": 1, "CNN_2D_LOW": 1, "PASS": 1}, "INDEL": {}, "OTHER": {}}


def test_a_type_without_a_threshold_passes() -> None:
    settings = FilterSettings("CNN_2D", {"SNP": 1.0, "INDEL": None}, "a test")
    assert passes(Record("c\t5\t.\tA\tAT\t.\t.\tCNN_2D=-9"), settings) is True
    assert passes(Record("c\t5\t.\tA\tAT,C\t.\t.\tCNN_2D=-9"), settings) is True  # its indel does
    assert passes(Record("c\t5\t.\tA\tC\t.\t.\tCNN_2D=-9"), settings) is False
    assert 'Description="CNN_2D below SNP 1.000 (a test)"' in settings.header(HEADER).text()


def test_other_keys_and_qual_are_scores_too() -> None:
    record = Record("c\t5\t.\tA\tC,AT\t30.5\t.\tVQSLOD=-1.25;AS_VQSLOD=2,7;CNN_2D=1;CNN_ALT_SCORES=1,.")
    assert allele_scores(record, "QUAL") == [("SNP", 30.5), ("INDEL", 30.5)]
    assert allele_scores(record, "VQSLOD") == [("SNP", -1.25), ("INDEL", -1.25)]
    assert allele_scores(record, "AS_VQSLOD") == [("SNP", 2.0), ("INDEL", 7.0)]
    assert allele_scores(record, "CNN_2D") == [("SNP", 1.0)]
    assert [record_score(record, key) for key in ("QUAL", "VQSLOD", "AS_VQSLOD", "CNN_1D")] == [30.5, -1.25, 7.0, None]
    assert score_key_of(HEADER, "QUAL") == "QUAL"
    odd = VcfHeader(['##INFO=<ID=A B,Number=1,Type=Float,Description="">', "#CHROM\tPOS"])
    with pytest.raises(UsageError, match="cannot be part of a FILTER"):
        score_key_of(odd, "A B")


@pytest.mark.parametrize("text", ["nan", ".", "", "high"])
def test_a_record_score_is_a_number_or_none(text: str) -> None:
    assert record_score(Record(f"c\t5\t.\tA\tC\t.\t.\tX={text}"), "X") is None
