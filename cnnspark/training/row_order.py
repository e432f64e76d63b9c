"""The order in which rows of a dataset are trained on.

They are shuffled between row groups, then batched with others of about as many reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from cnnspark.tensors.batches import pad_rows
from cnnspark.tensors.dataset import decode, example_keys
from cnnspark.tensors.schema import TensorBatch

# Row groups that are held to shuffle rows between: about 256 tensors, 2 MB.
SHUFFLED_GROUPS = 4

# n rows of a dataset: their tensors, and what :func:`row_scalars` gives of them.
Rows = tuple[TensorBatch, dict[str, np.ndarray]]


def row_scalars(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What training needs of n rows besides their tensors.

    Args:
        values: the columns of a row group, (n,).

    Returns:
        ``label`` and ``weight`` float32, ``variant_type`` and ``example_key`` int32, all (n,).
    """
    return {
        "label": values["label"].astype(np.float32),
        "weight": values["weight"].astype(np.float32),
        "variant_type": values["variant_type"].astype(np.int32),
        "example_key": example_keys(values),
    }


def shuffled_groups(groups: Iterator[Mapping[str, np.ndarray]], order: np.random.Generator) -> Iterator[Rows]:
    """The rows of each SHUFFLED_GROUPS row groups, permuted together.

    Args:
        groups: the columns of each row group, (n,).
        order: what chooses the permutations.
    """
    held: list[Mapping[str, np.ndarray]] = []

    def mixed() -> Rows:
        joined = {name: np.concatenate([group[name] for group in held]) for name in held[0]}
        permutation = order.permutation(len(joined["label"]))
        joined = {name: column[permutation] for name, column in joined.items()}
        return decode(joined, with_keys=False), row_scalars(joined)

    for group in groups:
        held.append(group)
        if len(held) == SHUFFLED_GROUPS:
            yield mixed()
            held = []
    if held:
        yield mixed()


def take_rows(waiting: Sequence[Rows], count: int) -> tuple[Rows, list[Rows]]:
    """Splits off the first rows.

    Args:
        waiting: rows in their order; together at least ``count``.
        count: how many to take.

    Returns:
        The first ``count`` rows joined, and what is left.
    """
    parts = []
    left = list(waiting)
    while count:
        available = len(left[0][1]["label"])
        if available <= count:
            parts.append(left.pop(0))
            count -= available
        else:
            parts.append(_slice(left[0], 0, count))
            left[0] = _slice(left[0], count, available)
            count = 0
    return _joined(parts), left


def dealt_by_depth(parts: Sequence[Rows], count: int) -> Callable[[int], dict[str, np.ndarray]]:
    """Deals rows to batches of equal size by their number of reads, the shallowest to the first batch.

    Args:
        parts: rows, in all a multiple of ``count``.
        count: how many batches.

    Returns:
        A function that gives batch i: padded fields as :func:`cnnspark.tensors.batches.pad_rows`, and the scalars.
    """
    tensors, scalars = _joined(parts)
    dealt = np.argsort(np.diff(tensors.row_offsets), kind="stable").reshape(count, -1)

    def batch(i: int) -> dict[str, np.ndarray]:
        return pad_rows(tensors, dealt[i]) | {name: values[dealt[i]] for name, values in scalars.items()}

    return batch


def window_order(window: int, lane: int, seed: int, epoch: int, first: int) -> np.ndarray:
    """The order in which a lane's batches, sorted by depth, are trained on.

    Of a pair of lanes, one has its shallowest batch where the other has its deepest, so that two replicas finish a step
    at about the same time.

    Args:
        window: how many batches.
        lane: the lane's number.
        seed: of the training.
        epoch: from 0.
        first: the first step of the window within the epoch.

    Returns:
        A permutation of ``range(window)``, int64 (window,).
    """
    order = np.random.Generator(np.random.PCG64([seed, epoch, first, lane // 2])).permutation(window)
    return order if lane % 2 == 0 else window - 1 - order


def _slice(rows: Rows, first: int, last: int) -> Rows:
    tensors, scalars = rows
    return tensors.part(first, last), {name: value[first:last] for name, value in scalars.items()}


def _joined(parts: Sequence[Rows]) -> Rows:
    scalars = {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]}
    return TensorBatch.concatenate([part[0] for part in parts]), scalars
