"""The stages on a sample sheet: ``tensors``, ``score`` and ``run`` with ``--sheet``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnspark import stages
from cnnspark.common.log import progress
from cnnspark.common.storage import has_files, location, make_folder
from cnnspark.config import Config, InputPaths
from cnnspark.errors import UsageError
from cnnspark.formats.regions import Region, parse_region
from cnnspark.models.bundle_files import absolute_model, chosen_model
from cnnspark.models.card import looks_at_reads, read_card, require_finished
from cnnspark.models.names import MODELS_WITHOUT_READS
from cnnspark.scoring.cascade import first_stage, refuse_untrained
from cnnspark.stages import pipeline
from cnnspark.stages.sample_sheet import SheetCallset, read_sheet, sheet_callsets
from cnnspark.stages.sheet_runner import SheetResult, SheetSettings, fingerprint, run_on_sheet
from cnnspark.tensors.joined_dataset import sample_folders
from cnnspark.training import train
from cnnspark.variants.labeller import TruthPaths

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What a run of a sheet's folder holds besides the callsets' own.
TENSORS, MODEL, RUNS = "tensors", "model", "runs"


def score_sheet(
    spark: SparkSession, sheet: str, inputs: InputPaths, model: str | None, out: str, config: Config,
    if_exists: str = "fail", merge: bool = True, strict: bool = False, settings: SheetSettings | None = None,
    output_type: str = "z",
) -> SheetResult:  # fmt: skip
    """Scores every callset of a sheet, each as :func:`cnnspark.stages.score_callset` does.

    Raises UsageError and InputError as that does for what all callsets share. What fails for single ones is in the
    result.
    """
    stages.check_output_type(output_type, merge)
    model, digest, needs_reads = _model(model, inputs, sheet, config)
    chosen = sheet_callsets(sheet, inputs, ("vcf", "reads") if needs_reads else ("vcf",))

    def work(each: SheetCallset, target: str, if_exists: str) -> Mapping[str, Any]:
        found = stages.score_callset(spark, each.paths, model, target, config, if_exists, merge, strict, output_type)
        return {
            "records": found["conservation"]["records_out"],
            "output": found["merged"] or target,
            "statement": found["statement"],
            "counts": found["counts"],
            "outside": (found["guard"] or {}).get("outside"),
        }

    prints = {each.name: fingerprint(each, f"score merge={merge} {output_type}", config, digest) for each in chosen}
    return run_on_sheet(spark, "score", chosen, out, if_exists, work, prints, settings or SheetSettings())


def _model(model: str | None, inputs: InputPaths, sheet: str, config: Config) -> tuple[str, str, bool]:
    """The model's absolute path, its digest with what comes before it, and whether it looks at reads."""
    # The bundled model that looks at reads is taken where the sheet has a column of them.
    has_reads = any(row.reads for row in read_sheet(sheet))
    model = absolute_model(chosen_model(model, has_reads))
    card = read_card(model)
    require_finished(card, model)
    first = first_stage(model, card, config.score.cascade)
    return model, f"{card.sha256} {first.identity() if first else ''}".strip(), looks_at_reads(card)


def tensors_sheet(
    spark: SparkSession, sheet: str, inputs: InputPaths, out: str, config: Config, if_exists: str = "fail",
    settings: SheetSettings | None = None,
) -> SheetResult:  # fmt: skip
    """Builds a dataset of every sample of a sheet, each as :func:`cnnspark.stages.build_dataset` does.

    ``train --data`` takes the folder of all.
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
    spark: SparkSession, sheet: str, inputs: InputPaths, out: str, config: Config, model: str | None = None,
    if_exists: str = "fail", strict: bool = False, settings: SheetSettings | None = None,
) -> SheetResult:  # fmt: skip
    """Scores, filters and, where there is a truth, evaluates every callset of a sheet.

    Without a model one is trained first, on all callsets that have a truth together; where none has, a bundled one
    scores. Folder: ``tensors`` and ``model`` of that training, ``runs`` with every callset's own.
    """
    chosen = sheet_callsets(sheet, inputs)
    folder = location(out)
    if has_files(folder) and if_exists == "fail":
        raise UsageError(f"{out} exists; choose another --out, or --if-exists resume or overwrite")
    model = model or config.model
    held_out: dict[str, tuple[str, ...]] = {}
    known = [
        each
        for each in sheet_callsets(sheet, inputs, by_sample=True)
        if TruthPaths.of(each.paths.truth, each.paths.bed, each.paths.labels) is not None
    ]
    train_settings = config.train
    if model is None and known:
        refuse_untrained(config.score.cascade)
        train_settings = config.train.with_flags(objective="classify", if_exists=if_exists)
    make_folder(folder)
    if model is None and known:
        progress(f"tensors of {len(known)} callsets with a truth")
        without = train_settings.model in MODELS_WITHOUT_READS
        built = [
            dataclasses.replace(each, paths=dataclasses.replace(each.paths, reads=None)) if without else each
            for each in known
        ]
        tensors = str(folder / TENSORS)
        _tensors(spark, built, tensors, config, if_exists, settings).require_all()
        progress("train")
        model = str(folder / MODEL)
        train(spark, sample_folders(tensors), model, train_settings, progress)
        left_out = common_regions(read_card(model).data["held_out"])
        held_out = {each.name: left_out for each in known}
    model, digest, _ = _model(model, inputs, sheet, config)
    made = dataclasses.replace(config, model=model)

    def work(each: SheetCallset, target: str, if_exists: str) -> Mapping[str, Any]:
        found = pipeline.run_all(spark, each.paths, target, made, model, if_exists, strict, held_out.get(each.name, ()))
        return {
            "records": sum(found.filtered_counts.values()),
            "output": found.filtered,
            "counts": found.filtered_counts,
            "metrics": found.metrics,
            "held_out": list(found.held_out),
        }

    prints = {each.name: fingerprint(each, "run", made, digest) for each in chosen}
    runs = str(folder / RUNS)
    return run_on_sheet(spark, "run", chosen, runs, if_exists, work, prints, settings or SheetSettings())


def common_regions(held_out: Sequence[str]) -> tuple[str, ...]:
    """Of the regions that a training on several samples held out, one to a contig: what was held out of all of them.

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
