"""The samples of a multi-sample callset whose reads are at hand: who carries an allele, and a record as one of them
would have it.

A network is trained on callsets of one sample, so of a record it is shown what a callset of the member alone would
have: the ALTs that the member carries, and REF as long as these need it. Joining callsets adds ALTs of others and
lengthens REF for them (``bcftools merge``, joint calling), which says nothing of this sample's reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from cnnspark.formats.vcf import ENCODING, Record
from cnnspark.variants.alleles import unscorable_reason
from cnnspark.variants.annotations import AnnotationReader

# Why a scorable allele of such a callset is passed through: a key of the counts, as those of cnnspark.variants.alleles.
NO_CARRIER = "no carrier with reads"


@dataclass(frozen=True)
class Member:
    """A sample of a multi-sample callset, and the file of its reads."""

    sample: str
    reads: str


class MemberRecord(Record):
    """A record as a callset of one member alone would have it; INFO is the callset's own.

    ``numbers[i]`` is the number in the callset's record of the ALT that has number ``i + 1`` here.
    """

    __slots__ = ("numbers",)

    def __init__(self, record: Record, numbers: Sequence[int], call: str = "."):
        """``numbers`` are those of the ALTs that the member carries, ``call`` the text of its column."""
        alts = [record.alts[number - 1] for number in numbers]
        unused = _shared_end(record.ref, alts)
        self.contig, self.start, self.id, self.index = record.contig, record.start, record.id, record.index
        self.ref = record.ref[: len(record.ref) - unused]
        self.alts = tuple(alt[: len(alt) - unused] if _is_sequence(record.ref, alt) else alt for alt in alts)
        self.qual, self.filter, self.info = record.qual, record.filter, record.info
        self.rest = None if record.rest is None else f"{record.rest.partition(chr(9))[0]}\t{call}"
        self.numbers = tuple(numbers)


class MemberAnnotations(AnnotationReader):
    """Reads annotations of :class:`MemberRecord`, whose ALTs have other numbers than the values in INFO and FORMAT."""

    def values(self, record: Record, alt_index: int, sample_index: int = 0) -> np.ndarray:
        """The annotations of the ALT with this number in the member's record: float32 (A,)."""
        assert isinstance(record, MemberRecord)
        return super().values(record, record.numbers[alt_index - 1])


def _is_sequence(ref: str, alt: str) -> bool:
    return unscorable_reason(ref, alt) is None


def _shared_end(ref: str, alts: Iterable[str]) -> int:
    """How many bases at the end of REF all ALTs that are sequences have, too; of each allele one base stays."""
    alleles = [ref.upper(), *(alt.upper() for alt in alts if _is_sequence(ref, alt))]
    shared, longest = 0, min(map(len, alleles)) - 1 if len(alleles) > 1 else 0
    while shared < longest and len({allele[-1 - shared] for allele in alleles}) == 1:
        shared += 1
    return shared


def carried_alts(record: Record, columns: Sequence[int]) -> list[tuple[int, ...]]:
    """The numbers of the ALTs that each of these samples (numbers of columns, from 0) has in its genotype, ascending.

    Any ploidy, phased or not; of a half call (``./1``) what is called. None where there is no GT.
    """
    parts = [] if record.rest is None else record.rest.split("\t")
    keys = parts[0].split(":") if parts else []
    if "GT" not in keys:
        return [()] * len(columns)
    at, ends = keys.index("GT"), len(record.alts)
    found = []
    for column in columns:
        fields = parts[column + 1].split(":", at + 1) if column + 1 < len(parts) else []
        numbers = _numbers(fields[at]) if at < len(fields) else ()
        found.append(numbers if not numbers or numbers[-1] <= ends else tuple(n for n in numbers if n <= ends))
    return found


def starts_of(lines: Iterable[str], column: int | None) -> np.ndarray:
    """The starts (POS-1) of the records, of a sample's column those that it carries: int64 (n,)."""
    if column is not None:
        lines = (line for line in lines if carried_alts(Record(line), (column,))[0])
    return np.array([int(line.split("\t", 2)[1]) - 1 for line in lines], np.int64)


def column_of(samples: Sequence[str], sample: str) -> int | None:
    """The number of the column whose genotypes say what the sample carries; None where the callset is its own."""
    return list(samples).index(sample) if len(samples) > 1 and sample in samples else None


def call_text(record: Record, column: int) -> str:
    """The text of a sample's column (from 0)."""
    parts = [] if record.rest is None else record.rest.split("\t", column + 2)
    return parts[column + 1] if column + 1 < len(parts) else "."


@lru_cache(maxsize=4096)
def _numbers(genotype: str) -> tuple[int, ...]:
    """The ALTs of a genotype's text."""
    return tuple(sorted({int(text) for text in re.findall(r"\d+", genotype)} - {0}))


def choose_carriers(
    carriers: Sequence[str], limit: int, seed: int, contig: str, start: int, ref: str, alt: str
) -> set[str]:
    """At most ``limit`` of an allele's carriers: those with the smallest hash of (seed, sample, contig, POS, REF, ALT).

    Which they are depends on neither the order of the samples nor on the other alleles.
    """
    if len(carriers) <= limit:
        return set(carriers)

    def rank(sample: str) -> tuple[bytes, str]:
        text = "\t".join((str(seed), sample, contig, str(start + 1), ref, alt))
        return blake2b(text.encode(ENCODING, "backslashreplace"), digest_size=8).digest(), sample

    return set(sorted(carriers, key=rank)[:limit])
