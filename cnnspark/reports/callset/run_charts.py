"""The report's drawings of a training and of a run: losses and metrics by epoch, and time by part, block and worker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cnnspark.common.stopwatch import PARTS
from cnnspark.reports.callset.chart import GOOD, INK, Drawing, finished, line_style, new_axes, thousands

# How many blocks are drawn: the slowest ones and a sample of the others.
_BLOCKS, _SLOWEST = 500, 50
_WORKERS = 40


def training_drawings(history: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """Losses, and metrics between 0 and 1, by epoch; ``history`` has a row per epoch."""
    from matplotlib.ticker import MaxNLocator

    curves: dict[str, list[tuple[float, float]]] = {}
    for row_number, row in enumerate(history):
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)) and math.isfinite(value):
                curves.setdefault(str(name), []).append((float(row.get("epoch", row_number)), float(value)))
    losses = {name: points for name, points in curves.items() if name.endswith("loss")}
    # Seconds and the like do not fit the scale of a metric.
    ratios = {n: p for n, p in curves.items() if n not in losses and all(0 <= value <= 1 for _, value in p)}
    drawings = []
    for id_, caption, chosen in (("loss", "Loss by epoch", losses), ("ratios", "Metrics by epoch", ratios)):
        if not chosen:
            continue
        figure, axes = new_axes("epoch", "loss" if chosen is losses else "value")
        for i, (name, points) in enumerate(chosen.items()):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker="o", markersize=3, label=name, **line_style(i))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        last = ", ".join(f"{name} {points[-1][1]:.4g}" for name, points in chosen.items())
        drawings.append(finished(figure, f"training-{id_}", caption, f"last {last}"))
    return drawings


def runtime_drawings(blocks: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """Where the time went, each block's time beside the predicted one, and how evenly the workers were loaded.

    ``blocks`` are rows of ``blocks.tsv`` with texts turned into numbers; unknown ones are NaN.
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
    figure, axes = new_axes("seconds of all blocks together", "", 0.8 + 0.36 * len(totals))
    names = list(totals)
    axes.barh(range(len(names)), list(totals.values()), color=GOOD, height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(False, axis="y")
    said = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in totals.items())
    return finished(figure, "runtime-parts", "Where the time of the blocks went", said)


def _blocks_drawing(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    ranked = sorted(rows, key=lambda row: -row["seconds"])
    rest = ranked[_SLOWEST:]
    drawn = ranked[:_SLOWEST] + rest[:: max(1, -(-len(rest) // (_BLOCKS - _SLOWEST)))]
    figure, axes = new_axes("predicted seconds of one core", "seconds")
    axes.plot(
        [row["predicted_seconds"] for row in drawn], [row["seconds"] for row in drawn],
        linestyle="none", marker="o", markersize=4, color=GOOD, alpha=0.7,
    )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    slowest = ranked[0]
    place = f"{slowest['contig']}:{slowest['start'] + 1:,}"
    mean = sum(row["seconds"] for row in rows) / len(rows)
    said = f"{len(rows):,} blocks, {mean:.2f} s on average; the slowest, {slowest['seconds']:.2f} s, begins at {place}"
    drawn_of = "" if len(drawn) == len(rows) else f" ({len(drawn):,} of {len(rows):,} drawn)"
    return finished(figure, "runtime-blocks", f"Each block's time and what was predicted{drawn_of}", said)


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
    figure, axes = new_axes("worker, the busiest first", "seconds of its blocks")
    axes.bar(range(1, len(shown) + 1), [each[1] for each in shown], color=GOOD, width=0.7)
    axes.axhline(mean, color=INK, linewidth=1, linestyle=":", label=f"mean {mean:.1f} s")
    thousands(axes.xaxis)
    axes.set_xlim(0.3, len(shown) + 0.7)
    figure.legend(loc="outside upper right")
    most, least = ranked[0][1], ranked[-1][1]
    said = f"{len(seconds)} workers, {mean:.1f} s on average, {most:.1f} s at most, {least:.1f} s at least"
    shown_of = "" if len(shown) == len(ranked) else f" (the busiest and idlest {len(shown)} of {len(ranked)})"
    return finished(figure, "runtime-workers", f"Seconds of work by worker{shown_of}", said)
