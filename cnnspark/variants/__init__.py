"""What a record means: the kinds of its alleles, who carries them, their annotations, labels and scores.

``alleles`` says what kind an ALT is and which ALTs can be scored; ``haplotypes`` compares different spellings of one
event; ``carriers`` finds which samples have an allele. ``annotations`` and ``allele_depth`` read numbers from a record,
``repeats`` looks at the reference around it, and ``score_fields`` names the VCF fields of scores. ``labeller`` labels
records: by a truth callset (``truth``) or a table (``label_tables``). ``candidates`` calls alleles from reads, with the
compiled ``candidate_kernels``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnspark.variants.alleles import VariantType, unscorable_reason, variant_type
    from cnnspark.variants.annotations import AnnotationReader
    from cnnspark.variants.labeller import Labeller, open_labeller
    from cnnspark.variants.truth import TruthSource

__all__ = [
    "AnnotationReader",
    "Labeller",
    "TruthSource",
    "VariantType",
    "open_labeller",
    "unscorable_reason",
    "variant_type",
]

# Loaded when first asked for, so that a light module of this package does not bring in pysam, NumPy and numba.
_MODULES = {
    "AnnotationReader": "annotations",
    "Labeller": "labeller",
    "TruthSource": "truth",
    "VariantType": "alleles",
    "open_labeller": "labeller",
    "unscorable_reason": "alleles",
    "variant_type": "alleles",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
