"""The stages for a Python caller: what the commands do, with paths in and a small result object out.

``import cnnspark`` loads none of this; ``cnnspark.score`` does. A Spark session is made where none is active or given,
and stays for the next call; Spark's own ``stop()`` ends it. With ``spark=cnnspark.execution.tasks.LocalSession()``
scoring, filtering and evaluation run in this process, without Spark. Failures are raised as :mod:`cnnspark.errors` has
them.
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
Settings = Union[Config, str, "os.PathLike[str]", Mapping[str, Any], None]  # noqa: UP007 (used at run time)
Paths = Union[str, "os.PathLike[str]"]  # noqa: UP007
S = TypeVar("S", bound="Session")


@dataclass(frozen=True)
class Scored:
    """What scoring has come to. ``merged`` is None where shards were left."""

    out: str
    merged: str | None
    key: str  # of the score in INFO
    counts: dict[str, int]
    statement: str  # that no record was lost
    guard: dict[str, Any] | None  # which inputs are not as the model knows them

    def to_pandas(self) -> pd.DataFrame:
        """A row for each ALT of the merged callset: contig, pos (1-based), ref, alt, qual, filter, score."""
        return _table(self.merged, self.key)


@dataclass(frozen=True)
class Filtered:
    """What filtering has come to: how many records passed, by the counts of the manifest."""

    out: str
    key: str
    counts: dict[str, int]
    statement: str
    values: dict[str, Any] = field(repr=False)  # all that the stage says, cutoffs among it

    def to_pandas(self) -> pd.DataFrame:
        """A row for each ALT, as of :class:`Scored`."""
        return _table(self.out, self.key)


@dataclass(frozen=True)
class Evaluated:
    """What evaluation has come to: ``metrics[group][score][name]``, None where undefined."""

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
    """One call explained; ``values`` are all that the page shows."""

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
    """Scores a callset, as ``cnnspark score``. ``reads`` of several samples are given by sample.

    ``cascade``: whether a faster first model scores alone what it is sure of; None leaves that to the model's card.
    """
    from cnnspark import stages

    settings, paths = _settings(config, vcf=vcf, reads=reads, reference=reference, sample=sample, regions=regions)
    if cascade is not None:
        settings = dataclasses.replace(settings, score=dataclasses.replace(settings.score, cascade=cascade))
    chosen = _text(model) or settings.model
    found = _run(
        stages.score_callset, _session(spark, "score"), paths, chosen, _text(out), settings, if_exists, merge,
        strict, output_type,
    )  # fmt: skip
    return Scored(str(out), found["merged"], found["key"], found["counts"], found["statement"], found["guard"])


def filter(  # noqa: A001 (the command's name)
    vcf: Paths,
    out: Paths,
    *,
    config: Settings = None,
    if_exists: str = "fail",
    spark: Session | None = None,
    **how: Any,
) -> Filtered:
    """Sets FILTER by score, as ``cnnspark filter``; ``vcf`` may be a :class:`Scored`'s ``out``.

    ``how`` says what is filtered: ``threshold=0``, ``precision=0.95``, ``sensitivity=0.99``, ``key="QUAL"`` and
    whatever else :func:`cnnspark.stages.filter_callset` takes by name.
    """
    from cnnspark import stages

    settings, _ = _settings(config)
    overwrite = _overwrite(if_exists)
    found = _run(
        stages.filter_callset, _session(spark, "filter"), _text(vcf), _text(out), settings, overwrite=overwrite, **how
    )
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

    ``how`` is whatever else :func:`cnnspark.stages.evaluate_callset` takes by name: ``scores``, ``min_qual``,
    ``causes``.
    """
    from cnnspark import stages

    settings, paths = _settings(
        config, vcf=vcf, truth=truth, bed=bed, labels=labels, reference=reference, regions=regions
    )
    overwrite = _overwrite(if_exists)
    _run(stages.evaluate_callset, _session(spark, "evaluate"), paths, _text(out), settings, overwrite=overwrite, **how)
    folder = location(str(_text(out)))
    stored = read_json(folder / "metrics.json", "the folder of an evaluation")
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
    """Builds a labelled tensor dataset for :func:`train`, as ``cnnspark tensors``."""
    from cnnspark import stages

    settings, paths = _settings(
        config, vcf=vcf, reads=reads, reference=reference, truth=truth, bed=bed, labels=labels, sample=sample,
        regions=regions,
    )  # fmt: skip
    found = _run(stages.build_dataset, _session(spark, "tensors"), paths, _text(out), settings, if_exists)
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

    ``settings`` are those of the command's flags: ``model``, ``init``, ``by_parts``, ``replicas``, ``epochs``,
    ``batch_size``, ``patience``, ``log_dir``. The result has ``validation``, the figures of the best epoch,
    and the model's ``card``.
    """
    from cnnspark.training import train as train_model

    folders = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    chosen = _settings(config)[0].train.with_flags(
        tuple(validation), if_exists=if_exists, objective="classify", **settings
    )
    return _run(
        train_model, _session(spark, "train"), [str(_text(each)) for each in folders], _text(model_out), chosen,
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
    """Says why one allele has its score, as ``cnnspark explain``; needs no Spark. ``at`` is ``"chr20:10000117"``."""
    from cnnspark.stages import explain

    settings, paths = _settings(config, vcf=vcf, reads=reads, reference=reference, sample=sample)
    found = explain.explain(paths, _text(model) or settings.model, at, alt, str(_text(out)), settings)
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


def _text(path: Any) -> str | None:
    return None if path is None else os.fspath(path)


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
