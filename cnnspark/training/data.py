"""What a training replica reads: its slice of each global batch, and the held-out blocks.

A global batch is dealt to lanes, and each lane is drawn from its own streams, each a fixed share of the row groups; a
replica runs its share of the lanes. So the content of every lane is the same for any number of replicas, and each
replica reads only its own share of the files. Every replica makes the same number of steps by construction: a stream
that is short of rows begins its next pass early, one that has more leaves the rest to the next epoch's other order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnnspark.common.dataclass_settings import number_of
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.contigs import check_regions
from cnnspark.formats.regions import Region, parse_region
from cnnspark.tensors.batches import pad_rows
from cnnspark.tensors.dataset import Dataset, decode, example_keys, training_columns
from cnnspark.tensors.joined_dataset import DATASET, JoinedDataset, open_dataset
from cnnspark.tensors.schema import TensorBatch
from cnnspark.training.settings import check_share

MAX_STREAMS = 16
# Row groups that a stream holds to shuffle rows between: about 256 tensors, 2 MB.
SHUFFLED_GROUPS = 4
# Steps over which a lane's examples are sorted by their reads: padding to the deepest of eight would be a third of the
# work, of like ones it is a tenth.
SORTED_STEPS = 32
# Row groups of a run in a sample: about 500 alleles.
NEIGHBOURING_GROUPS = 8


def stream_count(batch_size: int, lanes: int, row_groups: int) -> int:
    """How many streams V: the largest divisor of the batch size, at most MAX_STREAMS, that the lanes divide.

    Raises UsageError where the batch cannot be dealt evenly, InputError where there are fewer row groups than replicas.
    """
    if batch_size % lanes:
        raise UsageError(f"a global batch of {batch_size} cannot be dealt to {lanes} replicas; choose a multiple")
    if row_groups < lanes:
        raise InputError(
            f"{lanes} replicas need as many row groups, the training blocks have {row_groups}; "
            "use fewer replicas or more data"
        )
    limit = max(lanes, min(MAX_STREAMS, row_groups))
    return max(v for v in range(lanes, limit + 1, lanes) if batch_size % v == 0)


def hold_out(dataset: Dataset | JoinedDataset, validation: float | Sequence[str]) -> tuple[list[int], list[int]]:
    """Whole blocks for training and for validation.

    Args:
        validation: a share (the last blocks of each contig, as near to it in tensors as whole blocks come), or
            regions as text; a block that reaches into a region is held out.

    Raises UsageError where the share is none, InputError where a region is on a contig that the dataset does not have,
    or one side would be empty.
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
            f"the {len(dataset.blocks)} blocks of the dataset cannot be split ({len(train)} and {len(held)}); "
            "build it with smaller blocks (--set blocks.records=...) or give --validation regions"
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
        # By place: where several samples have the contig, the same end of it is held out in all of them.
        for block in sorted(members, key=lambda block: (block["first_start"], block["block"]), reverse=True):
            # The nearer of both: a contig of one block is held out only for a share above a half.
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
    """A dataset split into training and validation blocks, as the trainer reads it."""

    def __init__(
        self,
        dataset: Dataset | JoinedDataset,
        train: Sequence[int],
        validation: Sequence[int],
        columns: Sequence[str] | None = None,
    ):
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
        """The block of each held-out tensor, int64 (n_validation,), in the order of :meth:`validation_batches`."""
        wanted = set(self.validation)
        held = [block for block in self.dataset.blocks if block["block"] in wanted]
        return np.repeat([block["block"] for block in held], [block["tensors"] for block in held])

    @property
    def tensor_settings(self) -> dict[str, Any]:
        """How the tensors were built, as plain values; a model scores tensors of the same settings."""
        return dict(self.dataset.card["config"]["tensors"])

    @property
    def with_reads(self) -> bool:
        """Whether reads were there when the tensors were built. Older datasets never were built without."""
        return bool(self.dataset.card.get("with_reads", True))

    @property
    def digest(self) -> str:
        """The dataset's content."""
        return str(self.dataset.card["sha256"])

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch, on every replica."""
        return -(-self.n_train // batch_size)

    def train_batches(
        self, mine: range, lanes: int, batch_size: int, seed: int, epoch: int
    ) -> Iterator[list[dict[str, np.ndarray]]]:
        """The lanes ``mine`` of each global batch of one epoch, ``batch_size / lanes`` rows each.

        Fields as :func:`cnnspark.tensors.batches.pad_rows`, and label, weight (B,) float32, example_key (B,) int32. The
        examples of a lane have about as many reads as each other, where reads are read at all; the lanes of a batch
        have not.
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
                _by_depth([next(stream) for _ in range(window) for stream in lane], window) for lane in running
            ]
            orders = [_window_order(window, i, seed, epoch, first) for i in mine]
            for step in range(window):
                yield [batch(order[step]) for batch, order in zip(sorted_lanes, orders, strict=True)]

    def _stream(
        self, stream: int, streams: int, rows: int, seed: int, epoch: int
    ) -> Iterator[tuple[TensorBatch, dict[str, np.ndarray]]]:
        """Endless slices of ``rows`` shuffled rows from one stream's row groups."""
        waiting: list[tuple[TensorBatch, dict[str, np.ndarray]]] = []
        held = 0
        turn = 0
        while True:
            order = np.random.Generator(np.random.PCG64([seed, epoch, stream, turn]))
            chosen = int(order.integers(1, 2**31))
            groups = self.dataset.read(self.train, self.columns, seed=chosen, shard=stream, shards=streams)
            for shuffled in _shuffled(groups, order):
                waiting.append(shuffled)
                held += len(shuffled[1]["label"])
                while held >= rows:
                    taken, waiting = _take(waiting, rows)
                    held -= rows
                    yield taken
            turn += 1

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
        """Every held-out tensor once, in the files' order; the last batch of a row group may be short."""
        for values in self.dataset.read(self.validation, self.columns):
            tensors, scalars = decode(values, with_keys=False), _scalars(values)
            for first in range(0, len(scalars["label"]), batch_size):
                chosen = np.arange(first, min(first + batch_size, len(scalars["label"])))
                yield pad_rows(tensors, chosen) | {name: value[chosen] for name, value in scalars.items()}

    def feature_sample(self, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Annotations (n, A) and site features (n, F) of some ``limit`` training tensors at most, and the number (n,)
        of the dataset that each is of.

        Runs of neighbouring row groups, evenly spread and in order: what neighbours have in common stays to be seen.
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


def _by_depth(
    parts: Sequence[tuple[TensorBatch, dict[str, np.ndarray]]], count: int
) -> Callable[[int], dict[str, np.ndarray]]:
    """Slices of several streams dealt to ``count`` batches of equal size by number of reads: gives batch i, padded."""
    tensors = TensorBatch.concatenate([part[0] for part in parts])
    scalars = {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]}
    dealt = np.argsort(np.diff(tensors.row_offsets), kind="stable").reshape(count, -1)

    def batch(i: int) -> dict[str, np.ndarray]:
        return pad_rows(tensors, dealt[i]) | {name: values[dealt[i]] for name, values in scalars.items()}

    return batch


