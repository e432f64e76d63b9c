"""The stages on a sample sheet: ``tensors``, ``score`` and ``run`` with ``--sheet``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnnspark import stages
from cnnspark.common.log import progress
from cnnspark.common.storage import location, make_folder, require_free
from cnnspark.config import Config, InputPaths
from cnnspark.formats.regions import Region, parse_region
from cnnspark.models.card import read_card
from cnnspark.models.names import MODELS_WITHOUT_READS
from cnnspark.models.selection import select_model
from cnnspark.scoring.cascade import refuse_untrained
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.stages import pipeline
from cnnspark.stages.requests import RunRequest, ScoreRequest
from cnnspark.stages.sample_sheet import SheetCallset, read_sheet, sheet_callsets
from cnnspark.stages.sheet_runner import SheetResult, SheetSettings, fingerprint, run_on_sheet
from cnnspark.tensors.joined_dataset import sample_folders
from cnnspark.training import train
from cnnspark.variants.labeller import TruthPaths

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.common.storage import Location
    from cnnspark.training.settings import TrainSettings

# What a run of a sheet's folder holds besides the callsets' own.
TENSORS, MODEL, RUNS = "tensors", "model", "runs"


def score_sheet(
    spark: SparkSession, sheet: str, request: ScoreRequest, settings: SheetSettings | None = None
) -> SheetResult:
    """Scores every callset of a sheet, each as :func:`cnnspark.stages.score_callset` does.

    Args:
        spark: where the tasks run.
        sheet: the sample sheet.
        request: what all callsets share; ``out`` is the folder of all.
        settings: how many callsets at a time.

    Returns:
        The outcome of each callset; single failures are in it.

    Raises:
        UsageError: the model, the output or the options cannot be used.
        InputError: the sheet is wrong, or executors do not see its files.
    """
    plan = _plan(request.model, sheet, request.config)
    needed = ("vcf", "reads") if plan.card.looks_at_reads else ("vcf",)
    chosen = sheet_callsets(sheet, request.paths, needed)

    def work(each: SheetCallset, target: str, if_exists: str) -> Mapping[str, Any]:
        asked = replace(request, paths=each.paths, model=plan.model, out=target, if_exists=if_exists)
        found = stages.score_callset(spark, asked)
        return {
            "records": found["conservation"]["records_out"],
            "output": found["merged"] or target,
            "statement": found["statement"],
            "counts": found["counts"],
            "outside": (found["guard"] or {}).get("outside"),
        }

    what = f"score merge={request.merge} {request.output_type}"
    prints = {each.name: fingerprint(each, what, request.config, plan.digest) for each in chosen}
    return run_on_sheet(
        spark, "score", chosen, request.out, request.if_exists, work, prints, settings or SheetSettings()
    )


def _plan(model: str | None, sheet: str, config: Config) -> ScoringPlan:
    """How every callset of the sheet is scored. The bundled model with reads is the default if the sheet names any."""
    selected = select_model(model, any(row.reads for row in read_sheet(sheet)))
    return ScoringPlan.of(selected, config.tensors, config.score)


def tensors_sheet(
    spark: SparkSession, sheet: str, inputs: InputPaths, out: str, config: Config, if_exists: str = "fail",
    settings: SheetSettings | None = None,
) -> SheetResult:  # fmt: skip
    """Builds a dataset of every sample of a sheet, each as :func:`cnnspark.stages.build_dataset` does.

    ``train --data`` takes the folder of all.

    Args:
        spark: where the tasks run.
        sheet: the sample sheet.
        inputs: what all samples share: reference and regions.
        out: the folder of all.
        config: all settings.
        if_exists: ``fail``, ``resume`` or ``overwrite``.
        settings: how many samples at a time.

    Raises:
        UsageError: ``out`` is in use.
        InputError: the sheet is wrong, or executors do not see its files.
    """
    return _tensors(spark, sheet_callsets(sheet, inputs, by_sample=True), out, config, if_exists, settings)


def _tensors(
    spark: SparkSession, chosen: Sequence[SheetCallset], out: str, config: Config, if_exists: str,
    settings: SheetSettings | None,
) -> SheetResult:  # fmt: skip
    def work(each: SheetCallset, target: str, if_exists: str) -> Mapping[str, Any]:
        found = stages.build_dataset(spark, each.paths, target, config, if_exists)
        return {"records": found["tensors"], "output": target, "labels": found["labels"], "bytes": found["bytes"]}

    prints = {each.name: fingerprint(each, "tensors", config) for each in chosen}
    return run_on_sheet(spark, "tensors", chosen, out, if_exists, work, prints, settings or SheetSettings())


def run_sheet(
    spark: SparkSession, sheet: str, request: RunRequest, settings: SheetSettings | None = None
) -> SheetResult:
    """Scores, filters and, if there is a truth, evaluates every callset of a sheet.

    Without a model one is trained first, on all callsets that have a truth together; if none has one, a bundled model
    scores. Folder: ``tensors`` and ``model`` of that training, ``runs`` with every callset's own.

    Args:
        spark: where the tasks run.
        sheet: the sample sheet.
        request: what all callsets share; ``out`` is the folder of all.
        settings: how many callsets at a time.

    Returns:
        The outcome of each callset; single failures are in it.

    Raises:
        UsageError: the output exists, or settings that do not fit together.
        RunError: tensors or training failed.
    """
    chosen = sheet_callsets(sheet, request.paths)
    folder, config, if_exists = location(request.out), request.config, request.if_exists
    require_free(request.out, if_exists != "fail", choices="resume or overwrite", empty_ok=True)
    model, held_out = request.model or config.model, {}
    known = [each for each in sheet_callsets(sheet, request.paths, by_sample=True) if _has_truth(each.paths)]
    if model is None and known:
        refuse_untrained(config.score.cascade)
        training = config.train.with_flags(objective="classify", if_exists=if_exists)
        make_folder(folder)
        model = _train(spark, known, folder, config, training, settings)
        left_out = common_regions(read_card(model).data["held_out"])
        held_out = {each.name: left_out for each in known}
    make_folder(folder)
    plan = _plan(model, sheet, config)
    made = replace(config, model=plan.model)

    def work(each: SheetCallset, target: str, if_exists: str) -> Mapping[str, Any]:
        asked = replace(
            request, paths=each.paths, out=target, config=made, model=plan.model, if_exists=if_exists,
            held_out=held_out.get(each.name, ()),
        )  # fmt: skip
        found = pipeline.run_all(spark, asked)
        return {
            "records": sum(found.filtered_counts.values()),
            "output": found.filtered,
            "counts": found.filtered_counts,
            "metrics": found.metrics,
            "held_out": list(found.held_out),
        }

    prints = {each.name: fingerprint(each, "run", made, plan.digest) for each in chosen}
    runs = str(folder / RUNS)
    return run_on_sheet(spark, "run", chosen, runs, if_exists, work, prints, settings or SheetSettings())


def _has_truth(paths: InputPaths) -> bool:
    return TruthPaths.of(paths.truth, paths.bed, paths.labels) is not None


def _train(
    spark: SparkSession, known: Sequence[SheetCallset], folder: Location, config: Config, training: TrainSettings,
    settings: SheetSettings | None,
) -> str:  # fmt: skip
    """Trains a model on all callsets that have a truth; returns its folder."""
    # The tensors do not depend on the training's settings, so they are kept when another training resumes the run.
    progress(f"tensors of {len(known)} callsets with a truth")
    without = training.model in MODELS_WITHOUT_READS
    built = [replace(each, paths=replace(each.paths, reads=None)) if without else each for each in known]
    tensors, model = str(folder / TENSORS), str(folder / MODEL)
    _tensors(spark, built, tensors, config, training.if_exists, settings).require_all()
    progress("train")
    train(spark, sample_folders(tensors), model, training, progress)
    return model


def common_regions(held_out: Sequence[str]) -> tuple[str, ...]:
    """What a training on several samples held out of all of them, from the regions that it held out of each.

    A contig's regions end at its last allele and begin at each sample's own block.
    """
    by_contig: dict[str, list[Region]] = {}
    for text in held_out:
        region = parse_region(text)
        by_contig.setdefault(region.contig, []).append(region)
    common = [
        Region(contig, max(each.start for each in regions), max(each.end for each in regions))
        for contig, regions in by_contig.items()
    ]
    return tuple(str(region) for region in common if region.end > region.start)
