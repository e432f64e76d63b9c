"""Strata and differences against scikit-learn and plain selections; intervals against a plain loop."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from cnnspark.evaluation.bootstrap import LEAST_REPLICATES, _ranked, bootstrap, replicates_for
from cnnspark.evaluation.bootstrap_kernel import drawn_figures
from cnnspark.evaluation.metrics import AlleleScores, metric_pairs
from cnnspark.evaluation.metrics_by_stratum import (
    LEAST_OF_EACH,
    STRATUM_COLUMNS,
    compare,
    format_comparison,
    format_strata,
    is_too_few,
    strata_tsv,
    stratified_metrics,
)
from cnnspark.evaluation.ranking import Ranking
from cnnspark.evaluation.strata import DEPTH, TYPE, Dimension

RARE = Dimension("rare", ("no", "yes"), "few alleles")


def table(n: int = 900, seed: int = 4) -> AlleleScores:
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.4).astype(int)
    depth = rng.integers(-1, 4, n)
    # Score A is better at high depth.
    return AlleleScores(
        contig=rng.choice(["c1", "c2"], n),
        start=rng.integers(0, 4_000_000, n),
        variant_type=rng.choice([0, 2, 3], n, p=[0.8, 0.15, 0.05]),
        label=np.where(rng.random(n) < 0.1, -1, label),
        scores={"A": label * depth + rng.normal(size=n), "B": label + rng.normal(size=n)},
        strata={"depth": depth, "rare": np.arange(n) < 30},
    )


def test_each_stratum_is_measured_on_its_own_alleles() -> None:
    alleles = table()
    strata = stratified_metrics(alleles, [DEPTH, RARE], n_replicates=60)
    json.dumps(strata, allow_nan=False)
    assert list(strata) == ["type", "depth", "rare"]
    assert list(strata["depth"]) == list(DEPTH.strata[:4])  # no allele at 50 and over
    known = alleles.labelled()
    for code, name in enumerate(DEPTH.strata[:4]):
        part = known.select(known.strata["depth"] == code)
        values = strata["depth"][name]["A"]
        assert tuple(values) == STRATUM_COLUMNS and not is_too_few(values)
        assert (values["n"], values["n_true"]) == (len(part), (part.label == 1).sum())
        assert values["auprc"] == pytest.approx(average_precision_score(part.label, part.scores["A"]))
        assert values["auroc"] == pytest.approx(roc_auc_score(part.label, part.scores["A"]))
        assert values["auprc_low"] <= values["auprc"] <= values["auprc_high"]
        assert values["recall_at_precision_0.99_low"] <= values["recall_at_precision_0.99_high"]
    of_types = [by_score["A"]["n"] for by_score in strata["type"].values()]
    assert sum(of_types) == len(known) and set(strata["type"]) <= set(TYPE.strata)


def test_a_stratum_of_too_few_alleles_says_so() -> None:
    strata = stratified_metrics(table(), [RARE], n_replicates=20)
    values = strata["rare"]["yes"]["A"]
    assert is_too_few(values) and min(values["n_true"], values["n_false"]) < LEAST_OF_EACH
    assert values["n"] == values["n_true"] + values["n_false"] > 0
    assert {values[name] for name in STRATUM_COLUMNS[4:]} == {None}
    text = format_strata(strata)
    assert [line.split()[-2:] for line in text.splitlines() if line.startswith("yes ")] == [["too", "few"]] * 2
    rows = [line.split("\t") for line in strata_tsv(strata).splitlines()]
    assert {len(row) for row in rows} == {3 + len(STRATUM_COLUMNS)} and rows[0][:3] == ["dimension", "stratum", "score"]
    assert ["rare", "yes", "A"] in [row[:3] for row in rows]


def test_strata_of_no_allele_are_defined() -> None:
    nothing = table().select(np.zeros(900, bool))
    strata = stratified_metrics(nothing, [DEPTH])
    assert strata == {"type": {}, "depth": {}}
    assert format_strata(strata).count("no labelled allele") == 2
    assert strata_tsv(strata).count("\n") == 1
    compared = compare(nothing, [("A", "B")])
    assert compared["ALL"]["B - A"]["auprc_difference"] is None
    json.dumps(compared, allow_nan=False)
    assert "-" in format_comparison(compared)


def recall_at_99(labels: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(recall[:-1][precision[:-1] >= 0.99].max(initial=0.0))


def test_a_difference_and_its_interval_are_those_of_a_plain_loop() -> None:
    alleles = table(240)
    known = alleles.labelled()
    blocks = known.blocks(40_000)
    numbers = np.unique(blocks)
    rng, differences = np.random.default_rng(3), []
    for _ in range(40):
        drawn = rng.integers(0, len(numbers), len(numbers))
        rows = np.concatenate([np.flatnonzero(blocks == numbers[block]) for block in drawn])
        labels, a, b = known.label[rows], known.scores["A"][rows], known.scores["B"][rows]
        differences.append(
            (
                average_precision_score(labels, b) - average_precision_score(labels, a),
                recall_at_99(labels, b) - recall_at_99(labels, a),
            )
        )
    values = compare(alleles, [("A", "B")], n_replicates=40, seed=3)["ALL"]["B - A"]
    for i, figure in enumerate(("auprc", "recall_at_precision_0.99")):
        low, high = np.percentile([each[i] for each in differences], [2.5, 97.5])
        assert values[f"{figure}_difference_low"] == pytest.approx(low)
        assert values[f"{figure}_difference_high"] == pytest.approx(high)
        of = dict(metric_pairs(known.label, known.scores["A"]))
        assert values[f"{figure}_first"] == of[figure]
        assert values[f"{figure}_difference"] == pytest.approx(values[f"{figure}_second"] - values[f"{figure}_first"])


def test_a_score_against_itself_differs_by_nothing_and_swapped_scores_by_the_opposite() -> None:
    alleles = table()
    alleles.scores["C"] = alleles.scores["A"] * 3 + 1  # the same ranking
    compared = compare(alleles, [("A", "C"), ("A", "B"), ("B", "A")], n_replicates=50)
    for group in ("ALL", "SNP", "INDEL"):
        same, there, back = (compared[group][name] for name in ("C - A", "B - A", "A - B"))
        for figure in ("auprc", "recall_at_precision_0.99"):
            assert [same[f"{figure}_difference{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
            assert there[f"{figure}_difference"] == pytest.approx(-back[f"{figure}_difference"])
            assert there[f"{figure}_difference_low"] == pytest.approx(-back[f"{figure}_difference_high"])
    text = format_comparison(compared)
    assert "+0.000 to +0.000" in text and text.count("B - A") == 3


def test_a_paired_interval_is_narrower_than_two_intervals_apart() -> None:
    alleles = table()
    known = alleles.labelled()
    slightly = {"A": known.scores["A"], "D": known.scores["A"] + np.random.default_rng(0).normal(0, 0.05, len(known))}
    found = bootstrap(known.label, slightly, known.blocks(40_000), [("A", "D")], 100)
    of_difference, alone = found.differences["A", "D"]["auprc"], found.scores["A"]["auprc"]
    assert of_difference.high - of_difference.low < 0.3 * (alone.high - alone.low)


def test_a_draw_in_one_pass_is_that_of_weighted_alleles() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        n = 80
        labels, numbers = rng.integers(0, 2, n), rng.integers(0, 12, n)
        scores = np.where(rng.random(n) < 0.1, np.nan, np.round(labels + rng.normal(size=n), 1))
        drawn = np.bincount(rng.integers(0, 12, 12), minlength=12)
        slow, weights = Ranking(labels, scores), drawn[numbers].astype(float)
        expected = slow.auprc(weights), slow.recall_at_precision(0.8, weights)
        assert drawn_figures(*_ranked(labels, scores, numbers), drawn, 0.8) == pytest.approx(expected)


def test_large_callsets_get_fewer_draws() -> None:
    assert replicates_for(0) == replicates_for(100_000) == 1000
    assert replicates_for(4_000_000) == 500
    assert replicates_for(10**9) == LEAST_REPLICATES
    assert replicates_for(10, 50) == 50
