"""Every record of real callsets, 2,000 simulated ones and drawn cases against the slow encoder of oracle_tensors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.tensors.builder import build_tensors
from cnnspark.tensors.schema import FIELDS, TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.alleles import trim, unscorable_reason
from tests.support.oracle_tensors import OracleExample, TinyRead, oracle_examples
from tests.tensors.test_builder import DATA, NO_ANNOTATIONS, ORACLE_FIELDS, Tiny, needs_data, record

# callset, reads, reference
REAL = {
    "HG002": ("real/HG002/HG002.freebayes.vcf.gz", "real/HG002/HG002.20.bam", "real/HG002/ref.b37.20.fa.gz"),
    "NA12878 freebayes": (
        "real/NA12878/NA12878.freebayes.vcf.gz",
        "real/NA12878/NA12878.chr20.bam",
        "real/NA12878/ref.hg19.chr20.fa.gz",
    ),
    "NA12878 bcftools": (
        "real/NA12878/NA12878.bcftools.vcf.gz",
        "real/NA12878/NA12878.chr20.bam",
        "real/NA12878/ref.hg19.chr20.fa.gz",
    ),
}
SIM = {
    "freebayes": ("sim/DEV.freebayes.vcf.gz", "sim/DEV.bam", "sim/ref.fa.gz"),
    "bcftools": ("sim/DEV.bcftools.vcf.gz", "sim/DEV.bam", "sim/ref.fa.gz"),
}
SAMPLE = "sample"


def records_of(vcf: str) -> list[Record]:
    with VcfSource(str(DATA / vcf)) as source:
        return [record for contig in source.contigs for record in source.records(Region(contig))]


def build(records: list[Record], reads: str, reference: str, **chosen) -> TensorBatch:
    """The tensors of records of any contigs, in their order."""
    genome = ReferenceSource(str(DATA / reference))
    with ReadSource(str(DATA / reads), str(DATA / reference)) as source:
        parts = [
            build_tensors(
                [record for record in records if record.contig == contig],
                source,
                genome,
                TensorSettings(**chosen),
                NO_ANNOTATIONS,
                SAMPLE,
                None,
            )[0]
            for contig in dict.fromkeys(record.contig for record in records)
        ]
    return TensorBatch.concatenate(parts)


def differences(batch: TensorBatch, expected: list[OracleExample]) -> list[str]:
    """Which field of which allele is not what the oracle has."""
    assert len(batch) == len(expected)
    found = []
    for i, wanted in enumerate(expected):
        got = batch.example(i)
        for name in ORACLE_FIELDS:
            value = getattr(wanted, name)
            if got[name].dtype != value.dtype or not np.array_equal(got[name], value):
                key = batch.keys[i]
                found.append(f"{name} of {key.contig}:{key.start + 1} {key.ref}>{key.alt}")
    return found


def oracle(records: list[Record], reads: str, reference: str, **chosen) -> list[OracleExample]:
    paths = str(DATA / reads), str(DATA / reference)
    return [example for record in records for example in oracle_examples(record, *paths, SAMPLE, **chosen)]


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_every_record_of_a_real_callset_equals_the_oracle(name):
    vcf, reads, reference = REAL[name]
    records = records_of(vcf)
    assert len(records) > 250
    assert not differences(build(records, reads, reference), oracle(records, reads, reference))


@needs_data
def test_a_third_of_the_real_records_equals_the_oracle_with_other_settings():
    vcf, reads, reference = REAL["NA12878 freebayes"]
    records = records_of(vcf)[::3]
    chosen = {"use_soft_clips": True, "read_limit": 17, "seed": 5}
    assert not differences(build(records, reads, reference, **chosen), oracle(records, reads, reference, **chosen))


@needs_data
@pytest.mark.parametrize("callset", ["freebayes", "bcftools"])
def test_bam_and_cram_of_a_sample_give_the_same_bytes_for_every_record(callset):
    vcf, reads, reference = REAL[f"NA12878 {callset}"]
    records = records_of(vcf)
    from_bam = build(records, reads, reference)
    from_cram = build(records, reads.replace(".bam", ".cram"), reference)
    assert from_bam.keys == from_cram.keys
    assert np.array_equal(from_bam.row_offsets, from_cram.row_offsets)
    for field in FIELDS:
        assert getattr(from_bam, field.name).tobytes() == getattr(from_cram, field.name).tobytes(), field.name


@needs_data
@pytest.mark.parametrize(
    ("callset", "count"),
    [
        ("freebayes", 150),
        ("bcftools", 150),
        pytest.param("freebayes", 2000, marks=pytest.mark.slow),
        pytest.param("bcftools", 2000, marks=pytest.mark.slow),
    ],
)
def test_simulated_records_spread_over_the_callset_equal_the_oracle(callset, count):
    vcf, reads, reference = SIM[callset]
    records = records_of(vcf)
    chosen = [records[i] for i in np.linspace(0, len(records) - 1, count).astype(int)]
    assert len({(record.contig, record.index) for record in chosen}) == count
    assert not differences(build(chosen, reads, reference), oracle(chosen, reads, reference))


# Drawn cases. Small alphabets and short contigs make repeats, ties and ends frequent.
FLAGS = (0, 16, 99, 147, 83, 163, 73, 133, 1024, 256, 2048, 512, 4, 1024 + 16)


@st.composite
def contigs(draw) -> str:
    """A reference of 3 to 300 bases: random, repeats, runs, and letters that are not A, C, G or T."""
    units = st.sampled_from(["A", "C", "G", "T", "CA", "CAG", "TTTT", "ACGT", "AAAAAAAA", "N", "R", "g", "t"])
    parts = draw(st.lists(st.tuples(units, st.integers(1, 9)), min_size=draw(st.sampled_from([1, 10])), max_size=25))
    text = "".join(unit * times for unit, times in parts)[:300]
    return text if len(text) >= 3 else text + "ACG"


@st.composite
def tiny_reads(draw, text: str) -> TinyRead:
    """A read with any operations in any order that a BAM may hold, on the contig to its last base."""
    start = draw(st.integers(0, len(text) - 1))
    left = len(text) - start
    cigar: list[tuple[int, str]] = []
    sequence = []
    position = start
    for operation in draw(st.lists(st.sampled_from("MMMM=XIIDDNP"), min_size=1, max_size=7)):
        length = draw(st.integers(1, 40 if operation in "M=X" else 6))
        if operation in "M=XDN":
            length = min(length, left)
            if not length:
                continue
            left -= length
        cigar.append((length, operation))
        if operation in "M=X":
            # One changed base at most: haplotypes should be recognised more often than not.
            bases = list(text[position : position + length].upper())
            if draw(st.booleans()):
                bases[draw(st.integers(0, length - 1))] = draw(st.sampled_from("ACGTN"))
            sequence += ["N" if base not in "ACGT" else base for base in bases]
        elif operation == "I":
            sequence += draw(st.lists(st.sampled_from("ACGT"), min_size=length, max_size=length))
        if operation in "M=XDN":
            position += length
    # Clips stand at the ends alone (SAM specification 1.4.6).
    for at_end in (False, True):
        clip = draw(st.sampled_from(["", "", "S", "H", "HS"]))
        soft = draw(st.integers(1, 8))
        added = [(soft, "S")] if "S" in clip else []
        hard = [(draw(st.integers(1, 5)), "H")] if "H" in clip else []
        bases = draw(st.lists(st.sampled_from("ACGTN"), min_size=soft, max_size=soft)) if "S" in clip else []
        if at_end:
            cigar, sequence = cigar + added + hard, sequence + bases
        else:
            cigar, sequence = hard + added + cigar, bases + sequence
    quals = draw(st.sampled_from([None, 0, 2, 30, 41, "each"]))
    return TinyRead(
        start,
        "".join(f"{length}{operation}" for length, operation in cigar) or "*",
        "".join(sequence) or "*",
        name=draw(st.sampled_from(["a", "b", "pair"])) + str(draw(st.integers(0, 30))),
        flag=draw(st.sampled_from(FLAGS)),
        mapq=draw(st.sampled_from([0, 1, 29, 60, 254, 255])),
        quals=[(7 * i) % 42 for i in range(len(sequence))] if quals == "each" else quals,
    )


@st.composite
def drawn_records(draw, text: str) -> list[Record]:
    """Records of all kinds of alleles, at a contig's first and last bases as well, sorted."""
    records = []
    for start in sorted(draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=4))):
        ref = text[start : start + draw(st.sampled_from([1, 1, 1, 2, 3, 5, 12, 40]))].upper()
        alts = draw(
            st.lists(
                st.one_of(
                    st.text("ACGT", min_size=len(ref), max_size=len(ref)),
                    st.text("ACGT", min_size=1, max_size=6).map(lambda added, ref=ref: ref[:1] + added + ref[1:]),
                    st.integers(1, len(ref)).map(lambda kept, ref=ref: ref[:kept]),
                    st.sampled_from([ref + ref, ref[:1] + ref, ref + "A" * 70]),
                    st.text("ACGTN", min_size=1, max_size=8),
                    st.sampled_from(["*", "<DEL>", "<NON_REF>"]),
                ),
                min_size=1,
                max_size=3,
                unique=True,
            )
        )
        alts = [alt for alt in alts if alt != ref]
        if alts:
            records.append(record(start, ref, ",".join(alts), index=len(records)))
    return records


