"""A small made-up data set with everything a run needs: reference, reads, callset, truth and confident regions.

It is for trying cnnspark out and for its tests: made by one simulator, it says nothing about accuracy on real data.
What makes callsets hard is there: collapsed paralogs (their reads pile up on the copy that the reference has),
systematic errors by strand, cycle and context, homopolymer stutter, indels that are not opened near read ends,
duplicates and doubtful mapping. Needs no external program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysam

from cnnspark.candidates import CandidateSettings, candidate_header, candidate_lines
from cnnspark.errors import UsageError
from cnnspark.reads import ReadSource
from cnnspark.reference import ReferenceSource
from cnnspark.regions import Region, merge_regions
from cnnspark.simulation.alignment import align
from cnnspark.simulation.bam import PairedReads, make_header, make_records, write_bam
from cnnspark.simulation.genome import END_MARGIN, Contig, decode_bases, make_contig
from cnnspark.simulation.sample import Molecule, Variant, draw_variants, make_haplotypes, make_paralogs, truth_lines
from cnnspark.simulation.sequencing import READ_LENGTH, draw_error_sites, draw_fragments, join_molecules, sequence_side

# The second contig lets a model be trained on one and tested on the other.
CONTIG_SHARES = {"chrA": 0.7, "chrB": 0.3}
MIN_LENGTH = 20_000
# Bounds memory: some 30 MB of arrays at once.
_FRAGMENTS_AT_ONCE = 10_000
_FASTA_LINE = 60


@dataclass(frozen=True)
class SimulatedFiles:
    """The files of one simulation; indexes stand beside them (``.fai``, ``.bai``, ``.tbi``)."""

    reference: Path
    reads: Path
    callset: Path
    truth: Path
    confident: Path
    sample: str


def simulate(
    out: Path, seed: int = 1, length: int = 400_000, coverage: float = 30.0, sample: str = "SIM1"
) -> SimulatedFiles:
    """Writes a simulated diploid sample into the folder ``out`` (made if missing; files of the same names go).

    ``length`` is the genome's size in bases over both contigs, ``coverage`` the mean depth of its unique part. The
    same arguments give the same bytes. Raises UsageError where the genome would be too small or the depth is none.
    """
    if length < MIN_LENGTH:
        raise UsageError(f"a simulated genome of {length} bases is too small; give at least {MIN_LENGTH}")
    if not 1 <= coverage <= 1_000:
        raise UsageError(f"a simulated coverage of {coverage} cannot be; give a number from 1 to 1000")
    out.mkdir(parents=True, exist_ok=True)
    files = SimulatedFiles(
        reference=out / "reference.fa",
        reads=out / "reads.bam",
        callset=out / "callset.vcf.gz",
        truth=out / "truth.vcf.gz",
        confident=out / "confident.bed",
        sample=sample,
    )
    # One generator a step: a change in one leaves the others' draws alone.
    genome_rng, variant_rng, paralog_rng, error_rng, read_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)
    )
    contigs = [make_contig(name, int(length * share), genome_rng) for name, share in CONTIG_SHARES.items()]
    variants = [draw_variants(contig, variant_rng) for contig in contigs]
    _write_reference(files.reference, contigs)
    _write_vcf(files.truth, truth_lines(contigs, variants, sample))
    _write_confident_regions(files.confident, contigs, genome_rng)
    molecules = _molecules(contigs, variants, paralog_rng)
    _write_reads(files.reads, contigs, molecules, coverage, sample, error_rng, read_rng)
    _write_callset(files)
    return files


def _molecules(
    contigs: Sequence[Contig], variants: Sequence[Sequence[Variant]], rng: np.random.Generator
) -> list[Molecule]:
    molecules: list[Molecule] = []
    for number, (contig, own) in enumerate(zip(contigs, variants, strict=True)):
        molecules += make_haplotypes(number, contig, own)
        molecules += make_paralogs(number, contig, own, rng)
    return molecules


def _write_reads(
    path: Path,
    contigs: Sequence[Contig],
    molecules: Sequence[Molecule],
    coverage: float,
    sample: str,
    error_rng: np.random.Generator,
    rng: np.random.Generator,
) -> None:
    """Sequences the molecules, aligns their reads and writes the BAM."""
    offsets = np.cumsum([0, *(contig.length for contig in contigs)])
    reference = np.concatenate([contig.codes for contig in contigs])
    sites = draw_error_sites(contigs, error_rng)
    joined = join_molecules(molecules, offsets, sites)
    fragments = draw_fragments(molecules, joined, coverage, rng)
    doubt = _mapping_doubt(contigs, rng)
    header = make_header(contigs, sample)
    records = []
    for begin in range(0, len(fragments.start), _FRAGMENTS_AT_ONCE):
        part = slice(begin, begin + _FRAGMENTS_AT_ONCE)
        left, right = (sequence_side(joined, sites, fragments, part, bool(side), rng) for side in (0, 1))
        alignments = (align(left, reference), align(right, reference))
        pairs = PairedReads(
            names=[f"sim{i:07d}" for i in range(begin, begin + len(left.bases))],
            raw=(left, right),
            alignments=alignments,
            mapqs=_mapping_qualities(np.stack([a.start for a in alignments]), doubt, rng),
            read1_left=fragments.read1_left[part],
            is_duplicate=fragments.is_duplicate[part],
        )
        records += make_records(pairs, offsets, header)
    write_bam(path, records, header)


def _mapping_doubt(contigs: Sequence[Contig], rng: np.random.Generator) -> np.ndarray:
    """Share of the fragments with a low mapping quality by position: float64 (joined length,)."""
    shares = []
    for contig in contigs:
        share = np.full(contig.length, 0.004)
        for segment in contig.collapsed:
            # Some segments have further copies that the reference knows, so mapping is in doubt; others don't.
            share[segment.start : segment.end] = rng.choice([0.02, 0.15, 0.5], p=[0.5, 0.25, 0.25])
        for stretch in contig.low_complexity:
            # A read that lies mostly in one: by its middle.
            share[stretch.start : stretch.end] = rng.uniform(0.2, 0.8)
        # A few unique-looking regions where mapping is in doubt although every call may be right.
        for _ in range(contig.length // 60_000):
            start = int(rng.integers(0, contig.length))
            share[start : start + int(rng.integers(500, 2_500))] = rng.uniform(0.1, 0.5)
        shares.append(share)
    return np.concatenate(shares)


def _mapping_qualities(starts: np.ndarray, doubt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mapping qualities, uint8 (2, n), of reads that start at ``starts``: 60, or a mixture of 0 and 1-59 in doubt.

    Both reads of a pair share their doubt, as the aligner pairs them.
    """
    middle = np.clip(starts + READ_LENGTH // 2, 0, len(doubt) - 1)
    low = rng.random(starts.shape[1]) < doubt[middle].max(axis=0)
    zero = rng.random(starts.shape[1]) < 0.4
    some = rng.integers(1, 60, starts.shape)
    return np.where(low, np.where(zero, 0, some), 60).astype(np.uint8)


def _write_reference(path: Path, contigs: Sequence[Contig]) -> None:
    with open(path, "w", encoding="ascii", newline="\n") as out:
        for contig in contigs:
            letters = decode_bases(contig.codes)
            out.write(f">{contig.name}\n")
            out.writelines(letters[at : at + _FASTA_LINE] + "\n" for at in range(0, len(letters), _FASTA_LINE))
    pysam.faidx(str(path))


def _write_vcf(path: Path, lines: Sequence[str]) -> None:
    """Compresses (BGZF) and indexes."""
    with pysam.BGZFile(str(path), "wb", None) as out:
        out.write(("\n".join(lines) + "\n").encode("ascii"))
    pysam.tabix_index(str(path), preset="vcf", force=True)


def _write_confident_regions(path: Path, contigs: Sequence[Contig], rng: np.random.Generator) -> None:
    """The contigs without their ends, the worst low-complexity stretches and a few kilobases at random."""
    with open(path, "w", encoding="ascii", newline="\n") as out:
        for contig in contigs:
            margin = min(3 * END_MARGIN, contig.length // 10)
            excluded = [s.padded(20) for s in contig.low_complexity if s.end - s.start > 200]
            for _ in range(contig.length // 80_000):
                start = int(rng.integers(margin, contig.length - margin))
                excluded.append(Region(contig.name, start, start + int(rng.integers(500, 2_000))))
            at = margin
            for region in [*merge_regions(sorted(excluded)), Region(contig.name, contig.length - margin)]:
                end = min(region.start, contig.length - margin)
                if end > at:
                    out.write(f"{contig.name}\t{at}\t{end}\n")
                at = max(at, region.end)


def _write_callset(files: SimulatedFiles) -> None:
    """All candidate alleles of the reads: permissive, so with plenty of false ones."""
    reference = ReferenceSource(str(files.reference))
    with ReadSource(str(files.reads)) as reads:
        lines = candidate_header(reference.lengths, files.sample)
        for contig, contig_length in reference.lengths.items():
            region = Region(contig, 0, contig_length)
            lines += candidate_lines(region, reads, reference, CandidateSettings(), files.sample)
    reference.close()
    _write_vcf(files.callset, lines)
