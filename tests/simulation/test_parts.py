"""The simulator's parts: each mechanism makes false alleles of its own, and what it claims of its reads is so."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pysam
import pytest

from cnnspark.formats.reference import A, C, G, ReferenceSource, T, encode_bases
from cnnspark.simulation import SimulatedFiles, simulate
from cnnspark.simulation.alignment import ALWAYS_OPEN, Alignments, align
from cnnspark.simulation.foreign import PARALOG_DIVERGENCE, make_paralogs
from cnnspark.simulation.fragments import STUTTER_MIN_UNITS
from cnnspark.simulation.genome import MIN_UNITS, Contig, decode_bases, low_complexity, survey, tandem_repeats
from cnnspark.simulation.provenance import Cause, main_cause
from cnnspark.simulation.sample import apply_variants, draw_variants
from cnnspark.simulation.sequencing import RawReads
from cnnspark.simulation.settings import Mechanisms
from tests.conftest import rows_of
from tests.support.oracle_alignment import align_one

READ_LENGTH = 150
FALSE = [field.name for field in fields(Mechanisms) if field.name != "mosaic"]
# Enough of each to see that it is there; contamination takes more reads than others to be called.
SHARE = {"contamination": 4.0, "chimeras": 4.0, "misaligned": 4.0}


def make(folder: Path, mechanisms: Mechanisms, length: int = 60_000, coverage: float = 30.0) -> SimulatedFiles:
    return simulate(folder, seed=6, length=length, coverage=coverage, mechanisms=mechanisms)


def false_alleles(files: SimulatedFiles) -> Counter[str]:
    return Counter(row["cause"] for row in rows_of(files.causes) if row["label"] == "FP")


@pytest.mark.parametrize("name", FALSE)
def test_a_mechanism_alone_makes_false_alleles_of_its_own_cause_and_of_no_other(tmp_path: Path, name: str) -> None:
    counts = false_alleles(make(tmp_path, Mechanisms.only(**{name: SHARE.get(name, 2.0)})))
    assert counts.pop(name) >= 4
    # Random errors that met at one base by chance.
    assert counts.pop("other", 0) <= 2
    assert not counts


def test_without_mechanisms_next_to_nothing_is_false(tmp_path: Path) -> None:
    assert set(false_alleles(make(tmp_path, Mechanisms.only()))) <= {"other"}


def test_twice_the_share_makes_more_false_alleles(tmp_path: Path) -> None:
    names = ("oxidation", "motifs", "paralogs", "duplicates", "adapters", "low_quality")

    def count(share: float) -> Counter[str]:
        folder = tmp_path / str(share)
        return false_alleles(make(folder, Mechanisms.only(**dict.fromkeys(names, share)), length=150_000, coverage=15))

    one, three = count(1.0), count(3.0)
    for name in names:
        assert three[name] > 1.5 * one[name] > 0, name
    assert 2 * sum(one.values()) < sum(three.values()) < 4.5 * sum(one.values())


def test_mosaic_alleles_are_true_and_rare_in_the_reads(tmp_path: Path) -> None:
    files = make(tmp_path, Mechanisms.only(mosaic=3.0), length=100_000, coverage=40)
    mosaic = {(r["chrom"], r["pos"]) for r in rows_of(files.causes) if r["kind"] == "mosaic" and r["label"] == "TP"}
    assert len(mosaic) > 20
    with pysam.VariantFile(str(files.truth)) as truth:
        expected = {(r.contig, str(r.pos)): r.info["MOSAIC"] for r in truth if "MOSAIC" in r.info}
    assert mosaic <= set(expected)
    with pysam.VariantFile(str(files.callset)) as calls:
        seen = {(r.contig, str(r.pos)): r.samples[0]["AD"][1] / r.samples[0]["DP"] for r in calls}
    for place in mosaic:
        assert abs(seen[place] - expected[place]) < 0.25
    assert np.mean([seen[place] for place in mosaic]) < 0.3


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFiles:
    return make(tmp_path_factory.mktemp("everything"), Mechanisms(mosaic=1.0), length=120_000)


def test_the_reads_of_all_causes_are_the_reads_that_the_callset_counts(everything: SimulatedFiles) -> None:
    rows = {(r["chrom"], int(r["pos"]), r["ref"], r["alt"]): r for r in rows_of(everything.causes)}
    with pysam.VariantFile(str(everything.callset)) as calls:
        for record in calls:
            row = rows[record.contig, record.pos, record.ref, record.alts[0]]
            n_alt = record.samples[0]["AD"][1]
            assert 0 < int(row["cause_reads"]) <= int(row["reads"]) or row["kind"] == "."
            if len(record.ref) == len(record.alts[0]):
                assert int(row["reads"]) == n_alt
            else:
                # A read that spells an indel in two pieces, or ends beside it, is counted once or not.
                assert abs(int(row["reads"]) - n_alt) <= max(2, 0.2 * n_alt)


def test_oxidation_is_seen_in_one_orientation_of_the_fragments(tmp_path: Path) -> None:
    """G>T where the first read is the forward one, C>A where it is the reverse one; both strands' reads have it."""
    files = make(tmp_path, Mechanisms.only(oxidation=3.0))
    reference = ReferenceSource(str(files.reference))
    seen: Counter[tuple[bool, bool]] = Counter()
    with pysam.AlignmentFile(str(files.reads)) as bam:
        for row in rows_of(files.causes):
            if row["cause"] != "oxidation":
                continue
            assert (row["ref"], row["alt"]) in {("G", "T"), ("C", "A")}
            at = int(row["pos"]) - 1
            assert reference.sequence(row["chrom"], at, at + 1) == row["ref"]
            for read in bam.fetch(row["chrom"], at, at + 1):
                shown = {r: q for q, r in read.get_aligned_pairs(matches_only=True)}
                if at in shown and read.query_sequence[shown[at]] == row["alt"]:
                    f1r2 = read.is_read1 != read.is_reverse
                    seen[f1r2 == (row["ref"] == "G"), read.is_reverse] += 1
    right_way = seen[True, False] + seen[True, True]
    assert right_way > 0.98 * sum(seen.values()) > 50
    assert 0.3 < seen[True, True] / right_way < 0.7


