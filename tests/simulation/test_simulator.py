"""The simulated sample against what was asked for: the same bytes again, a truth that the reads show, valid files."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pysam
import pytest
from sklearn.metrics import average_precision_score

from cnnspark.cli import main
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import read_bed
from cnnspark.simulation import SimulatedFiles, simulate
from cnnspark.simulation.settings import Mechanisms, SimulationSettings
from tests.conftest import rows_of

LENGTH, COVERAGE, READ_LENGTH = 120_000, 25.0, 150


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
        *(
            "reference.fa",
            "reference.fa.fai",
            "reads.bam",
            "reads.bam.bai",
            "confident.bed",
            "labels.tsv",
            "causes.tsv",
        ),
        *("truth.vcf.gz", "truth.vcf.gz.tbi", "callset.vcf.gz", "callset.vcf.gz.tbi"),
    }
    assert all(made["first"][name] != made["other"][name] for name in ("reference.fa", "reads.bam", "callset.vcf.gz"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length": 5_000}, "too small"),
        ({"coverage": 0}, "coverage"),
        ({"read_length": 151}, "choose one of 100, 150, 250"),
        ({"profile": "nova"}, "hiseq, novaseq"),
        ({"fragment_mean": 20.0}, "fragments"),
        ({"variants": -1.0}, "variants"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        simulate(tmp_path, **change)


def test_mechanisms_are_named_with_their_shares() -> None:
    assert Mechanisms().changed(["all=0", "stutter=2.5"]) == Mechanisms.only(stutter=2.5)
    for text, said in (("paralog=1", "known are all, paralogs"), ("stutter", "NAME=SHARE"), ("stutter=-1", "from 0")):
        with pytest.raises(UsageError, match=said):
            Mechanisms().changed([text])


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


def test_records_are_as_htslib_would_write_them(files: SimulatedFiles) -> None:
    with pysam.AlignmentFile(str(files.reads)) as bam:
        for number, read in enumerate(bam):
            if number % 40 == 0 or read.is_unmapped:
                again = pysam.AlignedSegment.fromstring(read.to_string(), bam.header)
                assert (again.bin, again.to_string()) == (read.bin, read.to_string())


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
    with pysam.AlignmentFile(str(files.reads)) as bam:
        depth = {name: np.sum(bam.count_coverage(name, quality_threshold=0), axis=0) for name in bam.references}
    of_cause: dict[str, list[int]] = {"true": [], "paralogs": []}
    for row in rows_of(files.causes):
        if row["cause"] in of_cause:
            of_cause[row["cause"]].append(depth[row["chrom"]][int(row["pos"]) - 1])
    # One copy more than two haplotypes, or two.
    assert 1.25 < np.mean(of_cause["paralogs"]) / np.mean(of_cause["true"]) < 2.2
    assert 0.85 * COVERAGE < np.median(np.concatenate(list(depth.values()))) < 1.15 * COVERAGE


def test_labels_are_those_that_the_truth_gives(files: SimulatedFiles) -> None:
    """Against the plain comparison of positions and letters: it may miss another spelling, not find more."""
    truth = set(true_alleles(files))
    rows = rows_of(files.causes)
    assert [row["label"] for row in rows] == [row["label"] for row in rows_of(files.labels)]
    with pysam.VariantFile(str(files.callset)) as calls:
        assert [(r.chrom, str(r.pos), r.ref, r.alts[0]) for r in calls] == [
            (row["chrom"], row["pos"], row["ref"], row["alt"]) for row in rows
        ]
    for row in rows:
        exact = (row["chrom"], int(row["pos"]) - 1, row["ref"], row["alt"]) in truth
        assert row["label"] in (("TP", "OUT") if exact else ("TP", "FP", "OUT"))
        assert (row["cause"] == "true") == (row["label"] == "TP") or row["label"] == "OUT"
    spelled = [row for row in rows if row["label"] == "TP"]
    exact_ones = [r for r in spelled if (r["chrom"], int(r["pos"]) - 1, r["ref"], r["alt"]) in truth]
    assert len(exact_ones) > 0.95 * len(spelled) > 100


def test_a_true_alleles_kind_is_its_genotype(files: SimulatedFiles) -> None:
    genotypes = {}
    with pysam.VariantFile(str(files.truth)) as truth:
        for record in truth:
            genotypes[record.contig, str(record.pos), record.ref, record.alts[0]] = sum(record.samples[0]["GT"])
    compared = 0
    for row in rows_of(files.causes):
        key = row["chrom"], row["pos"], row["ref"], row["alt"]
        if row["cause"] == "true" and key in genotypes:
            assert row["kind"] == ("het", "hom")[genotypes[key] - 1], row
            compared += 1
    assert compared > 100


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
    assert 0.5 < 1 - np.mean(true) < 0.75
    assert 0.5 < average_precision_score(true, quality) < 0.93


@pytest.mark.skipif(shutil.which("samtools") is None, reason="needs samtools")
def test_samtools_finds_the_bam_whole(files: SimulatedFiles) -> None:
    subprocess.run(["samtools", "quickcheck", "-v", str(files.reads)], check=True)
    counted = subprocess.run(["samtools", "view", "-c", str(files.reads)], capture_output=True, text=True, check=True)
    assert int(counted.stdout) == pytest.approx(LENGTH * 1.07 * COVERAGE / READ_LENGTH, rel=0.15)
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


@pytest.mark.parametrize("changes", [{"read_length": 100}, {"read_length": 250, "fragment_mean": 500.0}])
def test_reads_have_the_length_and_qualities_that_are_asked_for(tmp_path: Path, changes: dict) -> None:
    files = simulate(tmp_path, seed=3, length=20_000, coverage=10, profile="novaseq", **changes)
    qualities: set[int] = set()
    templates = []
    with pysam.AlignmentFile(str(files.reads)) as bam:
        for read in bam:
            assert read.query_length == changes["read_length"]
            qualities.update(read.query_qualities)
            if read.is_proper_pair and read.template_length > 0:
                templates.append(read.template_length)
    assert qualities == {2, 12, 23, 37}
    assert np.median(templates) == pytest.approx(changes.get("fragment_mean", 400.0), rel=0.05)


def made_reference(folder: Path) -> str:
    """Two contigs in lower and upper case with a telomere, a gap, single unknown bases and a short contig."""
    rng = np.random.default_rng(5)
    letters = np.array(list("acgtACGT"))
    first = "N" * 3_000 + "".join(rng.choice(letters, 15_000)) + "n" * 700 + "".join(rng.choice(letters, 12_000))
    first = first[:9_000] + "R" + first[9_001:10_000] + "NNN" + first[10_003:]
    path = folder / "real.fa"
    path.write_text(f">one\n{first}\n>short\n{'ACGT' * 100}\n>two\n{''.join(rng.choice(letters, 9_000))}\n")
    pysam.faidx(str(path))
    return str(path)


def test_a_given_reference_keeps_its_coordinates_and_its_gaps_stay_empty(tmp_path: Path) -> None:
    reference = made_reference(tmp_path)
    files = simulate(tmp_path / "s", reference=reference, coverage=15, seed=2)
    assert str(files.reference) == reference
    source = ReferenceSource(reference)
    with pysam.VariantFile(str(files.callset)) as calls:
        records = list(calls)
        assert list(calls.header.contigs) == ["one", "short", "two"]
    assert {record.contig for record in records} == {"one", "two"}
    for record in records:
        assert record.ref == source.sequence(record.contig, record.start, record.stop)
    with pysam.AlignmentFile(str(files.reads)) as bam:
        depth = np.sum(bam.count_coverage("one", quality_threshold=0), axis=0)
        assert bam.count("short") == 0
    assert depth[:3_000].max() == 0 and depth[18_000:18_700].max() == 0
    assert depth[9_000] == 0 and depth[10_000:10_003].max() == 0
    assert np.median(depth[4_000:8_000]) > 8 and np.median(depth[20_000:28_000]) > 8
    for region in read_bed(str(files.confident)):
        assert region.contig != "one" or region.start >= 3_000
        assert not (region.contig == "one" and region.start < 18_700 and region.end > 18_000)


def test_regions_are_simulated_alone_and_a_region_of_nothing_is_refused(tmp_path: Path) -> None:
    reference = made_reference(tmp_path)
    chosen = ["two", "one:19001-26000"]
    files = simulate(tmp_path / "s", reference=reference, regions=chosen, coverage=15)
    with pysam.AlignmentFile(str(files.reads)) as bam:
        places = [(read.reference_name, read.reference_start) for read in bam]
    assert places == sorted(places)
    assert all(19_000 <= at < 26_000 for name, at in places if name == "one")
    with pytest.raises(InputError, match="no sequence"):
        simulate(tmp_path / "n", reference=reference, regions=["one:1-3000"])
    with pytest.raises(InputError, match="no contig 'three'"):
        simulate(tmp_path / "n", reference=reference, regions=["three"])


def test_pieces_of_a_contig_are_simulated_one_by_one(
    files: SimulatedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pieces than one, and fewer fragments at once: a sorted BAM without loss all the same."""
    monkeypatch.setattr("cnnspark.simulation.genome.PIECE_BASES", 30_000)
    monkeypatch.setattr("cnnspark.simulation.simulator._FRAGMENTS_AT_ONCE", 500)
    cut = simulate(tmp_path, seed=2, length=LENGTH, coverage=COVERAGE)
    assert digests(tmp_path)["reference.fa"] == digests(files.reference.parent)["reference.fa"]
    with pysam.AlignmentFile(str(cut.reads)) as bam, pysam.AlignmentFile(str(files.reads)) as whole:
        places = [(read.reference_id, read.reference_start) for read in bam]
        assert places == sorted(places)
        assert len(places) == pytest.approx(whole.count(until_eof=True), rel=0.06)
    names = [(row["chrom"], row["pos"]) for row in rows_of(cut.causes)]
    assert len(names) > 400


