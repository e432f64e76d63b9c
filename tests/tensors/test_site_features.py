"""Site features against obvious formulas over pysam's segments, and by hand on small cases."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter

import numpy as np
import pysam
import pytest

from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.tensors.builder import build_tensors
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.variants.alleles import trim, unscorable_reason, variant_type
from tests.support.oracle_tensors import OracleRead, TinyRead, haplotype_spans, support
from tests.tensors.test_builder import NO_ANNOTATIONS, Tiny, needs_data, random_reads, random_records, real, record


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def lower_quartile(values) -> float:
    values = sorted(values)
    return values[math.ceil(len(values) / 4) - 1] if values else math.nan


def longest_repeat(text: str, first: int, last: int, unit: int) -> int:
    """Longest stretch of a repeated unit that touches one of the positions first to last, tried anchor by anchor."""
    longest = 0
    for anchor in range(max(first, 0), min(last, first + 50) + 1):
        matched, right, left = 0, anchor, anchor - 1
        while matched < 50 and right + unit < len(text) and text[right] == text[right + unit]:
            matched, right = matched + 1, right + 1
        while matched < 100 and left >= 0 and text[left] == text[left + unit]:
            matched, left = matched + 1, left - 1
        if unit == 1 or matched >= unit:
            longest = max(longest, matched + unit)
    return longest


class Oracle:
    """The features of a record's alleles, one formula after the other."""

    def __init__(self, bam: str, fasta: str, contig: str, calls: list[int]):
        self.bam, self.calls = pysam.AlignmentFile(bam), calls
        self.text = pysam.FastaFile(fasta).fetch(contig).upper()
        self.cover = np.zeros(len(self.text), int)
        for segment in self.bam.fetch(contig):
            if not segment.flag & 0xF04:
                position = segment.reference_start
                for operation, length in segment.cigartuples:
                    if operation in (0, 2, 7, 8):
                        self.cover[position : position + length] += 1
                    if operation in (0, 2, 3, 7, 8):
                        position += length

    def features(self, rec) -> list[dict[str, float]]:
        contig, text = rec.contig, self.text
        alts = [a.upper() for a in rec.alts if unscorable_reason(rec.ref, a) is None]
        edits = []
        for alt in alts:
            offset, removed, added = trim(rec.ref.upper(), alt)
            edits.append((rec.start + offset, removed, added))
        origin = max(0, rec.start - 300)
        start, end, indels = haplotype_spans(rec, edits, text[origin : rec.end + 300], origin)
        haplotypes = [text[start:end]] + [text[start:q] + a + text[q + len(r) : end] for q, r, a in edits]
        own = range(start, end + indels)
        segments = [
            s
            for s in self.bam.fetch(contig, max(0, rec.start - 1000), rec.end + 1000)
            if not s.flag & 0xF04 and s.cigartuples
        ]
        reads = [OracleRead(s, False) for s in segments]

        bases, indel_events, clips = {}, Counter(), Counter()
        cover, low_cover = Counter(), Counter()
        whole = []
        for read in reads:
            segment = read.segment
            aligned = {p: read.sequence[i] for p, i in read.aligned.items() if read.sequence[i] in "ACGT"}
            aligned = {p: b for p, b in aligned.items() if text[p] in "ACGT"}
            wrong = {p for p, b in aligned.items() if b != text[p]}
            for p, b in aligned.items():
                bases.setdefault(p, Counter())[b] += 1
            for p in read.base_at:
                cover[p] += 1
                low_cover[p] += segment.mapping_quality < 10
            events, position = [], segment.reference_start
            clipped = False
            for operation, length in segment.cigartuples:
                if operation in (1, 2):
                    events.append(position)
                if operation in (4, 5):
                    clipped = True
                    clips[position if position == segment.reference_start else position - 1] += 1
                if operation in (0, 2, 3, 7, 8):
                    position += length
            indel_events.update(events)
            whole.append((len(aligned), wrong, events, clipped))

        here = [
            (read, stats, support(read, start, end, indels, haplotypes))
            for read, stats in zip(reads, whole, strict=True)
            if read.segment.reference_start < rec.end and read.segment.reference_end > rec.start
        ]
        left, right = (start - 1, end) if indels else (start, end - 1)

        shared: dict[str, float] = {}
        depths = {}
        for distance in (150, 1000, 10_000):
            around = depths[distance] = self.cover[max(0, rec.start - distance) : rec.start + distance + 1].mean()
            shared[f"depth_ratio_{distance}"] = math.log1p(cover[rec.start] / around) if around else math.nan
        shared["region_depth_ratio"] = math.log1p(depths[1000] / depths[10_000]) if depths[10_000] else math.nan
        for distance in (50, 150, 500, 1000):
            # one past the contig's last base can hold an insertion
            window = [p for p in range(rec.start - distance, rec.start + distance + 1) if p not in own]
            het = []
            for p in window:
                counts = bases.get(p, Counter())
                depth = sum(counts.values())
                top = max((n for b, n in counts.items() if b != text[p : p + 1]), default=0)
                if depth >= 6 and 0.15 <= top / depth <= 0.85:
                    het.append(top / depth)
            total = sum(sum(bases.get(p, Counter()).values()) for p in window)
            wrong = sum(n for p in window for b, n in bases.get(p, Counter()).items() if b != text[p])
            shared[f"pileup_het_columns_{distance}"] = len(het)
            shared[f"pileup_het_fraction_{distance}"] = mean(het)
            for name, count in (
                ("mismatch_rate", wrong),
                ("indel_rate", sum(indel_events[p] for p in window)),
                ("clip_rate", sum(clips[p] for p in window)),
            ):
                shared[f"pileup_{name}_{distance}"] = count / total if total else math.nan
            covered = sum(cover[p] for p in window)
            low = sum(low_cover[p] for p in window)
            shared[f"pileup_low_mapq_rate_{distance}"] = low / covered if covered else math.nan
        shared["homopolymer"] = longest_repeat(text, start - 1, end, 1)
        shared["tandem_repeat"] = max(longest_repeat(text, start - 1, end, unit) for unit in (2, 3, 4))
        context = text[max(0, rec.start - 32) : rec.start + 33]
        shared["gc_32"] = mean(b in "GC" for b in context)
        shared["distinct_3mers_32"] = len({context[k : k + 3] for k in range(len(context) - 2)}) / 63
        shared["alt_alleles"] = len(rec.alts)
        for distance in (50, 150, 1000):
            shared[f"calls_{distance}"] = math.log1p(sum(abs(c - rec.start) <= distance for c in self.calls) - 1)

        found = []
        for number, (_, removed, added) in enumerate(edits, 1):
            f = dict(shared)
            n = len(here)
            groups = {k: [(r, s) for r, s, shown in here if shown == k] for k in (0, number)}
            others = sum(shown > 0 and shown != number for _, _, shown in here)
            n_ref, n_alt = len(groups[0]), len(groups[number])
            for name, count in (
                ("ref", n_ref),
                ("alt", n_alt),
                ("other_alt", others),
                ("neither", n - n_ref - n_alt - others),
            ):
                f[f"{name}_fraction"] = count / n if n else math.nan
            f["alt_balance"] = n_alt / (n_ref + n_alt) if n_ref + n_alt else math.nan
            forward = {}
            for name, group in (("ref", groups[0]), ("alt", groups[number])):
                strands = [not r.segment.is_reverse for r, _ in group]
                forward[name] = sum(strands)
                mapqs = [r.segment.mapping_quality for r, _ in group]
                known = [min(m, 60) for m in mapqs if m != 255]
                quals, cycles, ends, near, rates = [], [], [], [], []
                for r, (n_aligned, wrong, _, _) in group:
                    a, b = r.aligned[left], r.aligned[right]
                    site_quals = list(r.segment.query_qualities or [0])[a : b + 1] if r.segment.query_qualities else [0]
                    if sum(site_quals):
                        quals.append(mean(site_quals))
                    length = len(r.sequence)
                    cycles.append((length - 1 - a if r.segment.is_reverse else a) / max(length - 1, 1))
                    first, last = min(r.aligned.values()), max(r.aligned.values()) + 1
                    distance = min(a - first, last - 1 - b)
                    ends.append(distance / (last - first))
                    near.append(distance < 5)
                    rates.append(100 * len([p for p in wrong if not start <= p < end]) / max(n_aligned, 1))
                f[f"{name}_forward_fraction"] = mean(strands)
                f[f"{name}_mapq_mean"] = mean(known) / 60
                f[f"{name}_mapq_lower_quartile"] = lower_quartile(known) / 60
                f[f"{name}_mapq0_fraction"] = mean(m == 0 for m in mapqs)
                f[f"{name}_base_quality_mean"] = mean(quals)
                f[f"{name}_base_quality_lower_quartile"] = lower_quartile(int(v + 0.5) for v in quals)
                f[f"{name}_cycle_mean"] = mean(cycles)
                f[f"{name}_end_distance_mean"] = mean(ends)
                f[f"{name}_near_end_fraction"] = mean(near)
                f[f"{name}_mismatch_rate"] = mean(rates)
                f[f"{name}_clipped_fraction"] = mean(clipped for _, (_, _, _, clipped) in group)
                f[f"{name}_other_indel_fraction"] = mean(
                    any(p not in own for p in events) for _, (_, _, events, _) in group
                )
                paired = [r.segment for r, _ in group if r.segment.is_paired]
                f[f"{name}_proper_pair_fraction"] = mean(s.is_proper_pair for s in paired)
                inserts = [abs(r.segment.template_length) for r, _ in group if r.segment.template_length]
                f[f"{name}_insert_log10"] = mean(math.log10(i) for i in inserts)
                distinct = len({r.segment.reference_start for r, _ in group})
                f[f"{name}_distinct_start_fraction"] = distinct / len(group) if group else math.nan
                f1r2 = [(s.is_read1 and s.is_forward) or (not s.is_read1 and s.is_reverse) for s in paired]
                f[f"{name}_f1r2_fraction"] = (sum(f1r2) + 0.5) / (len(f1r2) + 1) if f1r2 else math.nan
            for name in SITE_FEATURES:
                if name.startswith("difference_"):
                    what = name.removeprefix("difference_")
                    f[name] = f[f"alt_{what}"] - f[f"ref_{what}"]
            table = (forward["ref"] + 1, n_ref - forward["ref"] + 1, forward["alt"] + 1, n_alt - forward["alt"] + 1)
            odds = table[0] * table[3] / (table[1] * table[2])
            f["strand_odds_ratio"] = (
                math.log(odds + 1 / odds)
                + math.log(min(table[:2]) / max(table[:2]))
                - math.log(min(table[2:]) / max(table[2:]))
            )
            kind = variant_type(rec.ref, alts[number - 1]).name.lower()
            for name in ("snv", "mnv", "insertion", "deletion", "mixed"):
                f[f"is_{name}"] = float(name == kind)
            f["is_transition"] = float(kind == "snv" and {removed, added} in ({"A", "G"}, {"C", "T"}))
            # as in catalogues of mutational signatures: the complement where REF is a purine
            is_base = kind == "snv" and {removed, added} <= set("ACGT")
            pair = removed + added
            if is_base and removed in "AG":
                pair = pair.translate(str.maketrans("ACGT", "TGCA"))
            for name in ("CA", "CG", "CT", "TA", "TC", "TG"):
                f[f"is_{name[0]}_to_{name[1]}".lower()] = float(is_base and pair == name)
            share = f["alt_f1r2_fraction"]
            f["alt_f1r2_fraction_of_pyrimidine"] = math.nan if not is_base else 1 - share if removed in "AG" else share
            change = len(added) - len(removed)
            f["length_change"] = math.copysign(math.log1p(abs(change)), change) if change else 0.0
            found.append(f)
        return found


