"""GATK's networks with given weights against what NVScoreVariants made of the same callset, reads and weights."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspark import stages
from cnnspark.config import Config, InputPaths
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.models.gatk_weights.importer import gatk_bundle
from cnnspark.models.networks.gatk import GATK_ROWS, GatkReadTensor
from cnnspark.models.networks.layers import RowMask
from cnnspark.stages.requests import ScoreRequest
from cnnspark.tensors.batches import pad_rows
from cnnspark.tensors.builder import build_tensors
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.annotations import GATK_ANNOTATIONS, AnnotationReader
from tests.conftest import read_lines

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def paths(data: Path) -> InputPaths:
    folder = data / "real" / "HG002"
    return InputPaths(
        vcf=str(folder / "HG002.gatk-style.vcf.gz"),
        reads=str(folder / "HG002.20.bam"),
        reference=str(folder / "ref.b37.20.fa.gz"),
    )


def test_the_read_tensors_are_the_reference_implementations(data: Path, paths: InputPaths) -> None:
    expected = np.load(data / "oracle" / "HG002.read_tensors.npz")
    with VcfSource(str(paths.vcf)) as vcf, ReadSource(str(paths.reads)) as reads:
        records = list(vcf.records(Region("20")))
        chosen = [records[i] for i in expected["index"]]
        reader = AnnotationReader(vcf.header, GATK_ANNOTATIONS)
        genome = ReferenceSource(str(paths.reference))
        batch, _ = build_tensors(chosen, reads, genome, TensorSettings(encoding="gatk"), reader, "HG002", None)
    first = [i for i, key in enumerate(batch.keys) if key.alt_index == 1]
    assert [batch.keys[i].record_index for i in first] == expected["index"].tolist()
    fields = pad_rows(batch, first)
    mask = RowMask()(fields["row_count"], fields["read_flags"])
    per_read = [fields[name] for name in ("read_bases", "read_quals", "read_flags", "read_mapqs")]
    tensors = np.asarray(GatkReadTensor(GATK_ROWS)(*per_read, fields["reference"], mask))
    assert tensors.shape == expected["tensor"].shape == (24, 128, 128, 15)
    np.testing.assert_allclose(tensors, expected["tensor"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.nan_to_num(fields["annotations"]), expected["annotations"], rtol=1e-6)


@pytest.mark.spark
@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_every_record_has_the_reference_implementations_score(
    spark: Any, data: Path, paths: InputPaths, tmp_path: Path, kind: str
) -> None:
    arrays = dict(np.load(data / "oracle" / f"gatk_{kind}.npz"))
    gatk_bundle(f"gatk_{kind}", arrays, tmp_path / "model", source=f"gatk_{kind}.npz")
    if kind == "1d":
        paths = InputPaths(vcf=paths.vcf, reference=paths.reference)
    stages.score_callset(spark, ScoreRequest(paths, str(tmp_path / "model"), str(tmp_path / "out"), Config()))
    with open(data / "oracle" / f"HG002.scores_{kind}.tsv") as table:
        expected = list(csv.DictReader(table, delimiter="\t"))
    records = [Record(line) for line in read_lines(tmp_path / "out" / "merged.vcf.gz")]
    assert [(r.contig, str(r.start + 1), r.ref) for r in records] == [
        (e["contig"], e["pos"], e["ref"]) for e in expected
    ]
    scores = np.array([float(r.info_value(f"CNN_{kind.upper()}") or "nan") for r in records])
    # Asked for are 0.01 on 99.5 % of them; all agree except for the third decimal's rounding.
    np.testing.assert_allclose(scores, [float(e["score"]) for e in expected], rtol=0, atol=0.0011)
    assert len(scores) == 492 and scores.std() > 0.5
    # One score for the whole record, whichever the ALT.
    assert all(len(set(str(r.info_value("CNN_ALT_SCORES")).split(","))) == 1 for r in records)
