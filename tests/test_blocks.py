"""Blocks: they tile the callset, whatever the windows, and their digests add up."""

from __future__ import annotations

import random

import pytest

from cnnspark.errors import InputError
from cnnspark.execution.blocks import (
    BlockSettings,
    RecordsDigest,
    add_digests,
    candidate_windows,
    cut_window,
    number_blocks,
    windows_of,
)
from cnnspark.formats.regions import END_OF_CONTIG, Region


def lines_at(starts: list[int]) -> list[str]:
    return [f"c1\t{start + 1}\t.\tA\tC\t.\t.\t." for start in starts]


def test_blocks_tile_their_window_and_hold_each_record_once() -> None:
    rng = random.Random(3)
    starts = sorted(rng.choices(range(5000), k=400))
    window = Region("c1", 0, END_OF_CONTIG)
    cuts = cut_window(lines_at(starts), window, BlockSettings(records=30, bases=900))
    assert cuts[0].start == 0 and cuts[-1].end == END_OF_CONTIG
    assert all(a.end == b.start for a, b in zip(cuts, cuts[1:], strict=False))
    assert sum(cut.records for cut in cuts) == len(starts)
    for cut in cuts:
        inside = [s for s in starts if cut.start <= s < cut.end]
        assert len(inside) == cut.records
        assert (inside[0], inside[-1]) == (cut.first_start, cut.last_start)
        assert inside[-1] - inside[0] < 900 or len(set(inside)) == 1


def test_records_of_one_position_stay_in_one_block() -> None:
    cuts = cut_window(lines_at([5] * 10 + [6] * 10), Region("c1", 0, 100), BlockSettings(records=3))
    assert [cut.records for cut in cuts] == [10, 10]


def test_a_window_without_records_has_no_block() -> None:
    assert cut_window([], Region("c1", 0, 100), BlockSettings()) == []


@pytest.mark.parametrize("length", [None, 5, 10_000_000, 25_000_000])
def test_windows_tile_a_contig_to_its_open_end(length: int | None) -> None:
    windows = windows_of(["c1"], {"c1": length})
    assert windows[0].start == 0 and windows[-1].end == END_OF_CONTIG
    assert all(a.end == b.start for a, b in zip(windows, windows[1:], strict=False))


def test_chosen_regions_are_taken_in_the_callsets_order_and_once() -> None:
    regions = [Region("c2", 5, 9), Region("c1", 10, 20), Region("c1", 15, 30), Region("c3", 0, 5)]
    assert windows_of(["c1", "c2"], {}, regions) == [Region("c1", 10, 30), Region("c2", 5, 9)]


def test_digests_of_parts_add_up_in_any_order() -> None:
    lines = lines_at([1, 1, 2, 3, 3, 3, 9])
    whole, first, second = RecordsDigest(), RecordsDigest(), RecordsDigest()
    for line in lines:
        whole.add(line)
    for line in lines[3:]:
        first.add(line)
    for line in lines[:3]:
        second.add(line)
    assert add_digests([first.hex(), second.hex()]) == whole.hex()


def test_the_digest_sees_a_doubled_record_that_hides_a_lost_one() -> None:
    honest, cheating = RecordsDigest(), RecordsDigest()
    for line in lines_at([1, 2, 2]):
        honest.add(line)
    for line in lines_at([2, 2, 2]):
        cheating.add(line)
    assert honest.records == cheating.records and honest.hex() != cheating.hex()


def test_the_digest_ignores_what_a_run_adds() -> None:
    before, after = RecordsDigest(), RecordsDigest()
    before.add("c1\t5\tx\tA\tC\t.\t.\tDP=1")
    after.add("c1\t5\tx\tA\tC\t.\tLOW\tDP=1;CNN_2D=1.000")
    assert before.hex() == after.hex()


def test_records_are_numbered_through_all_blocks() -> None:
    window = Region("c1", 0, 100)
    other = Region("c2", 0, 100)
    settings = BlockSettings(records=2)
    counted = [
        (window, cut_window(lines_at([1, 2, 3]), window, settings)),
        (other, cut_window(lines_at([1]), other, settings)),
    ]
    blocks = number_blocks(counted)
    assert [(b.index, b.first_record, b.records) for b in blocks] == [(0, 0, 2), (1, 2, 1), (2, 3, 1)]


def test_candidate_windows_follow_the_references_order() -> None:
    windows = candidate_windows({"c1": 250_000, "c2": 50_000}, [Region("c2", 0, 50_000), Region("c1", 90_000, 120_000)])
    assert [(w.region.contig, w.region.start, w.region.end) for w in windows] == [
        ("c1", 90_000, 100_000),
        ("c1", 100_000, 120_000),
        ("c2", 0, 50_000),
    ]
    assert len(candidate_windows({"c1": 250_000, "c2": 50_000})) == 4


def test_a_line_with_too_few_columns_is_an_input_error() -> None:
    with pytest.raises(InputError, match="too few columns"):
        cut_window(["c1\t5\t.\tA\tC"], Region("c1"), BlockSettings())
