"""Tensors against the slow encoder of oracle_tensors, on hand-made, random and real reads."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numba
import numpy as np
import pytest

from cnnspark.errors import InputError, UsageError
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfHeader, VcfSource
from cnnspark.tensors.builder import ENCODERS, build_tensors
from cnnspark.tensors.kernel_tools import smallest
from cnnspark.tensors.schema import FIELDS, MATE_ROW
from cnnspark.tensors.settings import ENCODINGS, TensorSettings
from cnnspark.variants import alleles
from cnnspark.variants.annotations import AnnotationReader
from tests.conftest import DATA
from tests.support.oracle_tensors import TinyRead, oracle_examples, write_bam, write_fasta

needs_data = pytest.mark.skipif(not (DATA / "real").is_dir(), reason=f"no real reads at {DATA} (CNNSPARK_DATA)")
NO_ANNOTATIONS = AnnotationReader(
    VcfHeader(["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]), []
)
ORACLE_FIELDS = (
    "reference",
    "alternate",
    "read_support",
    "read_flags",
    "read_mapqs",
    "read_bases",
    "read_quals",
)
LETTERS = ".ACGTN-"


def record(start: int, ref: str, alts: str, contig: str = "c", index: int = 0) -> Record:
    return Record(f"{contig}\t{start + 1}\t.\t{ref}\t{alts}\t50\t.\t.", index)


def show(row: np.ndarray, start: int = 0, end: int = 128) -> str:
    return "".join(LETTERS[c] for c in row[start:end])


class Tiny:
    """A reference and reads in a folder, opened."""

    def __init__(self, folder: Path, contigs: dict[str, str], reads: list[TinyRead], contig: str = ""):
        self.contigs = contigs
        self.fasta = write_fasta(folder, contigs)
        self.bam = write_bam(folder, contigs, reads, contig)

    def build(self, records: list[Record], **settings):
        with ReadSource(self.bam) as reads:
            return build_tensors(
                records, reads, ReferenceSource(self.fasta), TensorSettings(**settings), NO_ANNOTATIONS, "tiny", None
            )

    def check(self, records: list[Record], **settings):
        batch, _ = self.build(records, **settings)
        settings.pop("on_ref_mismatch", None)
        assert_equals_oracle(batch, records, self.bam, self.fasta, "tiny", **settings)
        return batch


def assert_equals_oracle(batch, records, bam: str, fasta: str, sample: str, **settings) -> None:
    examples = [e for r in records for e in oracle_examples(r, bam, fasta, sample, **settings)]
    assert len(batch) == len(examples)
    for i, expected in enumerate(examples):
        got = batch.example(i)
        for name in ORACLE_FIELDS:
            wanted = getattr(expected, name)
            assert got[name].dtype == wanted.dtype
            assert got[name].shape == wanted.shape, (batch.keys[i], name)
            assert np.array_equal(got[name], wanted), (batch.keys[i], name, np.argwhere(got[name] != wanted)[:5])


@pytest.fixture(scope="module")
def text() -> str:
    return "".join(random.Random(1).choices("ACGT", k=600))


def test_an_insertion_opens_columns_and_reads_without_it_have_a_gap(tmp_path, text):
    added = "ACCT" if text[300] != "A" else "GCCT"
    reads = [
        TinyRead(260, "41M4I40M", text[260:301] + added + text[301:341]),
        TinyRead(270, "31M2I40M", text[270:301] + added[:2] + text[301:341]),
        TinyRead(250, "100M", text[250:350]),
        TinyRead(200, "101M", text[200:301]),
    ]
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, text[300], text[300] + added)])
    assert show(batch.reference[0], 64, 72) == text[300] + "----" + text[301:304]
    assert show(batch.alternate[0], 64, 72) == text[300] + added + text[301:304]
    support = batch.read_support.tolist()
    rows = [show(row, 64, 70) for row in batch.read_bases]
    assert support == [0, 0, 1, 2]
    # neither: a read that ends at the boundary (nothing beyond), and one with another insertion (left-aligned)
    assert rows == [
        text[300] + ".....",
        text[300] + added[:2] + "--" + text[301],
        text[300] + "----" + text[301],
        text[300] + added + text[301],
    ]


def test_an_insertion_in_two_operations_is_one(tmp_path, text):
    reads = [
        TinyRead(260, "41M2I1P2I40M", text[260:301] + "ACCT" + text[301:341], name="in two"),
        TinyRead(260, "41M4I40M", text[260:301] + "ACCT" + text[301:341], name="in one"),
    ]
    text = text[:300] + "G" + text[301:]
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, "G", "GACCT")])
    assert {show(row, 65, 69) for row in batch.read_bases} == {"ACCT"}


def test_columns_opened_left_of_the_variant_push_left(tmp_path, text):
    reads = [
        TinyRead(250, "30M3I60M", text[250:280] + "GGG" + text[280:340]),
        TinyRead(250, "90M", text[250:340]),
    ]
    alt = "A" if text[300] != "A" else "C"
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, text[300], alt)])
    assert show(batch.reference[0], 64, 65) == text[300]
    assert show(batch.reference[0], 64 - 23, 64 - 20) == "---"
    assert show(batch.reference[0], 0, 41) == text[300 - 61 : 280]


def test_a_deletion_is_a_gap_in_the_read_and_in_alternate(tmp_path, text):
    text = text[:300] + "CATGATGG" + text[308:]
    reads = [
        TinyRead(260, "41M5D40M", text[260:301] + text[306:346]),
        TinyRead(260, "80M", text[260:340]),
    ]
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, text[300:306], text[300])])
    assert show(batch.alternate[0], 64, 72) == text[300] + "-----" + text[306:308]
    assert sorted(batch.read_support.tolist()) == [1, 2]
    assert show(batch.read_bases[1], 64, 72) == text[300] + "-----" + text[306:308]


def test_equal_and_differing_operations_are_matches_and_hard_clips_have_no_bases(tmp_path, text):
    alt = "A" if text[300] != "A" else "C"
    changed = text[260:300] + alt + text[301:340]
    reads = [
        TinyRead(260, "40=1X39=", changed, name="a"),
        TinyRead(260, "5H80M7H", changed, name="b"),
        TinyRead(260, "20M2P60M", changed, name="c"),
    ]
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, text[300], alt)])
    assert batch.read_support.tolist() == [2, 2, 2]
    assert len({row.tobytes() for row in batch.read_bases}) == 1


@pytest.mark.parametrize("use_soft_clips", [False, True])
def test_soft_clips_are_laid_out_only_where_asked(tmp_path, text, use_soft_clips):
    reads = [TinyRead(290, "10S50M15S", "C" * 10 + text[290:340] + "G" * 15)]
    alt = "A" if text[300] != "A" else "C"
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, text[300], alt)], use_soft_clips=use_soft_clips)
    row = show(batch.read_bases[0])
    assert row[44:54] == ("C" * 10 if use_soft_clips else "." * 10)
    assert row[104:119] == ("G" * 15 if use_soft_clips else "." * 15)
    assert row[:44] == "." * 44


def test_windows_are_padded_at_both_ends_of_a_contig(tmp_path):
    text = "".join(random.Random(2).choices("ACGT", k=90))
    reads = [TinyRead(0, "90M", text), TinyRead(0, "5S20M", "AAAAA" + text[:20]), TinyRead(60, "30M", text[60:])]
    alt = [("A" if base != "A" else "C") for base in text]
    tiny = Tiny(tmp_path, {"c": text}, reads)
    batch = tiny.check([record(0, text[0], alt[0]), record(3, text[3], alt[3]), record(89, text[89], alt[89])])
    assert show(batch.reference[0]) == "." * 64 + text[:64]
    assert show(batch.reference[1]) == "." * 61 + text[:67]
    assert show(batch.reference[2]) == text[25:] + "." * 63


def test_multi_allelic_records_give_a_tensor_per_alt_with_the_other_as_other(tmp_path, text):
    others = [base for base in "ACGT" if base != text[300]]
    reads = [
        TinyRead(260 + k, f"{80 - k}M", text[260 + k : 300] + base + text[301:340], name=f"r{k}")
        for k, base in enumerate([text[300], others[0], others[0], others[1], others[2]])
    ]
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, text[300], f"{others[0]},*,{others[1]}")])
    assert [key.alt_index for key in batch.keys] == [1, 3]
    assert batch.example(0)["read_support"].tolist() == [0, 1, 2, 2, 3]
    assert batch.example(1)["read_support"].tolist() == [0, 1, 2, 3, 3]


def test_an_mnv_needs_all_its_bases(tmp_path, text):
    ref = text[300:303]
    alt = "".join("A" if base != "A" else "C" for base in ref)
    half = alt[:1] + ref[1:]
    reads = [TinyRead(260, "80M", text[260:300] + middle + text[303:340], name=middle) for middle in (ref, alt, half)]
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, ref, alt)])
    assert batch.read_support.tolist() == [0, 1, 2]


def test_an_indel_in_a_repeat_is_compared_over_the_whole_repeat(tmp_path, text):
    # CAG x 6: the deletion of one unit may stand anywhere, and a read that ends within the repeat can't tell.
    sequence = text[:290] + "T" + "CAG" * 6 + "T" + text[310:]
    short = sequence[:291] + "CAG" * 5 + sequence[309:]
    reads = [
        TinyRead(250, "41M3D50M", short[250:341], name="left"),
        TinyRead(250, "56M3D35M", short[250:341], name="right"),
        TinyRead(250, "50M3D41M", short[250:341], name="middle"),
        TinyRead(250, "90M", sequence[250:340], name="ref"),
        TinyRead(240, "64M", sequence[240:304], name="ends inside"),
        TinyRead(296, "60M", sequence[296:356], name="starts inside"),
    ]
    tiny = Tiny(tmp_path, {"c": sequence}, reads)
    # as a caller in the left-most, and one in the right-most spelling would write it
    left = tiny.check([record(290, "TCAG", "T")])
    right = tiny.check([record(305, "GCAG"[:4], "G")])
    # "starts inside" does not overlap the left spelling's REF
    assert left.read_support.tolist() == [0, 1, 2, 2, 2]
    assert right.read_support.tolist() == [0, 1, 2, 2, 2]


def test_a_skipped_intron_is_nothing_and_no_deletion(tmp_path, text):
    reads = [
        TinyRead(200, "95M20N50M", text[200:295] + text[315:365], name="skips the site"),
        TinyRead(200, "60M30N60M", text[200:260] + text[290:350], name="covers"),
    ]
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(299, text[299:303], text[299])])
    assert sorted(batch.read_support.tolist()) == [0, 1]
    assert show(batch.read_bases[0], 58, 82) == text[293:295] + "." * 20 + text[315:317]


def test_reads_longer_than_the_window_and_without_qualities_fill_it(tmp_path, text):
    reads = [TinyRead(10, "580M", text[10:590], quals=None, mapq=255)]
    alt = "A" if text[300] != "A" else "C"
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, text[300], alt)])
    assert show(batch.read_bases[0]) == text[236:364]
    assert not batch.read_quals.any()
    assert batch.read_mapqs.tolist() == [255]


def test_more_reads_than_the_limit_are_chosen_by_hash_whatever_their_order(tmp_path, text):
    alt = "A" if text[300] != "A" else "C"
    reads = [TinyRead(250, "100M", text[250:350], name=f"read{k}", quals=k) for k in range(60)]
    records = [record(300, text[300], alt)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    forward = Tiny(tmp_path / "a", {"c": text}, reads).check(records, read_limit=20)
    backward = Tiny(tmp_path / "b", {"c": text}, reads[::-1]).check(records, read_limit=20)
    assert len(forward.read_bases) == 20
    assert np.array_equal(forward.read_quals, backward.read_quals)
    other = Tiny(tmp_path / "a", {"c": text}, reads).check(records, read_limit=20, seed=1)
    assert not np.array_equal(forward.read_quals, other.read_quals)


def random_reads(rng: random.Random, text: str, count: int) -> list[TinyRead]:
    reads = []
    for k in range(count):
        start = rng.randrange(0, len(text) - 60)
        position, cigar, sequence = start, "", ""
        if rng.random() < 0.2:
            n = rng.randint(1, 12)
            cigar += f"{n}S"
            sequence += "".join(rng.choices("ACGTN", k=n))
        for part in range(rng.randint(1, 5)):
            if part or rng.random() < 0.1:
                operation = rng.choices("IDNP", weights=[5, 5, 1, 1])[0]
                n = rng.randint(1, 6)
                if operation == "I":
                    sequence += "".join(rng.choices("ACGT", k=n))
                elif operation in "DN" and part and position + n < len(text) - 5:
                    position += n
                else:
                    operation, n = "P", 1
                cigar += f"{n}{operation}"
            n = min(rng.randint(1, 60), len(text) - position)
            if n < 1:
                break
            bases = [b if rng.random() > 0.03 else rng.choice("ACGTN") for b in text[position : position + n]]
            sequence += "".join(bases)
            cigar += f"{n}{rng.choice('MMM=X')}"
            position += n
        if rng.random() < 0.2:
            n = rng.randint(1, 12)
            cigar += f"{n}S"
            sequence += "".join(rng.choices("ACGT", k=n))
        if rng.random() < 0.1:
            cigar += "3H"
        quals = [rng.randint(2, 41) for _ in sequence]
        flag = rng.choice([0, 16, 99, 147, 83, 163, 0x400, 0x100, 0x800, 0x200])
        reads.append(TinyRead(start, cigar, sequence, f"r{k // 2}", flag, rng.choice([0, 7, 60, 255]), quals))
    return reads


def random_records(rng: random.Random, text: str, count: int) -> list[Record]:
    records = []
    for index, start in enumerate(sorted(rng.choices(range(len(text) - 12), k=count))):
        ref = text[start : start + rng.choice([1, 1, 1, 2, 3, 5, 9])]
        alts = set()
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            kind = rng.random()
            if kind < 0.4:
                alts.add("".join(rng.choices("ACGT", k=len(ref))))
            elif kind < 0.7:
                alts.add(ref[0] + "".join(rng.choices("ACG", k=rng.randint(1, 5))) + ref[1:])
            else:
                alts.add(ref[: rng.randint(1, len(ref))])
        alts.discard(ref)
        if alts:
            records.append(record(start, ref, ",".join(sorted(alts)), index=index))
    return records


@pytest.mark.parametrize("seed", range(4))
def test_random_reads_and_records_equal_the_oracle_field_by_field(tmp_path, seed):
    rng = random.Random(seed)
    text = "".join(rng.choice(["A", "C", "G", "T", "CA" * 6, "T" * 9, "AGC" * 4]) for _ in range(130))[:700]
    tiny = Tiny(tmp_path, {"before": "ACGT" * 30, "c": text}, random_reads(rng, text, 260), "c")
    records = random_records(rng, text, 60)
    tiny.check(records)
    tiny.check(records, use_soft_clips=True, read_limit=9, seed=seed)


def real(name: str) -> tuple[list[Record], str, str, str]:
    """Records, reads, reference, sample."""
    if name == "HG002":
        folder = DATA / "real" / "HG002"
        vcf, bam, fasta = "HG002.freebayes.vcf.gz", "HG002.20.bam", "ref.b37.20.fa.gz"
    else:
        folder = DATA / "real" / "NA12878"
        vcf, bam, fasta = "NA12878.freebayes.vcf.gz", "NA12878.chr20.bam", "ref.hg19.chr20.fa.gz"
    with VcfSource(str(folder / vcf)) as source:
        records = list(source.records(Region(source.contigs[0])))
    return records, str(folder / bam), str(folder / fasta), name


@needs_data
@pytest.mark.parametrize("name", ["HG002", "NA12878"])
def test_real_records_equal_the_oracle(name):
    records, bam, fasta, sample = real(name)
    records = records[:: max(1, len(records) // 200)][:200]
    with ReadSource(bam) as reads:
        batch, _ = build_tensors(records, reads, ReferenceSource(fasta), TensorSettings(), NO_ANNOTATIONS, sample, None)
    assert_equals_oracle(batch, records, bam, fasta, sample)


def assert_same(a, b) -> None:
    assert a.keys == b.keys
    assert np.array_equal(a.row_offsets, b.row_offsets)
    for field in FIELDS:
        assert getattr(a, field.name).tobytes() == getattr(b, field.name).tobytes(), field.name


@needs_data
def test_bam_and_cram_give_the_same_bytes():
    records, bam, fasta, sample = real("NA12878")
    reference = ReferenceSource(fasta)
    with ReadSource(bam) as a, ReadSource(bam.replace(".bam", ".cram"), fasta) as b:
        from_bam, _ = build_tensors(records[:200], a, reference, TensorSettings(), NO_ANNOTATIONS, sample, None)
        from_cram, _ = build_tensors(records[:200], b, reference, TensorSettings(), NO_ANNOTATIONS, sample, None)
    assert_same(from_bam, from_cram)


@needs_data
@pytest.mark.parametrize("size", [1, 7, 50])
def test_the_grouping_of_records_does_not_change_a_byte(size):
    records, bam, fasta, sample = real("HG002")
    records = records[:150]
    starts = np.array([r.start for r in records])
    reference, settings = ReferenceSource(fasta), TensorSettings(read_limit=20)
    with ReadSource(bam) as reads:
        whole, skipped = build_tensors(records, reads, reference, settings, NO_ANNOTATIONS, sample, starts)
        parts, counts = [], Counter()
        for i in range(0, len(records), size):
            part, count = build_tensors(
                records[i : i + size], reads, reference, settings, NO_ANNOTATIONS, sample, starts
            )
            parts.append(part)
            counts += count
    assert_same(whole, type(whole).concatenate(parts))
    assert counts == skipped


def test_unscorable_alleles_are_skipped_and_counted(tmp_path, text):
    tiny = Tiny(tmp_path, {"c": text}, [TinyRead(250, "100M", text[250:350])])
    base = text[300]
    alt = "A" if base != "A" else "C"
    records = [
        record(300, base, f"{alt},<NON_REF>", index=0),
        record(300, base, ".", index=1),
        record(300, base, "<DEL>,*", index=2),
        record(300, base, f"{base}[c:12[", index=3),
    ]
    batch, skipped = tiny.build(records)
    assert [(key.record_index, key.alt) for key in batch.keys] == [(0, alt)]
    assert skipped == {
        alleles.NON_REF: 1,
        alleles.NO_ALT: 1,
        alleles.SYMBOLIC: 1,
        alleles.SPANNING_DELETION: 1,
        alleles.BREAKEND: 1,
    }
    empty, _ = tiny.build(records[1:])
    assert len(empty) == 0
    assert {f.name: getattr(empty, f.name).dtype for f in FIELDS} == {f.name: np.dtype(f.dtype) for f in FIELDS}


def test_a_ref_that_disagrees_is_an_error_that_names_the_place_or_is_skipped(tmp_path, text):
    tiny = Tiny(tmp_path, {"c": text}, [TinyRead(250, "100M", text[250:350])])
    wrong = "A" if text[300] != "A" else "C"
    records = [record(300, wrong, "G" if wrong != "G" else "T"), record(310, text[310], "ACG", index=1)]
    with pytest.raises(InputError, match=r"c:301 has REF .* --on-ref-mismatch skip"):
        tiny.build(records)
    batch, skipped = tiny.build(records, on_ref_mismatch="skip")
    assert [key.record_index for key in batch.keys] == [1]
    assert skipped == {alleles.REF_MISMATCH: 1}
    with pytest.raises(InputError, match="c:600"):
        tiny.build([record(599, text[599] + "A", text[599])])


def test_soft_masked_and_ambiguous_references_agree_with_any_case_and_base(tmp_path, text):
    masked = text[:290].lower() + "R" + text[291:300].lower() + text[300:]
    tiny = Tiny(tmp_path, {"c": masked}, [TinyRead(250, "100M", text[250:350])])
    batch, _ = tiny.build([record(289, text[289], "CCC"), record(290, "A", "T"), record(299, "N", "T")])
    assert len(batch) == 3
    assert show(batch.reference[1], 60, 68) == text[286:290] + "N" + text[291:294]


def test_position_zero_is_the_telomere_before_the_first_base(tmp_path, text):
    tiny = Tiny(tmp_path, {"c": text}, [TinyRead(0, "100M", text[:100])])
    batch, _ = tiny.build([record(-1, "N", "A")])
    assert show(batch.reference[0]) == "." * 65 + text[:63]
    assert show(batch.alternate[0], 62, 67) == "..A" + text[:2]
    assert len(batch.read_bases) == 0


def test_a_site_without_reads_gives_no_rows(tmp_path, text):
    tiny = Tiny(tmp_path, {"c": text, "d": text}, [TinyRead(250, "100M", text[250:350])])
    batch, _ = tiny.build([record(300, text[300], "GGG", contig="d")])
    assert batch.read_bases.shape == (0, 128)
    assert show(batch.reference[0], 64, 65) == text[300]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="read_limit"):
        TensorSettings(read_limit=0)
    with pytest.raises(UsageError, match="on_ref_mismatch"):
        TensorSettings(on_ref_mismatch="ignore")


def test_overlapping_mates_are_both_kept_and_marked(tmp_path: Path) -> None:
    text = "".join(random.Random(11).choices("ACGT", k=600))
    alt = "C" if text[300] != "C" else "A"
    reads = [
        TinyRead(250, "100M", text[250:350], name="pair", flag=0x63),
        TinyRead(280, "100M", text[280:380], name="pair", flag=0x93),
        TinyRead(260, "100M", text[260:360], name="far mate", flag=0x63),
        TinyRead(270, "100M", text[270:370], name="twice", flag=0x63),
        TinyRead(275, "100M", text[275:375], name="twice", flag=0x63),  # two firsts are no pair
    ]
    batch = Tiny(tmp_path, {"c": text}, reads).check([record(300, text[300], alt)])
    assert batch.read_flags.tolist() == [0x63 | MATE_ROW, 0x63, 0x63, 0x63, 0x93 | MATE_ROW]


def test_the_smallest_hashes_are_numpys() -> None:
    compiled = numba.njit(smallest)
    rng = np.random.default_rng(2)
    for n in (1, 7, 200):
        hashes = rng.integers(0, 2**64, n, np.uint64)
        hashes[: n // 3] = hashes[-1]  # ties
        hashes[0], hashes[n // 2] = 0, 2**64 - 1
        for limit in range(1, n + 3):
            expected = np.sort(np.argsort(hashes, kind="stable")[:limit])
            assert compiled(hashes, limit).tolist() == expected.tolist()


def test_every_encoding_that_settings_allow_has_an_encoder() -> None:
    assert tuple(ENCODERS) == ENCODINGS
