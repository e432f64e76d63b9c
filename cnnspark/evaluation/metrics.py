"""How well a score tells true alleles from false ones; metrics leave as (name, value), by group and by score.

True variants are rare in one callset and the rule in another, and auROC does not show it: the area under the
precision-recall curve (AUPRC) and recall at fixed precision are the figures to judge by, always beside the prevalence,
which is the AUPRC of a score that knows nothing.

AUPRC is the average precision, sum over thresholds of (R_n - R_n-1) P_n without interpolation, as scikit-learn defines
it (linear interpolation between points is too optimistic: Davis and Goadrich 2006, doi:10.1145/1143844.1143874).
AUROC is the probability that a true allele scores higher than a false one, ties counting half. A value that is not
defined (no allele, one class only) is None, never NaN.

A precision depends on how many false alleles a caller lets through: the same score on a more permissive callset has a
lower one. ``..._balanced`` are the same figures with true and false alleles weighted to count the same in sum
(prevalence .5), so that callsets can be compared; what a user of this callset gets are the unbalanced ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnspark.common.text_tables import Value, format_rows
from cnnspark.evaluation.bootstrap import FIGURES, bootstrap, replicates_for
from cnnspark.evaluation.calibration import calibration_figures
from cnnspark.evaluation.ranking import Ranking, balancing_weights, two_classes
from cnnspark.variants.alleles import TRUE_VARIANT, UNKNOWN, VariantType
from cnnspark.variants.score_fields import probability_of_score

PRECISIONS = (0.70, 0.80, 0.90, 0.95, 0.99)
RECALLS = (0.90, 0.95, 0.99)
GROUPS = ("ALL", "SNP", "INDEL")
# A stretch of the genome whose alleles are drawn together: longer than a read pair and than most repeats.
BLOCK_BASES = 40_000

# group -> score -> metric -> value; ready for JSON.
Metrics = dict[str, dict[str, dict[str, Value]]]


@dataclass
class AlleleScores:
    """What evaluation collects of n alleles: where, of which kind, true or not, and their scores by name.

    A score that is missing (NaN) ranks below all others: a filter that has no score for an allele cannot pass it.
    """

    contig: np.ndarray  # (n,) str
    start: np.ndarray  # (n,) int64, POS-1
    variant_type: np.ndarray  # (n,) int8, cnnspark.variants.alleles.VariantType
    label: np.ndarray  # (n,) int8: 1 true, 0 false, -1 unknown
    scores: dict[str, np.ndarray] = field(default_factory=dict)  # each (n,) float64, higher is better
    cause: np.ndarray = field(default_factory=lambda: np.empty(0, np.str_))  # (n,) str, why it is there, "" unknown
    # Dimension -> (n,) int8, the number of the allele's stratum (cnnspark.evaluation.strata), -1 where it is in none.
    strata: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.contig = np.asarray(self.contig, dtype=np.str_)
        self.start = np.asarray(self.start, dtype=np.int64)
        self.variant_type = np.asarray(self.variant_type, dtype=np.int8)
        self.label = np.asarray(self.label, dtype=np.int8)
        self.scores = {name: np.asarray(values, dtype=np.float64) for name, values in self.scores.items()}
        self.cause = np.asarray(self.cause, np.str_) if len(self.cause) else np.full(len(self.label), "")
        self.strata = {name: np.asarray(codes, np.int8) for name, codes in self.strata.items()}
        columns = (self.contig, self.start, self.variant_type, self.label, self.cause)
        lengths = {len(a) for a in (*columns, *self.scores.values(), *self.strata.values())}
        if len(lengths) > 1:
            raise ValueError(f"the columns of AlleleScores differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.label)

    def select(self, wanted: np.ndarray) -> AlleleScores:
        """The alleles that a mask or index names."""
        return AlleleScores(
            self.contig[wanted],
            self.start[wanted],
            self.variant_type[wanted],
            self.label[wanted],
            {name: values[wanted] for name, values in self.scores.items()},
            self.cause[wanted],
            {name: codes[wanted] for name, codes in self.strata.items()},
        )

    def labelled(self) -> AlleleScores:
        """Those whose label is known: only they are scored."""
        return self.select(self.label != UNKNOWN)

    def group(self, name: str) -> AlleleScores:
        """The alleles of ``ALL``, ``SNP`` (SNV, MNV) or ``INDEL``."""
        if name == "ALL":
            return self
        types = [int(t) for t in VariantType if t.group == name]
        if not types:
            raise ValueError(f"'{name}' is no group of alleles; there are {', '.join(GROUPS)}")
        return self.select(np.isin(self.variant_type, types))

    def blocks(self, block_bases: int) -> np.ndarray:
        """The number of each allele's stretch of the genome, int64 (n,): 0, 1, ... by contig and position."""
        contigs = np.unique(self.contig, return_inverse=True)[1].reshape(-1)
        stretches = self.start // block_bases
        pairs = np.stack([contigs, stretches], axis=1)  # (n, 2)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)

    @staticmethod
    def concatenate(parts: Sequence[AlleleScores]) -> AlleleScores:
        """One table from several with the same scores and strata. Raises ValueError where their names differ."""
        if not parts:
            return AlleleScores(np.empty(0, np.str_), np.empty(0), np.empty(0), np.empty(0))
        names, dimensions = list(parts[0].scores), list(parts[0].strata)
        for part in parts:
            if set(part.scores) != set(names):
                raise ValueError(f"tables with scores {sorted(names)} and {sorted(part.scores)} do not go together")
            if set(part.strata) != set(dimensions):
                raise ValueError(f"tables by {sorted(dimensions)} and by {sorted(part.strata)} do not go together")
        return AlleleScores(
            np.concatenate([p.contig for p in parts]),
            np.concatenate([p.start for p in parts]),
            np.concatenate([p.variant_type for p in parts]),
            np.concatenate([p.label for p in parts]),
            {name: np.concatenate([p.scores[name] for p in parts]) for name in names},
            np.concatenate([p.cause for p in parts]),
            {name: np.concatenate([p.strata[name] for p in parts]) for name in dimensions},
        )


