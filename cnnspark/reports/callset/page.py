"""The report: one HTML file that needs nothing else, saying in words, tables and pictures how good a filter is.

Same input, same bytes: no date, path or version is written that the caller did not give. Everything that comes from
outside (score names, FILTERs, alleles, facts, titles) is escaped.
``truth_drawings``, ``tally_drawings`` and ``run_drawings`` draw, :mod:`cnnspark.reports.callset.sentences` has the
sentences, ``templates/report.html`` the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspark.common.storage import location, make_parents, write_text
from cnnspark.common.text_tables import format_value
from cnnspark.errors import RunError
from cnnspark.evaluation.callset_composition import AFTER, BEFORE, SHOWN
from cnnspark.evaluation.callset_counts import CallsetTally, Surprise
from cnnspark.evaluation.curves import Curves
from cnnspark.evaluation.metrics import GROUPS, PRECISIONS, Metrics
from cnnspark.evaluation.strata import TYPE, dimensions
from cnnspark.models.card import THRESHOLD_GROUPS, Card
from cnnspark.reports.callset import callset_charts, run_charts, sentences, truth_charts
from cnnspark.reports.callset.chart import Drawing, drawing
from cnnspark.reports.callset.run_facts import RunFacts, explain_command
from cnnspark.variants.alleles import TRUE_VARIANT
from cnnspark.variants.score_fields import is_log_odds

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

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
SURPRISING = 20
# Inputs unlike the training data that the table names; guard.json has all.
_INPUTS = 20
_ALLELE_LETTERS = 10


def write_report(
    out_html: str | Path | Location,
    title: str,
    metrics: Metrics,
    curves: Curves | None,
    history: Sequence[Mapping[str, Any]] | None,
    facts: Mapping[str, Any],
    *,
    tally: CallsetTally | None = None,
    strata: Mapping[str, Any] | None = None,
    comparison: Metrics | None = None,
    callsets: Mapping[str, Mapping[str, Any]] | None = None,
    run: RunFacts | None = None,
    inputs: Mapping[str, Any] | None = None,
    model: str | None = None,
    baseline: str | None = "QUAL",
) -> list[str]:
    """Writes the report, whole or not at all, and returns its summary's sentences. Raises RunError where it cannot.

    Args:
        metrics: as :func:`cnnspark.evaluation.metrics.evaluate` gives them, empty without a truth.
        curves: of the same alleles (:func:`cnnspark.evaluation.curves.draw_curves`); None without a truth.
        history: a row per epoch: ``epoch``, ``loss``, ``val_loss``, ``val_auprc``, ...; None where nothing was trained.
        facts: become tables: each value that is a mapping its own, under its key as heading; the others one together.
        tally: the counts of all records.
        strata: dimension -> stratum -> score -> metrics
        (:func:`cnnspark.reports.callset.truth_charts.strata_drawings`). comparison: differences of scores by group and
        pair (:func:`cnnspark.evaluation.metrics_by_stratum.compare`). callsets: what each callset is made of before
        and after FILTER (:mod:`cnnspark.evaluation.callset_composition`). run: of the run that made the scores.
        inputs: paths that 'cnnspark explain' is to be given for one of the alleles: ``vcf``, ``reads``, ...
        model: the score that the summary is about (default: the first that is not ``baseline``).
    """
    run = run or RunFacts()
    # Files of JSON have their keys sorted; readers expect SNP before INDEL, and small before large.
    metrics, comparison = _ordered(metrics, GROUPS), _ordered(comparison or {}, GROUPS)
    strata = ordered_strata(strata or {})
    names = list(dict.fromkeys(score for by_score in metrics.values() for score in by_score))
    if model is None:
        model = next((name for name in names if name != baseline), names[0] if names else None)
    with drawing():
        drawn = _drawn(metrics, curves, history or [], tally, strata, run)
    summary = sentences.summary(metrics, curves, tally, run, model, baseline)
    page = _template().render(
        title=title,
        summary=summary,
        has_truth=curves is not None or bool(metrics),
        metrics=_table(metrics, {k: v for k, v in _METRICS.items() if _is_there(metrics, v)}),
        recalls=_table(metrics, _RECALLS),
        comparison=_comparison(comparison),
        callsets=[(str(name), _composition(summary)) for name, summary in (callsets or {}).items()],
        drawn=drawn,
        surprising=_surprising(tally, inputs, run.model),
        log_odds=tally is not None and is_log_odds(tally.score),
        score=tally.score if tally else "",
        filters=_filters(tally),
        training=sentences.of_training(history or []),
        runtime=sentences.of_runtime(run),
        statement=run.statement,
        guard=_guard(run),
        card=_card(run.card, run.model) if run.card else None,
        configuration=_flat(run.configuration),
        facts=_fact_tables(facts),
    )
    target = location(out_html)
    try:
        make_parents(target)
        write_text(target, page)
    except OSError as error:
        raise RunError(
            f"{out_html} cannot be written ({error.strerror}); check the folder and its free space"
        ) from None
    return summary


def _ordered(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The values of these names first, in their order; the others as they are."""
    return {name: values[name] for name in (*names, *values) if name in values}


