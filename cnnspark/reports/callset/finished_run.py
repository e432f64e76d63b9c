"""The report of a finished run, made from its folder alone: ``cnnspark report``. No Spark.

It reads the whole callset once, which takes about a minute for a genome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pysam

from cnnspark.common.storage import explained, location, read_json, require_free, write_json
from cnnspark.errors import InputError, UsageError
from cnnspark.evaluation.callset_counts import CallsetCounter, CallsetCounts
from cnnspark.evaluation.curves import Curves
from cnnspark.evaluation.metrics import Metrics
from cnnspark.execution.shards import MERGED, MERGED_BCF
from cnnspark.formats.bgzf import open_bgzf
from cnnspark.formats.callset import kind_of, require_file
from cnnspark.formats.htslib import for_htslib
from cnnspark.formats.vcf import ENCODING, Record, VcfHeader
from cnnspark.reports.callset.contents import ReportContents
from cnnspark.reports.callset.page import write_report
from cnnspark.reports.callset.run_facts import RunFacts, is_scoring_run, read_run

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

PICTURES, METRICS = "pictures.json", "metrics.json"
# The names that 'cnnspark run' gives to its parts.
_SCORED, _FILTERED, _EVALUATION = "scored", "filtered.vcf.gz", "evaluation"


def store_pictures(folder: Location, curves: Curves, counts: CallsetCounts) -> None:
    """Writes what a report draws into an evaluation's folder."""
    write_json(folder / PICTURES, {"curves": curves.to_json(), "tally": counts.to_json()})


def read_pictures(folder: Location) -> tuple[Curves, CallsetCounts] | None:
    """Reads what :func:`store_pictures` wrote; None if the folder has no such file.

    Raises:
        InputError: If the file is damaged.
    """
    if not (folder / PICTURES).exists():
        return None
    values = read_json(folder / PICTURES, "an evaluation")
    try:
        return Curves.from_json(values["curves"]), CallsetCounts.from_json(values["tally"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / PICTURES} is damaged ({error}); evaluate again") from None


def report_run(
    run_folder: str, out: str, vcf: str | None = None, evaluation: str | None = None, title: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Writes the report of a run's folder.

    Args:
        run_folder: The ``--out`` of 'cnnspark score' or 'cnnspark run'.
        out: The HTML file to write.
        vcf: The filtered callset. Default: that of 'cnnspark run', else the scored one.
        evaluation: The ``--out`` of 'cnnspark evaluate'. Default: that of 'cnnspark run', if it had a truth.
        title: The page's heading. Default: the folder's name.
        overwrite: Whether an existing page may be replaced.

    Returns:
        ``report``, ``run`` and ``callset`` (paths), and ``summary``, the sentences that the page begins with.

    Raises:
        UsageError: If ``out`` is a folder, or exists and may not be replaced.
        InputError: If a folder is not a finished run or not an evaluation, or a file cannot be read.
        RunError: If the page cannot be written.
    """
    target, folder = location(out), location(run_folder)
    with explained(out):
        if target.is_dir():
            raise UsageError(f"{out} is a folder; name the page in it, {out.rstrip('/')}/report.html")
    require_free(out, overwrite)
    scored, found_vcf, found_evaluation = _parts(folder, run_folder)
    run = read_run(str(scored))
    vcf, measured = vcf or found_vcf, location(evaluation) if evaluation else found_evaluation
    metrics: Metrics = {}
    facts: dict[str, Any] = {}
    more: dict[str, Any] = {}
    pictures = None
    if measured is not None:
        stored = read_json(measured / METRICS, "an evaluation")
        try:
            metrics = dict(stored["metrics"])
            more = {name: dict(stored.get(name) or {}) for name in ("strata", "comparison", "callsets")}
            facts = {"evaluation": str(measured), "counts": dict(stored.get("counts") or {})}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{measured / METRICS} is damaged ({error}); evaluate again") from None
        pictures = read_pictures(measured)
    files = [vcf] if vcf else _scored_files(scored, run)
    counts = count_callset(files, pictures[1].score if pictures else run.key)
    if pictures:
        counts.outcomes, counts.surprising = pictures[1].outcomes, pictures[1].surprising
    callset = vcf or str(scored)
    contents = ReportContents(
        title=title or f"cnnspark: {folder.name}",
        metrics=metrics,
        curves=pictures[0] if pictures else None,
        history=run.card.history if run.card else (),
        facts={"callset": callset, **facts},
        counts=counts,
        run=run,
        inputs={**run.inputs, "vcf": callset},
        **more,
    )
    summary = write_report(target, contents)
    return {"report": out, "run": str(scored), "callset": callset, "summary": summary}


def _parts(folder: Location, given: str) -> tuple[Location, str | None, Location | None]:
    """The scoring run, the filtered callset and the evaluation that a folder holds."""
    with explained(given):
        if not folder.is_dir():
            raise InputError(f"{given} does not exist; give the --out of 'cnnspark score' or 'cnnspark run'")
        if (folder / "samples.tsv").exists():
            raise InputError(f"{given} has the callsets of a sheet; give one of the folders in {given}/samples")
        if is_scoring_run(folder):
            return folder, None, None
        if (folder / _SCORED).is_dir() and is_scoring_run(folder / _SCORED):
            filtered, evaluation = folder / _FILTERED, folder / _EVALUATION
            return (
                folder / _SCORED,
                str(filtered) if filtered.exists() else None,
                evaluation if (evaluation / METRICS).exists() else None,
            )
    raise InputError(f"{given} is not a finished run; give the --out of 'cnnspark score' or 'cnnspark run'")


def _scored_files(scored: Location, run: RunFacts) -> list[str]:
    """The merged callset, or the shards if nothing was merged."""
    merged = [str(scored / name) for name in (MERGED, MERGED_BCF) if (scored / name).exists()]
    return merged[:1] or list(run.shards)


def count_callset(paths: Sequence[str], score: str) -> CallsetCounts:
    """Counts the records of VCFs (compressed or not) or BCFs that together are one callset.

    Args:
        paths: The files.
        score: QUAL, an INFO key or FORMAT/KEY (:class:`cnnspark.evaluation.callset_counts.CallsetCounter`).

    Raises:
        InputError: If one of them is not a VCF or BCF, or cannot be read.
        UsageError: If a header declares the score as text.
    """
    total = CallsetCounts(score)
    for path in paths:
        require_file(path, "callset")
        lines = _bcf_lines(path) if kind_of(path) == "bcf" else _vcf_lines(path)
        head: list[str] = []
        for line in lines:
            head.append(line)
            if line.startswith("#CHROM"):
                break
        try:
            counter = CallsetCounter(VcfHeader(head), score)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        total += counter.count(Record(line) for line in lines if line)
    return total


def _vcf_lines(path: str) -> Iterator[str]:
    try:
        with open_bgzf(path) as lines:
            for raw in lines:
                yield raw.decode(ENCODING).rstrip("\r")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); copy it again from its source") from None


def _bcf_lines(path: str) -> Iterator[str]:
    try:
        with pysam.VariantFile(for_htslib(path)) as source:
            yield from str(source.header).splitlines()
            for record in source:
                yield str(record).rstrip("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as BCF ({error}); make it again with 'bcftools view -Ob'") from None