def auprc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Average precision (module docstring); None without both classes."""
    return Ranking(labels, scores).auprc()


def auroc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve; None without both classes. Weights of the classes do not change it."""
    return Ranking(labels, scores).auroc()


@dataclass(frozen=True)
class OperatingPoint:
    """What keeping the alleles with score >= ``threshold`` gives."""

    threshold: float
    precision: float
    recall: float


def _point(curve: tuple[np.ndarray, np.ndarray, np.ndarray], found: np.ndarray) -> OperatingPoint | None:
    """The point whose number, if any, is ``found``."""
    precision, recall, thresholds = (column[found] for column in curve)
    return OperatingPoint(float(thresholds[0]), float(precision[0]), float(recall[0])) if len(found) else None


def thresholds_by_precision(
    labels: np.ndarray, scores: np.ndarray, precisions: Sequence[float] = PRECISIONS
) -> dict[float, OperatingPoint | None]:
    """By wanted precision: the lowest threshold that reaches it (so with the most recall), None where none does."""
    curve = Ranking(labels, scores).operating_points()
    return {wanted: _point(curve, np.flatnonzero(curve[0] >= wanted)[-1:]) for wanted in precisions}


def thresholds_by_sensitivity(
    labels: np.ndarray, scores: np.ndarray, sensitivities: Sequence[float] = RECALLS
) -> dict[float, OperatingPoint | None]:
    """By wanted recall: the highest threshold that keeps it, None where there is no true allele (with a score)."""
    curve = Ranking(labels, scores).operating_points()
    return {wanted: _point(curve, np.flatnonzero(curve[1] >= wanted)[:1]) for wanted in sensitivities}


def best_f1(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float] | None:
    """The highest F1 = 2PR / (P + R) and its threshold (the highest, where several tie)."""
    precision, recall, thresholds = Ranking(labels, scores).operating_points()
    if not len(thresholds):
        return None
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    i = int(np.argmax(f1))
    return float(f1[i]), float(thresholds[i])


