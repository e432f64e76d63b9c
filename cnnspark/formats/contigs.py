"""Checks that two files belong to one reference build, by the names and lengths of their contigs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cnnspark.errors import InputError
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfSource


def other_spelling(contig: str) -> str:
    """The contig's name in the other convention: without ``chr`` if it begins with that, else with it."""
    return contig[3:] if contig.startswith("chr") else f"chr{contig}"


def check_build(vcf: VcfSource, reference: ReferenceSource, contigs: Sequence[str] = ()) -> None:
    """Checks a callset or a truth against the reference.

    Args:
        vcf: the callset.
        reference: the FASTA.
        contigs: the contigs that must be in the reference; those with records if none are given.

    Raises:
        InputError: if the reference lacks one of the contigs, or one that both declare has different lengths.
    """
    check_contigs(vcf.path, list(contigs) or vcf.contigs, reference.path, reference.lengths)
    check_lengths(vcf.path, vcf.header.contig_lengths, reference.path, reference.lengths)


def check_contigs(path_a: str, contigs: Sequence[str], path_b: str, others: Mapping[str, int]) -> None:
    """Checks that the contigs that file A needs are all in file B.

    Args:
        path_a: file A, for the message.
        contigs: the contigs that A needs.
        path_b: file B, for the message.
        others: B's contigs and their lengths.

    Raises:
        InputError: if B lacks one; the message says whether only the ``chr`` prefix differs.
    """
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
    """Checks that each contig that both files have is equally long in both; None is an unknown length.

    Raises:
        InputError: if one is not.
    """
    for contig, length in lengths.items():
        if length is not None and contig in others and others[contig] != length:
            raise InputError(
                f"contig '{contig}' is {length} bases long in {path_a} and {others[contig]} in {path_b}; "
                "give files of the same reference build"
            )


def check_regions(regions: Sequence[Region], contigs: Collection[str], path: str) -> None:
    """Checks that the contigs of the regions are all in a file.

    Raises:
        InputError: if ``path``, which has ``contigs``, lacks one.
    """
    for region in regions:
        if region.contig not in contigs:
            raise InputError(
                f"region {region} names a contig that {path} does not have{spelling_hint(region.contig, contigs)}"
            )


def spelling_hint(contig: str, others: Collection[str]) -> str:
    """The end of a message about an unknown contig: ``; did you mean 'chr20'?`` if only the prefix differs."""
    other = other_spelling(contig)
    return f"; did you mean '{other}'?" if other in others else "; check the name"


def require_shared_contig(path: str, contigs: Collection[str], other_path: str, others: Collection[str]) -> None:
    """Checks that two files have a contig in common; a file without contigs is not checked.

    Raises:
        InputError: if they have none; the message names the contig that would fit if only the ``chr`` prefix differs.
    """
    if contigs and not set(contigs) & set(others):
        first, other = min(contigs), next(iter(others), "none")
        raise InputError(
            f"{path} and {other_path} have no contig in common ('{first}' against '{other}')"
            f"{spelling_hint(first, others)}"
        )
