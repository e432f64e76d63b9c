"""Annotations that a model asks for and a callset lacks: counted while it is scored, and said once by name.

GATK's networks take 0 for a missing annotation: a callset without MQ gets scores as if all its reads mapped anywhere.
Other models know that a value is missing, and the comparison with their training data says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from cnnspark.common.log import listed
from cnnspark.formats.vcf import VcfHeader
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.tensors.schema import TensorBatch
from cnnspark.variants.annotations import AnnotationReader, declared_as_text

_WITHOUT = "alleles scored without "
# They compare the reads of REF with those of the ALT, so a caller has none where all reads show the ALT.
_RANK_SUM = "RankSum"
# Of other annotations: the share of alleles without it from which a run warns.
_WARNED_SHARE = 0.05
_REMEDY = "add them with GATK's VariantAnnotator, or score with another model"


def missing_counts(plan: ScoringPlan, batch: TensorBatch) -> Counter[str]:
    """How many of a block's alleles lack each annotation, for its row; empty for models that are not GATK's."""
    if not plan.missing_is_zero:
        return Counter()
    missing = np.isnan(batch.annotations).sum(axis=0).tolist()
    return Counter({_WITHOUT + name: n for name, n in zip(plan.card.annotation_names, missing, strict=True) if n})


def header_warnings(plan: ScoringPlan, header: VcfHeader, vcf: str) -> Iterator[str]:
    """What the header alone says: fields that are declared as text, and for GATK's networks those that it lacks.

    Args:
        plan: how the run scores.
        header: the callset's.
        vcf: what messages call the callset.
    """
    lacking = _without_field(plan, header)
    text = [f"{name} as {kind}" for name in lacking if (kind := declared_as_text(header, name))]
    if text:
        yield (
            f"{vcf} declares {listed(text, 7)}, so the model counts it as missing; if the values are numbers, declare "
            "them as Float ('bcftools reheader')"
        )
    undeclared = [name for name in lacking if not declared_as_text(header, name)]
    if undeclared and plan.missing_is_zero:
        yield f"{vcf} does not declare {listed(undeclared, 7)}: the score is made with 0, as in GATK; {_REMEDY}"


def run_warnings(plan: ScoringPlan, header: VcfHeader, vcf: str, counts: Mapping[str, int]) -> Iterator[str]:
    """What the records say: the annotations that the header declares and many scored alleles lack.

    Args:
        plan: how the run scores.
        header: the callset's.
        vcf: what messages call the callset.
        counts: of the run.
    """
    scored = counts.get("alleles scored, by sample", counts.get("alleles scored", 0))
    known = _without_field(plan, header)
    lacking = []
    for name in plan.card.annotation_names:
        missing = counts.get(_WITHOUT + name, 0)
        most = scored - 1 if name.endswith(_RANK_SUM) else _WARNED_SHARE * scored
        if missing > most and name not in known:
            lacking.append(f"{name} at {missing}")
    if lacking:
        yield (
            f"of {scored} scored alleles {vcf} has no {listed(lacking, 7)}: the score is made with 0 there, as in "
            f"GATK; {_REMEDY}"
        )


def _without_field(plan: ScoringPlan, header: VcfHeader) -> tuple[str, ...]:
    by_sample = len(header.samples) > 1 and plan.tensors.annotations_by_sample
    return AnnotationReader(header, plan.card.annotation_names, by_sample, text_is_missing=True).without_field
