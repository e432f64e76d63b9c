"""Whole stages from and to an object store: the same bytes as on local folders, and nothing left anywhere else."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pysam
import pytest

from cnnspark import stages
from cnnspark.config import FilterChoice, InputPaths
from cnnspark.errors import InputError, UsageError
from cnnspark.execution.shards import MERGED
from cnnspark.filtering.request import FilterOptions
from cnnspark.models.card import read_card
from cnnspark.stages import pipeline
from cnnspark.stages.plan import plan_callset
from cnnspark.stages.requests import EvaluationRequest, RunRequest, ScoreRequest
from cnnspark.stages.sheet_stages import score_sheet
from cnnspark.tensors.dataset import Dataset
from cnnspark.training import train
from tests.conftest import ROOT, Sample
from tests.support.object_store import SECRET, Store, opened_store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark
SUFFIXES = {"vcf": ".tbi", "reads": ".bai", "reference": ".fai", "truth": ".tbi"}


@pytest.fixture(scope="module")
def store(store_server: str, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(store_server, tmp_path_factory.mktemp("temporary"), spark) as opened:
        yield opened


@pytest.fixture(scope="module")
def remote(store: Store, sample: Sample) -> Sample:
    """The sample's files and model on the store, in few blocks: each takes a hundred requests."""
    paths = {}
    for name in ("vcf", "reads", "reference", "truth", "bed"):
        local = str(getattr(sample.paths, name))
        paths[name] = store.put(local, f"in/{Path(local).name}")
        if name in SUFFIXES:
            store.put(local + SUFFIXES[name], f"in/{Path(local).name}{SUFFIXES[name]}")
    for file in Path(sample.model).iterdir():
        store.put(file, f"in/model/{file.name}")
    blocks = dataclasses.replace(sample.config.blocks, records=60)
    return Sample(InputPaths(**paths), dataclasses.replace(sample.config, blocks=blocks), "", store.url("in/model"))


@pytest.fixture(scope="module")
def scored(spark: SparkSession, store: Store, remote: Sample) -> str:
    """The sample scored on the store."""
    out = store.url("scored")
    stages.score_callset(spark, ScoreRequest(remote.unlabelled, remote.model, out, remote.config))
    return out