def assert_equals_formulas(batch, records, oracle: Oracle) -> None:
    expected = [f for r in records for f in oracle.features(r)]
    assert len(expected) == len(batch)
    assert batch.site_features.dtype == np.float32
    for i, wanted in enumerate(expected):
        assert wanted.keys() == set(SITE_FEATURES)
        for name, value in zip(SITE_FEATURES, batch.site_features[i], strict=True):
            same = (math.isnan(value) and math.isnan(wanted[name])) or value == pytest.approx(
                wanted[name], rel=1e-5, abs=2e-6
            )
            assert same, (batch.keys[i], name, float(value), wanted[name])


def test_the_names_are_distinct_and_their_order_is_the_format():
    assert len(set(SITE_FEATURES)) == len(SITE_FEATURES) == 96
    assert SITE_FEATURES[:9] == (
        "ref_fraction",
        "alt_fraction",
        "other_alt_fraction",
        "neither_fraction",
        "alt_balance",
        "depth_ratio_150",
        "depth_ratio_1000",
        "depth_ratio_10000",
        "region_depth_ratio",
    )


@needs_data
@pytest.mark.parametrize("name", ["HG002", "NA12878"])
def test_real_records_equal_the_formulas(name):
    records, bam, fasta, sample = real(name)
    # indels are rarer and harder: half of the records
    indels = [r for r in records if len(r.ref) != len(r.alts[0])]
    chosen = sorted({r.index for r in indels[::8][:12]} | {r.index for r in records[::30][:12]})
    calls = [r.start for r in records]
    records = [r for r in records if r.index in chosen]
    with ReadSource(bam) as reads:
        batch, _ = build_tensors(
            records, reads, ReferenceSource(fasta), TensorSettings(), NO_ANNOTATIONS, sample, np.array(calls)
        )
    assert_equals_formulas(batch, records, Oracle(bam, fasta, records[0].contig, calls))


