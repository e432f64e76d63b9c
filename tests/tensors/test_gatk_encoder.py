"""Tensors of encoding gatk against a slow version on strings, and each rule by hand.

The slow one works letter by letter on lists, with pysam's own search and objects, from the rules as
docs/models.md and the comments of cnnspark.tensors.gatk_kernels state them; it shares no code with the fast one. That
both do what NVScoreVariants does is shown by its own tensors in tests/tensors/test_gatk_oracle.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pysam
import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.formats.reads import ReadFilter, ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.reports.allele.tensor_columns import allele_columns
from cnnspark.tensors.builder import build_tensors, feature_names
from cnnspark.tensors.gatk_encoder import record_type, sorts_as_snp
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.alleles import VariantType
from cnnspark.variants.annotations import GATK_ANNOTATIONS, AnnotationReader
from tests.support.oracle_tensors import TinyRead, code, read_hash, write_bam, write_fasta
from tests.tensors.test_builder import NO_ANNOTATIONS, random_reads, random_records, record, show

TEXT = "".join(random.Random(7).choices("ACGT", k=900))


def other(base: str) -> str:
    return "A" if base != "A" else "C"


SNP = record(300, TEXT[300], other(TEXT[300]))


def slow_start(read: pysam.AlignedSegment) -> int:
    return -1 if read.is_unmapped else read.reference_start - read.query_alignment_start


def slow_letter(read: pysam.AlignedSegment, rec: Record) -> str:
    sequence = read.query_sequence
    if len(rec.ref) == 1 and set(rec.alts) <= set("ACGTN*"):
        at = rec.start - slow_start(read)
        return sequence[min(max(at, 0), len(sequence) - 1)]
    at = rec.start + 1 - slow_start(read)
    spelled = "".join("MIDNSHP=X"[op] * length for op, length in read.cigartuples or [])
    if at >= len(spelled):
        return "Y"
    letter = spelled[max(at, 0)] if spelled else "Y"
    return sequence[min(max(at, 0), len(sequence) - 1)] if letter == "M" else letter


def slow_opened(reads: list[pysam.AlignedSegment], window_start: int) -> dict[int, int]:
    opened: dict[int, int] = {}
    for read in reads:
        if abs(window_start - slow_start(read)) < 128:
            for kind, at, length in slow_events(read, window_start):
                if kind == "I":
                    opened[at] = max(length, opened.get(at, 0))
    return opened


def slow_events(read: pysam.AlignedSegment, window_start: int) -> list[tuple[str, int, int]]:
    """(I or D, index from the window's start, length)."""
    events, at = [], slow_start(read) - window_start
    for op, length in read.cigartuples or []:
        if op in (1, 2):
            events.append(("ID"[op - 1], at, length))
        at += length if op in (0, 1, 2, 4) else 0
    return events


def put(cells: list, gaps: dict[int, int], gap: object) -> None:
    """Gaps from the highest index down: below 1 in front, else at the index or, where that is too high, at the end."""
    for at in sorted(gaps, reverse=True):
        cells[max(at, 0) : max(at, 0)] = [gap] * gaps[at]


def slow_tensor(
    rec: Record, bam: str, fasta: str, limit: int = 128
) -> tuple[list[list], list[pysam.AlignedSegment], list]:
    """Rows of (letter, quality), their reads, and the reference's letters."""
    window_start = rec.start - 64
    with pysam.AlignmentFile(bam) as file:
        reads = [
            r
            for r in file.fetch(rec.contig, rec.start, rec.end)
            if "artificial" not in str(r.get_tag("RG") if r.has_tag("RG") else "").lower()
        ]
    if len(reads) > limit:
        least = sorted(range(len(reads)), key=lambda i: (read_hash(reads[i], 0, "tiny", rec), i))[:limit]
        reads = [reads[i] for i in sorted(least)]
    opened = slow_opened(reads, window_start)
    reads.sort(key=slow_start)
    reads.sort(key=lambda read: slow_letter(read, rec))
    rows = []
    for read in reads:
        quals = read.query_qualities
        cells = list(zip(read.query_sequence, [0] * read.query_length if quals is None else quals, strict=True))[:128]
        shift = window_start - slow_start(read)
        cells = cells[shift:] if shift >= 0 else [(".", 0)] * -shift + cells
        gaps = {}
        for kind, at, length in slow_events(read, window_start):
            if kind == "D":
                gaps[at] = length
            elif at in opened:
                gaps[at] = opened[at] - length
        put(cells, {**opened, **gaps}, ("-", 0))
        rows.append((cells + [(".", 0)] * 128)[:128])
    end = rec.start + 64
    if window_start < 0:
        end += min(-window_start, len(rec.ref) - 1) + 1
    with pysam.FastaFile(fasta) as file:
        letters = list(
            file.fetch(rec.contig, max(window_start, 0), min(end, file.get_reference_length(rec.contig))).upper()
        )
    letters += ["."] * (128 - len(letters))
    put(letters, opened, "-")
    return rows, reads, letters[:128]


def encode(letters: list[str]) -> list[int]:
    return [0 if letter == "." else code(letter) for letter in letters]


class Tiny:
    """A reference and reads in a folder; tensors of records checked against the slow version."""

    def __init__(self, folder: Path, reads: list[TinyRead], text: str = TEXT):
        folder.mkdir(exist_ok=True)
        self.fasta = write_fasta(folder, {"c": text})
        self.bam = write_bam(folder, {"c": text}, reads)

    def build(self, records: list[Record], **settings: object) -> TensorBatch:
        chosen = TensorSettings(encoding="gatk", **settings)  # type: ignore[arg-type]
        with ReadSource(self.bam) as reads:
            return build_tensors(records, reads, ReferenceSource(self.fasta), chosen, NO_ANNOTATIONS, "tiny", None)[0]

    def check(self, records: list[Record], limit: int = 128) -> TensorBatch:
        batch = self.build(records, read_limit=limit)
        by_index = {rec.index: slow_tensor(rec, self.bam, self.fasta, limit) for rec in records}
        for i, key in enumerate(batch.keys):
            rows, reads, letters = by_index[key.record_index]
            got = batch.example(i)
            assert got["reference"].tolist() == encode(letters), key
            assert got["read_bases"].tolist() == [encode([c[0] for c in row]) for row in rows], key
            assert got["read_quals"].tolist() == [[c[1] for c in row] for row in rows], key
            assert got["read_flags"].tolist() == [read.flag for read in reads], key
            assert got["read_mapqs"].tolist() == [read.mapping_quality for read in reads], key
            assert not got["read_support"].any() and not got["alternate"].any() and got["site_features"].shape == (0,)
        assert [(k.record_index, k.alt_index) for k in batch.keys] == [
            (rec.index, i) for rec in records for i in range(1, len(rec.alts) + 1)
        ]
        return batch


@pytest.mark.parametrize("seed", range(4))
def test_random_reads_and_records_equal_the_slow_version(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choices("ACGT", k=700))
    reads = random_reads(rng, text, 200)
    for read in reads:
        if rng.random() < 0.2:
            read.cigar = "4H" + read.cigar
        if rng.random() < 0.1:
            # unmapped reads stand where their mates are
            read.flag, read.cigar = 0x5, "*"
    tiny = Tiny(tmp_path, reads, text)
    records = random_records(rng, text, 60)
    assert len(tiny.check(records).read_flags) > 300
    tiny.check(records, limit=5)


def test_a_snps_rows_are_grouped_by_base_and_sorted_by_start_within(tmp_path: Path) -> None:
    def read(start: int, base: str, name: str) -> TinyRead:
        return TinyRead(start, "60M", TEXT[start:300] + base + TEXT[301 : start + 60], name)

    reads = [read(250, "T", "t1"), read(260, "N", "n"), read(270, "T", "t2"), read(280, "G", "g"), read(290, "T", "t3")]
    batch = Tiny(tmp_path, reads).check([SNP])
    assert [show(row, 64, 65) for row in batch.read_bases] == ["G", "N", "T", "T", "T"]
    first = [int(np.flatnonzero(row)[0]) for row in batch.read_bases]
    assert first == [280 - 236, 260 - 236, 250 - 236, 270 - 236, 290 - 236]


def test_an_indels_rows_are_grouped_by_the_operation_behind_pos(tmp_path: Path) -> None:
    reads = [
        TinyRead(250, "100M", TEXT[250:350], "matches"),
        TinyRead(255, "46M4D50M", TEXT[255:301] + TEXT[305:355], "deletion"),
        TinyRead(260, "41M2I50M", TEXT[260:301] + "GG" + TEXT[301:351], "insertion"),
        TinyRead(265, "36M30S", TEXT[265:301] + "A" * 30, "clipped"),
        TinyRead(270, "31M", TEXT[270:301], "ends"),
        TinyRead(200, "150=", TEXT[200:350], "eqx"),
    ]
    batch = Tiny(tmp_path, reads).check([record(300, TEXT[300:305], TEXT[300])])
    # each read begins in another column; '=' < A C D G I S T < Y as letters, and the matching read has its base there
    letters = {0: "=", 14: TEXT[301], 19: "D", 24: "I", 29: "S", 34: "Y"}
    order = [int(np.flatnonzero(row)[0]) for row in batch.read_bases]
    assert order == sorted(letters, key=letters.__getitem__)


def test_a_read_is_cut_to_128_bases_before_it_is_placed(tmp_path: Path) -> None:
    batch = Tiny(tmp_path, [TinyRead(150, "250M", TEXT[150:400])]).check([SNP])
    # placed from 86 bases before the window on: 42 of the 128 are left, and none at POS
    assert show(batch.read_bases[0]) == TEXT[236:278] + "." * 86


def test_soft_clipped_bases_are_laid_as_if_aligned_and_hard_clips_are_nothing(tmp_path: Path) -> None:
    reads = [TinyRead(300, "3H10S40M5S", "A" * 10 + TEXT[300:340] + "C" * 5)]
    batch = Tiny(tmp_path, reads).check([record(310, TEXT[310], other(TEXT[310]))])
    assert show(batch.read_bases[0], 44, 100) == "A" * 10 + TEXT[300:340] + "C" * 5 + "."


def test_the_longest_insertion_opens_columns_in_reference_and_reads(tmp_path: Path) -> None:
    reads = [
        TinyRead(260, "41M4I40M", TEXT[260:301] + "ACGT" + TEXT[301:341], "long"),
        TinyRead(260, "41M1I40M", TEXT[260:301] + "G" + TEXT[301:341], "short"),
        TinyRead(260, "80M", TEXT[260:340], "none"),
        TinyRead(280, "15M", TEXT[280:295], "ends before"),
        TinyRead(310, "30M", TEXT[310:340], "begins behind"),
    ]
    rec = record(294, TEXT[294:296], TEXT[294])
    batch = Tiny(tmp_path, reads).check([rec])
    at = 301 - 230
    assert show(batch.reference[0], at - 2, at + 6) == TEXT[299:301] + "----" + TEXT[301:303]
    rows = {int(np.flatnonzero(row)[0]): show(row) for row in batch.read_bases}
    assert len(batch.read_bases) == 4
    # the read that ends before has its gap at its own end
    assert rows[280 - 230].strip(".") == TEXT[280:295] + "----"
    spelled = {show(row, at - 2, at + 6) for row in batch.read_bases}
    assert {TEXT[299:301] + "ACGT" + TEXT[301:303], TEXT[299:301] + "---G" + TEXT[301:303]} <= spelled
    assert TEXT[299:301] + "----" + TEXT[301:303] in spelled


def test_an_insertion_left_of_the_window_shifts_everything(tmp_path: Path) -> None:
    reads = [
        TinyRead(220, "10M3I100M", TEXT[220:230] + "ACG" + TEXT[230:330], "insertion"),
        TinyRead(230, "100M", TEXT[230:330], "plain"),
    ]
    batch = Tiny(tmp_path, reads).check([SNP])
    assert show(batch.reference[0], 0, 8) == "---" + TEXT[236:241]
    rows = sorted(show(row, 0, 8) for row in batch.read_bases)
    # the read with the insertion counts its bases as columns instead: it is three columns to the right as well
    assert rows == sorted(["---" + TEXT[236:241], TEXT[233:241]])


def test_equal_and_differing_operations_do_not_move_gaps(tmp_path: Path) -> None:
    reads = [TinyRead(250, "50=2D50=", TEXT[250:300] + TEXT[302:352])]
    batch = Tiny(tmp_path, reads).check([record(310, TEXT[310], other(TEXT[310]))])
    # read and gap begin where the read does, 4 columns into the window: the gap stands there instead of at 300
    assert show(batch.read_bases[0], 0, 8) == "...." + "--" + TEXT[250:252]


def test_duplicates_secondary_and_failed_reads_are_rows(tmp_path: Path) -> None:
    flags = [0x400, 0x100, 0x800, 0x200, 0x10]
    reads = [TinyRead(280 + i, "50M", TEXT[280 + i : 330 + i], f"r{i}", flag) for i, flag in enumerate(flags)]
    batch = Tiny(tmp_path, reads).check([SNP])
    assert batch.read_flags.tolist() == flags


def test_artificial_haplotypes_are_no_reads(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, [TinyRead(280, "50M", TEXT[280:330], "read"), TinyRead(270, "60M", TEXT[270:330], "made")])
    path = str(tmp_path / "bamout.bam")
    with pysam.AlignmentFile(tiny.bam) as source:
        header = source.header.to_dict()
        header["RG"].append({"ID": "ArtificialHaplotypeRG", "SM": "HC"})
        with pysam.AlignmentFile(path, "wb", header=header) as out:
            for read in source:
                read.set_tag("RG", "ArtificialHaplotypeRG" if read.query_name == "made" else "1")
                out.write(read)
    pysam.index(path)
    tiny.bam = path
    assert len(tiny.check([SNP]).read_flags) == 1
    with ReadSource(path) as reads:
        assert reads.samples == ("tiny",)
        # of no use to the other encoding either
        plain = TensorSettings()
        batch, _ = build_tensors([SNP], reads, ReferenceSource(tiny.fasta), plain, NO_ANNOTATIONS, "tiny", None)
        assert len(batch.read_flags) == 1


def test_at_a_contigs_start_the_reference_stands_at_the_left_and_reads_do_not(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, [TinyRead(0, "60M", TEXT[:60])])
    snp, deletion = (
        record(20, TEXT[20], other(TEXT[20]), index=0),
        record(20, TEXT[20:30], TEXT[20], index=1),
    )
    batch = tiny.check([snp, deletion])
    assert show(batch.reference[0]) == TEXT[:85] + "." * 43
    assert show(batch.reference[1]) == TEXT[:94] + "." * 34  # nine more bases of REF
    assert show(batch.read_bases[0]) == "." * 44 + TEXT[:60] + "." * 24
    # without reads the same reference
    plain = build_tensors(
        [snp, deletion], None, ReferenceSource(tiny.fasta), TensorSettings(encoding="gatk"), NO_ANNOTATIONS, "", None
    )[0]
    np.testing.assert_array_equal(plain.reference, batch.reference)


def test_short_contigs_and_contig_ends_work(tmp_path: Path) -> None:
    for length in (1, 30, 100, 128, 129):
        text = TEXT[:length]
        tiny = Tiny(tmp_path / str(length), [TinyRead(0, f"{length}M", text)], text)
        rec = record(length - 1, text[-1], other(text[-1]))
        batch = tiny.check([rec])
        assert len(batch) == 1


def test_of_too_many_reads_the_same_are_chosen_whatever_else_is_built(tmp_path: Path) -> None:
    rng = random.Random(5)
    reads = []
    for k in range(300):
        start = rng.randrange(200, 300)
        reads.append(TinyRead(start, "100M", TEXT[start : start + 100], f"r{k}", mapq=k % 60))
    tiny = Tiny(tmp_path, reads)
    records = [record(p, TEXT[p], other(TEXT[p]), index=i) for i, p in enumerate((290, 295, 300))]
    together = tiny.check(records)
    assert np.diff(together.row_offsets).tolist() == [128, 128, 128]
    for i, rec in enumerate(records):
        alone = tiny.build([rec])
        np.testing.assert_array_equal(alone.read_mapqs, together.read_mapqs[together.rows(i)])
    again = tiny.build(records, seed=3)
    assert (again.read_mapqs != together.read_mapqs).any()


@pytest.mark.parametrize(
    ("ref", "alts", "expected", "snp"),
    [
        # NVScoreVariants' own types, as its run on such records showed them
        ("A", "C", "SNV", True),
        ("A", "C,G", "SNV", True),
        ("A", "C,*", "SNV", True),
        ("A", "AT", "INSERTION", False),
        ("AT", "A", "DELETION", False),
        ("AT", "A,*", "DELETION", False),
        ("ATG", "CT", "DELETION", False),
        ("AT", "GC", "MNV", False),
        ("AT", "AC", "MNV", False),
        ("A", "C,AT", "MIXED", False),
        ("AT", "A,GC", "MIXED", False),
        ("A", "C,<NON_REF>", "MIXED", False),
        ("A", "AT,<NON_REF>", "INSERTION", False),
        ("A", "a,C", "SNV", False),
    ],
)
def test_the_type_is_the_records_by_the_lengths_of_its_alleles(ref: str, alts: str, expected: str, snp: bool) -> None:
    rec = record(10, ref, alts)
    assert record_type(rec, 1) == VariantType[expected]
    assert sorts_as_snp(rec) == snp


def test_every_alt_of_a_record_has_its_tensor_and_its_type(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, [TinyRead(280, "50M", TEXT[280:330])])
    ref = TEXT[300:303]
    batch = tiny.check([record(300, ref, f"{ref[0]},{ref}AC")])
    np.testing.assert_array_equal(batch.read_bases[batch.rows(0)], batch.read_bases[batch.rows(1)])
    assert [k.variant_type for k in batch.keys] == [VariantType.DELETION, VariantType.INSERTION]


def test_annotations_are_the_seven_in_their_order(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, [])
    lines = [f'##INFO=<ID={name},Number=1,Type=Float,Description="">' for name in sorted(GATK_ANNOTATIONS)]
    header = VcfHeader(["##fileformat=VCFv4.2", *lines, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"])
    rec = Record(f"c\t301\t.\t{TEXT[300]}\t{other(TEXT[300])}\t5\t.\tFS=4;DP=2;MQ=1;SOR=3;QD=5;ReadPosRankSum=.", 0)
    reader = AnnotationReader(header, GATK_ANNOTATIONS)
    settings = TensorSettings(encoding="gatk")
    batch, _ = build_tensors([rec], None, ReferenceSource(tiny.fasta), settings, reader, "", None)
    np.testing.assert_array_equal(batch.annotations, [[1, 2, 3, 4, 5, np.nan, np.nan]])


def test_records_without_a_scorable_alt_and_a_foreign_ref_are_counted(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, [])
    records = [record(290, TEXT[290], "<DEL>"), record(300, other(TEXT[300]), TEXT[300])]
    settings = TensorSettings(encoding="gatk", on_ref_mismatch="skip")
    batch, skipped = build_tensors(records, None, ReferenceSource(tiny.fasta), settings, NO_ANNOTATIONS, "", None)
    assert len(batch) == 0 and skipped == {"symbolic": 1, "REF mismatch": 1}
    assert batch.site_features.shape == (0, 0)
    with pytest.raises(InputError, match="skip such records"):
        tiny.build(records)


def test_a_picture_marks_pos_where_there_is_no_alternate(tmp_path: Path) -> None:
    batch = Tiny(tmp_path, []).build([SNP])
    assert allele_columns(batch.reference[0], batch.alternate[0]) == (64, 65)


def test_settings_that_this_encoding_leaves_no_choice_in_are_refused() -> None:
    for wrong in ({"use_soft_clips": True}, {"read_filter": ReadFilter(duplicate=False)}):
        with pytest.raises(UsageError, match="keeps all reads"):
            TensorSettings(encoding="gatk", **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="use 'cnnspark' or 'gatk'"):
        TensorSettings(encoding="deepvariant")


def test_site_features_are_there_with_reads_and_the_own_encoding_alone() -> None:
    assert len(feature_names(TensorSettings(), True)) == 96
    assert feature_names(TensorSettings(), False) == feature_names(TensorSettings(encoding="gatk"), True) == ()


def test_without_reads_the_own_encoding_keeps_both_windows(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, [])
    rec = record(300, TEXT[300], TEXT[300] + "ACG")
    genome = ReferenceSource(tiny.fasta)
    with ReadSource(tiny.bam) as empty:
        expected, _ = build_tensors([rec], empty, genome, TensorSettings(), NO_ANNOTATIONS, "", None)
    batch, _ = build_tensors([rec], None, genome, TensorSettings(), NO_ANNOTATIONS, "", None)
    np.testing.assert_array_equal(batch.reference, expected.reference)
    np.testing.assert_array_equal(batch.alternate, expected.alternate)
    assert show(batch.alternate[0], 64, 69) == TEXT[300] + "ACG" + TEXT[301]
    assert batch.row_offsets.tolist() == [0, 0] and batch.site_features.shape == (1, 0)
