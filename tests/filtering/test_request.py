"""What the options of ``filter`` ask for, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from cnnspark.errors import UsageError
from cnnspark.filtering.request import FilterOptions, FilterRequest, Way, threshold_by_fdr
from cnnspark.filtering.score_distribution import ScoreCounts
from tests.filtering.test_thresholds import HEADER


def request(snp: dict | None = None, indel: dict | None = None, **both: Any) -> FilterRequest:
    tranches = {f"{kind}_tranches": values for kind, values in both.pop("tranches", {}).items()}
    return FilterRequest.of(FilterOptions(**both, snp=snp or {}, indel=indel or {}, **tranches))


def ways(made: FilterRequest) -> dict[str, tuple[str, float]]:
    return {group: (way.name, way.value) for group, way in made.ways.items()}


def test_a_way_for_one_type_goes_before_that_for_both() -> None:
    assert ways(request(precision=0.9)) == {"SNP": ("precision", 0.9), "INDEL": ("precision", 0.9)}
    assert ways(request(precision=0.9, indel={"fdr": 0.1})) == {"SNP": ("precision", 0.9), "INDEL": ("fdr", 0.1)}
    assert ways(request(snp={"threshold": -1.5, "fdr": None})) == {"SNP": ("threshold", -1.5)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give one of --threshold, --precision, --sensitivity and --fdr, or --resource"),
        ({"precision": 0.9, "threshold": 0.0}, "give one of --threshold and --precision"),
        ({"snp": {"precision": 0.9, "fdr": 0.1}}, "give one of --snp-precision and --snp-fdr"),
        ({"fdr": 1.5}, "--fdr is 1.5; give a number between 0 and 1"),
        ({"indel": {"sensitivity": 0.0}}, "--indel-sensitivity is 0;"),
        ({"indel": {"threshold": float("inf")}}, "--indel-threshold is inf; give a number"),
        ({"tranches": {"snp": (99.0,)}}, "--snp-tranche needs --resource"),
        ({"threshold": 0.0, "tranches": {"indel": (99.0,)}}, "--indel-tranche needs --resource"),
        ({"threshold": 0.0, "resources": ["k.vcf.gz"]}, "--resource .tranches. excludes --threshold"),
        ({"resources": ["k.vcf.gz"], "tranches": {"snp": (100.0,)}}, "--snp-tranche is 100; give a percentage"),
    ],
)
def test_what_contradicts_itself_is_said(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        request(**options)


def test_resources_go_with_the_usual_tranches() -> None:
    made = request(resources=["k.vcf.gz"], tranches={"snp": (), "indel": (99.0, 90.0)})
    assert (made.tranches.snp, made.tranches.indel) == ((99.95,), (90.0, 99.0))
    assert made.resources[0].startswith("/") and not made.ways


def test_numbers_and_the_cards_thresholds_are_known_before_the_work() -> None:
    made = request(precision=0.9, indel={"threshold": 2.0})
    assert made.check(HEADER, "CNN_2D") == {"SNP": 0.5, "INDEL": 2.0}
    assert request(snp={"precision": 0.99}).check(HEADER, "CNN_2D") == {"SNP": 3.0}
    with pytest.raises(UsageError, match="no INDEL threshold"):
        request(precision=0.99).check(HEADER, "CNN_2D")


def test_a_false_discovery_rate_needs_probabilities() -> None:
    assert request(fdr=0.1).check(HEADER, "CNN_2D") == {}
    with pytest.raises(UsageError, match="--fdr needs probabilities, which QUAL does not say"):
        request(fdr=0.1).check(HEADER, "QUAL")


def test_imported_weights_have_no_calibration_to_go_by() -> None:
    """GATK's networks that cnnspark trained have one, and thresholds in the header."""
    imported = HEADER.without_lines(["##cnnspark_threshold="]).with_lines(
        ["##cnnspark_model=<ID=CNN_2D,Version=1,Model=gatk_2d,ModelSHA256=0a>"]
    )
    for way in ("fdr", "precision", "sensitivity"):
        with pytest.raises(UsageError, match=f"'gatk_2d' with imported weights.* for --indel-{way}; give --resource "):
            request(snp={"threshold": 1.0}, indel={way: 0.1}).check(imported, "CNN_2D")
    assert request(threshold=1.0).check(imported, "CNN_2D") == {"SNP": 1.0, "INDEL": 1.0}
    assert request(fdr=0.1).check(imported, "CNN_1D") == {}
    trained = HEADER.with_lines(["##cnnspark_model=<ID=CNN_2D,Version=1,Model=gatk_2d,ModelSHA256=0a>"])
    assert request(fdr=0.1).check(trained, "CNN_2D") == {}


def test_a_rate_that_cannot_be_reached_names_the_least() -> None:
    scores = ScoreCounts.of([0.0, -1.0])
    assert threshold_by_fdr(scores, "SNP", Way("fdr", 0.6, "--fdr")) == 0.0
    assert threshold_by_fdr(ScoreCounts.of([]), "SNP", Way("fdr", 0.6, "--fdr")) is None
    with pytest.raises(UsageError, match="of 0.01 .the least is 0.5.; choose a larger --indel-fdr"):
        threshold_by_fdr(scores, "INDEL", Way("fdr", 0.01, "--fdr"))
