"""The report's drawings of scores compared with a truth: curves, histograms, calibration, strata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark.common.text_tables import format_value
from cnnspark.evaluation.calibration import Reliability
from cnnspark.evaluation.callset_counts import CallsetCounts, FilterPoint, filter_point
from cnnspark.evaluation.curves import Curves, Histogram
from cnnspark.evaluation.metrics import GROUPS, Metrics
from cnnspark.reports.callset.chart import (
    BAD,
    COLOURS,
    GOOD,
    INK,
    Drawing,
    finished,
    line_style,
    new_axes,
    shortened,
    thousands,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {0.90: "o", 0.99: "s"}


def curve_drawings(curves: Curves, metrics: Metrics, counts: CallsetCounts | None) -> list[Drawing]:
    """Precision over recall and ROC for each group, with the thresholds of two precisions and the callset's FILTER."""
    drawings = []
    for area in ("auprc", "auroc"):
        is_pr = area == "auprc"
        for group, by_score in ((name, curves.groups[name]) for name in GROUPS if name in curves.groups):
            of_filter = filter_point(counts, group)
            labels = ("recall", "precision") if is_pr else ("false alleles kept", "true alleles kept")
            figure, axes = new_axes(*labels)
            for i, (name, of) in enumerate(by_score.items()):
                x, y = (of.recall, of.precision) if is_pr else (of.false_kept, of.true_kept)
                axes.plot(x, y, drawstyle="steps-post" if is_pr else "default", label=name, **line_style(i))
                for mark in of.marks:
                    place = (mark.recall, mark.precision) if is_pr else (mark.false_kept, mark.recall)
                    style: dict[str, Any] = {
                        "color": COLOURS[i % len(COLOURS)],
                        "marker": _MARKERS[mark.precision_wanted],
                    }
                    axes.plot(*place, markersize=6, markeredgecolor=INK, **style)
            if of_filter:
                place = (of_filter.recall, of_filter.precision) if is_pr else (of_filter.false_kept, of_filter.recall)
                axes.plot(*place, marker="D", markersize=7, color="none", markeredgecolor=INK, markeredgewidth=1.6)
            if is_pr:
                share = curves.prevalence[group]
                axes.axhline(share, color=INK, linewidth=1, linestyle=":", label=f"prevalence {share:.2f}")
            else:
                axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":", label="knows nothing")
            _legend_of_marks(axes, by_score, of_filter is not None)
            axes.set_xlim(-0.02, 1.02)
            axes.set_ylim(-0.02, 1.03)
            # Above the axes: anywhere inside, a line could cross it.
            figure.legend(loc="outside upper center", ncols=3, fontsize=8, columnspacing=1, handlelength=1.6)
            areas = ", ".join(f"{s} {format_value(metrics.get(group, {}).get(s, {}).get(area))}" for s in by_score)
            caption = f"{'Precision and recall' if is_pr else 'ROC'}, {group} ({area.upper()}: {areas})"
            said = "; ".join(_said_marks(name, of.marks) for name, of in by_score.items() if of.marks)
            if of_filter:
                said += f"{'; ' if said else ''}the callset's FILTER has {_said_point(of_filter)}"
            drawings.append(finished(figure, f"{area}-{group}", caption, said or "no threshold reaches 90% precision"))
    return drawings


def _said_point(point: FilterPoint) -> str:
    return f"precision {point.precision:.3f}, recall {point.recall:.3f}"


def _said_marks(name: str, marks: Sequence[Any]) -> str:
    each = [f"recall {mark.recall:.3f} at precision {mark.precision_wanted:.2f}" for mark in marks]
    return f"{name} has {', '.join(each)}"


def _legend_of_marks(axes: Axes, by_score: Mapping[str, Any], has_filter: bool) -> None:
    seen = {mark.precision_wanted for of in by_score.values() for mark in of.marks}
    for wanted in sorted(seen):
        style: dict[str, Any] = {"marker": _MARKERS[wanted], "color": "none", "markeredgecolor": INK}
        axes.plot([], [], linestyle="none", label=f"precision {wanted:.2f}", **style)
    if has_filter:
        style = {"marker": "D", "color": "none", "markeredgecolor": INK, "markeredgewidth": 1.6}
        axes.plot([], [], linestyle="none", label="callset's FILTER", **style)


