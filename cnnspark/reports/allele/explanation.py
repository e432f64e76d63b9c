"""Explains one call: its score, how its inputs compare with the training data, what moves the score, what is nearby.

The allele is scored by the same code and on the same records as in ``cnnspark score``, so the score is the one in the
scored callset. TensorFlow is loaded for it; Spark is not needed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnspark.execution.blocks import Block
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, number_or_nan
from cnnspark.models.bundle_files import notice
from cnnspark.models.calibration import Platt, probabilities
from cnnspark.models.card import Card, read_card
from cnnspark.reports.allele.input_familiarity import Familiar, familiar_inputs
from cnnspark.reports.allele.occlusion import SUPPORT_NAMES, Effect, InputEffect, effects, occlusions
from cnnspark.reports.allele.site import Site, model_digest
from cnnspark.reports.allele.tensor_columns import positions_of
from cnnspark.scoring.cascade import FirstStage, first_stage
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.predict import known_features, loaded_model, predicted_scores, predictor
from cnnspark.tensors.schema import TensorBatch
from cnnspark.variants.alleles import VariantType, unscorable_reason
from cnnspark.variants.score_fields import ALT_SCORES, FORMAT_KEY, STAGES, has_stages

_REVERSE_FLAG = 0x10
_UNKNOWN_MAPQ = 255


def explain_site(site: Site, plan: ScoringPlan) -> dict[str, Any]:
    """Scores the allele and finds out what moves its score.

    Args:
        site: The allele, with the records around it.
        plan: How the callset is scored.

    Returns:
        Everything that the page shows except the picture, as plain values ready for JSON (docs/formats.md,
        "Explanation").
    """
    model, card, settings, first = plan.model, plan.card, plan.settings, _first_stage(site, plan)
    predicted = predictor(replace(plan, first=first))(site.tensors, _block_of(site.tensors))
    stage = None if predicted.stages is None else int(predicted.stages[site.index])
    # What moves a score is asked of the model that gave it; thresholds are those of the callset's model.
    asked, asked_card = model, card
    if first is not None and stage == STAGES[0]:
        asked, asked_card = first.model, read_card(first.model)
    bundle = loaded_model(asked, asked_card.digest, settings.threads)
    one = site.tensors.take([site.index])
    inputs = familiar_inputs(asked_card, one.annotations[0], known_features(asked_card, one)[0])
    parts, batch = occlusions(one, inputs, bundle.inputs)
    hidden, of_inputs = effects(parts, predicted_scores(bundle, batch, settings.batch_size, _block_of(batch)))
    score = float(predicted.scores[site.index])
    return {
        **_allele_values(site, asked_card, score),
        "key": asked_card.score_key,
        "stored": _stored(site, card),
        "filters": _filters(site),
        "thresholds": _thresholds(card, VariantType(site.tensors.keys[site.index].variant_type).group, score),
        "model": {
            "path": asked,
            "name": asked_card.model,
            "sha256": asked_card.sha256,
            "stage": stage,
            "notice": notice(model),
            **_model_sees(asked_card, bundle.inputs),
        },
        "effects": [_effect(each) for each in hidden if each.part.kind in ("reads", "inputs")],
        "reads_one_by_one": [_read_effect(each, one) for each in hidden if each.part.kind == "read"],
        "columns": [_columns_effect(each, one) for each in hidden if each.part.kind == "columns"],
        "inputs": _input_rows(inputs, {each.name: each for each in of_inputs}),
        "neighbours": _neighbours(site, predicted.scores),
    }


def _first_stage(site: Site, plan: ScoringPlan) -> FirstStage | None:
    """The first model of a cascade: for a scored callset as its header says, otherwise as a run would use it."""
    if model_digest(site.header.lines) != plan.card.sha256:
        return plan.first
    return first_stage(plan.model, plan.card, True) if has_stages(site.header) and plan.card.cascade else None


def _block_of(tensors: TensorBatch) -> Block:
    """A block to name in messages about these tensors."""
    return Block(0, Region(tensors.keys[0].contig, tensors.keys[0].start, tensors.keys[0].start + 1))


def _allele_values(site: Site, card: Card, score: float) -> dict[str, Any]:
    """What the allele is, and its score."""
    key = site.tensors.keys[site.index]
    kind = VariantType(key.variant_type)
    return {
        "contig": key.contig,
        "pos": site.record.start + 1,
        "ref": site.record.ref,
        "alt": site.record.alts[site.alt_number - 1],
        "alts": list(site.alts),
        "type": kind.name,
        "group": kind.group,
        "score": round(score, 6),
        "probability": float(probabilities(np.array(score))),
        "calibrated": card.calibration != Platt(),
    }


def _model_sees(card: Card, uses: Collection[str]) -> dict[str, Any]:
    """What the model looks at (``uses``: fields of tensors), and whether its card describes the training data."""
    return {
        "encoding": card.data.get("tensors", {}).get("encoding", "cnnspark"),
        "sees_reads": "read_bases" in uses,
        "sees_window": "reference" in uses,
        "sees_site_features": "site_features" in uses,
        "sees_annotations": "annotations" in uses,
        "knows_training": card.known is not None,
    }


def _stored(site: Site, card: Card) -> dict[str, Any] | None:
    """The allele's score in the callset, and whether the header names this model; None without a score."""
    text = _stored_text(site, site.record, site.alt_number, card.score_key)
    value = number_or_nan(text)
    if not math.isfinite(value):
        return None
    digest = model_digest(site.header.lines)
    return {"score": value, "model_sha256": digest, "same_model": digest == card.sha256}


