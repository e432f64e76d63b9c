"""The allele that is to be explained: found in a callset, with its neighbours, as scoring reads them.

Tensors come from the classes that ``cnnspark score`` builds them with, so that the score is the scored callset's.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pysam

from cnnspark.alleles import ref_agrees
from cnnspark.blocks import Block
from cnnspark.cohort import CohortTensors
from cnnspark.config import Config, InputPaths, build
from cnnspark.errors import CnnsparkError, InputError, UsageError
from cnnspark.features import FURTHEST
from cnnspark.files import is_url, location
from cnnspark.inputs import CheckedInputs, required
from cnnspark.models.bundled import BUNDLED, PREFIX, chosen_model
from cnnspark.models.card import Card, read_card
from cnnspark.regions import Region
from cnnspark.remote_inputs import for_htslib
from cnnspark.runs import MANIFEST, read_json
from cnnspark.schema import TensorBatch
from cnnspark.scoring import BlockTensors
from cnnspark.show import alts_of, choose_alt, listed, nothing_there, parse_position
from cnnspark.stages import merged_callset
from cnnspark.vcf import Record, VcfHeader

if TYPE_CHECKING:
    from cnnspark.tensors import TensorSettings

# Records on each side that are listed.
NEIGHBOURS = 5


@dataclass(frozen=True)
class Site:
    """The records around a position as one sample has them, with the tensors of their scorable alleles.

    ``alleles[i]`` is the record's number and the ALT's (from 1) of tensor ``i``; ``target`` is that of the allele that
    was asked for, ``index`` its tensor.
    """

    sample: str
    header: VcfHeader
    records: tuple[Record, ...]
    tensors: TensorBatch
    alleles: tuple[tuple[int, int], ...]
    record: Record
    alt_number: int
    alts: tuple[str, ...]  # all at the position

    @property
    def index(self) -> int:
        return self.alleles.index((self.record.index, self.alt_number))


def of_the_run(paths: InputPaths, model: str | None, config: Config) -> tuple[InputPaths, str | None, Config]:
    """The merged callset of a scoring run's folder, and the run's own inputs and model where none are given."""
    vcf = required(paths.vcf, "--vcf")
    if is_url(vcf) or not Path(vcf).is_dir():
        return paths, model, config
    folder = location(vcf)
    manifest = read_json(folder / MANIFEST, "the folder of a finished scoring run")
    try:
        of_run = build(Config, manifest["config"])
    except (KeyError, TypeError, CnnsparkError):
        raise InputError(
            f"{folder / MANIFEST} does not say what was scored; give the scored VCF itself, --reads and --reference"
        ) from None
    of_run_inputs = of_run.inputs
    given: dict[str, Any] = {"vcf": merged_callset(vcf), "regions": ()}
    given |= {name: getattr(paths, name) or getattr(of_run_inputs, name) for name in ("reads", "reference", "sample")}
    members = paths.members or (() if paths.reads else of_run_inputs.members)
    chosen = dataclasses.replace(paths, **given, members=members)
    if config == Config():
        config = dataclasses.replace(of_run, inputs=config.inputs)
    return chosen, model or of_run.model, config


def of_one_member(paths: InputPaths) -> InputPaths:
    """Of several samples with reads the one that is asked for."""
    if not paths.members:
        return paths
    names = [member.sample for member in paths.members]
    if paths.sample is None and len(names) > 1:
        raise UsageError(f"the callset was scored in {listed(names)}; choose one with --sample")
    sample = paths.sample or names[0]
    reads = next((member.reads for member in paths.members if member.sample == sample), None)
    if reads is None:
        raise UsageError(f"sample '{sample}' has no reads among those of {listed(names)}; choose one of them")
    return dataclasses.replace(paths, reads=reads or None, sample=sample, members=())


def scored_with(vcf: str, has_reads: bool) -> str:
    """The bundled model by which the callset was scored; of a callset without scores the usual one.

    Raises UsageError where it was scored by another model.
    """
    digest = model_digest(_header_of(vcf))
    if digest is None:
        return chosen_model(None, has_reads)
    for name in BUNDLED:
        if read_card(PREFIX + name).sha256 == digest:
            return PREFIX + name
    raise UsageError(f"{vcf} was scored with a model of your own (SHA-256 {digest[:16]}); give it with --model")


def _header_of(vcf: str) -> Sequence[str]:
    """The header's lines; none where the file cannot be read, which is said when it is opened for good."""
    verbosity = pysam.set_verbosity(0)  # what htslib thinks of a header is no concern here
    try:
        with pysam.VariantFile(for_htslib(vcf)) as file:
            return str(file.header).splitlines()
    except (OSError, ValueError):
        return ()
    finally:
        pysam.set_verbosity(verbosity)


def model_digest(lines: Sequence[str]) -> str | None:
    """The SHA-256 of the model that a scored callset's header names, the last one where it was scored twice."""
    found = [re.search(r"ModelSHA256=([0-9a-f]{64})", line) for line in lines if line.startswith("##cnnspark_model=<")]
    return next((match[1] for match in reversed(found) if match), None)


def find_site(checked: CheckedInputs, vcf: str, card: Card, tensors: TensorSettings, at: str, alt: str | None) -> Site:
    """The allele that is asked for and the records around it, read as scoring reads them."""
    inputs = checked.inputs
    several = bool(inputs.members)
    source = (
        CohortTensors(inputs, card.annotation_names, tensors, max_carriers=1)
        if several
        else BlockTensors(inputs, card.annotation_names, tensors)
    )
    source.vcf.path = vcf  # what messages name
    contig, start = parse_position(at, [*source.vcf.contigs, *source.reference.lengths])
    block = Block(0, Region(contig, start, start + 1).padded(FURTHEST))
    around = list(source.vcf.records(block.region))
    here = [record for record in around if record.start == start]
    if not here:
        raise InputError(nothing_there(source.vcf, contig, start))
    record, number = choose_alt(here, alt, at)
    records = _nearest(around, start)
    if isinstance(source, CohortTensors):
        batches = list(source.tensors(source.carriers(block)))
        alleles = [allele for _, each, _ in batches for allele in each]
        batch = TensorBatch.concatenate([each for _, _, each in batches]) if batches else None
    else:
        batch, _ = source.build(records, block)
        alleles = [(key.record_index, key.alt_index) for key in batch.keys]
    sample = inputs.sample or (inputs.members[0].sample if several else "")
    if batch is None or (record.index, number) not in alleles:
        reason = _why_not(source.reference.letters(contig, record.start, record.end), record, at, sample)
        raise InputError(reason)
    return Site(
        sample=sample,
        header=source.vcf.header,
        records=tuple(records),
        tensors=batch,
        alleles=tuple(alleles),
        record=record,
        alt_number=number,
        alts=tuple(alts_of(here)),
    )


def _nearest(records: Sequence[Record], start: int) -> list[Record]:
    """All records at ``start`` and the NEIGHBOURS nearest on each side, in the callset's order."""
    before = [record for record in records if record.start < start][-NEIGHBOURS:]
    after = [record for record in records if record.start > start][:NEIGHBOURS]
    return [*before, *(record for record in records if record.start == start), *after]


def _why_not(letters: str, record: Record, at: str, sample: str) -> str:
    if not ref_agrees(record.ref, letters):
        return f"the record at {at} has a REF that the reference does not have there; give the callset's own reference"
    return (
        f"sample '{sample}' does not carry that ALT at {at}, so it has no score there; choose another --sample or --alt"
    )
