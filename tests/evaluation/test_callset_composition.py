"""What a callset is made of before and after FILTER, on records counted by hand."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from cnnspark.evaluation.callset_composition import composition, composition_summary, format_composition
from cnnspark.formats.vcf import Record

LINES = [
    "c1 5 . A G 9 PASS . GT 0/1",  # transition, heterozygous
    "c1 6 . C T 9 . . GT 1|1",  # transition, homozygous; no FILTER was set
    "c1 7 . A C 9 LOW . GT 0/1",  # transversion
    "c1 8 . A C,AT 9 PASS . GT 1/2",  # transversion and insertion, one record
    "c1 9 . ATT A 9 LOW . GT ./1",  # deletion; half a call is neither
    "c1 10 . AC GT 9 PASS . GT 1",  # MNV; a haploid call is neither
    "c1 11 . A <DEL>,* 9 PASS . GT 0/0",
    "c1 12 . AC GTT 9 PASS . DP 5",  # mixed, no genotype
    "c1 13 . A . 9 PASS . GT 0/0",
]


@pytest.fixture
def records() -> list[Record]:
    return [Record(line.replace(" ", "\t")) for line in LINES]


def test_alleles_and_genotypes_are_counted_before_and_after(records: list[Record]) -> None:
    summary = composition_summary(composition(records))
    assert summary["before"] == {
        "records": 9, "alleles": 10, "snv": 4, "mnv": 1, "insertion": 1, "deletion": 1, "mixed": 1, "other": 2,
        "transition": 2, "transversion": 2, "heterozygous": 3, "homozygous": 1,
        "indels": 3, "ti_tv": 1.0, "het_hom": 3.0, "insertion_deletion": 1.0,
    }  # fmt: skip
    after = summary["after"]
    assert (after["records"], after["snv"], after["deletion"], after["indels"]) == (7, 3, 0, 2)
    assert (after["ti_tv"], after["het_hom"], after["insertion_deletion"]) == (2.0, 2.0, None)
    text = format_composition(summary)
    assert [line.split() for line in text.splitlines() if line.startswith(("Ti/Tv", "insertions/"))] == [
        ["Ti/Tv", "1.000", "2.000"],
        ["insertions/deletions", "1.000", "-"],
    ]


def test_counts_of_parts_add_up_and_those_without_records_are_defined(records: list[Record]) -> None:
    parts = sum((composition(records[i : i + 2]) for i in range(0, 9, 2)), Counter())
    assert parts == composition(records)
    nothing = composition_summary(composition([]))
    assert nothing["before"]["records"] == 0 and nothing["after"]["ti_tv"] is None
    json.dumps(nothing, allow_nan=False)
    assert composition_summary(composition(records, sample=None))["before"]["het_hom"] is None
    everything_filtered = [
        Record(line.replace(" ", "\t").replace("PASS", "LOW")) for line in LINES if " . . " not in line
    ]
    assert composition_summary(composition(everything_filtered))["after"]["records"] == 0
