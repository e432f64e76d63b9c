"""The sentences of an explanation, from its values (:func:`cnnspark.stages.explain.explain`). No TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cnnspark.common.log import listed
from cnnspark.reports.allele.input_familiarity import OUTSIDE, UNUSUAL

# A VCF has scores with three decimals; if they differ more, the inputs were not the same.
SAME_SCORE = 0.001


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The page's summary, the verdict first; ``found`` are the explanation's values."""
    said = [_score_sentence(found)]
    if (stage := found["model"].get("stage")) is not None:
        name = found["model"]["name"]
        which = f"first of two models, '{name}', which was certain" if stage == 1 else f"second of two models, '{name}'"
        said.append(f"It comes from the {which}.")
    if text := _threshold_sentence(found):
        said.append(text)
    filters = [each["name"] for each in found["filters"]]
    if filters == ["PASS"]:
        said.append("FILTER is PASS.")
    elif filters != ["."]:
        said.append(f"FILTER is {', '.join(filters)}.")
    if found["stored"] is not None and (text := _stored_sentence(found)):
        said.append(text)
    if found["model"]["sees_reads"] and found["model"]["encoding"] == "cnnspark":
        support = found["support"]
        said.append(
            f"Of {found['reads']} reads, {support['alt']} support the ALT, {support['ref']} REF, "
            f"{support['other_alt']} another ALT and {support['neither']} neither."
        )
    # The groups that contain others would only repeat them.
    parts = [each for each in found["effects"] if not each["name"].startswith("all ")] or found["effects"]
    moving = sorted(parts, key=lambda each: -abs(each["change"]))[:2]
    if moving:
        said.append(" ".join(_effect_sentence(each) for each in moving))
    rare = [row["name"] for row in found["inputs"] if row["verdict"] in (UNUSUAL, OUTSIDE)]
    if rare:
        are = "are" if len(rare) > 1 else "is"
        few = f"{len(rare)} of {len(found['inputs'])} model inputs {are}"
        said.append(f"{few} rare or absent in the training data: {listed(rare)}.")
    elif found["model"]["knows_training"]:
        said.append("Every input of this allele lies within the range seen in training.")
    if found["model"]["notice"]:
        notice_text = found["model"]["notice"]
        said.append(f"{notice_text[0].upper()}{notice_text[1:]}.")
    return said


def _score_sentence(found: Mapping[str, Any]) -> str:
    score = found["score"]
    odds = math.exp(abs(score))
    told = f"{odds:,.0f}" if odds >= 10 else f"{odds:.1f}"
    way = f"{told} to 1 {'for' if score >= 0 else 'against'} the allele being real"
    how = "calibrated on held-out alleles" if found["calibrated"] else "not calibrated"
    p = found["probability"]
    chance = "below 0.001" if p < 0.001 else "above 0.999" if p > 0.999 else f"of {p:.3f}"
    return f"The score is {score:.3f}: odds of {way}, a probability {chance} ({how})."


def _threshold_sentence(found: Mapping[str, Any]) -> str:
    rows = [row for row in found["thresholds"] if row["kind"] == "precision"]
    if not rows:
        return "The model's card has no thresholds; choose one yourself."
    reached = [row for row in rows if row["reached"]]
    missed = [row for row in rows if not row["reached"]]

    def named(row: Mapping[str, Any]) -> str:
        return f"precision {row['share']:g} ({row['threshold']:.3f})"

    if not reached:
        return f"It is below the card's lowest threshold, for {named(missed[0])}."
    best = f"It reaches the card's threshold for {named(reached[-1])}"
    return f"{best}, but not for {named(missed[0])}." if missed else f"{best}, the highest one."


def _stored_sentence(found: Mapping[str, Any]) -> str:
    stored = found["stored"]
    if abs(stored["score"] - found["score"]) <= SAME_SCORE:
        return ""
    why = "with other reads, another reference or other settings" if stored["same_model"] else "with another model"
    return f"The callset says {stored['score']:.3f}: it was scored {why}."


def _effect_sentence(each: Mapping[str, Any]) -> str:
    name = each["name"] if each["name"].startswith("all ") else f"the {each['name']}"
    how = f"With {name} set to the training median" if each["kind"] == "inputs" else f"Without {name}"
    return f"{how}, the score would be {each['score']:.3f}."


def summary(found: Mapping[str, Any]) -> str:
    """The explanation for a terminal: position, sentences and the page's path."""
    head = f"{found['contig']}:{found['pos']} {found['ref'][:40]}>{found['alt'][:40]}"
    return "\n".join([f"{head}: {found['summary'][0]}", *found["summary"][1:], found["out"]])
