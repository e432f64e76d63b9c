"""Reads and records by window, estimated from indexes, against counts by samtools and pysam."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pysam
import pytest

from cnnspark.config import InputPaths
from cnnspark.errors import InputError
from cnnspark.formats.binning_index import WINDOW_BASES, find_index, read_binning_index, read_crai
from cnnspark.formats.read_depth import ReadDepths, read_depths
from tests.conftest import write_vcf


def starts(bam: str, contig: str, windows: int) -> np.ndarray:
    """(windows,) reads that begin in each window, counted by pysam."""
    with pysam.AlignmentFile(bam) as file:
        begin = [read.reference_start // WINDOW_BASES for read in file.fetch(contig)]
    return np.bincount(begin, minlength=windows)[:windows]


def check(depths: ReadDepths, bam: str, contig: str, tolerance: float) -> None:
    windows = len(depths.cumulated[contig]) - 1
    estimated = np.array([depths.reads(contig, w * WINDOW_BASES, (w + 1) * WINDOW_BASES) for w in range(windows)])
    counted = starts(bam, contig, windows)
    some = counted > 300
    assert some.any()
    assert np.abs(estimated[some] / counted[some] - 1).max() < tolerance
    assert estimated[counted == 0].sum() <= 0.01 * counted.sum()
    assert estimated.sum() == pytest.approx(counted.sum(), rel=0.02)


def made_bam(path: Path, per_window: list[int], bases: int = 100) -> str:
    """A BAM with so many reads in each window, of random sequence and qualities."""
    rng = np.random.default_rng(5)
    header = pysam.AlignmentHeader.from_references(["c1", "c2"], [len(per_window) * WINDOW_BASES, 50_000])
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        for window, count in enumerate(per_window):
            for start in np.sort(rng.integers(0, WINDOW_BASES - bases, count)) + window * WINDOW_BASES:
                read = pysam.AlignedSegment(header)
                read.query_name = f"r{rng.integers(1 << 40)}"
                read.query_sequence = "".join(rng.choice(list("ACGT"), bases))
                read.query_qualities = pysam.qualitystring_to_array("".join(map(chr, rng.integers(50, 73, bases))))
                read.reference_id, read.reference_start, read.cigarstring = 0, int(start), f"{bases}M"
                read.mapping_quality, read.flag = 60, 0
                out.write(read)
    pysam.index(str(path))
    return str(path)


@pytest.mark.parametrize("form", ["bai", "csi"])
def test_a_spike_and_a_gap_are_in_their_windows(tmp_path: Path, form: str) -> None:
    counted = [500, 500, 5000, 500, 0, 0, 0, 500, 0, 500]
    bam = made_bam(tmp_path / "reads.bam", counted)
    if form == "csi":
        pysam.index("-c", bam)
        Path(f"{bam}.bai").unlink()
    depths = read_depths(bam)
    assert depths is not None and depths.read_bases == 100 and depths.mapped == sum(counted)
    check(depths, bam, "c1", 0.25)
    assert depths.depth("c1", 2 * WINDOW_BASES + 5) > 7 * depths.depth("c1", 5)
    assert depths.depth("c2", 5) == depths.depth("c3", 5) == depths.reads("c3", 0, 100) == 0


def test_empty_windows_of_htsjdk_and_htslib_give_the_same(tmp_path: Path) -> None:
    """htsjdk repeats the offset of the window before an empty one, htslib that of the window after it."""
    bam = made_bam(tmp_path / "reads.bam", [800, 0, 0, 0, 800])
    expected = read_binning_index(f"{bam}.bai", bam)[1][0].window_records
    content = bytearray(Path(f"{bam}.bai").read_bytes())
    linear = np.frombuffer(content, "<u8", offset=len(content) - 8 - 8 - 5 * 8, count=5).copy()
    assert linear[1] == linear[4] > linear[0]  # as htslib wrote it
    linear[1:4] = linear[0]
    content[len(content) - 8 - 8 - 5 * 8 : len(content) - 16] = linear.tobytes()
    other = tmp_path / "htsjdk.bai"
    other.write_bytes(content)
    assert read_binning_index(str(other), bam)[1][0].window_records == pytest.approx(expected)
    assert expected[[0, 4]] == pytest.approx([800, 800], rel=0.1) and not expected[1:4].any()


def test_the_depth_of_a_simulated_sample_is_that_of_samtools(simulated: InputPaths) -> None:
    bam = str(simulated.reads)
    depths = read_depths(bam)
    assert depths is not None
    check(depths, bam, "chrA", 0.2)
    text = pysam.depth("-a", "-r", f"chrA:{WINDOW_BASES + 1}-{2 * WINDOW_BASES}", bam)
    mean = np.mean([int(line.split("\t")[2]) for line in text.splitlines()])
    assert depths.depth("chrA", WINDOW_BASES + 100) == pytest.approx(mean, rel=0.2)


def test_real_reads_and_their_cram(data: Path) -> None:
    folder = data / "real" / "NA12878"
    bam, cram = str(folder / "NA12878.chr20.bam"), str(folder / "NA12878.chr20.cram")
    for path in (bam, cram):
        depths = read_depths(path)
        assert depths is not None and depths.read_bases == pytest.approx(101)
        check(depths, bam, "chr20", 0.08)
    check(read_depths(str(data / "sim" / "DEV.bam")), str(data / "sim" / "DEV.bam"), "chr20", 0.3)  # type: ignore[arg-type]


def test_a_callsets_records_are_counted(tmp_path: Path, simulated: InputPaths) -> None:
    names, contigs = read_binning_index(f"{simulated.vcf}.tbi", str(simulated.vcf))
    counted = dict.fromkeys(names, 0)
    with pysam.TabixFile(str(simulated.vcf)) as file:
        for line in file.fetch():
            counted[line.split("\t", 1)[0]] += 1
    assert {name: contig.records for name, contig in zip(names, contigs, strict=True)} == counted
    vcf = write_vcf(tmp_path / "a.vcf.gz", ["c2 5 . A C . . ."])
    pysam.tabix_index(vcf, preset="vcf", force=True, csi=True)
    names, contigs = read_binning_index(f"{vcf}.csi", vcf)
    assert names == ["c2"] and contigs[0].records == 1 and contigs[0].window_records.sum() == 1


def test_another_file_than_an_index_is_an_input_error(tmp_path: Path) -> None:
    for content in (b"", b"no index", b"BAI\1\5\0\0\0"):
        (tmp_path / "a.bai").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_binning_index(str(tmp_path / "a.bai"), str(tmp_path / "a.bam"))
    (tmp_path / "a.crai").write_text("0\t1\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_crai(str(tmp_path / "a.crai"))


def test_without_an_index_no_depth_is_known(tmp_path: Path) -> None:
    assert read_depths(None) is None
    assert read_depths("nosuch://bucket/reads.bam") is None
    assert read_depths(str(tmp_path / "none.bam")) is None
    (tmp_path / "broken.bam").write_bytes(b"nothing")
    (tmp_path / "broken.bai").write_bytes(b"nothing")
    assert find_index(str(tmp_path / "broken.bam"), (".bai",)) == str(tmp_path / "broken.bai")
    assert read_depths(str(tmp_path / "broken.bam")) is None
