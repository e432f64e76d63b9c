"""The report's drawings of all records of a callset: scores by FILTER, types, Ti/Tv, indel lengths."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from cnnspark.evaluation.calibration import wilson_interval
from cnnspark.evaluation.callset_counts import LONGEST_BASES, NO_FILTER, PASSED, TYPE_NAMES, CallsetCounts
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

# How many lines the histogram has; the least frequent FILTERs share one.
_FILTERS = 5
# Ti/Tv is drawn for ranges of score with equally many SNVs: at most so many ranges, of at least so many SNVs.
_TITV_BINS, _TITV_LEAST = 10, 50


def callset_drawings(counts: CallsetCounts) -> list[Drawing]:
    """Scores by FILTER, filtered alleles by type, Ti/Tv by score, indel lengths; those that have something to draw."""
    found = [_scores_by_filter(counts), _filtered_by_type(counts), _titv_by_score(counts), _indel_lengths(counts)]
    return [each for each in found if each]


def _scores_by_filter(counts: CallsetCounts) -> Drawing | None:
    if not counts.scores:
        return None
    values = np.array([score for score, _ in counts.scores], np.float64)
    numbers = np.array(list(counts.scores.values()), np.int64)
    order = np.argsort(values, kind="stable")
    share = np.cumsum(numbers[order]) / numbers.sum()
    low, high = (float(values[order][min(len(order) - 1, int(np.searchsorted(share, q)))]) for q in (0.005, 0.995))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 41)
    by_filter: Counter[str] = Counter()
    for (_, name), n in counts.scores.items():
        by_filter[name] += n
    ranked = [name for name, _ in sorted(by_filter.items(), key=lambda each: (each[0] != PASSED, -each[1], each[0]))]
    lines = ranked if len(ranked) <= _FILTERS else [*ranked[: _FILTERS - 1], "other FILTERs"]
    names = [name if name in lines else "other FILTERs" for _, name in counts.scores]
    figure, axes = new_axes(counts.score, "alleles")
    for i, line in enumerate(lines):
        chosen = np.array([name == line for name in names])
        heights = np.histogram(np.clip(values[chosen], low, high), edges, weights=numbers[chosen])[0]
        axes.stairs(heights, edges, fill=True, color=COLOURS[i % len(COLOURS)], alpha=0.25)
        axes.stairs(heights, edges, label=shortened(line, 24), **line_style(i))
    thousands(axes.yaxis)
    axes.legend()
    said = ", ".join(f"{name} {by_filter[name]:,} alleles" for name in ranked[:_FILTERS])
    return finished(figure, "scores-by-filter", f"{counts.score} by FILTER, all alleles", said)


def _filtered_by_type(counts: CallsetCounts) -> Drawing | None:
    if not counts.filtered:
        return None
    kept: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for (kind, name), n in counts.alleles.items():
        total[kind] += n
        kept[kind] += n if name in (PASSED, NO_FILTER) else 0
    kinds = [name for name in TYPE_NAMES.values() if total[name]]
    if not kinds:
        return None
    figure, axes = new_axes("share of the alleles", "", 0.9 + 0.45 * len(kinds))
    for row, kind in enumerate(kinds):
        share = kept[kind] / total[kind]
        axes.barh(row, share, color=GOOD, height=0.6, label="kept" if not row else None)
        style: dict[str, Any] = {"color": "none", "edgecolor": BAD, "hatch": "////", "linewidth": 1}
        axes.barh(row, 1 - share, left=share, height=0.6, label="filtered" if not row else None, **style)
    labels = [f"{kind}\n{kept[kind]:,} of {total[kind]:,}" for kind in kinds]
    axes.set_yticks(range(len(kinds)), labels, fontsize=8)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_xlim(0, 1.0)
    axes.grid(False, axis="y")
    figure.legend(loc="outside upper right", ncols=2)
    said = ", ".join(f"{kind} {kept[kind]:,} of {total[kind]:,} kept" for kind in kinds)
    return finished(figure, "filtered-by-type", "Kept and filtered by type", said)


def _titv_by_score(counts: CallsetCounts) -> Drawing | None:
    """Ti/Tv in ranges of score that hold equally many SNVs."""
    by_score: Counter[float] = Counter()
    transitions: Counter[float] = Counter()
    for (score, _, transition), n in counts.substitutions.items():
        by_score[score] += n
        transitions[score] += n if transition else 0
    total = sum(by_score.values())
    bins = min(_TITV_BINS, total // _TITV_LEAST)
    if bins < 2:
        return None
    points = []
    middle, n, n_transitions = 0.0, 0, 0
    for score in sorted(by_score):
        middle += score * by_score[score]
        n += by_score[score]
        n_transitions += transitions[score]
        if n >= total / bins * 0.999 or score == max(by_score):
            share_low, share_high = wilson_interval(n_transitions, n)
            if n_transitions < n and share_high < 1:
                points.append((middle / n, *(s / (1 - s) for s in (n_transitions / n, share_low, share_high)), n))
            middle, n, n_transitions = 0.0, 0, 0
    if len(points) < 2:
        return None
    x, y, low, high, _ = (list(column) for column in zip(*points, strict=True))
    spread = [[b - a for a, b in zip(low, y, strict=True)], [a - b for a, b in zip(high, y, strict=True)]]
    figure, axes = new_axes(counts.score, "Ti/Tv of SNVs")
    axes.errorbar(x, y, yerr=spread, color=GOOD, marker="o", markersize=4, capsize=3, linewidth=1.5)
    axes.axhline(0.5, color=INK, linewidth=1, linestyle=":", label="0.5: substitutions at random")
    # The interval of a range with almost no transversion would flatten all others; it may leave the picture.
    axes.set_ylim(0, min(max(high) * 1.08, max(4.0, 1.6 * max(y))))
    axes.legend(loc="upper left")
    said = ", ".join(f"{ratio:.2f} at {score:.3g}" for score, ratio in zip(x, y, strict=True))
    return finished(figure, "titv", f"Ti/Tv by {counts.score}, equally many SNVs per point", said)


def _indel_lengths(counts: CallsetCounts) -> Drawing | None:
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    if not counts.lengths:
        return None
    figure, axes = new_axes("bases lost (-) or gained (+)", "alleles")
    lengths = [length for length in range(-LONGEST_BASES, LONGEST_BASES + 1) if length]
    said = []
    for i, (passes, text) in enumerate(((True, "kept" if counts.filtered else "all"), (False, "filtered"))):
        numbers = [counts.lengths.get((length, passes), 0) for length in lengths]
        if not sum(numbers):
            continue
        style: dict[str, Any] = {"color": (GOOD, BAD)[i], "marker": "os"[i], "markersize": 3, "linewidth": 1}
        for side in (slice(0, LONGEST_BASES), slice(LONGEST_BASES, None)):
            label = text if side.start else None
            axes.plot(lengths[side], [n or math.nan for n in numbers[side]], label=label, **style)
        said.append(f"{text} {sum(numbers):,}, of these {numbers[LONGEST_BASES]:,} gain and "
                    f"{numbers[LONGEST_BASES - 1]:,} lose one base")  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(-LONGEST_BASES - 1, LONGEST_BASES + 1)
    axes.set_ylim(bottom=0.7)
    axes.legend()
    return finished(figure, "indel-lengths", f"Indel lengths, {LONGEST_BASES} or more at the ends", "; ".join(said))
