"""The sample sheet: what it says, and that everything wrong with it is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspark.config import InputPaths
from cnnspark.errors import InputError, UsageError
from cnnspark.formats import callset
from cnnspark.stages.sample_sheet import callsets, folder_name, read_sheet, shared_inputs
from cnnspark.variants.carriers import Member


def write_sheet(folder: Path, *lines: str) -> str:
    """A sheet of these lines (tabs for blanks) beside some files that it may name."""
    for name in ("a.vcf.gz", "b.vcf.gz", "a.bam", "b.bam", "t.vcf.gz", "t.bed"):
        (folder / name).write_text("something\n")
    path = folder / "sheet.tsv"
    path.write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    return str(path)


def test_rows_with_comments_missing_values_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = write_sheet(
        tmp_path,
        "#made by hand",
        "sample vcf reads truth bed",
        "NA1 a.vcf.gz a.bam . .",
        "",
        "NA2 b.vcf.gz s3://bucket/b.bam t.vcf.gz t.bed",
    )
    with pytest.raises(InputError, match=r"line 5 \(NA2\): reads s3://bucket/b.bam cannot be opened"):
        read_sheet(sheet)
    monkeypatch.setattr(callset, "require_remote", lambda path, what: None)  # as if it were there
    first, second = read_sheet(sheet)
    assert (first.sample, first.line, first.truth) == ("NA1", 3, None)
    assert first.vcf == str(tmp_path / "a.vcf.gz")
    assert second.reads == "s3://bucket/b.bam" and second.bed == str(tmp_path / "t.bed")


def test_a_sheet_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, "sample vcf", "NA1 a.vcf.gz")
    Path(sheet).write_bytes(b"\xef\xbb\xbf" + Path(sheet).read_bytes())
    assert [row.sample for row in read_sheet(sheet)] == ["NA1"]


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    sheet = write_sheet(
        tmp_path,
        "sample vcf reads truth bed",
        "NA1 a.vcf.gz gone.bam . .",
        "NA2 . b.bam . .",
        "NA3 b.vcf.gz b.bam t.vcf.gz .",
        "NA4 a.vcf.gz",
        ". a.vcf.gz a.bam . .",
        "NA3 a.vcf.gz a.bam . .",
    )
    with pytest.raises(InputError) as caught:
        read_sheet(sheet)
    said = str(caught.value)
    assert "has 6 problems" in said
    for part in (
        "line 2 (NA1): reads", "does not exist", "line 3 (NA2): there is no callset", "line 4 (NA3): a truth needs",
        "line 5 has 2 columns instead of 5", "line 6 names no sample", "sample NA3 stands in lines 4, 7",
    ):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("sample vcf bam", "has a column 'bam'; known are sample, vcf, reads"),
        ("sample reads", "has no column 'vcf'"),
        ("sample vcf vcf", "has 'vcf' twice"),
        ("name vcf", "does not begin with the columns' names"),
    ],
)
def test_wrong_columns(tmp_path: Path, header: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_sheet(write_sheet(tmp_path, header, "NA1 a.vcf.gz a.bam"))


def test_blanks_instead_of_tabs_empty_and_missing_sheets(tmp_path: Path) -> None:
    sheet = tmp_path / "s.tsv"
    with pytest.raises(InputError, match="cannot be read"):
        read_sheet(str(sheet))
    sheet.write_text("sample vcf\nNA1 a.vcf.gz\n")
    with pytest.raises(InputError, match="separate the columns by tabs"):
        read_sheet(str(sheet))
    sheet.write_text("# nothing\n")
    with pytest.raises(InputError, match="is empty"):
        read_sheet(str(sheet))
    sheet.write_text("sample\tvcf\n")
    with pytest.raises(InputError, match="has no samples"):
        read_sheet(str(sheet))
    sheet.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(InputError, match="not a text file"):
        read_sheet(str(sheet))


def test_names_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    assert folder_name("../../etc") == "%2E.%2F..%2Fetc"
    assert folder_name("NA 12/8") == "NA%2012%2F8"
    assert folder_name("NA12878.v2") == "NA12878.v2"
    sheet = write_sheet(tmp_path, "sample vcf", "na1 a.vcf.gz", "NA1 b.vcf.gz")
    with pytest.raises(InputError, match="two callsets would be written to one folder, 'na1'"):
        read_sheet(sheet)


def test_callsets_share_reference_and_regions_alone(tmp_path: Path) -> None:
    rows = read_sheet(write_sheet(tmp_path, "sample vcf reads", "NA1 a.vcf.gz a.bam", "NA2 b.vcf.gz b.bam"))
    shared = InputPaths(reference="ref.fa", regions=("chr20",))
    first, second = callsets(rows, shared_inputs(shared))
    assert first.paths == InputPaths(rows[0].vcf, rows[0].reads, "ref.fa", sample="NA1", regions=("chr20",))
    assert (second.name, second.samples) == ("NA2", ("NA2",))
    with pytest.raises(UsageError, match="--vcf and --sheet cannot go together"):
        shared_inputs(InputPaths(vcf="a.vcf.gz"))


def test_rows_of_one_vcf_are_the_members_of_its_callset(tmp_path: Path) -> None:
    lines = ("NA1 a.vcf.gz a.bam t.vcf.gz t.bed", "NA3 b.vcf.gz b.bam . .", "NA2 a.vcf.gz b.bam . .")
    rows = read_sheet(write_sheet(tmp_path, "sample vcf reads truth bed", *lines))
    joined, alone = callsets(rows, InputPaths(reference="ref.fa"))
    assert (joined.name, joined.samples, alone.name) == ("a", ("NA1", "NA2"), "NA3")
    members = (Member("NA1", str(tmp_path / "a.bam")), Member("NA2", str(tmp_path / "b.bam")))
    assert joined.paths == InputPaths(rows[0].vcf, reference="ref.fa", members=members)
    assert joined.paths.files == [rows[0].vcf, "ref.fa", rows[0].reads, rows[2].reads]
    # For tensors each row is a sample with its own truth.
    by_sample = callsets(rows, InputPaths(), by_sample=True)
    assert [(each.name, each.paths.sample, bool(each.paths.truth)) for each in by_sample] == [
        ("NA1", "NA1", True), ("NA3", "NA3", False), ("NA2", "NA2", False)
    ]  # fmt: skip


def test_a_callset_and_a_sample_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path, "sample vcf", "NA1 a.vcf.gz", "NA2 a.vcf.gz", "A b.vcf.gz")
    with pytest.raises(InputError, match="two callsets would be written to one folder, 'a'"):
        read_sheet(sheet)
