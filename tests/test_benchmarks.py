"""The benchmarks run, leave the code they time as it was, and give figures that can be."""

from __future__ import annotations

import tempfile

import numpy as np

from benchmarks import dataset as dataset_benchmark
from benchmarks import tensors as tensors_benchmark
from benchmarks import trees
from benchmarks.measure import Timing, blocks_of, table
from cnnspark import kernels
from cnnspark.metrics import AlleleScores, evaluate
from cnnspark.reads import ReadSource
from tests.test_tensors import DATA, needs_data


def test_rates_are_things_by_seconds():
    rate = Timing((1.0, 2.0, 4.0), (1.0, 1.0, 1.0)).rate(100)
    assert rate == {"median": 50.0, "low": 25.0, "high": 100.0, "by_cpu_time": 100.0}
    assert Timing((2.0,)).rate(3)["by_cpu_time"] is None


def test_a_table_is_aligned():
    text = table([{"stage": "reading", "rate": 12345.6}, {"stage": "rest", "rate": None}])
    assert text.splitlines() == ["stage      rate", "reading  12,346", "rest           "]


@needs_data
def test_every_stage_of_the_tensors_is_timed_and_the_functions_are_put_back():
    before = kernels.observe, ReadSource.read
    result = tensors_benchmark.measure_set(tensors_benchmark.inputs_of(str(DATA), "HG002"), runs=3)
    assert (kernels.observe, ReadSource.read) == before
    assert (result["records"], result["alleles"], result["reads"]) == (492, 516, 20856)
    assert set(result["stages"]) == {"reading", "encoding", "features", "annotations", "records, haplotypes, rest"}
    # Other programs of the machine may slow down any run: no figure is compared with another but far beyond noise.
    assert 0 < result["everything"]["low"] < 3 * result["stages"]["reading"]["high"]
    assert result["ratio_to_pysam_decoding"] > 0


@needs_data
def test_the_dataset_is_measured_as_it_lies_on_disk():
    inputs = tensors_benchmark.inputs_of(str(DATA), "HG002")
    source, names = dataset_benchmark.open_source(inputs)
    (block,) = blocks_of(inputs.vcf)
    batch, _ = source.build(source.records(block), block)
    assert block.alleles == len(batch) == 516
    with tempfile.TemporaryDirectory() as folder:
        count = dataset_benchmark.write_copies(folder, batch, inputs.sample, names)
        written = dataset_benchmark.dataset.Dataset(folder)
        columns = dataset_benchmark.column_bytes(folder)
        assert sum(columns.values()) <= written.card["bytes"]
        assert written.card["bytes"] / count < 8_000
        assert sum(len(part["label"]) for part in dataset_benchmark.padded_batches(written)) == count
    assert written.card["bytes"] / count < dataset_benchmark.lone_bytes(batch, inputs.sample, names) < 8_000
    assert dataset_benchmark.peak_bytes() > 50 * 2**20


def test_trees_learn_before_the_cut_and_are_compared_behind_it():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 2000)
    values = rng.normal(size=(2000, 3)).astype(np.float32) + label[:, None]
    values[rng.random(values.shape) < 0.1] = np.nan
    start = np.arange(2000) * 500
    qual = rng.uniform(0, 2, 2000).astype(np.float32)
    alleles = trees.Table(np.full(2000, "chr1"), start, np.zeros(2000, np.int8), label, values, qual)
    trained, tested = alleles.trained({"chr1": 600_001}), alleles.tested({"chr1": 600_001}, 1.0)
    assert np.flatnonzero(trained).tolist() == list(range(1201))  # POS 600,001, which is start 600,000, is the last
    np.testing.assert_array_equal(tested, (start > 600_000) & (qual >= 1))
    assert alleles.tested({"chr1": 600_001}, None).sum() == 799
    first, second = (trees.tree_scores(alleles, trained, tested, seed) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)  # so few alleles are neither sampled nor held out
    truth = label[tested]
    scores = {"trees 0": first, "same": second, "truth": truth + 0.0}
    of_tested = AlleleScores(alleles.contig[tested], start[tested], alleles.variant_type[tested], truth, scores)
    measured = evaluate(of_tested, baseline=trees.BASELINE, n_replicates=50)["ALL"]
    assert 0.8 < measured["trees 0"]["auprc"] < 0.99
    lines = trees.gains({"ALL": measured})
    assert [line.split(":")[0] for line in lines] == ["ALL same", "ALL truth"]
    assert lines[0].endswith("+0.00000 (+0.00000 to +0.00000)")
    assert lines[1].startswith("ALL truth: AUPRC 1.00000, +0.") and "(+0." in lines[1]