def ordered_strata(strata: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Dimensions and their strata in the order of :mod:`cnnspark.evaluation.strata`, regions last."""
    known = [TYPE, *dimensions(with_reference=True)]
    orders = {dimension.name: dimension.strata for dimension in known}
    found = _ordered(strata, list(orders))
    return {name: _ordered(by_stratum, orders.get(name, ())) for name, by_stratum in found.items()}


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = resources.files("cnnspark.reports").joinpath("templates/report.html").read_text("utf-8")
    return environment.from_string(text)


def _drawn(
    metrics: Metrics,
    curves: Curves | None,
    history: Sequence[Mapping[str, Any]],
    tally: CallsetTally | None,
    strata: Mapping[str, Any],
    run: RunFacts,
) -> dict[str, list[Drawing]]:
    """The drawings by section."""
    found: dict[str, list[Drawing]] = {
        "strata": truth_charts.strata_drawings(strata),
        "callset": callset_charts.tally_drawings(tally) if tally else [],
        "training": run_charts.training_drawings(history),
        "runtime": run_charts.runtime_drawings(run.blocks),
        "curves": [],
        "scores": [],
    }
    if curves:
        found["curves"] = truth_charts.curve_drawings(curves, metrics, tally)
        for i, (name, histogram) in enumerate(curves.histograms.items()):
            found["scores"].append(truth_charts.histogram_drawing(name, histogram, i))
        for i, (name, bins) in enumerate(curves.reliability.items()):
            if bins:
                found["scores"].append(truth_charts.reliability_drawing(name, bins, i))
    return found


# --- tables ----------------------------------------------------------------------------------------------------------


def _is_there(metrics: Metrics, name: str) -> bool:
    return name == "auprc_interval" or any(
        name in values for by_score in metrics.values() for values in by_score.values()
    )


def _table(metrics: Metrics, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each group and score: its texts by heading."""
    rows = []
    for group, by_score in metrics.items():
        for name, values in by_score.items():
            cells = [(heading, _cell(values, metric)) for heading, metric in columns.items()]
            rows.append({"group": group, "score": name, "cells": cells})
    return rows


def _cell(values: Mapping[str, Any], metric: str) -> str:
    if metric != "auprc_interval":
        return format_value(values.get(metric))
    low, high = values.get("auprc_low"), values.get("auprc_high")
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _comparison(comparison: Metrics) -> list[dict[str, Any]]:
    """A row for each group and pair: both figures and the difference with its interval."""
    rows = []
    for group, by_pair in comparison.items():
        for pair, values in by_pair.items():
            cells = []
            for figure, heading in (("auprc", "AUPRC"), ("recall_at_precision_0.99", "Recall at precision 99%")):
                first, second = (format_value(values.get(f"{figure}_{which}")) for which in ("first", "second"))
                cells.append((heading, f"{second} - {first}"))
                difference = values.get(f"{figure}_difference")
                ends = [values.get(f"{figure}_difference_{end}") for end in ("low", "high")]
                text = "-" if difference is None else f"{difference:+.3f}"
                if None not in ends:
                    text += f" ({ends[0]:+.3f} to {ends[1]:+.3f})"
                cells.append(("Difference", text))
            rows.append({"group": group, "score": pair, "cells": cells})
    return rows


def _composition(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each count or ratio, before and after FILTER."""
    before, after = summary.get(BEFORE) or {}, summary.get(AFTER) or {}
    return [
        {"name": name, "cells": [("All", format_value(before.get(key))), ("Passing", format_value(after.get(key)))]}
        for name, key in SHOWN.items()
    ]


def _surprising(tally: CallsetTally | None, inputs: Mapping[str, Any] | None, model: str) -> list[dict[str, Any]]:
    """The labelled alleles whose score is furthest from the truth, the furthest first, each with its command.

    Scores that are not log odds have no common measure for both labels: as many of each are taken then.
    """
    found = tally.surprising if tally else []
    if tally is not None and is_log_odds(tally.score):
        found = sorted((each for each in found if each.disagreement > 0), key=Surprise.order)[:SURPRISING]
    else:
        of_label = [[each for each in found if (each.label == TRUE_VARIANT) is wanted] for wanted in (True, False)]
        found = [each for some in of_label for each in some[: SURPRISING // 2]]
    rows = []
    for each in found:
        command = None
        if inputs:
            command = explain_command(inputs, model, each.contig, each.pos, each.alt, each.number)
        rows.append(
            {
                "place": f"{each.contig}:{each.pos}",
                "change": f"{_allele(each.ref)} > {_allele(each.alt)}",
                "truth": "true" if each.label == TRUE_VARIANT else "false",
                "score": f"{each.score:.4g}",
                "probability": f"{sentences.probability(each.score):.2g}",
                "qual": each.qual,
                "filter": each.filter,
                "command": command,
            }
        )
    return rows


def _allele(letters: str) -> str:
    longer = len(letters) - _ALLELE_LETTERS
    return letters if longer <= 0 else f"{letters[:_ALLELE_LETTERS]}… ({len(letters)} bases)"


def _filters(tally: CallsetTally | None) -> list[tuple[str, str, str]]:
    """Records by FILTER: name, number, share; the most first."""
    if tally is None or not tally.records:
        return []
    total = sum(tally.records.values())
    ranked = sorted(tally.records.items(), key=lambda each: (-each[1], each[0]))
    return [(name, f"{n:,}", f"{n / total:.1%}") for name, n in ranked]


def _guard(run: RunFacts) -> dict[str, Any] | None:
    """The inputs that are not as the model knows them, the furthest beyond its limit first."""
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


def _card(card: Card, model: str) -> dict[str, Any]:
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
        "about": _flat(about),
        "thresholds": thresholds,
        "metrics": _card_metrics(card.metrics),
        "data": _flat(card.data),
        "training": _flat(card.training),
        "versions": _flat(card.versions),
    }


def _shares(by_share: Mapping[str, float | None]) -> list[tuple[str, str]]:
    return [(share, format_value(value)) for share, value in sorted(by_share.items())]


def _card_metrics(metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row for each metric, a cell for each group; of a card names them as ``AUPRC SNP``."""
    by_name: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        metric, _, group = name.rpartition(" ")
        if group in THRESHOLD_GROUPS and metric:
            by_name.setdefault(metric, {})[group] = value
        else:
            by_name.setdefault(name, {})["ALL"] = value
    return [
        {"name": name, "cells": [(group, _plain(of.get(group))) for group in THRESHOLD_GROUPS]}
        for name, of in by_name.items()
    ]


def _plain(value: float | None) -> str:
    """A count as such, whatever its type; else three decimals."""
    return format_value(int(value) if value is not None and value == int(value) and value > 1 else value)


def _fact_tables(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables of (name, value) texts; nested mappings are flattened to dotted names."""
    loose, tables = [], []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            tables.append({"heading": str(name), "rows": _flat(value)})
        else:
            loose.append((str(name), _text(value)))
    return ([{"heading": "Facts", "rows": loose}] if loose else []) + tables


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _text(value)))
    return rows


def _text(value: Any) -> str:
    if value is None or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value) or "-"
    return str(value)
