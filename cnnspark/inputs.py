"""A stage's inputs: checked against each other, in a form that regions can be read from, with their labels."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cnnspark import __version__, callset, scoring
from cnnspark.blocks import Block
from cnnspark.config import Config, InputPaths
from cnnspark.errors import UsageError
from cnnspark.files import make_room
from cnnspark.label_sources import AlleleName, labels_from_table, read_labels
from cnnspark.labels import DEFAULT_SETTINGS, TruthSource, label_block
from cnnspark.log import about, progress
from cnnspark.members import Member
from cnnspark.owner import private_folder
from cnnspark.preflight import Preflight, check_inputs, check_lengths
from cnnspark.reads import ReadSource
from cnnspark.reference import ReferenceSource
from cnnspark.regions import Region, parse_region, require_shared_contig
from cnnspark.runs import file_identity
from cnnspark.runtime import part
from cnnspark.vcf import Record, VcfHeader, VcfSource

if TYPE_CHECKING:
    from cnnspark.files import Location


@dataclass
class CheckedInputs:
    """Inputs that passed preflight, and the callset in a form that regions can be read from."""

    inputs: scoring.Inputs
    header: VcfHeader
    regions: list[Region]
    preflight: Preflight
    identity: dict[str, Any]
    stale_index: bool = False  # older than the callset: what it leads to must be counted


@contextmanager
def checked_inputs(
    paths: InputPaths, config: Config, out: Location, needs_reads: bool = True, needs_reference: bool | None = None
) -> Iterator[CheckedInputs]:
    """Preflight of callset, reads and reference. A plain VCF or BCF is copied beside ``out`` while the work lasts.

    The reference is needed where the reads are, if nothing else is said; what is not needed is not looked at.
    """
    needs_reference = needs_reads if needs_reference is None else needs_reference
    vcf = required(paths.vcf, "--vcf")
    callset.require_file(vcf, "callset")
    with ExitStack() as stack:
        readable = vcf
        if callset.needs_copy(vcf):
            # Beside the output, because that is storage which the executors see, too.
            make_room(out)
            copy = stack.enter_context(private_folder(out, "callset")) / "callset.vcf.gz"
            callset.place_copy(vcf, copy)
            readable = str(copy)
        source = callset.open_callset(readable)
        stale = callset.index_is_older(readable)
        source.path = vcf  # what messages name
        stack.callback(source.close)
        paths, members = _members(paths, source.header, needs_reads) if needs_reference else (paths, ())
        reads = reference = None
        if needs_reference:
            callset.require_file(required(paths.reference, "--reference"), "reference")
            reference = ReferenceSource(str(paths.reference))
        if needs_reads and not members:
            reads = ReadSource(required(paths.reads, "--reads"), paths.reference)
        regions = [parse_region(text, source.contigs) for text in paths.regions]
        found = check_inputs(source, reads, reference, regions, paths.sample, config.tensors.on_ref_mismatch, members)
        for warning in found.warnings:
            progress(f"warning: {warning}")
        if reference is None:
            found.contig_lengths = dict(source.header.contig_lengths)
        if found.sample and len(source.header.samples) > 1:
            members = (Member(found.sample, str(paths.reads) if needs_reads else ""),)
        inputs = scoring.Inputs(
            vcf=readable,
            reads=paths.reads if needs_reads else None,
            reference=paths.reference or "",
            sample=found.sample,
            members=members,
        )
        needed = ((paths.reads, needs_reads), (paths.reference, needs_reference))
        used = [vcf, *(str(path) for path, needs in needed if needs and path), *(m.reads for m in members if m.reads)]
        identity = {
            "version": __version__,
            "inputs": {path: file_identity(path) for path in used},
            "sample": found.sample,
            "regions": [str(region) for region in regions],
            "blocks": dataclasses.asdict(config.blocks),
        }
        if paths.members:
            identity["members"] = {member.sample: member.reads for member in members}
        with about(sample=found.sample):
            yield CheckedInputs(inputs, source.header, regions, found, identity, stale)


def _members(paths: InputPaths, header: VcfHeader, needs_reads: bool) -> tuple[InputPaths, tuple[Member, ...]]:
    """The members of a callset of several samples, in the order of its columns, so that theirs does not matter.

    The one member of a callset of one sample is that sample: it is read as it is without members. Reads that are not
    needed are "". Raises UsageError where members and reads are given both.
    """
    if not paths.members:
        return paths, ()
    if paths.reads or paths.sample:
        raise UsageError("reads are given by sample, so leave --reads and --sample out")
    if len(header.samples) == 1 and [member.sample for member in paths.members] == list(header.samples):
        only = paths.members[0]
        return dataclasses.replace(paths, reads=only.reads, members=()), ()
    order = {sample: number for number, sample in enumerate(header.samples)}
    members = sorted(paths.members, key=lambda member: (order.get(member.sample, len(order)), member.sample))
    if needs_reads:
        if any(not member.reads for member in members):
            raise UsageError("a member has no reads; give their path, or leave the member out")
        return paths, tuple(members)
    return paths, tuple(dataclasses.replace(member, reads="") for member in members)


def required(path: str | None, flag: str) -> str:
    if not path:
        raise UsageError(f"{flag} is missing; give the path")
    return path


def require_reads(reads: str | None, model: str) -> None:
    """Raises UsageError where there are no reads for a model, by its name or path, that looks at them."""
    if not reads:
        raise UsageError(f"the model {model} looks at reads; give --reads")


@dataclass(frozen=True)
class TruthPaths:
    """Where labels come from: a truth VCF and its confident BED, or a table of labelled alleles."""

    truth: str | None = None
    bed: str | None = None
    labels: str | None = None

    @staticmethod
    def of(paths: InputPaths) -> TruthPaths | None:
        """The label source of a run's inputs, None where there is none. Raises UsageError where it is half given."""
        if paths.labels and (paths.truth or paths.bed):
            raise UsageError("give either --labels or --truth with --bed")
        if bool(paths.truth) != bool(paths.bed):
            raise UsageError("--truth needs --bed, the regions where the truth is complete, and --bed needs --truth")
        return TruthPaths(paths.truth, paths.bed, paths.labels) if paths.truth or paths.labels else None

    def check(self, reference: str | None) -> list[str]:
        """Opens the files, so that a broken truth is said before Spark starts to work; returns their paths.

        Raises InputError also where the truth is of another build than the reference.
        """
        names = ((self.truth, "truth"), (self.bed, "confident BED"), (self.labels, "label table"))
        for path, what in names:
            if path:
                callset.require_file(path, what)
        if self.labels is None:
            with TruthSource(str(self.truth), str(self.bed)) as truth:
                callset.require_file(required(reference, "--reference"), "reference")
                genome = ReferenceSource(str(reference))
                check_lengths(truth.path, truth.header.contig_lengths, genome.path, genome.lengths)
                require_shared_contig(truth.bed_path, truth.contigs, genome.path, genome.lengths)
                genome.close()
        return [path for path, _ in names if path]


@lru_cache(maxsize=1)
def _table(path: str, identity: str) -> Mapping[AlleleName, int]:
    """The labels, read once in a Python worker as long as the file is the same one."""
    return read_labels(path)


@lru_cache(maxsize=1)
def _truth(truth: str, bed: str) -> TruthSource:
    """The truth and its regions, opened once in a Python worker."""
    return TruthSource(truth, bed)


class Labeller:
    """Labels the records of one block after another. Make it inside the task."""

    def __init__(self, source: TruthPaths, vcf: VcfSource, reference: str | None):
        self._vcf = vcf
        if source.labels:
            self._table = _table(source.labels, json.dumps(file_identity(source.labels), sort_keys=True))
            return
        self._truth = _truth(str(source.truth), str(source.bed))
        self._reference = ReferenceSource(required(reference, "--reference"))

    @part("label")
    def labels(self, records: Sequence[Record], block: Block) -> tuple[list[list[int]], Counter]:
        """One label per ALT of each record, and counts by reason."""
        if hasattr(self, "_table"):
            return labels_from_table(records, self._table)
        around = list(self._vcf.records(block.region.padded(DEFAULT_SETTINGS.margin_bases)))
        return label_block(around, block.region, self._truth, self._reference)
