"""Members of a callset: who carries an allele, its annotations in each sample, and what is written in the columns."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfHeader, VcfSource, set_sample_values
from cnnspark.scoring import multisample
from cnnspark.variants.annotations import OF_THE_SAMPLE, AnnotationReader, default_annotations
from cnnspark.variants.carriers import (
    MemberAnnotations,
    MemberRecord,
    call_text,
    carried_alts,
    choose_carriers,
)
from tests.scoring.test_score import CARD
from tests.variants.test_annotations import fmt, header, info


def record(calls: str, alts: str = "C,G", ref: str = "A", keys: str = "GT:AD:DP", index: int = 0) -> Record:
    columns = "\t".join(calls.split())
    return Record(f"c\t10\t.\t{ref}\t{alts}\t50\t.\tDP=100;LEN=1,2\t{keys}\t{columns}", index)


@pytest.mark.parametrize(
    ("genotype", "expected"),
    [
        ("0/1", (1,)),
        ("2|1", (1, 2)),
        ("1", (1,)),
        ("./2", (2,)),
        ("|1/0", (1,)),  # VCF 4.5's phase before the first allele
        ("0/0/0/2", (2,)),
        ("0/0", ()),
        ("./.", ()),
        (".", ()),
        ("", ()),
        ("0/3", ()),  # there is no third ALT
        ("0/12", ()),
    ],
)
def test_carriers_are_those_whose_genotype_has_the_number(genotype: str, expected: tuple[int, ...]) -> None:
    assert carried_alts(record(f"0/0:1,1,1:3 {genotype}:1,1,1:3"), (1,)) == [expected]


def test_without_genotypes_nobody_carries() -> None:
    assert carried_alts(record("3 4", keys="DP"), (0, 1)) == [(), ()]
    assert carried_alts(Record("c\t10\t.\tA\tC\t.\t.\t."), (0,)) == [()]
    assert carried_alts(record("0/1"), (0, 5)) == [(1,), ()]  # a column that is not there
    assert carried_alts(record("3:0/1 4:0/2", keys="DP:GT"), (1, 0)) == [(2,), (1,)]


def test_the_chosen_carriers_do_not_depend_on_the_order_or_the_others() -> None:
    names = [f"S{i}" for i in range(200)]
    chosen = choose_carriers(names, 20, 0, "c", 9, "A", "C")
    assert len(chosen) == 20
    for seed in range(5):
        shuffled = names[:]
        random.Random(seed).shuffle(shuffled)
        assert choose_carriers(shuffled, 20, 0, "c", 9, "A", "C") == chosen
    assert chosen == choose_carriers([*chosen, "S1", "S7"], 20, 0, "c", 9, "A", "C") | chosen
    # the smaller choice is part of the larger, and another allele, position or seed has another one
    assert choose_carriers(names, 5, 0, "c", 9, "A", "C") < chosen
    others = [(0, "c", 9, "A", "G"), (0, "c", 10, "A", "C"), (1, "c", 9, "A", "C"), (0, "d", 9, "A", "C")]
    assert all(choose_carriers(names, 20, *other) != chosen for other in others)
    assert choose_carriers(names, 200, 0, "c", 9, "A", "C") == set(names)


def test_each_carrier_is_chosen_about_as_often() -> None:
    names = [f"S{i}" for i in range(50)]
    counts = dict.fromkeys(names, 0)
    for start in range(2000):
        for name in choose_carriers(names, 10, 0, "c", start, "A", "C"):
            counts[name] += 1
    # binomial(2000, 1/5): 400, standard deviation 18
    assert min(counts.values()) > 320 and max(counts.values()) < 480


@pytest.mark.parametrize(
    ("ref", "alts", "numbers", "expected"),
    [
        ("A", "C,G", (2,), ("A", ("G",))),
        ("ATT", "A,AT", (1,), ("ATT", ("A",))),
        ("ATT", "A,AT", (2,), ("AT", ("A",))),
        ("ATT", "A,AT", (1, 2), ("ATT", ("A", "AT"))),
        ("ATT", "CTT,A", (1,), ("A", ("C",))),
        ("att", "CTT,A", (1,), ("a", ("C",))),
        ("ATT", "ATTTT,A", (1,), ("A", ("ATT",))),
        ("ATT", "*,AT", (1, 2), ("AT", ("*", "A"))),
        ("AT", "*,A", (1,), ("AT", ("*",))),
        ("A", "<DEL>,C", (1, 2), ("A", ("<DEL>", "C"))),
    ],
)
def test_a_member_sees_the_record_that_its_own_callset_would_have(
    ref: str, alts: str, numbers: tuple[int, ...], expected: tuple[str, tuple[str, ...]]
) -> None:
    """By hand, as 'bcftools view --samples S --trim-alt-alleles' and 'bcftools norm' would leave it."""
    seen = MemberRecord(record("0/0 0/1", alts, ref, index=7), numbers)
    assert (seen.ref, seen.alts) == expected
    assert (seen.contig, seen.start, seen.index, seen.end) == ("c", 9, 7, 9 + len(expected[0]))


def edited(calls: str, keys: str, values: dict[int, str]) -> str:
    line = record(calls, keys=keys)
    set_sample_values(line, "CNN", values)
    return (line.rest or "").replace("\t", " ")


def test_a_value_is_added_to_the_samples_that_have_one_alone() -> None:
    assert edited("0/1:3 0/0:4", "GT:DP", {0: "1.5,."}) == "GT:DP:CNN 0/1:3:1.5,. 0/0:4"
    # this column ended early: the fields before the value are missing
    assert edited("0/1 0/0:4:5", "GT:DP:GQ", {0: "2"}) == "GT:DP:GQ:CNN 0/1:.:.:2 0/0:4:5"
    assert edited("0/1 0/0", "GT", {}) == "GT 0/1 0/0"


def test_the_values_of_an_earlier_run_are_replaced_or_removed() -> None:
    assert edited("0/1:9 0/0:8", "GT:CNN", {0: "1"}) == "GT:CNN 0/1:1 0/0"
    assert edited("0/1:9:3 0/0", "GT:CNN:DP", {0: "1"}) == "GT:DP:CNN 0/1:3:1 0/0"
    assert edited("0/1:9:3 0/0:.:4", "GT:CNN:DP", {}) == "GT:DP 0/1:3 0/0:4"
    once = edited("0/1:3 0/0:4", "GT:DP", {0: "1"})
    assert edited(once.partition(" ")[2], "GT:DP:CNN", {0: "1"}) == once


COHORT = header(
    *(info(name, "1", "Integer") for name in ("DP", "RO", "QR", "MQ")),
    *(info(name, "A") for name in ("AO", "QA", "AB", "SAF", "LEN", "RUN")),
    *(info("QD", "1"), info("DB", "0", "Flag"), info("ADF", "R", "Integer"), info("NOTE", "1", "String")),
    *(fmt(name, "1") for name in ("DP", "GQ", "RO", "QR")),
    *(fmt(name, "A") for name in ("AO", "QA")),
    *(fmt("AD", "R"), fmt("GT", "1", "String"), fmt("NOTE", "1", "String")),
)
LINE = Record(
    "c\t10\t.\tA\tC,G\t99\t.\tDP=900;RO=500;QR=1;MQ=60;AO=7,8;QA=1,2;AB=.5,.6;SAF=1,2;LEN=1,2;RUN=3,4;QD=2;DB;ADF=1,2,3"
    "\tGT:DP:GQ:AD:RO:AO:QR:QA\t0/2:30:50:20,1,9:20:1,9:700:30,300\t1/1:8:7:0,8,0:0:8,0:0:250,0"
)


@pytest.mark.parametrize(
    ("name", "expected"),  # first sample: ALT 1 and 2, second sample: ALT 1 and 2
    [
        ("INFO/DP", [30, 30, 8, 8]),
        ("DP", [30, 30, 8, 8]),
        ("FORMAT/DP", [30, 30, 8, 8]),
        ("FORMAT/GQ", [50, 50, 7, 7]),
        ("FORMAT/AD", [1, 9, 8, 0]),
        ("INFO/AO", [1, 9, 8, 0]),
        ("INFO/RO", [20, 20, 0, 0]),
        ("INFO/QA", [30, 300, 250, 0]),
        ("INFO/QR", [700, 700, 0, 0]),
        ("INFO/AB", [1 / 30, 9 / 30, 0, 0]),
        ("INFO/LEN", [1, 2, 1, 2]),
        ("INFO/RUN", [3, 4, 3, 4]),
        # of all samples, and no FORMAT field has that meaning
        *((name, [None] * 4) for name in ("QUAL", "INFO/MQ", "INFO/SAF", "INFO/QD", "INFO/DB", "INFO/ADF", "INFO/XX")),
    ],
)
def test_annotations_of_one_sample_replace_those_of_all_samples(name: str, expected: list[float | None]) -> None:
    reader = AnnotationReader(COHORT, [name], of_one_sample=True)
    got = [float(reader.values(LINE, alt, sample)[0]) for sample in (0, 1) for alt in (1, 2)]
    wanted = [math.nan if value is None else float(np.float32(value)) for value in expected]
    assert got == pytest.approx(wanted, nan_ok=True)
    # the same through the record as the sample's own callset would have it
    numbers = carried_alts(LINE, (0,))[0]
    own = MemberAnnotations(COHORT, [name], of_one_sample=True)
    seen = own.values(MemberRecord(LINE, numbers, call_text(LINE, 0)), 1)
    assert float(seen[0]) == pytest.approx(wanted[1], nan_ok=True)


def test_counts_come_from_ad_where_a_caller_has_nothing_else() -> None:
    few = header(fmt("DP", "1"), fmt("AD", "R"), fmt("GT", "1", "String"))
    reader = AnnotationReader(few, ["INFO/AO", "INFO/RO", "INFO/AB"], of_one_sample=True)
    line = Record("c\t10\t.\tA\tC,G\t.\t.\t.\tGT:DP:AD\t0/2:30:20,1,9\t./2:30:20,1,9")
    assert reader.values(line, 2, 0) == pytest.approx([9, 20, 0.3])
    assert reader.values(line, 2, 1) == pytest.approx([9, 20, math.nan], nan_ok=True)  # half a genotype
    assert np.isnan(AnnotationReader(header(), ["INFO/AO", "INFO/AB", "DP"], True).values(line, 1)).all()


def test_the_rule_names_the_fields_that_vcf_and_freebayes_have_in_both_columns() -> None:
    assert set(OF_THE_SAMPLE) == {"DP", "AD", "ADF", "ADR", "MQ", "AO", "RO", "QA", "QR"}
    names = default_annotations(COHORT, of_one_sample=True)
    assert "QUAL" not in names and "INFO/QD" not in names and "INFO/MQ" not in names
    assert {"INFO/DP", "INFO/AB", "INFO/LEN", "FORMAT/GQ", "FORMAT/AD"} <= set(names)
    with pytest.raises(UsageError, match="declared as String"):
        AnnotationReader(COHORT, ["INFO/NOTE"], of_one_sample=True)


@pytest.mark.real
@pytest.mark.parametrize("path", ["sim/DEV.freebayes.vcf.gz", "real/NA12878/NA12878.freebayes.vcf.gz"])
def test_in_callsets_of_one_sample_both_ways_agree(data: Path, path: str) -> None:
    """Oracle: freebayes' own INFO of one sample, for what is read from FORMAT."""
    names = [f"INFO/{name}" for name in ("DP", "AO", "RO", "QA", "QR", "AB", "LEN", "RUN")]
    with VcfSource(str(data / path)) as source:
        plain, of_sample = AnnotationReader(source.header, names), AnnotationReader(source.header, names, True)
        compared = 0
        for line in list(source.records(Region(source.contigs[0])))[:2000]:
            for number in range(1, len(line.alts) + 1):
                assert plain.values(line, number) == pytest.approx(of_sample.values(line, number), abs=2e-6)
                compared += 1
    assert compared > 400