def _window_order(window: int, lane: int, seed: int, epoch: int, first: int) -> np.ndarray:
    """In which order a lane's batches of a window, sorted by depth, are trained on: a permutation of ``window``.

    Where one lane of a pair has its shallowest, the other has its deepest, so that two replicas are done together.
    """
    order = np.random.Generator(np.random.PCG64([seed, epoch, first, lane // 2])).permutation(window)
    return order if lane % 2 == 0 else window - 1 - order


def _scalars(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "label": values["label"].astype(np.float32),
        "weight": values["weight"].astype(np.float32),
        "variant_type": values["variant_type"].astype(np.int32),
        "example_key": example_keys(values),
    }


def _shuffled(
    groups: Iterator[Mapping[str, np.ndarray]], order: np.random.Generator
) -> Iterator[tuple[TensorBatch, dict[str, np.ndarray]]]:
    """The rows of each SHUFFLED_GROUPS row groups, permuted."""
    held: list[Mapping[str, np.ndarray]] = []

    def mixed() -> tuple[TensorBatch, dict[str, np.ndarray]]:
        joined = {name: np.concatenate([group[name] for group in held]) for name in held[0]}
        permutation = order.permutation(len(joined["label"]))
        joined = {name: column[permutation] for name, column in joined.items()}
        return decode(joined, with_keys=False), _scalars(joined)

    for group in groups:
        held.append(group)
        if len(held) == SHUFFLED_GROUPS:
            yield mixed()
            held = []
    if held:
        yield mixed()


def _slice(part: tuple[TensorBatch, dict[str, np.ndarray]], first: int, last: int) -> tuple[TensorBatch, dict]:
    tensors, scalars = part
    return tensors.part(first, last), {name: value[first:last] for name, value in scalars.items()}


def _take(
    waiting: list[tuple[TensorBatch, dict[str, np.ndarray]]], rows: int
) -> tuple[tuple[TensorBatch, dict[str, np.ndarray]], list[tuple[TensorBatch, dict[str, np.ndarray]]]]:
    """The first ``rows`` rows, and what is left."""
    parts = []
    left = list(waiting)
    while rows:
        count = len(left[0][1]["label"])
        if count <= rows:
            parts.append(left.pop(0))
            rows -= count
        else:
            parts.append(_slice(left[0], 0, rows))
            left[0] = _slice(left[0], rows, count)
            rows = 0
    scalars = {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]}
    return (TensorBatch.concatenate([part[0] for part in parts]), scalars), left


def open_training_data(
    paths: str | Sequence[str], validation: float | Sequence[str], fields: Iterable[str] | None = None
) -> TrainingData:
    """The training and validation blocks of one dataset, or of several together; see :func:`hold_out`.

    Args:
        fields: what of a tensor is read, as :func:`cnnspark.tensors.dataset.training_columns` takes it; all by default.
    """
    dataset = open_dataset(paths)
    return TrainingData(dataset, *hold_out(dataset, validation), training_columns(fields))
