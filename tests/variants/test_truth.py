"""Labels against vcfeval's (oracle tables), a brute-force enumeration of haplotypes, and cases worked out by hand."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pysam
import pytest

from cnnspark.errors import InputError
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.variants.alleles import REF_MISMATCH, SYMBOLIC
from cnnspark.variants.haplotypes import Allele, SearchLimits, explain, left_normalise, make_allele
from cnnspark.variants.label_tables import labels_from_table, read_label_table
from cnnspark.variants.truth import (
    EXACT,
    HAPLOTYPE,
    NOT_IN_TABLE,
    NOT_IN_TRUTH,
    OUTSIDE,
    TRUTH,
    TRUTH_FOUND,
    UNDECIDED,
    LabelSettings,
    TruthSource,
    label_block,
    require_both_labels,
    true_alleles,
)
from tests.conftest import DATA

#       1        10        20        30        40        50
#       |        |         |         |         |         |
SEQ = "ACGTACCAAAAAAAAGTCTGATGATGATGCCTAGGATCTTACGGCATTCCGATACGATTAGC"
HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=c1>\n##contig=<ID=c2>\n"
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n"
)


def write_vcf(path: Path, variants, gt="0/1", filter_="PASS") -> str:
    lines = [f"{contig}\t{pos}\t.\t{ref}\t{alt}\t50\t{filter_}\t.\tGT\t{gt}" for contig, pos, ref, alt in variants]
    path.write_text(HEADER + "".join(line + "\n" for line in lines))
    return pysam.tabix_index(str(path), preset="vcf", force=True)


def record(pos: int, ref: str, alt: str, contig: str = "c1") -> Record:
    return Record(f"{contig}\t{pos}\t.\t{ref}\t{alt}\t50\t.\t.")


@pytest.fixture
def reference(tmp_path):
    fasta = tmp_path / "ref.fa"
    fasta.write_text(f">c1\n{SEQ}\n>c2\n{SEQ}\n")
    pysam.faidx(str(fasta))
    return ReferenceSource(str(fasta))


@pytest.fixture
def label(tmp_path, reference):
    """Labels of records (pos, ref, alt) of c1 against truth records; ``bed`` is 0-based."""

    def run(query, truth, bed=((0, 62),), region=None, settings=None, **how):
        (tmp_path / "conf.bed").write_text("".join(f"c1\t{start}\t{end}\n" for start, end in bed))
        path = write_vcf(tmp_path / "truth.vcf", [("c1", *variant) for variant in truth], **how)
        with TruthSource(path, str(tmp_path / "conf.bed")) as source:
            records = [record(*variant) for variant in query]
            return label_block(records, region or Region("c1"), source, reference, settings or LabelSettings())

    return run


@pytest.mark.parametrize(
    ("why", "query", "truth", "expected"),
    [
        ("the same SNV", [(10, "A", "G")], [(10, "A", "G")], [[1]]),
        ("another base at the place of a true SNV", [(10, "A", "C")], [(10, "A", "G")], [[0]]),
        ("a homopolymer deletion spelled at the right end", [(14, "AA", "A")], [(7, "CA", "C")], [[1]]),
        ("the same, both right", [(14, "AA", "A")], [(8, "AA", "A")], [[1]]),
        ("a repeat unit spelled two units later", [(25, "TGAT", "T")], [(19, "TGATGAT", "TGAT")], [[1]]),
        ("an insertion spelled without trimming", [(20, "GATG", "GATGATG")], [(19, "T", "TGAT")], [[1]]),
        ("an MNV for two SNVs", [(31, "CTAG", "ATAC")], [(31, "C", "A"), (34, "G", "C")], [[1]]),
        ("two SNVs for an MNV", [(36, "A", "C"), (38, "C", "A")], [(36, "ATC", "CTA")], [[1], [1]]),
        ("one SNV of a true MNV is not the MNV", [(36, "A", "C")], [(36, "ATC", "CTA")], [[0]]),
        ("an MNV with one wrong base", [(36, "ATC", "CTA")], [(36, "A", "C")], [[0]]),
        ("an SNV and an insertion for a complex allele", [(36, "A", "C"), (36, "A", "AT")], [(36, "A", "CT")],
         [[1], [1]]),
        ("a false SNV beside a true deletion", [(7, "CA", "C"), (16, "G", "C")], [(7, "CA", "C")], [[1], [0]]),
        ("a false indel of the same record", [(15, "AG", "A,AGG")], [(15, "AG", "A")], [[1, 0]]),
        ("two false indels that only together make the true one are not one haplotype of a record",
         [(8, "AAA", "A,AAAA")], [(8, "AA", "A")], [[0, 0]]),
        ("a callset without truth nearby", [(10, "A", "G"), (12, "A", "T")], [], [[0], [0]]),
        ("indels that cancel out without truth", [(8, "A", "AA"), (12, "AA", "A")], [], [[0], [0]]),
        ("symbolic, missing and spanning alleles", [(10, "A", "<DEL>,G,*"), (12, "A", ".")], [(10, "A", "G")],
         [[-1, 1, -1], []]),
        ("REF in lower case", [(10, "a", "g")], [(10, "A", "G")], [[1]]),
        ("the contig's first base", [(1, "A", "C")], [(1, "A", "C")], [[1]]),
        ("the contig's last base", [(len(SEQ), "C", "A")], [(len(SEQ), "C", "A")], [[1]]),
    ],
)  # fmt: skip
def test_spellings_by_hand(label, why, query, truth, expected):
    # Only what the reference really has at these places; SEQ is checked by the ruler above it.
    for pos, ref, _ in [*query, *truth]:
        if SEQ[pos - 1 : pos - 1 + len(ref)] != ref.upper():
            pytest.fail(f"{why}: SEQ has {SEQ[pos - 1 : pos - 1 + len(ref)]} at {pos}, not {ref}")
    labels, _ = label(query, truth)
    assert labels == expected, why


def test_counts_by_reason_add_up_to_the_alleles(label):
    query = [
        (10, "A", "G,C"),
        (12, "A", "<DEL>"),
        (14, "AA", "A"),
        (31, "CTAG", "ATAC"),
        (50, "T", "C"),  # the reference has C here
        (60, "A", "C"),
    ]
    truth = [(7, "CA", "C"), (10, "A", "G"), (31, "C", "A"), (34, "G", "C"), (40, "T", "G"), (60, "A", "C")]
    labels, counts = label(query, truth, bed=[(0, 55)])
    assert labels == [[1, 0], [-1], [1], [1], [-1], [-1]]
    assert counts == {
        EXACT: 2,
        NOT_IN_TRUTH: 1,
        SYMBOLIC: 1,
        HAPLOTYPE: 1,
        OUTSIDE: 1,
        REF_MISMATCH: 1,
        TRUTH: 5,
        TRUTH_FOUND: 4,
    }


@pytest.mark.parametrize(
    ("bed", "pos", "ref", "alt", "expected"),
    [
        ([(9, 10)], 10, "A", "G", 0),
        ([(10, 20)], 10, "A", "G", -1),
        ([(0, 9)], 10, "A", "G", -1),
        # The anchor base does not count, the deleted bases do: 36-37 (0-based) here.
        ([(36, 38)], 36, "ATC", "A", 0),
        ([(36, 37)], 36, "ATC", "A", -1),
        # A deletion is where its leftmost spelling is: the A-homopolymer begins at 7 (0-based).
        ([(0, 8)], 14, "AA", "A", 0),
        ([(10, 20)], 14, "AA", "A", -1),
        # An insertion is before a base, and belongs to it.
        ([(36, 37)], 36, "A", "AC", 0),
        ([(30, 36)], 36, "A", "AC", -1),
        # Padding that REF and ALT share does not count.
        ([(35, 36)], 34, "GGATC", "GGTTC", 0),
    ],
)
def test_an_allele_is_known_if_the_bases_that_it_changes_are_inside_the_confident_regions(
    label, bed, pos, ref, alt, expected
):
    labels, _ = label([(pos, ref, alt)], [], bed=bed)
    assert labels == [[expected]]


def test_truth_just_outside_the_confident_regions_still_explains_an_allele(label):
    # The MNV of the truth reaches over the end of the regions; its inner half is judged, the outer is unknown.
    labels, counts = label([(36, "A", "C"), (38, "C", "A")], [(36, "ATC", "CTA")], bed=[(0, 37)])
    assert labels == [[1], [-1]]
    assert counts[TRUTH] == 0


@pytest.mark.parametrize(
    ("gt", "alts"), [("0/1", [0]), ("2|1", [0, 1]), ("1/1", [0]), ("0/0", []), ("./.", []), (".|2", [1]), ("2", [1])]
)
def test_true_alleles_are_those_of_the_genotype(gt, alts):
    assert true_alleles(Record(f"c\t1\t.\tA\tC,G\t.\t.\t.\tDP:GT\t9:{gt}")) == alts


def test_all_alleles_of_a_truth_without_genotypes_are_true_and_filtered_ones_are_not():
    assert true_alleles(Record("c\t1\t.\tA\tC,G\t.\t.\t.")) == [0, 1]
    assert true_alleles(Record("c\t1\t.\tA\tC,G\t.\t.\t.\tDP\t3")) == [0, 1]
    filtered = Record("c\t1\t.\tA\tC\t.\tLowQ\t.\tGT\t1/1")
    assert true_alleles(filtered) == []
    assert true_alleles(filtered, filtered=True) == [0]


def test_zygosity_of_the_callset_plays_no_part(label):
    for gt in ("0/1", "1|1", "1"):
        assert label([(10, "A", "G")], [(10, "A", "G")], gt=gt)[0] == [[1]]
    assert label([(10, "A", "G")], [(10, "A", "G")], gt="0/0")[0] == [[0]]


def test_a_search_that_is_cut_off_makes_unknown_labels_not_false_ones(label):
    query = [(pos, "A", "AC") for pos in range(8, 16)]
    truth = [(9, "AAA", "ACACAC")]
    assert label(query, truth)[0] == [[0], [1], [1], [1], [0], [0], [0], [0]]
    labels, counts = label(query, truth, settings=LabelSettings(SearchLimits(max_states=5)))
    assert labels[1:4] == [[-1]] * 3
    assert counts[UNDECIDED] >= 3 and counts[HAPLOTYPE] == 0


@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 16, 33])
def test_labels_do_not_depend_on_how_the_contig_is_cut(label, pieces):
    query = [(8, "AAA", "A,AAAA"), (10, "A", "G"), (14, "AA", "A"), (16, "G", "T"), (31, "CTAG", "ATAC"),
             (36, "A", "C"), (36, "A", "AT"), (38, "C", "A")]  # fmt: skip
    truth = [(7, "CA", "C"), (16, "G", "T"), (31, "C", "A"), (34, "G", "C"), (36, "A", "CT"), (38, "C", "A")]
    whole, whole_counts = label(query, truth)
    assert 0 < sum(map(sum, whole)) < sum(map(len, whole))
    cuts = [len(SEQ) * i // pieces for i in range(pieces + 1)]
    parts, counts = [], Counter()
    for start, end in itertools.pairwise(cuts):
        labels, some = label(query, truth, region=Region("c1", start, end))
        parts += labels
        counts += some
    assert parts == whole and counts == whole_counts


@pytest.mark.parametrize("reach", [4, 16])
def test_labels_need_no_neighbours_beyond_the_margin(tmp_path, reference, reach):
    """A random callset, each record judged with just its margin, against all of it at once."""
    rng = random.Random(reach)
    variants = _random_variants(rng, 60)
    path = write_vcf(tmp_path / "t.vcf", sorted({("c1", *v) for v in _random_variants(rng, 40)}, key=lambda v: v[1]))
    (tmp_path / "b.bed").write_text(f"c1 0 {len(SEQ)}\n")
    settings = LabelSettings(SearchLimits(reach_bases=reach))
    records = [record(*v) for v in variants]
    with TruthSource(path, str(tmp_path / "b.bed")) as truth:
        whole, _ = label_block(records, Region("c1"), truth, reference, settings)
        parts = []
        for start in range(len(SEQ)):
            region = Region("c1", start, start + 1)
            near = [r for r in records if region.padded(settings.margin_bases).owns(r.start)]
            parts += label_block(near, region, truth, reference, settings)[0]
    assert parts == whole
    assert {label for row in whole for label in row} >= {0, 1}


def _random_variants(rng: random.Random, n: int, letters: str = SEQ) -> list[tuple[int, str, str]]:
    variants = set()
    while len(variants) < n:
        at, length = rng.randrange(len(letters)), rng.choice([1, 1, 1, 2, 3])
        ref = letters[at : at + length]
        alt = ref[0] + "".join(rng.choice("AC") for _ in range(rng.choice([0, 0, 1, 2])))
        if rng.random() < 0.4:
            alt = rng.choice("ACGT") + ref[1:]
        if alt != ref:
            variants.add((at + 1, ref, alt))
    return sorted(variants)


def explained_by_enumeration(letters: str, query: list[Allele], truth: list[Allele]) -> tuple[set[int], set[int]]:
    """Tries all choices of alleles of both sides: the definition in :func:`explain`, slow and obvious."""

    def haplotypes(alleles):
        """Of each consistent choice: (the choice, its haplotype, {(reference position, haplotype length)})."""
        order = sorted(range(len(alleles)), key=lambda i: (alleles[i].start, alleles[i].end))
        for size in range(len(order) + 1):
            for choice in itertools.combinations(order, size):
                chosen = [alleles[i] for i in choice]
                pairs = list(itertools.pairwise(chosen))
                if any(
                    b.start < a.end
                    or a.record == b.record
                    or (a.end == b.start and a.changes_length and b.changes_length)
                    for a, b in pairs
                ):
                    continue
                text, pos, points = "", 0, {}
                points[(0, 0)] = 0  # point -> alleles used before it
                for used, allele in enumerate(chosen):
                    while pos < allele.start:
                        text, pos = text + letters[pos], pos + 1
                        points[(pos, len(text))] = used
                    text, pos = text + allele.alt, allele.end
                    points[(pos, len(text))] = used + 1
                while pos < len(letters):
                    text, pos = text + letters[pos], pos + 1
                    points[(pos, len(text))] = len(chosen)
                yield choice, text, points

    by_text = {}
    for choice, text, points in haplotypes(truth):
        by_text.setdefault(text, []).append((choice, points))
    explained, found = set(), set()
    for choice, text, points in haplotypes(query):
        for other_choice, other_points in by_text.get(text, ()):
            both = sorted(set(points) & set(other_points))
            for left, right in itertools.pairwise(both):
                mine = choice[points[left] : points[right]]
                theirs = other_choice[other_points[left] : other_points[right]]
                if mine and theirs:
                    explained.update(mine)
                    found.update(theirs)
    return explained, found


@pytest.mark.parametrize("seed", range(150))
def test_explanations_are_those_that_enumeration_finds(seed):
    rng = random.Random(seed)
    letters = "".join(rng.choice("AAC") for _ in range(10))
    sides = [
        [make_allele(pos - 1, ref, alt, n) for n, (pos, ref, alt) in enumerate(_random_variants(rng, 7, letters))]
        for _ in range(2)
    ]
    found = explain(*sides, lambda start, end: letters[max(0, start) : end], SearchLimits())
    assert (found.query, found.truth) == explained_by_enumeration(letters, *sides)
    assert not found.undecided


@pytest.mark.parametrize("seed", range(40))
def test_left_normalisation_goes_as_far_left_as_the_haplotype_stays_the_same(seed):
    rng = random.Random(seed)
    letters = "".join(rng.choice("AAC") for _ in range(30))
    at, length = rng.randrange(5, 25), rng.randrange(1, 5)
    ref, alt = (letters[at : at + length], "") if seed % 2 else ("", "".join(rng.choice("AC") for _ in range(length)))
    allele = Allele(at, ref, alt, at, at + len(ref), 0)
    start, new_ref, new_alt = left_normalise(allele, lambda start, end: letters[max(0, start) : end])

    def haplotype(start, ref, alt):
        assert letters[start : start + len(ref)] == ref
        return letters[:start] + alt + letters[start + len(ref) :]

    target = haplotype(at, ref, alt)
    assert haplotype(start, new_ref, new_alt) == target
    size = len(ref) or len(alt)
    others = [
        s for s in range(31 - len(ref))
        if (letters[:s] + letters[s + size :] if ref else letters[:s] + target[s : s + size] + letters[s:]) == target
    ]  # fmt: skip
    assert start == min(others)


ORACLES = [
    ("sim/DEV.freebayes", "sim/DEV.truth.vcf.gz", "sim/DEV.conf.bed", "sim/ref.fa.gz", 15955),
    ("sim/DEV.bcftools", "sim/DEV.truth.vcf.gz", "sim/DEV.conf.bed", "sim/ref.fa.gz", 8998),
    *(
        (f"real/NA12878/NA12878.{caller}", "real/NA12878/NA12878.truth.vcf.gz",
         "real/NA12878/NA12878.confident.proxy.bed", "real/NA12878/ref.hg19.chr20.fa.gz", n)
        for caller, n in (("freebayes", 463), ("bcftools", 286))
    ),
]  # fmt: skip


@pytest.mark.skipif(not DATA.is_dir(), reason="no CNNSPARK_DATA")
@pytest.mark.parametrize(("stem", "truth_path", "bed", "fasta", "n"), ORACLES)
def test_labels_agree_with_vcfeval(stem, truth_path, bed, fasta, n):
    """Oracle: the data folder's tables, made by repeated runs of vcfeval. Cut into blocks of 100 kb, as a run would."""
    table = read_label_table(str(DATA / f"{stem}.labels.tsv"))
    reference, callset = ReferenceSource(str(DATA / fasta)), VcfSource(str(DATA / f"{stem}.vcf.gz"))
    margin = LabelSettings().margin_bases
    counts: Counter = Counter()
    pairs: Counter = Counter()
    with TruthSource(str(DATA / truth_path), str(DATA / bed)) as truth:
        for contig in callset.contigs:
            last = max(r.start for r in callset.records(Region(contig)))
            for start in range(0, last + 1, 100_000):
                region = Region(contig, start, start + 100_000)
                near = list(callset.records(region.padded(margin)))
                labels, some = label_block(near, region, truth, reference)
                counts += some
                expected, _ = labels_from_table([r for r in near if region.owns(r.start)], table)
                pairs.update(zip(itertools.chain(*labels), itertools.chain(*expected), strict=True))
    assert sum(pairs.values()) == n
    assert {pair: c for pair, c in pairs.items() if pair[0] != pair[1]} == {}
    assert counts[TRUTH_FOUND] > 0.98 * counts[TRUTH]


