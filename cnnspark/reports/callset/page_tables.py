"""The report's tables, as rows of texts for the template.

A row is a mapping: ``cells`` are pairs of heading and text (a narrow screen shows the heading beside each text), the
other keys name the row. Tables of facts are plain pairs of name and text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnspark.common.text_tables import format_value
from cnnspark.evaluation.callset_composition import AFTER, BEFORE, SHOWN
from cnnspark.evaluation.callset_counts import CallsetCounts, Surprise
from cnnspark.evaluation.metrics import PRECISIONS, Metrics
from cnnspark.models.card import THRESHOLD_GROUPS, Card
from cnnspark.reports.callset.run_facts import RunFacts, explain_command
from cnnspark.reports.callset.sentences import probability
from cnnspark.variants.alleles import TRUE_VARIANT
from cnnspark.variants.score_fields import is_log_odds

Row = dict[str, Any]

# Heading -> metric.
_METRICS = {
    "True": "n_true",
    "False": "n_false",
    "Prevalence": "prevalence",
    "AUPRC": "auprc",
    "95% interval": "auprc_interval",
    "Balanced AUPRC": "auprc_balanced",
    "AUROC": "auroc",
    "Best F1": "f1",
    "at threshold": "f1_threshold",
    "Calibration error": "calibration_error",
}
_RECALLS = {f"of {wanted:.0%}": f"recall_at_precision_{wanted:.2f}" for wanted in PRECISIONS}
_COMPARED = {"AUPRC": "auprc", "Recall at precision 99%": "recall_at_precision_0.99"}
SURPRISING = 20
# Inputs unlike the training data that the table names; guard.json has all.
_INPUTS = 20
_ALLELE_LETTERS = 10


def metrics_table(metrics: Metrics) -> list[Row]:
    """A row for each group and score: counts, AUPRC with its interval, AUROC, F1 and, if measured, calibration."""
    measured = {name for by_score in metrics.values() for values in by_score.values() for name in values}
    columns = {k: v for k, v in _METRICS.items() if v == "auprc_interval" or v in measured}
    return _by_score(metrics, columns)


def recall_table(metrics: Metrics) -> list[Row]:
    """A row for each group and score: recall at each precision."""
    return _by_score(metrics, _RECALLS)


def _by_score(metrics: Metrics, columns: Mapping[str, str]) -> list[Row]:
    return [
        {
            "group": group,
            "score": name,
            "cells": [(heading, _metric_text(values, metric)) for heading, metric in columns.items()],
        }
        for group, by_score in metrics.items()
        for name, values in by_score.items()
    ]


def _metric_text(values: Mapping[str, Any], metric: str) -> str:
    if metric != "auprc_interval":
        return format_value(values.get(metric))
    low, high = values.get("auprc_low"), values.get("auprc_high")
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def comparison_table(comparison: Metrics) -> list[Row]:
    """A row for each group and pair of scores: both figures, and the difference with its interval."""
    rows = []
    for group, by_pair in comparison.items():
        for pair, values in by_pair.items():
            cells = []
            for heading, figure in _COMPARED.items():
                first, second = (format_value(values.get(f"{figure}_{which}")) for which in ("first", "second"))
                cells.append((heading, f"{second} - {first}"))
                difference = values.get(f"{figure}_difference")
                low, high = (values.get(f"{figure}_difference_{end}") for end in ("low", "high"))
                text = "-" if difference is None else f"{difference:+.3f}"
                if low is not None and high is not None:
                    text += f" ({low:+.3f} to {high:+.3f})"
                cells.append(("Difference", text))
            rows.append({"group": group, "score": pair, "cells": cells})
    return rows


def composition_table(summary: Mapping[str, Any]) -> list[Row]:
    """A row for each count or ratio of a callset, before and after FILTER."""
    before, after = summary.get(BEFORE) or {}, summary.get(AFTER) or {}
    return [
        {"name": name, "cells": [("All", format_value(before.get(key))), ("Passing", format_value(after.get(key)))]}
        for name, key in SHOWN.items()
    ]


def surprising_table(counts: CallsetCounts | None, inputs: Mapping[str, Any], model: str) -> list[Row]:
    """The labelled alleles whose score is furthest from the truth, the furthest first, each with its command.

    Scores that are not log odds have no common measure for true and false alleles: half of the rows are of each then.

    Args:
        counts: Of the callset; None gives no rows.
        inputs: What 'cnnspark explain' needs; empty gives rows without a command.
        model: The model that scored, as the run was given it.
    """
    if counts is None:
        return []
    if is_log_odds(counts.score):
        found = sorted((each for each in counts.surprising if each.disagreement > 0), key=Surprise.order)[:SURPRISING]
    else:
        true = [each for each in counts.surprising if each.label == TRUE_VARIANT]
        false = [each for each in counts.surprising if each.label != TRUE_VARIANT]
        found = true[: SURPRISING // 2] + false[: SURPRISING // 2]
    return [
        {
            "place": f"{each.contig}:{each.pos}",
            "change": f"{_short(each.ref)} > {_short(each.alt)}",
            "truth": "true" if each.label == TRUE_VARIANT else "false",
            "score": f"{each.score:.4g}",
            "probability": f"{probability(each.score):.2g}",
            "qual": each.qual,
            "filter": each.filter,
            "command": explain_command(inputs, model, each.contig, each.pos, each.alt, each.number) if inputs else None,
        }
        for each in found
    ]


def _short(allele: str) -> str:
    if len(allele) <= _ALLELE_LETTERS:
        return allele
    return f"{allele[:_ALLELE_LETTERS]}… ({len(allele)} bases)"


def filter_table(counts: CallsetCounts | None) -> list[tuple[str, str, str]]:
    """Records by FILTER: name, number and share; the most frequent first."""
    if counts is None or not counts.records:
        return []
    total = sum(counts.records.values())
    ranked = sorted(counts.records.items(), key=lambda each: (-each[1], each[0]))
    return [(name, f"{n:,}", f"{n / total:.1%}") for name, n in ranked]


def guard_table(run: RunFacts) -> Row | None:
    """The model inputs that are distributed differently from the training data, the most different first.

    Returns:
        ``compared`` (whether there were alleles enough), ``inputs`` and ``outside`` (numbers) and ``rows``; None for
        a run that did not compare.
    """
    if run.guard is None:
        return None
    inputs = {str(each["name"]): each for each in run.guard.get("inputs") or []}
    outside = [inputs[name] for name in map(str, run.guard.get("outside") or []) if name in inputs]
    rows = [
        {
            "name": str(each["name"]),
            "cells": [
                ("Distance", f"{each['distance']:.2f}"),
                ("Limit", f"{each['limit']:.2f}"),
                ("Missing", f"{each['missing']:.1%}"),
                ("Missing in training", f"{each['trained_missing']:.1%}"),
                ("Out of range", f"{each['out_of_range']:.1%}"),
            ],
        }
        for each in outside[:_INPUTS]
    ]
    return {"compared": bool(run.guard.get("compared")), "inputs": len(inputs), "outside": len(outside), "rows": rows}


def card_tables(card: Card, model: str) -> dict[str, Any]:
    """The model's card: what it is, what it was trained on, its thresholds, and its figures on held-out blocks."""
    thresholds = [
        (f"Thresholds by {kind}", [{"name": group, "cells": _shares(of)} for group, of in by_group.items()])
        for kind, by_group in (("precision", card.thresholds), ("sensitivity", card.sensitivity_thresholds))
        if by_group
    ]
    about = {
        "model": card.model,
        "bundle": model,
        "SHA-256": card.sha256,
        "annotations": list(card.annotation_names),
        "site features": len(card.feature_names),
        "calibration": {"slope": card.calibration.slope, "intercept": card.calibration.intercept},
    }
    return {
        "about": fact_table(about),
        "thresholds": thresholds,
        "metrics": _card_metrics(card.metrics),
        "data": fact_table(card.data),
        "training": fact_table(card.training),
        "versions": fact_table(card.versions),
    }