def _stored_text(site: Site, record: Record, number: int, key: str) -> str:
    """The text of an ALT's score: the sample's own if the callset has scores by sample; empty without a score."""
    if FORMAT_KEY in site.header.format and site.sample in site.header.samples and len(site.header.samples) > 1:
        texts = record.format_values(site.header.samples.index(site.sample)).get(FORMAT_KEY, "").split(",")
    elif key in site.header.info:
        texts = (record.info_value(ALT_SCORES) or "").split(",")
    else:
        return ""
    return texts[number - 1] if number <= len(texts) else ""


def _filters(site: Site) -> list[dict[str, str]]:
    """The record's FILTERs with the header's descriptions."""
    found = []
    for name in site.record.filter.split(";"):
        declared = site.header.filters.get(name)
        said = re.search(r'Description="((?:[^"\\]|\\.)*)"', declared.line) if declared else None
        found.append({"name": name, "description": said[1] if said else ""})
    return found


def _thresholds(card: Card, group: str, score: float) -> list[dict[str, Any]]:
    """The card's thresholds for the allele's group, or those for all alleles, and whether the score reaches them."""
    rows = []
    for kind, by_group in (("precision", card.thresholds), ("sensitivity", card.sensitivity_thresholds)):
        for share in sorted({share for each in by_group.values() for share in each}):
            of_type = by_group.get(group, {}).get(share)
            value = of_type if of_type is not None else by_group.get("ALL", {}).get(share)
            if value is not None:
                whose = group if of_type is not None else "ALL"
                rows.append(
                    {"kind": kind, "share": float(share), "group": whose, "threshold": value, "reached": score >= value}
                )
    return rows


def _effect(each: Effect) -> dict[str, Any]:
    return {
        "name": each.part.name,
        "kind": each.part.kind,
        "reads": len(each.part.rows) if each.part.kind == "reads" else None,
        "inputs": list(each.part.inputs),
        **_scored(each),
    }


def _scored(each: Effect) -> dict[str, float]:
    return {"score": round(each.score, 6), "change": round(each.change, 6)}


def _read_effect(each: Effect, one: TensorBatch) -> dict[str, Any]:
    """One read: its row in the tensor and its place among those with the same support, both from 1; the effect."""
    (row,) = each.part.rows
    support = int(one.read_support[row])
    quality = int(one.read_mapqs[row])
    return {
        "row": row + 1,
        "among": int((one.read_support[: row + 1] == support).sum()),
        "support": SUPPORT_NAMES[support],
        "strand": "reverse" if one.read_flags[row] & _REVERSE_FLAG else "forward",
        "mapping_quality": None if quality == _UNKNOWN_MAPQ else quality,
        **_scored(each),
    }


def _columns_effect(each: Effect, one: TensorBatch) -> dict[str, Any]:
    assert each.part.columns is not None
    first, last = positions_of(one.reference[0], one.keys[0].start, each.part.columns)
    return {"columns": list(each.part.columns), "from": first, "to": last, **_scored(each)}


def _input_rows(inputs: Sequence[Familiar], of_inputs: Mapping[str, InputEffect]) -> list[dict[str, Any]]:
    """A row for each annotation and site feature; those that move the score most come first."""
    rows = []
    for each in inputs:
        row = dataclasses.asdict(each) | {"edges": list(each.edges), "shares": list(each.shares)}
        moved = of_inputs.get(each.name)
        row["effect"] = None if moved is None else {k: v for k, v in dataclasses.asdict(moved).items() if k != "name"}
        rows.append(row)
    return sorted(rows, key=lambda row: -abs(row["effect"]["change"]) if row["effect"] else 0.0)


def _neighbours(site: Site, scores: np.ndarray) -> list[dict[str, Any]]:
    """The alleles of the nearest records in the callset's order, including the one that is explained."""
    of_allele = dict(zip(site.alleles, scores, strict=True))
    rows = []
    for record in site.records:
        for number, alt in enumerate(record.alts, 1):
            score = of_allele.get((record.index, number))
            here = (record.index, number) == (site.record.index, site.alt_number)
            why = None if score is not None else unscorable_reason(record.ref, alt) or "not scored in this sample"
            rows.append(
                {
                    "pos": record.start + 1,
                    "distance": record.start - site.record.start,
                    "ref": record.ref,
                    "alt": alt,
                    "qual": record.qual,
                    "filter": record.filter,
                    "score": None if score is None else round(float(score), 6),
                    "why_not": why,
                    "here": here,
                }
            )
    return rows
