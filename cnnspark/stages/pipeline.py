"""All stages in a row: ``cnnspark run`` on a sample of the user's, ``cnnspark demo`` on a simulated one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cnnspark import stages
from cnnspark._version import __version__
from cnnspark.common.log import progress
from cnnspark.common.storage import (
    file_identity,
    local_folder,
    location,
    make_folder,
    read_json,
    require_free,
    write_json,
    write_text,
)
from cnnspark.config import USUAL_PRECISION, Config, FilterChoice, InputPaths
from cnnspark.errors import InputError, UsageError
from cnnspark.evaluation.metrics import format_table
from cnnspark.execution.shards import MERGED
from cnnspark.execution.tasks import LocalSession, Session
from cnnspark.filtering.request import FilterOptions
from cnnspark.formats.callset import require_file
from cnnspark.formats.reads import open_reads
from cnnspark.models.card import SENSITIVITIES, Card
from cnnspark.models.names import MODELS_WITHOUT_READS
from cnnspark.models.selection import SelectedModel, select_model
from cnnspark.reports.callset.run_facts import read_run
from cnnspark.scoring.cascade import refuse_untrained
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.stages.inputs import CheckedInputs, checked_inputs, require_reads
from cnnspark.stages.kernels import compile_kernels
from cnnspark.stages.requests import EvaluationRequest, RunRequest, ScoreRequest
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
    """Where the results are, and how good they are."""

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
        """The result as plain values."""
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


def run_all(session: Session, request: RunRequest) -> PipelineResult:
    """Runs the steps that the request needs: candidates, tensors, training, scores, FILTER, evaluation.

    Candidates are called if there is no callset. A model is trained if none is given and there is a truth; without a
    truth a bundled model scores. Training holds out the last share of each contig, and the evaluation is on these
    regions. They also chose the epoch and the thresholds, so metrics on them are slightly optimistic. With
    ``if_exists="resume"`` finished steps are kept.

    Args:
        session: where the tasks run; training needs Spark.
        request: inputs, output, settings.

    Raises:
        UsageError: options or settings that do not fit together, or an output that exists.
        InputError: inputs that do not fit together.
        RunError: a step failed; the run can be resumed.
        QualityError: with ``strict``, the callset is unlike the model's training data.
    """
    with ExitStack() as stack:
        run = _Run(session, request, stack)
        for name, needed, step in run.steps():
            if needed:
                progress(name)
                step()
        return run.finish()


class _Run:
    """One run: what its steps share. Making it checks everything that can be checked before the first step."""

    def __init__(self, session: Session, request: RunRequest, stack: ExitStack):
        self.session, self.request, self.stack = session, request, stack
        self.folder, self.config, self.if_exists = location(request.out), request.config, request.if_exists
        require_free(request.out, self.if_exists != "fail", choices="resume or overwrite", empty_ok=True)
        self.paths = request.paths.absolute()
        self.truth = TruthPaths.of(self.paths.truth, self.paths.bed, self.paths.labels)
        model = request.model or self.config.model
        self.trains = model is None and self.truth is not None
        if self.trains:
            self.config = dataclasses.replace(self.config, train=self.config.train.with_flags(objective="classify"))
            self.selected, self.needs_reads = None, self.config.train.model not in MODELS_WITHOUT_READS
        else:
            self.selected = select_model(model, self.paths.has_reads)
            self.needs_reads = self.selected.needs_reads
        _check_settings(self.config, self.selected, self.needs_reads)
        self._check_paths()
        if self.trains and isinstance(session, LocalSession):
            raise UsageError("a model is trained by Spark; give --model, or leave --local out")
        make_folder(self.folder)
        self._checked: CheckedInputs | None = None

    def _check_paths(self) -> None:
        """Files that no later check opens before the first step: the truth and, for candidates, the reads."""
        paths = self.paths
        if self.truth is not None:
            self.truth.check(paths.reference)
        if paths.vcf is not None:
            require_file(paths.vcf, "callset")
        require_file(required(paths.reference, "--reference"), "reference")
        if self.needs_reads and not paths.members:
            require_reads(paths.reads, self.selected.path if self.selected else self.config.train.model)
        if (self.needs_reads and not paths.members) or paths.vcf is None:
            open_reads(required(paths.reads, "--reads"), paths.reference).close()

    def steps(self) -> list[tuple[str, bool, Callable[[], None]]]:
        """The steps in their order: name, whether this run needs it, and what it does."""
        return [
            ("candidates", self.paths.vcf is None, self.call_candidates),
            ("tensors", self.trains, self.build_tensors),
            ("train", self.trains, self.train),
            ("score", True, self.score),
            ("filter", True, self.filter),
            ("evaluate", self.truth is not None, self.evaluate),
        ]

    @property
    def spark(self) -> SparkSession:
        assert not isinstance(self.session, LocalSession)  # checked when the run was made
        return self.session

    def call_candidates(self) -> None:
        called = _candidates(self.session, self.paths, self.folder, self.config, self.if_exists)
        self.paths = dataclasses.replace(self.paths, vcf=called, regions=())

    def checked(self) -> CheckedInputs:
        """The inputs of tensors and scoring, checked once."""
        if self._checked is None:
            # A network that takes no reads is trained without them, as it will score.
            paths = self.paths if self.needs_reads else dataclasses.replace(self.paths, reads=None)
            place, config, whole = self.folder / SCORED, self.config, False
            if self.selected is not None:  # given, so that no tensors are built by sample to train one
                config = dataclasses.replace(config, tensors=self.selected.tensors(config.tensors))
                whole = self.selected.card.scores_whole_records
            opened = checked_inputs(paths, config, place, self.needs_reads, True, whole)
            self._checked = self.stack.enter_context(opened)
        return self._checked

    def build_tensors(self) -> None:
        paths = self.paths if self.needs_reads else dataclasses.replace(self.paths, reads=None)
        out = str(self.folder / TENSORS)
        stages.build_dataset(self.spark, paths, out, self.config, self.if_exists, self.checked())

    def train(self) -> None:
        settings = dataclasses.replace(self.config.train, if_exists=self.if_exists)
        data, model = str(self.folder / TENSORS), str(self.folder / MODEL)
        train(self.spark, data, model, settings, progress)
        self.selected = select_model(model, self.paths.has_reads)

    @property
    def model(self) -> SelectedModel:
        assert self.selected is not None  # given, or trained by an earlier step
        return self.selected

    def score(self) -> None:
        asked = ScoreRequest(
            self.paths, self.model.path, str(self.folder / SCORED), self.config, self.if_exists,
            strict=self.request.strict,
        )  # fmt: skip
        checked = self.checked() if self.model.needs_reads == self.needs_reads else None
        self.scored = stages.score_callset(self.session, asked, checked)

    def filter(self) -> None:
        scored, filtered = str(self.folder / SCORED), str(self.folder / FILTERED)
        options = run_filter(self.config.filter, self.model)
        self.filtered = stages.filter_callset(self.session, scored, filtered, self.config, options, overwrite=True)
        self.result = PipelineResult(
            out=self.request.out,
            model=self.model.path,
            merged=f"{scored}/{MERGED}",
            filtered=filtered,
            statement=self.scored["statement"],
            filtered_counts=self.filtered["counts"],
            thresholds=self.filtered["thresholds"],
        )

    def evaluate(self) -> None:
        result = self.result
        result.evaluation = str(self.folder / EVALUATION)
        result.held_out = tuple(self.model.card.data["held_out"]) if self.trains else self.request.held_out
        paths = dataclasses.replace(self.paths, vcf=result.filtered, regions=result.held_out or self.paths.regions)
        asked = EvaluationRequest(
            paths, result.evaluation, self.config, title="cnnspark run", overwrite=True,
            run=read_run(str(self.folder / SCORED)),
        )  # fmt: skip
        result.metrics = stages.evaluate_callset(self.session, asked).metrics

    def finish(self) -> PipelineResult:
        """Writes the resolved configuration and returns the result."""
        resolved = dataclasses.replace(self.config, inputs=self.paths, model=self.model.path).to_dict()
        write_text(self.folder / CONFIG, yaml.safe_dump(_plain(resolved)))
        return self.result


def _check_settings(config: Config, selected: SelectedModel | None, needs_reads: bool) -> None:
    """Raises UsageError for settings that the model's card or the network to be trained cannot serve."""
    sensitivity, precision = config.filter.sensitivity, config.filter.precision
    if sensitivity is not None and sensitivity not in SENSITIVITIES:
        known = ", ".join(f"{share:g}" for share in SENSITIVITIES)
        raise UsageError(f"filter.sensitivity is {sensitivity:g}; cards have {known}: choose one of these")
    if selected is None:
        refuse_untrained(config.score.cascade)
        check_data(config.train.model, config.tensors.encoding, needs_reads)
        return
    card, model = selected.card, selected.path
    if sensitivity is not None and not card.sensitivity_thresholds:
        raise UsageError(f"the card of {model} has no thresholds by sensitivity; set filter.threshold instead")
    if config.filter.threshold is None and sensitivity is None and precision is not None:
        reached = _reached_precisions(card)
        if precision not in reached:
            known = ", ".join(f"{share:g}" for share in sorted(reached)) or "none"
            raise UsageError(
                f"the card of {model} has no threshold for precision {precision:g} (it has {known}); "
                "choose one of these or set filter.threshold"
            )
    ScoringPlan.of(selected, config.tensors, config.score)


