"""The benchmarks run, leave the code they time as it was, and give figures that can be."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import pytest
from pysam import AlignmentFile, FastaFile, TabixFile, VariantFile

from benchmarks.accuracy import accuracy
from benchmarks.execution import merging
from benchmarks.scoring import rate
from benchmarks.support.callsets import all_tensors, blocks_of, inputs_of, tensor_source
from benchmarks.tensors import generated
from benchmarks.tensors import tensors as tensors_benchmark
from benchmarks.training import dataset as dataset_benchmark
from benchmarks.training import draws
from cnnspark.errors import UsageError
from cnnspark.evaluation.metrics import auprc
from cnnspark.formats.reads import ReadSource
from cnnspark.tensors import pileup_kernels
from cnnspark.tensors.dataset import Dataset
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.variants.annotations import default_annotations
from tests.conftest import Sample
from tests.tensors.test_builder import DATA, needs_data


def test_what_passes_by_fdr_has_each_types_own_threshold():
    odds = np.log(np.array([0.999, 0.995, 0.97, 0.5]) / np.array([0.001, 0.005, 0.03, 0.5]))
    is_indel = np.repeat([True, False], [4, 4])
    # Mean 1 - p of those taken: .001, .003, .012, .134; of the others all but the first are hopeless.
    passed = accuracy.passed_by_fdr(np.concatenate([odds, [odds[0], -1.0, -2.0, -3.0]]), is_indel, 0.01)
    assert passed.tolist() == [True, True, False, False, True, False, False, False]
    assert not accuracy.passed_by_fdr(np.full(4, -5.0), is_indel[2:6], 0.01).any()


def test_tensors_of_other_site_features_are_refused():
    accuracy.require_current("kept", SITE_FEATURES)
    accuracy.require_current("kept", ())  # GATK's encoding
    with pytest.raises(UsageError, match="kept has the site features of another version"):
        accuracy.require_current("kept", SITE_FEATURES[:-1])


def test_merging_is_measured_beside_a_copy_of_the_same_bytes(tmp_path):
    found = merging.measure(tmp_path / "run", shards=40, records=400, runs=1)
    assert (found["shards"], found["records"]) == (40, 400)
    merged = tmp_path / "run" / "merged.vcf.gz"
    assert (tmp_path / "run" / "copy.out").stat().st_size == found["bytes"] > merged.stat().st_size
    assert set(found["medians"]) == set(merging.WORK)
    assert [figure["name"] for figure in found["figures"]] == ["merge"]
    with TabixFile(str(merged)) as indexed:
        assert sum(1 for contig in indexed.contigs for _ in indexed.fetch(contig)) == 400


@needs_data
def test_every_stage_of_the_tensors_is_timed_and_the_functions_are_put_back():
    before = pileup_kernels.observe, ReadSource.read
    result = tensors_benchmark.measure_set("HG002", inputs_of(str(DATA), "HG002"), runs=2)
    assert (pileup_kernels.observe, ReadSource.read) == before
    assert (result["records"], result["alleles"], result["reads"]) == (492, 516, 20856)
    figures = {figure["name"].removeprefix("HG002: "): figure for figure in result["figures"]}
    stages = {"reading", "encoding", "features", "annotations", "records, haplotypes, rest"}
    assert set(figures) == {*stages, "everything"}
    # Other programs of the machine may slow down any run: no figure is compared with another but far beyond noise.
    assert 0 < figures["everything"]["low"] < 3 * figures["reading"]["high"]
    assert all(figure["ratio"] > 0 for figure in figures.values())


def test_long_reads_are_accurate_and_carry_the_samples_alleles(tmp_path):
    inputs = generated.long_reads(tmp_path)
    assert inputs.reads is not None
    with AlignmentFile(inputs.reads) as reads, FastaFile(inputs.reference) as fasta:
        found = [read for read in reads if read.query_sequence]
        lengths = [read.query_length for read in found]
        depth = sum(lengths) / sum(fasta.lengths)
        with VariantFile(str(tmp_path / "long" / "truth.vcf.gz")) as truth:
            snvs = [r for r in truth if len(r.ref) == len(r.alts[0]) == 1]
        shares = []
        for snv in snvs:
            counts = reads.count_coverage(snv.contig, snv.start, snv.stop)
            shares.append(counts["ACGT".index(snv.alts[0])][0] / max(1, sum(each[0] for each in counts)))
    assert 20 < depth < 40 and np.median(lengths) > 5_000
    assert 0.35 < np.median(shares) < 0.65


@needs_data
def test_a_callset_of_several_samples_has_a_column_for_each_and_the_same_records(tmp_path):
    alone = inputs_of(str(DATA), "HG002")
    joined = generated.several_samples(alone, 3, tmp_path)
    with VariantFile(joined.vcf) as both, VariantFile(alone.vcf) as one:
        assert list(both.header.samples) == [member.sample for member in joined.members] == ["S1", "S2", "S3"]
        lines = [str(record).split("\t") for record in both]
        assert [line[:9] for line in lines] == [str(record).split("\t")[:9] for record in one]
    assert all(len({call.strip() for call in line[9:]}) == 1 for line in lines)


@needs_data
def test_the_dataset_is_measured_as_it_lies_on_disk():
    inputs = inputs_of(str(DATA), "HG002")
    source = tensor_source(inputs)
    names = default_annotations(source.vcf.header)
    (block,) = blocks_of(inputs.vcf)
    batch = all_tensors(source, [block])
    assert block.alleles == len(batch) == 516
    with tempfile.TemporaryDirectory() as folder:
        count = dataset_benchmark.write_copies(folder, batch, inputs.sample, names)
        written = dataset_benchmark.dataset.Dataset(folder)
        columns = dataset_benchmark.column_bytes(folder)
        assert sum(columns.values()) <= written.card["bytes"]
        assert written.card["bytes"] / count < 8_000
        assert sum(len(part["label"]) for part in dataset_benchmark.padded_batches(written)) == count
    assert written.card["bytes"] / count < dataset_benchmark.lone_bytes(batch, inputs.sample, names) < 8_000


@needs_data
def test_a_task_scores_all_records_and_its_limit_does_the_same_work(tmp_path):
    model = "bundled:features"
    made, start = rate.measure_rate(str(DATA), "features", model, repeats=1, runs=1, each=3)
    assert (made["name"], made["records"]) == ("score features, genome", 164)
    assert made["limit"] == "decode + product + compress"  # its site features are of reads
    assert made["ratio"] > 0 and 50 < made["bytes_by_record"] < 500
    assert start["start-up s, processor"] > 0
    task = rate.Task(inputs_of(str(DATA), "HG002"), model, tmp_path)
    (row,) = task.run()
    assert row.records_in == row.records_out == task.records == 492


def test_a_model_is_trained_its_scores_are_kept_and_compared_with_trees(sample: Sample, tmp_path, capsys, monkeypatch):
    """The table of accuracy, on the simulated sample itself: what is tested here are the steps, not the models."""
    inputs = {"vcf": sample.paths.vcf, "reads": sample.paths.reads, "reference": sample.paths.reference}
    part = accuracy.Part("small", inputs, min_qual=1.0)
    (tmp_path / "small.tensors").symlink_to(sample.dataset)
    monkeypatch.setattr(accuracy, "training_parts", lambda *_: [part])
    monkeypatch.setattr(accuracy, "tested_parts", lambda *_: [part])
    given = ["--work", str(tmp_path), "--on", "freebayes"]
    for arguments in (["--model", "trees"], ["--model", "features", "--epochs", "1", "--validation", "0.3"]):
        monkeypatch.setattr("sys.argv", ["accuracy", "train", *given, *arguments])
        accuracy.main()
    monkeypatch.setattr("sys.argv", ["accuracy", "measure", *given, "--json", str(tmp_path / "figures.json")])
    accuracy.main()
    figures = json.loads((tmp_path / "figures.json").read_text())["small"]["metrics"]["ALL"]
    keys, values = accuracy.tabled(Dataset(sample.dataset))
    counted = values["QUAL"] >= 1
    assert figures["QUAL"]["n_true"] == int(keys["label"][counted].sum())
    assert figures["trees-1"]["auprc"] > 0.9  # of the alleles that they were grown on
    scores = np.load(tmp_path / "freebayes" / "features-1" / "small.npy")
    assert figures["features-1"]["auprc"] == pytest.approx(auprc(keys["label"][counted], scores[counted]))
    gain = figures["features-1"]["auprc"] - figures["trees-1"]["auprc"]
    assert figures["features-1"]["auprc_gain"] == pytest.approx(gain)
    cost = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert cost[0].split()[-2:] == ["MMAC", "alleles/s"]
    alleles = f"{len(keys['label']):,}"
    assert [row.split()[:3] for row in cost[1:]] == [
        ["features-1", "features", alleles], ["trees-1", "trees", alleles],
    ]  # fmt: skip


def test_what_is_measured_is_on_sequence_that_no_draw_is_trained_on():
    def spans(found):
        texts = {text.replace(",", "") for draw in found for text in draw.regions}
        return [(contig, *map(int, span.split("-"))) for contig, span in (text.split(":") for text in texts)]

    for contig, first, last in spans(draws.TRAINING):
        for other, begin, end in spans(draws.EVALUATION):
            assert contig != other or last < begin or end < first
    seeds = [draw.settings.seed for draw in draws.DRAWS.values()]
    assert len(set(seeds)) == len(seeds) == len(draws.TRAINING) + len(draws.EVALUATION)
