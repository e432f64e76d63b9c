"""Labelled tensors of a callset, as a dataset."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnspark.common.log import about, progress
from cnnspark.common.stopwatch import measured
from cnnspark.common.storage import file_identity
from cnnspark.config import Config, InputPaths
from cnnspark.errors import InputError, UsageError
from cnnspark.execution.blocks import Block, block_range, deal
from cnnspark.execution.progress import Tally, following
from cnnspark.execution.records_digest import add_digests
from cnnspark.execution.run_folder import RunFolder
from cnnspark.execution.session import described
from cnnspark.execution.tasks import run_tasks
from cnnspark.formats.vcf import VcfHeader
from cnnspark.stages.costs import tensor_costs
from cnnspark.stages.inputs import CheckedInputs, checked_inputs
from cnnspark.stages.preflight import check_executors
from cnnspark.stages.run_steps import planned_blocks, report_blocks
from cnnspark.tensors import dataset
from cnnspark.tensors.block_tensors import BlockTensors, Inputs
from cnnspark.tensors.builder import feature_names
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.alleles import UNKNOWN
from cnnspark.variants.annotations import GATK_ANNOTATIONS, default_annotations
from cnnspark.variants.labeller import Labeller, TruthPaths, open_labeller

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@about(stage="tensors")
def build_dataset(
    spark: SparkSession, paths: InputPaths, out: str, config: Config, if_exists: str = "fail",
    checked: CheckedInputs | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Builds labelled tensors of a callset and writes them through Petastorm. Alleles of unknown label are left out.

    Args:
        spark: where the tasks run.
        paths: callset, reference, and reads (without them tensors have no reads and no site features, for models that
            take none); a truth with its BED or labels (without them all alleles are written, unlabelled).
        out: folder of the dataset.
        config: all settings.
        if_exists: ``fail``, ``resume`` or ``overwrite``.
        checked: the inputs, if an earlier stage of the same run has checked them.

    Raises:
        UsageError: the output is in use, or a truth is given by half.
        InputError: the inputs do not fit together, or no allele is in the confident regions.
    """
    paths, folder = paths.absolute(), dataset.dataset_folder(out)
    if paths.members:
        raise UsageError("tensors are built of one sample; give its --reads and --sample instead of members")
    if set("#?") & set(str(folder.out)):
        raise UsageError(f"{out} has a '#' or '?', at which Petastorm ends a path; choose another folder")
    folder.check(if_exists)
    truth = TruthPaths.of(paths.truth, paths.bed, paths.labels)
    with_reads = paths.reads is not None
    opened = checked_inputs(paths, config, folder.out, with_reads, needs_reference=True)
    with nullcontext(checked) if checked else opened as found, ExitStack() as stack:
        used = truth.check(paths.reference) if truth else []
        names = config.annotations or usual_annotations(found.header, config.tensors.encoding)
        features = feature_names(config.tensors, with_reads)
        check_executors(spark, [*found.inputs.paths, *used])
        blocks = planned_blocks(spark, found, config, tensor_costs(with_reads))
        identity = found.identity | {
            "stage": "tensors",
            "truth": {path: file_identity(path) for path in used},
            "annotations": list(names),
            "site_features": list(features),
            "tensors": dataclasses.asdict(config.tensors),
        }
        stack.enter_context(folder.opened(identity, blocks, if_exists))
        with (
            described(spark, "Petastorm's metadata"),
            dataset.materialize(spark, folder, len(names), len(features)),
        ):
            _write_missing(
                spark, folder, blocks, _BlockWriter(folder, found.inputs, tuple(names), config.tensors, truth)
            )
        facts = {
            "sample": found.inputs.sample,
            "with_reads": with_reads,
            "config": dataclasses.replace(config, inputs=paths).to_dict(),
            "inputs": identity["inputs"] | identity["truth"],
            # Of the callset's records: what other stages prove conservation by.
            "callset_digest": add_digests(block.digest for block in blocks),
        }
        card = dataset.write_card(spark, folder, names, features, facts)
        if truth and not card["labels"]["true"] + card["labels"]["false"]:
            raise InputError("no allele lies inside the confident BED; give the BED of this sample and build")
        return _finish(folder, blocks, card)


