"""Candidates against a slow and obvious count over pysam's pileup, scipy's tests, GIAB's truth, and cases by hand."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pysam
import pytest
from scipy import stats

from cnnspark.config import InputPaths
from cnnspark.errors import InputError
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region, read_bed
from cnnspark.formats.vcf import Record
from cnnspark.variants.candidate_kernels import (
    END_DISTANCE,
    QUALITY,
    READ,
    allele_statistics,
    fisher_strand,
    rank_sum_z,
    strand_odds_ratio,
)
from cnnspark.variants.candidates import CandidateSettings, candidate_header, candidate_lines, genotype_likelihoods
from cnnspark.variants.haplotypes import ReferenceWindow, left_normalise, make_allele

DEFAULT = CandidateSettings()
Key = tuple[int, str, str]


def call(reads: str, reference: str, regions: Iterable[Region], settings: CandidateSettings = DEFAULT) -> list[str]:
    source = ReferenceSource(reference)
    with ReadSource(reads) as read_source:
        return [line for region in regions for line in candidate_lines(region, read_source, source, settings, "S1")]


def counts(lines: Iterable[str]) -> dict[Key, tuple[list[int], int]]:
    """(POS-1, REF, ALT) to AD and DP."""
    found = {}
    for line in lines:
        record = Record(line)
        values = record.format_values(0)
        assert values["DP"] == record.info_value("DP")
        found[record.start, record.ref, record.alts[0]] = [int(n) for n in values["AD"].split(",")], int(values["DP"])
    return found


def roll_left(sequence: str, start: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Left-normalises an indel with anchor base, one base at a time, as the definition says (Tan et al. 2015)."""
    while ref[-1] == alt[-1] and start > 0:
        ref, alt = ref[:-1], alt[:-1]
        if not ref or not alt:
            start -= 1
            ref, alt = sequence[start] + ref, sequence[start] + alt
    return start, ref, alt


def pileup_counts(
    path: str, contig: str, sequence: str, settings: CandidateSettings
) -> dict[Key, tuple[list[int], int]]:
    """What :func:`counts` should give, by pysam's pileup and dictionaries."""
    bases: dict[int, list[str]] = defaultdict(list)
    spanning: dict[int, set[str]] = defaultdict(set)
    indels: dict[Key, set[str]] = defaultdict(set)
    with pysam.AlignmentFile(path) as bam:
        columns = bam.pileup(
            contig,
            stepper="all",
            flag_filter=0x4 | 0x100 | 0x200 | 0x400 | 0x800,
            min_base_quality=0,
            ignore_overlaps=False,
            ignore_orphans=False,
            max_depth=1_000_000,
        )
        for column in columns:
            at = column.reference_pos
            for seen in column.pileups:
                read = seen.alignment
                if seen.is_del or seen.is_refskip:
                    continue
                name = f"{read.query_name}/{read.is_read1}"
                if read.query_qualities[seen.query_position] >= settings.min_base_quality:
                    bases[at].append(read.query_sequence[seen.query_position])
                if at + 1 < read.reference_end:
                    spanning[at].add(name)
                if seen.indel > 0:
                    end = seen.query_position + 1 + seen.indel
                    inserted = read.query_sequence[seen.query_position + 1 : end]
                    indels[roll_left(sequence, at, sequence[at], sequence[at] + inserted)].add(name)
                elif seen.indel < 0:
                    deleted = sequence[at : at + 1 - seen.indel]
                    indels[roll_left(sequence, at, deleted, sequence[at])].add(name)
    expected: dict[Key, tuple[list[int], int]] = {}
    for at, letters in bases.items():
        for alt in set(letters) - {sequence[at], "N"}:
            n_alt = letters.count(alt)
            if n_alt >= settings.min_reads and n_alt / len(letters) >= settings.min_snv_fraction:
                expected[at, sequence[at], alt] = [letters.count(sequence[at]), n_alt], len(letters)
    with_indel: dict[int, set[str]] = defaultdict(set)
    for (at, _, _), names in indels.items():
        with_indel[at] |= names
    for (at, ref, alt), names in indels.items():
        n_alt, depth = len(names & spanning[at]), len(spanning[at])
        if n_alt >= settings.min_reads and n_alt / depth >= settings.min_indel_fraction:
            expected[at, ref, alt] = [len(spanning[at] - with_indel[at]), n_alt], depth
    return expected


