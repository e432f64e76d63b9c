"""How well a score tells true alleles from false ones; metrics leave as (name, value), by group and by score.

True variants are rare in one callset and the rule in another, and AUROC does not show it. Judge by the area under the
precision-recall curve (AUPRC) and by recall at fixed precision, always beside the prevalence, which is the AUPRC of a
score that knows nothing.

AUPRC is the average precision: the sum over thresholds of (R_n - R_n-1) P_n without interpolation, as scikit-learn
defines it (linear interpolation between points is too optimistic: Davis and Goadrich 2006,
doi:10.1145/1143844.1143874). AUROC is the probability that a true allele scores higher than a false one; ties count
half. A value that is not defined (no allele, one class only) is None, never NaN.

Precision depends on how many false alleles a caller lets through: the same score has a lower precision on a more
permissive callset. ``..._balanced`` are the same figures with both classes weighted to the same sum (prevalence .5), so
that callsets can be compared; the unbalanced figures are what a user of this callset gets.
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
    """A table of n alleles: position, type, label, and scores by name.

    A missing score (NaN) ranks below all others: a filter cannot pass an allele that it has no score for.

    Attributes:
        contig: (n,) str.
        start: int64 (n,), POS - 1.
        variant_type: int8 (n,), :class:`cnnspark.variants.alleles.VariantType`.
        label: int8 (n,), 1 true, 0 false, -1 unknown.
        scores: By name, float64 (n,) each; higher is better.
        cause: (n,) str, the mechanism that made a false allele; empty if unknown.
        strata: By dimension, int8 (n,), the number of the allele's stratum (:mod:`cnnspark.evaluation.strata`); -1 if
            it is in none.

    Raises:
        ValueError: If the columns differ in length.
    """

    contig: np.ndarray
    start: np.ndarray
    variant_type: np.ndarray
    label: np.ndarray
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    cause: np.ndarray = field(default_factory=lambda: np.empty(0, np.str_))
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
        """The alleles that ``wanted`` chooses: a mask, bool (n,), or row numbers, int64 (k,)."""
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
        """The alleles whose label is known; all figures are of these."""
        return self.select(self.label != UNKNOWN)

    def group(self, name: str) -> AlleleScores:
        """The alleles of ``ALL``, ``SNP`` (SNV, MNV) or ``INDEL``.

        Raises:
            ValueError: If the name is another one.
        """
        if name == "ALL":
            return self
        types = [int(t) for t in VariantType if t.group == name]
        if not types:
            raise ValueError(f"'{name}' is no group of alleles; there are {', '.join(GROUPS)}")
        return self.select(np.isin(self.variant_type, types))

    def blocks(self, block_bases: int) -> np.ndarray:
        """The number of each allele's block: stretches of ``block_bases`` bases, counted by contig and position.

        Returns:
            int64 (n,), from 0 without gaps: blocks without an allele have no number.
        """
        contigs = np.unique(self.contig, return_inverse=True)[1].reshape(-1)
        stretches = self.start // block_bases
        pairs = np.stack([contigs, stretches], axis=1)  # (n, 2)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)

    @staticmethod
    def concatenate(parts: Sequence[AlleleScores]) -> AlleleScores:
        """One table from several with the same scores and dimensions.

        Raises:
            ValueError: If the names of scores or dimensions differ.
        """
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
    """Average precision, as the module's docstring defines it; None without both classes.

    Args:
        labels: (n,), 1 for true alleles and 0 for false ones.
        scores: float64 (n,), higher is better; NaN ranks lowest.
    """
    return Ranking(labels, scores).auprc()


def auroc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve; None without both classes. Arguments as for :func:`auprc`."""
    return Ranking(labels, scores).auroc()


@dataclass(frozen=True)
class OperatingPoint:
    """Precision and recall of keeping the alleles with score >= ``threshold``."""

    threshold: float
    precision: float
    recall: float


def _point(curve: tuple[np.ndarray, np.ndarray, np.ndarray], found: np.ndarray) -> OperatingPoint | None:
    """The point of the curve with the number in ``found``; None if ``found`` is empty."""
    precision, recall, thresholds = (column[found] for column in curve)
    return OperatingPoint(float(thresholds[0]), float(precision[0]), float(recall[0])) if len(found) else None


def thresholds_by_precision(
    labels: np.ndarray, scores: np.ndarray, precisions: Sequence[float] = PRECISIONS
) -> dict[float, OperatingPoint | None]:
    """For each precision the lowest threshold that reaches it, which has the most recall; None if none reaches it.

    Arguments as for :func:`auprc`.
    """
    curve = Ranking(labels, scores).operating_points()
    return {wanted: _point(curve, np.flatnonzero(curve[0] >= wanted)[-1:]) for wanted in precisions}


def thresholds_by_sensitivity(
    labels: np.ndarray, scores: np.ndarray, sensitivities: Sequence[float] = RECALLS
) -> dict[float, OperatingPoint | None]:
    """For each recall the highest threshold that reaches it; None if no threshold does.

    That is the case without true alleles, and if too many of them have no score. Arguments as for :func:`auprc`.
    """
    curve = Ranking(labels, scores).operating_points()
    return {wanted: _point(curve, np.flatnonzero(curve[1] >= wanted)[:1]) for wanted in sensitivities}


def best_f1(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float] | None:
    """The highest F1 = 2PR / (P + R) and its threshold, the highest of several; None without true alleles or scores.

    Arguments as for :func:`auprc`.
    """
    precision, recall, thresholds = Ranking(labels, scores).operating_points()
    if not len(thresholds):
        return None
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    i = int(np.argmax(f1))
    return float(f1[i]), float(thresholds[i])


def metric_pairs(
    labels: np.ndarray, scores: np.ndarray, probabilities: np.ndarray | None = None
) -> list[tuple[str, Value]]:
    """All metrics of one score on one group of alleles.

    ``recall_at_precision_P`` is the most recall of any threshold with at least that precision, 0 if no threshold has
    it; ``precision_at_recall_R`` is the reverse. A threshold is a score that an allele has: alleles with equal scores
    are kept or dropped together, those without a score are never kept.

    Args:
        labels: (n,), 1 for true alleles and 0 for false ones.
        scores: float64 (n,), higher is better; NaN ranks lowest.
        probabilities: float64 (n,), for the calibration; None leaves it out.

    Returns:
        Pairs of name and value, always in the same order; None for a value that is not defined.

    Raises:
        ValueError: If a label is neither 0 nor 1, or the arrays differ in length.
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
    """All metrics of each score by group, from the alleles whose label is known.

    Each score also has the bootstrap intervals of its AUPRC (``auprc_low``, ``auprc_high``) and of its recall at
    precision .99.

    Args:
        alleles: Those without a known label are left out.
        baseline: A score's name; the others get their gain over it, ``auprc_gain``, with an interval from the same
            draws. A name that is not there changes nothing.
        log_odds: The scores that are log odds; these also get a calibration.
        block_bases: How long the blocks of the genome are.
        n_replicates: How many times blocks are drawn; fewer for millions of alleles.
        seed: The same seed gives the same intervals.

    Returns:
        group -> score -> metric -> value, ready for JSON.
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
    """A plain-text table: a row per group and score; counts and prevalence, then the metrics in ``columns``."""
    rows: list[list[str | Value]] = [["group", "score", "true", "false", "prevalence", *columns]]
    for group, by_score in metrics.items():
        for name, values in by_score.items():
            cells = (values.get(m) for m in ("n_true", "n_false", "prevalence", *columns.values()))
            rows.append([group, name, *cells])
    return format_rows(rows, n_left=2)
