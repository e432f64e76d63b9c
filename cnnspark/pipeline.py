"""All stages in a row: ``cnnspark run`` on a sample of the user's, ``cnnspark demo`` on a simulated one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cnnspark import stages, training
from cnnspark.config import Config, InputPaths
from cnnspark.dataset import dataset_folder
from cnnspark.errors import UsageError
from cnnspark.filtering import GROUPS
from cnnspark.inputs import TruthPaths
from cnnspark.log import progress
from cnnspark.metrics import format_table
from cnnspark.models.card import Card, read_card
from cnnspark.runs import RunFolder
from cnnspark.shards import MERGED, shard_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What a run's folder holds, by stage.
CANDIDATES, TENSORS, MODEL, SCORED, FILTERED, EVALUATION, CONFIG = (
    "candidates.vcf.gz", "tensors", "model", "scored", "filtered.vcf.gz", "evaluation", "config.yaml",
)  # fmt: skip


@dataclass
class PipelineResult:
    """Where the results lie, and what they are worth."""

    out: str
    model: str
    merged: str
    filtered: str
    statement: str
    filtered_counts: dict[str, int]
    thresholds: dict[str, float]
    evaluation: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        """The summary for a person."""
        lines = [self.statement, ""]
        if self.metrics:
            where = f" on the held-out regions {', '.join(self.held_out)}" if self.held_out else ""
            lines += [f"Metrics{where}:", format_table(self.metrics), ""]
        cutoffs = ", ".join(f"{group} {value:.3f}" for group, value in sorted(self.thresholds.items()))
        counts = self.filtered_counts
        lines += [
            f"filter      {counts.get('passed', 0)} records pass, {counts.get('filtered', 0)} filtered ({cutoffs})",
            f"merged VCF  {self.filtered}",
            f"scored VCF  {self.merged}",
            f"model       {self.model}",
        ]
        if self.evaluation:
            lines += [f"metrics     {self.evaluation}/metrics.json", f"report      {self.evaluation}/report.html"]
        return "\n".join(lines)


def run_all(
    spark: SparkSession,
    paths: InputPaths,
    out: str,
    config: Config,
    model: str | None = None,
    if_exists: str = "fail",
) -> PipelineResult:
    """Candidates where there is no callset, tensors and training where there is no model, scores, FILTER, evaluation.

    A model is trained on the truth's blocks but for the last share of each contig, and the evaluation is on the regions
    that were held out. With ``if_exists="resume"`` finished stages are kept. Raises UsageError, InputError, RunError.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()) and if_exists == "fail":
        raise UsageError(f"{out} exists; choose another --out, or --if-exists resume or overwrite")
    model = model or config.model
    truth = TruthPaths.of(paths)
    if model is None and truth is None:
        raise UsageError("there is neither a model nor a truth to train one on; give --model, or --truth with --bed")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(yaml.safe_dump(_plain(config.to_dict() | {"inputs": dataclasses.asdict(paths)})))
    resume = if_exists == "resume"
    if paths.vcf is None:
        called = folder / CANDIDATES
        if not (resume and called.exists()):
            progress("candidates")
            stages.call_candidates(spark, paths, str(called), config, overwrite=True)
        paths = dataclasses.replace(paths, vcf=str(called), regions=())

    if model is None:
        progress("tensors")
        data = str(folder / TENSORS)
        stages.build_dataset(spark, paths, data, config, _mode(dataset_folder(data), if_exists))
        progress("train")
        model = str(folder / MODEL)
        mode = if_exists if Path(model).exists() or resume else "fail"
        training.train(spark, data, model, dataclasses.replace(config.train, if_exists=mode), progress)
    card = read_card(model)

    progress("score")
    scored = str(folder / SCORED)
    summary = stages.score_callset(spark, paths, model, scored, config, _mode(shard_folder(scored), if_exists))
    progress("filter")
    filtered = str(folder / FILTERED)
    outcome = filter_with(spark, scored, filtered, config, card)
    result = PipelineResult(
        out=out,
        model=model,
        merged=f"{scored}/{MERGED}",
        filtered=filtered,
        statement=summary["statement"],
        filtered_counts=outcome["counts"],
        thresholds=outcome["thresholds"],
    )
    if truth is not None:
        progress("evaluate")
        result.evaluation = str(folder / EVALUATION)
        result.held_out = tuple(card.data.get("held_out", ())) if str(folder) in model else ()
        facts = {"conservation": summary["statement"], "model": _card_facts(card), "configuration": config.to_dict()}
        measured = stages.evaluate_callset(
            spark, dataclasses.replace(paths, vcf=filtered, regions=result.held_out or paths.regions),
            result.evaluation, config, title="cnnspark run", overwrite=True, history=list(card.history), facts=facts,
        )  # fmt: skip
        result.metrics = measured.metrics
    return result


