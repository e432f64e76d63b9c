"""Kinds of alleles."""

import pytest

from cnnspark.variants import alleles
from cnnspark.variants.alleles import VariantType, is_transition, trim, unscorable_reason, variant_type


@pytest.mark.parametrize(
    ("ref", "alt", "kind"),
    [
        ("A", "C", VariantType.SNV),
        ("ACG", "ATG", VariantType.SNV),
        ("AC", "GT", VariantType.MNV),
        ("A", "AT", VariantType.INSERTION),
        ("GAT", "GATAT", VariantType.INSERTION),
        ("AT", "A", VariantType.DELETION),
        ("ATT", "GA", VariantType.MIXED),
        ("a", "c", VariantType.SNV),
    ],
)
def test_the_kind_of_an_allele_is_that_of_its_trimmed_bases(ref: str, alt: str, kind: VariantType) -> None:
    assert variant_type(ref, alt) is kind


@pytest.mark.parametrize(
    ("ref", "alt", "reason"),
    [
        ("A", ".", alleles.NO_ALT),
        ("A", "<NON_REF>", alleles.NON_REF),
        ("A", "<*>", alleles.NON_REF),
        ("A", "<DEL>", alleles.SYMBOLIC),
        ("A", "*", alleles.SPANNING_DELETION),
        ("A", "A[chr2:5[", alleles.BREAKEND),
        ("A", ".T", alleles.BREAKEND),
        ("A", "X", alleles.INVALID),
        ("A", "A", alleles.INVALID),
        ("A", "C", None),
        ("R", "C", None),
        ("n", "nacgt", None),
    ],
)
def test_what_cannot_be_scored_has_its_reason(ref: str, alt: str, reason: str | None) -> None:
    assert unscorable_reason(ref, alt) == reason


@pytest.mark.parametrize(("ref", "alt"), [("ACG", "ATG"), ("AT", "A"), ("A", "AT"), ("CAGAG", "CAG"), ("ATT", "GA")])
def test_trimming_keeps_the_haplotype(ref: str, alt: str) -> None:
    offset, short_ref, short_alt = trim(ref, alt)
    rest = ref[offset + len(short_ref) :]
    assert ref[:offset] + short_ref + rest == ref
    assert ref[:offset] + short_alt + rest == alt


def test_indels_and_snps_are_the_two_groups() -> None:
    assert [kind.group for kind in VariantType] == ["SNP", "SNP", "INDEL", "INDEL", "INDEL"]


def test_transitions_stay_within_the_purines_or_the_pyrimidines() -> None:
    pairs = {ref + alt for ref in "ACGT" for alt in "ACGT" if ref != alt}
    assert {pair for pair in pairs if is_transition(*pair)} == {"AG", "GA", "CT", "TC"}