@st.composite
def allele_reads(draw, text: str, chosen: Record) -> TinyRead:
    """A read that shows REF or one of the record's ALTs, aligned as an aligner would or with gap and base swapped."""
    alts = [alt for alt in chosen.alts if unscorable_reason(chosen.ref, alt) is None]
    alt = draw(st.sampled_from([chosen.ref, *alts])).upper()
    offset, removed, added = trim(chosen.ref, alt)
    at = chosen.start + offset
    start = max(0, at - draw(st.integers(0, 30)))
    end = min(len(text), at + len(removed) + draw(st.integers(0, 30)))
    both = min(len(removed), len(added))
    cigar = [(at - start, "M"), (both, draw(st.sampled_from("MX=")))]
    middle = [(len(added) - both, "I"), (len(removed) - both, "D")]
    cigar += [*middle, (max(end - at - len(removed), 0), draw(st.sampled_from("M=")))]
    sequence = list((text[start:at] + added + text[at + len(removed) : end]).upper())
    if sequence and draw(st.integers(0, 3)) == 0:
        sequence[draw(st.integers(0, len(sequence) - 1))] = draw(st.sampled_from("ACGTN"))
    return TinyRead(
        start,
        "".join(f"{length}{operation}" for length, operation in cigar if length) or "*",
        "".join(base if base in "ACGT" else "N" for base in sequence) or "*",
        name="allele" + str(draw(st.integers(0, 30))),
        flag=draw(st.sampled_from(FLAGS[:6])),
        mapq=draw(st.sampled_from([0, 29, 60, 255])),
        quals=draw(st.sampled_from([None, 12, 37])),
    )


