"""Reads as flat arrays against pysam's own objects, and the errors for files that cannot be read."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pysam
import pytest

import cnnspark.common.numba_jit
from cnnspark.errors import InputError
from cnnspark.formats import reads as reads_module
from cnnspark.formats.reads import ReadBatch, ReadFilter, ReadSource
from cnnspark.formats.regions import Region
from tests.conftest import DATA
from tests.support.oracle_tensors import TinyRead, code, fnv1a, write_bam, write_fasta

needs_data = pytest.mark.skipif(not (DATA / "real").is_dir(), reason=f"no real reads at {DATA} (CNNSPARK_DATA)")
TEXT = "".join(random.Random(3).choices("ACGT", k=2000))
CONTIGS = {"c": TEXT, "d": TEXT}


def assert_equals_pysam(batch: ReadBatch, path: str, region: Region, dropped_flags: int, reference=None) -> None:
    """Every array against the attributes of pysam's segments."""
    with pysam.AlignmentFile(path, reference_filename=reference) as file:
        segments = [
            s
            for s in file.fetch(region.contig, region.start, region.end)
            if not s.flag & dropped_flags and s.cigartuples and s.query_sequence and s.reference_length
        ]
    assert len(batch) == len(segments)
    for i, segment in enumerate(segments):
        span = slice(batch.base_offsets[i], batch.base_offsets[i + 1])
        operations = slice(batch.cigar_offsets[i], batch.cigar_offsets[i + 1])
        quals = segment.query_qualities
        assert batch.starts[i] == segment.reference_start
        assert batch.ends[i] == segment.reference_end
        assert batch.flags[i] == segment.flag
        assert batch.mapqs[i] == segment.mapping_quality
        assert batch.template_lengths[i] == segment.template_length
        assert batch.name_hashes[i] == fnv1a(segment.query_name.encode())
        assert batch.bases[span].tolist() == [code(letter) for letter in segment.query_sequence]
        assert batch.quals[span].tolist() == ([0] * segment.query_length if quals is None else list(quals))
        got = zip(batch.cigar_ops[operations].tolist(), batch.cigar_lengths[operations].tolist(), strict=True)
        assert list(got) == segment.cigartuples


@needs_data
@pytest.mark.parametrize(
    ("path", "reference", "contig"),
    [
        ("real/HG002/HG002.20.bam", None, "20"),
        ("real/NA12878/NA12878.chr20.bam", None, "chr20"),
        ("real/NA12878/NA12878.chr20.cram", "real/NA12878/ref.hg19.chr20.fa.gz", "chr20"),
    ],
)
def test_real_reads_equal_pysam_attribute_by_attribute(path, reference, contig):
    reference = str(DATA / reference) if reference else None
    region = Region(contig, 10_000_500, 10_003_500)
    with ReadSource(str(DATA / path), reference) as source:
        batch = source.read(region, ReadFilter())
        assert_equals_pysam(batch, str(DATA / path), region, 0xF04, reference)
    assert len(batch) > 500


@needs_data
def test_reading_in_pieces_gives_the_same_reads(monkeypatch):
    region = Region("20", 10_000_000, 10_005_000)
    with ReadSource(str(DATA / "real/HG002/HG002.20.bam")) as source:
        whole = source.read(region, ReadFilter())
        monkeypatch.setattr(reads_module, "_RECORDS_AT_ONCE", 97)
        pieces = source.read(region, ReadFilter())
    assert pieces.dropped == whole.dropped
    for name in ReadBatch.__dataclass_fields__:
        if name != "dropped":
            assert np.array_equal(getattr(whole, name), getattr(pieces, name)), name
            assert getattr(whole, name).dtype == getattr(pieces, name).dtype


def test_dropped_reads_are_counted_by_reason_and_each_kind_can_be_kept(tmp_path):
    flags = {"unmapped": 0x4, "secondary": 0x100, "supplementary": 0x800, "qc_fail": 0x200, "duplicate": 0x400}
    reads = [TinyRead(100, "50M", TEXT[100:150], name=kind, flag=flag) for kind, flag in flags.items()]
    reads += [
        TinyRead(100, "50M", TEXT[100:150], name="low", mapq=5),
        TinyRead(100, "50M", TEXT[100:150], name="good"),
        TinyRead(100, "50M", "*", name="no sequence"),
        TinyRead(100, "*", TEXT[100:150], name="no cigar"),
        TinyRead(100, "20S30I", TEXT[100:150], name="nothing aligned"),
    ]
    path = write_bam(tmp_path, CONTIGS, reads)
    with ReadSource(path) as source:
        batch = source.read(Region("c", 90, 200), ReadFilter(min_mapping_quality=10))
        assert batch.dropped == {**dict.fromkeys(flags, 1), "low_mapping_quality": 1, "no_sequence": 1, "no_cigar": 2}
        assert batch.name_hashes.tolist() == [fnv1a(b"good")]
        for kind, flag in flags.items():
            kept = source.read(Region("c", 90, 200), ReadFilter(**{kind: False}))
            assert sorted(kept.flags.tolist()) == [0, 0, flag]
            assert kind not in kept.dropped


