"""The report: one HTML file that needs nothing else, saying in words, tables and pictures how good a filter is.

Same input, same bytes: no date, path or version is written that the caller did not give. Everything from outside
(score names, FILTERs, alleles, facts, titles) is escaped.

:mod:`~cnnspark.reports.callset.contents` is what goes in; ``sentences`` has the summary, ``page_tables`` the tables,
``truth_charts``, ``callset_charts`` and ``run_charts`` the drawings, ``templates/report.html`` the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnspark.common.storage import location, make_parents, write_text
from cnnspark.errors import RunError
from cnnspark.reports.callset import callset_charts, page_tables, run_charts, sentences, truth_charts
from cnnspark.reports.callset.chart import Drawing, drawing
from cnnspark.reports.callset.contents import ReportContents
from cnnspark.reports.html_template import render
from cnnspark.variants.score_fields import is_log_odds

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


def write_report(out_html: str | Path | Location, contents: ReportContents) -> list[str]:
    """Writes the report, whole or not at all.

    Args:
        out_html: A path or a URL; missing folders are made.
        contents: What the report shows.

    Returns:
        The sentences of its summary.

    Raises:
        RunError: If the file cannot be written.
    """
    contents = contents.ordered()
    summary = sentences.summary(contents)
    page = _page(contents, summary)
    target = location(out_html)
    try:
        make_parents(target)
        write_text(target, page)
    except OSError as error:
        raise RunError(
            f"{out_html} cannot be written ({error.strerror}); check the folder and its free space"
        ) from None
    return summary


def _page(contents: ReportContents, summary: list[str]) -> str:
    run, counts, metrics = contents.run, contents.counts, contents.metrics
    with drawing():
        drawn = _drawings(contents)
    return render(
        "report.html",
        title=contents.title,
        summary=summary,
        has_truth=contents.has_truth,
        metrics=page_tables.metrics_table(metrics),
        recalls=page_tables.recall_table(metrics),
        comparison=page_tables.comparison_table(contents.comparison),
        callsets=[(str(name), page_tables.composition_table(of)) for name, of in contents.callsets.items()],
        drawn=drawn,
        surprising=page_tables.surprising_table(counts, contents.inputs, run.model),
        log_odds=counts is not None and is_log_odds(counts.score),
        score=counts.score if counts else "",
        filters=page_tables.filter_table(counts),
        training=sentences.of_training(contents.history),
        runtime=sentences.of_runtime(run),
        statement=run.statement,
        guard=page_tables.guard_table(run),
        card=page_tables.card_tables(run.card, run.model) if run.card else None,
        configuration=page_tables.fact_table(run.configuration),
        facts=page_tables.fact_tables(contents.facts),
    )


def _drawings(contents: ReportContents) -> dict[str, list[Drawing]]:
    """The drawings by the section that they are in."""
    counts, curves = contents.counts, contents.curves
    found: dict[str, list[Drawing]] = {
        "strata": truth_charts.strata_drawings(contents.strata),
        "callset": callset_charts.callset_drawings(counts) if counts else [],
        "training": run_charts.training_drawings(contents.history),
        "runtime": run_charts.runtime_drawings(contents.run.blocks),
        "curves": [],
        "scores": [],
    }
    if curves:
        found["curves"] = truth_charts.curve_drawings(curves, contents.metrics, counts)
        for i, (name, histogram) in enumerate(curves.histograms.items()):
            found["scores"].append(truth_charts.histogram_drawing(name, histogram, i))
        for i, (name, bins) in enumerate(curves.reliability.items()):
            if bins:
                found["scores"].append(truth_charts.reliability_drawing(name, bins, i))
    return found
