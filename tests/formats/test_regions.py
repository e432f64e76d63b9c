"""Regions: parsing, ownership, merging."""

from pathlib import Path

import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.formats.regions import END_OF_CONTIG, Region, in_order, merge_regions, parse_region, read_bed


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("chr20", Region("chr20")),
        ("chr20:1,000-2,000", Region("chr20", 999, 2000)),
        ("chr20:1000-1000", Region("chr20", 999, 1000)),
        ("chr20:1000-", Region("chr20", 999, END_OF_CONTIG)),
        ("chr20:1000", Region("chr20", 999, END_OF_CONTIG)),
        ("HLA-A*01:01", Region("HLA-A*01", 0, END_OF_CONTIG)),
    ],
)
def test_regions_are_read_as_samtools_reads_them(text: str, region: Region) -> None:
    assert parse_region(text) == region


def test_a_known_contig_with_a_colon_is_taken_whole() -> None:
    assert parse_region("HLA-A*01:01", ["HLA-A*01:01"]) == Region("HLA-A*01:01")


@pytest.mark.parametrize("text", ["", ":5", "chr1:10-5", "chr1:0-5"])
def test_an_impossible_region_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_region(text)


@pytest.mark.parametrize("text", ["chr20", "chr20:1000-2000", "chr20:5-"])
def test_a_region_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_region(text)) == text


def test_regions_that_tile_a_contig_own_each_record_once() -> None:
    tiles = [Region("c", 0, 10), Region("c", 10, 11), Region("c", 11, END_OF_CONTIG)]
    for start in range(-1, 30):  # -1 is POS 0, a telomere
        assert sum(tile.owns(start) for tile in tiles) == 1


def test_merged_regions_hold_the_same_bases() -> None:
    regions = [Region("b", 5, 9), Region("a", 10, 20), Region("a", 0, 5), Region("a", 15, 30), Region("a", 30, 31)]
    merged = merge_regions(regions)
    assert merged == [Region("b", 5, 9), Region("a", 0, 5), Region("a", 10, 31)]


def test_bed_files_are_read_and_merged(tmp_path: Path) -> None:
    bed = tmp_path / "a.bed"
    bed.write_text("track name=x\n# comment\nc1\t5\t9\tname\n\nc1\t8\t12\nc2\t0\t0\n")
    assert read_bed(str(bed)) == [Region("c1", 5, 12)]


@pytest.mark.parametrize("text", ["c1\t5\n", "c1\tx\t9\n", "c1\t9\t5\n", "c1\t-1\t5\n"])
def test_an_invalid_bed_line_is_named(tmp_path: Path, text: str) -> None:
    bed = tmp_path / "a.bed"
    bed.write_text("c1\t0\t5\n" + text)
    with pytest.raises(InputError, match="line 2"):
        read_bed(str(bed))


def test_regions_follow_the_order_of_the_contigs_and_others_are_left_out() -> None:
    regions = [
        Region("c2", 5, 9),
        Region("c10", 40, 50),
        Region("x", 0, 5),
        Region("c10", 10, 20),
        Region("c10", 15, 30),
    ]
    assert in_order(regions, ["c10", "c2"]) == [Region("c10", 10, 30), Region("c10", 40, 50), Region("c2", 5, 9)]
    assert in_order([], ["c10"]) == []
