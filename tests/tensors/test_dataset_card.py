"""The dataset's card: histograms that add up, and content that no number of tasks changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspark import stages
from cnnspark.tensors.dataset import CARD, Dataset, block_file, dataset_folder
from cnnspark.tensors.dataset_card import BINS, columns_edges, columns_summary, count_columns, read_columns
from tests.conftest import Sample


def values(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(count, 3)).astype(np.float32)
    columns[rng.random(count) < 0.3, 1] = np.nan
    columns[:, 2] = np.nan
    return columns


def test_histograms_of_parts_add_up_to_that_of_the_whole() -> None:
    whole = values(1000, 1)
    edges = columns_edges(whole[::7])
    parts = [count_columns(part, edges) for part in np.array_split(whole, 13)]
    assert columns_summary(parts, "abc", edges) == columns_summary([count_columns(whole, edges)], "abc", edges)


def test_a_histogram_counts_every_value_once() -> None:
    whole = values(1000, 2)
    edges = columns_edges(whole)
    for column, of_column, found in zip(
        whole.T, edges, columns_summary([count_columns(whole, edges)], "abc", edges), strict=True
    ):
        seen = column[np.isfinite(column)].astype(np.float64)
        assert sum(found["counts"]) == len(seen)
        assert found["missing_share"] == pytest.approx(1 - len(seen) / 1000)
        for i, count in enumerate(found["counts"]):
            low = of_column[i - 1] if i else -np.inf
            high = of_column[i] if i < len(of_column) else np.inf
            assert count == ((seen >= low) & (seen < high)).sum()
    assert edges[0].size == BINS + 1 and edges[2].size == 0


@pytest.mark.spark
def test_the_card_describes_the_dataset(sample: Sample) -> None:
    dataset = Dataset(sample.dataset)
    folder = dataset_folder(sample.dataset)
    whole = np.concatenate([read_columns(block_file(folder, block["block"])) for block in dataset.blocks])
    columns = dataset.card["columns"]
    assert [c["name"] for c in columns] == [*dataset.annotation_names, *dataset.feature_names]
    for column, found in zip(whole.T, columns, strict=True):
        seen = column[np.isfinite(column)]
        assert found["missing_share"] == pytest.approx(1 - len(seen) / len(column), abs=1e-6)
        if len(seen):
            assert (found["minimum"], found["maximum"]) == (pytest.approx(seen.min()), pytest.approx(seen.max()))
        assert sum(found["counts"]) == len(seen)


@pytest.mark.spark
@pytest.mark.parametrize("slots", [1, 3, 16])
def test_the_same_content_for_any_number_of_tasks(sample: Sample, tmp_path: Path, slots: int) -> None:
    """The blocks built in other tasks and orders: as many executors' worth of processes as slots, one after another."""
    from cnnspark.execution.blocks import Block
    from cnnspark.formats.regions import Region
    from cnnspark.formats.vcf import VcfSource
    from cnnspark.tensors import block_tensors
    from cnnspark.variants.labeller import TruthPaths, open_labeller

    dataset = Dataset(sample.dataset)
    state = json.loads((Path(sample.dataset) / "run.json").read_text())
    blocks = [Block(**{**b, "region": Region(**b["region"])}) for b in state["blocks"]]
    folder = dataset_folder(str(tmp_path / "again"))
    folder.open({}, blocks, "fail")
    inputs = block_tensors.Inputs(
        str(sample.paths.vcf), sample.paths.reads, str(sample.paths.reference), dataset.card["sample"]
    )
    for slot in reversed(range(slots)):
        source = block_tensors.BlockTensors(inputs, dataset.annotation_names, sample.config.tensors)
        truth = TruthPaths.of(sample.paths.truth, sample.paths.bed, sample.paths.labels)
        assert truth is not None
        labeller = open_labeller(truth, VcfSource(inputs.vcf), inputs.reference)
        for block in blocks[slot::slots]:
            stages.write_tensors(folder, block, source, labeller)
    again = {row["block"]: row["sha256"] for row in folder.rows()}
    assert again == {block["block"]: block["sha256"] for block in dataset.card["blocks"]}


@pytest.mark.spark
def test_building_again_gives_the_same_card(spark: Any, sample: Sample, tmp_path: Path) -> None:
    stages.build_dataset(spark, sample.paths, str(tmp_path / "again"), sample.config)
    first, again = (json.loads((Path(p) / CARD).read_text()) for p in (sample.dataset, tmp_path / "again"))
    assert first == again
