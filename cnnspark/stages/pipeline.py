"""All stages in a row: ``cnnspark run`` on a sample of the user's, ``cnnspark demo`` on a simulated one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cnnspark import stages
from cnnspark._version import __version__
from cnnspark.common.log import progress
from cnnspark.common.storage import (
    file_identity,
    has_files,
    local_folder,
    location,
    make_folder,
    write_json,
    write_text,
)
from cnnspark.config import USUAL_PRECISION, Config, InputPaths
from cnnspark.errors import UsageError
from cnnspark.evaluation.metrics import format_table
from cnnspark.execution.shards import MERGED
from cnnspark.execution.tasks import LocalSession, Session
from cnnspark.formats.callset import require_file
from cnnspark.formats.reads import ReadSource
from cnnspark.models.bundle_files import chosen_model, is_bundled
from cnnspark.models.card import SENSITIVITIES, Card, looks_at_reads, model_tensors, read_card, require_finished
from cnnspark.models.names import MODELS_WITHOUT_READS
from cnnspark.reports.callset.run_facts import read_run
from cnnspark.scoring.cascade import first_stage, refuse_untrained
from cnnspark.stages.inputs import require_reads
from cnnspark.training import train
from cnnspark.training.job import check_data
from cnnspark.variants.labeller import TruthPaths, required
from cnnspark.variants.score_fields import GROUPS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.common.storage import Location
    from cnnspark.simulation import SimulatedFiles

# What a run's folder holds, by stage.
CANDIDATES, TENSORS, MODEL, SCORED, FILTERED, EVALUATION, CONFIG = (
    "candidates.vcf.gz", "tensors", "model", "scored", "filtered.vcf.gz", "evaluation", "config.yaml",
)  # fmt: skip
# A precision is one among so many false alleles, and simulated callsets have a number of their own; what share of the
# true ones a threshold keeps depends on these alone.
BUNDLED_SENSITIVITY = 0.999
# The demo's blocks are small, so that a small genome can hold some of them out.
DEMO_BLOCK_RECORDS, DEMO_EPOCHS = 250, 4


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
    spark: Session,
    paths: InputPaths,
    out: str,
    config: Config,
    model: str | None = None,
    if_exists: str = "fail",
    strict: bool = False,
    held_out: tuple[str, ...] = (),
) -> PipelineResult:
    """Candidates where there is no callset, tensors and training where there is no model, scores, FILTER, evaluation.

    Without a model and without a truth a bundled model scores. One is trained on the truth's blocks but for the last
    share of each contig, and the evaluation is on the regions that were held out; they also chose the epoch and the
    thresholds, so its figures are a little kind. With ``if_exists="resume"`` finished stages are kept. Raises
    UsageError, InputError, RunError, and with ``strict`` QualityError where the callset is not what the model was
    trained on.

    Args:
        held_out: the regions to evaluate on, of a ``model`` that was trained on the rest of this very sample.
    """
    folder = location(out)
    if has_files(folder) and if_exists == "fail":
        raise UsageError(f"{out} exists; choose another --out, or --if-exists resume or overwrite")
    paths, trained_model = paths.absolute(), model or config.model
    truth = TruthPaths.of(paths.truth, paths.bed, paths.labels)
    if trained_model is None and truth is not None:
        config = dataclasses.replace(config, train=config.train.with_flags(objective="classify"))
    else:
        trained_model = chosen_model(trained_model, paths.has_reads)
    _check(paths, truth, trained_model, config)
    if trained_model is None and isinstance(spark, LocalSession):
        raise UsageError("a model is trained by Spark; give --model, or leave --local out")
    make_folder(folder)
    if paths.vcf is None:
        progress("candidates")
        paths = dataclasses.replace(paths, vcf=_candidates(spark, paths, folder, config, if_exists), regions=())
    if trained_model is None and not isinstance(spark, LocalSession):
        progress("tensors")
        data, model = str(folder / TENSORS), str(folder / MODEL)
        # A network that looks at no reads is trained without them, as it will score.
        built_from = dataclasses.replace(paths, reads=None) if config.train.model in MODELS_WITHOUT_READS else paths
        stages.build_dataset(spark, built_from, data, config, if_exists)
        progress("train")
        train.train(spark, data, model, dataclasses.replace(config.train, if_exists=if_exists), progress)
    else:
        model = str(trained_model)
    card = read_card(model)
    resolved = dataclasses.replace(config, inputs=paths, model=model).to_dict()

    progress("score")
    scored = str(folder / SCORED)
    summary = stages.score_callset(spark, paths, model, scored, config, if_exists, strict=strict)
    progress("filter")
    filtered = str(folder / FILTERED)
    outcome = filter_with(spark, scored, filtered, config, card, is_bundled(model))
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
        result.held_out = tuple(card.data["held_out"]) if trained_model is None else held_out
        measured = stages.evaluate_callset(
            spark, dataclasses.replace(paths, vcf=filtered, regions=result.held_out or paths.regions),
            result.evaluation, config, title="cnnspark run", overwrite=True, run=read_run(scored),
        )  # fmt: skip
        result.metrics = measured.metrics
    write_text(folder / CONFIG, yaml.safe_dump(_plain(resolved)))
    return result


def _check(paths: InputPaths, truth: TruthPaths | None, model: str | None, config: Config) -> None:
    """What would only be said after the first stages: raised before the run's folder is made."""
    sensitivity = config.filter.sensitivity
    if sensitivity is not None and sensitivity not in SENSITIVITIES:
        known = ", ".join(f"{share:g}" for share in SENSITIVITIES)
        raise UsageError(f"filter.sensitivity is {sensitivity:g}; cards have {known}: choose one of these")
    if model is not None:
        card = read_card(model)
        require_finished(card, model)
        if sensitivity is not None and not card.sensitivity_thresholds:
            raise UsageError(f"the card of {model} has no thresholds by sensitivity; set filter.threshold instead")
        precision = config.filter.precision
        if config.filter.threshold is None and sensitivity is None and precision is not None:
            reached = _reached_precisions(card)
            if precision not in reached:
                known = ", ".join(f"{share:g}" for share in sorted(reached)) or "none"
                raise UsageError(
                    f"the card of {model} has no threshold for precision {precision:g} (it has {known}); "
                    "choose one of these or set filter.threshold"
                )
        model_tensors(model, card, config.tensors)
        first_stage(model, card, config.score.cascade)
        needs_reads = looks_at_reads(card)
    else:
        refuse_untrained(config.score.cascade)
        needs_reads = config.train.model not in MODELS_WITHOUT_READS
        check_data(config.train.model, config.tensors.encoding, needs_reads)
    if truth is not None:
        truth.check(paths.reference)
    if paths.vcf is not None:
        require_file(paths.vcf, "callset")
    require_file(required(paths.reference, "--reference"), "reference")
    if needs_reads and not paths.members:
        require_reads(paths.reads, model or config.train.model)
    if (needs_reads and not paths.members) or paths.vcf is None:
        ReadSource(required(paths.reads, "--reads"), paths.reference).close()


