"""Two tables of an evaluation: precision and recall at a grid of thresholds, and calibration in bins of probability.

Rows are dictionaries in the order of their columns, ready for JSON and for a TSV.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cnnspark.common.text_tables import Value, tsv
from cnnspark.evaluation.bootstrap import REPLICATES, replicates_for
from cnnspark.evaluation.calibration import N_BINS, bin_numbers, share_intervals
from cnnspark.evaluation.metrics import BLOCK_BASES, GROUPS, AlleleScores
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT
from cnnspark.variants.score_fields import probability_of_score

Row = dict[str, str | Value]
THRESHOLD_COLUMNS = (
    "score", "group", "threshold", "kept", "kept_share", "kept_true", "kept_false", "precision",
    "precision_balanced", "recall", "f1",
)  # fmt: skip
CALIBRATION_COLUMNS = (
    "score", "group", "from", "to", "n", "n_true", "mean_probability", "share_true", "share_true_low",
    "share_true_high",
)  # fmt: skip
# Nobody reads more rows than this; log odds have a row at each half instead.
_GRID_SHARES = np.linspace(0, 1, 41)
_LOG_ODDS_STEP = 0.5


def threshold_grid(scores: np.ndarray, is_log_odds: bool) -> np.ndarray:
    """The thresholds of the table, ascending.

    Args:
        scores: float64 (n,); NaN if missing.
        is_log_odds: If so, each half between the lowest and the highest score; else the scores of the alleles at 41
            even shares.

    Returns:
        float64 (thresholds,); empty if no allele has a score.
    """
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return finite
    if is_log_odds:
        first, last = np.floor(finite.min() / _LOG_ODDS_STEP), np.floor(finite.max() / _LOG_ODDS_STEP)
        return np.arange(int(first), int(last) + 1) * _LOG_ODDS_STEP
    # A quantile of the "lower" kind is a score that one of the alleles has.
    return np.unique(np.quantile(finite, _GRID_SHARES, method="lower"))


def thresholds_table(alleles: AlleleScores, log_odds: Sequence[str]) -> list[Row]:
    """For each score, group and threshold: how many alleles are kept, and precision, recall and F1.

    Alleles with a score of at least the threshold are kept. ``precision_balanced`` is the precision as if there were as
    many true as false alleles. Ratios over 0 are None.

    Args:
        alleles: Those without a known label are left out.
        log_odds: The scores that are log odds; they have another grid (:func:`threshold_grid`).

    Returns:
        Rows with THRESHOLD_COLUMNS.
    """
    known = alleles.labelled()
    rows: list[Row] = []
    for name, all_scores in known.scores.items():
        grid = threshold_grid(all_scores, name in log_odds)
        for group in GROUPS:
            part = known.group(group)
            scores = part.scores[name]
            # A missing score is below each threshold.
            true = np.sort(np.nan_to_num(scores[part.label == TRUE_VARIANT], nan=-np.inf))
            false = np.sort(np.nan_to_num(scores[part.label == FALSE_VARIANT], nan=-np.inf))
            for threshold in grid:
                kept_true = len(true) - int(np.searchsorted(true, threshold))
                kept_false = len(false) - int(np.searchsorted(false, threshold))
                row: Row = {"score": name, "group": group, "threshold": float(threshold)}
                rows.append(row | _figures(kept_true, kept_false, len(true), len(false)))
    return rows


def _figures(kept_true: int, kept_false: int, n_true: int, n_false: int) -> Row:
    kept = kept_true + kept_false
    precision = kept_true / kept if kept else None
    recall = kept_true / n_true if n_true else None
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    false_share = kept_false / n_false if n_false else None
    balanced = None
    if recall is not None and false_share is not None and recall + false_share:
        balanced = recall / (recall + false_share)
    return {
        "kept": kept,
        "kept_share": kept / (n_true + n_false) if n_true + n_false else None,
        "kept_true": kept_true,
        "kept_false": kept_false,
        "precision": precision,
        "precision_balanced": balanced,
        "recall": recall,
        "f1": f1,
    }


def calibration_table(
    alleles: AlleleScores,
    log_odds: Sequence[str],
    n_bins: int = N_BINS,
    block_bases: int = BLOCK_BASES,
    n_replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Row]:
    """For each score of log odds, group and bin of probability: mean probability against the share of true alleles.

    The share's interval is by blocks (:mod:`cnnspark.evaluation.calibration`). Alleles without a score are left out.

    Args:
        alleles: Those without a known label are left out.
        log_odds: The scores that are log odds; the others have no rows.
        n_bins: How many bins, equally wide.
        block_bases: How long the blocks of the genome are.
        n_replicates: How many times blocks are drawn; fewer for millions of alleles.
        seed: The same seed gives the same intervals.

    Returns:
        Rows with CALIBRATION_COLUMNS; an empty bin has None for what is not defined.
    """
    known = alleles.labelled()
    rows: list[Row] = []
    for name in known.scores:
        if name not in log_odds:
            continue
        for group in GROUPS:
            part = known.group(group)
            part = part.select(~np.isnan(part.scores[name]))
            draws = replicates_for(len(part), n_replicates)
            bins = _calibration_bins(part, name, n_bins, block_bases, draws, seed)
            rows += [{"score": name, "group": group, **of_bin} for of_bin in bins]
    return rows


def _calibration_bins(
    part: AlleleScores, name: str, n_bins: int, block_bases: int, n_replicates: int, seed: int
) -> Iterator[Row]:
    """The bins of one score, which all alleles of ``part`` have."""
    probabilities = probability_of_score(part.scores[name])
    bins = bin_numbers(probabilities, n_bins)
    true = (part.label == TRUE_VARIANT).astype(np.float64)
    count = np.bincount(bins, minlength=n_bins)
    n_true, total = np.bincount(bins, true, n_bins), np.bincount(bins, probabilities, n_bins)
    intervals = share_intervals(bins, true, part.blocks(block_bases), n_bins, n_replicates, seed)
    for k, interval in enumerate(intervals):
        yield {
            "from": k / n_bins,
            "to": (k + 1) / n_bins,
            "n": int(count[k]),
            "n_true": int(n_true[k]),
            "mean_probability": float(total[k] / count[k]) if count[k] else None,
            "share_true": float(n_true[k] / count[k]) if count[k] else None,
            "share_true_low": interval.low if interval else None,
            "share_true_high": interval.high if interval else None,
        }


def rows_as_tsv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """The rows as a TSV; its header stands there also without rows."""
    return tsv(columns, [[row[column] for column in columns] for row in rows])