def test_settings_come_from_the_configuration(tmp_path: Path) -> None:
    made = {}
    for name, settings in (
        ("same", SimulationSettings(seed=7, length=120_000, coverage=8)),
        ("more", SimulationSettings(seed=7, length=120_000, coverage=8, variants=3.0)),
    ):
        files = simulate(tmp_path / name, settings)
        made[name] = len(true_alleles(files))
    assert 1.8 * made["same"] < made["more"] < 4.5 * made["same"]


def test_the_command_takes_reference_regions_and_mechanisms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = made_reference(tmp_path)
    arguments = ["simulate", "--out", str(tmp_path / "s"), "--reference", reference, "--region", "two", "--json"]
    arguments += ["--mechanisms", "all=0", "--mechanisms", "motifs=9", "--coverage", "20", "--read-length", "100"]
    assert main([*arguments, "--set", "simulate.profile=novaseq", "--set", "candidates.min_reads=3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["reference"] == reference
    rows = rows_of(result["causes"])
    assert {row["chrom"] for row in rows} == {"two"}
    assert result["alleles"]["motifs"] == sum(row["cause"] == "motifs" for row in rows) > 0
    assert all(int(row["reads"]) >= 3 for row in rows)
    assert main([*arguments, "--mechanisms", "motif=1"]) == 2
    assert "known are all, paralogs" in capsys.readouterr().err