def _candidates(spark: Session, paths: InputPaths, folder: Location, config: Config, if_exists: str) -> str:
    """The run's own callset; a finished one of the same reads and settings is kept where the run is resumed."""
    called, identity_file = folder / CANDIDATES, folder / f"{CANDIDATES}.json"
    identity = {
        "inputs": [file_identity(str(path)) for path in (paths.reads, paths.reference)],
        "regions": list(paths.regions),
        "sample": paths.sample,
        "settings": dataclasses.asdict(config.candidates),
        "version": __version__,
    }
    finished = if_exists in ("resume", "mend") and called.exists() and identity_file.exists()
    if finished and json.loads(identity_file.read_text()) == identity:
        return str(called)
    identity_file.unlink(missing_ok=True)
    stages.call_candidates(spark, paths, str(called), config, overwrite=True)
    write_json(identity_file, identity)
    return str(called)


def filter_with(
    spark: Session, scored: str, filtered: str, config: Config, card: Card, bundled: bool = False
) -> dict[str, Any]:
    """The filter of a run: by the configured number, sensitivity or precision, else by the usual precision, and with a
    bundled model by the usual sensitivity.

    A model whose validation data never reached a precision has no threshold for it. Of the usual one the next lower one
    that both types reached takes the place, which is said; one that was chosen raises UsageError.
    """
    choice = config.filter
    if choice.threshold is not None:
        return stages.filter_callset(spark, scored, filtered, config, threshold=choice.threshold, overwrite=True)
    if choice.sensitivity is not None:
        return stages.filter_callset(spark, scored, filtered, config, sensitivity=choice.sensitivity, overwrite=True)
    if choice.precision is None and bundled:
        progress(
            f"a bundled model: filtering to keep {BUNDLED_SENSITIVITY:.1%} of the true alleles of its validation data"
        )
        return stages.filter_callset(spark, scored, filtered, config, sensitivity=BUNDLED_SENSITIVITY, overwrite=True)
    reached = _reached_precisions(card)
    wanted = choice.precision or USUAL_PRECISION
    if choice.precision is None and wanted not in reached:
        lower = [p for p in reached if p < wanted]
        if not lower:
            progress("warning: the card has no threshold for any precision; filtering at even odds (score 0)")
            return stages.filter_callset(spark, scored, filtered, config, threshold=0.0, overwrite=True)
        progress(f"warning: precision {wanted:g} was not reached in validation; filtering for {max(lower):g}")
        wanted = max(lower)
    return stages.filter_callset(spark, scored, filtered, config, precision=wanted, overwrite=True)


