"""A callset of many small contigs, like an assembly's: few blocks, and the records of one block for each contig."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from cnnspark import stages
from cnnspark.config import InputPaths, load_config
from cnnspark.execution import blocks
from cnnspark.execution.tasks import LocalSession
from cnnspark.filtering.request import FilterOptions
from cnnspark.stages.requests import ScoreRequest
from cnnspark.variants.carriers import Member
from tests.conftest import read_lines, write_vcf

CONTIGS, LENGTH, SITE = 12, 1000, 600
NEXT = dict(zip("ACGT", "CGTA", strict=True))


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contigs of one SNV each, which half of the reads of sample S1 carry and none of T's."""
    folder, rng = tmp_path_factory.mktemp("assembly"), np.random.default_rng(3)
    names = [f"s{i}" for i in range(CONTIGS)]
    contigs = {name: "".join(rng.choice(list("ACGT"), LENGTH)) for name in names}
    (folder / "ref.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
    pysam.faidx(str(folder / "ref.fa"))
    for sample, carries in (("S1", True), ("T", False)):
        _write_reads(folder / f"{sample}.bam", sample, contigs, carries)
    head = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">']
    head += [f"##contig=<ID={name},length={LENGTH}>" for name in names]
    lines = [f"{name} {SITE + 1} . {bases[SITE]} {NEXT[bases[SITE]]} 50 . . GT 0/1" for name, bases in contigs.items()]
    write_vcf(folder / "one.vcf.gz", lines, head)
    text = "\n".join(
        [*head, "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "S1", "T"])]
    )
    for line in lines:
        text += "\n" + f"{line} 0/1".replace(" ", "\t")
    (folder / "two.vcf").write_text(text + "\n")
    pysam.tabix_index(str(folder / "two.vcf"), preset="vcf")
    return folder


def _write_reads(path: Path, sample: str, contigs: dict[str, str], carries: bool) -> None:
    header = pysam.AlignmentHeader.from_dict(
        {
            "HD": {"VN": "1.6", "SO": "coordinate"},
            "SQ": [{"SN": name, "LN": LENGTH} for name in contigs],
            "RG": [{"ID": "1", "SM": sample}],
        }
    )
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        for number, bases in enumerate(contigs.values()):
            for i in range(8):
                start = SITE - 100 + i * 5
                read = pysam.AlignedSegment(header)
                read.query_name, read.flag, read.mapping_quality = f"{number}-{i}", 0, 60
                read.reference_id, read.reference_start, read.cigartuples = number, start, [(0, 150)]
                letters = list(bases[start : start + 150])
                if carries and i % 2:
                    letters[SITE - start] = NEXT[letters[SITE - start]]
                read.query_sequence, read.query_qualities = "".join(letters), pysam.qualitystring_to_array("I" * 150)
                read.set_tag("RG", "1")
                out.write(read)
    pysam.index(str(path))


@pytest.mark.parametrize("samples", [1, 2])
def test_joined_contigs_have_the_records_of_a_block_for_each(
    assembly: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    reads: dict[str, Any] = {"vcf": str(assembly / "one.vcf.gz"), "reads": str(assembly / "S1.bam")}
    if samples == 2:
        members = tuple(Member(sample, str(assembly / f"{sample}.bam")) for sample in ("S1", "T"))
        reads = {"vcf": str(assembly / "two.vcf.gz"), "members": members}
    paths = InputPaths(reference=str(assembly / "ref.fa"), **reads)

    def made_blocks(name: str, *config: str) -> int:
        out = str(tmp_path / name)
        request = ScoreRequest(paths, "bundled:features", out, load_config(None, list(config)))
        found = stages.score_callset(LocalSession(), request)["conservation"]["blocks"]
        stages.filter_callset(LocalSession(), out, f"{out}.vcf.gz", load_config(), FilterOptions(threshold=0.0))
        return found

    assert made_blocks("joined") == 1 and made_blocks("halves", f"blocks.records={CONTIGS // 2}") == 2
    monkeypatch.setattr(blocks, "join_small_contigs", lambda counted, settings: counted)
    assert made_blocks("apart") == CONTIGS
    for name in ("joined", "halves"):
        for file in ("{}/merged.vcf.gz", "{}.vcf.gz"):
            # The last digit of a score may depend on how many alleles a block has.
            (texts, scores), (other_texts, others) = (parted(tmp_path / file.format(each)) for each in (name, "apart"))
            assert texts == other_texts and np.abs(scores - others).max() < 0.002
    assert len(read_lines(tmp_path / "joined.vcf.gz")) == CONTIGS


def parted(path: Path) -> tuple[list[str], np.ndarray]:
    """The records of a callset without scores, and the scores."""
    parts = [re.split(r"(?<=[=:,])(-?\d+\.\d{3})", line) for line in read_lines(path)]
    return ["".join(part[::2]) for part in parts], np.array([float(score) for part in parts for score in part[1::2]])
