"""The fields of a VCF in which scores stand, and what a score means.

A record has the best score of its ALTs in INFO under the name of the network's kind (``CNN_2D`` or ``CNN_1D``, GATK's
names) and the score of each ALT in INFO/CNN_ALT_SCORES. In a callset of several samples, FORMAT/CNN has the scores of
each sample (:mod:`cnnspark.scoring.multisample`). In a cascade, INFO/CNN_STAGE says which of the two models scored an
ALT (:mod:`cnnspark.scoring.cascade`). All these scores are log odds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnspark.formats.vcf import VcfHeader

# INFO keys of a record's score: of a network that sees reads, and of one that does not.
SCORE_KEYS = ("CNN_2D", "CNN_1D")
ALT_SCORES = "CNN_ALT_SCORES"
FORMAT_KEY = "CNN"
SAMPLE_SCORE = f"FORMAT/{FORMAT_KEY}"
QUAL = "QUAL"  # can be compared and filtered like a score; the column, not a key of INFO
STAGE = "CNN_STAGE"
STAGES = (1, 2)

# Types of alleles that have thresholds of their own (VariantType.group).
GROUPS = ("SNP", "INDEL")
# Scores that are ln(p / (1 - p)), and so have a calibration.
LOG_ODDS = (*SCORE_KEYS, SAMPLE_SCORE)
# Keeps a score within +-16.1 however sure the network is.
EPSILON = 1e-7
SCORE_DIGITS = 3


def log_odds(probability: np.ndarray) -> np.ndarray:
    """The score of a probability p that the allele is real: s = ln((p + e) / (1 - p + e)), e = 1e-7.

    This is the definition of ``CNN_1D`` and ``CNN_2D`` (GATK's, docs/scores.md).

    Args:
        probability: any shape.

    Returns:
        float64, the same shape.
    """
    p = np.asarray(probability, np.float64)
    return np.log((p + EPSILON) / (1 - p + EPSILON))


def probability_of_score(scores: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """The inverse of :func:`log_odds`.

    Args:
        scores: any shape; NaN stays NaN.
        epsilon: the e of the score's definition.

    Returns:
        Probabilities, the same shape and precision.
    """
    odds = np.exp(np.clip(scores, -50, 50))
    return np.clip((odds * (1 + epsilon) - epsilon) / (1 + odds), 0.0, 1.0)


def is_log_odds(name: str) -> bool:
    """Whether a score (``CNN_2D``, ``INFO/CNN_2D``, ``callset:CNN_2D``) is the log odds that cnnspark writes."""
    return name.rpartition(":")[2].removeprefix("INFO/") in LOG_ODDS


def format_score(value: float | None) -> str:
    """A score as the text of a VCF: three decimals, ``.`` for None."""
    if value is None:
        return "."
    text = f"{value:.{SCORE_DIGITS}f}"
    return "0.000" if text == "-0.000" else text


def stages_text(stages: Sequence[int | None]) -> str:
    """The stage of each ALT of a record as the text of INFO/CNN_STAGE; ``.`` for None."""
    return ",".join("." if stage is None else str(stage) for stage in stages)


def has_sample_scores(header: VcfHeader) -> bool:
    """Whether the header declares scores by sample, as :mod:`cnnspark.scoring.multisample` does."""
    declared = header.format.get(FORMAT_KEY)
    return declared is not None and (declared.number, declared.type) == ("A", "Float")


def has_stages(header: VcfHeader) -> bool:
    """Whether the header declares which of two models scored an ALT, as :mod:`cnnspark.scoring.cascade` does."""
    declared = header.info.get(STAGE)
    return declared is not None and (declared.number, declared.type) == ("A", "Integer")
