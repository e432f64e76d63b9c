"""Several tensor datasets as one: samples or simulated draws that a network is trained on together.

Blocks are numbered through, and so are row groups, so that each shard of a pass has its share of every dataset. An
annotation that one of them lacks, because another caller made its callset, is missing (NaN) there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cnnspark.common.storage import explained, location, read_json
from cnnspark.errors import InputError, UsageError
from cnnspark.execution.run_folder import ROWS
from cnnspark.tensors.dataset import Dataset

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

# The column that says which of the datasets a row is of.
DATASET = "dataset"

# The folder of a sheet's run that holds each callset's own.
SAMPLES = "samples"


class TensorRows(Protocol):
    """What training reads: the rows of a dataset, or of several as one."""

    @property
    def path(self) -> str | Location:
        """Where they are, for messages."""
        ...

    card: dict[str, Any]
    annotation_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    blocks: list[dict[str, Any]]  # those with tensors, by number

    def row_groups(self, blocks: Sequence[int]) -> list[int]:
        """Rows of each row group of the blocks, in the order of a pass without a seed."""
        ...

    def read(
        self,
        blocks: Sequence[int],
        columns: Sequence[str] | None = None,
        seed: int | None = None,
        shard: int = 0,
        shards: int = 1,
    ) -> Iterator[dict[str, np.ndarray]]:
        """One pass over the blocks' row groups, each as a dict of columns; see :meth:`Dataset.read`."""
        ...


class JoinedDataset:
    """The :class:`TensorRows` of several datasets."""

    def __init__(self, paths: Sequence[str]):
        """Raises InputError where one is not a finished dataset, UsageError where their tensors differ in kind."""
        self.parts = [Dataset(path) for path in paths]
        first = self.parts[0]
        for other in self.parts[1:]:
            _require_alike(first, other)
        self.path = ", ".join(str(part.path) for part in self.parts)
        self.annotation_names = tuple(dict.fromkeys(name for part in self.parts for name in part.annotation_names))
        self.feature_names = first.feature_names
        self.blocks: list[dict[str, Any]] = []
        # Where each block of the whole stands: (dataset, its number there).
        self._places: list[tuple[int, int]] = []
        for number, part in enumerate(self.parts):
            for block in part.blocks:
                self.blocks.append({**block, "block": len(self.blocks)})
                self._places.append((number, block["block"]))
        digests = "".join(str(part.card["sha256"]) for part in self.parts)
        self.card = {**first.card, "sha256": hashlib.sha256(digests.encode()).hexdigest()}

    def _blocks_of(self, number: int, blocks: Sequence[int]) -> list[int]:
        """The chosen blocks that belong to one of the datasets, by their numbers there."""
        return [at for dataset, at in (self._places[block] for block in sorted(set(blocks))) if dataset == number]

    def row_groups(self, blocks: Sequence[int]) -> list[int]:
        """Rows of each row group of the blocks, one dataset after the other."""
        return [
            rows for number, part in enumerate(self.parts) for rows in part.row_groups(self._blocks_of(number, blocks))
        ]

    def read(
        self,
        blocks: Sequence[int],
        columns: Sequence[str] | None = None,
        seed: int | None = None,
        shard: int = 0,
        shards: int = 1,
    ) -> Iterator[dict[str, np.ndarray]]:
        """One pass, as that of a ``Dataset``: the datasets one after another or, with a ``seed``, mixed."""
        passes, left, before = [], [], 0
        for number, part in enumerate(self.parts):
            own = self._blocks_of(number, blocks)
            groups = len(part.row_groups(own))
            # Row groups are dealt out as if they were numbered through.
            own_shard = (shard - before) % shards
            before += groups
            dealt = len(range(own_shard, groups, shards))
            if dealt:
                passes.append(self._of_part(number, part.read(own, columns, seed, own_shard, shards)))
                left.append(dealt)
        if seed is None:
            for each in passes:
                yield from each
            return
        # Row groups of all datasets in one random order: what is trained on together is shuffled together.
        order = np.random.Generator(np.random.PCG64(seed)).permutation(np.repeat(np.arange(len(left)), left))
        for number in order:
            yield next(passes[number])
        for each in passes:
            # Only what is read to its end is counted.
            yield from each

    def _of_part(self, number: int, groups: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """A dataset's row groups with its number, and with their annotations in the columns of the whole."""
        columns = [self.annotation_names.index(name) for name in self.parts[number].annotation_names]
        for values in groups:
            values = {**values, DATASET: np.full(len(next(iter(values.values()))), number, np.int32)}
            if "annotations" in values:
                own = np.stack(list(values["annotations"]))  # (n, its names)
                every = np.full((len(own), len(self.annotation_names)), np.nan, np.float32)
                every[:, columns] = own
                values = {**values, "annotations": every}
            yield values


def _require_alike(first: Dataset, other: Dataset) -> None:
    """Raises UsageError where tensors of two datasets are not of one kind."""

    def kind(card: Mapping[str, Any]) -> tuple[Any, ...]:
        tensors = {name: value for name, value in card["config"]["tensors"].items() if name != "on_ref_mismatch"}
        return tensors, bool(card.get("with_reads", True)), tuple(card["site_features"])

    if kind(first.card) != kind(other.card):
        raise UsageError(
            f"{first.path} and {other.path} hold tensors of different settings; build both with the same configuration"
        )


def open_dataset(paths: str | Sequence[str]) -> TensorRows:
    """One dataset, or several as one. Raises InputError and UsageError as they do."""
    if isinstance(paths, str):
        return Dataset(paths)
    if len(set(paths)) != len(paths):
        raise UsageError("a dataset is given twice; give each once")
    if not paths:
        raise InputError("there is no dataset to train on; give --data")
    return Dataset(paths[0]) if len(paths) == 1 else JoinedDataset(paths)


def sample_folders(path: str) -> list[str]:
    """The folders of the finished callsets where ``path`` is a sheet's run; ``path`` itself where it is not."""
    folder = location(path)
    run = folder / "run.json"
    with explained(path):
        if not run.exists() or not str(read_json(run, "a run").get("stage")).endswith(" --sheet"):
            return [path]
    return [str(folder / SAMPLES / name) for name in sorted(row.stem for row in (folder / ROWS).glob("*.json"))]