def test_info_has_the_mean_and_the_best_and_format_each_carriers() -> None:
    records = [record("0/1:1:2 1/2:3:4 0/0", index=5), record("0/1 0/0 0/0", alts="C", keys="GT:CNN", index=6)]
    records[1].info = "CNN_2D=9;CNN_ALT_SCORES=9"
    multisample.annotate(records, {(5, 1): {0: 1.0, 1: -2.0}, (5, 2): {1: -0.75}}, "CNN_2D")
    assert records[0].info == "DP=100;LEN=1,2;CNN_2D=-0.500;CNN_ALT_SCORES=-0.500,-0.750"
    assert records[0].rest == "GT:AD:DP:CNN\t0/1:1:2:1.000,.\t1/2:3:4:-2.000,-0.750\t0/0"
    assert (records[1].info, records[1].rest) == (".", "GT\t0/1\t0/0\t0/0")


def test_the_header_says_scale_direction_and_what_info_has() -> None:
    text = multisample.score_header(VcfHeader(["##fileformat=VCFv4.2", "#CHROM\tPOS"]), "x.vcf", CARD).text()
    format_line = next(line for line in text.split("\n") if line.startswith("##FORMAT=<ID=CNN,"))
    for said in ("Number=A,Type=Float", "Natural log", "higher is more likely true", "INFO/CNN_2D has the mean"):
        assert said in format_line
    info_line = next(line for line in text.split("\n") if line.startswith("##INFO=<ID=CNN_2D,"))
    assert "the mean over the scored carriers" in info_line
    again = multisample.score_header(VcfHeader(text.rstrip("\n").split("\n")), "x.vcf", CARD)
    assert again.text() == text


def test_a_field_cnn_of_another_type_is_refused_with_a_remedy() -> None:
    lines = ["##fileformat=VCFv4.2", '##FORMAT=<ID=CNN,Number=1,Type=String,Description="">', "#CHROM\tPOS"]
    with pytest.raises(InputError, match="bcftools annotate -x FORMAT/CNN"):
        multisample.score_header(VcfHeader(lines), "x.vcf", CARD)
