"""Scores into records, and what the header says of them."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspark.errors import InputError
from cnnspark.models.card import Card
from cnnspark.models.spec import ModelSpec
from cnnspark.schema import AlleleKey
from cnnspark.scoring import annotate, format_score, score_header
from cnnspark.vcf import Record, VcfHeader
from tests.test_batches import ragged

CARD = Card(
    model="reads", spec=ModelSpec(), thresholds={"SNP": {"0.90": 1.25, "0.99": None}}, sha256="0123456789abcdef" * 4
)


def test_each_alt_has_its_score_and_the_record_the_best() -> None:
    records = [
        Record("c\t5\t.\tA\tC,*,G\t.\t.\tDP=3", 0),
        Record("c\t6\t.\tA\t<DEL>\t.\t.\tDP=4;CNN_2D=9;CNN_ALT_SCORES=9", 1),
        Record("c\t7\t.\tA\tT\t.\t.\t.\tGT\t0/1", 2),
    ]
    tensors = ragged([1, 1, 1])
    tensors.keys = [
        AlleleKey("c", 4, "A", "C", 1, 0, 0),
        AlleleKey("c", 4, "A", "G", 3, 0, 0),
        AlleleKey("c", 6, "A", "T", 1, 2, 0),
    ]
    annotate(records, tensors, np.array([-1.23456, 2.0, -0.0001]), "CNN_2D")
    assert records[0].info == "DP=3;CNN_2D=2.000;CNN_ALT_SCORES=-1.235,.,2.000"
    assert records[1].info == "DP=4"  # the scores of an earlier run do not stay
    assert records[2].line() == "c\t7\t.\tA\tT\t.\t.\tCNN_2D=0.000;CNN_ALT_SCORES=0.000\tGT\t0/1"


@pytest.mark.parametrize(("value", "text"), [(None, "."), (-0.0, "0.000"), (16.11809, "16.118"), (-1.0005, "-1.000")])
def test_scores_have_three_decimals(value: float | None, text: str) -> None:
    assert format_score(value) == text


def test_the_header_says_scale_direction_model_and_thresholds() -> None:
    header = score_header(VcfHeader(["##fileformat=VCFv4.2", "#CHROM\tPOS"]), "x.vcf", CARD)
    text = header.text()
    assert (header.info["CNN_2D"].number, header.info["CNN_2D"].type) == ("1", "Float")
    assert header.info["CNN_ALT_SCORES"].number == "A"
    for said in ("higher is more likely true", "-16.118", "model reads", CARD.sha256, "Precision=0.90,Value=1.250"):
        assert said in text
    assert "0.99" not in text


def test_scoring_again_replaces_the_lines_of_the_last_time() -> None:
    first = score_header(VcfHeader(["##fileformat=VCFv4.2", "#CHROM\tPOS"]), "x.vcf", CARD)
    assert score_header(first, "x.vcf", CARD).text() == first.text()


def test_a_field_of_the_same_name_and_another_type_is_refused_with_a_remedy() -> None:
    lines = ["##fileformat=VCFv4.2", '##INFO=<ID=CNN_2D,Number=1,Type=String,Description="">', "#CHROM\tPOS"]
    with pytest.raises(InputError, match="bcftools annotate -x INFO/CNN_2D"):
        score_header(VcfHeader(lines), "x.vcf", CARD)
