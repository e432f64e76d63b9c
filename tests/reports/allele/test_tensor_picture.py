"""Pictures of tensors: what is drawn where and in which colour, and the errors if nothing can be drawn."""

from __future__ import annotations

import gzip
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from benchmarks.training.dataset import write_short_card
from cnnspark.errors import InputError, UsageError
from cnnspark.execution.blocks import Block
from cnnspark.formats.regions import Region
from cnnspark.reports.allele.picture_style import COLUMN_WIDTH, COLUMNS_LEFT, MAPQ_LEFT, MAPQ_WIDTH, PICTURE_WIDTH
from cnnspark.reports.allele.position import parse_position
from cnnspark.reports.allele.tensor_columns import allele_columns, column_positions
from cnnspark.reports.allele.tensor_picture import show_tensor
from cnnspark.stages.show import show, show_from_dataset, summary
from cnnspark.tensors import dataset
from cnnspark.tensors.settings import TensorSettings
from tests.conftest import write_vcf
from tests.support.oracle_tensors import TinyRead, write_bam, write_fasta
from tests.tensors.test_builder import Tiny, record

# 400 bases without short repeats: 'C' at 300 (1-based 301) is the site of all records.
TEXT = ("GATTACAGGCTTAACCGTAT" * 15)[:300] + "C" + ("TGCATCGGATCAAGTCCTGA" * 5)[:99]
IGV = {"A": (0, 150, 0), "C": (0, 0, 255), "G": (209, 113, 5), "T": (255, 0, 0)}


def other(base: str) -> str:
    return "A" if base != "A" else "C"