@st.composite
def cases(draw) -> tuple[str, list[TinyRead], list[Record], dict]:
    text = draw(contigs())
    records = draw(drawn_records(text))
    showing = [allele_reads(text, each) for each in records]
    # Few reads are the simplest case, many the telling one: hypothesis alone would draw few.
    least = draw(st.sampled_from([0, 8]))
    reads = draw(st.lists(st.one_of(*showing, tiny_reads(text)), min_size=least, max_size=20))
    chosen = {
        "use_soft_clips": draw(st.booleans()),
        "read_limit": draw(st.sampled_from([1, 3, 128])),
        "seed": draw(st.integers(0, 3)),
    }
    return text, reads, records, chosen


def check_case(case: tuple[str, list[TinyRead], list[Record], dict]) -> None:
    text, reads, records, chosen = case
    with tempfile.TemporaryDirectory() as folder:
        tiny = Tiny(Path(folder), {"before": "ACGT", "c": text, "after": "AC"}, reads, "c")
        tiny.check(records, **chosen)


def drawn(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@drawn(100)
@given(cases())
def test_drawn_reads_and_alleles_equal_the_oracle(case):
    check_case(case)


@pytest.mark.slow
@drawn(2000)
@given(cases())
def test_two_thousand_drawn_cases_equal_the_oracle(case):
    check_case(case)
