"""The columns of an allele's tensor: which positions of the contig they show, and in which of them ALT differs."""

from __future__ import annotations

import numpy as np

from cnnspark.formats.reference import GAP
from cnnspark.tensors.schema import REF_COLUMN


def column_positions(reference: np.ndarray, start: int) -> np.ndarray:
    """The 0-based position of each column; for a column that an insertion opened, that of the base to its right.

    Args:
        reference: uint8 (WINDOW,), the tensor's reference row. It has a gap exactly where an insertion opened a column.
        start: The 0-based position of the record.

    Returns:
        int64 (WINDOW,).
    """
    places = np.cumsum(reference != GAP)
    before = np.concatenate([[0], places[:-1]])
    return start + before - before[REF_COLUMN]


def allele_columns(reference: np.ndarray, alternate: np.ndarray) -> tuple[int, int]:
    """The columns [first, last) in which ALT differs from REF; the column of REF's first base if none does.

    Args:
        reference: uint8 (WINDOW,).
        alternate: uint8 (WINDOW,); all 0 in tensors of encoding gatk, which have no ALT.
    """
    differing = np.flatnonzero((reference != alternate) & alternate.any())
    return (int(differing[0]), int(differing[-1]) + 1) if len(differing) else (REF_COLUMN, REF_COLUMN + 1)


def positions_of(reference: np.ndarray, start: int, columns: tuple[int, int]) -> tuple[int, int]:
    """The first and the last position (1-based) that the columns [first, last) show; arguments as column_positions."""
    positions = column_positions(reference, start)[slice(*columns)]
    return int(positions[0]) + 1, int(positions[-1]) + 1
