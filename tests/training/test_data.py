"""What replicas read: whole blocks held out, the same global batches for any number of replicas."""

from __future__ import annotations

import contextlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from petastorm import make_batch_reader

from cnnspark.errors import InputError, RunError, UsageError
from cnnspark.formats.regions import parse_region
from cnnspark.tensors.dataset import CARD, DATA, FORMAT_VERSION, Dataset, decode
from cnnspark.tensors.schema import FIELDS, TensorBatch
from cnnspark.training.data import TrainingData, hold_out, open_training_data, stream_count
from cnnspark.training.row_order import dealt_by_depth, window_order
from cnnspark.training.settings import TrainSettings
from tests.conftest import Sample

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def training(sample: Sample) -> TrainingData:
    return open_training_data(sample.dataset, 0.3)


def test_the_card_counts_what_the_files_hold(sample: Sample) -> None:
    dataset = Dataset(sample.dataset)
    labels: list[int] = []
    for tensors, values in dataset.tensors([block["block"] for block in dataset.blocks]):
        assert len(tensors.keys) == len(values["label"])
        labels += values["label"].tolist()
    assert len(labels) == dataset.card["tensors"]
    assert sum(label == 1 for label in labels) == dataset.card["labels"]["true"]
    assert sum(label == 0 for label in labels) == dataset.card["labels"]["false"]


def test_what_is_read_is_what_was_built(sample: Sample, spark: Any) -> None:
    """The oracle is the encoder itself, called without Spark and without Parquet."""
    from cnnspark.execution.blocks import plan_blocks
    from cnnspark.tensors import block_tensors

    dataset = Dataset(sample.dataset)
    inputs = block_tensors.Inputs(
        str(sample.paths.vcf), sample.paths.reads, str(sample.paths.reference), dataset.card["sample"]
    )
    source = block_tensors.BlockTensors(inputs, dataset.annotation_names, sample.config.tensors)
    block = plan_blocks(spark, inputs.vcf, source.reference.lengths, (), sample.config.blocks)[3]
    built, _ = source.build(source.records(block), block)
    by_key = {(k.start, k.ref, k.alt): i for i, k in enumerate(built.keys)}
    compared = 0
    for tensors, _values in dataset.tensors([block.index]):
        for i, key in enumerate(tensors.keys):
            expected = built.example(by_key[(key.start, key.ref, key.alt)])
            for name, values in tensors.example(i).items():
                np.testing.assert_array_equal(values, expected[name], err_msg=name)
            compared += 1
    assert compared > 10


def test_whole_blocks_are_held_out_at_the_end_of_each_contig(sample: Sample) -> None:
    dataset = Dataset(sample.dataset)
    train, held = hold_out(dataset, 0.3)
    assert sorted(train + held) == [block["block"] for block in dataset.blocks]
    for contig in {block["contig"] for block in dataset.blocks}:
        last_trained = max(b["last_start"] for b in dataset.blocks if b["contig"] == contig and b["block"] in train)
        held_here = [b for b in dataset.blocks if b["contig"] == contig and b["block"] in held]
        assert all(b["first_start"] > last_trained for b in held_here)
    share = sum(b["tensors"] for b in dataset.blocks if b["block"] in held) / dataset.card["tensors"]
    assert 0.15 < share < 0.45


def test_the_held_out_regions_own_the_validation_alleles_and_no_other(training: TrainingData) -> None:
    regions = [parse_region(text) for text in training.held_out]

    def inside(blocks: list[int]) -> list[bool]:
        return [
            any(region.contig == key.contig and region.owns(key.start) for region in regions)
            for tensors, _ in training.dataset.tensors(blocks)
            for key in tensors.keys
        ]

    assert all(inside(training.validation)) and not any(inside(training.train))


def test_regions_can_be_held_out(sample: Sample) -> None:
    dataset = Dataset(sample.dataset)
    contig = dataset.blocks[-1]["contig"]
    _, held = hold_out(dataset, (contig,))
    assert held == [b["block"] for b in dataset.blocks if b["contig"] == contig]
    with pytest.raises(InputError, match="cannot be split"):
        hold_out(dataset, (f"{contig}:1-1",))
    with pytest.raises(InputError, match="region chr99:1-5 names a contig that .*tensors does not have"):
        hold_out(dataset, (contig, "chr99:1-5"))


