"""The report: one HTML file that needs nothing else, saying in words, tables and curves how good a filter is.

Same input, same bytes: the figures' ids are salted with a constant, and no date, path or version is written that the
caller did not give. Everything that comes from outside (score names, facts, titles) is escaped.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark.errors import RunError
from cnnspark.files import location, make_parents, write_text
from cnnspark.metrics import PRECISIONS, AlleleScores, Metrics, Value, format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stands for "the colour of the page's text" while matplotlib draws; becomes currentColor, so dark mode just works.
_INK = "#123456"
# Told apart by the colour-blind, legible on white and on black (Okabe and Ito's, the blue and green lightened).
_COLOURS = ("#2f86c9", "#e08a1e", "#1fa67a", "#cc79a7", "#8f6fd1", "#b5a21b")
_DASHES = ("-", "--", "-.", ":")
_TRUE_COLOUR, _FALSE_COLOUR = _COLOURS[0], _COLOURS[1]
_MAX_POINTS = 300

_TABLE_COLUMNS = {
    "True": "n_true",
    "False": "n_false",
    "Prevalence": "prevalence",
    "AUPRC": "auprc",
    "AUROC": "auroc",
    **{f"Recall at precision {wanted:.0%}": f"recall_at_precision_{wanted:.2f}" for wanted in PRECISIONS},
    "Best F1": "f1",
    "at threshold": "f1_threshold",
    "Calibration error": "calibration_error",
}


def write_report(
    out_html: str | Path,
    title: str,
    metrics: Metrics,
    scores: AlleleScores,
    history: Sequence[Mapping[str, Any]] | None,
    facts: Mapping[str, Any],
    *,
    model: str | None = None,
    baseline: str | None = "QUAL",
) -> None:
    """Writes the report, whole or not at all.

    ``metrics`` as :func:`cnnspark.metrics.evaluate` gives them for ``scores``. ``model`` is the score that the summary
    is about (default: the first that is not ``baseline``). ``history`` has a row per epoch: ``epoch``, ``loss``,
    ``val_loss``, ``val_auprc``, ...; None where nothing was trained. ``facts`` becomes tables: each value that is a
    mapping its own, under its key as heading; the others one together. Raises RunError where it cannot be written.
    """
    names = list(scores.scores)
    if model is None:
        model = next((name for name in names if name != baseline), names[0] if names else None)
    known = scores.labelled()
    page = _template().render(
        title=title,
        summary=_summary(metrics, len(scores), known, model, baseline),
        columns=list(_TABLE_COLUMNS),
        groups=_table(metrics),
        figures=_figures(metrics, known),
        training=_training(history or []),
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


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(resources.files("cnnspark").joinpath("templates/report.html").read_text("utf-8"))


def _with_interval(values: Mapping[str, Value]) -> str:
    text = format_value(values.get("auprc"))
    low, high = values.get("auprc_low"), values.get("auprc_high")
    return text if low is None or high is None else f"{text} (95% interval {low:.3f} to {high:.3f})"


def _summary(
    metrics: Metrics, n_alleles: int, known: AlleleScores, model: str | None, baseline: str | None
) -> list[str]:
    """The findings as sentences, the most important first."""
    n_true = int((known.label == 1).sum())
    sentences = [
        f"{n_alleles:,} ALT alleles; the truth of {len(known):,} is known: {n_true:,} true and "
        f"{len(known) - n_true:,} false."
    ]
    values = metrics.get("ALL", {}).get(model or "", {})
    prevalence = values.get("prevalence")
    if prevalence is not None:
        sentences.append(
            f"{prevalence:.1%} of them are true: that is the area under the precision-recall curve (AUPRC) of a score "
            "that knows nothing."
        )
    if values.get("auprc") is None:
        sentences.append("True and false alleles are both needed to say how good a score is; one of them is lacking.")
        return sentences
    sentence = f"{model} has an AUPRC of {_with_interval(values)}"
    other = metrics.get("ALL", {}).get(baseline or "", {}) if baseline != model else {}
    if other.get("auprc") is not None:
        sentence += f"; {baseline} has {_with_interval(other)}"
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
        sentence = f"At a precision of {wanted:.0%}, {model} keeps {recall:.1%} of the true alleles"
        sentences.append(sentence + (f", {baseline} {other_recall:.1%}." if other_recall is not None else "."))
    return sentences


def _table(metrics: Metrics) -> list[dict[str, Any]]:
    rows = []
    for group, by_score in metrics.items():
        for name, values in by_score.items():
            cells = [(heading, format_value(values.get(metric))) for heading, metric in _TABLE_COLUMNS.items()]
            rows.append({"group": group, "score": name, "cells": cells})
    return rows


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


# --- figures ---------------------------------------------------------------------------------------------------------


def _drawing() -> AbstractContextManager[None]:
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
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "savefig.transparent": True,
            **dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _INK
            ),
        }
    )


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 3.4), layout="constrained")
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


def _figures(metrics: Metrics, known: AlleleScores) -> list[dict[str, str]]:
    """Caption and SVG of the curves of each group and of the histogram of each score."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    figures = []
    with _drawing():
        for group in metrics:
            part = known.group(group)
            usable = {name: _ranked(values) for name, values in part.scores.items()}
            if len(np.unique(part.label)) < 2 or not usable:
                continue
            prevalence = float(np.mean(part.label == 1))
            figure, axes = _axes("recall", "precision")
            for i, (name, values) in enumerate(usable.items()):
                precision, recall, _ = precision_recall_curve(part.label, values)
                # The first point of a step curve may stand on a handful of alleles; it is drawn all the same.
                chosen = _thinned(len(recall))
                axes.plot(recall[chosen], precision[chosen], drawstyle="steps-post", label=name, **_line(i))
            axes.axhline(prevalence, color=_INK, linewidth=1, linestyle=":", label=f"prevalence {prevalence:.2f}")
            _unit_square(axes)
            figures.append(_figure(figure, f"pr-{group}", f"Precision and recall, {group}", metrics[group], "auprc"))
            figure, axes = _axes("false alleles kept", "true alleles kept")
            for i, (name, values) in enumerate(usable.items()):
                false_rate, true_rate, _ = roc_curve(part.label, values)
                chosen = _thinned(len(false_rate))
                axes.plot(false_rate[chosen], true_rate[chosen], label=name, **_line(i))
            axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=":", label="knows nothing")
            _unit_square(axes)
            figures.append(_figure(figure, f"roc-{group}", f"ROC, {group}", metrics[group], "auroc"))
        for i, (name, values) in enumerate(known.scores.items()):
            drawn = _histogram(name, values, known.label, f"scores-{i}")
            if drawn:
                figures.append(drawn)
    return figures


