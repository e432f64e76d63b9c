"""A callset of another caller: annotations that the model knows are not declared, others are. It trains and scores."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pysam
import pytest

from cnnspark import stages
from cnnspark.config import load_config
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.models.card import read_card
from cnnspark.stages.requests import ScoreRequest
from cnnspark.training import train
from cnnspark.variants.annotations import AnnotationReader
from tests.conftest import Sample, read_lines

pytestmark = pytest.mark.spark

DROPPED = ("MQ", "FS", "BaseQRankSum")


def of_another_caller(source: str, path: Path, declared: bool) -> str:
    """The callset without the annotations DROPPED, in records and, unless ``declared``, in the header; with one that
    no model knows."""
    written = []
    with pysam.BGZFile(source, "rb", None) as lines:
        for line in (x.decode("latin-1") for x in lines):
            if line.startswith("##"):
                if declared or not line.startswith(tuple(f"##INFO=<ID={name}," for name in DROPPED)):
                    written.append(line)
            elif line.startswith("#"):
                written += ['##INFO=<ID=ODDNESS,Number=1,Type=Float,Description="Of this caller alone">', line]
            else:
                columns = line.split("\t")
                kept = [item for item in columns[7].split(";") if item.split("=")[0] not in DROPPED]
                columns[7] = ";".join([*kept, "ODDNESS=1.5"])
                written.append("\t".join(columns))
    with pysam.BGZFile(str(path), "wb", None) as out:
        out.write("".join(f"{line}\n" for line in written).encode("latin-1"))
    pysam.tabix_index(str(path), preset="vcf")
    return str(path)


def scores(path: Path) -> list[str]:
    return [line.split("CNN_2D=")[1].split(";")[0] for line in read_lines(path)]


def test_what_the_header_does_not_declare_is_missing(sample: Sample, tmp_path: Path) -> None:
    source = VcfSource(of_another_caller(str(sample.paths.vcf), tmp_path / "other.vcf.gz", declared=False))
    reader = AnnotationReader(source.header, read_card(sample.model).annotation_names)
    values = dict(zip(reader.names, reader.values(Record(read_lines(tmp_path / "other.vcf.gz")[0]), 1), strict=True))
    assert all(math.isnan(values[f"INFO/{name}"]) for name in DROPPED)
    assert not math.isnan(values["INFO/DP"]) and not math.isnan(values["QUAL"])


def test_such_a_callset_is_scored_as_one_whose_values_are_missing(spark: Any, sample: Sample, tmp_path: Path) -> None:
    found = []
    for declared in (False, True):
        vcf = of_another_caller(str(sample.paths.vcf), tmp_path / f"other{declared}.vcf.gz", declared)
        paths = dataclasses.replace(sample.unlabelled, vcf=vcf)
        out = tmp_path / f"scored{declared}"
        stages.score_callset(spark, ScoreRequest(paths, sample.model, str(out), sample.config))
        found.append(scores(out / "merged.vcf.gz"))
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(tmp_path / "own"), sample.config))
    own = scores(tmp_path / "own" / "merged.vcf.gz")
    assert found[0] == found[1] and len(found[0]) == len(own)
    assert all(math.isfinite(float(score)) for score in found[0])
    # and what is missing does matter
    assert sum(a != b for a, b in zip(found[0], own, strict=True)) > len(own) / 2


def test_such_a_callset_trains_with_all_annotations_of_both(spark: Any, sample: Sample, tmp_path: Path) -> None:
    vcf = of_another_caller(str(sample.paths.vcf), tmp_path / "other.vcf.gz", declared=False)
    names = (*read_card(sample.model).annotation_names, "INFO/ODDNESS")
    config = load_config(
        None,
        [f"annotations=[{','.join(names)}]", "blocks.records=20", "train.model=features", "train.epochs=1",
         "train.validation=0.3", "train.batch_size=16"],
    )  # fmt: skip
    stages.build_dataset(spark, dataclasses.replace(sample.paths, vcf=vcf), str(tmp_path / "tensors"), config)
    card = train(spark, str(tmp_path / "tensors"), str(tmp_path / "model"), config.train).card
    missing = {found.name: found.missing_share for found in card.ranges}
    assert tuple(missing) == names
    assert all(missing[f"INFO/{name}"] == 1 for name in DROPPED) and missing["INFO/ODDNESS"] == 0
    assert 0.5 < card.metrics["AUPRC ALL"] <= 1
    # and the model scores the first caller's callset, which has what this one never saw
    out = tmp_path / "scored"
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, str(tmp_path / "model"), str(out), config))
    assert all(math.isfinite(float(score)) for score in scores(out / "merged.vcf.gz"))
