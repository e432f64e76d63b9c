"""The sentences of a report: its findings, the most important first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnspark.common.log import listed
from cnnspark.common.text_tables import Value, format_value
from cnnspark.evaluation.callset_counts import NO_FILTER, PASSED, CallsetCounts, filter_point
from cnnspark.models.bundle_files import notice
from cnnspark.reports.callset.contents import BASELINE, ReportContents
from cnnspark.reports.callset.run_facts import RunFacts
from cnnspark.variants.score_fields import is_log_odds, probability_of_score

# How many model inputs or regions a sentence names.
_NAMED = 3


def summary(contents: ReportContents) -> list[str]:
    """The findings: what passes, how good that is, whether the model knows such callsets, whether no record is lost."""
    counts, run = contents.counts, contents.run
    sentences = of_filter(counts) if counts else []
    if contents.has_truth:
        sentences += of_filter_and_truth(counts) + of_truth(contents)
    else:
        sentences += without_truth(counts)
    sentences += of_guard(run)
    if said := notice(run.model):
        sentences.append(_sentence(said))
    if run.statement:
        sentences.append(f"No record was lost or duplicated by scoring: {run.statement}.")
    return sentences


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def of_filter(counts: CallsetCounts) -> list[str]:
    """How many records pass FILTER, and the Ti/Tv of passing and of filtered SNVs."""
    records = sum(counts.records.values())
    if not records:
        return ["The callset has no records."]
    if not counts.filtered:
        return [f"{records:,} records, none with a FILTER yet: 'cnnspark filter' sets it."]
    passed, unset = counts.records[PASSED], counts.records[NO_FILTER]
    sentences = [f"{passed:,} of {records:,} records ({passed / records:.1%}) pass FILTER."]
    if unset:
        sentences[0] = f"{sentences[0][:-1]}; {unset:,} have none."
    kept, lost = titv(counts, True), titv(counts, False)
    if kept is not None and lost is not None:
        sentences.append(f"The SNVs that pass have a Ti/Tv of {kept:.2f}, the filtered ones {lost:.2f}.")
    return sentences


def titv(counts: CallsetCounts, passes: bool) -> float | None:
    """Transitions over transversions of the SNVs that pass (or do not); None without transversions."""
    transversions = counts.passing(False, passes)
    return counts.passing(True, passes) / transversions if transversions else None


def without_truth(counts: CallsetCounts | None) -> list[str]:
    """That nothing was compared, and the share of real alleles that the model itself estimates."""
    sentence = "There is no truth to compare with, so it is not known how many of these calls are right"
    if counts is None or not is_log_odds(counts.score) or not counts.scores:
        return [f"{sentence}."]
    passes = (PASSED, NO_FILTER)
    n = sum(count for (_, name), count in counts.scores.items() if name in passes)
    expected = sum(probability(score) * count for (score, name), count in counts.scores.items() if name in passes)
    if not n:
        return [f"{sentence}."]
    which = "that pass" if counts.filtered else "that were scored"
    return [
        f"{sentence}. By the model's own probabilities {expected / n:.1%} of the {n:,} alleles {which} are real, if "
        "the callset resembles the data that the model was calibrated on."
    ]


def probability(score: float) -> float:
    """The probability that an allele is true, from a score that is log odds."""
    return float(probability_of_score(np.array(score)))


def of_truth(contents: ReportContents) -> list[str]:
    """How good the score is against the truth, compared with the baseline and with chance."""
    curves, score = contents.curves, contents.score
    of_all = contents.metrics.get("ALL", {})
    values = of_all.get(score or "", {})
    n_true, n_false = int(values.get("n_true") or 0), int(values.get("n_false") or 0)
    if curves is not None:
        n_true, n_false = curves.n_true, curves.n_false
    sentences = [f"The truth of {n_true + n_false:,} ALT alleles is known: {n_true:,} are true and {n_false:,} false."]
    if curves is not None and curves.regions:
        named = listed(curves.regions, _NAMED, letters=None)
        sentences[0] = f"Compared on {named}: the truth{sentences[0][9:]}"
    prevalence = values.get("prevalence")
    if prevalence is not None:
        sentences.append(
            f"{prevalence:.1%} of them are true: that is the area under the precision-recall curve (AUPRC) of a score "
            "that knows nothing."
        )
    if values.get("auprc") is None:
        sentences.append("Judging a score needs both true and false alleles, and one of these is missing.")
        return sentences
    sentence = f"{score} has an AUPRC of {_with_interval(values)}"
    other = of_all.get(BASELINE, {}) if score != BASELINE else {}
    if other.get("auprc") is not None:
        sentence += f"; {BASELINE} has {_with_interval(other)}"
    sentences.append(sentence + ".")
    gain, low, high = (values.get(name) for name in ("auprc_gain", "auprc_gain_low", "auprc_gain_high"))
    if gain is not None and low is not None and high is not None:
        verdict = "more than chance explains" if low > 0 or high < 0 else "chance can explain it"
        sentences.append(f"The difference is {gain:+.3f} (95% interval {low:+.3f} to {high:+.3f}): {verdict}.")
    for wanted in (0.90, 0.99):
        name = f"recall_at_precision_{wanted:.2f}"
        recall, other_recall = values.get(name), other.get(name)
        if recall is None:
            continue
        sentence = f"At a precision of {wanted:.0%}, {score} keeps {recall:.1%} of the true alleles"
        sentences.append(sentence + (f", {BASELINE} {other_recall:.1%}." if other_recall is not None else "."))
    return sentences


def _with_interval(values: Mapping[str, Value]) -> str:
    text = format_value(values.get("auprc"))
    low, high = values.get("auprc_low"), values.get("auprc_high")
    return text if low is None or high is None else f"{text} (95% interval {low:.3f} to {high:.3f})"


def of_filter_and_truth(counts: CallsetCounts | None) -> list[str]:
    """What the callset's FILTER keeps of the labelled alleles."""
    point = filter_point(counts)
    if point is None:
        return []
    return [
        f"The callset's FILTER keeps {point.recall:.1%} of the true alleles and {point.false_kept:.1%} of the false "
        f"ones; {point.precision:.1%} of what it keeps is true."
    ]