def filter_with(spark: SparkSession, scored: str, filtered: str, config: Config, card: Card) -> dict[str, Any]:
    """The filter of a run: by the configured number, else by the configured precision or the best the card has.

    A model whose validation data never reached the precision has no threshold for it; the next lower one that both
    types reached is used, and said.
    """
    choice = config.filter
    if choice.threshold is not None:
        return stages.filter_callset(spark, scored, filtered, config, threshold=choice.threshold, overwrite=True)
    reached = {float(p) for p in card.thresholds.get(GROUPS[0], {}) if _reached(card, p)}
    wanted = choice.precision or 0.95
    if wanted not in reached:
        lower = [p for p in reached if p < wanted]
        if not lower:
            progress("warning: the card has no threshold for any precision; filtering at even odds (score 0)")
            return stages.filter_callset(spark, scored, filtered, config, threshold=0.0, overwrite=True)
        progress(f"warning: precision {wanted:g} was not reached in validation; filtering for {max(lower):g}")
        wanted = max(lower)
    return stages.filter_callset(spark, scored, filtered, config, precision=wanted, overwrite=True)


def _reached(card: Card, precision: str) -> bool:
    return all(card.thresholds.get(group, {}).get(precision) is not None for group in GROUPS)


def _mode(folder: RunFolder, if_exists: str) -> str:
    """How a stage treats its folder in a run that may itself be a repetition."""
    return if_exists if folder.out.exists() else "fail"


def _card_facts(card: Card) -> dict[str, Any]:
    return {"model": card.model, "SHA-256": card.sha256, **card.training, **card.data}


def _plain(value: Any) -> Any:
    """Tuples as lists, so that YAML stays plain."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def demo(
    spark: SparkSession, out: str, config: Config, seed: int = 1, length: int = 1_000_000, if_exists: str = "fail"
) -> PipelineResult:
    """Simulates a sample and runs everything on it, from the reads alone."""
    from cnnspark.simulate import simulate

    folder = Path(out)
    if folder.exists() and any(folder.iterdir()) and if_exists == "fail":
        raise UsageError(f"{out} exists; choose another --out, or --if-exists resume or overwrite")
    progress(f"simulate {length} bases, seed {seed}")
    files = simulate(folder / "simulated", seed=seed, length=length)
    paths = InputPaths(
        reads=str(files.reads), reference=str(files.reference), truth=str(files.truth), bed=str(files.confident)
    )
    # Small blocks, so that a small genome can hold some of them out.
    blocks = dataclasses.replace(config.blocks, records=min(config.blocks.records, DEMO_BLOCK_RECORDS))
    # Two replicas, so that the demo shows an all-reduce wherever two tasks can run.
    replicas = min(2, spark.sparkContext.defaultParallelism)
    chosen = dataclasses.replace(
        config,
        blocks=blocks,
        train=dataclasses.replace(config.train, replicas=replicas, epochs=min(config.train.epochs, DEMO_EPOCHS)),
    )
    return run_all(
        spark, paths, str(folder / "run"), chosen, None, "overwrite" if if_exists == "overwrite" else if_exists
    )


DEMO_BLOCK_RECORDS, DEMO_EPOCHS = 250, 4
