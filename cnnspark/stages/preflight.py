"""Checks before work: what would fail in an hour on a cluster is said in the first seconds, in one sentence.

Every check raises InputError; anything unusual but usable is returned as a warning.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from cnnspark.common.log import listed
from cnnspark.errors import InputError
from cnnspark.execution.tasks import LocalSession, Session, run_tasks, slots
from cnnspark.formats.contigs import check_contigs, check_lengths, check_regions
from cnnspark.formats.htslib import is_seen, one_of_each_store
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.alleles import NON_REF, ref_agrees, unscorable_reason
from cnnspark.variants.carriers import Member

# Records of each contig whose REF is compared with the reference before the run.
REF_SAMPLE_RECORDS = 200
# Members whose problem is written out; of thousands in a wrong folder the first say enough.
# Members whose index is compared with their reads, spread over all of them.
_INDEXES_CHECKED = 50
_NAMED_PROBLEMS = 5
# The packages whose versions must agree between driver and executors: arrays and bytes pass between them.
PROBED_PACKAGES = ("numpy", "pyarrow", "pysam", "petastorm", "cnnspark", "tensorflow", "keras")


@dataclass
class Preflight:
    """What the checks found out about the inputs."""

    sample: str = ""  # the callset's sample whose reads are used
    contig_lengths: dict[str, int | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def check_inputs(
    vcf: VcfSource,
    reads: ReadSource | None,
    reference: ReferenceSource | None,
    regions: Sequence[Region] = (),
    sample: str | None = None,
    settings: TensorSettings | None = None,
    members: Sequence[Member] = (),
    by_sample: bool = True,
) -> Preflight:
    """Compares callset, reads and reference with each other.

    Args:
        vcf: the callset.
        reads: of the one sample; None if none are needed or ``members`` have them.
        reference: None if it is not needed.
        regions: the chosen ones.
        sample: the callset's sample that the user named.
        settings: of the tensors; the defaults if None.
        members: samples of the callset with reads of their own; reads that are "" are not opened.
        by_sample: whether a sample is chosen if there are no members.

    Raises:
        InputError: the files do not belong together, or hold nothing to work on.
    """
    found, settings = Preflight(), settings or TensorSettings()
    contigs = vcf.contigs
    if not contigs:
        raise InputError(f"{vcf.path} holds no records; check that the caller finished")
    check_regions(regions, contigs, vcf.path)
    if regions:
        contigs = [contig for contig in contigs if contig in {region.contig for region in regions}]
    if reference is not None:
        check_contigs(vcf.path, contigs, reference.path, reference.lengths)
        check_lengths(vcf.path, vcf.header.contig_lengths, reference.path, reference.lengths)
    if reads is not None:
        check_contigs(vcf.path, contigs, reads.path, reads.contig_lengths)
        if reference is not None:
            shared = {c: reads.contig_lengths.get(c) for c in contigs}
            check_lengths(reads.path, shared, reference.path, reference.lengths)
        if reads.mapped_reads == 0:
            raise InputError(f"{reads.path} holds no mapped reads; check that the alignment finished")
        found.sample = choose_sample(vcf, reads, sample, found.warnings)
    elif members and reference is not None:
        check_members(vcf, members, reference, contigs, found.warnings)
    elif reference is not None and by_sample:
        found.sample = choose_column(vcf, sample, found.warnings)
    if found.sample and len(vcf.header.samples) > 1 and settings.annotations_by_sample:
        found.warnings.append(
            f"{vcf.path} has {len(vcf.header.samples)} samples: QUAL and INFO are of all of them, so annotations are "
            f"those that FORMAT has of '{found.sample}'"
        )
    if members or found.sample and len(vcf.header.samples) > 1:
        _check_genotypes(vcf, regions)
    lengths: Mapping[str, int | None] = reference.lengths if reference is not None else vcf.header.contig_lengths
    found.contig_lengths = {c: lengths.get(c) for c in contigs}
    _check_records(vcf, reference, regions, settings.on_ref_mismatch, found.warnings)
    return found


def check_reads(reads: ReadSource, reference: ReferenceSource) -> None:
    """Compares the reads with the reference alone. Contigs that only the reads' header has do not matter.

    Raises:
        InputError: they are of different builds.
    """
    shared = [contig for contig in reads.contig_lengths if contig in reference.lengths]
    if not shared:
        check_contigs(reads.path, list(reads.contig_lengths), reference.path, reference.lengths)
    lengths: dict[str, int | None] = {contig: reads.contig_lengths[contig] for contig in shared}
    check_lengths(reads.path, lengths, reference.path, reference.lengths)


def choose_sample(vcf: VcfSource, reads: ReadSource, wanted: str | None, warnings: list[str]) -> str:
    """The callset's sample that the reads belong to.

    Raises:
        InputError: the reads belong to none of the samples, or it is unclear to which.
    """
    check_one_sample(reads)
    samples = vcf.header.samples
    if wanted is not None:
        if wanted not in samples:
            raise InputError(f"{vcf.path} has no sample '{wanted}' (it has {_some(samples)}); check --sample")
        if reads.samples and wanted not in reads.samples:
            warnings.append(f"sample '{wanted}' was asked for, but {reads.path} says SM:{_some(reads.samples)}")
        return wanted
    if not samples:
        raise InputError(f"{vcf.path} has no sample column; give a callset with genotypes of the reads' sample")
    if not reads.samples:
        if len(samples) > 1:
            raise InputError(f"{reads.path} names no sample and {vcf.path} has {len(samples)}; choose with --sample")
        warnings.append(f"{reads.path} has no read group with SM; its reads are taken as those of '{samples[0]}'")
        return samples[0]
    if reads.samples[0] in samples:
        return reads.samples[0]
    raise InputError(
        f"{reads.path} holds reads of '{reads.samples[0]}' but {vcf.path} has {_some(samples)}; "
        "give the matching reads, or name the callset's sample with --sample"
    )


def choose_column(vcf: VcfSource, wanted: str | None, warnings: list[str]) -> str:
    """The callset's sample whose FORMAT column is used without reads; "" if the callset has no samples.

    Raises:
        InputError: the callset does not have the named sample.
    """
    samples = vcf.header.samples
    if wanted is not None and wanted not in samples:
        raise InputError(f"{vcf.path} has no sample '{wanted}' (it has {_some(samples)}); check --sample")
    if wanted is None and len(samples) > 1:
        warnings.append(f"{vcf.path} has {len(samples)} samples; '{samples[0]}' is taken, another by --sample")
    return wanted or (samples[0] if samples else "")


def check_one_sample(reads: ReadSource) -> None:
    """Checks that the file holds the reads of one sample.

    Raises:
        InputError: it holds those of several, which would be taken for one.
    """
    if len(reads.samples) > 1:
        raise InputError(
            f"{reads.path} holds reads of {len(reads.samples)} samples ({_some(reads.samples)}); split it by sample"
        )


def check_members(
    vcf: VcfSource,
    members: Sequence[Member],
    reference: ReferenceSource,
    contigs: Sequence[str],
    warnings: list[str],
) -> None:
    """Compares each member with callset and reference.

    Raises:
        InputError: one sentence that names what is wrong with all of them.
    """
    problems, unnamed = [], 0
    by_sample: dict[str, Member] = {}
    # An index of a whole genome's reads takes a second to look through.
    indexes_checked = set(range(0, len(members), max(1, len(members) // _INDEXES_CHECKED)))
    for number, member in enumerate(members):
        if member.sample in by_sample:
            files = f"{by_sample[member.sample].reads} and {member.reads}"
            problems.append(f"sample '{member.sample}' is given twice ({files}); join its reads or leave one out")
            continue
        by_sample[member.sample] = member
        if member.sample not in vcf.header.samples:
            there = _some(vcf.header.samples)
            problems.append(f"{vcf.path} has no sample '{member.sample}' (it has {there}); correct the sample's name")
        if not member.reads:
            continue
        try:
            with ReadSource(member.reads, reference.path) as reads:
                unnamed += not reads.samples
                if number in indexes_checked:
                    reads.require_own_index()
                _check_member(vcf, member, reads, reference, contigs)
        except InputError as error:
            problems.append(str(error))
    if unnamed:
        warnings.append(f"the reads of {unnamed} samples name no sample (SM) and are taken as given")
    if len(problems) == 1:
        raise InputError(problems[0])
    if problems:
        left = len(problems) - _NAMED_PROBLEMS
        more = f"; and {left} more" if left > 0 else ""
        raise InputError(f"{len(problems)} samples do not fit: {'; '.join(problems[:_NAMED_PROBLEMS])}{more}")


def _check_member(
    vcf: VcfSource, member: Member, reads: ReadSource, reference: ReferenceSource, contigs: Sequence[str]
) -> None:
    check_one_sample(reads)
    if reads.samples and reads.samples[0] != member.sample:
        raise InputError(
            f"{reads.path} holds reads of '{reads.samples[0]}', not of '{member.sample}'; give the sample's own reads"
        )
    check_contigs(vcf.path, contigs, reads.path, reads.contig_lengths)
    shared = {c: reads.contig_lengths.get(c) for c in contigs}
    check_lengths(reads.path, shared, reference.path, reference.lengths)
    if reads.mapped_reads == 0:
        raise InputError(f"{reads.path} holds no mapped reads; check that the alignment finished")


def _some(names: Sequence[str]) -> str:
    return listed([f"'{name}'" for name in names], 3, letters=None) or "none"


def _sample_records(vcf: VcfSource, regions: Sequence[Region]) -> Iterator[Record]:
    """The first records of each region, or of each contig."""
    for region in regions or [Region(contig) for contig in vcf.contigs]:
        yield from islice(vcf.records(region), REF_SAMPLE_RECORDS)


def _check_genotypes(vcf: VcfSource, regions: Sequence[Region]) -> None:
    """Checks that the records say who carries an allele: among several samples that decides what is scored."""
    if any(record.rest is not None and "GT" in record.rest.split("\t", 1)[0].split(":") for record in
           _sample_records(vcf, regions)):  # fmt: skip
        return
    raise InputError(
        f"the records of {vcf.path} have no genotypes (FORMAT/GT), so that nothing says which of its "
        f"{len(vcf.header.samples)} samples carries an allele; score one sample's own callset ('bcftools view -s')"
    )


def _check_records(
    vcf: VcfSource,
    reference: ReferenceSource | None,
    regions: Sequence[Region],
    on_ref_mismatch: str,
    warnings: list[str],
) -> None:
    records = scorable = non_ref = mismatches = 0
    for record in _sample_records(vcf, regions):
        records += 1
        reasons = [unscorable_reason(record.ref, alt) for alt in record.alts]
        non_ref += NON_REF in reasons
        if None not in reasons:
            continue
        scorable += 1
        if reference is None:
            continue
        there = reference.letters(record.contig, record.start, record.end)
        if ref_agrees(record.ref, there):
            continue
        mismatches += 1
        if on_ref_mismatch == "error":
            raise InputError(
                f"REF of {record.contig}:{record.start + 1} is {_short(record.ref)} in {vcf.path} but "
                f"{_short(there.strip()) or 'beyond the contig'} in {reference.path}; give the callset's reference, "
                "or pass such records through with --on-ref-mismatch skip"
            )
    if not records:
        raise InputError(f"{vcf.path} holds no records in the chosen regions; check --region")
    if mismatches:
        warnings.append(f"{mismatches} of {records} records looked at have a REF that is not the reference's")
    if non_ref > records / 2:
        warnings.append(
            f"{vcf.path} looks like a gVCF ({non_ref} of {records} records have <NON_REF>); "
            "its reference blocks pass through unscored: genotype it first for a callset"
        )
    elif not scorable:
        warnings.append(f"none of the first {records} records of {vcf.path} has an allele that can be scored")


def _short(sequence: str) -> str:
    return sequence if len(sequence) <= 12 else f"{sequence[:12]}..."


def versions() -> dict[str, str]:
    """The versions of Python and of the packages in this process, without importing them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in PROBED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