@pytest.mark.parametrize("settings", [DEFAULT, CandidateSettings(3, 0.05, 0.02, 20)], ids=["default", "permissive"])
def test_every_allele_has_the_depths_that_the_pileup_gives(simulated: InputPaths, settings: CandidateSettings) -> None:
    reference = ReferenceSource(str(simulated.reference))
    for contig, length in reference.lengths.items():
        sequence = reference.sequence(contig, 0, length)
        expected = pileup_counts(str(simulated.reads), contig, sequence, settings)
        found = counts(call(str(simulated.reads), str(simulated.reference), [Region(contig, 0, length)], settings))
        assert len(expected) > 15
        assert found == expected


@pytest.mark.parametrize("parts", [3, 16, 97])
def test_cuts_of_the_genome_change_no_line(simulated: InputPaths, parts: int) -> None:
    reads, reference = str(simulated.reads), str(simulated.reference)
    length = ReferenceSource(reference).lengths["chrA"]
    whole = call(reads, reference, [Region("chrA")])
    edges = [length * i // parts for i in range(parts + 1)]
    # Cuts between an anchor and its neighbours are the awkward ones.
    edges = sorted({*edges, *(Record(line).start for line in whole[:: len(whole) // 10])})
    cut = call(reads, reference, [Region("chrA", a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)])
    assert cut == whole
    keys = [(record.start, record.ref, record.alts) for record in map(Record, whole)]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


#                     0         10        20        30        40
SEQUENCE = "GATTACAGGCTCACACACACTGGATCCGTAAGCTTGCATGCCTGCAGGTCGACTCTAGAG"


def write_bam(folder: Path, reads: list[tuple[int, str, str, int]]) -> tuple[str, str]:
    """A reference of one contig ``c`` and a BAM of (start, CIGAR, sequence, flag); mapping quality 60, qualities 30."""
    reference = folder / "small.fa"
    reference.write_text(f">c\n{SEQUENCE}\n")
    pysam.faidx(str(reference))
    header = pysam.AlignmentHeader.from_references(["c"], [len(SEQUENCE)])
    path = folder / "small.bam"
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        for i, (start, cigar, sequence, flag) in enumerate(sorted(reads)):
            read = pysam.AlignedSegment(header)
            read.query_name, read.flag, read.reference_id, read.reference_start = f"r{i}", flag, 0, start
            read.mapping_quality, read.cigarstring, read.query_sequence = 60, cigar, sequence
            read.query_qualities = pysam.qualitystring_to_array("?" * len(sequence))
            out.write(read)
    pysam.index(str(path))
    return str(path), str(reference)


def test_spellings_of_one_deletion_add_up(tmp_path: Path) -> None:
    # CTCACACACACT: one CA of the repeat at 11..19 is gone, opened in three places by three reads.
    spelled = [(5, f"{n}M2D{30 - n}M", SEQUENCE[5:11] + SEQUENCE[13:37], 0) for n in (6, 8, 12)]
    plain = [(5, "30M", SEQUENCE[5:35], 16)] * 3
    found = counts(call(*write_bam(tmp_path, [*spelled, *plain]), [Region("c")]))
    assert found == {(10, "TCA", "T"): ([3, 3], 6)}


def test_clips_skips_and_filtered_reads_show_nothing(tmp_path: Path) -> None:
    wrong = "T" if SEQUENCE[30] != "T" else "A"
    changed = SEQUENCE[20:30] + wrong + SEQUENCE[31:40]
    reads = [
        *[(20, "20M", changed, 0)] * 3,
        *[(20, "20M", SEQUENCE[20:40], 16)] * 2,
        *[(20, "20M", changed, flag) for flag in (0x400, 0x200, 0x100, 0x800)],
        (22, "2H2S16M2S", "AA" + SEQUENCE[22:30] + wrong + SEQUENCE[31:38] + "AA", 0),
        (5, "10M20N10M", SEQUENCE[5:15] + SEQUENCE[35:45], 0),
        # An insertion beside a clip has no bases on its other side.
        *[(10, "5S3I20M", "ACGTAGGG" + SEQUENCE[10:30], 0)] * 3,
    ]
    found = counts(call(*write_bam(tmp_path, reads), [Region("c")]))
    assert found == {(30, SEQUENCE[30], wrong): ([2, 4], 6)}


def test_a_read_that_ends_at_the_anchor_says_nothing_about_the_indel(tmp_path: Path) -> None:
    inserted = [(20, "10M3I10M", SEQUENCE[20:30] + "TTT" + SEQUENCE[30:40], 0)] * 2
    ends_there = [(20, "10M", SEQUENCE[20:30], 0)] * 2
    found = counts(call(*write_bam(tmp_path, [*inserted, *ends_there]), [Region("c")]))
    assert [value for (_, ref, alt), value in found.items() if len(alt) - len(ref) == 3] == [([0, 2], 2)]


def test_regions_without_reads_are_empty_and_unknown_contigs_are_named(tmp_path: Path) -> None:
    reads, reference = write_bam(tmp_path, [(5, "30M", SEQUENCE[5:35], 0)])
    assert call(reads, reference, [Region("c", 50), Region("c", 0, 3), Region("c", 500, 600)]) == []
    with pytest.raises(InputError, match="no contig 'x'"):
        call(reads, reference, [Region("x")])


def test_rank_sums_are_scipys_mann_whitney() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        alt, ref = (rng.integers(0, 20, rng.integers(1, 30)) for _ in range(2))
        if len({*alt, *ref}) == 1:
            continue
        test = stats.mannwhitneyu(alt, ref, method="asymptotic", use_continuity=False)
        z = rank_sum_z(alt, ref)
        assert 2 * stats.norm.sf(abs(z)) == pytest.approx(test.pvalue, abs=1e-12)
        assert np.sign(z) == np.sign(test.statistic - len(alt) * len(ref) / 2)
    assert rank_sum_z(np.array([60, 60]), np.array([60])) == 0
    assert np.isnan(rank_sum_z(np.array([60, 60]), np.array([], dtype=np.int64)))


def test_strand_bias_is_scipys_fisher_and_gatks_sor() -> None:
    rng = np.random.default_rng(4)
    for table in rng.integers(0, 40, (60, 2, 2)):
        expected = -10 * np.log10(stats.fisher_exact(table).pvalue)
        assert fisher_strand(*table.ravel()) == pytest.approx(expected, abs=1e-6)
    assert fisher_strand(0, 0, 5, 0) == 0
    # 10/10 against 1/9 by hand, one added: R = 11*10 / (11*2) = 5; ln(5 + 1/5) + ln(11/11) - ln(2/10).
    assert strand_odds_ratio(10, 10, 1, 9) == pytest.approx(np.log(5.2) + np.log(5))
    assert strand_odds_ratio(10, 10, 10, 10) == pytest.approx(np.log(2))


def test_unknown_mapping_qualities_are_left_out() -> None:
    is_alt = np.array([True, True, False, False])
    mapqs = np.array([255, 30, 255, 40], dtype=np.uint8)
    seen = np.zeros((4, 6), dtype=np.int64)
    seen[:, READ], seen[:, QUALITY], seen[:, END_DISTANCE] = range(4), 30, 30
    forward = np.zeros(4, dtype=np.uint16)
    mq, _, _, mq_rank_sum, base_rank_sum, _ = allele_statistics(is_alt, ~is_alt, seen, mapqs, forward)
    assert mq == pytest.approx(np.sqrt((30**2 + 40**2) / 2))
    assert mq_rank_sum == rank_sum_z(np.array([30]), np.array([40]))
    assert base_rank_sum == 0
    unknown = allele_statistics(is_alt, ~is_alt, seen, np.full(4, 255, dtype=np.uint8), forward)
    assert np.isnan(unknown[0]) and np.isnan(unknown[3])


@pytest.mark.parametrize(
    ("n_ref", "n_alt", "genotype"), [(15, 15, 1), (0, 20, 2), (27, 3, 0)], ids=["het", "hom", "error"]
)
def test_quality_is_the_posterior_of_no_variant(n_ref: int, n_alt: int, genotype: int) -> None:
    likelihood = [(1 - f) ** n_ref * f**n_alt for f in (0.01, 0.5, 0.99)]
    prior = (1 - 0.0015, 0.001, 0.0005)
    joint = [a * b for a, b in zip(likelihood, prior, strict=True)]
    qual, phred = genotype_likelihoods(n_ref, n_alt, DEFAULT)
    assert qual == pytest.approx(-10 * np.log10(joint[0] / sum(joint)), abs=1e-6)
    assert phred == [round(-10 * np.log10(value / max(likelihood))) for value in likelihood]
    assert phred[genotype] == 0


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="needs bcftools")
def test_bcftools_reads_every_record_and_finds_it_normalised(simulated: InputPaths, tmp_path: Path) -> None:
    reference = ReferenceSource(str(simulated.reference))
    lines = candidate_header(reference.lengths, "S1")
    lines += call(str(simulated.reads), str(simulated.reference), map(Region, reference.lengths))
    path = tmp_path / "candidates.vcf"
    path.write_text("\n".join(lines) + "\n")
    command = ["bcftools", "norm", "-c", "e", "-f", str(simulated.reference), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n = sum(not line.startswith("#") for line in lines)
    # total/split/realigned/skipped (newer versions count more kinds between)
    numbers = done.stderr.rsplit(":", 1)[1].strip().split("/")
    assert int(numbers[0]) == n
    assert not any(map(int, numbers[1:]))
    # Nothing undeclared: htslib would say so.
    assert "[W::" not in done.stderr and "[E::" not in done.stderr
    records = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(records) == n


def test_candidates_of_real_reads_hold_the_truth(data: Path) -> None:
    folder = data / "real" / "NA12878"
    region = Region("chr20", 10_000_000, 10_100_000)
    reference = str(folder / "ref.hg19.chr20.fa.gz")
    lines = call(str(folder / "NA12878.chr20.bam"), reference, [region])
    found = counts(lines)
    letters = ReferenceWindow(ReferenceSource(reference), "chr20")
    bed = read_bed(str(folder / "NA12878.confident.proxy.bed"))
    hits: dict[str, list[bool]] = defaultdict(list)
    with pysam.VariantFile(str(folder / "NA12878.truth.vcf.gz")) as truth:
        for record in truth.fetch("chr20", region.start, region.end):
            if not region.owns(record.start) or not any(inside.owns(record.start) for inside in bed):
                continue
            for alt in record.alts:
                start, ref, alt = left_normalise(make_allele(record.start, record.ref, alt, 0), letters)
                if not ref or not alt:
                    start, anchor = start - 1, letters(start - 1, start)
                    ref, alt = anchor + ref, anchor + alt
                hits["SNP" if len(ref) == len(alt) else "INDEL"].append((start, ref, alt) in found)
    # 165 SNPs, all found; 26 indels, 25 found: one read alone opens the 8-base insertion at 10,037,144.
    assert len(hits["SNP"]) == 165 and all(hits["SNP"])
    assert len(hits["INDEL"]) == 26 and sum(hits["INDEL"]) >= 25