def _shares(by_share: Mapping[str, float | None]) -> list[tuple[str, str]]:
    return [(share, format_value(value)) for share, value in sorted(by_share.items())]


def _card_metrics(metrics: Mapping[str, float]) -> list[Row]:
    """A row for each metric, a cell for each group; a card names them as ``AUPRC SNP``."""
    by_name: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        metric, _, group = name.rpartition(" ")
        if group in THRESHOLD_GROUPS and metric:
            by_name.setdefault(metric, {})[group] = value
        else:
            by_name.setdefault(name, {})["ALL"] = value
    return [
        {"name": name, "cells": [(group, _count_or_ratio(of.get(group))) for group in THRESHOLD_GROUPS]}
        for name, of in by_name.items()
    ]


def _count_or_ratio(value: float | None) -> str:
    """A whole number above 1 as a count, whatever its type; else three decimals."""
    return format_value(int(value) if value is not None and value == int(value) and value > 1 else value)


def fact_tables(facts: Mapping[str, Any]) -> list[Row]:
    """Tables with a ``heading`` and ``rows``: one for each value that is a mapping, and a first one for the others."""
    loose, tables = [], []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            tables.append({"heading": str(name), "rows": fact_table(value)})
        else:
            loose.append((str(name), _fact_text(value)))
    return ([{"heading": "Facts", "rows": loose}] if loose else []) + tables


def fact_table(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Pairs of name and text; nested mappings are flattened to dotted names, ``train.rate``."""
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += fact_table(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _fact_text(value)))
    return rows


def _fact_text(value: Any) -> str:
    if value is None or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact_text(item) for item in value) or "-"
    return str(value)