# What executors were found to have, by application: their environment and these paths.
_well: dict[str, set[str]] = {}


def check_executors(session: Session, paths: Sequence[str] = ()) -> None:
    """Compares Python and packages of the executors with the driver's, and checks that they see the paths.

    It runs as many tasks as there are slots. What was found well is not asked again in the same session: a run of many
    samples asks for each. Without Spark there is nothing to compare.

    Raises:
        InputError: the first difference found, or a path that an executor does not see.
    """
    if isinstance(session, LocalSession):
        return
    known = _well.setdefault(session.sparkContext.applicationId, set())
    asked = [path for path in one_of_each_store(paths) if path not in known]
    if known and not asked:
        return
    driver = versions()

    def probe(_: Iterable[int]) -> Iterator[tuple[dict[str, str], list[str]]]:
        yield versions(), [path for path in asked if not is_seen(path)]

    each = [[number] for number in range(slots(session))]
    try:
        answers = run_tasks(session, each, probe, "compare the executors with the driver")
    except Exception as error:
        if "cnnspark" in str(error) and "ModuleNotFoundError" in str(error):
            raise InputError(
                "the executors cannot import cnnspark; install it on every node or ship it with --archives"
            ) from None
        raise
    for there, unseen in answers:
        for name, version in driver.items():
            if there.get(name) != version and not (name == "cnnspark" and "missing" in (version, there.get(name))):
                raise InputError(
                    f"{name} is {there.get(name)} on an executor and {version} on the driver; "
                    "ship one environment to both (docs/operations.md)"
                )
        if unseen:
            raise InputError(
                f"an executor does not see {unseen[0]}; put inputs and outputs on storage that every node mounts, or "
                "on an object store that every node may read (docs/operations.md)"
            )
    known.update(["the environment", *asked])