def _figure(figure: Figure, name: str, caption: str, by_score: Mapping[str, Mapping[str, Value]], area: str) -> dict:
    figure.axes[0].legend(loc="lower left" if area == "auprc" else "lower right")
    areas = ", ".join(f"{score} {format_value(values.get(area))}" for score, values in by_score.items())
    alt = f"{caption}: {area.upper()} {areas}"
    return {"caption": f"{caption} ({area.upper()}: {areas})", "svg": _svg(figure, name, alt)}


def _histogram(name: str, values: np.ndarray, label: np.ndarray, id_: str) -> dict[str, str] | None:
    """How the scores of true and of false alleles lie; the outermost half per cent is drawn at the edges."""
    finite = np.isfinite(values)
    if not finite.any():
        return None
    low, high = np.percentile(values[finite], [0.5, 99.5])
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, 41)
    figure, axes = _axes("score", "alleles")
    for wanted, text, colour, style in ((1, "true", _TRUE_COLOUR, "-"), (0, "false", _FALSE_COLOUR, "--")):
        chosen = np.clip(values[finite & (label == wanted)], low, high)
        axes.hist(chosen, bins=bins, histtype="stepfilled", color=colour, alpha=0.3)
        axes.hist(chosen, bins=bins, histtype="step", color=colour, linestyle=style, linewidth=1.5, label=text)
    axes.legend()
    middle = {w: np.median(values[finite & (label == w)]) for w in (0, 1) if (finite & (label == w)).any()}
    medians = ", ".join(f"{'true' if w else 'false'} {value:.3g}" for w, value in sorted(middle.items(), reverse=True))
    caption = f"Scores by truth, {name}"
    return {"caption": caption, "svg": _svg(figure, id_, f"{caption}: medians {medians}")}


def _ranked(values: np.ndarray) -> np.ndarray:
    """Scores as ranks: the curves stay the same, and missing or infinite scores have their place (missing last)."""
    filled = np.where(np.isnan(values), -np.inf, values)
    return np.unique(filled, return_inverse=True)[1].reshape(-1)


def _thinned(n: int) -> np.ndarray:
    """Which of n points to draw: first and last always."""
    return np.unique(np.linspace(0, n - 1, min(n, _MAX_POINTS)).astype(np.int64))


def _line(i: int) -> dict[str, Any]:
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.8}


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)


def _training(history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Words and figures about the training, None where there was none."""
    from matplotlib.ticker import MaxNLocator

    curves: dict[str, list[tuple[float, float]]] = {}
    for row_number, row in enumerate(history):
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)) and math.isfinite(value):
                curves.setdefault(str(name), []).append((float(row.get("epoch", row_number)), float(value)))
    if not curves:
        return None
    sentences = [f"{len(history)} {'epoch' if len(history) == 1 else 'epochs'}."]
    if "val_auprc" in curves:
        epoch, best = max(curves["val_auprc"], key=lambda point: (point[1], -point[0]))
        sentences.append(f"The best AUPRC on the validation data is {best:.3f}, at epoch {epoch:g}.")
    losses = {name: points for name, points in curves.items() if name.endswith("loss")}
    # Seconds and learning rates are not on the scale of a metric.
    ratios = {n: p for n, p in curves.items() if n not in losses and all(0 <= value <= 1 for _, value in p)}
    figures = []
    with _drawing():
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
            figures.append({"caption": caption, "svg": _svg(figure, f"training-{id_}", f"{caption}: last {last}")})
    return {"sentences": sentences, "figures": figures}
