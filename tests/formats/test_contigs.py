"""Contigs of two files: of one build, of two, or only named differently."""

from __future__ import annotations

import re

import pytest

from cnnspark.errors import InputError
from cnnspark.formats.contigs import check_contigs, check_lengths, check_regions, other_spelling, require_shared_contig
from cnnspark.formats.regions import Region


@pytest.mark.parametrize(
    ("contig", "other"), [("chr20", "20"), ("20", "chr20"), ("chrUn_x", "Un_x"), ("HLA-A", "chrHLA-A")]
)
def test_the_other_spelling_of_the_other_spelling_is_the_name(contig: str, other: str) -> None:
    assert other_spelling(contig) == other and other_spelling(other) == contig


@pytest.mark.parametrize(
    ("contigs", "others", "says"),
    [
        (["20"], ["chr20"], "a.vcf says '20' where b.fa says 'chr20'; only the 'chr' prefix differs"),
        (["chr20"], ["20"], "a.vcf says 'chr20' where b.fa says '20'; only the 'chr' prefix differs"),
        (["x"], ["y"], "have no contig in common ('x' against 'y')"),
        (["x"], [], "have no contig in common ('x' against 'none')"),
        (["x", "y", "z"], ["x"], "has records on 2 contigs that b.fa lacks (first: 'y')"),
    ],
)
def test_contigs_that_the_other_file_lacks_are_said(contigs: list[str], others: list[str], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        check_contigs("a.vcf", contigs, "b.fa", dict.fromkeys(others, 9))
    check_contigs("a.vcf", contigs, "b.fa", dict.fromkeys([*contigs, *others], 9))


def test_a_contig_is_equally_long_in_both_files_or_of_unknown_length() -> None:
    check_lengths("a", {"x": 9, "y": None, "z": 3}, "b", {"x": 9, "y": 5})
    with pytest.raises(InputError, match="contig 'x' is 9 bases long in a and 8 in b"):
        check_lengths("a", {"x": 9}, "b", {"x": 8})


def test_a_regions_contig_is_asked_for_by_its_other_spelling() -> None:
    check_regions([Region("chr20")], ["chr20"], "a.vcf")
    with pytest.raises(InputError, match="region 20 names a contig that a.vcf does not have; did you mean 'chr20'?"):
        check_regions([Region("20")], ["chr20"], "a.vcf")
    with pytest.raises(InputError, match="does not have; check the name"):
        check_regions([Region("x")], ["chr20"], "a.vcf")


def test_one_shared_contig_is_enough() -> None:
    require_shared_contig("a.bed", {"x", "y"}, "b.vcf", ["y", "z"])
    require_shared_contig("empty.bed", set(), "b.vcf", ["y"])
    with pytest.raises(InputError, match=r"\('20' against 'chr20'\); did you mean 'chr20'?"):
        require_shared_contig("a.bed", {"20"}, "b.vcf", ["chr20"])
