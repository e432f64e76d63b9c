"""Tables of thresholds and of calibration, against scikit-learn and plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, precision_score, recall_score

from cnnspark.evaluation.metrics import AlleleScores
from cnnspark.evaluation.threshold_tables import (
    CALIBRATION_COLUMNS,
    THRESHOLD_COLUMNS,
    calibration_table,
    rows_as_tsv,
    threshold_grid,
    thresholds_table,
)
from cnnspark.variants.score_fields import probability_of_score


def table(n: int = 300, seed: int = 1) -> AlleleScores:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    logits = np.round(rng.normal(0, 2, n) + 2 * label - 1, 3)
    return AlleleScores(
        contig=np.full(n, "c1"),
        start=rng.integers(0, 1_000_000, n),
        variant_type=rng.integers(0, 4, n),
        label=np.where(rng.random(n) < 0.1, -1, label),
        scores={"CNN_2D": np.where(rng.random(n) < 0.05, np.nan, logits), "QUAL": rng.random(n).round(2) * 100},
    )


def test_each_row_is_scikit_learn_s_of_what_is_kept() -> None:
    alleles = table()
    rows = thresholds_table(alleles, ["CNN_2D"])
    assert {row["group"] for row in rows} == {"ALL", "SNP", "INDEL"}
    for row in rows:
        part = alleles.labelled().group(str(row["group"]))
        kept = part.scores[str(row["score"])] >= float(row["threshold"] or 0)  # NaN is never kept
        label = part.label
        assert (row["kept"], row["kept_true"]) == (kept.sum(), (kept & (label == 1)).sum())
        assert row["kept_share"] == pytest.approx(kept.mean())
        assert row["recall"] == pytest.approx(recall_score(label, kept))
        if not kept.any():
            assert row["precision"] is None and row["f1"] is None and row["precision_balanced"] is None
            continue
        assert row["precision"] == pytest.approx(precision_score(label, kept))
        assert row["f1"] == pytest.approx(f1_score(label, kept))
        weights = np.where(label == 1, 1 / (label == 1).sum(), 1 / (label == 0).sum())
        balanced = precision_score(label, kept, sample_weight=weights)
        assert row["precision_balanced"] == pytest.approx(balanced)
    lines = rows_as_tsv(rows, THRESHOLD_COLUMNS).splitlines()
    assert lines[0].split("\t") == list(THRESHOLD_COLUMNS) == list(rows[0])
    assert len(lines) == 1 + len(rows) and all(line.count("\t") == lines[0].count("\t") for line in lines)


def test_the_grid_covers_the_scores() -> None:
    assert threshold_grid(np.array([-1.3, 0.2, np.nan]), True).tolist() == [-1.5, -1.0, -0.5, 0.0]
    assert threshold_grid(np.array([2.0, 2.0]), True).tolist() == [2.0]
    values = np.arange(1000.0)
    grid = threshold_grid(values, False)
    assert len(grid) == 41 and grid[0] == 0 and grid[-1] == 999 and np.isin(grid, values).all()
    assert threshold_grid(np.array([3.0, np.inf]), False).tolist() == [3.0]
    assert not len(threshold_grid(np.array([np.nan]), True))


def test_calibration_is_scikit_learn_s_curve() -> None:
    alleles = table(600)
    rows = [row for row in calibration_table(alleles, ["CNN_2D"], n_replicates=50) if row["group"] == "ALL"]
    known = alleles.labelled()
    scored = known.select(~np.isnan(known.scores["CNN_2D"]))
    p = probability_of_score(scored.scores["CNN_2D"])
    true, mean = calibration_curve(scored.label, p, n_bins=10)
    filled = [row for row in rows if row["n"]]
    assert sum(int(row["n"] or 0) for row in rows) == len(scored)
    assert [row["share_true"] for row in filled] == pytest.approx(list(true))
    assert [row["mean_probability"] for row in filled] == pytest.approx(list(mean))
    assert all(row["share_true_low"] <= row["share_true"] <= row["share_true_high"] for row in filled)
    assert (rows[0]["from"], rows[-1]["to"]) == (0.0, 1.0)
    assert rows_as_tsv(rows, CALIBRATION_COLUMNS).count("\n") == 11
    assert calibration_table(alleles, []) == []  # QUAL is no probability


@pytest.mark.parametrize("kept", [[], [0], [0, 1]])
def test_tables_of_almost_no_alleles_are_defined(kept: list[int]) -> None:
    alleles = table().select(np.array(kept, int))
    for rows in (thresholds_table(alleles, ["CNN_2D"]), calibration_table(alleles, ["CNN_2D"], n_replicates=3)):
        json.dumps(rows, allow_nan=False)
    assert rows_as_tsv([], THRESHOLD_COLUMNS).count("\n") == 1