def metric_pairs(
    labels: np.ndarray, scores: np.ndarray, probabilities: np.ndarray | None = None
) -> list[tuple[str, Value]]:
    """All metrics of one score on one group of alleles (labels 0 or 1), as (name, value).

    ``recall_at_precision_P`` is the most recall of any threshold with at least that precision, 0 where no threshold
    has it; ``precision_at_recall_R`` likewise the other way round. A threshold is a score that an allele has: alleles
    with equal scores are kept or left together, those without a score are never kept.
    """
    labels = np.asarray(labels)
    n_true = int((labels == TRUE_VARIANT).sum())
    ranking, weights = Ranking(labels, scores), balancing_weights(labels)
    pairs: list[tuple[str, Value]] = [
        ("n", len(labels)),
        ("n_true", n_true),
        ("n_false", len(labels) - n_true),
        ("prevalence", n_true / len(labels) if len(labels) else None),
        ("auprc", ranking.auprc()),
        ("auprc_balanced", ranking.auprc(weights)),
        ("auroc", ranking.auroc()),
    ]
    for wanted in PRECISIONS:
        pairs.append((f"recall_at_precision_{wanted:.2f}", ranking.recall_at_precision(wanted)))
    for wanted in RECALLS:
        name = f"precision_at_recall_{wanted:.2f}"
        pairs.append((name, ranking.precision_at_recall(wanted)))
        pairs.append((f"{name}_balanced", ranking.precision_at_recall(wanted, weights)))
    best = best_f1(labels, scores) if two_classes(labels) else None
    pairs += [("f1", best[0] if best else None), ("f1_threshold", best[1] if best else None)]
    if probabilities is not None:
        brier, error = calibration_figures(labels, probabilities)
        pairs += [("brier", brier), ("calibration_error", error)]
    return pairs


def evaluate_scores(
    alleles: AlleleScores,
    baseline: str | None = None,
    log_odds: Sequence[str] = ("CNN_1D", "CNN_2D"),
    block_bases: int = BLOCK_BASES,
    n_replicates: int = 1000,
    seed: int = 0,
) -> Metrics:
    """All metrics by group and score, of the alleles whose label is known; a plain dictionary, ready for JSON.

    Each score also has the bootstrap intervals of its AUPRC (``auprc_low``, ``auprc_high``) and of its recall at
    precision .99; where ``baseline`` names one of the scores, the others have their gain over it (``auprc_gain``,
    ``auprc_gain_low``, ``auprc_gain_high``), from the same draws of blocks. Scores in ``log_odds`` are probabilities in
    disguise and have calibration as well.
    """
    known = alleles.labelled()
    result: Metrics = {}
    for group in GROUPS:
        part = known.group(group)
        pairs = [(baseline, name) for name in part.scores if name != baseline] if baseline in part.scores else []
        draws = replicates_for(len(part), n_replicates)
        found = bootstrap(part.label, part.scores, part.blocks(block_bases), pairs, draws, seed)
        result[group] = {}
        for name, scores in part.scores.items():
            values = dict(metric_pairs(part.label, scores, probability_of_score(scores) if name in log_odds else None))
            intervals = found.scores.get(name, {})
            for figure in FIGURES:
                interval = intervals.get(figure)
                values[f"{figure}_low"] = interval.low if interval else None
                values[f"{figure}_high"] = interval.high if interval else None
            if (baseline, name) in pairs:
                base, own = auprc(part.label, part.scores[str(baseline)]), values["auprc"]
                gain = found.differences.get((str(baseline), name), {}).get("auprc")
                values["auprc_gain"] = own - base if own is not None and base is not None else None
                values["auprc_gain_low"] = gain.low if gain else None
                values["auprc_gain_high"] = gain.high if gain else None
            result[group][name] = values
    return result


# Columns of the text table: heading -> metric.
TABLE_COLUMNS: Mapping[str, str] = {
    "AUPRC": "auprc",
    "AUPRC(1:1)": "auprc_balanced",
    "AUROC": "auroc",
    **{f"R@P{wanted:.0%}": f"recall_at_precision_{wanted:.2f}" for wanted in PRECISIONS},
    "F1": "f1",
}


def format_table(metrics: Metrics, columns: Mapping[str, str] = TABLE_COLUMNS) -> str:
    """A plain-text table: a row per group and score, with the counts and the prevalence before the metrics."""
    rows: list[list[str | Value]] = [["group", "score", "true", "false", "prevalence", *columns]]
    for group, by_score in metrics.items():
        for name, values in by_score.items():
            cells = (values.get(m) for m in ("n_true", "n_false", "prevalence", *columns.values()))
            rows.append([group, name, *cells])
    return format_rows(rows, n_left=2)
