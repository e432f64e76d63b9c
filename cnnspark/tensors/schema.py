"""The tensor's fields: the only place that names them. Writer, reader, network and picture take them from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW = 128
# The first base of REF stands at this column, always; windows are padded at contig ends.
REF_COLUMN = 64

# read_support
NEITHER, SUPPORTS_REF, SUPPORTS_ALT, SUPPORTS_OTHER = range(4)


# Added to read_flags if the read's mate is also a row of the tensor: two rows of one fragment are one observation.
# SAM defines bits up to 0x800.
MATE_ROW = 0x1000


@dataclass(frozen=True)
class Field:
    """One tensor of an allele. ``shape`` holds numbers and the letters R (rows used), A and F (named lists)."""

    name: str
    dtype: type
    shape: tuple[int | str, ...]
    description: str

    @property
    def per_read(self) -> bool:
        """Whether the field has a row for each read."""
        return self.shape[:1] == ("R",)


FIELDS: tuple[Field, ...] = (
    Field("read_bases", np.uint8, ("R", WINDOW), "0 nothing, 1-4 A C G T, 5 other/N, 6 gap"),
    Field("read_quals", np.uint8, ("R", WINDOW), "base quality (Phred), 0 without a base"),
    Field("read_flags", np.uint16, ("R",), "SAM FLAG, and 0x1000 where the mate is a row, too"),
    Field("read_mapqs", np.uint8, ("R",), "mapping quality, 255 unknown"),
    Field("read_support", np.uint8, ("R",), "0 neither, 1 REF, 2 this ALT, 3 another ALT"),
    Field("reference", np.uint8, (WINDOW,), "codes as in read_bases; gap in columns that insertions opened"),
    Field("alternate", np.uint8, (WINDOW,), "the same columns with this ALT in place"),
    Field("annotations", np.float32, ("A",), "named values of INFO, FORMAT and QUAL; NaN where missing"),
    Field("site_features", np.float32, ("F",), "named features of the reads at the site, nearly independent of depth"),
)
FIELD = {field.name: field for field in FIELDS}
# Before a field's name: what of it was hidden from a network that is pre-trained, in the same shape.
TARGET = "target_"


def is_per_read(name: str) -> bool:
    """Whether an array of a batch, a field or its target, has a row for each read."""
    field = FIELD.get(name.removeprefix(TARGET))
    return field is not None and field.per_read


@dataclass(frozen=True)
class AlleleKey:
    """Which allele a tensor belongs to. ``start`` is POS-1 (0-based); ``alt_index`` counts from 1 as in a genotype."""

    contig: str
    start: int
    ref: str
    alt: str
    alt_index: int
    record_index: int
    variant_type: int


@dataclass
class TensorBatch:
    """The tensors of n alleles, ragged along the reads.

    Rows of allele ``i`` are ``row_offsets[i]:row_offsets[i + 1]`` of the per-read arrays, sorted by (support, start,
    hash). Fields and dtypes as in :data:`FIELDS`.
    """

    keys: list[AlleleKey]
    row_offsets: np.ndarray  # int64 (n + 1,)
    read_bases: np.ndarray  # (rows, WINDOW)
    read_quals: np.ndarray  # (rows, WINDOW)
    read_flags: np.ndarray  # (rows,)
    read_mapqs: np.ndarray  # (rows,)
    read_support: np.ndarray  # (rows,)
    reference: np.ndarray  # (n, WINDOW)
    alternate: np.ndarray  # (n, WINDOW)
    annotations: np.ndarray  # (n, A)
    site_features: np.ndarray  # (n, F)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, i: int) -> slice:
        """The rows of allele ``i`` in the per-read arrays."""
        return slice(int(self.row_offsets[i]), int(self.row_offsets[i + 1]))

    def example(self, i: int) -> dict[str, np.ndarray]:
        """The fields of one allele, by name; per-read fields are (R, ...)."""
        return {f.name: getattr(self, f.name)[self.rows(i) if f.per_read else i] for f in FIELDS}

    def take(self, chosen: Sequence[int]) -> TensorBatch:
        """The chosen alleles, in the order given."""
        index = np.asarray(chosen, dtype=np.int64)
        counts = np.diff(self.row_offsets)[index]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        rows = np.repeat(self.row_offsets[index] - offsets[:-1], counts) + np.arange(offsets[-1])
        fields = {f.name: getattr(self, f.name)[rows if f.per_read else index] for f in FIELDS}
        return TensorBatch(keys=[self.keys[i] for i in chosen] if self.keys else [], row_offsets=offsets, **fields)

    def part(self, first: int, last: int) -> TensorBatch:
        """Alleles ``first:last`` as views of these arrays, without a copy."""
        rows = slice(int(self.row_offsets[first]), int(self.row_offsets[last]))
        fields = {f.name: getattr(self, f.name)[rows if f.per_read else slice(first, last)] for f in FIELDS}
        offsets = self.row_offsets[first : last + 1] - self.row_offsets[first]
        return TensorBatch(keys=self.keys[first:last], row_offsets=offsets, **fields)

    @staticmethod
    def concatenate(batches: Sequence[TensorBatch]) -> TensorBatch:
        """One batch from several with the same named lists."""
        offsets = [np.zeros(1, np.int64)]
        for batch in batches:
            offsets.append(batch.row_offsets[1:] + offsets[-1][-1])
        joined = {f.name: np.concatenate([getattr(b, f.name) for b in batches]) for f in FIELDS}
        return TensorBatch(keys=[k for b in batches for k in b.keys], row_offsets=np.concatenate(offsets), **joined)
