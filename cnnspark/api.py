"""The stages for a Python caller: what the commands do, with paths in and a small result object out.

``import cnnspark`` loads none of this; ``cnnspark.score`` does. A Spark session is made unless one is active or given;
it stays for the next call, and Spark's own ``stop()`` ends it. With ``spark=cnnspark.LocalSession()`` scoring,
filtering and evaluation run in this process, without Spark. Failures are raised as :mod:`cnnspark.errors`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from cnnspark.common.error_translation import explain as failure
from cnnspark.common.log import progress
from cnnspark.common.storage import location, read_json
from cnnspark.config import Config, InputPaths, load_config
from cnnspark.errors import CnnsparkError, UsageError
from cnnspark.variants.carriers import Member

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

    from cnnspark.execution.tasks import Session
    from cnnspark.training import TrainResult

# A Config, a YAML file, or single settings by name: {"blocks.records": 200}.
Settings = Union[Config, str, "os.PathLike[str]", Mapping[str, Any], None]
Paths = Union[str, "os.PathLike[str]"]
S = TypeVar("S", bound="Session")


@dataclass(frozen=True)
class Scored:
    """Result of scoring a callset.

    Attributes:
        out: the run's folder.
        merged: the merged callset; None if the shards were left.
        key: of the score in INFO.
        counts: alleles and records, by what was done with them.
        statement: that no record was lost.
        guard: which model inputs are distributed differently from the training data.
    """

    out: str
    merged: str | None
    key: str
    counts: dict[str, int]
    statement: str
    guard: dict[str, Any] | None

    def to_pandas(self) -> pd.DataFrame:
        """A row for each ALT of the merged callset: contig, pos (1-based), ref, alt, qual, filter, score."""
        return _table(self.merged, self.key)


@dataclass(frozen=True)
class Filtered:
    """Result of filtering a callset: how many records passed, by the counts of the manifest."""

    out: str
    key: str
    counts: dict[str, int]
    statement: str
    values: dict[str, Any] = field(repr=False)  # all that the stage says, cutoffs among it

    def to_pandas(self) -> pd.DataFrame:
        """A row for each ALT, as :meth:`Scored.to_pandas`."""
        return _table(self.out, self.key)


@dataclass(frozen=True)
class Evaluated:
    """Result of an evaluation: ``metrics[group][score][name]``, None if undefined."""

    out: str
    report: str
    metrics: dict[str, dict[str, dict[str, float | None]]] = field(repr=False)
    counts: dict[str, int]

    def to_pandas(self) -> pd.DataFrame:
        """A row for each group and score, a column for each metric."""
        import pandas as pd

        rows = [
            {"group": group, "score": score} | values
            for group, by_score in self.metrics.items()
            for score, values in by_score.items()
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class BuiltTensors:
    """A tensor dataset: how many tensors, by label."""

    out: str
    tensors: int
    labels: dict[str, int]
    counts: dict[str, int]


@dataclass(frozen=True)
class Explained:
    """Result of explaining one call; ``values`` are everything that the page shows."""

    out: str
    score: float
    probability: float
    summary: list[str]
    values: dict[str, Any] = field(repr=False)


def score(
    vcf: Paths,
    reads: Paths | Mapping[str, Paths] | None = None,
    reference: Paths | None = None,
    model: Paths | None = None,
    *,
    out: Paths,
    sample: str | None = None,
    regions: Sequence[str] = (),
    config: Settings = None,
    if_exists: str = "fail",
    merge: bool = True,
    strict: bool = False,
    output_type: str = "z",
    cascade: bool | None = None,
    spark: Session | None = None,
) -> Scored:
    """Scores a callset, as ``cnnspark score``.

    Args:
        vcf: the callset.
        reads: BAM or CRAM; of several samples, by sample.
        reference: the FASTA.
        model: a bundle's folder or the name of a bundled model; None for the default.
        out: the run's folder.
        sample: the callset's sample that the reads belong to.
        regions: as ``chr20`` or ``chr20:1,000-2,000``; all of the callset if empty.
        config: a Config, a YAML file, or single settings by name: ``{"blocks.records": 200}``.
        if_exists: ``fail``, ``resume`` or ``overwrite``.
        merge: whether the shards are merged to one file.
        strict: whether a callset unlike the model's training data is an error.
        output_type: of the merged file: ``z`` for .vcf.gz, ``b`` for .bcf.
        cascade: whether a faster first model scores alone what it is sure of; None leaves that to the model's card.
        spark: a SparkSession, or a LocalSession to run without Spark.

    Raises:
        CnnsparkError: one sentence with a remedy; :mod:`cnnspark.errors` has the subclasses.
    """
    from cnnspark import stages

    settings, paths = _settings(config, vcf=vcf, reads=reads, reference=reference, sample=sample, regions=regions)
    if cascade is not None:
        settings = dataclasses.replace(settings, score=dataclasses.replace(settings.score, cascade=cascade))
    chosen = _text(model) or settings.model
    request = stages.ScoreRequest(paths, chosen, _path(out), settings, if_exists, merge, strict, output_type)
    found = _run(stages.score_callset, _session(spark, "score"), request)
    return Scored(str(out), found["merged"], found["key"], found["counts"], found["statement"], found["guard"])


def filter(
    vcf: Paths,
    out: Paths,
    *,
    config: Settings = None,
    if_exists: str = "fail",
    spark: Session | None = None,
    **how: Any,
) -> Filtered:
    """Sets FILTER by score, as ``cnnspark filter``.

    Args:
        vcf: a scored callset, or a :class:`Scored`'s ``out``.
        out: the callset to write.
        config: as for :func:`score`.
        if_exists: ``fail`` or ``overwrite``.
        spark: as for :func:`score`.
        **how: what to filter by: ``threshold=0``, ``precision=0.95``, ``sensitivity=0.99``, ``key="QUAL"`` and whatever
            else :class:`cnnspark.stages.FilterOptions` has.

    Raises:
        CnnsparkError: one sentence with a remedy.
    """
    from cnnspark import stages

    settings, _ = _settings(config)
    overwrite = _overwrite(if_exists)
    options = stages.FilterOptions(**how)
    session = _session(spark, "filter")
    found = _run(stages.filter_callset, session, _path(vcf), _path(out), settings, options, overwrite)
    return Filtered(str(out), found["key"], found["counts"], found["statement"], found)


def evaluate(
    vcf: Paths,
    *,
    out: Paths,
    truth: Paths | None = None,
    bed: Paths | None = None,
    labels: Paths | None = None,
    reference: Paths | None = None,
    regions: Sequence[str] = (),
    config: Settings = None,
    if_exists: str = "fail",
    spark: Session | None = None,
    **how: Any,
) -> Evaluated:
    """Measures a callset's scores against a truth or a table of labels, as ``cnnspark evaluate``.

    Args:
        vcf: the callset, or a :class:`Scored`'s ``out``.
        out: folder for figures and the report.
        truth: the truth callset, with ``bed``.
        bed: the regions in which the truth is complete.
        labels: a table of labelled alleles, instead of a truth.
        reference: the FASTA; a truth needs it.
        regions: as for :func:`score`.
        config: as for :func:`score`.
        if_exists: ``fail`` or ``overwrite``.
        spark: as for :func:`score`.
        **how: whatever else :class:`cnnspark.stages.EvaluationRequest` has: ``scores``, ``min_qual``, ``causes``.

    Raises:
        CnnsparkError: one sentence with a remedy.
    """
    from cnnspark import stages

    settings, paths = _settings(
        config, vcf=vcf, truth=truth, bed=bed, labels=labels, reference=reference, regions=regions
    )
    request = stages.EvaluationRequest(paths, _path(out), settings, overwrite=_overwrite(if_exists), **how)
    _run(stages.evaluate_callset, _session(spark, "evaluate"), request)
    folder = location(_path(out))
    stored = read_json(folder / "metrics.json", "the folder of an evaluation", {"metrics": dict, "counts": dict})
    return Evaluated(str(out), str(folder / "report.html"), stored["metrics"], stored["counts"])


def build_tensors(
    vcf: Paths,
    reads: Paths | None = None,
    reference: Paths | None = None,
    *,
    out: Paths,
    truth: Paths | None = None,
    bed: Paths | None = None,
    labels: Paths | None = None,
    sample: str | None = None,
    regions: Sequence[str] = (),
    config: Settings = None,
    if_exists: str = "fail",
    spark: SparkSession | None = None,
) -> BuiltTensors:
    """Builds a labelled tensor dataset for :func:`train`, as ``cnnspark tensors``.

    Args:
        vcf: the callset.
        reads: BAM or CRAM; None for models that take none.
        reference: the FASTA.
        out: the dataset's folder.
        truth: the truth callset, with ``bed``.
        bed: the regions in which the truth is complete.
        labels: a table of labelled alleles, instead of a truth.
        sample: the callset's sample that the reads belong to.
        regions: as for :func:`score`.
        config: as for :func:`score`.
        if_exists: ``fail``, ``resume`` or ``overwrite``.
        spark: a SparkSession.

    Raises:
        CnnsparkError: one sentence with a remedy.
    """
    from cnnspark import stages

    settings, paths = _settings(
        config, vcf=vcf, reads=reads, reference=reference, truth=truth, bed=bed, labels=labels, sample=sample,
        regions=regions,
    )  # fmt: skip
    found = _run(stages.build_dataset, _session(spark, "tensors"), paths, _path(out), settings, if_exists)
    return BuiltTensors(str(out), found["tensors"], found["labels"], found["counts"])


def train(
    data: Paths | Sequence[Paths],
    *,
    model_out: Paths,
    validation: Sequence[str] = (),
    config: Settings = None,
    if_exists: str = "fail",
    spark: SparkSession | None = None,
    **settings: Any,
) -> TrainResult:
    """Trains a network on one dataset or several, as ``cnnspark train``.

    Args:
        data: the datasets' folders.
        model_out: the bundle's folder.
        validation: the share or the regions to hold out.
        config: as for :func:`score`.
        if_exists: ``fail``, ``resume`` or ``overwrite``.
        spark: a SparkSession.
        **settings: those of the command's flags: ``model``, ``init``, ``by_parts``, ``replicas``, ``epochs``,
            ``batch_size``, ``patience``, ``log_dir``.

    Returns:
        The result with ``validation``, the figures of the best epoch, and the model's ``card``.

    Raises:
        CnnsparkError: one sentence with a remedy.
    """
    from cnnspark.training import train as train_model

    folders = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    chosen = _settings(config)[0].train.with_flags(
        tuple(validation), if_exists=if_exists, objective="classify", **settings
    )
    return _run(
        train_model, _session(spark, "train"), [_path(each) for each in folders], _path(model_out), chosen,
        progress,
    )  # fmt: skip


def explain(
    vcf: Paths,
    reads: Paths | Mapping[str, Paths] | None = None,
    reference: Paths | None = None,
    model: Paths | None = None,
    *,
    at: str,
    alt: str | None = None,
    out: Paths,
    sample: str | None = None,
    config: Settings = None,
) -> Explained:
    """Says why one allele has its score, as ``cnnspark explain``; needs no Spark.

    Args:
        vcf: the callset, or a :class:`Scored`'s ``out``, which knows reads, reference and model.
        reads: as for :func:`score`.
        reference: the FASTA.
        model: as for :func:`score`; None for the one that scored the callset.
        at: the record's position, ``"chr20:10000117"``.
        alt: which ALT; None takes the first that can be scored.
        out: the page to write, ``.html``.
        sample: the callset's sample.
        config: as for :func:`score`.

    Raises:
        CnnsparkError: one sentence with a remedy.
    """
    from cnnspark.stages import explain

    settings, paths = _settings(config, vcf=vcf, reads=reads, reference=reference, sample=sample)
    found = explain.explain(paths, _text(model) or settings.model, at, alt, _path(out), settings)
    return Explained(str(out), found["score"], found["probability"], found["summary"], found)


def _run(stage: Any, *given: Any, **named: Any) -> Any:
    """Calls a stage; what a task raised arrives as the error that it was, in one sentence."""
    try:
        return stage(*given, **named)
    except (CnnsparkError, TypeError):
        raise  # a TypeError is the caller's: a name that the stage does not take
    except Exception as error:
        raise failure(error) from error


def _session(spark: S | None, app: str) -> S | SparkSession:
    if spark is not None:
        return spark
    from cnnspark.execution.session import active_session, spark_session

    return active_session() or spark_session(app)


def _text(path: Paths | None) -> str | None:
    return None if path is None else os.fspath(path)


def _path(path: Paths) -> str:
    return os.fspath(path)


def _overwrite(if_exists: str) -> bool:
    if if_exists not in ("fail", "overwrite"):
        raise UsageError(f"if_exists is '{if_exists}'; use 'fail' or 'overwrite'")
    return if_exists == "overwrite"


def _settings(config: Settings, **given: Any) -> tuple[Config, InputPaths]:
    """The configuration, and its inputs with those given over them."""
    if config is None:
        chosen = Config()
    elif isinstance(config, Config):
        chosen = config
    elif isinstance(config, Mapping):
        # JSON is YAML, which is how single settings are read.
        chosen = load_config(None, [f"{name}={json.dumps(value)}" for name, value in config.items()])
    else:
        chosen = load_config(os.fspath(config))
    reads = given.get("reads")
    if isinstance(reads, Mapping):
        given["members"] = tuple(Member(sample, os.fspath(path)) for sample, path in reads.items())
        given["reads"] = None
    named: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, (str, os.PathLike)):
            named[name] = os.fspath(value)
        elif value:
            named[name] = tuple(value)
    return chosen, dataclasses.replace(chosen.inputs, **named)


def _table(path: str | None, key: str) -> pd.DataFrame:
    from cnnspark.scoring.score_table import score_table

    if path is None:
        raise UsageError("the shards were left unmerged; score with merge=True for a table")
    return score_table(str(Path(path)) if "://" not in path else path, key)