def test_a_table_of_labels_is_looked_up_by_the_callset_s_own_spelling(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text(
        "chrom\tpos\tref\talt\ttype\tlabel\nc1\t10\tA\tG\tSNP\tTP\nc1\t10\tA\tC\tSNP\tFP\nc1\t11\tA\tC\tSNP\tOUT\n"
    )
    table = read_label_table(str(path))
    assert table == {("c1", 9, "A", "G"): 1, ("c1", 9, "A", "C"): 0, ("c1", 10, "A", "C"): -1}
    labels, counts = labels_from_table([record(10, "A", "C,G,*"), record(11, "A", "C,T")], table)
    assert labels == [[0, 1, -1], [-1, -1]]
    assert counts == {EXACT: 1, NOT_IN_TRUTH: 1, "*": 1, OUTSIDE: 1, NOT_IN_TABLE: 1}


def test_an_allele_with_two_lines_is_true_if_one_says_so(tmp_path):
    path = tmp_path / "labels.tsv"
    rows = [("5", "FP"), ("5", "TP"), ("6", "TP"), ("6", "FP"), ("7", "FP"), ("7", "OUT")]
    path.write_text("chrom\tpos\tref\talt\tlabel\n" + "".join(f"c\t{pos}\tA\tC\t{name}\n" for pos, name in rows))
    assert [read_label_table(str(path))["c", start, "A", "C"] for start in (4, 5, 6)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 lacks the column chrom"),
        ("chrom\tpos\tref\talt\n", "line 1 lacks the column label"),
        ("chrom\tpos\tref\talt\tlabel\nc\t1\tA\tG\tTP\nc\tone\tA\tG\tTP\n", "line 3 "),
        ("chrom\tpos\tref\talt\tlabel\nc\t1\tA\n", "line 2 "),
        ("chrom\tpos\tref\talt\tlabel\nc\t1\tA\tG\tMAYBE\n", "line 2 "),
    ],
)
def test_a_broken_table_is_refused_by_line(tmp_path, text, message):
    path = tmp_path / "labels.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_label_table(str(path))


