"""The kind of variant that an ALT is, and which ALTs can be scored: those that reads can show."""

from __future__ import annotations

from enum import IntEnum

# The label of an ALT.
UNKNOWN, FALSE_VARIANT, TRUE_VARIANT = -1, 0, 1


class VariantType(IntEnum):
    """The kinds of ALTs that can be scored. Datasets store the number, so the order is part of their format."""

    SNV = 0
    MNV = 1
    INSERTION = 2
    DELETION = 3
    MIXED = 4

    @property
    def is_indel(self) -> bool:
        """Whether reports and thresholds count it as INDEL; all else counts as SNP (an MNV is a string of SNVs)."""
        return self in (VariantType.INSERTION, VariantType.DELETION, VariantType.MIXED)

    @property
    def group(self) -> str:
        """``SNP`` or ``INDEL``: the two groups of thresholds and metrics."""
        return "INDEL" if self.is_indel else "SNP"


# Why an ALT is passed through unscored; the texts are keys of the counts in manifests and reports.
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
    """Why an ALT cannot be scored (one of the texts above), or None if it can."""
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
    """Whether a record's REF agrees with the reference.

    A letter other than A, C, G, T on either side agrees with any base (VCF 4.3, 1.6.1). Off the contig only such a
    letter agrees (N at POS 0, a telomere).

    Args:
        ref: REF of the record.
        letters: what the reference has there: upper case, a blank for each position off the contig.
    """
    ref = ref.upper()
    if ref == letters:
        return True
    if len(ref) != len(letters):
        return False
    return all(a == b or a not in "ACGT" or b not in "ACGT " for a, b in zip(ref, letters, strict=True))


def trim(ref: str, alt: str) -> tuple[int, str, str]:
    """Removes the bases that REF and ALT share, first those at the end, then those at the start.

    Returns:
        How many bases were removed at the start, and what is left of REF and of ALT; either may be empty.
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
    """The kind of an ALT that can be scored, by the bases that are left after trimming."""
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
