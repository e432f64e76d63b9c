"""Scoring a callset: blocks of records to tensors, through the network, back into the records' INFO."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnnspark import __version__
from cnnspark.ahead import Steps
from cnnspark.alleles import unscorable_reason
from cnnspark.annotations import AnnotationReader
from cnnspark.batches import scoring_batches
from cnnspark.blocks import Block
from cnnspark.devices import show_assigned_gpus
from cnnspark.errors import InputError, QualityError, UsageError
from cnnspark.features import FURTHEST, feature_columns
from cnnspark.first_stage import (
    PASSED_ON,
    STAGE,
    STAGES,
    FirstStage,
    has_stages,
    header_with_stages,
    passed_on_text,
    stages_text,
)
from cnnspark.guard import add_counts, compare, count_values, pack_counts
from cnnspark.lean import lean_import
from cnnspark.log import progress, quiet_stderr
from cnnspark.members import Member, carried_alts, column_of, starts_of
from cnnspark.models.card import Card, score
from cnnspark.models.names import MODELS_WITHOUT_READS
from cnnspark.preflight import check_header_field
from cnnspark.reads import ReadFilter, ReadSource
from cnnspark.reference import ReferenceSource
from cnnspark.remote_inputs import prepare_htslib
from cnnspark.runs import write_json
from cnnspark.runtime import add_count, part, starting
from cnnspark.sample_columns import set_sample_values
from cnnspark.shards import BlockLines, BlockOutput, ShardRow
from cnnspark.tasks import spared_by_collection
from cnnspark.tensors import TensorSettings, build_tensors
from cnnspark.vcf import Record, VcfHeader, VcfSource

if TYPE_CHECKING:
    from cnnspark.files import Location
    from cnnspark.models.bundle import Bundle
    from cnnspark.schema import TensorBatch

ALT_SCORES = "CNN_ALT_SCORES"
FORMAT_KEY = "CNN"  # of callsets of several samples (cnnspark.cohort)
SCORE_DIGITS = 3


@dataclass(frozen=True)
class ScoreSettings:
    """How a callset is scored."""

    batch_size: int = 64  # alleles; at most; a batch of deep ones is smaller (cnnspark.batches)
    threads: int = 1  # TensorFlow threads per task; one per core is the job of Spark's tasks
    # Of a callset of several samples: carriers of an allele that are scored. A common allele costs as much as 20 rare
    # ones, and the mean of 20 is known to a fifth of the spread between samples.
    max_carriers: int = 20
    # Whether a first model scores alone what it is sure of (cnnspark.first_stage). None: as the model's card says.
    cascade: bool | None = None
    # Blocks that are decoded while the network runs on another: it pays where a task has more than one core, or a GPU.
    # No byte depends on it, so a run may be resumed with another number.
    read_ahead: int = 0

    def __post_init__(self) -> None:
        if self.read_ahead < 0:
            raise UsageError("score.read_ahead must be 0 or more")
        if self.batch_size < 1 or self.threads < 1 or self.max_carriers < 1:
            raise UsageError("score.batch_size, score.threads and score.max_carriers must be 1 or more")


@dataclass(frozen=True)
class Inputs:
    """A callset and what is read beside it: paths that every executor sees."""

    vcf: str  # bgzipped and indexed
    reads: str | None
    reference: str
    sample: str = ""
    # Of a callset of several samples those whose reads are at hand, the sample itself if it is one (cnnspark.cohort).
    members: tuple[Member, ...] = ()

    @property
    def paths(self) -> list[str]:
        """The files that are read."""
        members = (member.reads for member in self.members)
        return list(dict.fromkeys(path for path in (self.vcf, self.reads, self.reference, *members) if path))


def looks_at_reads(card: Card) -> bool:
    """Whether reads are needed to score with the model."""
    return card.model not in MODELS_WITHOUT_READS and (card.model != "features" or bool(card.feature_names))


def score_key(card: Card) -> str:
    """The INFO key of a model's scores: by whether it looks at reads."""
    return "CNN_2D" if looks_at_reads(card) else "CNN_1D"


