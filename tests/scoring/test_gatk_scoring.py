"""GATK's networks take the record's own annotations, of however many samples it is; what is missing is said by name."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pysam
import pytest

from cnnspark.cli import main
from cnnspark.execution.blocks import Block
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfHeader
from cnnspark.models.card import Card
from cnnspark.models.spec import ModelSpec
from cnnspark.scoring.missing_annotations import header_warnings, missing_counts, run_warnings
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.tensors.block_tensors import BlockTensors, Inputs
from cnnspark.tensors.carrier_tensors import CarrierTensors
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.annotations import GATK_ANNOTATIONS
from cnnspark.variants.carriers import Member
from tests.conftest import read_lines

GATK, OWN = TensorSettings(encoding="gatk"), TensorSettings()
DECLARED = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=c1,length=300>",
    *(f'##INFO=<ID={name},Number=1,Type=Float,Description="x">' for name in GATK_ANNOTATIONS),
    *(
        f'##FORMAT=<ID={name},Number=1,Type={kind},Description="x">'
        for name, kind in (("GT", "String"), ("DP", "Integer"))
    ),
]
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"
ANNOTATED = "MQ=60;DP=90;SOR=.5;FS=1;QD=20;MQRankSum=-1;ReadPosRankSum=2"


def plan(tensors: TensorSettings) -> ScoringPlan:
    card = Card("gatk_1d", ModelSpec(annotation_names=GATK_ANNOTATIONS))
    return ScoringPlan("model", card, tensors, ScoreSettings())


@pytest.fixture
def joint(tmp_path: Path) -> Inputs:
    """Two records of three samples; nobody carries the second one's ALT."""
    (tmp_path / "ref.fa").write_text(">c1\n" + "ACGTT" * 60 + "\n")
    pysam.faidx(str(tmp_path / "ref.fa"))
    lines = [
        f"c1\t101\t.\tA\tC\t.\t.\t{ANNOTATED}\tGT:DP\t0/0:30\t0/1:31\t1/1:29",
        "c1\t151\t.\tA\tC,G\t.\t.\tMQ=60;DP=.;FS=nan\tGT:DP\t0/0:30\t0/0:31\t./.:29",
    ]
    with pysam.BGZFile(str(tmp_path / "joint.vcf.gz"), "wb", None) as out:
        out.write("\n".join([*DECLARED, COLUMNS + "S1\tS2\tS3", *lines, ""]).encode())
    pysam.tabix_index(str(tmp_path / "joint.vcf.gz"), preset="vcf")
    return Inputs(str(tmp_path / "joint.vcf.gz"), None, str(tmp_path / "ref.fa"))


def test_for_gatks_networks_a_carriers_annotations_are_those_of_the_record(joint: Inputs) -> None:
    members = (Member("S2", ""), Member("S3", ""))
    for settings, expected in ((GATK, [60, 90, 0.5, 1, 20, -1, 2]), (OWN, [np.nan, 31, *[np.nan] * 5])):
        source = CarrierTensors(dataclasses.replace(joint, members=members), GATK_ANNOTATIONS, settings, 20)
        alleles, batch = source.named([], Block(0, Region("c1")))
        assert alleles == [(0, 1), (0, 1)]
        np.testing.assert_array_equal(batch.annotations[0], np.float32(expected))
        # FORMAT/DP is the sample's own, INFO/DP the same for both.
        assert batch.annotations[1, 1] == (90 if settings is GATK else 29)


def test_annotations_that_records_lack_are_counted_for_gatks_networks(joint: Inputs) -> None:
    source, block = BlockTensors(joint, GATK_ANNOTATIONS, GATK), Block(0, Region("c1"))
    batch, _ = source.build(source.records(block), block)
    np.testing.assert_array_equal(batch.annotations[0], np.float32([60, 90, 0.5, 1, 20, -1, 2]))
    without = {f"alleles scored without {name}": 2 for name in GATK_ANNOTATIONS if name != "MQ"}
    assert missing_counts(plan(GATK), batch) == Counter(without)
    assert not missing_counts(plan(OWN), batch)