def _known(path: Location) -> dict[str, Any]:
    """What an earlier run noted down; empty where it is damaged, so that its step is done again."""
    try:
        return read_json(path, "a run")
    except InputError:
        return {}


def _candidates(session: Session, paths: InputPaths, folder: Location, config: Config, if_exists: str) -> str:
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
    if finished and _known(identity_file) == identity:
        return str(called)
    identity_file.unlink(missing_ok=True)
    stages.call_candidates(session, paths, str(called), config, overwrite=True)
    write_json(identity_file, identity)
    return str(called)


def run_filter(choice: FilterChoice, model: SelectedModel) -> FilterOptions:
    """The filter of a run: the configured number, sensitivity or precision, else the default for the model.

    The default is a sensitivity for a bundled model and ``USUAL_PRECISION`` for any other. A model whose validation
    data never reached that precision has no threshold for it; the next lower one that both types reached takes its
    place, with a warning.
    """
    if choice.threshold is not None:
        return FilterOptions(threshold=choice.threshold)
    if choice.sensitivity is not None:
        return FilterOptions(sensitivity=choice.sensitivity)
    if choice.precision is None and model.is_bundled:
        progress(
            f"a bundled model: filtering to keep {BUNDLED_SENSITIVITY:.1%} of the true alleles of its validation data"
        )
        return FilterOptions(sensitivity=BUNDLED_SENSITIVITY)
    reached = _reached_precisions(model.card)
    wanted = choice.precision or USUAL_PRECISION
    if choice.precision is None and wanted not in reached:
        lower = [p for p in reached if p < wanted]
        if not lower:
            progress("warning: the card has no threshold for any precision; filtering at even odds (score 0)")
            return FilterOptions(threshold=0.0)
        progress(f"warning: precision {wanted:g} was not reached in validation; filtering for {max(lower):g}")
        wanted = max(lower)
    return FilterOptions(precision=wanted)


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
    """Simulates a sample and runs everything on it, starting from the reads.

    Args:
        spark: where the tasks run.
        out: folder for everything.
        config: all settings; blocks and epochs are made small.
        seed: of the simulated sample.
        length: of the simulated genome, in bases.
        if_exists: ``fail``, ``resume`` or ``overwrite``.

    Raises:
        UsageError: ``out`` exists.
        RunError: a step failed; the demo can be resumed.
    """
    folder = local_folder(out)
    require_free(out, if_exists != "fail", choices="resume or overwrite", empty_ok=True)
    progress("compile kernels, once on a machine: up to a minute")
    compile_kernels()
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
    return run_all(spark, RunRequest(paths, str(folder / "run"), chosen, if_exists=if_exists))


def _simulated(folder: Path, seed: int, length: int, if_exists: str) -> SimulatedFiles:
    """The demo's sample; one that is there already is kept where the demo is resumed."""
    from cnnspark.simulation import SimulatedFiles, simulate

    done = folder / "simulated.json"
    wanted = {"seed": seed, "length": length, "version": __version__}
    if if_exists == "resume" and done.exists():
        known = _known(done)
        if known.get("arguments") == wanted and known.get("files"):
            paths = {name: Path(path) for name, path in known["files"].items() if name != "sample"}
            return SimulatedFiles(**paths, sample=known["files"]["sample"])
    done.unlink(missing_ok=True)
    progress(f"simulate {length} bases, seed {seed}")
    files = simulate(folder, seed=seed, length=length)
    write_json(done, {"arguments": wanted, "files": {k: str(v) for k, v in dataclasses.asdict(files).items()}})
    return files