def test_a_read_belongs_to_a_region_by_its_aligned_span(tmp_path):
    reads = [
        TinyRead(100, "20M30D20M", TEXT[100:140], name="deletion"),
        TinyRead(300, "10M500N10M", TEXT[300:320], name="skip"),
        TinyRead(1000, "40S10M", TEXT[1000:1050], name="clip"),
    ]
    path = write_bam(tmp_path, CONTIGS, reads)
    with ReadSource(path) as source:
        assert source.read(Region("c", 130, 131), ReadFilter()).ends.tolist() == [170]
        assert source.read(Region("c", 169, 170), ReadFilter()).starts.tolist() == [100]
        assert len(source.read(Region("c", 170, 300), ReadFilter())) == 0
        assert source.read(Region("c", 700, 701), ReadFilter()).ends.tolist() == [820]
        assert len(source.read(Region("c", 970, 1000), ReadFilter())) == 0
        assert source.read(Region("c", 1009, 1010), ReadFilter()).starts.tolist() == [1000]
        everything = source.read(Region("c"), ReadFilter())
        assert len(everything) == 3
        assert len(source.read(Region("d"), ReadFilter())) == 0


def test_every_operation_letter_and_missing_qualities_arrive_as_written(tmp_path):
    reads = [
        TinyRead(100, "3H5S10=2X3I4D6M2P7N8M4S1H", TEXT[100:138] + "", quals=list(range(2, 40)), tlen=-321, flag=147),
        TinyRead(120, "30M", "NACGTRYKMSWBDHVACGTNACGTNACGTN"[:30], quals=None, mapq=255),
        TinyRead(130, "31M", TEXT[130:161], mapq=0),
    ]
    path = write_bam(tmp_path, CONTIGS, reads)
    with ReadSource(path) as source:
        batch = source.read(Region("c"), ReadFilter())
    assert_equals_pysam(batch, path, Region("c", 0, 2000), 0xF04)
    assert batch.cigar_ops[: batch.cigar_offsets[1]].tolist() == [5, 4, 7, 8, 1, 2, 0, 6, 3, 0, 4, 5]


