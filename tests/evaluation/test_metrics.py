"""Metrics against scikit-learn and against definitions written out in plain loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from cnnspark.evaluation.bootstrap import REPLICATES, Interval, bootstrap
from cnnspark.evaluation.metrics import (
    GROUPS,
    PRECISIONS,
    RECALLS,
    AlleleScores,
    auprc,
    auroc,
    best_f1,
    evaluate_scores,
    format_table,
    metric_pairs,
    thresholds_by_precision,
    thresholds_by_sensitivity,
)
from cnnspark.evaluation.ranking import Ranking
from cnnspark.variants.alleles import VariantType
from cnnspark.variants.score_fields import probability_of_score


def bootstrap_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    blocks: np.ndarray,
    baseline: np.ndarray | None = None,
    n_replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval | None:
    """The interval of the AUPRC of one score, or of its gain over ``baseline`` (scores of the same alleles).

    None with fewer than two blocks or with one class.
    """
    if baseline is None:
        found = bootstrap(labels, {"own": scores}, blocks, (), n_replicates, seed).scores.get("own", {})
    else:
        both, pair = {"base": baseline, "own": scores}, ("base", "own")
        found = bootstrap(labels, both, blocks, (pair,), n_replicates, seed).differences.get(pair, {})
    return found.get("auprc")


def example(seed: int, n: int = 200, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < rng.uniform(0.1, 0.9)).astype(int)
    scores = labels * rng.uniform(0, 2) + rng.normal(size=n)
    return labels, np.round(scores, 1) if ties else scores


def points(labels, scores):
    """(threshold, precision, recall) of each score, in plain loops."""
    result = []
    for threshold in sorted(set(scores)):
        kept = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        result.append((threshold, sum(kept) / len(kept), sum(kept) / sum(labels)))
    return result


def table(n: int = 400, seed: int = 0) -> AlleleScores:
    rng = np.random.default_rng(seed)
    labels, scores = example(seed, n, ties=False)
    return AlleleScores(
        contig=rng.choice(["chr1", "chr2"], n),
        start=rng.integers(0, 1_000_000, n),
        variant_type=rng.integers(0, len(VariantType), n),
        label=np.where(rng.random(n) < 0.1, -1, labels),
        scores={"CNN_2D": scores, "QUAL": rng.random(n) * 100},
    )


@pytest.mark.parametrize("seed", range(8))
def test_areas_are_scikit_learn_s(seed):
    labels, scores = example(seed)
    assert auprc(labels, scores) == pytest.approx(average_precision_score(labels, scores))
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    # The definitions, written out: no interpolation, ties count half.
    steps = points(labels, scores)[::-1]
    recalls = [0.0, *(r for _, _, r in steps)]
    assert auprc(labels, scores) == pytest.approx(
        sum((r - before) * p for (_, p, r), before in zip(steps, recalls, strict=False))
    )
    pairs = [(t > f) + 0.5 * (t == f) for t in scores[labels == 1] for f in scores[labels == 0]]
    assert auroc(labels, scores) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("seed", range(8))
def test_thresholds_and_recall_at_precision_are_those_of_a_plain_loop(seed):
    labels, scores = example(seed)
    curve = points(labels, scores)
    values = dict(metric_pairs(labels, scores))
    by_precision = thresholds_by_precision(labels, scores, PRECISIONS)
    for wanted in PRECISIONS:
        good = [point for point in curve if point[1] >= wanted]
        chosen = by_precision[wanted]
        if not good:
            assert chosen is None
        else:
            assert chosen is not None
            assert (chosen.threshold, chosen.precision, chosen.recall) == pytest.approx(min(good))
        assert values[f"recall_at_precision_{wanted:.2f}"] == pytest.approx(max((r for _, _, r in good), default=0.0))
    by_sensitivity = thresholds_by_sensitivity(labels, scores, RECALLS)
    for wanted in RECALLS:
        good = [point for point in curve if point[2] >= wanted]
        chosen = by_sensitivity[wanted]
        assert chosen is not None
        assert (chosen.threshold, chosen.precision, chosen.recall) == pytest.approx(max(good))
        assert values[f"precision_at_recall_{wanted:.2f}"] == pytest.approx(max(p for _, p, _ in good))


@pytest.mark.parametrize("seed", range(8))
def test_best_f1_is_the_best_of_all_thresholds(seed):
    labels, scores = example(seed)
    best = best_f1(labels, scores)
    assert best is not None
    assert best[0] == pytest.approx(max(f1_score(labels, scores >= t) for t in set(scores)))
    assert f1_score(labels, scores >= best[1]) == pytest.approx(best[0])


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([], []), ([1], [0.5]), ([0], [0.5]), ([1, 1, 1], [1, 2, 3]), ([0, 0], [1, 1])],
)
def test_what_is_not_defined_is_none_and_json_has_no_nan(labels, scores):
    labels, scores = np.array(labels, dtype=int), np.array(scores, dtype=float)
    values = dict(metric_pairs(labels, scores, scores / 10))
    json.dumps(values, allow_nan=False)
    undefined = [name for name, value in values.items() if value is None]
    assert {
        "auprc",
        "auprc_balanced",
        "precision_at_recall_0.90_balanced",
        "auroc",
        "f1",
        "f1_threshold",
        "recall_at_precision_0.90",
    } <= set(undefined)
    assert values["n"] == len(labels)
    assert (values["prevalence"] is None) == (len(labels) == 0)
    assert bootstrap_interval(labels, scores, np.arange(len(labels))) is None
    if not labels.any():
        assert set(thresholds_by_precision(labels, scores).values()) == {None}
        assert set(thresholds_by_sensitivity(labels, scores).values()) == {None}


def test_an_unreachable_precision_has_no_threshold_and_no_recall():
    labels, scores = np.array([0, 1, 0, 1]), np.array([4.0, 3.0, 2.0, 1.0])
    assert thresholds_by_precision(labels, scores, [0.5, 0.6])[0.6] is None
    assert dict(metric_pairs(labels, scores))["recall_at_precision_0.70"] == 0.0
    point = thresholds_by_precision(labels, scores, [0.5])[0.5]
    assert point is not None and (point.threshold, point.recall) == (1.0, 1.0)


def test_a_missing_score_ranks_last_and_an_infinite_one_first():
    labels = np.array([1, 1, 0, 0, 1])
    scores = np.array([np.inf, 2.0, 1.0, -np.inf, np.nan])
    assert auprc(labels, scores) == pytest.approx(average_precision_score(labels, [5, 4, 3, 2, 1]))
    point = thresholds_by_sensitivity(labels, scores, [0.6, 1.0])
    assert point[0.6] is not None and point[0.6].threshold == 2.0
    assert point[1.0] is None  # no threshold keeps an allele without a score
    everything_missing = np.full(5, np.nan)
    assert auprc(labels, everything_missing) == pytest.approx(0.6)
    assert best_f1(labels, everything_missing) is None
    json.dumps(dict(metric_pairs(labels, everything_missing)), allow_nan=False)


def test_labels_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="0 or 1"):
        auprc(np.array([1, 0, -1]), np.zeros(3))
    with pytest.raises(ValueError, match="one length"):
        auprc(np.array([1, 0]), np.zeros(3))


def test_the_score_is_turned_back_into_its_probability():
    p, e = np.array([0.0, 1e-6, 0.2, 0.5, 0.999, 1.0]), 1e-7
    scores = np.log((p + e) / (1 - p + e))
    assert probability_of_score(scores) == pytest.approx(p, abs=1e-12)
    assert math.isnan(probability_of_score(np.array([np.nan]))[0])
    assert probability_of_score(np.array([-1e9, 1e9])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("seed", range(5))
def test_weighted_average_precision_is_scikit_learn_s(seed):
    labels, scores = example(seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(labels)).astype(float)
    expected = average_precision_score(labels, scores, sample_weight=weights)
    assert Ranking(labels, scores).auprc(weights) == pytest.approx(expected)
    assert Ranking(labels, scores).auprc(labels.astype(float)) is None


@pytest.mark.parametrize("seed", range(5))
def test_balanced_figures_are_those_of_alleles_repeated_until_the_classes_are_equal(seed):
    labels, scores = example(seed)
    n_true, n_false = int(labels.sum()), int((1 - labels).sum())
    # Each true allele as often as there are false ones, and vice versa.
    times = np.where(labels == 1, n_false, n_true)
    repeated_labels, repeated_scores = np.repeat(labels, times), np.repeat(scores, times)
    values, repeated = (dict(metric_pairs(a, b)) for a, b in ((labels, scores), (repeated_labels, repeated_scores)))
    assert repeated["prevalence"] == 0.5
    assert values["auprc_balanced"] == pytest.approx(repeated["auprc"])
    assert values["auroc"] == pytest.approx(repeated["auroc"])
    for wanted in RECALLS:
        name = f"precision_at_recall_{wanted:.2f}"
        assert values[f"{name}_balanced"] == pytest.approx(repeated[name])
    knows_nothing = dict(metric_pairs(labels, np.zeros(len(labels))))
    assert knows_nothing["auprc"] == pytest.approx(knows_nothing["prevalence"])
    assert knows_nothing["auprc_balanced"] == pytest.approx(0.5)


def test_alleles_of_equal_scores_are_kept_or_dropped_together():
    labels, scores = np.array([1, 1, 0, 1, 0]), np.array([5.0, 3.0, 3.0, 3.0, 1.0])
    values = dict(metric_pairs(labels, scores))
    # The three at 3 are kept together or not at all: precision is 1 of 1, 3 of 4 or 3 of 5.
    assert values["recall_at_precision_0.99"] == pytest.approx(1 / 3)
    assert values["recall_at_precision_0.70"] == 1.0
    assert values["precision_at_recall_0.90"] == pytest.approx(3 / 4)
    assert values["precision_at_recall_0.90_balanced"] == pytest.approx(1 / (1 + 1 / 2))
    missing = np.where(scores == 1, np.nan, scores)
    assert dict(metric_pairs(labels, missing)) | {"f1_threshold": 3.0} == values | {"f1_threshold": 3.0}


def test_the_interval_holds_the_value_is_repeatable_and_is_wider_if_neighbours_agree():
    labels, scores = example(3, 600, ties=False)
    alone = bootstrap_interval(labels, scores, np.arange(600), n_replicates=300)
    again = bootstrap_interval(labels, scores, np.arange(600), n_replicates=300)
    value = auprc(labels, scores)
    assert alone == again and alone is not None and value is not None
    assert alone.low < value < alone.high
    # Each allele ten times in its block: no more information, so the interval by blocks must not be narrower.
    blocks = np.repeat(np.arange(600), 10)
    repeated = bootstrap_interval(np.repeat(labels, 10), np.repeat(scores, 10), blocks, n_replicates=300)
    naive = bootstrap_interval(np.repeat(labels, 10), np.repeat(scores, 10), np.arange(6000), n_replicates=300)
    assert repeated is not None and naive is not None
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low)
    assert naive.high - naive.low < 0.5 * (repeated.high - repeated.low)
    assert bootstrap_interval(labels, scores, np.zeros(600)) is None


def test_the_bootstrap_is_that_of_a_plain_loop_over_resampled_alleles():
    labels, scores = example(5, 120)
    other = example(6, 120)[1]
    blocks = np.arange(120) // 10
    rng, values, gains = np.random.default_rng(9), [], []
    for _ in range(50):
        rows = np.concatenate([np.flatnonzero(blocks == block) for block in rng.integers(0, 12, 12)])
        values.append(average_precision_score(labels[rows], scores[rows]))
        gains.append(values[-1] - average_precision_score(labels[rows], other[rows]))
    interval = bootstrap_interval(labels, scores, blocks, n_replicates=50, seed=9)
    gain = bootstrap_interval(labels, scores, blocks, other, n_replicates=50, seed=9)
    assert interval is not None and gain is not None
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert (gain.low, gain.high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])))


def test_evaluation_takes_known_labels_by_group():
    alleles = table()
    metrics = evaluate_scores(alleles, baseline="QUAL", n_replicates=50)
    json.dumps(metrics, allow_nan=False)
    assert tuple(metrics) == GROUPS
    known = alleles.label >= 0
    indel = np.isin(alleles.variant_type, [VariantType.INSERTION, VariantType.DELETION, VariantType.MIXED])
    for group, wanted in (("ALL", known), ("SNP", known & ~indel), ("INDEL", known & indel)):
        for name in ("CNN_2D", "QUAL"):
            values, labels = metrics[group][name], alleles.label[wanted]
            assert values["n"] == wanted.sum()
            assert values["prevalence"] == pytest.approx(labels.mean())
            assert values["auprc"] == pytest.approx(average_precision_score(labels, alleles.scores[name][wanted]))
            assert values["auprc_low"] <= values["auprc"] <= values["auprc_high"]
        model, qual = metrics[group]["CNN_2D"], metrics[group]["QUAL"]
        assert model["auprc_gain"] == pytest.approx(model["auprc"] - qual["auprc"])
        assert model["auprc_gain_low"] < model["auprc_gain"] < model["auprc_gain_high"]
        assert "brier" in model and "brier" not in qual and "auprc_gain" not in qual


@pytest.mark.parametrize("kept", [[], [0], [0, 1]])
def test_evaluation_of_almost_no_alleles_does_not_crash(kept):
    alleles = table().select(np.array(kept, dtype=int))
    metrics = evaluate_scores(alleles, baseline="QUAL", n_replicates=5)
    json.dumps(metrics, allow_nan=False)
    text = format_table(metrics)
    assert len(text.splitlines()) == 1 + 2 * len(GROUPS)


def test_the_table_shows_scores_side_by_side_with_the_prevalence():
    values = {"n_true": 1234, "n_false": 6, "prevalence": 0.9951, "auprc": 0.5, "auprc_balanced": None}
    lines = format_table({"ALL": {"CNN_2D": values, "QUAL": values}}).splitlines()
    assert lines[0].split()[:7] == ["group", "score", "true", "false", "prevalence", "AUPRC", "AUPRC(1:1)"]
    assert "R@P99%" in lines[0].split()
    assert lines[1].split()[:7] == ["ALL", "CNN_2D", "1,234", "6", "0.995", "0.500", "-"]
    assert lines[2].split()[1] == "QUAL"


def test_blocks_are_stretches_of_one_contig():
    alleles = AlleleScores(["a", "b", "a", "a", "b"], [5, 5, 39_999, 40_000, 41_000], [0] * 5, [1, 0, 1, 0, 1])
    blocks = alleles.blocks(40_000)
    assert blocks.tolist() == [0, 2, 0, 1, 3]
    assert alleles.select(np.zeros(5, bool)).blocks(40_000).tolist() == []


def test_tables_are_joined_and_must_fit():
    alleles = table()
    halves = [alleles.select(np.arange(0, 150)), alleles.select(np.arange(150, 400))]
    joined = AlleleScores.concatenate(halves)
    for name in ("contig", "start", "variant_type", "label"):
        assert (getattr(joined, name) == getattr(alleles, name)).all()
    assert (joined.scores["QUAL"] == alleles.scores["QUAL"]).all()
    assert len(AlleleScores.concatenate([])) == 0
    with pytest.raises(ValueError, match="do not go together"):
        AlleleScores.concatenate([alleles, AlleleScores(["a"], [1], [0], [1])])
    with pytest.raises(ValueError, match="differ in length"):
        AlleleScores(["a"], [1], [0], [1, 0])
    with pytest.raises(ValueError, match="no group"):
        alleles.group("MNV")