def model_tensors(path: str, card: Card, wanted: TensorSettings) -> TensorSettings:
    """The tensor settings that the model was trained with: scores of other tensors would mean nothing.

    What to do with a REF that is not the reference's is the run's own choice. Raises InputError where the model expects
    a site feature that this version does not build, UsageError where the run asks for other tensors.
    """
    feature_columns(card.feature_names, path)
    trained = card.data.get("tensors")
    if trained is None:
        return wanted
    of_model = TensorSettings(
        **{**trained, "read_filter": ReadFilter(**trained["read_filter"]), "on_ref_mismatch": wanted.on_ref_mismatch}
    )
    chosen = dataclasses.replace(TensorSettings(), on_ref_mismatch=wanted.on_ref_mismatch)
    if wanted not in (chosen, of_model):
        raise UsageError(f"{path} was trained on tensors of other settings; leave 'tensors' out of the configuration")
    return of_model


def score_header(
    header: VcfHeader, path: str, card: Card, first: FirstStage | None = None, of_whom: str = ""
) -> VcfHeader:
    """The callset's header with the declarations of a scored one. ``of_whom`` is added to what a score is said to be.

    Raises InputError where the callset declares one of the fields as something else.
    """
    key = score_key(card)
    check_header_field(header, path, key, "1", "Float")
    check_header_field(header, path, ALT_SCORES, "A", "Float")
    digest = card.sha256[:16]
    lines = [
        f"##INFO=<ID={key},Number=1,Type=Float,Description=\"Natural log of the odds that the record's best ALT is a "
        f"true variant{of_whom}, between -16.118 and 16.118, higher is more likely true; cnnspark "
        f'{__version__}, model {card.model}, SHA-256 {digest}">',
        f'##INFO=<ID={ALT_SCORES},Number=A,Type=Float,Description="{key} of each ALT, missing where not scored">',
        f"##cnnspark_model=<ID={key},Version={__version__},Model={card.model},ModelSHA256={card.sha256}>",
    ]
    for kind, by_group in (("Precision", card.thresholds), ("Sensitivity", card.sensitivity_thresholds)):
        for group, by_share in sorted(by_group.items()):
            for share, threshold in sorted(by_share.items()):
                if threshold is not None:
                    lines.append(
                        f"##cnnspark_threshold=<ID={key}_{group}_{kind.lower()}_{share},Key={key},Group={group},"
                        f"{kind}={share},Value={threshold:.3f}>"
                    )
    old = [f"##cnnspark_model=<ID={key},", f"##cnnspark_threshold=<ID={key}_"]
    if has_sample_scores(header) and not of_whom:
        old.append(f"##FORMAT=<ID={FORMAT_KEY},")  # of an earlier run, and taken out of the records, too
    of_carriers = " in one of its carriers or more" if of_whom else ""
    return header_with_stages(header.without_lines(old).with_lines(lines), path, first, card, key, of_carriers)


def has_sample_scores(header: VcfHeader) -> bool:
    """Whether the callset has scores by sample, as :mod:`cnnspark.cohort` declares them."""
    declared = header.format.get(FORMAT_KEY)
    return declared is not None and (declared.number, declared.type) == ("A", "Float")


class BlockTensors:
    """Builds the tensors of one block after another; files stay open between them. Make it inside the task.

    Without reads among the inputs tensors have none (:func:`cnnspark.tensors.build_tensors`). Of a callset of several
    samples the annotations and the neighbouring records are those of the inputs' sample.
    """

    def __init__(self, inputs: Inputs, annotations: Sequence[str], settings: TensorSettings):
        self.inputs, self.settings = inputs, settings
        self.vcf = VcfSource(inputs.vcf)
        self.reference = ReferenceSource(inputs.reference)
        self.reads = None if inputs.reads is None else ReadSource(inputs.reads, inputs.reference)
        samples = self.vcf.header.samples
        self.annotations = AnnotationReader(self.vcf.header, annotations, len(samples) > 1)
        self._column = column_of(samples, inputs.sample)

    @part("read")
    def records(self, block: Block) -> list[Record]:
        return list(self.vcf.records(block.region, block.first_record))

    def carried(self, record: Record) -> Collection[int]:
        """The numbers of the ALTs, from 1, that are the sample's to speak of: all of its own callset's, of one of
        several samples those that it carries."""
        if self._column is None:
            return range(1, len(record.alts) + 1)
        return carried_alts(record, (self._column,))[0]

    @part("encode")
    def build(self, records: Sequence[Record], block: Block) -> tuple[TensorBatch, Counter]:
        """Tensors of the block's scorable alleles, and how many alleles were left out, by reason."""
        # Density features count the callset's records on both sides of the block's ends, too.
        with part("read"):
            neighbours = starts_of(self.vcf.lines(block.region.padded(FURTHEST)), self._column)
        batch, skipped = build_tensors(
            records,
            self.reads,
            self.reference,
            self.settings,
            self.annotations,
            self.inputs.sample,
            neighbours,
        )
        add_count("alleles", len(batch))
        return batch, skipped


