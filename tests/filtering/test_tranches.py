"""FilterVariantTranches' rules by hand and on random callsets; the oracle is tests/support/oracle_tranches.py."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnspark.errors import InputError, UsageError
from cnnspark.execution.blocks import Block
from cnnspark.filtering.score_distribution import ScoreCounts
from cnnspark.filtering.tranche_filter import (
    FirstPass,
    TrancheFilter,
    decide_tranches,
    first_pass,
    known_alleles,
    open_resource,
)
from cnnspark.filtering.tranches import (
    Alleles,
    RefConflictError,
    Tranches,
    band,
    bands,
    cutoffs,
    filter_id,
    filter_lines,
    is_known,
    look_up,
    record_type,
    two_decimals,
)
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfHeader, VcfSource
from tests.conftest import read_lines, write_vcf
from tests.support.oracle_tranches import TranchesError, tranche_filters, vcf_lines

KEY = "CNN_2D"
HEAD = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=c1,length=10000>",
    "##contig=<ID=c2,length=10000>",
    '##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="">',
    '##FILTER=<ID=q10,Description="">',
]


@pytest.mark.parametrize(
    ("ref", "alts", "kind"),
    [
        ("A", ["C"], "SNP"),
        ("A", ["C", "G"], "SNP"),
        ("A", ["AT"], "INDEL"),
        ("AT", ["A", "ATT"], "INDEL"),
        ("CTTA", ["C", "CT", "CA"], "INDEL"),  # no ALT need be the beginning of REF
        ("AT", ["GC"], "OTHER"),  # MNP
        ("A", ["C", "AT"], "OTHER"),  # mixed
        ("AT", ["GC", "A"], "OTHER"),
        ("A", ["*"], "SNP"),  # one base long
        ("A", ["C", "*"], "SNP"),
        ("AT", ["A", "*"], "INDEL"),
        ("A", ["<DEL>"], "OTHER"),
        ("A", ["C", "<NON_REF>"], "OTHER"),
        ("A", ["A[c1:5["], "OTHER"),
        ("A", ["AT."], "OTHER"),  # a single breakend
        ("A", [], "OTHER"),
    ],
)
def test_a_records_type_is_that_of_its_lengths(ref: str, alts: list[str], kind: str) -> None:
    assert record_type(ref, alts) == kind


@pytest.mark.parametrize(
    ("ref", "alt", "other", "known"),
    [
        ("A", "C", Alleles("A", ["C"]), True),
        ("A", "C", Alleles("A", ["G", "C"]), True),
        ("A", "C", Alleles("A", ["G"]), False),
        ("a", "c", Alleles("A", ["C"]), True),  # bases have no case
        ("AT", "A", Alleles("ATT", ["AT"]), True),  # A + T is AT
        ("AT", "A", Alleles("ATT", ["A"]), False),
        ("ATT", "AT", Alleles("AT", ["A"]), True),  # the resource's side is the shorter
        ("ATT", "CTT", Alleles("A", ["G", "C"]), True),
        ("ATT", "C", Alleles("A", ["C"]), False),
        ("A", "*", Alleles("A", ["*"]), True),
        ("A", "*", Alleles("AT", ["*"]), True),  # not extended
        ("AT", "*", Alleles("A", ["*"]), True),
        ("A", "<DEL>", Alleles("A", ["<DEL>"]), True),  # REFs are equal: the ALT is in the list
        ("A", "<DEL>", Alleles("AT", ["<DEL>"]), False),  # a symbol cannot be extended
        ("AT", "<DEL>", Alleles("A", ["<DEL>"]), False),
        ("A", "]c1:5]A", Alleles("AT", ["]c1:5]AT"]), False),
        ("AT", "]c1:5]AT", Alleles("A", ["]c1:5]A"]), False),
        ("A", "C", Alleles("A", []), False),
        ("GT", "CT", Alleles("A", ["C"]), True),  # of unequal lengths: nobody asks whether G is A
    ],
)
def test_the_shorter_ref_and_its_alts_are_extended(ref: str, alt: str, other: Alleles, known: bool) -> None:
    assert is_known(ref, alt, other) is known


def test_refs_of_one_length_that_differ_are_a_conflict() -> None:
    with pytest.raises(RefConflictError, match="A against T"):
        is_known("A", "C", Alleles("T", ["C"]))


def test_the_first_match_ends_the_search() -> None:
    good, wrong, other = Alleles("A", ["C"]), Alleles("T", ["C"]), Alleles("A", ["G"])
    assert look_up("A", ["C"], [good, wrong]) == (True, [])
    found, conflicts = look_up("A", ["T", "C"], [other, wrong, good, wrong])
    assert found and [str(conflict) for conflict in conflicts] == ["A against T"]
    assert look_up("A", [], [wrong]) == (False, [])  # no ALT is asked for


def test_a_tranche_is_a_percentage_below_100() -> None:
    assert Tranches() == Tranches((99.95,), (99.4,))
    assert Tranches((99.9, 0, 99.0, 99.9)).snp == (0, 99.0, 99.9)
    for wrong in (100, -0.1, float("nan")):
        with pytest.raises(UsageError, match="--indel-tranche is .*below 100"):
            Tranches(indel=(99.0, wrong))
    with pytest.raises(UsageError, match="--snp-tranche is missing"):
        Tranches(snp=())


@pytest.mark.parametrize(
    ("n", "tranche", "rank"),
    [(1, 99.95, 0), (2, 99.95, 0), (2, 0, 0), (11, 99.4, 9), (11, 50.0, 5), (11, 59.9, 5), (2001, 99.95, 1999)],
)
def test_a_cutoff_is_the_score_at_the_truncated_rank(n: int, tranche: float, rank: int) -> None:
    assert cutoffs(ScoreCounts.of(range(n)), [tranche]) == (n - 1 - rank,)


def test_equal_scores_count_each() -> None:
    scores = ScoreCounts.merged([ScoreCounts.of([5.0, 1.0, 5.0]), ScoreCounts.of([]), ScoreCounts.of([1.0, 3.0])])
    assert [scores.from_top(rank) for rank in range(5)] == [5.0, 5.0, 3.0, 1.0, 1.0]
    assert scores.total == 5 and ScoreCounts.merged([]).total == 0
    with pytest.raises(IndexError):
        scores.from_top(5)
    assert cutoffs(ScoreCounts.of([]), [99.0]) is None


def test_the_cutoff_itself_is_filtered_and_bands_lie_between_tranches() -> None:
    at = (3.0, 1.0, -2.0)
    expected = {3.1: None, 3.0: 0, 1.1: 0, 1.0: 1, -1.9: 1, -2.0: 2, -9.0: 2}
    assert {score: band(score, at) for score in expected} == expected
    assert bands((90.0, 99.0, 99.9)) == [(90.0, 99.0), (99.0, 99.9), (99.9, 100.0)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (99.95, "99.95"),
        (99.4, "99.40"),
        (100.0, "100.00"),
        (99.994, "99.99"),
        (99.995, "100.00"),
        (99.985, "99.99"),  # Python's format says 99.98
        (0.005, "0.01"),
        (1e-05, "0.00"),
    ],
)
def test_ids_round_halves_up(value: float, text: str) -> None:
    assert two_decimals(value) == text


def test_names_and_descriptions_are_those_that_downstream_tools_know() -> None:
    assert filter_id(KEY, "INDEL", (99.4, 100.0)) == "CNN_2D_INDEL_Tranche_99.40_100.00"
    assert filter_lines(KEY, Tranches((99.95, 99.0), (99.4,))) == [
        '##FILTER=<ID=CNN_2D_SNP_Tranche_99.00_99.95,Description="SNP truth resource sensitivity between 99.00 and '
        '99.95 for info key CNN_2D">',
        '##FILTER=<ID=CNN_2D_SNP_Tranche_99.95_100.00,Description="SNP truth resource sensitivity between 99.95 and '
        '100.00 for info key CNN_2D">',
        '##FILTER=<ID=CNN_2D_INDEL_Tranche_99.40_100.00,Description="INDEL truth resource sensitivity between 99.40 '
        'and 100.00 for info key CNN_2D">',
    ]


def filtered(
    folder: Path, callset: list[str], resources: list[list[str]], tranches: Tranches, keep: bool = True,
    strict: bool = False, cut: int = 5000,
) -> tuple[list[str], TrancheFilter, list[str]]:  # fmt: skip
    """Both passes over the callset, c1 cut into two blocks at ``cut``, without Spark: lines, decision, warnings."""
    vcf = write_vcf(folder / "calls.vcf.gz", callset, HEAD)
    known = [write_vcf(folder / f"known{n}.vcf.gz", lines, HEAD) for n, lines in enumerate(resources)]
    regions = [Region("c1", 0, cut), Region("c1", cut), Region("c2")]
    return two_passes(vcf, known, KEY, regions, tranches, keep, strict)


def two_passes(
    vcf: str, resources: list[str], key: str, regions: list[Region], tranches: Tranches, keep: bool = True,
    strict: bool = False,
) -> tuple[list[str], TrancheFilter, list[str]]:  # fmt: skip
    source, known, first = VcfSource(vcf), [VcfSource(path) for path in resources], 0
    blocks = []
    for number, region in enumerate(regions):
        blocks.append(Block(number, region, first_record=first))
        first += len(list(source.records(region)))
    parts = [first_pass(block, source, known, key) for block in blocks]
    settled, warnings = decide_tranches(FirstPass.merged(reversed(parts)), key, tranches, keep, strict)
    work = settled.work(vcf)
    lines = []
    for block in blocks:
        output = work(block)
        lines += list(output.lines)
        assert sum(output.counts[name] for name in ("passed", "filtered", "not scored")) == len(
            list(source.records(block.region))
        )
    for each in (source, *known):
        each.close()
    return lines, settled, warnings


def filters(lines: list[str]) -> list[str]:
    return [line.split("\t")[6] for line in lines]


# What the resource knows has scores 9 to 0 (SNPs) and 9, 0 (indels).
SNPS = [f"c1 {100 + n} . A C . . CNN_2D={9 - n}" for n in range(10)]
INDELS = ["c2 100 . A AT . . CNN_2D=9", "c2 200 . AT A . . CNN_2D=0"]
KNOWN = [line.replace("CNN_2D", "X") for line in [*SNPS, *INDELS]]


def test_records_get_the_filter_of_their_band_and_all_others_pass(tmp_path: Path) -> None:
    more = [
        "c2 300 . A C . . CNN_2D=6.5",
        "c2 301 . A C . q10 CNN_2D=4",
        "c2 302 . A C . PASS CNN_2D=-3",
        "c2 303 . A AT . q10 CNN_2D=9",
        "c2 304 . AT GC . . CNN_2D=-9",  # MNP
        "c2 305 . A C,AT . q10 CNN_2D=-9",  # mixed
        "c2 306 . A <DEL> . . CNN_2D=-9",
        "c2 307 . A C . . DP=5",
        "c2 308 . A C . . CNN_2D=.",
    ]
    lines, settled, warnings = filtered(tmp_path, [*SNPS, *INDELS, *more], [KNOWN], Tranches((50, 90), (99.4,)))
    assert settled.cutoffs == {"SNP": (5.0, 1.0), "INDEL": (9.0,)} and not warnings
    low, lowest = "CNN_2D_SNP_Tranche_50.00_90.00", "CNN_2D_SNP_Tranche_90.00_100.00"
    indel = "CNN_2D_INDEL_Tranche_99.40_100.00"
    assert filters(lines) == [
        *["PASS"] * 4, *[low] * 4, *[lowest] * 2, indel, indel,
        "PASS", f"q10;{low}", lowest, f"q10;{indel}", "PASS", "q10", "PASS", "PASS", "PASS",
    ]  # fmt: skip


def test_old_filters_go_where_that_is_asked(tmp_path: Path) -> None:
    callset = [*SNPS, *INDELS, "c2 300 . A C . q10 CNN_2D=-1", "c2 301 . A C . q10 DP=3"]
    lines, settled, _ = filtered(tmp_path, callset, [KNOWN], Tranches(), keep=False)
    assert filters(lines)[-2:] == ["CNN_2D_SNP_Tranche_99.95_100.00", "PASS"]
    declared = settled.header(VcfHeader([*HEAD, "#CHROM\tPOS"])).filters
    assert list(declared) == ["CNN_2D_SNP_Tranche_99.95_100.00", "CNN_2D_INDEL_Tranche_99.40_100.00"]


def test_a_filter_that_a_record_has_already_is_not_repeated(tmp_path: Path) -> None:
    old = "CNN_2D_SNP_Tranche_99.95_100.00"
    callset = [*SNPS, *INDELS, f"c2 300 . A C . {old};q10 CNN_2D=-1", f"c2 301 . A C . {old} CNN_2D=20"]
    lines, _, _ = filtered(tmp_path, callset, [KNOWN], Tranches())
    # As the tool: an earlier filter is kept, whatever the new one says.
    assert filters(lines)[-2:] == [f"{old};q10", old]


def test_mnps_that_a_resource_knows_count_among_the_indels(tmp_path: Path) -> None:
    mnp = "c2 300 . AT GC . . CNN_2D=-9"
    _, without, _ = filtered(tmp_path, [*SNPS, *INDELS, mnp], [KNOWN], Tranches(indel=(99.4,)))
    _, settled, _ = filtered(tmp_path, [*SNPS, *INDELS, mnp], [[*KNOWN, mnp]], Tranches(indel=(99.4,)))
    assert without.cutoffs["INDEL"] == (9.0,) and settled.cutoffs["INDEL"] == (0.0,)


def test_a_record_that_several_resources_know_counts_once(tmp_path: Path) -> None:
    _, settled, _ = filtered(tmp_path, [*SNPS, *INDELS], [KNOWN, KNOWN, KNOWN[:3]], Tranches())
    assert {kind: scores.total for kind, scores in settled.found.known.items()} == {"SNP": 10, "INDEL": 2}


def test_a_record_that_begins_elsewhere_is_not_known(tmp_path: Path) -> None:
    known = ["c1 99 . TA TC . . .", *KNOWN[1:]]  # the same allele, spelled with another first base
    _, settled, _ = filtered(tmp_path, [*SNPS, *INDELS], [known], Tranches())
    assert settled.found.known["SNP"].total == 9


def test_a_type_that_no_resource_knows_is_left_alone_with_a_warning(tmp_path: Path) -> None:
    lines, settled, warnings = filtered(tmp_path, [*SNPS, *INDELS], [KNOWN[:10]], Tranches())
    assert filters(lines)[-2:] == ["PASS", "PASS"] and settled.cutoffs["INDEL"] is None
    assert len(warnings) == 1 and "none of the callset's 2 indels" in warnings[0]
    # Its header lines are there, as the tool writes them before it knows.
    assert "CNN_2D_INDEL_Tranche_99.40_100.00" in settled.header(VcfHeader([*HEAD, "#CHROM\tPOS"])).filters
    with pytest.raises(InputError, match="none of the callset's 2 indels; add a --resource"):
        filtered(tmp_path, [*SNPS, *INDELS], [KNOWN[:10]], Tranches(), strict=True)
    with pytest.raises(InputError, match="none of the callset's 10 SNPs"):
        filtered(tmp_path, [*SNPS, *INDELS], [KNOWN[10:]], Tranches(), strict=True)


def test_a_callset_of_snps_alone_is_filtered(tmp_path: Path) -> None:
    lines, _, warnings = filtered(tmp_path, SNPS, [KNOWN], Tranches(), strict=True)
    assert filters(lines)[-1] == "CNN_2D_SNP_Tranche_99.95_100.00" and not warnings


def test_a_conflicting_ref_is_skipped_counted_and_said(tmp_path: Path) -> None:
    known = [KNOWN[0].replace(" A ", " T "), *(line.replace(" A ", " G ") for line in KNOWN[1:9]), *KNOWN[9:]]
    _, settled, warnings = filtered(tmp_path, [*SNPS, *INDELS], [known, KNOWN[8:9]], Tranches())
    assert settled.found.known["SNP"].total == 2  # one by the second resource
    said = settled.facts()["conflicts"]
    assert said["count"] == 9 and len(said["first"]) == 5 and said["first"][0] == "c1:100 A against T"
    assert (
        "REF conflicts between callset and resources, skipped: 9 (first: c1:100 A" in warnings[0]
        and "c1:104 A against G" in warnings[0]
    )
    with pytest.raises(InputError, match="inconsistent references for the same position.s.: c1:100 A against T"):
        filtered(tmp_path, [*SNPS, *INDELS], [known], Tranches(), strict=True)


def test_nothing_to_go_by_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no record has a value of CNN_2D"):
        filtered(tmp_path, ["c1 100 . A C . . DP=3"], [KNOWN], Tranches())
    with pytest.raises(InputError, match="the resources have none of the callset's alleles"):
        filtered(tmp_path, ["c1 100 . A G . . CNN_2D=3"], [KNOWN], Tranches())
    mnp = "c1 300 . AT GC . . CNN_2D=3"
    _, settled, warnings = filtered(tmp_path, [mnp], [[mnp]], Tranches())
    assert "no SNP or indel" in warnings[0] and settled.found.scored == {"OTHER": 1}
    with pytest.raises(InputError, match="no SNP or indel has a value"):
        filtered(tmp_path, [mnp], [[mnp]], Tranches(), strict=True)


def test_cutoffs_stand_in_the_header_and_a_new_filter_replaces_them(tmp_path: Path) -> None:
    _, settled, _ = filtered(tmp_path, [*SNPS, *INDELS], [KNOWN], Tranches((90,), (0,)))
    line = "##cnnspark_tranche=<ID=CNN_2D_SNP_Tranche_90.00_100.00,Key=CNN_2D,Group=SNP,Tranche=90,Cutoff=1.0,Known=10>"
    header = settled.header(VcfHeader([*HEAD, line.replace("Cutoff=1.0", "Cutoff=7.0"), "#CHROM\tPOS"]))
    assert [each for each in header.lines if "Group=SNP" in each] == [line]
    assert sum("cnnspark_tranche" in each for each in header.lines) == 2


def test_only_the_stretch_between_the_records_is_read(tmp_path: Path) -> None:
    source = VcfSource(write_vcf(tmp_path / "k.vcf.gz", [f"c1 {n} . A C,G . . ." for n in range(1, 200)], HEAD))
    assert known_alleles([source], "c1", {0, 49}) == {0: [Alleles("A", ("C", "G"))], 49: [Alleles("A", ("C", "G"))]}
    assert known_alleles([source], "c9", {0}) == {} and known_alleles([source], "c1", set()) == {}
    source.close()


def test_a_resource_must_be_readable_by_region_and_of_the_build(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "k.vcf.gz", ["chr20 5 . A C . . ."], ["##fileformat=VCFv4.2"])
    assert open_resource(path, ["chr20"], "x.vcf.gz")[1] == []
    (said,) = open_resource(path, ["chrM"], "x.vcf.gz")[1]
    assert "no record on the callset's contigs" in said
    with pytest.raises(InputError, match="says 'chr20' where x.vcf.gz says '20'"):
        open_resource(path, ["20"], "x.vcf.gz")
    with pytest.raises(InputError, match="resource .*none.vcf.gz does not exist"):
        open_resource(str(tmp_path / "none.vcf.gz"), ["chr20"], "x.vcf.gz")
    with pytest.raises(InputError, match="no bgzipped VCF"):
        open_resource(write_vcf(tmp_path / "k.vcf", ["chr20 5 . A C . . ."]), ["chr20"], "x.vcf.gz")
    os.utime(f"{path}.tbi", (1, 1))
    assert open_resource(path, ["chr20"], "x.vcf.gz")[1] == []  # older by date, and yet the file's own
    shutil.copy(
        f"{write_vcf(tmp_path / 'm.vcf.gz', ['chr20 5 . A C . . .', 'chr20 9 . A C . . .'])}.tbi", f"{path}.tbi"
    )
    with pytest.raises(InputError, match="make it again with 'tabix -f -p vcf"):
        open_resource(path, ["chr20"], "x.vcf.gz")
    with pytest.raises(InputError, match="has no index"):
        open_resource(write_vcf(tmp_path / "l.vcf.gz", ["c1 5 . A C . . ."], index=False), ["c1"], "x.vcf.gz")


@pytest.mark.parametrize("callset", ["freebayes", "bcftools"])
def test_a_real_callset_by_qual_equals_the_slow_tool(data: Path, callset: str) -> None:
    """QUAL is the score that is there; tests/stages/test_filter.py does the same with the scores of a model."""
    vcf, truth = (str(data / "real" / "NA12878" / f"NA12878.{name}.vcf.gz") for name in (callset, "truth"))
    regions = [Region("chr20", 0, 10_030_000), Region("chr20", 10_030_000, 10_060_000), Region("chr20", 10_060_000)]
    tranches = Tranches((80.0, 99.0, 99.95), (90.0, 99.4))
    lines, _, warnings = two_passes(vcf, [truth], "QUAL", regions, tranches, strict=True)
    expected, _ = tranche_filters(vcf_lines(vcf), [vcf_lines(truth)], "QUAL", list(tranches.snp), list(tranches.indel))
    assert [set(status.split(";")) for status in filters(lines)] == expected and not warnings
    assert len({name for names in expected for name in names}) == 6  # PASS and each band


BASES = st.sampled_from(["A", "C", "AT", "GC", "ATT"])
ALTS = st.lists(st.sampled_from(["A", "C", "G", "AT", "GC", "ATT", "CTT", "*", "<DEL>"]), max_size=2, unique=True)
PLACE = st.tuples(st.sampled_from(["c1", "c2"]), st.integers(1, 12), BASES, ALTS)
SCORE = st.one_of(
    st.sampled_from([None, ".", "0.5"]), st.integers(-3, 3).map(str), st.floats(-16, 16).map(lambda x: f"{x:.3f}")
)
PERCENTAGES = st.lists(st.sampled_from([0.0, 10.0, 33.3, 50.0, 90.0, 99.0, 99.4, 99.95]), min_size=1, max_size=3)


def record(place: tuple[str, int, str, list[str]], info: str = ".", status: str = ".") -> str:
    contig, pos, ref, alts = place
    return f"{contig} {pos} . {ref} {','.join(alt for alt in alts if alt != ref) or '.'} . {status} {info}"


def in_order(lines: list[str]) -> list[str]:
    return sorted(lines, key=lambda line: (line.split()[0], int(line.split()[1])))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    calls=st.lists(st.tuples(PLACE, SCORE, st.sampled_from([".", "PASS", "q10"])), min_size=6, max_size=25),
    resources=st.lists(st.lists(PLACE, min_size=1, max_size=25), min_size=1, max_size=3),
    same=st.integers(4, 25),
    snp=PERCENTAGES,
    indel=PERCENTAGES,
    keep=st.booleans(),
    strict=st.sampled_from([False, False, True]),
    cut=st.integers(1, 12),
)
def test_two_passes_over_blocks_equal_the_slow_tool(
    calls: list, resources: list, same: int, snp: list[float], indel: list[float], keep: bool, strict: bool, cut: int
) -> None:
    callset = in_order(
        [record(place, "." if score is None else f"DP=3;CNN_2D={score}", status) for place, score, status in calls]
    )
    # The first resource has some of the callset's own alleles: chance alone would leave most runs without a match.
    known = [in_order([record(place) for place in each]) for each in resources]
    known[0] = in_order([*known[0], *(record(place) for place, _, _ in calls[:same])])
    tranches = Tranches(tuple(snp), tuple(indel))
    tabs = [line.replace(" ", "\t") for line in callset]
    with tempfile.TemporaryDirectory() as folder:
        try:
            expected, lines = tranche_filters(
                tabs, [[line.replace(" ", "\t") for line in each] for each in known], KEY, snp, indel, not keep, strict
            )
        except TranchesError:
            with pytest.raises(InputError):
                filtered(Path(folder), callset, known, tranches, keep, strict, cut)
            return
        found, settled, _ = filtered(
            Path(folder), callset, known, Tranches(tuple(snp), tuple(indel)), keep, strict, cut
        )
        before = read_lines(Path(folder) / "calls.vcf.gz")
    assert [set(status.split(";")) for status in filters(found)] == expected
    assert [line for line in settled.header(VcfHeader(["#CHROM\tPOS"])).lines if "FILTER" in line] == lines
    for old, new in zip(before, found, strict=True):
        assert old.split("\t")[:6] + old.split("\t")[7:] == new.split("\t")[:6] + new.split("\t")[7:]
