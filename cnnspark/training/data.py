"""What a training replica reads: its slice of each global batch, and the held-out blocks.

A global batch is dealt to lanes, and each lane is drawn from its own streams, each a fixed share of the row groups; a
replica runs its share of the lanes. So the content of every lane is the same for any number of replicas, and each
replica reads only its own share of the files. Every replica makes the same number of steps: a stream that has too few
rows begins its next pass early, one that has more leaves the rest to the next epoch's other order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnnspark.common.dataclass_settings import number_of
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.contigs import check_regions
from cnnspark.formats.regions import Region, parse_region
from cnnspark.tensors.batches import pad_rows
from cnnspark.tensors.dataset import decode, training_columns
from cnnspark.tensors.joined_dataset import DATASET, TensorRows, open_dataset
from cnnspark.training.row_order import Rows, dealt_by_depth, row_scalars, shuffled_groups, take_rows, window_order
from cnnspark.training.settings import check_share

MAX_STREAMS = 16
# Steps over which a lane's examples are sorted by their number of reads. Padding to the deepest of eight examples would
# be a third of the work; among examples of about the same depth it is a tenth.
SORTED_STEPS = 32
# Neighbouring row groups that a sample takes together: about 500 alleles.
NEIGHBOURING_GROUPS = 8


def stream_count(batch_size: int, lanes: int, row_groups: int) -> int:
    """How many streams a global batch is drawn from.

    Args:
        batch_size: examples of a global batch.
        lanes: lanes of a global batch.
        row_groups: row groups of the training blocks.

    Returns:
        The largest divisor of the batch size, at most MAX_STREAMS, that is a multiple of the lanes.

    Raises:
        UsageError: if the batch cannot be divided evenly.
        InputError: if there are fewer row groups than lanes.
    """
    if batch_size % lanes:
        raise UsageError(
            f"train.batch_size is {batch_size}, which cannot be divided among {lanes} lanes; "
            f"choose a multiple of {lanes}"
        )
    if row_groups < lanes:
        raise InputError(
            f"the training blocks have {row_groups} row groups, fewer than {lanes} lanes; "
            "use fewer replicas or more data"
        )
    limit = max(lanes, min(MAX_STREAMS, row_groups))
    return max(v for v in range(lanes, limit + 1, lanes) if batch_size % v == 0)


def hold_out(dataset: TensorRows, validation: float | Sequence[str]) -> tuple[list[int], list[int]]:
    """Splits the dataset into whole blocks for training and for validation.

    Args:
        dataset: one dataset or several together.
        validation: a share of the tensors: the last blocks of each contig, as near to the share as whole blocks come.
            Or regions as text: each block that reaches into one of them.

    Returns:
        The numbers of the blocks for training and for validation, in ascending order.

    Raises:
        UsageError: if the share is not between 0 and 1.
        InputError: if a region is on a contig that the dataset does not have, or if one side would be empty.
    """
    if isinstance(validation, float):
        train, held = _hold_out_share(dataset.blocks, validation)
    else:
        contigs = {b["contig"] for b in dataset.blocks}
        if len(validation) == 1 and validation[0] not in contigs:
            given = number_of(validation[0])
            if given is not None:
                check_share(given)
        regions = [parse_region(text, contigs) for text in validation]
        check_regions(regions, contigs, str(dataset.path))
        held = [b["block"] for b in dataset.blocks if any(_touches(b, region) for region in regions)]
        train = [b["block"] for b in dataset.blocks if b["block"] not in set(held)]
    if not train or not held:
        raise InputError(
            f"the {len(dataset.blocks)} blocks of the dataset cannot be split: {len(train)} would be for training and "
            f"{len(held)} for validation; build it with smaller blocks (--set blocks.records=...) or give --validation "
            "regions"
        )
    return train, held


def _touches(block: Mapping, region: Region) -> bool:
    return (
        block["contig"] == region.contig and block["first_start"] < region.end and region.start <= block["last_start"]
    )


def _hold_out_share(blocks: Sequence[Mapping], share: float) -> tuple[list[int], list[int]]:
    check_share(share)
    contigs: dict[str, list[Mapping]] = {}
    for block in blocks:
        contigs.setdefault(block["contig"], []).append(block)
    train: list[int] = []
    held: list[int] = []
    for members in contigs.values():
        wanted = share * sum(block["tensors"] for block in members)
        taken = 0
        # By position: if several samples have the contig, the same end of it is held out in all of them.
        for block in sorted(members, key=lambda block: (block["first_start"], block["block"]), reverse=True):
            # Whichever is nearer to the share: a contig of one block is held out only for a share above a half.
            if taken + block["tensors"] / 2 < wanted:
                held.append(block["block"])
                taken += block["tensors"]
            else:
                train.append(block["block"])
                taken = int(wanted) + 1
    if not held and len(blocks) > 1:
        held.append(train.pop(train.index(blocks[-1]["block"])))
    return sorted(train), sorted(held)


class TrainingData:
    """A dataset split into training and validation blocks, as the trainer reads it.

    ``n_train``, ``n_validation`` and ``n_unlabelled`` count tensors, ``label_counts`` the false and the true ones for
    training, ``n_row_groups`` the row groups for training.
    """

    def __init__(
        self,
        dataset: TensorRows,
        train: Sequence[int],
        validation: Sequence[int],
        columns: Sequence[str] | None = None,
    ):
        """Counts what the blocks hold; tensors are not read yet.

        Args:
            dataset: one dataset or several together.
            train: numbers of the blocks for training.
            validation: numbers of the blocks for validation.
            columns: of the dataset, that are read; all by default.
        """
        self.dataset, self.train, self.validation = dataset, list(train), list(validation)
        self.columns = columns
        self.annotation_names = dataset.annotation_names
        self.feature_names = dataset.feature_names
        by_number = {block["block"]: block for block in dataset.blocks}
        self.n_unlabelled = sum(by_number[b]["labels"]["-1"] for b in (*self.train, *self.validation))
        self.n_row_groups = len(dataset.row_groups(self.train))
        self.n_train = sum(by_number[b]["tensors"] for b in self.train)
        self.n_validation = sum(by_number[b]["tensors"] for b in self.validation)
        self.label_counts = tuple(sum(by_number[b]["labels"][label] for b in self.train) for label in ("0", "1"))

    @property
    def held_out(self) -> tuple[str, ...]:
        """The regions of the validation blocks, as text (1-based, inclusive); neighbouring blocks are one region."""
        regions: list[list] = []
        held = set(self.validation)
        for block in (b for b in self.dataset.blocks if b["block"] in held):
            if regions and regions[-1][0] == block["contig"] and regions[-1][3] + 1 == block["block"]:
                regions[-1][2:] = block["last_start"], block["block"]
            else:
                regions.append([block["contig"], block["first_start"], block["last_start"], block["block"]])
        return tuple(str(Region(contig, first, last + 1)) for contig, first, last, _ in regions)

    @property
    def validation_blocks(self) -> np.ndarray:
        """The number of the block of each held-out tensor, int64 (n_validation,), ordered as in validation_batches."""
        wanted = set(self.validation)
        held = [block for block in self.dataset.blocks if block["block"] in wanted]
        return np.repeat([block["block"] for block in held], [block["tensors"] for block in held])

    @property
    def tensor_settings(self) -> dict[str, Any]:
        """How the tensors were built, as plain values; a model scores tensors of the same settings."""
        return dict(self.dataset.card["config"]["tensors"])

    @property
    def with_reads(self) -> bool:
        """Whether the tensors were built with reads; older datasets, which do not say so, always were."""
        return bool(self.dataset.card.get("with_reads", True))

    @property
    def digest(self) -> str:
        """The SHA-256 of the dataset's content."""
        return str(self.dataset.card["sha256"])

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch with global batches of ``batch_size``, on every replica."""
        return -(-self.n_train // batch_size)

    def train_batches(
        self, mine: range, lanes: int, batch_size: int, seed: int, epoch: int
    ) -> Iterator[list[dict[str, np.ndarray]]]:
        """Some lanes of each global batch of one epoch.

        If reads are read, the examples of one lane have about as many reads as each other; different lanes of a batch
        do not.

        Args:
            mine: the lanes that are wanted.
            lanes: lanes of a global batch.
            batch_size: examples of a global batch.
            seed: of the training.
            epoch: from 0.

        Yields:
            For each step the wanted lanes of b = ``batch_size / lanes`` examples: fields as
            :func:`cnnspark.tensors.batches.pad_rows` gives them, and what
            :func:`cnnspark.training.row_order.row_scalars` gives.

        Raises:
            UsageError: if the batch cannot be divided evenly.
            InputError: if there are fewer row groups than lanes.
        """
        streams = stream_count(batch_size, lanes, self.n_row_groups)
        rows = batch_size // streams
        running = [
            [
                self._stream(v, streams, rows, seed, epoch)
                for v in range(i * streams // lanes, (i + 1) * streams // lanes)
            ]
            for i in mine
        ]
        steps = self.steps(batch_size)
        for first in range(0, steps, SORTED_STEPS):
            window = min(SORTED_STEPS, steps - first)
            sorted_lanes = [
                dealt_by_depth([next(stream) for _ in range(window) for stream in lane], window) for lane in running
            ]
            orders = [window_order(window, i, seed, epoch, first) for i in mine]
            for step in range(window):
                yield [batch(order[step]) for batch, order in zip(sorted_lanes, orders, strict=True)]

    def _stream(self, stream: int, streams: int, rows: int, seed: int, epoch: int) -> Iterator[Rows]:
        """Endless slices of ``rows`` shuffled rows from one stream's row groups."""
        waiting: list[Rows] = []
        held = 0
        turn = 0
        while True:
            order = np.random.Generator(np.random.PCG64([seed, epoch, stream, turn]))
            chosen = int(order.integers(1, 2**31))
            groups = self.dataset.read(self.train, self.columns, seed=chosen, shard=stream, shards=streams)
            for shuffled in shuffled_groups(groups, order):
                waiting.append(shuffled)
                held += len(shuffled[1]["label"])
                while held >= rows:
                    taken, waiting = take_rows(waiting, rows)
                    held -= rows
                    yield taken
            turn += 1

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
        """Every held-out tensor once, in the files' order; the last batch of a row group may be short.

        Yields:
            Batches of at most ``batch_size``, of the same fields as :meth:`train_batches`.
        """
        for values in self.dataset.read(self.validation, self.columns):
            tensors, scalars = decode(values, with_keys=False), row_scalars(values)
            for first in range(0, len(scalars["label"]), batch_size):
                chosen = np.arange(first, min(first + batch_size, len(scalars["label"])))
                yield pad_rows(tensors, chosen) | {name: value[chosen] for name, value in scalars.items()}

    def feature_sample(self, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Annotations and site features of a sample of the training tensors.

        The sample is evenly spread runs of neighbouring row groups, in order, so that it shows what neighbours have in
        common.

        Args:
            limit: about how many tensors at most.

        Returns:
            Annotations float32 (n, A), site features float32 (n, F), and int32 (n,) the number of the dataset of each.
        """
        stride = max(1, -(-self.n_train // limit))
        annotations, features, datasets = [], [], []
        groups = self.dataset.read(self.train, columns=["annotations", "site_features"])
        for number, values in enumerate(groups):
            if number // NEIGHBOURING_GROUPS % stride == 0:
                annotations.append(np.stack(list(values["annotations"])))
                features.append(np.stack(list(values["site_features"])))
                datasets.append(values.get(DATASET, np.zeros(len(features[-1]), np.int32)))
        numbers = np.concatenate(datasets)
        return np.concatenate(annotations).astype(np.float32), np.concatenate(features).astype(np.float32), numbers


def open_training_data(
    paths: str | Sequence[str], validation: float | Sequence[str], fields: Iterable[str] | None = None
) -> TrainingData:
    """Opens one dataset, or several together, for training.

    Args:
        paths: folders of datasets.
        validation: what is held out, as :func:`hold_out` takes it.
        fields: the fields of a tensor that are read, as :func:`cnnspark.tensors.dataset.training_columns` takes them;
            all by default.

    Returns:
        The training and validation blocks.

    Raises:
        UsageError: if the validation share is not between 0 and 1.
        InputError: if a path is not a finished dataset, datasets do not suit each other, or the blocks cannot be split.
    """
    dataset = open_dataset(paths)
    return TrainingData(dataset, *hold_out(dataset, validation), training_columns(fields))
