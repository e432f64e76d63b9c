"""The report's drawings: each a function of plain numbers that gives an inline SVG, a caption and a text for the blind.

Same input, same bytes. Text stays text, the ink is the page's own, colours are told apart by the colour-blind and lines
by their dashes, too. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark.curves import Curves, Histogram, Reliability, wilson_interval
from cnnspark.metrics import Metrics
from cnnspark.runtime import PARTS
from cnnspark.schema import FALSE_VARIANT, TRUE_VARIANT
from cnnspark.tables import format_value
from cnnspark.tally import LONGEST_BASES, NO_FILTER, PASSED, TYPE_NAMES, CallsetTally

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stands for "the colour of the page's text" while matplotlib draws; becomes currentColor, so dark mode just works.
_INK = "#123456"
# Told apart by the colour-blind, legible on white and on black (Okabe and Ito's, the blue and green lightened).
_COLOURS = ("#2f86c9", "#e08a1e", "#1fa67a", "#cc79a7", "#8f6fd1", "#b5a21b")
_DASHES = ("-", "--", "-.", ":")
_GOOD, _BAD = _COLOURS[0], _COLOURS[1]
_MARKERS = {0.90: "o", 0.99: "s"}
# FILTERs with a line of their own in the histogram; the others are one.
_FILTERS = 5
# Stretches of score, of as many SNVs each, whose Ti/Tv is drawn; with fewer SNVs than this each there are fewer.
_TITV_BINS, _TITV_LEAST = 10, 50
# Blocks that are drawn: the slowest and a sample of the others.
_BLOCKS, _SLOWEST = 500, 50
_WORKERS = 40
_WIDTH_INCHES, _HEIGHT_INCHES = 4.4, 3.4


@dataclass(frozen=True)
class Drawing:
    """An inline SVG with its caption. What it shows is also said in the SVG's label."""

    caption: str
    svg: str


def drawing() -> AbstractContextManager[None]:
    """matplotlib's settings, for as long as something is drawn."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "svg.hashsalt": "cnnspark",
            "svg.fonttype": "none",  # text stays text: small, selectable, in the page's own letters
            "text.parse_math": False,  # a '$' in a score's name is a '$'
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "hatch.linewidth": 0.6,
            "savefig.transparent": True,
            **dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _INK
            ),
        }
    )


def _axes(x_label: str, y_label: str, height_inches: float = _HEIGHT_INCHES) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an inline SVG: as wide as its place, ids its own, ``alt`` for those who cannot see it."""
    import jinja2

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # Several drawings in one page must not share ids.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = svg.replace(_INK, "currentColor")
    head = re.match(r"<svg[^>]*>", svg)
    assert head is not None
    box = re.search(r'viewBox="[^"]*"', head[0])
    assert box is not None
    label = str(jinja2.filters.escape(alt))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box[0]} role="img" aria-label="{label}"><title>{label}</title>'
        + svg[head.end() :]
    )


def _finished(figure: Figure, name: str, caption: str, said: str) -> Drawing:
    return Drawing(caption, _svg(figure, name, f"{caption}: {said}"))


def _line(i: int) -> dict[str, Any]:
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.8}


