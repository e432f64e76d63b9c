"""The allele at a position that a user names, and what to say if there is none."""

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
    """``chr20:10,000,117`` (1-based) as contig and 0-based position. Raises UsageError for anything else."""
    region = parse_region(text, contigs)
    if region.end != END_OF_CONTIG and region.end != region.start + 1:
        raise UsageError(f"'{text}' is a stretch; give the position of one record, as chr20:10000117")
    if text in set(contigs) or not re.search(r":[\d,]+(-[\d,]+)?$", text.strip()):
        raise UsageError(f"'{text}' has no position; write it as chr20:10000117")
    return region.contig, region.start


def choose_alt(records: Sequence[Record], alt: str | None, at: str) -> tuple[Record, int]:
    """The record and the number (from 1) of the ALT asked for, or of the first that can be scored.

    Raises UsageError where there is no such ALT or it cannot be scored.
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


def _hint(contig: str, contigs: Sequence[str]) -> str:
    other = other_spelling(contig)
    return f"; did you mean '{other}'?" if other in contigs else f"; it has {listed(contigs) or 'no records'}"


def _nearest(starts: Iterable[int], start: int) -> str:
    """``; the nearest are at ...``, in text coordinates; empty where there are none."""
    near = sorted(sorted(set(starts), key=lambda s: (abs(s - start), s))[:3])
    return f", the nearest at {' and '.join(f'{s + 1:,}' for s in near)}" if near else ""


def nothing_there(source: VcfSource, contig: str, start: int) -> str:
    """That the callset has no record there, and where the nearest are."""
    if contig not in source.contigs:
        return f"{source.path} has no records on '{contig}'{_hint(contig, source.contigs)}"
    around = source.records(Region(contig, start, start + 1).padded(FURTHEST))
    return (
        f"{source.path} has no record at {contig}:{start + 1}{_nearest((r.start for r in around), start)}; give the "
        "POS of a record with --at"
    )