def usual_annotations(header: VcfHeader, encoding: str) -> tuple[str, ...]:
    """The annotations that are taken if the configuration names none."""
    return GATK_ANNOTATIONS if encoding == "gatk" else default_annotations(header, len(header.samples) > 1)


@dataclasses.dataclass(frozen=True)
class _BlockWriter:
    """What a task needs to write tensors; small, for it travels to every task."""

    folder: RunFolder
    inputs: Inputs
    annotations: tuple[str, ...]
    settings: TensorSettings
    truth: TruthPaths | None

    def write(self, blocks: Iterable[Block]) -> Iterator[int]:
        """Writes the blocks that are not there yet; yields each one's number."""
        source = BlockTensors(self.inputs, self.annotations, self.settings)
        labeller = open_labeller(self.truth, source.vcf, self.inputs.reference) if self.truth else None
        for block in blocks:
            # An earlier attempt of this task may have written it.
            if not dataset.finished_rows(self.folder, block):
                write_tensors(self.folder, block, source, labeller)
            yield block.index


def _write_missing(spark: SparkSession, folder: RunFolder, blocks: Sequence[Block], writer: _BlockWriter) -> None:
    finished = {row["block"] for row in dataset.finished_rows(folder)}
    missing = [block for block in blocks if block.index not in finished]
    if missing:
        with following(Tally(folder, blocks, missing)):
            run_tasks(spark, deal(spark, missing), writer.write, block_range(missing, len(blocks)))


def _finish(folder: RunFolder, blocks: Sequence[Block], card: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the summary and the success mark; returns the summary."""
    summary = {"stage": "tensors", "out": str(folder.out)} | {
        name: card[name] for name in ("tensors", "labels", "counts", "bytes")
    }
    summary["runtime"] = report_blocks(folder, blocks, {row["block"]: row["runtime"] for row in folder.rows()})
    folder.succeed(summary)
    progress(
        f"{card['tensors']} tensors ({card['labels']['true']} true, {card['labels']['false']} false), "
        f"{card['bytes'] / max(1, card['tensors']) / 1000:.1f} kB each"
    )
    return summary


@measured("write")
def write_tensors(folder: RunFolder, block: Block, source: BlockTensors, labeller: Labeller | None) -> dict[str, Any]:
    """Builds, labels and writes one block's tensors; of a callset of several samples those that its sample carries.

    Returns the block's manifest row.
    """
    records = source.records(block)
    carried = {record.index: source.carried(record) for record in records}
    if labeller is None:
        batch, counts = source.build([record for record in records if carried[record.index]], block)
        batch = batch.take([i for i, key in enumerate(batch.keys) if key.alt_index in carried[key.record_index]])
        return dataset.write_block(folder, block, batch, np.full(len(batch), UNKNOWN), source.inputs.sample, counts)
    labels, counts = labeller.labels(records, block.region)
    of_record = {
        record.index: [label if n in carried[record.index] else UNKNOWN for n, label in enumerate(each, 1)]
        for record, each in zip(records, labels, strict=True)
    }
    # An allele that nobody will train on needs no tensor; a record with one labelled allele is built whole.
    wanted = [record for record in records if any(label != UNKNOWN for label in of_record[record.index])]
    batch, skipped = source.build(wanted, block)
    chosen = [i for i, k in enumerate(batch.keys) if of_record[k.record_index][k.alt_index - 1] != UNKNOWN]
    known = np.array([of_record[batch.keys[i].record_index][batch.keys[i].alt_index - 1] for i in chosen], np.int32)
    counts = counts + Counter({f"no tensor: {reason}": n for reason, n in skipped.items()})
    return dataset.write_block(folder, block, batch.take(chosen), known, source.inputs.sample, counts)