def of_guard(run: RunFacts) -> list[str]:
    """Whether the model's inputs are distributed as in its training data."""
    if run.guard is None or not run.guard.get("compared"):
        return []
    inputs, outside = run.guard.get("inputs") or [], [str(name) for name in run.guard.get("outside") or []]
    if not outside:
        return [f"All {len(inputs)} model inputs are distributed as in the training data."]
    named = listed(outside, _NAMED, letters=None)
    are = "is" if len(outside) == 1 else "are"
    return [
        f"The callset differs from the model's training data: {len(outside)} of {len(inputs)} model inputs {are} "
        f"distributed differently ({named}). Use the scores with care, or train a model for this caller, depth and "
        "sequencing."
    ]


def of_training(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """How long the training was and which epoch was best; empty without a training."""
    if not history:
        return []
    sentences = [f"The model was trained for {len(history)} {'epoch' if len(history) == 1 else 'epochs'}."]
    found = [(float(row["val_auprc"]), float(row.get("epoch", i))) for i, row in enumerate(history) if _has(row)]
    if found:
        best, epoch = max(found, key=lambda point: (point[0], -point[1]))
        sentences.append(f"The best AUPRC on the validation data is {best:.3f}, at epoch {epoch:g}.")
    return sentences


def _has(row: Mapping[str, Any]) -> bool:
    value = row.get("val_auprc")
    return isinstance(value, (int, float)) and math.isfinite(value)


def of_runtime(run: RunFacts) -> list[str]:
    """How long the blocks took, how evenly the work was spread, and how much memory it needed."""
    seconds = [row["seconds"] for row in run.blocks if math.isfinite(row["seconds"])]
    if not seconds:
        return []
    mean = sum(seconds) / len(seconds)
    if len(seconds) == 1:
        sentences = [f"The one block took {mean:.2f} seconds."]
    else:
        sentences = [
            f"{len(seconds):,} blocks took {sum(seconds):,.1f} seconds together, {mean:.2f} on average; the slowest "
            f"took {max(seconds):.2f} ({max(seconds) / mean if mean else 1:.2f} times the average)."
        ]
    of_tasks = run.runtime.get("task_seconds")
    if of_tasks and run.runtime.get("tasks", 0) > 1:
        sentences.append(
            f"{run.runtime['tasks']:,} tasks; the longest had {of_tasks['max_over_mean']:.2f} times the average work."
        )
    if run.runtime.get("peak_mib"):
        sentences.append(f"Workers used at most {run.runtime['peak_mib']:,} MiB of memory.")
    return sentences
