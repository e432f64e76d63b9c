"""What a stage is asked for, as one value: made once from flags or keywords, and handed on whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnspark.config import Config, InputPaths
from cnnspark.errors import UsageError

if TYPE_CHECKING:
    from cnnspark.reports.callset.run_facts import RunFacts


@dataclass(frozen=True)
class ScoreRequest:
    """Score a callset.

    Attributes:
        paths: callset, reads and reference; chosen regions and sample.
        model: a bundle's folder or the name of a bundled one; None for the bundled default.
        out: folder for shards, manifest and the merged callset.
        config: all settings.
        if_exists: ``fail``, ``resume`` or ``overwrite``.
        merge: whether the shards are merged to one file.
        strict: whether a callset unlike the model's training data is an error (QualityError, exit code 5).
        output_type: of the merged file: ``z`` for .vcf.gz, ``b`` for .bcf.

    Raises:
        UsageError: a merged file of a type is asked for, and nothing is merged.
    """

    paths: InputPaths
    model: str | None
    out: str
    config: Config
    if_exists: str = "fail"
    merge: bool = True
    strict: bool = False
    output_type: str = "z"

    def __post_init__(self) -> None:
        if self.output_type != "z" and not self.merge:
            raise UsageError(f"--output-type {self.output_type} is of the merged file; leave out --no-merge")


@dataclass(frozen=True)
class EvaluationRequest:
    """Measure a callset's scores against a truth or a table of labels.

    Attributes:
        paths: callset, truth with its BED or labels, reference.
        out: folder for figures, tables and the report.
        config: all settings.
        scores: INFO keys, or QUAL; the callset's own scores if empty.
        min_qual: records with a lower QUAL are left out.
        title: heading of the report.
        overwrite: whether an earlier evaluation in ``out`` is replaced.
        causes: a table of why false alleles are there; each mechanism is then measured by itself as well.
        stratify: regions to measure inside and outside of, as ``NAME=BED``.
        compare: pairs of scores as ``A,B``: the gain of B over A.
        others: more callsets of the same sample; scores are then called ``CALLSET:KEY``.
        run: the run that scored, for the report; None to look for it beside the callset.
    """

    paths: InputPaths
    out: str
    config: Config
    scores: Sequence[str] = ()
    min_qual: float | None = None
    title: str = "Evaluation"
    overwrite: bool = False
    causes: str | None = None
    stratify: Sequence[str] = ()
    compare: Sequence[str] = ()
    others: Sequence[str] = ()
    run: RunFacts | None = None


@dataclass(frozen=True)
class RunRequest:
    """Run all stages on one callset: from reads or a callset to a filtered and, with a truth, evaluated callset.

    Attributes:
        paths: callset (or none: candidates are called), reads, reference, truth.
        out: folder for everything.
        config: all settings.
        model: a bundle's folder or the name of a bundled one; None to train one if there is a truth.
        if_exists: ``fail``, ``resume`` or ``overwrite``.
        strict: whether a callset unlike the model's training data is an error.
        held_out: regions to evaluate on, of a model that was trained on the rest of this sample.
    """

    paths: InputPaths
    out: str
    config: Config
    model: str | None = None
    if_exists: str = "fail"
    strict: bool = False
    held_out: tuple[str, ...] = ()
