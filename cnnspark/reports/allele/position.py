"""Finds the allele at a position that a user names, and words the error if there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cnnspark.common.log import listed
from cnnspark.errors import UsageError
from cnnspark.formats.contigs import other_spelling
from cnnspark.formats.regions import END_OF_CONTIG, Region, parse_region
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.tensors.site_features import FURTHEST
from cnnspark.variants.alleles import unscorable_reason


def parse_position(text: str, contigs: Iterable[str]) -> tuple[str, int]:
    """Contig and 0-based position of a text like ``chr20:10,000,117`` (1-based).

    Args:
        text: What the user gave.
        contigs: Known names, which tell whether a colon is part of a name (``HLA-A*01:01``).

    Raises:
        UsageError: If the text is anything else.
    """
    region = parse_region(text, contigs)
    if region.end != END_OF_CONTIG and region.end != region.start + 1:
        raise UsageError(f"'{text}' is a stretch; give the position of one record, as chr20:10000117")
    if text in set(contigs) or not re.search(r":[\d,]+(-[\d,]+)?$", text.strip()):
        raise UsageError(f"'{text}' has no position; write it as chr20:10000117")
    return region.contig, region.start


def choose_alt(records: Sequence[Record], alt: str | None, at: str) -> tuple[Record, int]:
    """The record with the ALT asked for, and the ALT's number.

    Args:
        records: All records at the position.
        alt: The ALT; None takes the first that can be scored.
        at: What messages call the position.

    Returns:
        The record, and the number of the ALT from 1.

    Raises:
        UsageError: If no record has such an ALT, or it cannot be scored.
    """
    reasons = {}
    for record in records:
        for index, found in enumerate(record.alts, 1):
            if alt is not None and found.upper() != alt.upper():
                continue
            reason = unscorable_reason(record.ref, found)
            if reason is None:
                return record, index
            reasons[found] = reason
    if reasons:
        texts = [f"{found[:30]} ({reason})" if found != reason else found for found, reason in reasons.items()]
        raise UsageError(f"{at} has no tensor for {listed(texts)}; only ALTs that are sequences have one")
    alts = alts_of(records)
    if not alts:
        raise UsageError(f"the record at {at} has no ALT and so no tensor; choose a variant")
    raise UsageError(f"{at} has the ALT {listed(alts)}, not {alt}; choose one of these with --alt")


def alts_of(records: Sequence[Record]) -> list[str]:
    """The ALTs of the records at one position."""
    return [alt for record in records for alt in record.alts]


def nothing_there(source: VcfSource, contig: str, start: int) -> str:
    """The message that the callset has no record at a 0-based position, with the nearest ones."""
    if contig not in source.contigs:
        return f"{source.path} has no records on '{contig}'{contigs_hint(contig, source.contigs)}"
    around = source.records(Region(contig, start, start + 1).padded(FURTHEST))
    return (
        f"{source.path} has no record at {contig}:{start + 1}{nearest_hint((r.start for r in around), start)}; give "
        "the POS of a record with --at"
    )


def contigs_hint(contig: str, contigs: Sequence[str]) -> str:
    """The end of a message about an unknown contig: the same name with or without ``chr``, or what there is."""
    other = other_spelling(contig)
    return f"; did you mean '{other}'?" if other in contigs else f"; it has {listed(contigs) or 'no records'}"


def nearest_hint(starts: Iterable[int], start: int) -> str:
    """``, the nearest at ...`` for a message, 1-based; empty without any. ``starts`` and ``start`` are 0-based."""
    near = sorted(sorted(set(starts), key=lambda s: (abs(s - start), s))[:3])
    return f", the nearest at {' and '.join(f'{s + 1:,}' for s in near)}" if near else ""