def test_missing_inputs_are_named_with_a_remedy(tmp_path):
    (tmp_path / "conf.bed").write_text("c1\t0\t10\n")
    (tmp_path / "empty.bed").write_text("# nothing\n")
    path = write_vcf(tmp_path / "t.vcf", [("c1", 10, "A", "G")])
    with pytest.raises(InputError, match=r"no.vcf.gz .*tabix"):
        TruthSource(str(tmp_path / "no.vcf.gz"), str(tmp_path / "conf.bed"))
    with pytest.raises(InputError, match=r"no.bed cannot be read"):
        TruthSource(path, str(tmp_path / "no.bed"))
    with pytest.raises(InputError, match=r"empty.bed has no interval"):
        TruthSource(path, str(tmp_path / "empty.bed"))
    with pytest.raises(InputError, match=r"no.tsv cannot be read"):
        read_label_table(str(tmp_path / "no.tsv"))
    Path(path + ".tbi").unlink()
    with pytest.raises(InputError, match="tabix"):
        TruthSource(path, str(tmp_path / "conf.bed"))


def test_a_callset_without_true_or_without_false_alleles_is_an_error():
    require_both_labels({EXACT: 1, NOT_IN_TRUTH: 1}, "x.vcf.gz")
    for counts, lacking in (
        ({}, "labelled"),
        ({OUTSIDE: 9}, "labelled"),
        ({HAPLOTYPE: 3}, "false"),
        ({NOT_IN_TRUTH: 3}, "true"),
    ):
        with pytest.raises(InputError, match=f"x.vcf.gz has no {lacking} allele"):
            require_both_labels(counts, "x.vcf.gz")


def test_labels_need_neither_spark_nor_tensorflow():
    code = "import sys, cnnspark.variants.truth; sys.exit(bool({'pyspark', 'tensorflow', 'keras'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