def test_more_than_65535_operations_are_found_in_their_tag(tmp_path):
    # BAM's record holds 16 bits of operations; longer ones are in the tag CG (SAM specification 4.2.2).
    operations = 70_001
    contigs = {"c": "ACGT" * 40_000}
    sequence = "A" * operations
    cigar = "1M1I" * (operations // 2) + "1M"
    path = write_bam(tmp_path, contigs, [TinyRead(10, cigar, sequence, name="long"), TinyRead(40_000, "5M", "ACGTA")])
    with ReadSource(path) as source:
        batch = source.read(Region("c", 30_000, 50_000), ReadFilter())
    assert np.diff(batch.cigar_offsets).tolist() == [operations, 1]
    assert batch.ends.tolist() == [10 + operations // 2 + 1, 40_005]
    assert not batch.dropped


def test_samples_and_contigs_come_from_the_header(tmp_path):
    header = {
        "HD": {"VN": "1.6", "SO": "coordinate"},
        "SQ": [{"SN": "c", "LN": 2000}, {"SN": "HLA:01", "LN": 30}],
        "RG": [{"ID": "1", "SM": "b"}, {"ID": "2", "SM": "a"}, {"ID": "3", "SM": "b"}, {"ID": "4"}],
    }
    path = str(tmp_path / "reads.bam")
    pysam.AlignmentFile(path, "wb", header=header).close()
    pysam.index(path)
    with ReadSource(path) as source:
        assert source.samples == ("b", "a")
        assert source.contig_lengths == {"c": 2000, "HLA:01": 30}
        assert len(source.read(Region("c"), ReadFilter())) == 0
        with pytest.raises(InputError, match=r"has no contig '20'"):
            source.read(Region("20"), ReadFilter())


def test_a_cram_needs_its_reference_and_gives_the_reads_of_the_bam(tmp_path):
    fasta = write_fasta(tmp_path, CONTIGS)
    bam = write_bam(tmp_path, CONTIGS, [TinyRead(k, "90M", TEXT[k : k + 90]) for k in range(0, 500, 7)])
    cram = str(tmp_path / "reads.cram")
    with (
        pysam.AlignmentFile(bam) as source,
        pysam.AlignmentFile(cram, "wc", template=source, reference_filename=fasta) as out,
    ):
        for segment in source:
            out.write(segment)
    pysam.index(cram)
    with pytest.raises(InputError, match="is CRAM, which needs its reference"):
        ReadSource(cram)
    with ReadSource(cram, fasta) as a, ReadSource(bam) as b:
        assert np.array_equal(a.read(Region("c"), ReadFilter()).bases, b.read(Region("c"), ReadFilter()).bases)
    (tmp_path / "other").mkdir()
    other = write_fasta(tmp_path / "other", {"c": TEXT[::-1], "d": TEXT})
    with pytest.raises(InputError, match=r"reads\.cram cannot be read at c:1-500 .*check the reference"):
        ReadSource(cram, other).read(Region("c", 0, 500), ReadFilter())
    whole = Path(cram).read_bytes()
    Path(cram).write_bytes(whole[:-60])
    with pytest.raises(InputError, match=r"reads\.cram is truncated"):
        ReadSource(cram, fasta)


def many_reads(tmp_path: Path) -> str:
    rng = random.Random(4)
    starts = sorted(rng.randrange(0, 1800) for _ in range(6000))
    reads = []
    for start in starts:
        quals = [rng.randint(2, 40) for _ in range(100)]
        reads.append(TinyRead(start, "100M", TEXT[start : start + 100], quals=quals))
    return write_bam(tmp_path, CONTIGS, reads)


def test_damaged_files_give_one_message_with_a_remedy(tmp_path, capfd):
    path = many_reads(tmp_path)
    data = Path(path).read_bytes()

    with pytest.raises(InputError, match=r"nowhere\.bam does not exist; check the path"):
        ReadSource(str(tmp_path / "nowhere.bam"))

    lonely = tmp_path / "lonely.bam"
    lonely.write_bytes(data)
    with pytest.raises(InputError, match=r"lonely\.bam has no index; run 'samtools index .*lonely\.bam'"):
        ReadSource(str(lonely))
    with pytest.raises(InputError, match=r"missing\.bai does not exist; run 'samtools index"):
        ReadSource(str(lonely), index=str(tmp_path / "missing.bai"))
    with ReadSource(str(lonely), index=path + ".bai") as source:
        assert len(source.read(Region("c"), ReadFilter())) == 6000

    cut = tmp_path / "cut.bam"
    cut.write_bytes(data[: len(data) // 2])
    shutil.copy(path + ".bai", str(cut) + ".bai")
    with pytest.raises(InputError, match=r"cut\.bam is truncated; copy or make the file again"):
        ReadSource(str(cut))

    no_end = tmp_path / "no_end.bam"
    no_end.write_bytes(data[:-28])
    shutil.copy(path + ".bai", str(no_end) + ".bai")
    with ReadSource(str(no_end)) as source:
        assert len(source.read(Region("c"), ReadFilter())) == 6000

    damaged = tmp_path / "damaged.bam"
    middle = len(data) // 2
    damaged.write_bytes(data[:middle] + b"\0" * 200 + data[middle + 200 :])
    shutil.copy(path + ".bai", str(damaged) + ".bai")
    source = ReadSource(str(damaged))
    with pytest.raises(InputError, match=r"damaged\.bam cannot be read at c:1-2000 "):
        source.read(Region("c", 0, 2000), ReadFilter())
    del source

    for name, content in (("empty.bam", b""), ("text.bam", b"nonsense\n" * 100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name} cannot be opened as BAM or CRAM"):
            ReadSource(str(tmp_path / name))
    (tmp_path / "reads.sam").write_text("@SQ\tSN:c\tLN:2000\nr\t0\tc\t1\t60\t4M\t*\t0\t0\tACGT\t*\n")
    with pytest.raises(InputError, match=r"reads\.sam is SAM text; convert it"):
        ReadSource(str(tmp_path / "reads.sam"))
    assert capfd.readouterr().err == ""


def test_compiled_code_is_kept_in_a_folder_of_this_user_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(cnnspark.common.numba_jit.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = Path(cnnspark.common.numba_jit._private_cache_folder())
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    # Code is loaded from there: a folder that others may write to, or a link to elsewhere, is not used.
    folder.chmod(0o777)
    assert cnnspark.common.numba_jit._private_cache_folder() is None
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert cnnspark.common.numba_jit._private_cache_folder() is None
