"""What keeping the alleles above a threshold gives, at a grid of thresholds; and how far probabilities can be believed.

Rows are dictionaries in the order of their columns, ready for JSON and for a TSV.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnspark.common.text_tables import Value, tsv
from cnnspark.evaluation.bootstrap import REPLICATES, replicates_for
from cnnspark.evaluation.calibration import N_BINS, bin_numbers, share_intervals
from cnnspark.evaluation.metrics import BLOCK_BASES, GROUPS, AlleleScores
from cnnspark.variants.alleles import TRUE_VARIANT
from cnnspark.variants.score_fields import probability_of_score

Row = dict[str, str | Value]
# More rows than this nobody reads; log odds are at halves instead.
_GRID_SHARES = np.linspace(0, 1, 41)
_LOG_ODDS_STEP = 0.5


def threshold_grid(scores: np.ndarray, is_log_odds: bool) -> np.ndarray:
    """The thresholds of the table, ascending: of log odds each half between the lowest and the highest score, of other
    scores those of the alleles at 41 even shares. Empty where no allele has a score.
    """
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return finite
    if is_log_odds:
        first, last = np.floor(finite.min() / _LOG_ODDS_STEP), np.floor(finite.max() / _LOG_ODDS_STEP)
        return np.arange(int(first), int(last) + 1) * _LOG_ODDS_STEP
    # A share of the alleles, and so a score that one of them has.
    return np.unique(np.quantile(finite, _GRID_SHARES, method="lower"))


def thresholds_table(alleles: AlleleScores, log_odds: Sequence[str]) -> list[Row]:
    """For each score, group and threshold of the grid: what is kept, and precision, recall and F1.

    Kept is what has a score of at least the threshold. ``precision_balanced`` is the precision where true and false
    alleles were equally many. What would divide by nothing is None.
    """
    known = alleles.labelled()
    rows: list[Row] = []
    for name, all_scores in known.scores.items():
        grid = threshold_grid(all_scores, name in log_odds)
        for group in GROUPS:
            part = known.group(group)
            scores = part.scores[name]
            # A missing score is below each threshold.
            true = np.sort(np.nan_to_num(scores[part.label == 1], nan=-np.inf))
            false = np.sort(np.nan_to_num(scores[part.label == 0], nan=-np.inf))
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
    """For each score that is a log odds, group and bin of probability: mean probability against share of true alleles.

    The share has the interval of draws of blocks of the genome. Bins are equally wide; the last holds 1, too. Alleles
    without a score are left out; an empty bin has None.
    """
    known = alleles.labelled()
    rows: list[Row] = []
    for name in known.scores:
        if name not in log_odds:
            continue
        for group in GROUPS:
            part = known.group(group)
            part = part.select(~np.isnan(part.scores[name]))
            probabilities = probability_of_score(part.scores[name])
            bins = bin_numbers(probabilities, n_bins)
            true = (part.label == TRUE_VARIANT).astype(np.float64)
            count = np.bincount(bins, minlength=n_bins)
            n_true, total = np.bincount(bins, true, n_bins), np.bincount(bins, probabilities, n_bins)
            draws = replicates_for(len(part), n_replicates)
            intervals = share_intervals(bins, true, part.blocks(block_bases), n_bins, draws, seed)
            for k, interval in enumerate(intervals):
                row: Row = {"score": name, "group": group, "from": k / n_bins, "to": (k + 1) / n_bins}
                rows.append(
                    row
                    | {
                        "n": int(count[k]),
                        "n_true": int(n_true[k]),
                        "mean_probability": float(total[k] / count[k]) if count[k] else None,
                        "share_true": float(n_true[k] / count[k]) if count[k] else None,
                        "share_true_low": interval.low if interval else None,
                        "share_true_high": interval.high if interval else None,
                    }
                )
    return rows


def rows_as_tsv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """The rows as a TSV with a header, also where there is none."""
    return tsv(columns, [[row[column] for column in columns] for row in rows])


THRESHOLD_COLUMNS = (
    "score", "group", "threshold", "kept", "kept_share", "kept_true", "kept_false", "precision",
    "precision_balanced", "recall", "f1",
)  # fmt: skip
CALIBRATION_COLUMNS = (
    "score", "group", "from", "to", "n", "n_true", "mean_probability", "share_true", "share_true_low",
    "share_true_high",
)  # fmt: skip
