"""Counts of a callset: by hand, in any division into blocks, and read back from JSON."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from cnnspark.errors import UsageError
from cnnspark.evaluation.callset_counts import (
    KEPT,
    LONGEST_BASES,
    NO_FILTER,
    SEVERAL,
    UNDECLARED,
    CallsetCounter,
    CallsetCounts,
    add_counts,
)
from cnnspark.evaluation.score_reader import LabelledAlt
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.variants.alleles import UNKNOWN

HEADER = VcfHeader(
    [
        "##fileformat=VCFv4.2",
        '##FILTER=<ID=LOW,Description="d">',
        '##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="d">',
        '##INFO=<ID=CNN_ALT_SCORES,Number=A,Type=Float,Description="d">',
        '##INFO=<ID=NAME,Number=1,Type=String,Description="d">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
)


def record(text: str) -> Record:
    return Record(text.replace(" ", "\t"))


RECORDS = [
    record("c1 1 . A G 50 PASS CNN_2D=2.3456;CNN_ALT_SCORES=2.3456"),
    record("c1 2 . A C 50 LOW CNN_2D=-1;CNN_ALT_SCORES=-1"),
    # The second ALT's own score, not the record's; an ALT that cannot be scored is not counted.
    record("c1 3 . A T,AC,* 50 PASS CNN_2D=3;CNN_ALT_SCORES=3,-2,."),
    record("c1 4 . ATT A 50 LOW;q10 CNN_2D=0.5;CNN_ALT_SCORES=0.5"),
    record("c1 5 . AT GC 50 . ."),
    record("c1 6 . A <DEL> 50 q10 ."),
    record("c1 7 . ACG ATG 50 odd CNN_2D=0.1;CNN_ALT_SCORES=0.1"),
]


def test_counts_by_hand() -> None:
    counts = CallsetCounter(HEADER, "CNN_2D").count(RECORDS)
    assert counts.records == Counter({"PASS": 2, "LOW": 1, SEVERAL: 1, NO_FILTER: 1, UNDECLARED: 2})
    assert counts.alleles == Counter(
        {
            ("SNV", "PASS"): 2, ("SNV", "LOW"): 1, ("insertion", "PASS"): 1, ("deletion", SEVERAL): 1,
            ("MNV", NO_FILTER): 1, ("SNV", UNDECLARED): 1,
        }
    )  # fmt: skip
    assert counts.scores == Counter(
        {(2.35, "PASS"): 1, (-1.0, "LOW"): 1, (3.0, "PASS"): 1, (-2.0, "PASS"): 1, (0.5, SEVERAL): 1,
         (0.1, UNDECLARED): 1}
    )  # fmt: skip
    assert counts.lengths == Counter({(1, True): 1, (-2, False): 1})
    # A>G and, trimmed, C>T are transitions; A>C and A>T transversions.
    assert counts.substitutions == Counter(
        {(2.35, True, True): 1, (-1.0, False, False): 1, (3.0, True, False): 1, (0.1, False, True): 1}
    )
    assert (counts.passing(True, True), counts.passing(False, True)) == (1, 1)
    assert not counts.outcomes and not counts.surprising and counts.filtered


def test_labels_give_outcomes_and_surprises() -> None:
    counts = CallsetCounter(HEADER, "CNN_2D").count(
        RECORDS, labelled(RECORDS, [[0], [1], [1, 0, -1], [-1], [1], [-1], [0]])
    )
    assert counts.outcome(1, True) == 2 and counts.outcome(1, False) == 1
    assert counts.outcome(0, True, "SNP") == 1 and counts.outcome(0, True, "INDEL") == 1
    found = [(each.pos, each.alt, each.label, each.disagreement) for each in counts.surprising]
    # The MNV has no score, so it cannot be surprising.
    assert found == [
        (2, "C", 1, 1.0), (3, "T", 1, -3.0),
        (1, "G", 0, pytest.approx(2.3456)), (7, "ATG", 0, pytest.approx(0.1)), (3, "AC", 0, -2.0),
    ]  # fmt: skip


def test_long_indels_are_counted_at_the_ends() -> None:
    counts = CallsetCounter(HEADER, "QUAL").count(
        [record(f"c1 1 . A A{'C' * 500} 9 PASS ."), record("c1 2 . A AC 9 PASS .")]
    )
    assert counts.lengths == Counter({(LONGEST_BASES, True): 1, (1, True): 1})


def labelled(records: list[Record], labels: list[list[int]]) -> list[LabelledAlt]:
    """The ALTs whose label is known."""
    each = zip(records, labels, strict=True)
    return [(record, n, label) for record, known in each for n, label in enumerate(known, 1) if label != UNKNOWN]


def many(n: int = 500) -> tuple[list[Record], list[list[int]]]:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=n).round(2)  # ties
    status = rng.choice(["PASS", "LOW", "."], n)
    alts = rng.choice(["C", "G", "AT"], n)
    records = [
        record(f"c1 {i + 1} . A {alts[i]} 9 {status[i]} CNN_2D={scores[i]};CNN_ALT_SCORES={scores[i]}")
        for i in range(n)
    ]
    return records, [[int(label)] for label in rng.integers(-1, 2, n)]


@pytest.mark.parametrize("parts", [2, 3, 4, 7, 16, 500])
def test_parts_add_up_to_the_whole_in_any_order(parts: int) -> None:
    records, labels = many()
    counter = CallsetCounter(HEADER, "CNN_2D")
    whole = counter.count(records, labelled(records, labels))
    cuts = np.linspace(0, len(records), parts + 1).astype(int)
    pieces = [
        counter.count(records[a:b], labelled(records[a:b], labels[a:b]))
        for a, b in zip(cuts[:-1], cuts[1:], strict=True)
    ]
    assert add_counts(pieces, "CNN_2D") == whole == add_counts(reversed(pieces), "CNN_2D")
    # Slow and obvious: the labelled alleles sorted by how wrong they are.
    true = sorted((float(r.info_value("CNN_2D")), r.start) for r, (k,) in zip(records, labels, strict=True) if k == 1)
    assert [each.pos - 1 for each in whole.surprising[:KEPT]] == [start for _, start in true[:KEPT]]
    assert sum(whole.records.values()) == 500 and len(whole.surprising) == 2 * KEPT


def test_counts_come_back_from_json() -> None:
    records, labels = many()
    whole = CallsetCounter(HEADER, "CNN_2D").count(records, labelled(records, labels))
    assert CallsetCounts.from_json(json.loads(json.dumps(whole.to_json(), allow_nan=False))) == whole
    with pytest.raises((KeyError, TypeError, ValueError)):
        CallsetCounts.from_json({"score": "x", "surprising": [{"pos": 1}]})


def test_records_of_low_quality_are_left_out_if_asked() -> None:
    records = [record("c1 1 . A G 9 PASS ."), record("c1 2 . A G 11 PASS ."), record("c1 3 . A G . PASS .")]
    counts = CallsetCounter(HEADER, "QUAL", min_qual=10).count(records, labelled(records, [[1], [1], [1]]))
    assert counts.records == Counter({"PASS": 1}) and counts.outcome(1, True) == 1


def test_a_score_that_is_text_is_refused() -> None:
    with pytest.raises(UsageError, match="declared as String"):
        CallsetCounter(HEADER, "NAME")


def test_without_records_all_counts_are_empty() -> None:
    counts = CallsetCounter(HEADER, "CNN_2D").count([])
    assert counts == CallsetCounts("CNN_2D") and not counts.filtered and counts.passing(True, True) == 0