@pytest.fixture
def nothing_left(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Working and temporary folders, of the driver and of Spark's tasks, hold afterwards what they held before."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def listed() -> set[str]:
        temporary = {name for name in os.listdir(store.environment["TMPDIR"]) if name.startswith("cnnspark-")}
        return temporary | set(os.listdir(ROOT)) | set(os.listdir(tmp_path / "work"))

    before = listed()
    yield
    assert listed() <= before


def test_a_run_on_the_store_has_the_bytes_of_a_local_one(
    spark: SparkSession, sample: Sample, remote: Sample, store: Store, scored: str, tmp_path: Path, nothing_left: None
) -> None:
    local = tmp_path / "local"
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(local), remote.config))
    there = store.objects("scored")
    here = {str(path.relative_to(local)): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    assert set(there) == set(here)
    alike = [name for name in here if not name.endswith((".json", ".tsv")) or name == "guard.json"]
    assert len(alike) > 4 and all(there[name] == here[name] for name in alike)
    assert json.loads(there["manifest.json"])["conservation"] == json.loads(here["manifest.json"])["conservation"]


def test_a_resumed_run_does_what_is_missing_alone(
    spark: SparkSession, store: Store, remote: Sample, scored: str, nothing_left: None
) -> None:
    before, written = store.objects("scored"), store.changed("scored")
    lost = sorted(name for name in before if name.startswith("shards/") and name.endswith(".vcf.gz"))[1]
    for name in (lost, MERGED, "_SUCCESS"):
        store.path(f"scored/{name}").unlink()
    with pytest.raises(UsageError, match="exists"):
        stages.score_callset(spark, ScoreRequest(remote.unlabelled, remote.model, scored, remote.config))
    stages.score_callset(spark, ScoreRequest(remote.unlabelled, remote.model, scored, remote.config, "resume"))
    after = store.objects("scored")
    # The row says how long the block took.
    row = f"manifest/{Path(lost).name.split('.')[0]}.json"
    assert {name for name in before if after[name] != before[name]} <= {row, "manifest.json", "blocks.tsv"}
    again = {name for name, at in store.changed("scored").items() if at != written.get(name)}
    shards = {name for name in again if "/shards/" in name and name.endswith(".vcf.gz")}
    assert {Path(name).name for name in shards} == {Path(lost).name}


def test_an_overwritten_run_leaves_nothing_of_the_old_one(
    spark: SparkSession, store: Store, remote: Sample, scored: str, nothing_left: None
) -> None:
    store.path().fs.copy(f"{store.bucket}/scored", f"{store.bucket}/twice", recursive=True)
    blocks = dataclasses.replace(remote.config.blocks, records=10_000)
    larger = dataclasses.replace(remote.config, blocks=blocks)
    stages.score_callset(
        spark, ScoreRequest(remote.unlabelled, remote.model, store.url("twice"), larger, "overwrite", merge=False)
    )
    names = set(store.objects("twice"))
    assert "shards/block-000000.vcf.gz" in names and MERGED not in names
    assert not any("block-000002" in name for name in names)  # two contigs, two blocks


def test_filter_from_store_to_store(
    spark: SparkSession, sample: Sample, store: Store, scored: str, tmp_path: Path, nothing_left: None
) -> None:
    out = store.url("filtered.vcf.gz")
    result = stages.filter_callset(spark, scored, out, sample.config, FilterOptions(threshold=0.0))
    store.path("scored").fs.get(f"{store.bucket}/scored/{MERGED}", str(tmp_path / MERGED))
    pysam.tabix_index(str(tmp_path / MERGED), preset="vcf")
    stages.filter_callset(
        spark, str(tmp_path / MERGED), str(tmp_path / "f.vcf.gz"), sample.config, FilterOptions(threshold=0.0)
    )
    assert result["counts"]["passed"] and result["counts"]["filtered"]
    assert store.path("filtered.vcf.gz").read_bytes() == (tmp_path / "f.vcf.gz").read_bytes()
    assert store.path("filtered.vcf.gz.tbi").read_bytes() == (tmp_path / "f.vcf.gz.tbi").read_bytes()
    assert not [name for name in store.objects() if ".work-" in name]
    with pytest.raises(UsageError, match="exists"):
        stages.filter_callset(spark, scored, out, sample.config, FilterOptions(threshold=0.0))


def test_a_plain_callset_is_copied_to_the_store_while_the_work_lasts(
    spark: SparkSession, sample: Sample, store: Store, scored: str, tmp_path: Path, nothing_left: None
) -> None:
    plain = tmp_path / "plain.vcf"
    plain.write_bytes(gzip.decompress(store.path(f"scored/{MERGED}").read_bytes()))
    results = {}
    for vcf, name in ((store.put(plain, "in/plain.vcf"), "plain.vcf.gz"), (scored, "indexed.vcf.gz")):
        stages.filter_callset(spark, vcf, store.url(name), sample.config, FilterOptions(threshold=0.0))
        results[name] = store.path(name).read_bytes()
    assert results["plain.vcf.gz"] == results["indexed.vcf.gz"]
    assert not [name for name in store.objects() if "callset-" in name]


def test_tensors_and_training_from_and_to_the_store(
    spark: SparkSession, sample: Sample, store: Store, remote: Sample, tmp_path: Path, nothing_left: None
) -> None:
    data = store.url("tensors")
    stages.build_dataset(spark, remote.paths, data, sample.config)
    assert Dataset(data).card["sha256"] == Dataset(sample.dataset).card["sha256"]
    said: list[str] = []
    train(spark, data, store.url("model"), remote.config.train, said.append)
    assert any(line.startswith("epoch 2/2") for line in said)
    # The card says where its data lay; the weights are the same.
    assert read_card(store.url("model")).sha256 == read_card(sample.model).sha256
    assert set(store.objects("model")) == {"model.keras", "model.json", "history.json"}
    assert not [name for name in store.objects() if ".ckpt" in name]
    with pytest.raises(UsageError, match="exists"):
        train(spark, data, store.url("model"), remote.config.train)


def test_evaluation_is_written_to_the_store(
    spark: SparkSession, store: Store, remote: Sample, scored: str, nothing_left: None
) -> None:
    paths = dataclasses.replace(remote.paths, vcf=scored, reads=None)
    found = stages.evaluate_callset(spark, EvaluationRequest(paths, store.url("evaluation"), remote.config))
    there = store.objects("evaluation")
    tables = {"strata.tsv", "thresholds.tsv", "calibration.tsv"}
    assert set(there) == {"metrics.txt", "metrics.json", "pictures.json", "report.html"} | tables
    assert json.loads(there["metrics.json"])["counts"] == found.counts


def test_a_plan_is_that_of_the_local_files(sample: Sample, remote: Sample, nothing_left: None) -> None:
    here, there = (plan_callset(paths, sample.config, "reads") for paths in (sample.unlabelled, remote.unlabelled))
    assert there == here


@pytest.mark.slow
def test_candidates_and_a_whole_run_with_a_model(
    spark: SparkSession, store: Store, remote: Sample, nothing_left: None
) -> None:
    paths = dataclasses.replace(remote.unlabelled, vcf=None)
    config = dataclasses.replace(remote.config, filter=FilterChoice(threshold=0.0))
    result = pipeline.run_all(spark, RunRequest(paths, store.url("run"), config, remote.model))
    there = store.objects("run")
    assert {"candidates.vcf.gz", "candidates.vcf.gz.tbi", "filtered.vcf.gz", "config.yaml"} <= set(there)
    assert result.merged == store.url(f"run/scored/{MERGED}") and f"scored/{MERGED}" in there
    written = store.changed("run")
    pipeline.run_all(spark, RunRequest(paths, store.url("run"), config, remote.model, "resume"))
    again = {Path(name).name for name, at in store.changed("run").items() if at != written[name]}
    assert not again & {"candidates.vcf.gz", "block-000000.vcf.gz"}


def test_a_sheet_on_the_store(
    spark: SparkSession, sample: Sample, store: Store, remote: Sample, tmp_path: Path, nothing_left: None
) -> None:
    """A sample whose name cannot be a folder's: htslib must also find what lies in it."""
    with pysam.BGZFile(str(sample.paths.vcf), "rb", None) as lines:
        text = b"".join(line + b"\n" for line in lines).decode()
    odd = tmp_path / "odd.vcf.gz"
    with pysam.BGZFile(str(odd), "wb", None) as out:
        out.write(text.replace("FORMAT\tSIM1\n", "FORMAT\todd name\n").encode())
    pysam.tabix_index(str(odd), preset="vcf")
    vcf = store.put(odd, "in/odd.vcf.gz")
    store.put(f"{odd}.tbi", "in/odd.vcf.gz.tbi")
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text(f"sample\tvcf\treads\nodd name\t{vcf}\tfile://{sample.paths.reads}\n")
    inputs = InputPaths(reference=remote.paths.reference)
    result = score_sheet(spark, str(sheet), ScoreRequest(inputs, remote.model, store.url("sheet"), remote.config))
    result.require_all()
    names = set(store.objects("sheet"))
    assert {"_SUCCESS", "samples.tsv", f"samples/odd%20name/{MERGED}"} <= names
    out = store.url("sheet/samples/odd%20name")
    found = stages.filter_callset(spark, out, store.url("odd.vcf.gz"), remote.config, FilterOptions(threshold=0.0))
    assert sum(found["counts"].values()) == result.outcomes[0].result["records"]
    assert (
        score_sheet(spark, str(sheet), ScoreRequest(inputs, remote.model, store.url("sheet"), remote.config, "resume"))
        .outcomes[0]
        .kept
    )


def test_no_credentials_in_anything_that_is_written(
    store: Store, scored: str, capfd: pytest.CaptureFixture[str]
) -> None:
    written = store.objects()
    assert len(written) > 20
    for name, content in written.items():
        text = content
        if name.endswith(".gz"):
            text = gzip.decompress(content)
        assert SECRET.encode() not in text and b"tester" not in text, name
    for url in (f"s3://tester:{SECRET}@{store.bucket}/out", f"https://h/x.vcf.gz?X-Amz-Signature={SECRET}"):
        with pytest.raises(UsageError, match="credentials") as refused:
            InputPaths(vcf=url).absolute()
        assert SECRET not in str(refused.value)
    assert SECRET not in "".join(capfd.readouterr())


def test_what_is_missing_is_said(spark: SparkSession, store: Store, remote: Sample, nothing_left: None) -> None:
    def score(out: str = store.url("nowhere"), model: str = remote.model, **changed: str) -> None:
        paths = dataclasses.replace(remote.unlabelled, **changed)
        stages.score_callset(spark, ScoreRequest(paths, model, out, remote.config))

    with pytest.raises(UsageError, match="bucket that does not exist"):
        score(out="s3://no-such-bucket/out")
    with pytest.raises(InputError, match="callset .* cannot be opened"):
        score(vcf=store.url("in/none.vcf.gz"))
    store.path("in/alone.vcf.gz").write_bytes(store.path("in/callset.vcf.gz").read_bytes())
    with pytest.raises(InputError, match="has no index"):
        score(vcf=store.url("in/alone.vcf.gz"))
    store.path("in/cut.vcf.gz").write_bytes(store.path("in/callset.vcf.gz").read_bytes()[:-28])
    store.path("in/cut.vcf.gz.tbi").write_bytes(store.path("in/callset.vcf.gz.tbi").read_bytes())
    with pytest.raises(InputError, match="truncated"):
        score(vcf=store.url("in/cut.vcf.gz"))
    with pytest.raises(InputError, match="not a model bundle"):
        score(model=store.url("in/nothing"))
    assert not store.path("nowhere").exists()


def test_a_changed_callset_is_another_run(spark: SparkSession, store: Store, remote: Sample, scored: str) -> None:
    callset = store.path("in/callset.vcf.gz")
    before = callset.read_bytes()
    try:
        # The same records in another file.
        callset.write_bytes(before[:-28] + before[-28:] * 2)
        with pytest.raises(UsageError, match="other inputs"):
            stages.score_callset(spark, ScoreRequest(remote.unlabelled, remote.model, scored, remote.config, "resume"))
    finally:
        callset.write_bytes(before)