def test_what_the_header_lacks_or_declares_as_text_is_named_once() -> None:
    text = [line.replace("ID=FS,Number=1,Type=Float", "ID=FS,Number=1,Type=String") for line in DECLARED]
    header = VcfHeader([*(line for line in text if "=SOR," not in line and "=QD," not in line), COLUMNS + "S1\tS2"])
    as_text = (
        "a.vcf declares FS as String, so the model counts it as missing; if the values are numbers, declare them as "
        "Float ('bcftools reheader')"
    )
    assert list(header_warnings(plan(GATK), header, "a.vcf")) == [
        as_text,
        "a.vcf does not declare SOR, QD: the score is made with 0, as in GATK; add them with GATK's VariantAnnotator, "
        "or score with another model",
    ]
    alone = VcfHeader([*text, COLUMNS + "S1"])
    assert list(header_warnings(plan(OWN), alone, "a.vcf")) == [as_text]
    assert not list(header_warnings(plan(GATK), VcfHeader([*DECLARED, COLUMNS + "S1"]), "a.vcf"))


def test_what_many_records_lack_is_named_but_rank_sums_only_where_none_has_one() -> None:
    """Records without a read of REF have no rank sum."""
    header = VcfHeader([*DECLARED, COLUMNS + "S1"])

    def said(**missing: int) -> list[str]:
        counts = {f"alleles scored without {name}": n for name, n in missing.items()} | {"alleles scored": 100}
        return list(run_warnings(plan(GATK), header, "a.vcf", counts))

    assert not said() and not said(MQ=5, MQRankSum=99)
    assert said(MQ=6, DP=100, ReadPosRankSum=100) == [
        "of 100 scored alleles a.vcf has no MQ at 6, DP at 100, ReadPosRankSum at 100: the score is made with 0 there, "
        "as in GATK; add them with GATK's VariantAnnotator, or score with another model"
    ]
    undeclared = VcfHeader([*(line for line in DECLARED if "=MQ," not in line), COLUMNS + "S1"])
    assert not list(
        run_warnings(plan(GATK), undeclared, "a.vcf", {"alleles scored": 9, "alleles scored without MQ": 9})
    )


def test_a_model_without_reads_scores_every_record_of_a_joint_callset(
    joint: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the same records with the column of a sample that carries none of them."""
    from cnnspark.models.gatk_weights.importer import gatk_bundle
    from tests.models.networks.test_gatk import random_arrays

    gatk_bundle("gatk_1d", random_arrays("gatk_1d"), tmp_path / "model")
    one = str(tmp_path / "one.vcf.gz")
    with pysam.BGZFile(one, "wb", None) as out:
        lines = ["\t".join(line.split("\t")[:10]) for line in read_lines(joint.vcf)]
        out.write("\n".join([*DECLARED, COLUMNS + "S1", *lines, ""]).encode())
    pysam.tabix_index(one, preset="vcf")
    common = ["score", "--reference", joint.reference, "--model", str(tmp_path / "model"), "--local"]
    more = ["--reads", str(tmp_path / "none.bam"), "--sample", "S2"]
    assert main([*common, "--vcf", joint.vcf, *more, "--out", str(tmp_path / "joint")]) == 0
    said = capsys.readouterr().err
    assert f"the model {tmp_path}/model looks at no reads; those that were given are not used\n" in said
    assert "--sample is not used" in said and "annotations are those that FORMAT has" not in said
    assert "has no DP at 2, SOR at 2" in said  # of the record with two ALTs
    assert main([*common, "--vcf", one, "--out", str(tmp_path / "one")]) == 0
    together, alone = (read_lines(tmp_path / name / "merged.vcf.gz") for name in ("joint", "one"))
    assert ["\t".join(line.split("\t")[:10]) for line in together] == alone
    assert all("CNN_1D=" in line and "CNN_ALT_SCORES=" in line for line in alone)
