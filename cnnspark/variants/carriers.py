"""The samples of a multi-sample callset that have reads: who carries an allele, and the record of one sample alone.

A network is trained on callsets of one sample. So it is shown what a callset of the member alone would have: the ALTs
that the member carries, and REF only as long as these need it. Joining callsets adds ALTs of other samples and
lengthens REF for them (``bcftools merge``, joint calling), which does not depend on this sample's reads.
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

# Why an ALT that could be scored is passed through: a key of the counts, like those of cnnspark.variants.alleles.
NO_CARRIER = "no carrier with reads"


@dataclass(frozen=True)
class Member:
    """A sample of a multi-sample callset, and the file of its reads (empty if it has none)."""

    sample: str
    reads: str


class MemberRecord(Record):
    """A record as a callset of one member alone would have it; QUAL, FILTER and INFO stay those of the callset.

    Attributes:
        numbers: ``numbers[i]`` is the number, in the callset's record, of the ALT that has number ``i + 1`` here.
    """

    __slots__ = ("numbers",)

    def __init__(self, record: Record, numbers: Sequence[int], call: str = "."):
        """``numbers`` (from 1) are those of the ALTs that the member carries, ``call`` is the text of its column."""
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
        """The annotations of the ALT with this number, from 1, in the member's record: float32 (annotations,)."""
        assert isinstance(record, MemberRecord)
        return super().values(record, record.numbers[alt_index - 1])


def _is_sequence(ref: str, alt: str) -> bool:
    return unscorable_reason(ref, alt) is None


def _shared_end(ref: str, alts: Iterable[str]) -> int:
    """How many bases at the end REF shares with all ALTs that are sequences; at least one base of each is kept."""
    alleles = [ref.upper(), *(alt.upper() for alt in alts if _is_sequence(ref, alt))]
    shared, longest = 0, min(map(len, alleles)) - 1 if len(alleles) > 1 else 0
    while shared < longest and len({allele[-1 - shared] for allele in alleles}) == 1:
        shared += 1
    return shared


def carried_alts(record: Record, columns: Sequence[int]) -> list[tuple[int, ...]]:
    """The ALTs in the genotypes of some samples: any ploidy, phased or not, the called half of ``./1``.

    Args:
        record: the record.
        columns: numbers of the samples' columns, from 0.

    Returns:
        For each sample the numbers of its ALTs, from 1, ascending; empty without GT.
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
    """The starts (POS-1) of the records, or of those whose ALTs the sample in ``column`` carries: int64 (n,)."""
    if column is not None:
        lines = (line for line in lines if carried_alts(Record(line), (column,))[0])
    return np.array([int(line.split("\t", 2)[1]) - 1 for line in lines], np.int64)


def column_of(samples: Sequence[str], sample: str) -> int | None:
    """The number of the sample's column, from 0; None if the callset has no other sample, or not this one."""
    return list(samples).index(sample) if len(samples) > 1 and sample in samples else None


def call_text(record: Record, column: int) -> str:
    """The text of a sample's column (its number, from 0); ``.`` if the record has no such column."""
    parts = [] if record.rest is None else record.rest.split("\t", column + 2)
    return parts[column + 1] if column + 1 < len(parts) else "."


@lru_cache(maxsize=4096)
def _numbers(genotype: str) -> tuple[int, ...]:
    """The numbers of the ALTs in a genotype's text, ascending."""
    return tuple(sorted({int(text) for text in re.findall(r"\d+", genotype)} - {0}))


def choose_carriers(
    carriers: Sequence[str], limit: int, seed: int, contig: str, start: int, ref: str, alt: str
) -> set[str]:
    """Chooses at most ``limit`` of an allele's carriers: those with the smallest hash.

    The hash is of seed, sample, contig, POS, REF and ALT, so the choice depends neither on the order of the samples nor
    on other alleles.

    Args:
        carriers: names of the samples.
        limit: how many are kept.
        seed: another seed chooses others.
        contig: of the record.
        start: POS-1 of the record.
        ref: REF of the record.
        alt: the allele.
    """
    if len(carriers) <= limit:
        return set(carriers)

    def rank(sample: str) -> tuple[bytes, str]:
        text = "\t".join((str(seed), sample, contig, str(start + 1), ref, alt))
        return blake2b(text.encode(ENCODING, "backslashreplace"), digest_size=8).digest(), sample

    return set(sorted(carriers, key=rank)[:limit])