@pytest.mark.parametrize("seed", range(3))
def test_random_reads_equal_the_formulas(tmp_path, seed):
    rng = random.Random(seed)
    text = "".join(rng.choice(["A", "C", "G", "T", "CA" * 6, "T" * 9]) for _ in range(200))[:700]
    tiny = Tiny(tmp_path, {"c": text}, random_reads(rng, text, 300))
    records = random_records(rng, text, 40)
    batch, _ = tiny.build(records)
    assert_equals_formulas(batch, records, Oracle(tiny.bam, tiny.fasta, "c", [r.start for r in records]))


def value(batch, name: str, i: int = 0) -> float:
    return float(batch.site_features[i, SITE_FEATURES.index(name)])


@pytest.fixture(scope="module")
def text() -> str:
    return "".join(random.Random(5).choices("ACGT", k=3000))


def pile(text: str, site: int, alt: str, n_ref: int, n_alt: int) -> list[TinyRead]:
    """Reads of 100 bases at all places over the site, REF and ALT alternating strands."""
    reads = []
    for k in range(n_ref + n_alt):
        start = site - 90 + (k * 7) % 80
        sequence = text[start : start + 100]
        if k >= n_ref:
            sequence = sequence[: site - start] + alt + sequence[site - start + 1 :]
        reads.append(TinyRead(start, "100M", sequence, flag=16 * (k % 2)))
    return reads


