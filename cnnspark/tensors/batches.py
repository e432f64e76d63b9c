"""Batches as the network takes them: dense arrays, padded along the reads."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from cnnspark.tensors.schema import FIELDS, AlleleKey, TensorBatch

# Rows are padded to a multiple of this, so that few shapes occur: each new shape costs the convolutions a set-up.
ROW_STEP = 8
# In scoring finer: the rows added are 8 to 12 % instead of 17 to 23 % with it and with the smaller batches below.
SCORING_ROW_STEP = 4
# A batch's rows, all alleles together. More would not fit a core's cache: what a convolution writes would be fetched
# from memory by what scales it, which takes as long as the convolution.
ROWS_AT_ONCE = 1024
# On a GPU the other way round: it is the larger the better, until its memory is full. A block of 1,000 alleles at 30x
# fits, so batches need not reach beyond blocks. Some 1 GiB of what the layers write.
GPU_ROWS_AT_ONCE = 32 * ROWS_AT_ONCE
# Small networks on few numbers: most of a batch's time is what each call costs, whatever it holds.
WITHOUT_PICTURE = 4


def example_key(contig: str, start: int, ref: str, alt: str) -> int:
    """A signed 32-bit hash of an allele, equal in every process: what its dropout noise is drawn from."""
    value = zlib.crc32(f"{contig}\t{start}\t{ref}\t{alt}".encode("latin-1", "replace"))
    return value - (1 << 32) if value >= 1 << 31 else value


def key_of(key: AlleleKey) -> int:
    """:func:`example_key` of an allele."""
    return example_key(key.contig, key.start, key.ref, key.alt)


def padded(counts: np.ndarray, step: int) -> np.ndarray:
    """The next multiple of ``step``, at least ``step``."""
    return np.maximum(step, -(-counts // step) * step)


def pad_rows(
    tensors: TensorBatch,
    chosen: Sequence[int] | np.ndarray,
    fields: Collection[str] | None = None,
    step: int = ROW_STEP,
) -> dict[str, np.ndarray]:
    """The chosen alleles as one dense batch of B, of the named fields alone where some are named.

    Returns:
        per-read fields (B, R, ...) with zeros behind ``row_count`` (B,) int32 rows, R the next multiple of ``step`` (at
        least ``step``); the other fields (B, ...) as they are.
    """
    chosen = np.asarray(chosen, dtype=np.int64)
    starts = tensors.row_offsets[chosen]
    counts = tensors.row_offsets[chosen + 1] - starts
    rows = int(padded(counts.max(initial=0), step))
    batch: dict[str, np.ndarray] = {"row_count": counts.astype(np.int32)}
    inside = np.arange(rows) < counts[:, None]  # (B, R)
    source = (starts[:, None] + np.arange(rows))[inside]
    for field in FIELDS:
        if fields is not None and field.name not in fields:
            continue
        values = getattr(tensors, field.name)
        if field.per_read:
            dense = np.zeros((len(chosen), rows, *values.shape[1:]), values.dtype)  # (B, R, ...)
            dense[inside] = values[source]
            # Keras and TensorFlow know no arithmetic on uint16.
            batch[field.name] = dense.astype(np.int32) if values.dtype == np.uint16 else dense
        else:
            batch[field.name] = values[chosen]
    return batch


def scoring_batches(
    tensors: TensorBatch, size: int, fields: Collection[str] | None = None, rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Batches of alleles of like depth, each with the positions of its alleles in ``tensors``.

    A batch has at most ``size`` alleles, and at most ``rows_at_once`` rows unless one allele has more. Of named
    ``fields`` alone where some are named; where the reads' bases are not among these, a batch has ``WITHOUT_PICTURE``
    times as many alleles, whatever their rows. Sorting by the number of reads keeps padding small; the order is fixed
    by the data, and so are the bytes.
    """
    counts = np.diff(tensors.row_offsets)
    order = np.argsort(counts, kind="stable")
    rows = padded(counts[order], SCORING_ROW_STEP)
    if fields is not None and "read_bases" not in fields:
        size, rows = WITHOUT_PICTURE * size, np.zeros_like(rows)
    first = 0
    while first < len(order):
        # Rows ascend: with its last allele's a batch of n has n times as many.
        most = rows[first : first + size] * np.arange(1, min(size, len(order) - first) + 1)
        chosen = order[first : first + max(1, int((most <= rows_at_once).sum()))]
        first += len(chosen)
        batch = pad_rows(tensors, chosen, fields, SCORING_ROW_STEP)
        batch["variant_type"] = np.array([tensors.keys[i].variant_type for i in chosen], dtype=np.int32)
        batch["example_key"] = np.array([key_of(tensors.keys[i]) for i in chosen], dtype=np.int32)
        yield chosen, batch