def test_copies_of_an_early_error_begin_together_and_most_are_not_flagged(tmp_path: Path) -> None:
    files = make(tmp_path, Mechanisms.only(duplicates=3.0))
    checked = 0
    with pysam.AlignmentFile(str(files.reads)) as bam:
        for row in rows_of(files.causes):
            if row["cause"] != "duplicates" or row["label"] != "FP":
                continue
            at = int(row["pos"]) - 1
            ends: Counter[tuple[int, int]] = Counter()
            for read in bam.fetch(row["chrom"], at, at + 1):
                shown = {r: q for q, r in read.get_aligned_pairs(matches_only=True)}
                if at in shown and read.query_sequence[shown[at]] == row["alt"] and not read.is_duplicate:
                    ends[min(read.reference_start, read.next_reference_start), abs(read.template_length)] += 1
            assert ends.most_common(1)[0][1] >= 0.7 * sum(ends.values())
            checked += 1
    assert checked > 5


def as_cigar(placed: Alignments, row: int) -> list[tuple[int, int]]:
    return [(int(c) & 15, int(c) >> 4) for c in placed.cigars[row, : placed.n_cigar[row]]]


def raw_reads(bases: np.ndarray, ref_pos: np.ndarray) -> RawReads:
    n = len(bases)
    nothing, nowhere = np.zeros(bases.shape, np.uint8), np.full(n, -1, np.int32)
    quals = np.full(bases.shape, 30, np.uint8)
    return RawReads(bases, quals, ref_pos.astype(np.int32), nothing, np.zeros(n, np.uint8), nowhere, nowhere)


def test_the_aligner_is_the_slow_and_plain_one() -> None:
    rng = np.random.default_rng(8)
    contig = survey("c", rng.choice([A, C, G, T], size=30_000).astype(np.uint8), 0, 0.0, rng)
    variants = draw_variants(contig, rng, density=10.0)
    codes, ref_pos, _ = apply_variants(contig, variants, 0, contig.length)
    starts = rng.integers(600, len(codes) - 800, 1_500)
    places = starts[:, None] + np.arange(READ_LENGTH)
    bases, positions = codes[places], ref_pos[places].copy()
    # Errors, foreign ends (chimeras, adapters) and reads that lie nowhere.
    wrong = rng.random(bases.shape) < 0.02
    bases[wrong] = rng.integers(1, 5, int(wrong.sum()))
    for row in range(0, len(bases), 3):
        cut = int(rng.integers(0, READ_LENGTH))
        end = slice(cut, None) if row % 2 else slice(0, cut)
        bases[row, end], positions[row, end] = rng.integers(1, 5, len(bases[row, end])), -1
    positions[7] = -1
    placed = align(raw_reads(bases, positions), contig.codes, np.zeros(contig.length, np.int16))
    operations: Counter[int] = Counter()
    for row in range(len(bases)):
        expected = align_one(bases[row], positions[row], contig.codes)
        found = (int(placed.start[row]), int(placed.end[row]), int(placed.edit_distance[row]), as_cigar(placed, row))
        assert found == (expected or (-1, -1, 0, []))
        operations.update(op for op, _ in found[3])
    assert min(operations[op] for op in (0, 1, 2, 4)) > 50


