"""Reads row groups of Parquet files as columns of NumPy, in the order of Petastorm's reader and without its pickles."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cnnspark.errors import InputError

if TYPE_CHECKING:
    from cnnspark.common.storage import Location


@contextmanager
def opened_parquet(path: Location) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file, local or in a store.

    Raises:
        InputError: if it is missing or damaged.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); build the dataset again") from None
    with stream:
        try:
            file = pq.ParquetFile(stream)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read ({error}); build the dataset again") from None
        yield file


def read_row_group(
    file: pq.ParquetFile, path: Location, number: int, columns: Sequence[str] | None
) -> dict[str, np.ndarray]:
    """The columns of one row group by name; all if ``columns`` is None.

    Raises:
        InputError: if the file is damaged; the message names ``path``.
    """
    try:
        table = file.read_row_group(number, columns=None if columns is None else list(columns), use_threads=False)
        return {name: _as_numpy(column) for name, column in zip(table.column_names, table.columns, strict=True)}
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}); build the dataset again") from None


def order_of_pass(groups: int, seed: int | None, shard: int, shards: int) -> list[int]:
    """The numbers of a shard's row groups, in the order of Petastorm's reader (0.12 and later)."""
    order = list(range(groups))
    if shards > 1:
        if seed is not None:
            random.Random(seed).shuffle(order)
        order = [number for number in order if number % shards == shard]
    if seed is not None:
        order = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
    return order


def _as_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """A column of n rows: numbers (n,), strings and bytes as objects (n,), lists of one length (n, length)."""
    if not pa.types.is_list(column.type):
        return column.to_numpy()
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), len(flat) // max(1, len(column)))