@pytest.mark.parametrize("share", ["2", "1.5", "1", "0", "-1"])
def test_a_validation_share_that_is_none_is_said(sample: Sample, share: str) -> None:
    with pytest.raises(UsageError, match=f"the validation share is {share}; give a number between 0 and 1 or regions"):
        hold_out(Dataset(sample.dataset), TrainSettings().with_flags((share,)).validation)


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_the_global_batch_does_not_depend_on_the_number_of_replicas(training: TrainingData, replicas: int) -> None:
    reference = list(training.train_batches(range(4), 4, 16, seed=3, epoch=1))
    shares = [range(rank * 4 // replicas, (rank + 1) * 4 // replicas) for rank in range(replicas)]
    slices = [list(training.train_batches(mine, 4, 16, seed=3, epoch=1)) for mine in shares]
    assert {len(part) for part in slices} == {training.steps(16)} == {len(reference)}
    for step, whole in enumerate(reference):
        lanes = [lane for part in slices for lane in part[step]]
        assert len(lanes) == len(whole) == 4
        for ours, theirs in zip(lanes, whole, strict=True):
            assert len(ours["label"]) == 4
            for name, values in theirs.items():
                np.testing.assert_array_equal(ours[name], values, err_msg=name)


@pytest.mark.parametrize(
    "fields", [{"annotations", "site_features"}, {"reference", "alternate", "annotations"}, {"read_flags", "row_count"}]
)
def test_what_a_network_does_not_take_is_not_read_and_changes_nothing(
    sample: Sample, training: TrainingData, fields: set[str]
) -> None:
    some = open_training_data(sample.dataset, 0.3, {*fields, "noise_key"})
    per_read = any(name.startswith("read_") for name in fields)
    assert set(some.columns or ()) & {field.name for field in FIELDS} == fields - {"row_count"}
    assert ("row_count" in (some.columns or ())) == per_read
    compared = {*fields, "label", "weight", "example_key"}

    def epoch(data: TrainingData, name: str) -> np.ndarray:
        """The values of an epoch by allele: without the reads' numbers, they come in another order."""
        batches = [lane for lanes in data.train_batches(range(2), 4, 16, 3, 1) for lane in lanes]
        depth = max(batch[name].shape[1] if batch[name].ndim > 1 else 0 for batch in batches)
        values = [
            np.pad(v, [(0, 0), (0, depth - v.shape[1])]) if (v := batch[name]).ndim > 1 else v for batch in batches
        ]
        return np.concatenate(values)[np.argsort(np.concatenate([b["example_key"] for b in batches]), kind="stable")]

    for name in compared:
        np.testing.assert_array_equal(epoch(some, name), epoch(training, name), err_msg=name)
    for ours, theirs in zip(some.validation_batches(8), training.validation_batches(8), strict=True):
        for name in compared:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
        for field in FIELDS:
            assert field.name in fields or ours[field.name].shape[-1] == 0


def test_a_lane_is_of_like_depth_and_a_pair_of_lanes_is_as_much_work_as_the_next() -> None:
    counts = np.random.default_rng(0).integers(8, 65, 32 * 8)
    lengths = np.concatenate([[0], np.cumsum(counts)])
    fields = {f.name: np.zeros((counts.sum() if f.per_read else 256, 0), f.dtype) for f in FIELDS}
    parts = [(TensorBatch(keys=[], row_offsets=lengths, **fields), {"label": counts.astype(np.float32)})]
    batch = dealt_by_depth(parts, 32)
    rows = np.array([batch(i)["label"].max() for i in range(32)])
    assert (np.diff(rows) >= 0).all() and rows.mean() < 1.1 * counts.mean()
    assert sorted(np.concatenate([batch(i)["label"] for i in range(32)])) == sorted(counts)
    orders = [window_order(32, lane, 1, 0, 64) for lane in range(4)]
    assert all(sorted(order) == list(range(32)) for order in orders)
    pairs = rows[orders[0]] + rows[orders[1]], rows[orders[2]] + rows[orders[3]]
    assert np.abs(pairs[0] - pairs[1]).max() < 0.25 * pairs[0].mean()


def test_an_epoch_is_nearly_one_pass_and_the_next_has_another_order(training: TrainingData) -> None:
    def keys(epoch: int, seed: int = 3) -> list[int]:
        return [k for (b,) in training.train_batches(range(1), 1, 16, seed, epoch) for k in b["example_key"].tolist()]

    first = keys(0)
    assert len(set(first)) > 0.75 * training.n_train
    assert first == keys(0)
    assert first != keys(1) and first != keys(0, seed=4)


def test_every_training_allele_is_seen_within_a_few_epochs(training: TrainingData) -> None:
    batches = (batch for epoch in range(8) for (batch,) in training.train_batches(range(1), 1, 16, 3, epoch))
    seen = {key for batch in batches for key in batch["example_key"].tolist()}
    expected = {int(k) for values in training.dataset.read(training.train) for k in example_keys_of(values)}
    assert seen == expected


def example_keys_of(values: dict[str, np.ndarray]) -> np.ndarray:
    from cnnspark.tensors.dataset import example_keys

    return example_keys(values)


def test_validation_is_read_once_and_in_order(training: TrainingData) -> None:
    batches = list(training.validation_batches(8))
    assert sum(len(batch["label"]) for batch in batches) == training.n_validation
    again = [b["example_key"].tolist() for b in training.validation_batches(8)]
    assert again == [b["example_key"].tolist() for b in batches]


def test_the_feature_sample_is_of_training_alleles(training: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnspark.training.data.NEIGHBOURING_GROUPS", 1)
    annotations, features, datasets = training.feature_sample(50)
    assert datasets.tolist() == [0] * len(annotations)
    assert annotations.shape == (len(annotations), len(training.annotation_names))
    assert features.shape == (len(annotations), len(training.feature_names))
    assert 0 < len(annotations) < training.n_train / 2
    whole, _, _ = training.feature_sample(10**6)
    assert len(whole) == training.n_train


def test_a_dataset_with_a_lost_row_group_is_refused(sample: Sample, tmp_path: Path) -> None:
    dataset = Dataset(sample.dataset)
    dataset.blocks[0]["row_groups"] = [*dataset.blocks[0]["row_groups"], 5]
    with pytest.raises(RunError, match="other rows in data/block="):
        list(dataset.read([dataset.blocks[0]["block"]]))


class Hostile:
    """Unpickled it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


def test_nothing_of_a_dataset_is_unpickled(sample: Sample, tmp_path: Path) -> None:
    copied, marker = tmp_path / "tensors", tmp_path / "marker"
    shutil.copytree(sample.dataset, copied)
    metadata = copied / "data" / "_common_metadata"
    schema = pq.read_schema(metadata)
    hostile = {b"dataset-toolkit.unischema.v1": pickle.dumps(Hostile(marker))}
    pq.write_metadata(schema.with_metadata({**schema.metadata, **hostile}), metadata)
    dataset = Dataset(str(copied))
    numbers = [block["block"] for block in dataset.blocks]
    assert sum(len(batch) for batch, _ in dataset.tensors(numbers)) == dataset.card["tensors"]
    open_training_data([str(copied)], 0.3).feature_sample(10)
    assert not marker.exists()
    # What Petastorm's reader does with it.
    with contextlib.suppress(Exception):
        make_batch_reader(f"file://{copied / 'data'}", reader_pool_type="dummy")
    assert marker.exists()


def test_a_folder_that_is_no_dataset_is_one_sentence(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finished tensor dataset"):
        Dataset(str(tmp_path))
    with pytest.raises(InputError, match="not a folder"):
        Dataset(str(tmp_path / "none"))
    (tmp_path / CARD).write_text('{"format": 99}')
    with pytest.raises(InputError, match="format 99"):
        Dataset(str(tmp_path))
    (tmp_path / CARD).write_text(f'{{"format": {FORMAT_VERSION}, "annotations": []}}')
    with pytest.raises(InputError, match="dataset.json is damaged; build the dataset again"):
        Dataset(str(tmp_path))


def test_petastorm_itself_opens_the_dataset(sample: Sample) -> None:
    from petastorm import make_reader

    url = (Path(sample.dataset).absolute() / DATA).as_uri()
    with make_reader(url, reader_pool_type="dummy", shuffle_row_groups=False) as reader:
        row = next(reader)
    values = {name: np.array([value], dtype=object if isinstance(value, bytes) else None) for name, value in
              row._asdict().items()}  # fmt: skip
    assert decode(values).reference.shape == (1, 128)


@pytest.mark.parametrize(
    ("batch", "lanes", "groups", "streams"),
    [(32, 1, 99, 16), (32, 2, 99, 16), (24, 3, 99, 12), (48, 3, 99, 12), (32, 2, 5, 4), (6, 3, 3, 3), (32, 32, 99, 32)],
)
def test_streams_divide_the_batch_and_suit_the_lanes(batch: int, lanes: int, groups: int, streams: int) -> None:
    assert stream_count(batch, lanes, groups) == streams


def test_more_replicas_than_row_groups_and_uneven_batches_are_refused() -> None:
    with pytest.raises(InputError, match="row groups"):
        stream_count(32, 4, 3)
    with pytest.raises(UsageError, match="multiple"):
        stream_count(32, 3, 99)
