"""What is drawn against the truth equals scikit-learn's figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from cnnspark.evaluation.curves import MAX_POINTS, Curves, draw_curves
from cnnspark.evaluation.metrics import AlleleScores


def example(n: int = 250) -> AlleleScores:
    rng = np.random.default_rng(6)
    label = rng.integers(-1, 2, n)
    scores = {"CNN_2D": label * 2.0 + rng.normal(size=n), "QUAL": rng.normal(size=n)}
    return AlleleScores(np.full(n, "chr1"), rng.integers(0, 10**6, n), rng.integers(0, 5, n), label, scores)


def test_areas_under_the_curves_are_scikit_learns() -> None:
    alleles = example()
    curves = draw_curves(alleles)
    for group in ("ALL", "SNP", "INDEL"):
        known = alleles.labelled().group(group)
        for name, values in known.scores.items():
            of = curves.groups[group][name]
            # There are so few alleles that every threshold is drawn. Recall falls along the curve.
            steps = -np.diff(of.recall) * np.array(of.precision[:-1])
            assert steps.sum() == pytest.approx(average_precision_score(known.label, values), abs=1e-3)
            assert auc(of.false_kept, of.true_kept) == pytest.approx(roc_auc_score(known.label, values), abs=1e-3)
        assert curves.prevalence[group] == pytest.approx(known.label.mean())


def test_marks_are_thresholds_that_keep_what_they_say() -> None:
    alleles = example(5_000)
    known = alleles.labelled()
    marks = draw_curves(alleles).groups["ALL"]["CNN_2D"].marks
    assert [mark.precision_wanted for mark in marks] == [0.90, 0.99]
    for mark in marks:
        kept = known.scores["CNN_2D"] >= mark.threshold
        assert mark.precision == pytest.approx(known.label[kept].mean()) and mark.precision >= mark.precision_wanted
        assert mark.recall == pytest.approx(kept[known.label == 1].mean())
        assert mark.false_kept == pytest.approx(kept[known.label == 0].mean())


def test_a_curve_of_many_alleles_is_a_few_hundred_points() -> None:
    of = draw_curves(example(20_000)).groups["ALL"]["CNN_2D"]
    assert len(of.recall) == len(of.precision) <= MAX_POINTS and len(of.true_kept) <= MAX_POINTS
    assert of.recall[0] == 1 and of.recall[-1] == 0 and of.true_kept[-1] == 1


def test_histograms_hold_every_labelled_allele_with_a_score() -> None:
    alleles = example()
    alleles.scores["CNN_2D"][::7] = np.nan
    known = alleles.labelled()
    histogram = draw_curves(alleles).histograms["CNN_2D"]
    seen = np.isfinite(known.scores["CNN_2D"])
    assert sum(histogram.true) == (seen & (known.label == 1)).sum()
    assert sum(histogram.false) == (seen & (known.label == 0)).sum()
    assert histogram.median_true == pytest.approx(np.median(known.scores["CNN_2D"][seen & (known.label == 1)]))


def test_curves_come_back_from_json() -> None:
    curves = draw_curves(example(), ["chr1:1-1000"])
    assert Curves.from_json(json.loads(json.dumps(curves.to_json(), allow_nan=False))) == curves


@pytest.mark.parametrize("label", [0, 1, -1])
def test_one_class_has_histograms_and_no_curves(label: int) -> None:
    alleles = example(50)
    alleles.label[:] = label
    curves = draw_curves(alleles)
    assert not curves.groups and not curves.prevalence
    assert (curves.n_true, curves.n_false) == (50 * (label == 1), 50 * (label == 0))
    assert bool(curves.histograms) == (label != -1)


def test_missing_and_infinite_scores_are_handled() -> None:
    alleles = example(100)
    alleles.scores["QUAL"][:] = np.nan
    alleles.scores["CNN_2D"][:3] = (np.inf, -np.inf, np.nan)
    curves = draw_curves(alleles)
    assert "QUAL" not in curves.histograms and curves.groups["ALL"]["QUAL"].marks == ()
    assert json.dumps(curves.to_json(), allow_nan=False)
