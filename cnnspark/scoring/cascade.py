"""A run with a cascade of two models: which one scores first, and what header and records say about it.

The first model scores every allele. Alleles whose calibrated probability is inside the band of the card
(:mod:`cnnspark.scoring.cascade_band` chooses it) are scored again by the second model and get its score; the others
keep the first one's. Both are calibrated log odds, so that scores of both rank together. No Spark, no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnspark.errors import InputError, UsageError
from cnnspark.formats.vcf import VcfHeader, check_header_field
from cnnspark.models.card import Card, read_card, require_finished
from cnnspark.models.cascade import Band
from cnnspark.models.names import FIRST
from cnnspark.tensors.site_features import feature_columns
from cnnspark.variants.score_fields import STAGE, has_stages

# The networks that can come first and second: both take the same tensors, and one is 25 times as fast.
FIRST_MODEL, SECOND_MODEL = "features", "reads"
# Key in a block's counts: alleles (per carrier, in callsets of several samples) passed on to the second model.
PASSED_ON = "alleles passed on to the second model"


@dataclass(frozen=True)
class FirstStage:
    """The model that scores first: its bundle, network and digests, and the band that goes on to the second."""

    model: str
    name: str
    sha256: str  # of the network
    digest: str  # of the card, with the network
    band: Band

    def identity(self) -> dict[str, Any]:
        """What a run's scores depend on, as plain values."""
        return {
            "first": self.name,
            "first_sha256": self.sha256,
            "first_digest": self.digest,
            "low": self.band.low,
            "high": self.band.high,
        }


def first_stage(model: str, card: Card, wanted: bool | None) -> FirstStage | None:
    """The model that scores before ``model``, or None if it scores alone.

    Args:
        model: the bundle's path.
        card: its card.
        wanted: whether the run asks for a cascade; None leaves the choice to the card.

    Raises:
        UsageError: a cascade is asked for, and the bundle has no first model.
        InputError: the bundle is damaged, or expects a site feature that this version does not build.
    """
    if wanted is False or (wanted is None and not (card.cascade and card.cascade.by_default)):
        return None
    if card.cascade is None:
        require_second(model, card)
        raise UsageError(
            f"{model} has no first model that could score before it; make a bundle of both with 'cnnspark cascade', or "
            "leave --cascade out"
        )
    path = f"{model}/{FIRST}"
    first = read_card(path)
    if first.sha256 != card.cascade.first_sha256:
        raise InputError(f"{path} is not the model that the band of {model} was chosen for; copy the bundle again")
    require_pair(path, first, model, card)
    feature_columns(first.feature_names, path)
    return FirstStage(path, first.model, first.sha256, first.digest, card.cascade.band)


def refuse_untrained(wanted: bool | None) -> None:
    """Checks that no cascade is asked for with a model that the run itself will train.

    Raises:
        UsageError: it is.
    """
    if wanted:
        raise UsageError(
            "a model that is trained by this run has no other before it; make a bundle of both with 'cnnspark cascade' "
            "and give it with --model, or leave --cascade out"
        )


def require_second(model: str, card: Card) -> None:
    """Checks that another model can score before this one.

    Raises:
        UsageError: it cannot.
    """
    if card.model != SECOND_MODEL:
        raise UsageError(
            f"{model} is a '{card.model}' model, and a cascade is '{FIRST_MODEL}' before '{SECOND_MODEL}'; leave "
            "--cascade out"
        )


def require_pair(first_path: str, first: Card, model: str, card: Card) -> None:
    """Checks that both models take the same tensors.

    Raises:
        UsageError: they do not, or one is of the wrong kind or unfinished.
    """
    require_second(model, card)
    if first.model != FIRST_MODEL:
        raise UsageError(f"{first_path} is a '{first.model}' model; what comes first is '{FIRST_MODEL}'")
    require_finished(first, first_path)
    require_finished(card, model)

    def tensors(of: Card) -> dict[str, Any]:
        return {name: value for name, value in of.data.get("tensors", {}).items() if name != "on_ref_mismatch"}

    # Of the site features each takes those that it knows.
    for what, one, other in (
        ("annotations", first.annotation_names, card.annotation_names),
        ("settings of tensors", tensors(first), tensors(card)),
    ):
        if one != other:
            raise UsageError(
                f"{first_path} and {model} take other {what}; train both on the same datasets, the second with "
                "--init and the first's bundle"
            )
    if not first.feature_names:
        raise UsageError(f"{first_path} takes no site features; train it on a dataset that was built with --reads")


def header_with_stages(
    header: VcfHeader, path: str, first: FirstStage | None, card: Card, key: str, of_whom: str = ""
) -> VcfHeader:
    """Declares in the header which model scored an allele; with one model, removes an earlier run's declaration.

    Raises:
        InputError: the callset declares the field as something else.
    """
    header = header.without_lines(["##cnnspark_cascade=<"])
    if first is None:
        return header.without_lines([f"##INFO=<ID={STAGE},"]) if has_stages(header) else header
    check_header_field(header, path, STAGE, "A", "Integer")
    low, high = f"{first.band.low:g}", f"{first.band.high:g}"
    return header.with_lines(
        [
            f'##INFO=<ID={STAGE},Number=A,Type=Integer,Description="Which model {key} of each ALT is of: 1 '
            f"{first.name}, which scores all, 2 {card.model}, which scores those that {first.name} gives a probability "
            f'from {low} to {high}{of_whom}; missing where not scored">',
            f"##cnnspark_cascade=<ID={key},First={first.name},FirstSHA256={first.sha256},Second={card.model},"
            f"SecondSHA256={card.sha256},Low={low},High={high}>",
        ]
    )


def passed_on_text(counts: Mapping[str, int]) -> str:
    """How many alleles needed the second model, for the terminal; empty if there is one model."""
    if PASSED_ON not in counts:
        return ""
    of = counts.get("alleles scored, by sample", counts.get("alleles scored", 0))
    return f"{counts[PASSED_ON]} of them ({counts[PASSED_ON] / max(1, of):.1%}) passed on to '{SECOND_MODEL}'"
