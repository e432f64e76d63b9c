"""The fields of a VCF in which scores stand, and what a score means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnspark.formats.vcf import VcfHeader

ALT_SCORES = "CNN_ALT_SCORES"
FORMAT_KEY = "CNN"  # of callsets of several samples (cnnspark.scoring.multisample)
SCORE_DIGITS = 3
# In a cascade: which of two models an allele's score is of.
STAGE = "CNN_STAGE"
STAGES = (1, 2)

GROUPS = ("SNP", "INDEL")
SCORE_KEYS = ("CNN_2D", "CNN_1D")
QUAL = "QUAL"  # the column, not a key of INFO

SAMPLE_SCORE = f"FORMAT/{FORMAT_KEY}"
# Scores that are ln(p / (1 - p)), and so have a calibration.
LOG_ODDS = (*SCORE_KEYS, SAMPLE_SCORE)

# The score's smoothing: keeps it within +-16.1 however sure the network is.
EPSILON = 1e-7


def has_sample_scores(header: VcfHeader) -> bool:
    """Whether the callset has scores by sample, as :mod:`cnnspark.scoring.multisample` declares them."""
    declared = header.format.get(FORMAT_KEY)
    return declared is not None and (declared.number, declared.type) == ("A", "Float")


def format_score(value: float | None) -> str:
    """A score as text: 3 decimals, ``.`` where there is none."""
    if value is None:
        return "."
    text = f"{value:.{SCORE_DIGITS}f}"
    return "0.000" if text == "-0.000" else text


def has_stages(header: VcfHeader) -> bool:
    """Whether the callset says which of two models scored an allele, as :func:`header_with_stages` declares it."""
    declared = header.info.get(STAGE)
    return declared is not None and (declared.number, declared.type) == ("A", "Integer")


def stages_text(stages: Sequence[int | None]) -> str:
    """The stage of each ALT of a record, for INFO."""
    return ",".join("." if stage is None else str(stage) for stage in stages)


def is_log_odds(name: str) -> bool:
    """Whether a score, with its callset's name before it or not, is the log odds that cnnspark writes."""
    return name.rpartition(":")[2].removeprefix("INFO/") in LOG_ODDS


def probability_of_score(scores: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """The inverse of :func:`log_odds`: probabilities, float64, the shape of ``scores``; NaN stays NaN."""
    odds = np.exp(np.clip(scores, -50, 50))
    return np.clip((odds * (1 + epsilon) - epsilon) / (1 + odds), 0.0, 1.0)


def log_odds(probability: np.ndarray) -> np.ndarray:
    """A score from the probability p that the allele is real: s = ln((p + e) / (1 - p + e)), e = 1e-7.

    This is the definition of ``CNN_1D`` and ``CNN_2D`` (GATK's, docs/scores.md). Float64, the shape of ``probability``.
    """
    p = np.asarray(probability, np.float64)
    return np.log((p + EPSILON) / (1 - p + EPSILON))
