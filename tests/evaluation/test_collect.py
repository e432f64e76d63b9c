"""Callsets side by side: names, pairs of scores, joined alleles, and the blocks of the genome that are read."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.evaluation.collect import (
    MeasuredCallset,
    callset_names,
    join_alleles,
    keys_of_each,
    pairs_of,
    pairs_to_compare,
)
from cnnspark.evaluation.metrics import AlleleScores
from cnnspark.evaluation.score_reader import ScoreReader, sample_column, score_names
from cnnspark.execution.blocks import Block, BlockSettings, cut_window, number_blocks, windows_of
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.stages.evaluate import blocks_of_all
from cnnspark.variants.score_fields import is_log_odds

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def header(*declared: str, samples: tuple[str, ...] = ()) -> VcfHeader:
    lines = []
    for text in declared:
        column, key, number, kind = text.split()
        lines.append(f'##{column}=<ID={key},Number={number},Type={kind},Description="x">')
    return VcfHeader([*lines, "\t".join([COLUMNS, *(["FORMAT", *samples] if samples else [])])])


SCORED = header("INFO CNN_2D 1 Float", "INFO CNN_ALT_SCORES A Float", "INFO DP 1 Integer", "INFO TYPE A String")


def callset(name: str, *keys: str) -> MeasuredCallset:
    return MeasuredCallset(name, f"{name}.vcf.gz", SCORED, keys, None, f"{name}:")


def test_callsets_are_named_by_their_files() -> None:
    paths = ["/a/scored/", "/b/x.vcf.gz", "/c/x.bcf", "/d/x.vcf", "https://h/odd name,1.vcf.gz"]
    assert callset_names(paths) == ["scored", "x", "x-2", "x-3", "odd_name_1"]


def test_a_score_is_of_one_callset_or_of_all_that_have_it() -> None:
    headers = [SCORED, header("INFO VQSLOD 1 Float")]
    assert keys_of_each(["a", "b"], headers, ["QUAL", "CNN_2D", "b:VQSLOD"]) == [["QUAL", "CNN_2D"], ["QUAL", "VQSLOD"]]
    with pytest.raises(UsageError, match="'c:QUAL' names no callset; there are a, b"):
        keys_of_each(["a", "b"], headers, ["c:QUAL"])
    with pytest.raises(UsageError, match="no callset declares XY"):
        keys_of_each(["a", "b"], headers, ["XY"])


@pytest.mark.parametrize("text", ["QUAL", "QUAL,", ",", "A,B,C", "A,A", ""])
def test_a_pair_is_two_scores(text: str) -> None:
    with pytest.raises(UsageError, match="is not two scores"):
        pairs_of([text])
    assert pairs_of(["QUAL, CNN_2D", "QUAL,CNN_2D"]) == [("QUAL", "CNN_2D")]


def test_pairs_have_the_names_of_the_tables() -> None:
    both = [callset("a", "QUAL", "CNN_2D"), callset("b", "QUAL")]
    assert pairs_to_compare([], both) == (("a:QUAL", "b:QUAL"),)
    assert pairs_to_compare([("QUAL", "CNN_2D")], both) == (("a:QUAL", "a:CNN_2D"),)
    assert pairs_to_compare([("a:CNN_2D", "b:QUAL")], both) == (("a:CNN_2D", "b:QUAL"),)
    with pytest.raises(UsageError, match="names no two scores of one callset; there are a:CNN_2D, a:QUAL, b:QUAL"):
        pairs_to_compare([("CNN_2D", "b:QUAL")], both)
    alone = [MeasuredCallset("a", "a", SCORED, ("QUAL", "DP"), None)]
    assert pairs_to_compare([], alone) == ()
    assert pairs_to_compare([("QUAL", "DP")], alone) == (("QUAL", "DP"),)


def test_joined_alleles_have_the_scores_of_each_callset() -> None:
    a = AlleleScores(["c", "c", "c"], [5, 9, 9], [0, 2, 2], [1, 0, 0], {"Q": np.array([1.0, 2.0, np.nan])},
                     strata={"depth": np.array([3, 1, 1])})  # fmt: skip
    b = AlleleScores(["c", "c"], [7, 12], [0, 2], [0, 1], {"Q": np.array([7.0, 8.0]), "S": np.array([-1.0, np.nan])},
                     strata={"depth": np.array([0, 2])})  # fmt: skip
    # The insertion that b has at 12 is the same one that a has twice at 9; it is true because b says so.
    names = [[(5, "A", "C"), (8, "", "T"), (8, "", "T")], [(7, "G", "C"), (8, "", "T")]]
    joined = join_alleles([a, b], names, ["a:", "b:"])
    assert joined.start.tolist() == [5, 7, 9] and joined.variant_type.tolist() == [0, 0, 2]
    assert joined.label.tolist() == [1, 0, 1] and joined.strata["depth"].tolist() == [3, 0, 1]
    expected = {"a:Q": [1.0, np.nan, 2.0], "b:Q": [np.nan, 7.0, 8.0], "b:S": [np.nan, -1.0, np.nan]}
    assert {name: values.tolist() for name, values in joined.scores.items()} == {
        name: pytest.approx(values, nan_ok=True) for name, values in expected.items()
    }
    nothing = a.select(np.zeros(3, bool))
    alone = join_alleles([nothing, b], [[], names[1]], ["a:", "b:"])
    assert np.isnan(alone.scores["a:Q"]).all() and alone.scores["b:Q"].tolist() == [7.0, 8.0]
    assert len(join_alleles([nothing, b.select(np.zeros(2, bool))], [[], []], ["a:", "b:"])) == 0


@pytest.mark.parametrize("regions", [(), (Region("c1", 10_000_000, 45_000_000), Region("c3", 0, 500))])
def test_blocks_and_the_gaps_between_them_cover_each_base_once(regions: tuple[Region, ...]) -> None:
    lengths = {"c1": 90_000_000, "c2": 1_000, "c3": None}
    lines = [f"c1\t{pos}\t.\tA\tC\t9\t.\t." for pos in (31_000_001, 31_000_500, 31_900_000)]
    lines += ["c3\t100\t.\tA\tC\t9\t.\t."]

    def inside(window: Region) -> list[str]:
        return [x for x in lines if x.split("\t")[0] == window.contig and window.owns(int(x.split("\t")[1]) - 1)]

    settings = BlockSettings(records=2)
    counted = [(w, cut_window(inside(w), w, settings)) for w in windows_of(["c1", "c3"], lengths, regions)]
    blocks = number_blocks(counted)
    everything = blocks_of_all(blocks, ["c1", "c3", "c2"], lengths, regions)
    assert everything[: len(blocks)] == blocks and len(everything) > len(blocks)
    assert [block.index for block in everything] == list(range(len(everything)))
    tiles = sorted(block.region for block in everything)
    wanted = sorted(regions) or [Region("c1"), Region("c2"), Region("c3")]
    for region in wanted:
        own = [tile for tile in tiles if tile.contig == region.contig]
        assert own[0].start == region.start and own[-1].end == region.end
        assert all(left.end == right.start for left, right in zip(own, own[1:], strict=False))
    assert {tile.contig for tile in tiles} == {region.contig for region in wanted}
    assert isinstance(everything[-1], Block) and everything[-1].records == -1


def test_scores_must_be_declared_as_numbers() -> None:
    assert score_names(SCORED) == ("CNN_2D", "QUAL")
    assert score_names(header()) == ("QUAL",)
    assert score_names(SCORED, ["DP", "QUAL", "DP"]) == ("DP", "QUAL")
    with pytest.raises(UsageError, match="declares no XY; score it first"):
        score_names(SCORED, ["XY"])
    with pytest.raises(UsageError, match="TYPE is declared as String, not as a number"):
        score_names(SCORED, ["TYPE"])
    of_members = header("FORMAT CNN A Float", "INFO CNN_2D 1 Float", samples=("S1", "S2"))
    assert score_names(of_members, (), True) == ("FORMAT/CNN", "QUAL")
    assert [is_log_odds(n) for n in ("CNN_1D", "x:CNN_2D", "b:FORMAT/CNN", "QUAL", "CNN")] == [True] * 3 + [False] * 2


def test_the_sample_must_be_named_if_there_are_several() -> None:
    two, one, none = header(samples=("S1", "S2")), header(samples=("S1",)), header()
    assert sample_column(two, "x.vcf", "S2", True) == 1
    assert (sample_column(one, "x.vcf", None, True), sample_column(none, "x.vcf", None, True)) == (0, None)
    assert sample_column(two, "x.vcf", None, False) is None
    with pytest.raises(UsageError, match="x.vcf has 2 samples .* name it with --sample"):
        sample_column(two, "x.vcf", None, True)
    for of in (two, one, none):
        with pytest.raises(InputError, match="has no sample 'S9'"):
            sample_column(of, "x.vcf", "S9", True)


def record(text: str) -> Record:
    return Record(text.replace(" ", "\t"))


def test_only_what_the_chosen_sample_carries_is_measured() -> None:
    two = header("INFO DP 1 Integer", "FORMAT CNN A Float", samples=("S1", "S2"))
    records = [
        record("c1 5 . A C,G 9 . DP=5 GT:CNN 0/1:1.5,. 2/2:.,-2"),
        record("c1 9 . A C 9 . DP=6 GT:CNN 0/1:3 0/0:."),
    ]
    labels = [[1, 0], [1]]
    of_second = ScoreReader(two, ["FORMAT/CNN", "QUAL"], sample=1).collect(records, labels)
    assert of_second.start.tolist() == [4] and of_second.label.tolist() == [0]
    assert of_second.scores["FORMAT/CNN"].tolist() == [-2.0]
    of_all = ScoreReader(two, ["DP"]).collect(records, labels)
    assert of_all.scores["DP"].tolist() == [5, 5, 6] and of_all.label.tolist() == [1, 0, 1]


def test_scores_per_alt_are_those_of_the_only_network() -> None:
    line = "c1 5 . A C,G 9 . CNN_1D=9;CNN_2D=2.5;CNN_ALT_SCORES=2.5,-1"
    one = ScoreReader(SCORED, ["CNN_2D"]).collect([record(line)], [[1, 0]])
    assert one.scores["CNN_2D"].tolist() == [2.5, -1.0]
    # Two networks wrote the same key one after the other: it is not known which one the values come from.
    both = header("INFO CNN_1D 1 Float", "INFO CNN_2D 1 Float", "INFO CNN_ALT_SCORES A Float")
    of_record = ScoreReader(both, ["CNN_1D", "CNN_2D"]).collect([record(line)], [[1, 0]])
    assert of_record.scores["CNN_1D"].tolist() == [9, 9] and of_record.scores["CNN_2D"].tolist() == [2.5, 2.5]