def paired(reads: list[TinyRead]) -> list[TinyRead]:
    """The same as first and second of pairs, two and two alternately."""
    return [dataclasses.replace(r, flag=r.flag | 0x1 | (0x40, 0x80)[k // 2 % 2]) for k, r in enumerate(reads)]


def test_features_do_not_depend_on_depth(tmp_path, text):
    alt = "A" if text[1500] != "A" else "C"
    rec = record(1500, text[1500], alt)
    once = paired(pile(text, 1500, alt, 8, 7))
    (tmp_path / "once").mkdir()
    (tmp_path / "three_times").mkdir()
    a, _ = Tiny(tmp_path / "once", {"c": text}, once).build([rec])
    b, _ = Tiny(tmp_path / "three_times", {"c": text}, once * 3).build([rec])
    # Those that are to be surer of more reads, or count starts.
    varying = {f"{g}_{n}" for g in ("ref", "alt") for n in ("distinct_start_fraction", "f1r2_fraction")}
    varying |= {"alt_f1r2_fraction_of_pyrimidine"}
    varying.add("strand_odds_ratio")
    assert value(a, "alt_f1r2_fraction") == pytest.approx(value(b, "alt_f1r2_fraction"), abs=0.1)
    for name in SITE_FEATURES:
        if name not in varying:
            assert value(a, name) == pytest.approx(value(b, name), nan_ok=True), name


def test_orientation_is_of_the_fragment_and_certain_where_it_is_often_seen(tmp_path, text):
    alt = "A" if text[1500] != "A" else "C"
    reads = pile(text, 1500, alt, 4, 9)
    # First forward and second reverse are F1R2, the others F2R1; one that is in no pair is neither.
    flags = [99, 147, 83, 163, *[99, 147] * 4, 0]
    batch, _ = Tiny(
        tmp_path, {"c": text}, [dataclasses.replace(read, flag=flag) for read, flag in zip(reads, flags, strict=True)]
    ).build([record(1500, text[1500], alt)])
    assert value(batch, "ref_f1r2_fraction") == pytest.approx(2.5 / 5)
    assert value(batch, "alt_f1r2_fraction") == pytest.approx(8.5 / 9)


def test_all_reads_count_even_where_the_tensor_takes_few(tmp_path, text):
    alt = "A" if text[1500] != "A" else "C"
    tiny = Tiny(tmp_path, {"c": text}, pile(text, 1500, alt, 30, 10))
    few, _ = tiny.build([record(1500, text[1500], alt)], read_limit=5)
    assert len(few.read_bases) == 5
    assert value(few, "alt_fraction") == pytest.approx(0.25)


def test_nobody_supports_the_allele_its_features_are_nan_and_the_rest_is_finite(tmp_path, text):
    alt = "A" if text[1500] != "A" else "C"
    batch, _ = Tiny(tmp_path, {"c": text}, pile(text, 1500, alt, 20, 0)).build([record(1500, text[1500], alt)])
    for name, number in zip(SITE_FEATURES, batch.site_features[0], strict=True):
        undefined = name.startswith(("alt_", "difference_")) and name not in (
            "alt_fraction",
            "alt_balance",
            "alt_alleles",
        )
        unpaired = ("_proper_pair_", "insert_log10", "_f1r2_")
        undefined = undefined or any(part in name for part in unpaired) or "het_fraction" in name
        assert np.isnan(number) == undefined, name
    assert value(batch, "alt_fraction") == 0


def test_a_neighbouring_het_column_is_counted_by_its_distance(tmp_path, text):
    alt = "A" if text[1500] != "A" else "C"
    other = "A" if text[1600] != "A" else "C"
    reads = pile(text, 1500, alt, 10, 10) + pile(text, 1600, other, 6, 6)
    batch, _ = Tiny(tmp_path, {"c": text}, reads).build([record(1500, text[1500], alt)])
    assert [value(batch, f"pileup_het_columns_{d}") for d in (50, 150, 500, 1000)] == [0, 1, 1, 1]
    assert 0.3 < value(batch, "pileup_het_fraction_150") < 0.6
    assert value(batch, "pileup_mismatch_rate_50") == 0


def test_repeats_are_measured_where_they_touch_the_site(tmp_path):
    rng = random.Random(6)
    left, right = ("".join(rng.choices("ACGT", k=400)) for _ in range(2))
    left, right = left[:-1] + "C", "C" + right[1:]
    sequence = left + "T" * 12 + right
    batch, _ = Tiny(tmp_path, {"c": sequence}, []).build(
        [record(399, "CT", "C"), record(411, "T", "G", index=1), record(430, sequence[430], "ACGT", index=2)]
    )
    assert [value(batch, "homopolymer", i) for i in (0, 1)] == [12, 12]
    assert value(batch, "homopolymer", 2) < 12
    assert value(batch, "is_deletion", 0) == 1
    assert value(batch, "length_change", 0) == pytest.approx(-math.log(2))


def test_neighbouring_calls_come_from_the_callset_where_it_is_given(tmp_path, text):
    rec = record(1500, text[1500], "A" if text[1500] != "A" else "C")
    tiny = Tiny(tmp_path, {"c": text}, [])
    calls = np.array([400, 501, 1349, 1350, 1450, 1500, 1500, 1550, 1551, 2500, 2501])
    with ReadSource(tiny.bam) as reads:
        batch, _ = build_tensors(
            [rec], reads, ReferenceSource(tiny.fasta), TensorSettings(), NO_ANNOTATIONS, "tiny", calls
        )
    counts = [math.expm1(value(batch, f"calls_{d}")) for d in (50, 150, 1000)]
    assert counts == pytest.approx([3, 5, 8])