def reads() -> list[TinyRead]:
    changed = TEXT[:300] + "T" + TEXT[301:]
    return [
        TinyRead(250, "100M", TEXT[250:350], name="ref forward"),
        TinyRead(260, "100M", TEXT[260:360], name="ref reverse", flag=16),
        TinyRead(255, "100M", changed[255:355], name="alt good", quals=40),
        TinyRead(270, "100M", changed[270:370], name="alt poor", quals=5, mapq=0),
        TinyRead(280, "21M4D60M", TEXT[280:301] + TEXT[305:365], name="deletion"),
        TinyRead(285, "16M2I60M", TEXT[285:301] + "GG" + TEXT[301:361], name="insertion"),
        TinyRead(290, "60M", TEXT[290:300] + "A" + TEXT[301:350], name="neither"),
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("show")
    contigs = {"c1": TEXT, "c2": TEXT[:60]}
    return {
        "vcf": write_vcf(
            folder / "calls.vcf.gz",
            [
                f"c1 101 . {TEXT[100]} <DEL>,{other(TEXT[100])} 5 . . GT 0/1",
                f"c1 201 . {TEXT[200]} <DEL> 5 . . GT 0/1",
                f"c1 251 . {TEXT[250]} . 5 . . GT 0/1",
                "c1 301 . C T 50 PASS . GT 0/1",
                f"c1 301 . {TEXT[300:305]} C 40 . . GT 0/1",
                f"c1 321 . {other(TEXT[320])} {TEXT[320]} 40 . . GT 0/1",
            ],
            ["##fileformat=VCFv4.2", "##contig=<ID=c1,length=400>"],
        ),
        "reads": write_bam(folder, contigs, reads()),
        "reference": write_fasta(folder, contigs),
    }


def draw(files: dict[str, str], at: str, out: Path, alt: str | None = None, **more) -> dict:
    return show(files["vcf"], files["reads"], files["reference"], at, alt, str(out), **{"sample": "S1", **more})


def pixels(path: str | Path) -> np.ndarray:
    """uint8 (height, width, 3)."""
    return (matplotlib.image.imread(str(path))[:, :, :3] * 255).round().astype(np.uint8)


def colours_in(image: np.ndarray, rows: slice, column: int) -> set[tuple[int, ...]]:
    """The colours in the middle of one column of the tensor, between two heights."""
    x = COLUMNS_LEFT + column * COLUMN_WIDTH
    cell = image[rows, x + 2 : x + COLUMN_WIDTH - 2].reshape(-1, 3)
    return {tuple(int(v) for v in colour) for colour in np.unique(cell, axis=0)}


def test_a_column_knows_its_position_with_insertions_left_and_right_of_pos():
    reference = np.ones(128, np.uint8)
    assert column_positions(reference, 1000).tolist() == list(range(936, 1064))
    reference[[60, 61, 70]] = 6
    positions = column_positions(reference, 1000)
    assert positions[64] == 1000
    assert positions[[59, 60, 61, 62, 63]].tolist() == [997, 998, 998, 998, 999]
    assert positions[[69, 70, 71]].tolist() == [1005, 1006, 1006]
    assert positions[127] == 1000 + 63 - 1


def test_the_alleles_columns_are_those_in_which_the_alternate_differs(tmp_path):
    tiny = Tiny(tmp_path, {"c": TEXT}, reads())
    batch = tiny.check([record(300, "C", "T"), record(300, TEXT[300:305], "C"), record(300, "C", "CAA")])
    assert [allele_columns(batch.reference[i], batch.alternate[i]) for i in range(3)] == [(64, 65), (67, 71), (65, 67)]
    same = batch.reference[0]
    assert allele_columns(same, same) == (64, 65)


def test_bases_gaps_and_insertions_are_drawn_where_the_tensor_has_them(files, tmp_path):
    result = draw(files, "c1:301", tmp_path / "x.png", alt="T")
    assert result["support"] == {"alt": 2, "ref": 4, "other_alt": 0, "neither": 1}
    image = pixels(tmp_path / "x.png")
    assert image.shape[1] == PICTURE_WIDTH
    row = 13
    alt, ref = 162, 162 + 40 + 9  # a group's label is higher than two reads
    neither = ref + 4 * row + 9
    # This ALT: strong at quality 40, weak at 5.
    assert IGV["T"] in colours_in(image, slice(alt, alt + row - 1), 64)
    poor = colours_in(image, slice(alt + row, alt + 2 * row - 1), 64)
    assert IGV["T"] not in poor and (255, 178, 178) in poor
    # REF: a match is pale; the third read has a deletion, the fourth an insertion of GG.
    assert all(min(colour) > 200 for colour in colours_in(image, slice(ref + 1, ref + row - 1), 62))
    for column in range(67, 71):
        assert (40, 40, 40) in colours_in(image, slice(ref + 2 * row, ref + 3 * row), column)
    for column in (65, 66):
        assert colours_in(image, slice(ref, ref + 4), column) == {(239, 229, 248)}
        assert (170, 160, 180) in colours_in(image, slice(ref, ref + row), column)
        assert any(
            colour[0] > colour[2] + 100 for colour in colours_in(image, slice(ref + 3 * row, neither - 9), column)
        )
    # Neither: another base than REF and ALT, in its own colour.
    assert any(colour[1] > colour[0] + 60 for colour in colours_in(image, slice(neither, neither + row), 64))
    # The allele's column is outlined from the reference row to the last read.
    edge = image[
        130 : neither + row,
        COLUMNS_LEFT + 64 * COLUMN_WIDTH - 1 : COLUMNS_LEFT + 64 * COLUMN_WIDTH + 1,
    ]
    assert (edge.min(axis=(1, 2)) < 60).all()


def test_strand_and_mapping_quality_stand_in_the_margins(files, tmp_path):
    draw(files, "c1:301", tmp_path / "x.png", alt="T")
    image = pixels(tmp_path / "x.png").astype(int)
    ref = 162 + 40 + 9
    arrows = image[:, COLUMNS_LEFT - 11 : COLUMNS_LEFT - 5]
    assert (arrows[ref + 6, :, 0] > arrows[ref + 6, :, 2] + 60).any()  # forward: red
    assert (arrows[ref + 13 + 6, :, 2] > arrows[ref + 13 + 6, :, 0] + 60).any()  # reverse: blue

    def filled(y: int) -> int:
        bar = image[y, MAPQ_LEFT : MAPQ_LEFT + MAPQ_WIDTH]
        return int((bar.max(axis=1) - bar.min(axis=1) > 30).sum())

    assert filled(ref + 6) >= 28  # 60
    assert filled(162 + 13 + 6) <= 4  # 0


def test_the_same_tensor_gives_the_same_bytes_whatever_the_users_matplotlibrc(files, tmp_path, monkeypatch):
    draw(files, "c1:301", tmp_path / "a.png")
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30.0)
    monkeypatch.setitem(matplotlib.rcParams, "savefig.dpi", 33.0)
    draw(files, "c1:301", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert matplotlib.rcParams["font.size"] == 30.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_alts_are_chosen_by_name_and_the_first_that_can_be_scored_is_the_default(files, tmp_path):
    out = tmp_path / "x.png"
    assert draw(files, "c1:301", out)["alt"] == "T"
    deletion = draw(files, "c1:301", out, alt="c")
    assert (deletion["type"], deletion["support"]["alt"], deletion["alts"]) == ("DELETION", 1, ["T", "C"])
    assert summary(deletion) == (
        f"c1:301 CTGCA>C: of 7 reads 1 support it, 5 REF, 0 another ALT, 1 neither: {out} (also there: --alt T)"
    )
    assert draw(files, "c1:101-101", out)["alt"] == other(TEXT[100])
    assert draw(files, "c1:301", out, settings=TensorSettings(read_limit=3))["reads"] == 3


def test_a_plain_vcf_gives_the_same_picture(files, tmp_path):
    plain = tmp_path / "calls.vcf"
    with gzip.open(files["vcf"]) as lines:
        plain.write_bytes(lines.read())
    draw(files, "c1:301", tmp_path / "a.png")
    draw({**files, "vcf": str(plain)}, "c1:301", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("at", "alt", "error", "sentence"),
    [
        ("c1", None, UsageError, "'c1' has no position; write it as chr20:10000117"),
        ("c1:300-310", None, UsageError, "'c1:300-310' is a stretch; give the position of one record"),
        ("c1:0", None, UsageError, "positions count from 1"),
        ("c3:5", None, InputError, r"has no records on 'c3'; it has c1"),
        ("chrc1:5", None, InputError, r"has no records on 'chrc1'; did you mean 'c1'\?"),
        ("c1:302", None, InputError, r"has no record at c1:302, the nearest at 251 and 301 and 321; give the POS"),
        ("c1:301", "G", UsageError, r"c1:301 has the ALT T, C, not G; choose one of these with --alt"),
        ("c1:201", None, UsageError, r"c1:201 has no tensor for <DEL> \(symbolic\); only ALTs that are sequences"),
        ("c1:251", None, UsageError, r"the record at c1:251 has no ALT and so no tensor"),
        ("c1:321", None, InputError, r"c1:321 has REF . where .*reference\.fa has"),
    ],
)
def test_if_nothing_can_be_drawn_one_sentence_says_why(files, tmp_path, at, alt, error, sentence):
    with pytest.raises(error, match=sentence):
        draw(files, at, tmp_path / "x.png", alt=alt)
    with pytest.raises(InputError, match="has a REF that .* does not have there"):
        draw(files, "c1:321", tmp_path / "x.png", settings=TensorSettings(on_ref_mismatch="skip"))
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_refused_before_any_work(files, tmp_path):
    with pytest.raises(UsageError, match=r"x\.jpg must end in \.png"):
        draw(files, "c1:301", tmp_path / "x.jpg")
    with pytest.raises(UsageError, match=r"the folder of .* does not exist"):
        draw(files, "c1:301", tmp_path / "no" / "x.png")


def test_a_position_is_read_as_samtools_reads_it():
    contigs = ["chr20", "HLA:01"]
    assert parse_position("chr20:10,000,117", contigs) == ("chr20", 10_000_116)
    assert parse_position("chr20:5-5", contigs) == ("chr20", 4)
    assert parse_position("HLA:01:7", contigs) == ("HLA:01", 6)
    with pytest.raises(UsageError, match="has no position"):
        parse_position("HLA:01", contigs)


@pytest.fixture(scope="module")
def written(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of two blocks, as the tensors stage writes it."""
    folder = tmp_path_factory.mktemp("dataset")
    tiny = Tiny(tmp_path_factory.mktemp("tiny"), {"c1": TEXT}, reads())
    blocks = [
        Block(0, Region("c1", 0, 200), 1, 1, 0, "", 100, 100),
        Block(1, Region("c1", 200, 400), 2, 2, 1, "", 300, 300),
    ]
    run = dataset.dataset_folder(str(folder))
    run.open({}, blocks, "overwrite")
    first, _ = tiny.build([record(100, TEXT[100], other(TEXT[100]), "c1")])
    second, _ = tiny.build([record(300, "C", "T", "c1", 1), record(300, TEXT[300:305], "C", "c1", 2)])
    dataset.write_block(run, blocks[0], first, np.array([0]), "tiny", {})
    dataset.write_block(run, blocks[1], second, np.array([1, -1]), "tiny", {})
    write_short_card(run, ())
    return str(folder)


def test_a_dataset_gives_the_picture_of_the_callset(files, written, tmp_path):
    told = draw(files, "c1:301", tmp_path / "vcf.png", alt="T", sample="S1")
    result = show_from_dataset(written, "c1:301", None, str(tmp_path / "data.png"))
    assert result == {**told, "out": str(tmp_path / "data.png"), "sample": "tiny", "label": "true"}
    # Below the titles, which name QUAL or the label, the pictures are the same.
    a, b = pixels(tmp_path / "vcf.png"), pixels(tmp_path / "data.png")
    assert np.array_equal(a[44:], b[44:])
    assert not np.array_equal(a[:44], b[:44])
    deletion = show_from_dataset(written, "c1:301", "C", str(tmp_path / "c.png"))
    assert (deletion["type"], deletion["label"]) == ("DELETION", "unlabelled")
    assert show_from_dataset(written, "c1:101", None, str(tmp_path / "d.png"))["label"] == "false"


def test_a_dataset_without_the_allele_says_what_it_has(written, tmp_path):
    out = str(tmp_path / "x.png")
    with pytest.raises(UsageError, match=r"c1:301 has the ALT T, C in .*, not A; choose one of these with --alt"):
        show_from_dataset(written, "c1:301", "A", out)
    with pytest.raises(InputError, match=r"holds no tensor at c1:303; check --at"):
        show_from_dataset(written, "c1:303", None, out)
    with pytest.raises(InputError, match=r"holds no tensor on 'c9'; it has c1"):
        show_from_dataset(written, "c9:303", None, out)
    with pytest.raises(InputError, match="is not a folder"):
        show_from_dataset(str(tmp_path / "nowhere"), "c1:301", None, out)


def test_sites_without_reads_and_with_very_many_are_drawn(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "many").mkdir()
    alone, _ = Tiny(tmp_path / "none", {"c": TEXT}, []).build([record(300, "C", "T")])
    show_tensor(alone, 0, tmp_path / "none.png")
    many = [
        TinyRead(220 + k % 80, "100M", TEXT[220 + k % 80 : 320 + k % 80], name=f"r{k}", quals=None) for k in range(300)
    ]
    batch, _ = Tiny(tmp_path / "many", {"c": TEXT}, many).build([record(300, "C", "T")])
    show_tensor(batch, 0, tmp_path / "many.png", "$a_b$ <&>")
    assert pixels(tmp_path / "none.png").shape[0] < 400
    assert 128 * 6 < pixels(tmp_path / "many.png").shape[0] < 1200
    with pytest.raises(UsageError, match=r"none.* cannot be written"):
        show_tensor(alone, 0, tmp_path / "none" / "no" / "x.png")
