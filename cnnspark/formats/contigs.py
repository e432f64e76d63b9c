"""Contigs of two files compared: do they belong to one reference build?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cnnspark.errors import InputError
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfSource


def other_spelling(contig: str) -> str:
    """The contig's name with ``chr`` before it, or without: how a file of the other naming spells it."""
    return contig[3:] if contig.startswith("chr") else f"chr{contig}"


def check_build(vcf: VcfSource, reference: ReferenceSource, contigs: Sequence[str] = ()) -> None:
    """A callset or a truth against the reference: the contigs of its records, of ``contigs`` where given, and lengths.

    Raises InputError where they are not of one build.
    """
    check_contigs(vcf.path, list(contigs) or vcf.contigs, reference.path, reference.lengths)
    check_lengths(vcf.path, vcf.header.contig_lengths, reference.path, reference.lengths)


def check_contigs(path_a: str, contigs: Sequence[str], path_b: str, others: Mapping[str, int]) -> None:
    missing = [contig for contig in contigs if contig not in others]
    if not missing:
        return
    names = list(others)
    renamed = [c for c in missing if other_spelling(c) in others]
    if len(missing) == len(contigs):
        if renamed:
            raise InputError(
                f"{path_a} says '{renamed[0]}' where {path_b} says '{other_spelling(renamed[0])}'; only the 'chr' "
                "prefix differs: rename with 'bcftools annotate --rename-chrs' or give the files of one build"
            )
        raise InputError(
            f"{path_a} and {path_b} have no contig in common "
            f"('{contigs[0]}' against '{names[0] if names else 'none'}'); give files of the same reference build"
        )
    raise InputError(
        f"{path_a} has records on {len(missing)} contigs that {path_b} lacks (first: '{missing[0]}'); "
        "give the matching file or choose contigs with --region"
    )


def check_lengths(path_a: str, lengths: Mapping[str, int | None], path_b: str, others: Mapping[str, int]) -> None:
    """Raises InputError where a contig that both files have is not equally long in both."""
    for contig, length in lengths.items():
        if length is not None and contig in others and others[contig] != length:
            raise InputError(
                f"contig '{contig}' is {length} bases long in {path_a} and {others[contig]} in {path_b}; "
                "give files of the same reference build"
            )


def check_regions(regions: Sequence[Region], contigs: Collection[str], path: str) -> None:
    """Raises InputError where a region names a contig that the file does not have."""
    for region in regions:
        if region.contig not in contigs:
            raise InputError(
                f"region {region} names a contig that {path} does not have{spelling_hint(region.contig, contigs)}"
            )


def spelling_hint(contig: str, others: Collection[str]) -> str:
    """``; did you mean chr20?`` where only the ``chr`` prefix differs."""
    other = other_spelling(contig)
    return f"; did you mean '{other}'?" if other in others else "; check the name"


def require_shared_contig(path: str, contigs: Collection[str], other_path: str, others: Collection[str]) -> None:
    """Raises InputError where two files have no contig in common, with the name that would fit if there is one."""
    if contigs and not set(contigs) & set(others):
        first, other = min(contigs), next(iter(others), "none")
        raise InputError(
            f"{path} and {other_path} have no contig in common ('{first}' against '{other}')"
            f"{spelling_hint(first, others)}"
        )