def _reached_precisions(card: Card) -> set[float]:
    """The precisions that the card has thresholds for."""
    return {float(p) for by_precision in card.thresholds.values() for p in by_precision if _reached(card, p)}


def _reached(card: Card, precision: str) -> bool:
    """Whether each type has a threshold for the precision, its own or that of all alleles."""

    def has(group: str) -> bool:
        return card.thresholds.get(group, {}).get(precision) is not None

    return has("ALL") or all(has(group) for group in GROUPS)


def _plain(value: Any) -> Any:
    """Tuples as lists, so that YAML stays plain."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def demo(
    spark: SparkSession, out: str, config: Config, seed: int = 1, length: int = 800_000, if_exists: str = "fail"
) -> PipelineResult:
    """Simulates a sample and runs everything on it, from the reads alone."""
    folder = local_folder(out)
    if folder.exists() and any(folder.iterdir()) and if_exists == "fail":
        raise UsageError(f"{out} exists; choose another --out, or --if-exists resume or overwrite")
    files = _simulated(folder / "simulated", seed, length, if_exists)
    paths = InputPaths(
        reads=str(files.reads), reference=str(files.reference), truth=str(files.truth), bed=str(files.confident)
    )
    blocks = dataclasses.replace(config.blocks, records=min(config.blocks.records, DEMO_BLOCK_RECORDS))
    # Two replicas, so that the demo shows an all-reduce wherever two tasks can run.
    replicas = min(2, spark.sparkContext.defaultParallelism)
    chosen = dataclasses.replace(
        config,
        blocks=blocks,
        train=dataclasses.replace(config.train, replicas=replicas, epochs=min(config.train.epochs, DEMO_EPOCHS)),
    )
    return run_all(spark, paths, str(folder / "run"), chosen, None, if_exists)


def _simulated(folder: Path, seed: int, length: int, if_exists: str) -> SimulatedFiles:
    """The demo's sample; one that is there already is kept where the demo is resumed."""
    from cnnspark.simulation import SimulatedFiles, simulate

    done = folder / "simulated.json"
    wanted = {"seed": seed, "length": length, "version": __version__}
    if if_exists == "resume" and done.exists():
        known = json.loads(done.read_text())
        if known["arguments"] == wanted:
            paths = {name: Path(path) for name, path in known["files"].items() if name != "sample"}
            return SimulatedFiles(**paths, sample=known["files"]["sample"])
    done.unlink(missing_ok=True)
    progress(f"simulate {length} bases, seed {seed}")
    files = simulate(folder, seed=seed, length=length)
    write_json(done, {"arguments": wanted, "files": {k: str(v) for k, v in dataclasses.asdict(files).items()}})
    return files
