"""A stage's inputs: checked against each other once, and handed on in a form that regions are read from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnspark._version import __version__
from cnnspark.common.log import about, progress
from cnnspark.common.storage import file_identity, make_room
from cnnspark.config import Config, InputPaths
from cnnspark.errors import UsageError
from cnnspark.execution.run_lock import private_folder
from cnnspark.formats import callset
from cnnspark.formats.reads import open_reads
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region, parse_region
from cnnspark.formats.vcf import VcfHeader
from cnnspark.stages.preflight import Preflight, check_inputs
from cnnspark.tensors import block_tensors
from cnnspark.variants.carriers import Member
from cnnspark.variants.labeller import required

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


@dataclass
class CheckedInputs:
    """Inputs that passed preflight.

    Attributes:
        inputs: the paths that tasks open; the callset is bgzipped and indexed.
        header: the callset's.
        regions: the chosen ones; empty for all of the callset.
        preflight: what the checks found out.
        identity: what a run's result depends on; a run is resumed only if it is the same.
    """

    inputs: block_tensors.Inputs
    header: VcfHeader
    regions: list[Region]
    preflight: Preflight
    identity: dict[str, Any]


@contextmanager
def checked_inputs(
    paths: InputPaths,
    config: Config,
    out: Location,
    needs_reads: bool = True,
    needs_reference: bool | None = None,
    whole_records: bool = False,
) -> Iterator[CheckedInputs]:
    """Checks callset, reads and reference. A plain VCF or BCF is copied beside ``out`` while the work lasts.

    Args:
        paths: the run's, absolute.
        config: all settings.
        out: where the stage writes.
        needs_reads: whether the reads are opened and checked.
        needs_reference: whether the reference is; the same as ``needs_reads`` if None.
        whole_records: whether it does not matter which of several samples carries an allele.

    Raises:
        UsageError: a path is missing, or reads are given both by sample and for all.
        InputError: a file cannot be used, or the files do not fit together.
    """
    needs_reference = needs_reads if needs_reference is None else needs_reference
    vcf = required(paths.vcf, "--vcf")
    callset.require_file(vcf, "callset")
    with ExitStack() as stack:
        readable = vcf
        if callset.needs_copy(vcf):
            # Beside the output: executors see that storage.
            make_room(out)
            copy = stack.enter_context(private_folder(out, "callset")) / "callset.vcf.gz"
            callset.place_copy(vcf, copy)
            readable = str(copy)
        source = callset.open_callset(readable, vcf)
        stack.callback(source.close)
        several = len(source.header.samples) > 1
        if several and whole_records:
            if paths.sample:
                progress("the model scores records, the same for all samples; --sample is not used")
            paths = dataclasses.replace(paths, sample=None, members=())
        by_sample = needs_reference and not (several and whole_records)
        paths, members = _members(paths, source.header, needs_reads) if by_sample else (paths, ())
        reads = reference = None
        if needs_reference:
            callset.require_file(required(paths.reference, "--reference"), "reference")
            reference = ReferenceSource(str(paths.reference))
        if needs_reads and not members:
            reads = open_reads(required(paths.reads, "--reads"), paths.reference)
        regions = [parse_region(text, source.contigs) for text in paths.regions]
        found = check_inputs(source, reads, reference, regions, paths.sample, config.tensors, members, by_sample)
        for warning in found.warnings:
            progress(f"warning: {warning}")
        if reference is None:
            found.contig_lengths = dict(source.header.contig_lengths)
        if found.sample and several:
            members = (Member(found.sample, str(paths.reads) if needs_reads else ""),)
        inputs = block_tensors.Inputs(
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
            yield CheckedInputs(inputs, source.header, regions, found, identity)


def _members(paths: InputPaths, header: VcfHeader, needs_reads: bool) -> tuple[InputPaths, tuple[Member, ...]]:
    """The members of a callset of several samples, in the order of its columns.

    The one member of a callset of one sample is that sample: it is read as without members. Reads that are not needed
    are "".
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


def require_reads(reads: str | None, model: str) -> None:
    """Checks that there are reads for a model that needs them.

    Raises:
        UsageError: there are none; ``model`` is its name or path.
    """
    if not reads:
        raise UsageError(f"the model {model} looks at reads; give --reads")
