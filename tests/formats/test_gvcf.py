"""gVCF, symbolic alleles and long deletions: what cannot be scored passes through, and is counted and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pysam
import pytest

from cnnspark.cli import main
from cnnspark.config import InputPaths
from cnnspark.execution.blocks import BlockSettings, cut_window
from cnnspark.formats.regions import END_OF_CONTIG, Region
from cnnspark.formats.vcf import VcfSource
from cnnspark.scoring.score import counts_text
from tests.conftest import read_lines, write_vcf
from tests.stages.test_stages import without_scores

# One ALT of each kind that is not scored, beside one that is.
ALTS = (
    "<NON_REF>",
    "{alt},<NON_REF>",
    "{alt},<*>",
    "*,{alt}",
    "<DEL>",
    "<DUP:TANDEM>",
    "{ref}[chrB:500[",
    "]chrB:500]{ref}",
    ".",
)


@pytest.mark.spark
def test_a_gvcf_stays_as_it_was_except_for_scores(
    spark: Any, simulated: InputPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, wanted = [], 0
    for number, line in enumerate(read_lines(str(simulated.vcf))):
        columns = line.split("\t")
        # HaplotypeCaller -ERC GVCF: each record has <NON_REF>, between them are blocks of no variant.
        alt = ALTS[number % len(ALTS)].format(ref=columns[3], alt=columns[4])
        columns[4] = alt
        columns[8:] = ["GT", "0/1"]
        lines.append("\t".join(columns))
        wanted += columns[4].split(",").count(line.split("\t")[4])
    with pysam.VariantFile(str(simulated.vcf)) as source:
        head = str(source.header).rstrip("\n").split("\n")[:-1]
        name = source.header.samples[0]
    gvcf = Path(write_vcf(tmp_path / "a.g.vcf", lines, head))
    gvcf.write_text(gvcf.read_text().replace("FORMAT\tS1\n", f"FORMAT\t{name}\n"))
    out = str(tmp_path / "out")
    command = ["score", "--vcf", str(gvcf), "--reads", str(simulated.reads), "--reference", str(simulated.reference)]
    assert main([*command, "--model", "features", "--out", out]) == 0
    printed = capsys.readouterr()
    assert without_scores(read_lines(f"{out}/merged.vcf.gz")) == lines
    counts = json.loads(Path(out, "manifest.json").read_text())["counts"]
    alts = [alt for line in lines for alt in line.split("\t")[4].split(",")]
    assert counts["alleles scored"] == wanted > 50
    expected = {
        "<NON_REF>": alts.count("<NON_REF>") + alts.count("<*>"),
        "*": alts.count("*"),
        "symbolic": alts.count("<DEL>") + alts.count("<DUP:TANDEM>"),
        "breakend": sum("[" in alt or "]" in alt for alt in alts),
        "no ALT": alts.count("."),
    }
    assert {
        key.removeprefix("passed through: "): n for key, n in counts.items() if key.startswith("passed")
    } == expected
    assert all(f"{n} {reason}" in printed.out for reason, n in expected.items())
    assert f"{wanted} alleles scored, passed through: " in printed.out


def test_a_callset_that_is_mostly_reference_blocks_is_called_a_gvcf(tmp_path: Path) -> None:
    from cnnspark.stages.preflight import check_inputs

    lines = [f"c1 {10 * i} . A <NON_REF> . . END={10 * i + 9}" for i in range(1, 9)]
    vcf = VcfSource(write_vcf(tmp_path / "a.vcf.gz", [*lines, "c1 95 . A C,<NON_REF> . . ."]))
    (said,) = check_inputs(vcf, None, None).warnings
    assert "looks like a gVCF (9 of 9 records have <NON_REF>)" in said and "pass through unscored" in said


def test_the_summary_names_what_was_passed_through() -> None:
    assert counts_text({"alleles scored": 5}) == "5 alleles scored"
    counts = {"alleles scored": 5, "alleles scored, by sample": 9, "passed through: *": 2, "records scored": 3}
    assert counts_text(counts) == "5 alleles scored in 9 carriers, passed through: 2 *"


@pytest.mark.parametrize("records", [1, 2, 3, 7])
def test_a_long_deletion_belongs_to_the_block_of_its_position_wherever_others_are_cut(
    tmp_path: Path, records: int
) -> None:
    """A deletion of 3,000 bases and a reference block of 4,000 span the next blocks; htslib returns both in
    each query there (bcftools#2461)."""
    lines = [
        "c1 100 . A C . . .",
        f"c1 200 . {'A' * 3000} A . . .",
        "c1 300 . A <DEL> . . END=4300;SVLEN=-4000",
        "c1 300 . A <NON_REF> . . END=4300",
        *(f"c1 {pos} . A C . . ." for pos in range(400, 5000, 400)),
    ]
    source = VcfSource(write_vcf(tmp_path / "a.vcf.gz", lines))
    whole = list(source.lines(Region("c1")))
    cuts = cut_window(iter(whole), Region("c1", 0, END_OF_CONTIG), BlockSettings(records=records))
    assert len(cuts) > 1 or records > len(lines)
    again = [list(source.lines(Region("c1", cut.start, cut.end))) for cut in cuts]
    assert [line for block in again for line in block] == whole == [line.replace(" ", "\t") for line in lines]
    assert [len(block) for block in again] == [cut.records for cut in cuts]
