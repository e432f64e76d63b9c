"""Scores into records, and what the header says of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cnnspark.errors import InputError
from cnnspark.filtering.thresholds import card_threshold
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.models.card import Card
from cnnspark.models.input_drift import add_counts, known_values
from cnnspark.models.spec import ModelSpec
from cnnspark.scoring.output import annotate, score_header
from cnnspark.scoring.predict import input_counts
from cnnspark.tensors.schema import AlleleKey
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.variants.score_fields import GROUPS, format_score
from tests.tensors.test_batches import ragged

CARD = Card(
    model="reads",
    spec=ModelSpec(),
    thresholds={"SNP": {"0.90": 1.25, "0.99": None}},
    sensitivity_thresholds={"SNP": {"0.995": -1.5}},
    sha256="0123456789abcdef" * 4,
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
    assert "<ID=CNN_2D_SNP_sensitivity_0.995,Key=CNN_2D,Group=SNP,Sensitivity=0.995,Value=-1.500>" in text
    assert "0.99," not in text


def test_filtering_finds_the_thresholds_that_scoring_wrote() -> None:
    by_precision = {"SNP": {"0.90": 1.25}, "INDEL": {"0.90": 2.0}, "ALL": {"0.90": 3.0}}
    by_sensitivity = {"SNP": {"0.90": -4.0, "0.995": -5.0}, "INDEL": {"0.90": -6.0}}
    card = dataclasses.replace(CARD, thresholds=by_precision, sensitivity_thresholds=by_sensitivity)
    header = score_header(VcfHeader(["##fileformat=VCFv4.2", "#CHROM\tPOS"]), "x.vcf", card)
    assert [card_threshold(header, "CNN_2D", group, 0.9) for group in GROUPS] == [1.25, 2.0]
    assert [card_threshold(header, "CNN_2D", group, 0.9, "sensitivity") for group in GROUPS] == [-4.0, -6.0]


def test_a_models_inputs_are_counted_in_the_order_of_its_card() -> None:
    spec = ModelSpec(("QUAL", "INFO/DP"), ("gc_32",), ((0.0,) * 9,) * 2, ((0.0,) * 9,))
    tensors = ragged([1, 1, 1])
    tensors.annotations = np.array([[10, 3], [20, np.nan], [30, 9]], np.float32)
    # Of all that this version builds the model knows one.
    tensors.site_features = np.zeros((3, len(SITE_FEATURES)), np.float32)
    tensors.site_features[:, SITE_FEATURES.index("gc_32")] = [0.5, 0.5, 7]
    names = (*spec.annotation_names, *spec.feature_names)
    known = known_values(names, np.array([[10, 3, 0.5], [30, 5, 0.5]], np.float32))
    counts = add_counts(known, [input_counts(Card("features", spec, known=known), tensors)])
    assert [sum(each) for each in counts] == [3, 3, 3]
    assert (counts[0][0], counts[0][1], counts[0][-1]) == (0, 0, 0)
    assert (counts[1][0], counts[1][-1]) == (1, 1)  # one missing, and 9 is above 5
    assert counts[2] == [0, 0, 2, 1]
    # a model that uses no site features counts none of those that the tensors have
    few = Card("reference", dataclasses.replace(spec, feature_names=(), feature_edges=()))
    few = dataclasses.replace(few, known=known_values(names[:2], tensors.annotations))
    assert len(input_counts(few, tensors)) == 2
    assert input_counts(CARD, tensors) == []


def test_scoring_again_replaces_the_lines_of_the_last_time() -> None:
    first = score_header(VcfHeader(["##fileformat=VCFv4.2", "#CHROM\tPOS"]), "x.vcf", CARD)
    assert score_header(first, "x.vcf", CARD).text() == first.text()


def test_a_field_of_the_same_name_and_another_type_is_refused_with_a_remedy() -> None:
    lines = ["##fileformat=VCFv4.2", '##INFO=<ID=CNN_2D,Number=1,Type=String,Description="">', "#CHROM\tPOS"]
    with pytest.raises(InputError, match="bcftools annotate -x INFO/CNN_2D"):
        score_header(VcfHeader(lines), "x.vcf", CARD)
