"""Which alleles get a tensor, and in which chunks records share one decoding of their reads: for every encoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np

from cnnspark.errors import InputError
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import Record
from cnnspark.tensors.schema import FIELDS, WINDOW, TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants import alleles
from cnnspark.variants.alleles import unscorable_reason

# A record and the numbers of its scorable ALTs, from 1 as in a genotype.
Scorable = tuple[Record, tuple[int, ...]]

# Bounds of a chunk: the reads of 100 kb are some 40 MB at 60x.
CHUNK_SPAN = 100_000
CHUNK_RECORDS = 1_000


def scorable_records(records: Sequence[Record], skipped: Counter[str]) -> Iterator[Scorable]:
    """The records with a scorable ALT and the numbers of those ALTs; the others are counted."""
    for record in records:
        indexes = []
        for index, alt in enumerate(record.alts, 1):
            reason = alleles.unscorable_reason(record.ref, alt)
            if reason is None:
                indexes.append(index)
            else:
                skipped[reason] += 1
        if not record.alts:
            skipped[alleles.NO_ALT] += 1
        if indexes:
            yield record, tuple(indexes)


def chunks(scorable: Sequence[Scorable], gap: int) -> Iterator[list[Scorable]]:
    """Consecutive records in chunks: a new one begins where more than ``gap`` bases lie between."""
    chunk: list[Scorable] = []
    end = 0
    for item in scorable:
        record = item[0]
        if chunk and (
            record.start < chunk[0][0].start
            or record.start - end > gap
            or record.end - chunk[0][0].start > CHUNK_SPAN
            or len(chunk) == CHUNK_RECORDS
        ):
            yield chunk
            chunk = []
        end = max(end, record.end) if chunk else record.end
        chunk.append(item)
    if chunk:
        yield chunk


def agreeing(
    chunk: Sequence[Scorable],
    text: str,
    text_start: int,
    reference: ReferenceSource,
    settings: TensorSettings,
    skipped: Counter[str],
) -> list[Scorable]:
    """The records whose REF is the reference's; ``text`` are its letters from ``text_start`` (not below 0) on.

    The others are counted or, by the settings, end in an InputError.
    """
    kept = []
    for record, indexes in chunk:
        if alleles.ref_agrees(record.ref, _letters(record, text, text_start)):
            kept.append((record, indexes))
        elif settings.on_ref_mismatch == "skip":
            skipped[alleles.REF_MISMATCH] += len(indexes)
        else:
            there = text[max(record.start - text_start, 0) :][: min(len(record.ref), 30)] or "the end of the contig"
            raise InputError(
                f"{record.contig}:{record.start + 1} has REF {record.ref[:30]} where {reference.path} has {there}; "
                "give the reference that the callset was made with, or skip such records with --on-ref-mismatch skip"
            )
    return kept


def _letters(record: Record, text: str, text_start: int) -> str:
    """The reference's letters under REF, from ``text`` that begins at ``text_start``; blanks off the contig."""
    offset = record.start - text_start
    there = text[max(offset, 0) : max(offset + len(record.ref), 0)]
    return (" " * -offset + there if offset < 0 else there).ljust(len(record.ref))


def record_hash(seed: int, sample: str, record: Record) -> int:
    """64 bits of (seed, sample, contig, POS): the same in every process, whatever the block."""
    text = "\t".join((str(seed), sample, record.contig, str(record.start + 1)))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def empty_batch(annotations: int, features: int) -> TensorBatch:
    """A batch of no alleles."""
    letters = {"R": 0, "A": annotations, "F": features, "W": WINDOW}
    arrays: dict[str, np.ndarray] = {}
    for f in FIELDS:
        shape = tuple(letters[n] if isinstance(n, str) else n for n in f.shape)
        arrays[f.name] = np.zeros(shape if f.per_read else (0, *shape), f.dtype)
    return TensorBatch(keys=[], row_offsets=np.zeros(1, np.int64), **arrays)


def scorable(record: Record) -> bool:
    """Whether one of the record's alleles can be scored."""
    return any(unscorable_reason(record.ref, alt) is None for alt in record.alts)
