"""Tables as text."""

from __future__ import annotations

from cnnspark.common.text_tables import format_interval, format_rows, format_value, tsv


def test_values_are_short_and_undefined_ones_a_dash() -> None:
    assert [format_value(value) for value in (None, 1234567, 0.12345, 1.0)] == ["-", "1,234,567", "0.123", "1.000"]
    assert format_interval(0.5, 0.75) == "0.500-0.750"
    assert format_interval(-0.25, 0.5) == "-0.250 to +0.500"
    assert format_interval(None, None) == "-"


def test_columns_are_aligned() -> None:
    text = format_rows([["group", "n", "auprc"], ["ALL", 12345, 0.5], ["INDEL", 7, None]])
    assert text == "group       n  auprc\nALL    12,345  0.500\nINDEL       7      -"


def test_a_tab_or_line_end_in_a_name_adds_no_column_or_line() -> None:
    text = tsv(["score", "n", "auprc"], [["a\tb\nc", 3, 0.123456789], ["d", None, 1e-12]])
    assert text == "score\tn\tauprc\na b c\t3\t0.123457\nd\tNA\t1e-12\n"
