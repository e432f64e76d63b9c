"""VCF as text: nothing is lost, only the named columns change."""

import math
from pathlib import Path

import pytest

from cnnspark.errors import InputError
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfHeader, VcfSource, number_or_nan
from tests.conftest import write_vcf

LINE = "c1\t100\trs1\tA\tC,G\t1e-3\tq10;q20\tDP=007;X;AF=.5,1e-05\tGT:AD\t0/1:3,4,5"


def test_a_record_is_written_as_it_was_read() -> None:
    assert Record(LINE).line() == LINE
    assert Record("c1\t0\t.\tN\t.\t.\t.\t.").line() == "c1\t0\t.\tN\t.\t.\t.\t."


def test_info_is_added_at_the_end_and_replaced_in_place() -> None:
    record = Record(LINE)
    record.set_info({"CNN_2D": "1.000", "DP": "8"})
    assert record.info == "DP=8;X;AF=.5,1e-05;CNN_2D=1.000"
    record.drop_info(["X", "DP"])
    assert record.info == "AF=.5,1e-05;CNN_2D=1.000"
    empty = Record("c1\t5\t.\tA\tC\t.\t.\t.")
    empty.set_info({"A": "1"})
    assert empty.info == "A=1"
    empty.drop_info(["A"])
    assert empty.info == "."


def test_info_values_are_found_by_their_whole_key() -> None:
    record = Record("c1\t5\t.\tA\tC\t.\t.\tADP=1;DP=2;FLAG")
    assert (record.info_value("DP"), record.info_value("FLAG"), record.info_value("P")) == ("2", "", None)


def test_filters_are_added_kept_or_replaced() -> None:
    record = Record(LINE)
    record.set_filter("LOW", True)
    assert record.filter == "q10;q20;LOW"
    record.set_filter("LOW", False)  # a second run with a laxer threshold
    assert record.filter == "q10;q20"
    record.set_filter("LOW", True, keep=False)
    assert record.filter == "LOW"
    record.set_filter("LOW", False)
    assert record.filter == "PASS"


def test_a_line_with_too_few_columns_is_an_input_error() -> None:
    with pytest.raises(InputError, match="columns"):
        Record("c1\t5\t.\tA")
    with pytest.raises(InputError, match="position 'x'"):
        Record("c1\tx\t.\tA\tC\t.\t.\t.")


def test_a_header_line_of_the_same_id_is_replaced_and_others_stay() -> None:
    header = VcfHeader(
        ["##fileformat=VCFv4.2", '##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="old">', "##x=1", "#CHROM\tPOS"]
    )
    more = header.with_lines(['##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="new">', "##x=1", "##y=2"])
    assert [line for line in more.lines if "CNN_2D" in line] == [
        '##INFO=<ID=CNN_2D,Number=1,Type=Float,Description="new">'
    ]
    assert more.lines[-2:] == ("##y=2", "#CHROM\tPOS")
    assert more.lines.count("##x=1") == 1
    assert header.with_lines(["##INFO=<ID=CNN,Number=1>"]).info.keys() == {"CNN_2D", "CNN"}


def test_declarations_are_read_with_blanks_and_quotes_in_the_description() -> None:
    header = VcfHeader(
        [
            "##fileformat=VCFv4.2",
            '##INFO=<ID=A.b,Number=R,Type=Integer,Description="x, Type=Float, \\"y\\"">',
            "#CHROM\tPOS",
        ]
    )
    assert (header.info["A.b"].number, header.info["A.b"].type) == ("R", "Integer")


def test_every_byte_survives(tmp_path: Path) -> None:
    line = "c1\t5\t.\tA\tC\t.\t.\tNOTE=" + bytes(range(0xA0, 0x100)).decode("latin-1")
    source = VcfSource(write_vcf(tmp_path / "a.vcf.gz", [line]))
    assert list(source.lines(Region("c1"))) == [line]


def test_regions_own_records_by_position_however_they_are_cut(tmp_path: Path) -> None:
    lines = [
        "c1 0 . N C . . .",
        "c1 1 . A C . . .",
        "c1 5 . ACGTACGTAC A . . .",
        "c1 9 . A T . . .",
        "c1 9 . A G . . .",
    ]
    source = VcfSource(write_vcf(tmp_path / "a.vcf.gz", lines))
    whole = list(source.lines(Region("c1")))
    assert len(whole) == 5
    for size in (1, 2, 3, 5, 7):
        cut = [line for start in range(0, 20, size) for line in source.lines(Region("c1", start, start + size))]
        assert cut == whole
    assert list(source.lines(Region("nowhere"))) == []


def test_a_description_that_looks_like_a_declaration_is_not_one() -> None:
    line = '##INFO=<ID=X,Number=1,Type=Float,Description="see <ID=Y,Number=A,Type=String>">'
    header = VcfHeader(["##fileformat=VCFv4.2", line, "#CHROM\tPOS"])
    assert list(header.info) == ["X"] and header.info["X"].type == "Float"


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 0.001), ("7", 7.0), ("-.5", -0.5), ("inf", math.inf), (" 3", 3.0)]
    + [(text, math.nan) for text in (".", "", None, "nan", "x", "1,2", "PASS")],
)
def test_a_values_text_as_a_number(text: str | None, number: float) -> None:
    found = number_or_nan(text)
    assert found == number or (math.isnan(found) and math.isnan(number))


def test_qual_as_a_number() -> None:
    assert Record(LINE).qual_value == 0.001
    assert math.isnan(Record("c1\t5\t.\tA\tC\t.\t.\t.").qual_value)
