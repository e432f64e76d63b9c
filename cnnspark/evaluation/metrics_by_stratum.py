"""Scores measured stratum by stratum, and against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnspark.common.text_tables import Value, format_interval, format_rows, tsv
from cnnspark.evaluation.bootstrap import FIGURES, REPLICATES, Interval, bootstrap, replicates_for
from cnnspark.evaluation.metrics import BLOCK_BASES, GROUPS, AlleleScores, Metrics, metric_pairs
from cnnspark.evaluation.strata import TYPE, Dimension

# dimension -> stratum -> score -> metric -> value; ready for JSON.
StrataMetrics = dict[str, Metrics]
# In each class: with fewer alleles, one more or less moves the AUPRC by several points, and intervals are too narrow.
LEAST_OF_EACH = 20
_COUNTS = ("n", "n_true", "n_false", "prevalence")
_MEASURED = ("auprc", "auprc_balanced", "auroc", FIGURES[1])
_INTERVALS = tuple(f"{figure}_{end}" for figure in FIGURES for end in ("low", "high"))
STRATUM_COLUMNS = (*_COUNTS, *_MEASURED, *_INTERVALS)


def stratified_metrics(
    alleles: AlleleScores,
    dimensions: Sequence[Dimension],
    block_bases: int = BLOCK_BASES,
    n_replicates: int = REPLICATES,
    seed: int = 0,
) -> StrataMetrics:
    """Counts, prevalence, AUPRC (plain and balanced), AUROC and recall at precision .99 by stratum and score.

    Args:
        alleles: Those without a known label are left out.
        dimensions: Of ``alleles.strata``; TYPE is measured in any case.
        block_bases: How long the blocks of the genome are that intervals come from.
        n_replicates: How many times blocks are drawn.
        seed: The same seed gives the same intervals.

    Returns:
        dimension -> stratum -> score -> metric -> value. Strata without a labelled allele are left out; those with
        fewer than LEAST_OF_EACH true or false alleles have counts, and None for the rest (:func:`is_too_few`).
    """
    known = alleles.labelled()
    result: StrataMetrics = {}
    for dimension in (TYPE, *dimensions):
        codes = known.variant_type if dimension is TYPE else known.strata[dimension.name]
        of_dimension: Metrics = {}
        for code, stratum in enumerate(dimension.strata):
            part = known.select(codes == code)
            if len(part):
                of_dimension[stratum] = _measure(part, block_bases, n_replicates, seed)
        result[dimension.name] = of_dimension
    return result


def _measure(part: AlleleScores, block_bases: int, n_replicates: int, seed: int) -> dict[str, dict[str, Value]]:
    n_true = int((part.label == 1).sum())
    if min(n_true, len(part) - n_true) < LEAST_OF_EACH:
        counts: dict[str, Value] = dict(zip(_COUNTS, (len(part), n_true, len(part) - n_true, n_true / len(part)),
                                            strict=True))  # fmt: skip
        return {name: {**counts, **dict.fromkeys((*_MEASURED, *_INTERVALS))} for name in part.scores}
    found = bootstrap(
        part.label, part.scores, part.blocks(block_bases), (), replicates_for(len(part), n_replicates), seed
    )
    by_score = {}
    for name, scores in part.scores.items():
        values = dict(metric_pairs(part.label, scores))
        intervals = found.scores.get(name, {})
        by_score[name] = {metric: values[metric] for metric in (*_COUNTS, *_MEASURED)}
        for figure in FIGURES:
            by_score[name] |= _ends(figure, intervals.get(figure))
    return by_score


def _ends(name: str, interval: Interval | None) -> dict[str, Value]:
    return {f"{name}_low": interval.low if interval else None, f"{name}_high": interval.high if interval else None}


def is_too_few(values: Mapping[str, Value]) -> bool:
    """Whether a stratum has too few true or false alleles to judge a score."""
    return min(values["n_true"] or 0, values["n_false"] or 0) < LEAST_OF_EACH


def format_strata(strata: StrataMetrics) -> str:
    """The strata as plain-text tables, one for each dimension."""
    headings = ["score", "true", "false", "prevalence", "AUPRC", "95% interval", "AUPRC(1:1)", "R@P99%", "95% interval"]
    tables = []
    for dimension, by_stratum in strata.items():
        rows: list[list[str | Value]] = [[dimension, *headings]]
        for stratum, by_score in by_stratum.items():
            for name, values in by_score.items():
                row: list[str | Value] = [stratum, name, *(values[c] for c in ("n_true", "n_false", "prevalence"))]
                if is_too_few(values):
                    row += ["too few", *[""] * 4]
                else:
                    recall = FIGURES[1]
                    row += [
                        values["auprc"],
                        format_interval(values["auprc_low"], values["auprc_high"]),
                        values["auprc_balanced"],
                        values[recall],
                        format_interval(values[f"{recall}_low"], values[f"{recall}_high"]),
                    ]
                rows.append(row)
        if len(rows) == 1:
            rows.append(["no labelled allele", *[""] * len(headings)])
        tables.append(format_rows(rows, n_left=2))
    note = f"(too few: under {LEAST_OF_EACH} true or false alleles)"
    return f"By stratum {note}\n" + "\n\n".join(tables)


def strata_tsv(strata: StrataMetrics) -> str:
    """The strata as a TSV: dimension, stratum, score and STRATUM_COLUMNS."""
    rows = [
        [dimension, stratum, name, *(values[column] for column in STRATUM_COLUMNS)]
        for dimension, by_stratum in strata.items()
        for stratum, by_score in by_stratum.items()
        for name, values in by_score.items()
    ]
    return tsv(("dimension", "stratum", "score", *STRATUM_COLUMNS), rows)


def compare(
    alleles: AlleleScores,
    pairs: Sequence[tuple[str, str]],
    block_bases: int = BLOCK_BASES,
    n_replicates: int = REPLICATES,
    seed: int = 0,
) -> Metrics:
    """The second score of each pair compared with the first, on the same alleles and with the same draws.

    Args:
        alleles: Those without a known label are left out.
        pairs: Names of scores, (first, second).
        block_bases: How long the blocks of the genome are that intervals come from.
        n_replicates: How many times blocks are drawn.
        seed: The same seed gives the same intervals.

    Returns:
        group -> ``second - first`` -> value: ``auprc_first``, ``auprc_second``, ``auprc_difference`` (second minus
        first), ``auprc_difference_low`` and ``..._high``, the same for recall at precision .99, and the counts.
    """
    known = alleles.labelled()
    result: Metrics = {}
    for group in GROUPS:
        part = known.group(group)
        draws = replicates_for(len(part), n_replicates)
        found = bootstrap(part.label, part.scores, part.blocks(block_bases), pairs, draws, seed)
        result[group] = {}
        of_score = {name: dict(metric_pairs(part.label, part.scores[name])) for pair in pairs for name in pair}
        for first, second in pairs:
            values: dict[str, Value] = {metric: of_score[first][metric] for metric in _COUNTS}
            intervals = found.differences.get((first, second), {})
            for figure in FIGURES:
                a, b = of_score[first][figure], of_score[second][figure]
                values[f"{figure}_first"], values[f"{figure}_second"] = a, b
                values[f"{figure}_difference"] = b - a if a is not None and b is not None else None
                values |= _ends(f"{figure}_difference", intervals.get(figure))
            result[group][f"{second} - {first}"] = values
    return result


def format_comparison(comparison: Metrics) -> str:
    """The differences as a plain-text table."""
    rows: list[list[str | Value]] = [
        ["group", "difference", "true", "false", "AUPRC", "95% interval", "R@P99%", "95% interval"]
    ]
    for group, by_pair in comparison.items():
        for name, values in by_pair.items():
            row: list[str | Value] = [group, name, values["n_true"], values["n_false"]]
            for figure in FIGURES:
                difference = values[f"{figure}_difference"]
                low, high = values[f"{figure}_difference_low"], values[f"{figure}_difference_high"]
                row.append("-" if difference is None else f"{difference:+.3f}")
                row.append("-" if low is None or high is None else f"{low:+.3f} to {high:+.3f}")
            rows.append(row)
    return "Differences, of the same alleles and draws\n" + format_rows(rows, n_left=2)