def annotate(
    records: Sequence[Record], tensors: TensorBatch, scores: np.ndarray, key: str, stages: np.ndarray | None = None
) -> None:
    """Writes each allele's score into its record: the best under ``key``, all under CNN_ALT_SCORES; and its stage.

    Scores of another run are taken out of records that have none now.
    """
    by_record: dict[int, dict[int, float]] = {}
    for allele, value in zip(tensors.keys, scores, strict=True):
        by_record.setdefault(allele.record_index, {})[allele.alt_index] = float(value)
    stage_of = (
        {} if stages is None else {(a.record_index, a.alt_index): s for a, s in zip(tensors.keys, stages, strict=True)}
    )
    for record in records:
        found = by_record.get(record.index)
        if not found:
            if f"{key}=" in record.info:
                record.drop_info((key, ALT_SCORES))
            continue
        each = [found.get(i) for i in range(1, len(record.alts) + 1)]
        values = {key: format_score(max(found.values())), ALT_SCORES: ",".join(map(format_score, each))}
        if stage_of:
            values[STAGE] = stages_text([stage_of.get((record.index, i)) for i in range(1, len(record.alts) + 1)])
        record.set_info(values)


def drop_stages(records: Iterable[Record]) -> None:
    """Takes out what an earlier run says of its stages."""
    for record in records:
        if f"{STAGE}=" in record.info:
            record.drop_info((STAGE,))


def format_score(value: float | None) -> str:
    """A score as text: 3 decimals, ``.`` where there is none."""
    if value is None:
        return "."
    text = f"{value:.{SCORE_DIGITS}f}"
    return "0.000" if text == "-0.000" else text


@lru_cache(maxsize=2)  # a model and the one before it
def loaded_model(path: str, digest: str, threads: int) -> Bundle:
    """The model, loaded once in a Python worker. TensorFlow is imported here: in tasks, never in the driver."""
    prepare_htslib()  # remote inputs may be opened after this: its libraries are best loaded first
    show_assigned_gpus()
    # Of two models the second takes next to nothing: TensorFlow is there.
    with starting("loading the model", adds=True), quiet_stderr(), lean_import():
        from cnnspark.models.bundle import load_bundle

        with spared_by_collection():
            bundle = load_bundle(path, threads)
    if bundle.card.sha256 != digest:
        raise InputError(f"{path} changed during the run; start again with --if-exists overwrite")
    return bundle


def score_work(
    inputs: Inputs, model: str, card: Card, tensors: TensorSettings, settings: ScoreSettings,
    first: FirstStage | None = None,
) -> BlockLines:  # fmt: skip
    """What a task does with each block: its lines with scores, the counts of what was scored and why not, and how the
    model's inputs lie."""
    predict = predictor(model, card, settings, first)
    source = BlockTensors(inputs, card.annotation_names, tensors)
    key, has_old, had_stages = score_key(card), has_sample_scores(source.vcf.header), has_stages(source.vcf.header)

    def prepare(block: Block) -> tuple[list[Record], TensorBatch, Counter]:
        records = source.records(block)
        return records, *source.build(records, block)

    def finish(block: Block, prepared: tuple[list[Record], TensorBatch, Counter]) -> BlockOutput:
        records, batch, counts = prepared
        predicted = predict(batch, block)
        if had_stages:
            drop_stages(records)
        annotate(records, batch, predicted.scores, key, predicted.stages)
        if has_old:
            for record in records:
                set_sample_values(record, FORMAT_KEY, {})
        counts = Counter({f"passed through: {reason}": n for reason, n in counts.items()})
        counts["alleles scored"] = len(batch)
        counts.update(predicted.counts)
        counts["records scored"] = len({allele.record_index for allele in batch.keys})
        counts["records without a scorable allele"] = sum(not scorable(record) for record in records)
        return BlockOutput(lines_of(records), counts, input_counts(card, batch))

    return Steps(prepare, finish, settings.read_ahead)


class Predicted(NamedTuple):
    """What the network, or two, say of n alleles: scores float64 (n,), and of two the stage int8 (n,) of each."""

    scores: np.ndarray
    stages: np.ndarray | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many alleles needed the second model, for the block's row."""
        return {} if self.stages is None else {PASSED_ON: int((self.stages == STAGES[1]).sum())}