def _thousands(axis: Any) -> None:
    """Counts as 12,000, whole numbers only."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


# --- against the truth -----------------------------------------------------------------------------------------------


def curve_drawings(curves: Curves, metrics: Metrics, tally: CallsetTally | None) -> list[Drawing]:
    """Precision over recall and ROC of each group, with the thresholds of two precisions and the FILTER as set."""
    drawings = []
    for area in ("auprc", "auroc"):
        is_pr = area == "auprc"
        for group, by_score in curves.groups.items():
            of_filter = filter_point(tally, group)
            figure, axes = _axes("recall", "precision") if is_pr else _axes("false alleles kept", "true alleles kept")
            for i, (name, of) in enumerate(by_score.items()):
                x, y = (of.recall, of.precision) if is_pr else (of.false_kept, of.true_kept)
                axes.plot(x, y, drawstyle="steps-post" if is_pr else "default", label=name, **_line(i))
                for mark in of.marks:
                    place = (mark.recall, mark.precision) if is_pr else (mark.false_kept, mark.recall)
                    style: dict[str, Any] = {
                        "color": _COLOURS[i % len(_COLOURS)],
                        "marker": _MARKERS[mark.precision_wanted],
                    }
                    axes.plot(*place, markersize=6, markeredgecolor=_INK, **style)
            if of_filter:
                place = (of_filter.recall, of_filter.precision) if is_pr else (of_filter.false_kept, of_filter.recall)
                axes.plot(*place, marker="D", markersize=7, color="none", markeredgecolor=_INK, markeredgewidth=1.6)
            if is_pr:
                share = curves.prevalence[group]
                axes.axhline(share, color=_INK, linewidth=1, linestyle=":", label=f"prevalence {share:.2f}")
            else:
                axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=":", label="knows nothing")
            _legend_of_marks(axes, by_score, of_filter is not None)
            axes.set_xlim(-0.02, 1.02)
            axes.set_ylim(-0.02, 1.03)
            # Above the axes: within them a line would cross it wherever it is.
            figure.legend(loc="outside upper center", ncols=3, fontsize=8, columnspacing=1, handlelength=1.6)
            areas = ", ".join(f"{s} {format_value(metrics.get(group, {}).get(s, {}).get(area))}" for s in by_score)
            caption = f"{'Precision and recall' if is_pr else 'ROC'}, {group} ({area.upper()}: {areas})"
            said = "; ".join(_said_marks(name, of.marks) for name, of in by_score.items() if of.marks)
            if of_filter:
                said += f"{'; ' if said else ''}the FILTER as set has {_said_point(of_filter)}"
            drawings.append(_finished(figure, f"{area}-{group}", caption, said or "no threshold reaches 90% precision"))
    return drawings


@dataclass(frozen=True)
class FilterPoint:
    """What the FILTER as it is set makes of the labelled alleles."""

    precision: float
    recall: float
    false_kept: float


def filter_point(tally: CallsetTally | None, group: str = "ALL") -> FilterPoint | None:
    """None where no record has a FILTER, or there are no true or false alleles."""
    if tally is None or not tally.filtered:
        return None
    true_kept, true_lost = (tally.outcome(TRUE_VARIANT, passes, group) for passes in (True, False))
    false_kept, false_lost = (tally.outcome(FALSE_VARIANT, passes, group) for passes in (True, False))
    if not true_kept + true_lost or not false_kept + false_lost or not true_kept + false_kept:
        return None
    return FilterPoint(
        precision=true_kept / (true_kept + false_kept),
        recall=true_kept / (true_kept + true_lost),
        false_kept=false_kept / (false_kept + false_lost),
    )


def _said_point(point: FilterPoint) -> str:
    return f"precision {point.precision:.3f}, recall {point.recall:.3f}"


def _said_marks(name: str, marks: Sequence[Any]) -> str:
    each = [f"recall {mark.recall:.3f} at precision {mark.precision_wanted:.2f}" for mark in marks]
    return f"{name} has {', '.join(each)}"


def _legend_of_marks(axes: Axes, by_score: Mapping[str, Any], has_filter: bool) -> None:
    seen = {mark.precision_wanted for of in by_score.values() for mark in of.marks}
    for wanted in sorted(seen):
        style: dict[str, Any] = {"marker": _MARKERS[wanted], "color": "none", "markeredgecolor": _INK}
        axes.plot([], [], linestyle="none", label=f"precision {wanted:.2f}", **style)
    if has_filter:
        style = {"marker": "D", "color": "none", "markeredgecolor": _INK, "markeredgewidth": 1.6}
        axes.plot([], [], linestyle="none", label="FILTER as set", **style)


def histogram_drawing(name: str, histogram: Histogram, number: int) -> Drawing:
    """How the scores of true and of false alleles lie."""
    figure, axes = _axes(shortened(name, 40), "alleles")
    edges = np.array(histogram.edges)
    for counts, text, colour, style in (
        (histogram.true, "true", _GOOD, "-"),
        (histogram.false, "false", _BAD, "--"),
    ):
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(counts, edges, color=colour, linestyle=style, linewidth=1.5, label=text)
    _thousands(axes.yaxis)
    axes.legend()
    medians = {"true": histogram.median_true, "false": histogram.median_false}
    said = ", ".join(f"{label} {value:.3g}" for label, value in medians.items() if value is not None)
    return _finished(figure, f"scores-{number}", f"Scores by truth, {name}", f"medians {said}")


def reliability_drawing(name: str, bins: Sequence[Reliability], number: int) -> Drawing:
    """The share of true alleles over the probability that the score says."""
    figure, axes = _axes("probability of being true, by the score", "share that is true")
    x, y = [each.predicted for each in bins], [each.true for each in bins]
    spread = [[each.true - each.low for each in bins], [each.high - each.true for each in bins]]
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=":", label="as it should be")
    axes.errorbar(x, y, yerr=spread, color=_GOOD, marker="o", markersize=4, capsize=3, linewidth=1.5, label=name)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.03)
    axes.legend(loc="upper left")
    said = ", ".join(f"{each.predicted:.2f} said, {each.true:.2f} true of {each.alleles:,}" for each in bins)
    return _finished(figure, f"calibration-{number}", f"Calibration, {name}", said)


def strata_drawings(strata: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> list[Drawing]:
    """A forest plot for each dimension: AUPRC with its interval by stratum, the scores beside each other.

    ``strata`` is dimension -> stratum -> score -> ``auprc``, ``auprc_low``, ``auprc_high``, ``n_true``, ``n_false``;
    strata without an AUPRC keep their line, which says how few alleles they have.
    """
    drawings = []
    for number, (dimension, by_stratum) in enumerate(strata.items()):
        if not by_stratum:
            continue
        scores = list(dict.fromkeys(score for by_score in by_stratum.values() for score in by_score))
        figure, axes = _axes("AUPRC, 95% interval", "", 1.3 + len(by_stratum) * max(0.34, 0.17 * len(scores)))
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
                style: dict[str, Any] = {"color": _COLOURS[i % len(_COLOURS)]}
                if low is not None and high is not None:
                    axes.plot([low, high], [place, place], linewidth=1.6, **style)
                axes.plot(middle, place, marker=("o", "s", "^", "D")[i % 4], markersize=5, **style)
                said.append(f"{stratum} {score} {middle:.3f}")
        for i, score in enumerate(scores):
            style = {"color": _COLOURS[i % len(_COLOURS)], "marker": ("o", "s", "^", "D")[i % 4]}
            axes.plot([], [], label=score, markersize=5, linewidth=1.6, **style)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.03)
        axes.grid(False, axis="y")
        figure.legend(loc="outside upper right", ncols=3)
        caption = f"AUPRC by {dimension}"
        drawings.append(_finished(figure, f"strata-{number}", caption, "; ".join(said) or "too few alleles"))
    return drawings


# --- of all records --------------------------------------------------------------------------------------------------


def tally_drawings(tally: CallsetTally) -> list[Drawing]:
    """Scores by FILTER, filtered by type, Ti/Tv by score, indel lengths; each where there is something to draw."""
    found = [_scores_by_filter(tally), _filtered_by_type(tally), _titv_by_score(tally), _indel_lengths(tally)]
    return [each for each in found if each]


def _scores_by_filter(tally: CallsetTally) -> Drawing | None:
    if not tally.scores:
        return None
    values = np.array([score for score, _ in tally.scores], np.float64)
    counts = np.array(list(tally.scores.values()), np.int64)
    order = np.argsort(values, kind="stable")
    share = np.cumsum(counts[order]) / counts.sum()
    low, high = (float(values[order][min(len(order) - 1, int(np.searchsorted(share, q)))]) for q in (0.005, 0.995))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 41)
    by_filter: Counter[str] = Counter()
    for (_, name), n in tally.scores.items():
        by_filter[name] += n
    ranked = [name for name, _ in sorted(by_filter.items(), key=lambda each: (each[0] != PASSED, -each[1], each[0]))]
    lines = ranked if len(ranked) <= _FILTERS else [*ranked[: _FILTERS - 1], "other FILTERs"]
    names = [name if name in lines else "other FILTERs" for _, name in tally.scores]
    figure, axes = _axes(tally.score, "alleles")
    for i, line in enumerate(lines):
        chosen = np.array([name == line for name in names])
        heights = np.histogram(np.clip(values[chosen], low, high), edges, weights=counts[chosen])[0]
        axes.stairs(heights, edges, fill=True, color=_COLOURS[i % len(_COLOURS)], alpha=0.25)
        axes.stairs(heights, edges, label=shortened(line, 24), **_line(i))
    _thousands(axes.yaxis)
    axes.legend()
    said = ", ".join(f"{name} {by_filter[name]:,} alleles" for name in ranked[:_FILTERS])
    return _finished(figure, "scores-by-filter", f"{tally.score} by FILTER, all alleles", said)


def _filtered_by_type(tally: CallsetTally) -> Drawing | None:
    if not tally.filtered:
        return None
    kept: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for (kind, name), n in tally.alleles.items():
        total[kind] += n
        kept[kind] += n if name in (PASSED, NO_FILTER) else 0
    kinds = [name for name in TYPE_NAMES.values() if total[name]]
    if not kinds:
        return None
    figure, axes = _axes("share of the alleles", "", 0.9 + 0.45 * len(kinds))
    for row, kind in enumerate(kinds):
        share = kept[kind] / total[kind]
        axes.barh(row, share, color=_GOOD, height=0.6, label="kept" if not row else None)
        style: dict[str, Any] = {"color": "none", "edgecolor": _BAD, "hatch": "////", "linewidth": 1}
        axes.barh(row, 1 - share, left=share, height=0.6, label="filtered" if not row else None, **style)
    labels = [f"{kind}\n{kept[kind]:,} of {total[kind]:,}" for kind in kinds]
    axes.set_yticks(range(len(kinds)), labels, fontsize=8)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_xlim(0, 1.0)
    axes.grid(False, axis="y")
    figure.legend(loc="outside upper right", ncols=2)
    said = ", ".join(f"{kind} {kept[kind]:,} of {total[kind]:,} kept" for kind in kinds)
    return _finished(figure, "filtered-by-type", "Kept and filtered by type", said)


def _titv_by_score(tally: CallsetTally) -> Drawing | None:
    """Ti/Tv in stretches of score that hold as many SNVs each."""
    by_score: Counter[float] = Counter()
    transitions: Counter[float] = Counter()
    for (score, _, transition), n in tally.substitutions.items():
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
    figure, axes = _axes(tally.score, "Ti/Tv of SNVs")
    axes.errorbar(x, y, yerr=spread, color=_GOOD, marker="o", markersize=4, capsize=3, linewidth=1.5)
    axes.axhline(0.5, color=_INK, linewidth=1, linestyle=":", label="0.5: substitutions at random")
    # A stretch with hardly a transversion has an interval that would flatten all others; it leaves the picture.
    axes.set_ylim(0, min(max(high) * 1.08, max(4.0, 1.6 * max(y))))
    axes.legend(loc="upper left")
    said = ", ".join(f"{ratio:.2f} at {score:.3g}" for score, ratio in zip(x, y, strict=True))
    return _finished(figure, "titv", f"Ti/Tv by {tally.score}, as many SNVs a point", said)


def _indel_lengths(tally: CallsetTally) -> Drawing | None:
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    if not tally.lengths:
        return None
    figure, axes = _axes("bases lost (-) or gained (+)", "alleles")
    lengths = [length for length in range(-LONGEST_BASES, LONGEST_BASES + 1) if length]
    said = []
    for i, (passes, text) in enumerate(((True, "kept" if tally.filtered else "all"), (False, "filtered"))):
        counts = [tally.lengths.get((length, passes), 0) for length in lengths]
        if not sum(counts):
            continue
        style: dict[str, Any] = {"color": (_GOOD, _BAD)[i], "marker": "os"[i], "markersize": 3, "linewidth": 1}
        for side in (slice(0, LONGEST_BASES), slice(LONGEST_BASES, None)):
            label = text if side.start else None
            axes.plot(lengths[side], [n or math.nan for n in counts[side]], label=label, **style)
        said.append(f"{text} {sum(counts):,}, of these {counts[LONGEST_BASES]:,} gain and "
                    f"{counts[LONGEST_BASES - 1]:,} lose one base")  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(-LONGEST_BASES - 1, LONGEST_BASES + 1)
    axes.set_ylim(bottom=0.7)
    axes.legend()
    return _finished(figure, "indel-lengths", f"Indel lengths, {LONGEST_BASES} or more at the ends", "; ".join(said))


# --- the training and the run ----------------------------------------------------------------------------------------


def training_drawings(history: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """Losses, and metrics between 0 and 1, by epoch."""
    from matplotlib.ticker import MaxNLocator

    curves: dict[str, list[tuple[float, float]]] = {}
    for row_number, row in enumerate(history):
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)) and math.isfinite(value):
                curves.setdefault(str(name), []).append((float(row.get("epoch", row_number)), float(value)))
    losses = {name: points for name, points in curves.items() if name.endswith("loss")}
    # Seconds and learning rates are not on the scale of a metric.
    ratios = {n: p for n, p in curves.items() if n not in losses and all(0 <= value <= 1 for _, value in p)}
    drawings = []
    for id_, caption, chosen in (("loss", "Loss by epoch", losses), ("ratios", "Metrics by epoch", ratios)):
        if not chosen:
            continue
        figure, axes = _axes("epoch", "loss" if chosen is losses else "value")
        for i, (name, points) in enumerate(chosen.items()):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker="o", markersize=3, label=name, **_line(i))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        last = ", ".join(f"{name} {points[-1][1]:.4g}" for name, points in chosen.items())
        drawings.append(_finished(figure, f"training-{id_}", caption, f"last {last}"))
    return drawings


def runtime_drawings(blocks: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """Where the time went, each block's against what was predicted, and how evenly the workers were loaded.

    ``blocks`` are rows of ``blocks.tsv`` with numbers for texts, NaN where a value is not known.
    """
    known = [row for row in blocks if math.isfinite(row["seconds"])]
    if not known:
        return []
    return [each for each in (_parts(known), _blocks_drawing(known), _workers(known)) if each]


def _parts(rows: Sequence[Mapping[str, Any]]) -> Drawing | None:
    totals = {name: sum(row[f"{name}_seconds"] for row in rows) for name in PARTS}
    totals = {name: seconds for name, seconds in totals.items() if math.isfinite(seconds) and seconds > 0}
    if not totals:
        return None
    figure, axes = _axes("seconds of all blocks together", "", 0.8 + 0.36 * len(totals))
    names = list(totals)
    axes.barh(range(len(names)), list(totals.values()), color=_GOOD, height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(False, axis="y")
    said = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in totals.items())
    return _finished(figure, "runtime-parts", "Where the time of the blocks went", said)


def _blocks_drawing(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    ranked = sorted(rows, key=lambda row: -row["seconds"])
    rest = ranked[_SLOWEST:]
    drawn = ranked[:_SLOWEST] + rest[:: max(1, -(-len(rest) // (_BLOCKS - _SLOWEST)))]
    figure, axes = _axes("predicted seconds of one core", "seconds")
    axes.plot(
        [row["predicted_seconds"] for row in drawn], [row["seconds"] for row in drawn],
        linestyle="none", marker="o", markersize=4, color=_GOOD, alpha=0.7,
    )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    slowest = ranked[0]
    place = f"{slowest['contig']}:{slowest['start'] + 1:,}"
    mean = sum(row["seconds"] for row in rows) / len(rows)
    said = f"{len(rows):,} blocks, {mean:.2f} s in the mean; the slowest, {slowest['seconds']:.2f} s, begins at {place}"
    drawn_of = "" if len(drawn) == len(rows) else f" ({len(drawn):,} of {len(rows):,} drawn)"
    return _finished(figure, "runtime-blocks", f"Each block's time and what was predicted{drawn_of}", said)


def _workers(rows: Sequence[Mapping[str, Any]]) -> Drawing | None:
    seconds: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.get("pid"):
            seconds[row["host"], row["pid"]] += row["seconds"]
    if not seconds:
        return None
    ranked = sorted(seconds.items(), key=lambda each: (-each[1], each[0]))
    shown = ranked if len(ranked) <= _WORKERS else ranked[: _WORKERS // 2] + ranked[-_WORKERS // 2 :]
    mean = sum(seconds.values()) / len(seconds)
    figure, axes = _axes("worker, the busiest first", "seconds of its blocks")
    axes.bar(range(1, len(shown) + 1), [each[1] for each in shown], color=_GOOD, width=0.7)
    axes.axhline(mean, color=_INK, linewidth=1, linestyle=":", label=f"mean {mean:.1f} s")
    _thousands(axes.xaxis)
    axes.set_xlim(0.3, len(shown) + 0.7)
    figure.legend(loc="outside upper right")
    most, least = ranked[0][1], ranked[-1][1]
    said = f"{len(seconds)} workers, {mean:.1f} s in the mean, {most:.1f} s at most, {least:.1f} s at least"
    shown_of = "" if len(shown) == len(ranked) else f" (the busiest and idlest {len(shown)} of {len(ranked)})"
    return _finished(figure, "runtime-workers", f"Seconds of work by worker{shown_of}", said)


def shortened(text: str, longest: int) -> str:
    """A text that fits: cut, with an ellipsis, where it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
