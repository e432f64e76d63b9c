"""Several datasets are trained on as one: nothing lost, nothing twice, whatever the shards."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspark import stages
from cnnspark.errors import UsageError
from cnnspark.formats.regions import parse_region
from cnnspark.tensors.dataset import Dataset
from cnnspark.tensors.joined_dataset import JoinedDataset, open_dataset
from cnnspark.training.data import open_training_data
from tests.conftest import Sample

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def other(sample: Sample, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The end of one contig once more, as if another caller had given fewer annotations and one of its own."""
    contig = Dataset(sample.dataset).blocks[0]["contig"]
    paths = dataclasses.replace(sample.paths, regions=(f"{contig}:30,000-",))
    config = dataclasses.replace(sample.config, annotations=("QUAL", "INFO/MQ", "INFO/XX"))
    out = tmp_path_factory.mktemp("joined") / "other"
    stages.build_dataset(spark, paths, str(out), config)
    return str(out)


@pytest.fixture(scope="module")
def joined(sample: Sample, other: str) -> JoinedDataset:
    return JoinedDataset([sample.dataset, other])


def alleles(groups: Any) -> Counter:
    keys = ("contig", "start", "ref", "alt")
    return Counter(key for values in groups for key in zip(*(values[name] for name in keys), strict=True))


def test_a_pass_gives_every_row_of_every_dataset_once(sample: Sample, other: str, joined: JoinedDataset) -> None:
    every = [block["block"] for block in joined.blocks]
    parts = [Dataset(path) for path in (sample.dataset, other)]
    expected = sum((alleles(p.read([b["block"] for b in p.blocks])) for p in parts), Counter())
    assert alleles(joined.read(every)) == expected
    assert alleles(joined.read(every, seed=7)) == expected
    assert sum(joined.row_groups(every)) == sum(expected.values())


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_share_the_row_groups_out_evenly(joined: JoinedDataset, shards: int) -> None:
    every = [block["block"] for block in joined.blocks]
    groups = [sum(1 for _ in joined.read(every, ["label"], 3, shard, shards)) for shard in range(shards)]
    assert sum(groups) == len(joined.row_groups(every))
    assert max(groups) - min(groups) <= 1
    together = sum((alleles(joined.read(every, None, 3, shard, shards)) for shard in range(shards)), Counter())
    assert together == alleles(joined.read(every))


def test_a_random_pass_mixes_the_datasets_and_repeats(sample: Sample, joined: JoinedDataset) -> None:
    every = [block["block"] for block in joined.blocks]
    firsts = [[int(values["start"][0]) for values in joined.read(every, ["start"], seed)] for seed in (3, 3, 4)]
    assert firsts[0] == firsts[1] != firsts[2]


def test_annotations_that_a_dataset_lacks_are_missing_there(sample: Sample, other: str, joined: JoinedDataset) -> None:
    own = Dataset(sample.dataset)
    assert joined.annotation_names == (*own.annotation_names, "INFO/XX")
    from_other = [block["block"] for block in joined.blocks][len(own.blocks) :]
    values = np.concatenate([group["annotations"] for group in joined.read(from_other)])
    plain = np.concatenate([np.stack(list(g["annotations"])) for g in Dataset(other).read(
        [block["block"] for block in Dataset(other).blocks])])  # fmt: skip
    names = joined.annotation_names
    np.testing.assert_array_equal(values[:, [names.index(n) for n in ("QUAL", "INFO/MQ", "INFO/XX")]], plain)
    lacking = [i for i, name in enumerate(names) if name not in ("QUAL", "INFO/MQ")]
    assert np.isnan(values[:, lacking]).all()
    assert np.isfinite(values[:, names.index("QUAL")]).all()


def test_the_same_end_of_a_contig_is_held_out_in_all(sample: Sample, other: str) -> None:
    data = open_training_data([sample.dataset, other], 0.3)
    blocks = {block["block"]: block for block in data.dataset.blocks}
    for contig in {block["contig"] for block in blocks.values()}:
        trained = [blocks[b]["first_start"] for b in data.train if blocks[b]["contig"] == contig]
        held = [blocks[b]["first_start"] for b in data.validation if blocks[b]["contig"] == contig]
        assert max(trained) <= min(held)
    assert len({parse_region(text).contig for text in data.held_out}) == 2
    batches = [len(batch["label"]) for lanes in data.train_batches(range(2), 2, 32, 1, 0) for batch in lanes]
    assert sum(batches) == data.steps(32) * 32 >= data.n_train
    assert sum(len(batch["label"]) for batch in data.validation_batches(64)) == data.n_validation


def test_tensors_of_other_settings_are_refused(sample: Sample, spark: Any, tmp_path: Path) -> None:
    contig = Dataset(sample.dataset).blocks[0]["contig"]
    paths = dataclasses.replace(sample.paths, regions=(f"{contig}:30,000-",))
    config = dataclasses.replace(sample.config, tensors=dataclasses.replace(sample.config.tensors, read_limit=16))
    stages.build_dataset(spark, paths, str(tmp_path / "shallow"), config)
    with pytest.raises(UsageError, match="different settings; build both with the same configuration"):
        open_dataset([sample.dataset, str(tmp_path / "shallow")])
    with pytest.raises(UsageError, match="given twice"):
        open_dataset([sample.dataset, sample.dataset])