def predictor(
    model: str, card: Card, settings: ScoreSettings, first: FirstStage | None = None
) -> Callable[[TensorBatch, Block], Predicted]:
    """What predicts a block's alleles, with the models loaded. With ``first`` only those go on to the model whose
    probability lies in its band."""
    size, bundle = settings.batch_size, loaded_model(model, card.sha256, settings.threads)
    if first is None:
        return lambda batch, block: Predicted(predicted_scores(bundle, batch, size, block))
    before, band = loaded_model(first.model, first.sha256, settings.threads), first.band

    def predict(batch: TensorBatch, block: Block) -> Predicted:
        probabilities = predicted_probabilities(before, batch, size, block)
        goes_on = band.holds(probabilities)
        chosen = np.flatnonzero(goes_on).tolist()
        if chosen:
            part_of = batch if len(chosen) == len(batch) else batch.take(chosen)
            probabilities[chosen] = predicted_probabilities(bundle, part_of, size, block)
        return Predicted(score(probabilities), np.where(goes_on, STAGES[1], STAGES[0]).astype(np.int8))

    return predict


def predicted_scores(bundle: Bundle, batch: TensorBatch, batch_size: int, block: Block) -> np.ndarray:
    """The score of each allele of a block: float64 (n,). Raises InputError where the network gives no number."""
    return score(predicted_probabilities(bundle, batch, batch_size, block))


def known_features(card: Card, batch: TensorBatch) -> np.ndarray:
    """Of the site features (n, F) that this version builds those that the model knows, as its card names them; a model
    of an earlier version knows fewer, one that was trained without them none."""
    return batch.site_features[:, feature_columns(card.feature_names, f"the model '{card.model}'")]


@part("predict")
def predicted_probabilities(bundle: Bundle, batch: TensorBatch, batch_size: int, block: Block) -> np.ndarray:
    """The calibrated probability of each allele of a block, as :func:`predicted_scores`."""
    batch = dataclasses.replace(batch, site_features=known_features(bundle.card, batch))
    found = np.zeros(len(batch), np.float64)
    for chosen, arrays in scoring_batches(batch, batch_size, bundle.inputs, bundle.rows_at_once):
        found[chosen] = bundle.predict(arrays)
    if not np.isfinite(found).all():
        raise InputError(f"the model gave a score that is not a number in {block.region}; train it again")
    return found


def input_counts(card: Card, batch: TensorBatch) -> list[str]:
    """How the alleles' annotations and site features lie in the card's histograms; empty where it has none."""
    if card.known is None:
        return []
    values = np.concatenate([batch.annotations, known_features(card, batch)], axis=1)
    return pack_counts(count_values(card.known, values))


def compare_inputs(path: Location, card: Card, rows: Iterable[ShardRow], strict: bool) -> dict[str, Any] | None:
    """Writes how far the callset's inputs are from the training data to ``path``, and warns where they are elsewhere.

    Returns what it wrote; None where the card does not say what the model knows. Raises QualityError with ``strict``
    instead of the warning.
    """
    if card.known is None:
        return None
    comparison = compare(card.known, add_counts(card.known, (row.input_counts for row in rows)))
    found = comparison.to_json()
    write_json(path, found)
    if not comparison.inputs:
        progress(f"{comparison.alleles} alleles are too few to tell whether the model knows such a callset")
    if sentence := comparison.sentence():
        if strict:
            raise QualityError(f"{sentence}, or leave --strict out and run again with --if-exists resume")
        progress(f"warning: {sentence}")
    return found


def counts_text(counts: Mapping[str, int]) -> str:
    """What was scored and what was passed through, by reason, in one line for a person."""
    by_sample = counts.get("alleles scored, by sample")
    said = f"{counts.get('alleles scored', 0)} alleles scored" + (f" in {by_sample} carriers" if by_sample else "")
    if passed_on := passed_on_text(counts):
        said += f", {passed_on}"
    prefix = "passed through: "
    passed = [f"{count} {key.removeprefix(prefix)}" for key, count in counts.items() if key.startswith(prefix)]
    return f"{said}, passed through: {', '.join(passed)}" if passed else said


def lines_of(records: Iterable[Record]) -> Iterator[str]:
    """The records as lines."""
    for record in records:
        yield record.line()


def scorable(record: Record) -> bool:
    """Whether one of the record's alleles can be scored."""
    return any(unscorable_reason(record.ref, alt) is None for alt in record.alts)