def test_indels_are_opened_inside_a_read_and_not_near_its_end() -> None:
    rng = np.random.default_rng(11)
    reference = rng.choice([A, C, G, T], size=2_000).astype(np.uint8)
    haplotype = np.delete(np.arange(2_000), slice(1_000, 1_004))  # four bases are gone
    closed = np.zeros(2_000, np.int16)
    # Bases behind the deletion: 75, 30, 4, 0.
    places = np.stack([haplotype[start : start + READ_LENGTH] for start in (925, 880, 854, 850)])
    reads = raw_reads(reference[places], places)
    placed = align(reads, reference, closed)
    assert as_cigar(placed, 0) == [(0, 75), (2, 4), (0, 75)]
    assert as_cigar(placed, 1) == [(0, 120), (2, 4), (0, 30)]
    # Worth less than opening a gap: mismatches or a soft clip.
    assert all(operation in (0, 4) for operation, _ in as_cigar(placed, 2))
    assert as_cigar(placed, 3) == [(0, READ_LENGTH)]
    assert placed.edit_distance[[0, 1, 3]].tolist() == [4, 4, 0]
    # The mirrored case: few bases before the deletion; the read still starts where its aligned part does.
    place = haplotype[996 : 996 + READ_LENGTH][None]
    cigar = as_cigar(align(raw_reads(reference[place], place), reference, closed), 0)
    assert all(operation in (0, 4) for operation, _ in cigar)
    assert sum(length for _, length in cigar) == READ_LENGTH
    # Where aligners look at reads one by one, thirty bases are laid out without the deletion.
    closed[999:1_006] = 40
    placed = align(reads, reference, closed)
    assert as_cigar(placed, 0) == [(0, 75), (2, 4), (0, 75)]
    mismatches = int((reference[places[1, -30:]] != reference[np.arange(1_000, 1_030)]).sum())
    assert as_cigar(placed, 1) == [(0, READ_LENGTH)] and placed.edit_distance[1] == mismatches > 10
    # Where everything is opened, nothing is.
    placed = align(reads, reference, np.full(2_000, ALWAYS_OPEN, np.int16))
    assert as_cigar(placed, 2) == [(0, 146), (2, 4), (0, 4)]


def test_copies_of_collapsed_segments_are_90_to_99_5_percent_identical() -> None:
    rng = np.random.default_rng(1)
    contig = survey("c", rng.choice([A, C, G, T], size=400_000).astype(np.uint8), 0, 0.1, rng)
    spans = [segment.end - segment.start for segment in contig.collapsed]
    assert sum(spans) == pytest.approx(40_000, abs=1_500)
    assert all(1_000 <= span <= 8_000 for span in spans)
    differing = []
    for copy in make_paralogs(contig, draw_variants(contig, rng), 100, rng):
        placed = copy.ref_pos >= 0
        differing.append(float(np.mean(copy.codes[placed] != contig.codes[copy.ref_pos[placed]])))
        assert (copy.cause == Cause.PARALOGS).all()
    low, high = PARALOG_DIVERGENCE
    assert 0.4 * low < min(differing) < 2 * low
    assert 2 * low < max(differing) <= high


def test_tandem_repeats_are_found_by_their_shortest_unit() -> None:
    text = "GATC" + "A" * 9 + "CGT" + "AC" * 6 + "GTTT" + "CAG" * 5 + "TGCA" + "AATG" * 4 + "N" * 20 + "TTTTT"
    repeats = tandem_repeats(encode_bases(text))
    found = {(text[start : start + unit], (end - start) // unit) for start, end, unit in repeats.tolist()}
    assert found == {("A", 9), ("AC", 6), ("CAG", 5), ("AATG", 4)}
    assert all(STUTTER_MIN_UNITS[unit] >= least for unit, least in MIN_UNITS.items())


def test_low_complexity_is_where_few_triplets_make_up_the_sequence() -> None:
    rng = np.random.default_rng(2)
    codes = rng.choice([A, C, G, T], size=4_000).astype(np.uint8)
    codes[2_000:2_200] = np.resize(encode_bases("ATATAAAT"), 200)
    codes[3_000:3_200] = 5
    (region,) = low_complexity("c", codes)
    assert region.contig == "c" and abs(region.start - 2_000) <= 40 and abs(region.end - 2_200) <= 40


def test_no_variant_stands_on_an_unknown_base() -> None:
    rng = np.random.default_rng(3)
    codes = rng.choice([A, C, G, T], size=60_000).astype(np.uint8)
    codes[rng.integers(0, 60_000, 600)] = 5
    contig = survey("c", codes, 0, 0.0, rng)
    variants = draw_variants(contig, rng, density=4.0, mosaic=2.0)
    assert len(variants) > 50 and not any("N" in variant.ref + variant.alt for variant in variants)
    for variant in variants:
        assert contig.letters(variant.start, variant.end) == variant.ref
    moved = dataclasses.replace(contig, start=1_000)
    assert isinstance(moved, Contig) and moved.end == 61_000


def test_letters_and_codes_are_each_others_inverse() -> None:
    assert decode_bases(encode_bases("GATTACAN")) == "GATTACAN"


def test_the_main_cause_is_the_commonest_of_those_asked_for() -> None:
    counts = {int(Cause.HET): 5, int(Cause.STUTTER): 3, int(Cause.PARALOGS): 3}
    assert main_cause(counts, Cause) == (Cause.HET, 5)
    assert main_cause(counts, [Cause.PARALOGS, Cause.STUTTER]) == (Cause.PARALOGS, 3)
    assert main_cause(counts, [Cause.HOM]) == (Cause.OTHER, 0)
