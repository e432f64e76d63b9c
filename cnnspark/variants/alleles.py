"""What kind of variant an ALT allele is, and which ones a read can speak about."""

from __future__ import annotations

from enum import IntEnum

# label
UNKNOWN, FALSE_VARIANT, TRUE_VARIANT = -1, 0, 1


class VariantType(IntEnum):
    """The kinds of scorable ALT alleles. Stored as the number, so the order is part of the dataset's format."""

    SNV = 0
    MNV = 1
    INSERTION = 2
    DELETION = 3
    MIXED = 4

    @property
    def is_indel(self) -> bool:
        """INDEL in reports and thresholds; everything else counts as SNP (MNVs are strings of SNVs)."""
        return self in (VariantType.INSERTION, VariantType.DELETION, VariantType.MIXED)

    @property
    def group(self) -> str:
        """``SNP`` or ``INDEL``: the two groups of thresholds and metrics."""
        return "INDEL" if self.is_indel else "SNP"


# Why an allele is passed through unscored; the texts are the keys of the counts in manifests and reports.
NO_ALT = "no ALT"
NON_REF = "<NON_REF>"
SYMBOLIC = "symbolic"
BREAKEND = "breakend"
SPANNING_DELETION = "*"
INVALID = "not a sequence"
REF_MISMATCH = "REF mismatch"

# Substitutions within the purines (A, G) or within the pyrimidines (C, T).
_TRANSITIONS = frozenset(("AG", "GA", "CT", "TC"))
_BASES = frozenset("ACGTNacgtn")
_IUPAC = _BASES | frozenset("RYKMSWBDHVrykmswbdhv")


def unscorable_reason(ref: str, alt: str) -> str | None:
    """Why this allele cannot be scored, or None where it can."""
    if alt in (".", ""):
        return NO_ALT
    if alt in ("<NON_REF>", "<*>"):
        return NON_REF
    if alt.startswith("<"):
        return SYMBOLIC
    if alt == "*":
        return SPANNING_DELETION
    if "[" in alt or "]" in alt or alt.startswith(".") or alt.endswith("."):
        return BREAKEND
    if not _BASES.issuperset(alt) or not _IUPAC.issuperset(ref) or ref.upper() == alt.upper():
        return INVALID
    return None


def ref_agrees(ref: str, letters: str) -> bool:
    """Whether REF is what the reference has: ``letters`` in upper case, a blank where there is no base.

    A letter other than A, C, G, T on either side agrees with any base (VCF 4.3, 1.6.1); off the contig only such a
    letter does (N at POS 0, a telomere).
    """
    ref = ref.upper()
    if ref == letters:
        return True
    if len(ref) != len(letters):
        return False
    return all(a == b or a not in "ACGT" or b not in "ACGT " for a, b in zip(ref, letters, strict=True))


def trim(ref: str, alt: str) -> tuple[int, str, str]:
    """The allele without the bases that REF and ALT share, suffix first: ``(offset, ref, alt)``.

    ``offset`` is how far the first differing base lies behind the first REF base. Either part may be empty.
    """
    end = 0
    while end < min(len(ref), len(alt)) and ref[-1 - end] == alt[-1 - end]:
        end += 1
    ref, alt = ref[: len(ref) - end], alt[: len(alt) - end]
    start = 0
    while start < min(len(ref), len(alt)) and ref[start] == alt[start]:
        start += 1
    return start, ref[start:], alt[start:]


def variant_type(ref: str, alt: str) -> VariantType:
    """The kind of a scorable allele, after trimming what REF and ALT share."""
    _, ref, alt = trim(ref.upper(), alt.upper())
    if len(ref) == len(alt):
        return VariantType.SNV if len(ref) == 1 else VariantType.MNV
    if not ref:
        return VariantType.INSERTION
    if not alt:
        return VariantType.DELETION
    return VariantType.MIXED


def is_transition(ref: str, alt: str) -> bool:
    """Whether the substitution of one base (upper case) by another is a transition, not a transversion."""
    return ref + alt in _TRANSITIONS
