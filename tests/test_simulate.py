"""The simulated sample against what was asked for: the same bytes again, a truth that the reads show, valid files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pysam
import pytest
from sklearn.metrics import average_precision_score

from cnnspark.errors import UsageError
from cnnspark.reference import A, C, G, ReferenceSource, T, encode_bases
from cnnspark.regions import read_bed
from cnnspark.simulate import SimulatedFiles, simulate
from cnnspark.simulation.alignment import align
from cnnspark.simulation.genome import COLLAPSED_SHARE, decode_bases, make_contig
from cnnspark.simulation.sample import draw_variants, make_paralogs
from cnnspark.simulation.sequencing import READ_LENGTH, RawReads

LENGTH, COVERAGE = 120_000, 25.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFiles:
    return simulate(tmp_path_factory.mktemp("simulate"), seed=2, length=LENGTH, coverage=COVERAGE)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def true_alleles(files: SimulatedFiles) -> list[tuple[str, int, str, str]]:
    """(contig, POS-1, REF, ALT) of the truth; an MNV as the SNVs it is made of."""
    alleles = []
    with pysam.VariantFile(str(files.truth)) as truth:
        for record in truth:
            (alt,) = record.alts
            if len(alt) != len(record.ref):
                alleles.append((record.contig, record.start, record.ref, alt))
                continue
            bases = zip(record.ref, alt, strict=True)
            alleles += [(record.contig, record.start + i, a, b) for i, (a, b) in enumerate(bases) if a != b]
    return alleles


def test_the_same_arguments_give_the_same_bytes_of_every_file(tmp_path: Path) -> None:
    made = {}
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        simulate(tmp_path / name, seed=seed, length=20_000, coverage=8)
        made[name] = digests(tmp_path / name)
    assert made["first"] == made["again"]
    assert set(made["first"]) == {
        *("reference.fa", "reference.fa.fai", "reads.bam", "reads.bam.bai", "confident.bed"),
        *("truth.vcf.gz", "truth.vcf.gz.tbi", "callset.vcf.gz", "callset.vcf.gz.tbi"),
    }
    assert all(made["first"][name] != made["other"][name] for name in ("reference.fa", "reads.bam", "callset.vcf.gz"))


def test_a_genome_too_small_or_without_depth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too small"):
        simulate(tmp_path, length=5_000)
    with pytest.raises(UsageError, match="coverage"):
        simulate(tmp_path, coverage=0)


def test_truth_and_callset_agree_with_the_reference(files: SimulatedFiles) -> None:
    reference = ReferenceSource(str(files.reference))
    for path in (files.truth, files.callset):
        with pysam.VariantFile(str(path)) as records:
            n = 0
            for record in records:
                assert record.ref == reference.sequence(record.contig, record.start, record.stop)
                n += 1
        assert n > 100
    assert sum(reference.lengths.values()) == LENGTH


def test_the_truth_holds_every_kind_of_variant_at_human_rates(files: SimulatedFiles) -> None:
    with pysam.VariantFile(str(files.truth)) as truth:
        records = [(len(r.ref), len(r.alts[0]), r.samples[0]["GT"], r.samples[0].phased) for r in truth]
    snvs = sum(ref == alt == 1 for ref, alt, _, _ in records)
    assert LENGTH / 1_300 < snvs < LENGTH / 600
    assert sum(ref < alt for ref, alt, _, _ in records) >= 8
    assert sum(ref > alt for ref, alt, _, _ in records) >= 8
    assert any(ref == alt > 1 for ref, alt, _, _ in records)
    assert {genotype for _, _, genotype, _ in records} == {(0, 1), (1, 0), (1, 1)}
    assert all(phased for *_, phased in records)


def test_true_alleles_are_shown_by_reads(files: SimulatedFiles) -> None:
    missed, alleles = [], true_alleles(files)
    with pysam.AlignmentFile(str(files.reads)) as bam:
        for contig, start, ref, alt in alleles:
            if len(ref) == len(alt):
                depths = bam.count_coverage(contig, start, start + 1, quality_threshold=0)
                if depths["ACGT".index(alt)][0] < 2:
                    missed.append((contig, start, ref, alt))
                continue
            wanted = (1 if len(alt) > len(ref) else 2, abs(len(alt) - len(ref)))
            shown = 0
            for read in bam.fetch(contig, start, start + len(ref)):
                at = read.reference_start
                for operation, length in read.cigartuples or ():
                    shown += (operation, length) == wanted and at == start + 1
                    at += length if operation in (0, 2) else 0
            if shown < 2:
                missed.append((contig, start, ref, alt))
    # Where GC content is low, one haplotype may happen to have hardly a read.
    assert len(missed) <= len(alleles) // 100, missed


def test_reads_say_the_truth_about_themselves_and_their_mates(files: SimulatedFiles) -> None:
    reference = ReferenceSource(str(files.reference))
    letters = {contig: reference.sequence(contig, 0, n) for contig, n in reference.lengths.items()}
    pairs: dict[str, list[pysam.AlignedSegment]] = {}
    operations = set()
    with pysam.AlignmentFile(str(files.reads)) as bam:
        for read in bam:
            pairs.setdefault(read.query_name, []).append(read)
            assert read.query_length == READ_LENGTH
            assert read.get_tag("RG") == "rg1"
            if read.is_unmapped:
                continue
            edits, base, at = 0, 0, read.reference_start
            for operation, length in read.cigartuples:
                operations.add(operation)
                if operation == 0:
                    shown = zip(
                        read.query_sequence[base : base + length],
                        letters[read.reference_name][at : at + length],
                        strict=True,
                    )
                    edits += sum(a != b for a, b in shown)
                elif operation in (1, 2):
                    edits += length
                base += length if operation in (0, 1, 4) else 0
                at += length if operation in (0, 2) else 0
            assert edits == read.get_tag("NM")
    assert operations == {0, 1, 2, 4}
    unmapped = 0
    for a, b in pairs.values():
        assert a.is_read1 != b.is_read1
        assert a.template_length == -b.template_length
        for read, mate in ((a, b), (b, a)):
            assert (read.next_reference_id, read.next_reference_start) == (mate.reference_id, mate.reference_start)
            assert read.mate_is_unmapped == mate.is_unmapped
            assert read.mate_is_reverse == mate.is_reverse
            unmapped += read.is_unmapped
        if a.is_proper_pair:
            outer = max(a.reference_end, b.reference_end) - min(a.reference_start, b.reference_start)
            assert abs(a.template_length) == outer
            assert a.is_reverse != b.is_reverse
    # Mates that lie in a paralog's flanks are in no reference.
    assert unmapped > 0
    duplicates = sum(a.is_duplicate for a, _ in pairs.values())
    assert 0.03 < duplicates / len(pairs) < 0.07


def test_errors_follow_the_base_qualities(files: SimulatedFiles) -> None:
    """Away from systematic errors: over all bases, mismatches at high quality are rare, at low quality common."""
    reference = ReferenceSource(str(files.reference))
    codes = {contig: reference.sequence(contig, 0, n) for contig, n in reference.lengths.items()}
    wrong, total = np.zeros(64), np.zeros(64)
    with pysam.AlignmentFile(str(files.reads)) as bam:
        for read in bam.fetch("chrA", 0, 60_000):
            if read.is_unmapped or read.cigarstring != f"{READ_LENGTH}M" or read.get_tag("NM") > 5:
                continue
            shown = np.frombuffer(read.query_sequence.encode(), np.uint8)
            start = read.reference_start
            expected = np.frombuffer(codes["chrA"][start : start + READ_LENGTH].encode(), np.uint8)
            quals = np.array(read.query_qualities)
            total += np.bincount(quals, minlength=64)
            wrong += np.bincount(quals[shown != expected], minlength=64)
    low, middle, high = (slice(5, 10), slice(15, 20), slice(32, 41))
    rates = [wrong[part].sum() / total[part].sum() for part in (low, middle, high)]
    assert rates[0] > 0.08
    assert rates[0] > 3 * rates[1] > 6 * rates[2]
    assert rates[2] < 0.004


def test_depth_rises_over_collapsed_paralogs(files: SimulatedFiles) -> None:
    # The genome again, by the simulator's first generator, for where its paralogs are.
    genome_rng = np.random.default_rng(np.random.SeedSequence(2).spawn(5)[0])
    contig = make_contig("chrA", int(LENGTH * 0.7), genome_rng)
    assert contig.letters(0, contig.length) == ReferenceSource(str(files.reference)).sequence("chrA", 0, contig.length)
    with pysam.AlignmentFile(str(files.reads)) as bam:
        depth = np.sum(bam.count_coverage("chrA", quality_threshold=0), axis=0)
    collapsed = np.zeros(contig.length, dtype=bool)
    for segment in contig.collapsed:
        collapsed[segment.start : segment.end] = True
    unique = depth[1_000:-1_000][~collapsed[1_000:-1_000]].mean()
    assert 0.85 * COVERAGE < unique < 1.15 * COVERAGE
    # One copy more, or two.
    assert 1.3 * unique < depth[collapsed].mean() < 2.2 * unique


def test_a_tenth_of_the_genome_is_collapsed_and_its_copies_differ_by_half_to_two_percent() -> None:
    rng = np.random.default_rng(1)
    contig = make_contig("c", 200_000, rng)
    spans = [segment.end - segment.start for segment in contig.collapsed]
    assert sum(spans) == pytest.approx(200_000 * COLLAPSED_SHARE, abs=1_500)
    assert all(1_000 <= span <= 8_000 for span in spans)
    differing, compared = 0, 0
    for copy in make_paralogs(0, contig, draw_variants(contig, rng), rng):
        placed = copy.ref_pos >= 0
        differing += int((copy.codes[placed] != contig.codes[copy.ref_pos[placed]]).sum())
        compared += int(placed.sum())
    assert 0.004 < differing / compared < 0.02


def test_indels_are_opened_inside_a_read_and_not_near_its_end() -> None:
    rng = np.random.default_rng(11)
    reference = rng.choice([A, C, G, T], size=2_000).astype(np.uint8)
    haplotype = np.delete(np.arange(2_000), slice(1_000, 1_004))  # four bases are gone
    # Bases behind the deletion: 75, 30, 4, 0.
    places = np.stack([haplotype[start : start + READ_LENGTH] for start in (925, 880, 854, 850)])
    reads = RawReads(reference[places], np.full(places.shape, 30, np.uint8), places)
    placed = align(reads, reference)
    assert placed.cigars[0] == [(0, 75), (2, 4), (0, 75)]
    assert placed.cigars[1] == [(0, 120), (2, 4), (0, 30)]
    # Worth less than opening a gap: mismatches or a soft clip.
    assert all(operation in (0, 4) for operation, _ in placed.cigars[2])
    assert 3 not in placed.cigars
    assert placed.edit_distance[[0, 1, 3]].tolist() == [4, 4, 0]
    # The mirrored case: few bases before the deletion; the read still starts where its aligned part does.
    place = haplotype[996 : 996 + READ_LENGTH][None]
    (cigar,) = align(RawReads(reference[place], place.astype(np.uint8), place), reference).cigars.values()
    assert all(operation in (0, 4) for operation, _ in cigar)
    assert sum(length for _, length in cigar) == READ_LENGTH


def test_letters_and_codes_are_each_others_inverse() -> None:
    assert decode_bases(encode_bases("GATTACAN")) == "GATTACAN"


def test_the_callset_has_true_and_false_alleles_that_quality_alone_separates_badly(files: SimulatedFiles) -> None:
    truth = set(true_alleles(files))
    confident = read_bed(str(files.confident))
    assert 0.7 * LENGTH < sum(region.end - region.start for region in confident) < 0.97 * LENGTH
    true, quality = [], []
    with pysam.VariantFile(str(files.callset)) as calls:
        assert list(calls.header.samples) == [files.sample]
        for record in calls:
            if any(region.contig == record.contig and region.owns(record.start) for region in confident):
                true.append((record.contig, record.start, record.ref, record.alts[0]) in truth)
                quality.append(record.qual)
    inside = [a for a in truth if any(region.contig == a[0] and region.owns(a[1]) for region in confident)]
    assert sum(true) >= 0.98 * len(inside)
    assert 0.4 < 1 - np.mean(true) < 0.65
    assert 0.6 < average_precision_score(true, quality) < 0.93


@pytest.mark.skipif(shutil.which("samtools") is None, reason="needs samtools")
def test_samtools_finds_the_bam_whole(files: SimulatedFiles) -> None:
    subprocess.run(["samtools", "quickcheck", "-v", str(files.reads)], check=True)
    counted = subprocess.run(["samtools", "view", "-c", str(files.reads)], capture_output=True, text=True, check=True)
    assert int(counted.stdout) == pytest.approx(LENGTH * 1.07 * COVERAGE / READ_LENGTH, rel=0.1)
    assert counted.stderr == ""
    header = subprocess.run(["samtools", "view", "-H", str(files.reads)], capture_output=True, text=True, check=True)
    assert "SO:coordinate" in header.stdout and f"SM:{files.sample}" in header.stdout
    # The digest that samtools computes of the FASTA itself.
    command = ["samtools", "dict", str(files.reference)]
    dictionary = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = {field for line in dictionary.splitlines() for field in line.split("\t") if field.startswith("M5:")}
    assert len(expected) == 2
    assert all(field in header.stdout for field in expected)


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="needs bcftools")
def test_bcftools_finds_the_truth_left_normalised(files: SimulatedFiles) -> None:
    for path in (files.truth, files.callset):
        command = ["bcftools", "norm", "-c", "e", "-f", str(files.reference), "-o", "/dev/null", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        total, *changed = done.stderr.rsplit(":", 1)[1].strip().split("/")
        assert int(total) > 100
        assert not any(map(int, changed))
