"""The digest of records: it sees whatever is lost, doubled or changed, and nothing that a run writes itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnspark.errors import InputError
from cnnspark.execution.records_digest import RecordsDigest, add_digests
from cnnspark.formats.vcf import Record, set_sample_values
from cnnspark.variants.score_fields import FORMAT_KEY

LINE = "c1\t5\tx\tA\tC\t30\tq10\tDP=1;CNN_FOO=2\tGT:AD:DP\t0/1:3,4:7\t0/0\t./.:.:."
ITEMS = ("DP=1", "AF=0.5", "DB", "", "CNN_2D=1.5", "CNN_ALT_SCORES=1.5", "CNN_STAGE=1", "CNNX=3")
VALUES = ("0/1", "3,4", ".", "2.5")


def digest_of(*lines: str) -> str:
    digest = RecordsDigest()
    for line in lines:
        digest.add(line)
    return digest.hex()


def test_digests_of_parts_add_up_in_any_order() -> None:
    lines = [f"c1\t{pos}\t.\tA\tC\t.\t.\tDP=1" for pos in (1, 1, 2, 3, 3, 3, 9)]
    assert add_digests([digest_of(*lines[3:]), digest_of(*lines[:3])]) == digest_of(*lines)


def test_the_digest_sees_a_doubled_record_that_hides_a_lost_one() -> None:
    one, other = (f"c1\t{pos}\t.\tA\tC\t.\t.\t." for pos in (1, 2))
    assert digest_of(one, other, other) != digest_of(other, other, other) != digest_of(one, one, other)


@pytest.mark.parametrize("column", [i for i in range(12) if i != 6])
def test_the_digest_sees_a_change_of_any_column_but_filter(column: int) -> None:
    columns = LINE.split("\t")
    columns[column] = {1: "6", 7: "DP=1;CNN_FOO=3", 11: "./.:.:1"}.get(column, "y")
    assert digest_of("\t".join(columns)) != digest_of(LINE)
    columns[column:] = columns[column + 1 :]
    if len(columns) > 5:
        assert digest_of("\t".join(columns)) != digest_of(LINE)


@given(
    st.lists(st.sampled_from(ITEMS), max_size=4),
    st.sampled_from(["GT:AD:DP", "GT:AD:DP:CNN", "GT:CNN:AD:DP", "GT", "."]),
    st.data(),
    st.sets(st.integers(0, 2)),
)
def test_the_digest_ignores_what_a_run_writes(
    items: list[str], keys: str, data: st.DataObject, scored: set[int]
) -> None:
    fields = st.lists(st.sampled_from(VALUES), min_size=1, max_size=keys.count(":") + 1).map(":".join)
    samples = data.draw(st.lists(st.just(".") if keys == "." else fields, min_size=1, max_size=3))
    line = "\t".join(["c1", "5", "x", "A", "C", ".", ".", ";".join(items) or ".", keys, *samples])
    for change in (
        lambda record: record.set_info({"CNN_2D": "0.1", "CNN_ALT_SCORES": "0.1"}),
        lambda record: record.drop_info(("CNN_1D", "CNN_2D", "CNN_ALT_SCORES", "CNN_STAGE")),
        lambda record: record.set_filter("CNN_2D_LOW", failed=True),
        lambda record: set_sample_values(record, FORMAT_KEY, {i: "1.0" for i in scored if i < len(samples)}),
    ):
        record = Record(line)
        change(record)
        assert digest_of(record.line()) == digest_of(line), record.line()


def test_a_line_that_is_cut_short_is_one_sentence() -> None:
    with pytest.raises(InputError, match="a VCF line has too few columns: 'c1\t5'; repair the file"):
        RecordsDigest().add("c1\t5")