def histogram_drawing(name: str, histogram: Histogram, number: int) -> Drawing:
    """Histograms of the scores of true and of false alleles."""
    figure, axes = new_axes(shortened(name, 40), "alleles")
    edges = np.array(histogram.edges)
    for counts, text, colour, style in (
        (histogram.true, "true", GOOD, "-"),
        (histogram.false, "false", BAD, "--"),
    ):
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(counts, edges, color=colour, linestyle=style, linewidth=1.5, label=text)
    thousands(axes.yaxis)
    axes.legend()
    medians = {"true": histogram.median_true, "false": histogram.median_false}
    said = ", ".join(f"{label} {value:.3g}" for label, value in medians.items() if value is not None)
    return finished(figure, f"scores-{number}", f"Scores by truth, {name}", f"medians {said}")


def reliability_drawing(name: str, bins: Sequence[Reliability], number: int) -> Drawing:
    """The share of true alleles over the predicted probability, with an interval for each bin."""
    figure, axes = new_axes("predicted probability of being true", "share that is true")
    x, y = [each.predicted for each in bins], [each.true for each in bins]
    spread = [[each.true - each.low for each in bins], [each.high - each.true for each in bins]]
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":", label="ideal")
    axes.errorbar(x, y, yerr=spread, color=GOOD, marker="o", markersize=4, capsize=3, linewidth=1.5, label=name)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.03)
    figure.legend(loc="outside upper right", ncols=2)
    said = ", ".join(f"{each.predicted:.2f} predicted, {each.true:.2f} true of {each.alleles:,}" for each in bins)
    return finished(figure, f"calibration-{number}", f"Calibration, {name}", said)


def strata_drawings(strata: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> list[Drawing]:
    """A forest plot for each dimension: AUPRC with its interval by stratum, the scores beside each other.

    A stratum without an AUPRC keeps its line, which says how few alleles it has. A dimension without any AUPRC is left
    out.

    Args:
        strata: dimension -> stratum -> score -> ``auprc``, ``auprc_low``, ``auprc_high``, ``n_true``, ``n_false``.
    """
    drawings = []
    for number, (dimension, by_stratum) in enumerate(strata.items()):
        if not any(values.get("auprc") is not None for by in by_stratum.values() for values in by.values()):
            continue
        scores = list(dict.fromkeys(score for by_score in by_stratum.values() for score in by_score))
        figure, axes = new_axes("AUPRC, 95% interval", "", 1.3 + len(by_stratum) * max(0.34, 0.17 * len(scores)))
        labels, said = [], []
        for row, (stratum, by_score) in enumerate(by_stratum.items()):
            counts = next(iter(by_score.values()), {})
            n_true, n_false = int(counts.get("n_true") or 0), int(counts.get("n_false") or 0)
            labels.append(f"{shortened(str(stratum), 22)}\n{n_true:,} true, {n_false:,} false")
            for i, score in enumerate(scores):
                values = by_score.get(score, {})
                middle, low, high = (values.get(key) for key in ("auprc", "auprc_low", "auprc_high"))
                if middle is None:
                    continue
                place = row + (i - (len(scores) - 1) / 2) * 0.22
                style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)]}
                if low is not None and high is not None:
                    axes.plot([low, high], [place, place], linewidth=1.6, **style)
                axes.plot(middle, place, marker=("o", "s", "^", "D")[i % 4], markersize=5, **style)
                said.append(f"{stratum} {score} {middle:.3f}")
        for i, score in enumerate(scores):
            style = {"color": COLOURS[i % len(COLOURS)], "marker": ("o", "s", "^", "D")[i % 4]}
            axes.plot([], [], label=score, markersize=5, linewidth=1.6, **style)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.03)
        axes.grid(False, axis="y")
        figure.legend(loc="outside upper right", ncols=3)
        caption = f"AUPRC by {dimension}"
        drawings.append(finished(figure, f"strata-{number}", caption, "; ".join(said)))
    return drawings
