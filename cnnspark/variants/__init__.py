"""What a record means: the kinds of its alleles, who carries them, their annotations, labels and scores.

``alleles`` says what kind an ALT is and which ALTs can be scored; ``haplotypes`` compares different spellings of one
event; ``carriers`` finds which samples have an allele. ``annotations`` and ``allele_depth`` read numbers from a record,
``repeats`` looks at the reference around it, and ``score_fields`` names the VCF fields of scores. ``labeller`` labels
records: by a truth callset (``truth``) or a table (``label_tables``). ``candidates`` calls alleles from reads, with the
compiled ``candidate_kernels``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AnnotationReader": ".annotations",
        "Labeller": ".labeller",
        "TruthSource": ".truth",
        "VariantType": ".alleles",
        "open_labeller": ".labeller",
        "unscorable_reason": ".alleles",
        "variant_type": ".alleles",
    },
)
