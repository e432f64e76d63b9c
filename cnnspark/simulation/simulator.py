"""A simulated sample with everything a run needs: reference, reads, callset, truth, confident regions, causes.

It is for trying cnnspark out, for its tests, and for training data whose false alleles have many causes, each known:
docs/simulation.md tables them. Made by one simulator, it says nothing about accuracy on real data. It works on a
made-up genome or on real sequence, a contig's piece at a time, and needs no external program.
"""

from __future__ import annotations

import dataclasses
import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from cnnspark.common.storage import make_folder
from cnnspark.errors import InputError
from cnnspark.formats.bgzf import create_bgzf
from cnnspark.formats.reads import ReadSource
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region, clip_to_contigs, in_order, merge_regions, parse_region
from cnnspark.formats.vcf import Record
from cnnspark.simulation.alignment import align, unopened_bases
from cnnspark.simulation.bam import SLACK_BASES, BamWriter, PairedReads, make_header
from cnnspark.simulation.error_sites import draw_error_sites
from cnnspark.simulation.foreign import (
    COLLAPSED_SHARE,
    make_chimeras,
    make_contaminant,
    make_low_complexity_copies,
    make_paralogs,
)
from cnnspark.simulation.fragments import MARGIN, draw_fragments, join_molecules
from cnnspark.simulation.genome import END_MARGIN, Contig, decode_bases, make_sequence, real_pieces, survey
from cnnspark.simulation.provenance import TRUE_CAUSES, Cause, CauseCounts, main_cause, observe_causes
from cnnspark.simulation.sample import Molecule, Variant, draw_variants, make_haplotypes, truth_header, truth_lines
from cnnspark.simulation.sequencing import sequence_side
from cnnspark.simulation.settings import SimulationSettings
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT, UNKNOWN
from cnnspark.variants.candidates import CandidateSettings, candidate_header, candidate_lines
from cnnspark.variants.label_tables import TRUE, write_causes
from cnnspark.variants.truth import DEFAULT_SETTINGS, TruthSource, label_block

# The second contig of a made-up genome lets a model be trained on one and tested on the other.
CONTIG_SHARES = {"chrA": 0.7, "chrB": 0.3}
# Bounds memory: some 60 MB of arrays at once.
_FRAGMENTS_AT_ONCE = 8_000
_FASTA_LINE = 60
_LABEL_BASES = 200_000
# One generator a step and piece: a change in one leaves the others' draws alone.
_STEPS = ("genome", "variants", "paralogs", "copies", "chimeras", "contaminant", "sites", "fragments", "reads", "rest")
_LABEL_NAMES = {TRUE_VARIANT: "TP", FALSE_VARIANT: "FP", UNKNOWN: "OUT"}


@dataclass(frozen=True)
class SimulatedFiles:
    """The files of one simulation; indexes stand beside them (``.fai``, ``.bai``, ``.tbi``)."""

    reference: Path
    reads: Path
    callset: Path
    truth: Path
    confident: Path  # BED
    labels: Path  # of the callset's alleles, as ``--labels`` takes them
    causes: Path  # of the callset's alleles: where their reads come from
    sample: str


@dataclass(frozen=True)
class _Piece:
    """A piece of a contig, the sample's variants on it, and a random generator for each step."""

    contig: Contig
    variants: Sequence[Variant]
    draws: Mapping[str, np.random.Generator]


def simulate(
    out: Path,
    settings: SimulationSettings | None = None,
    *,
    reference: str | None = None,
    regions: Sequence[str] = (),
    sample: str = "SIM1",
    candidates: CandidateSettings | None = None,
    **changes: Any,
) -> SimulatedFiles:
    """Writes a simulated diploid sample; the same arguments give the same bytes.

    Args:
        out: folder for the files; made if missing, files of the same names are replaced.
        settings: the machine, the library, and how much of each cause of false alleles.
        reference: an indexed FASTA; without one a genome is made up.
        regions: what to simulate of the reference, as ``chr20:1-2,000,000``; all of it by default.
        sample: name of the sample in the files.
        candidates: what makes an allele a record of the callset.
        **changes: single fields of the settings.

    Returns:
        The paths of the files.

    Raises:
        UsageError: if a setting or a region is not valid.
        InputError: if the reference lacks a region's contig, or has no sequence there.
    """
    settings = dataclasses.replace(settings or SimulationSettings(), **changes)
    candidates = candidates or CandidateSettings()
    make_folder(out)
    files = SimulatedFiles(
        reference=Path(reference) if reference else out / "reference.fa",
        reads=out / "reads.bam",
        callset=out / "callset.vcf.gz",
        truth=out / "truth.vcf.gz",
        confident=out / "confident.bed",
        labels=out / "labels.tsv",
        causes=out / "causes.tsv",
        sample=sample,
    )
    if reference is None:
        _write_made_up_reference(files.reference, settings)
    source = ReferenceSource(str(files.reference))
    counts = _write_sample(files, source, _chosen(files, source, regions), settings, candidates.min_base_quality)
    if not counts:
        raise InputError(f"{files.reference} has no sequence in the chosen regions, or too little; check --region")
    records = _write_callset(files, source, [Region(c.name, c.start, c.end) for c in _contigs(counts)], candidates)
    _write_causes(files, source, counts, records)
    source.close()
    return files


def _chosen(files: SimulatedFiles, source: ReferenceSource, regions: Sequence[str]) -> list[Region]:
    """The regions to simulate, in the order of the reference; all of its contigs if none is given."""
    chosen = clip_to_contigs([parse_region(text, source.lengths) for text in regions], source.lengths)
    for region in chosen:
        if region.contig not in source.lengths:
            raise InputError(f"{files.reference} has no contig '{region.contig}'; check --region")
    return in_order(chosen, source.lengths) or [Region(name, 0, length) for name, length in source.lengths.items()]


def _contigs(counts: Sequence[CauseCounts]) -> Iterator[Contig]:
    return (count.contig for count in counts)


def _generators(settings: SimulationSettings, contig: str, start: int) -> dict[str, np.random.Generator]:
    seed = np.random.SeedSequence([settings.seed, zlib.crc32(contig.encode()), start])
    return dict(zip(_STEPS, map(np.random.default_rng, seed.spawn(len(_STEPS))), strict=True))


def _write_sample(
    files: SimulatedFiles,
    reference: ReferenceSource,
    regions: Sequence[Region],
    settings: SimulationSettings,
    min_base_quality: int,
) -> list[CauseCounts]:
    """Writes reads, truth and confident regions, piece by piece; returns what the reads show, and why."""
    truth, counts = truth_header(reference.lengths, files.sample), []
    header = make_header(reference, {region.contig for region in regions}, files.sample)
    writer = BamWriter(files.reads, header)
    with open(files.confident, "w", encoding="ascii", newline="\n") as confident:
        for region in regions:
            for start, codes in real_pieces(reference, region):
                draws = _generators(settings, region.contig, start)
                share = COLLAPSED_SHARE * settings.mechanisms.paralogs
                contig = survey(region.contig, codes, start, share, draws["genome"])
                variants = draw_variants(contig, draws["variants"], settings.variants, settings.mechanisms.mosaic)
                truth += truth_lines(contig, variants)
                confident.writelines(_confident_lines(contig, draws["rest"]))
                counts.append(_write_reads(writer, _Piece(contig, variants, draws), settings, min_base_quality))
    writer.close()
    _write_vcf(files.truth, truth)
    return counts


def _molecules(piece: _Piece, settings: SimulationSettings) -> list[Molecule]:
    """Everything that reads come from; the sample's own haplotypes first."""
    contig, variants, draws, mechanisms = piece.contig, piece.variants, piece.draws, settings.mechanisms
    # A fragment that has a placed read may reach so far into what is nowhere in the reference.
    flank = settings.max_fragment + settings.read_length
    molecules = make_haplotypes(contig, variants)
    if mechanisms.paralogs:
        molecules += make_paralogs(contig, variants, flank, draws["paralogs"])
    if mechanisms.low_complexity:
        share = mechanisms.low_complexity
        molecules += make_low_complexity_copies(contig, variants, share, flank, draws["copies"])
    if mechanisms.chimeras:
        # Long enough for every fragment, so short that most of them cross the breakpoint.
        stem = int(max(settings.fragment_mean, settings.max_fragment / 2)) + 2 * MARGIN
        molecules += make_chimeras(contig, mechanisms.chimeras, stem, draws["chimeras"])
    if mechanisms.contamination:
        share = mechanisms.contamination
        molecules += make_contaminant(contig, variants, share, settings.variants, draws["contaminant"])
    return molecules


def _write_reads(writer: BamWriter, piece: _Piece, settings: SimulationSettings, min_base_quality: int) -> CauseCounts:
    """Sequences the molecules of a piece, aligns their reads and writes them; returns what the reads show, and why."""
    contig, draws, rng = piece.contig, piece.draws, piece.draws["reads"]
    molecules = _molecules(piece, settings)
    sites = draw_error_sites(contig, piece.variants, settings.mechanisms, draws["sites"])
    joined = join_molecules(molecules, settings.mechanisms.stutter, settings.seed)
    fragments = draw_fragments(contig, molecules, joined, settings, draws["fragments"])
    unopened = unopened_bases(contig, piece.variants, settings.mechanisms.misaligned, draws["rest"])
    doubt = _mapping_doubt(contig, draws["rest"])
    seen = CauseCounts(contig)
    for begin in range(0, len(fragments), _FRAGMENTS_AT_ONCE):
        part = fragments.select(slice(begin, begin + _FRAGMENTS_AT_ONCE))
        writer.flush(contig.name, contig.start + int(part.order_pos[0]) - SLACK_BASES)
        left, right = (sequence_side(joined, sites, part, side, settings, rng) for side in (False, True))
        alignments = (align(left, contig.codes, unopened), align(right, contig.codes, unopened))
        for reads, placed in zip((left, right), alignments, strict=True):
            counted = ~part.is_duplicate
            mismatches, gaps = observe_causes(reads, placed, counted, contig.codes, min_base_quality)
            seen.add(mismatches, gaps, reads.bases)
        starts = np.stack([placed.start for placed in alignments])
        mapqs = _mapping_qualities(starts, doubt, settings.read_length, rng)
        pairs = PairedReads((left, right), alignments, mapqs, part.read1_left, part.is_duplicate)
        writer.add(contig.name, contig.start, pairs)
    writer.flush(contig.name, contig.end)
    seen.finish()
    return seen


def _mapping_doubt(contig: Contig, rng: np.random.Generator) -> np.ndarray:
    """Share of the fragments with a low mapping quality by position: float32 (length,)."""
    share = np.full(contig.length, 0.004, dtype=np.float32)
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
    return share


def _mapping_qualities(starts: np.ndarray, doubt: np.ndarray, read_length: int, rng: np.random.Generator) -> np.ndarray:
    """Mapping qualities, uint8 (2, n), of reads that start at ``starts``: 60, or a mixture of 0 and 1-59 in doubt.

    Both reads of a pair share their doubt, as the aligner pairs them.
    """
    middle = np.clip(starts + read_length // 2, 0, len(doubt) - 1)
    low = rng.random(starts.shape[1]) < doubt[middle].max(axis=0)
    zero = rng.random(starts.shape[1]) < 0.4
    some = rng.integers(1, 60, starts.shape)
    return np.where(low, np.where(zero, 0, some), 60).astype(np.uint8)


def _write_made_up_reference(path: Path, settings: SimulationSettings) -> None:
    with open(path, "w", encoding="ascii", newline="\n") as out:
        for name, share in CONTIG_SHARES.items():
            rng = np.random.default_rng(np.random.SeedSequence([settings.seed, zlib.crc32(name.encode())]))
            letters = decode_bases(make_sequence(int(settings.length * share), rng))
            out.write(f">{name}\n")
            out.writelines(letters[at : at + _FASTA_LINE] + "\n" for at in range(0, len(letters), _FASTA_LINE))
    pysam.faidx(str(path))


def _write_vcf(path: Path, lines: Iterable[str]) -> None:
    """Compresses (BGZF) and indexes."""
    with create_bgzf(path) as out:
        out.write(("\n".join(lines) + "\n").encode("ascii"))
    pysam.tabix_index(str(path), preset="vcf", force=True)


def _confident_lines(contig: Contig, rng: np.random.Generator) -> Iterator[str]:
    """A piece without its ends, the worst low-complexity stretches and a few kilobases at random, as BED."""
    margin = min(3 * END_MARGIN, contig.length // 10)
    excluded = [s.padded(20) for s in contig.low_complexity if s.end - s.start > 200]
    for _ in range(contig.length // 80_000):
        start = int(rng.integers(margin, contig.length - margin))
        excluded.append(Region(contig.name, start, start + int(rng.integers(500, 2_000))))
    at = margin
    for region in [*merge_regions(sorted(excluded)), Region(contig.name, contig.length - margin)]:
        end = min(region.start, contig.length - margin)
        if end > at:
            yield f"{contig.name}\t{contig.start + at}\t{contig.start + end}\n"
        at = max(at, region.end)


def _write_callset(
    files: SimulatedFiles, reference: ReferenceSource, regions: Sequence[Region], settings: CandidateSettings
) -> list[Record]:
    """All candidate alleles of the reads: permissive, so with plenty of false ones."""
    lines: list[str] = []
    with ReadSource(str(files.reads)) as reads:
        for region in regions:
            lines += candidate_lines(region, reads, reference, settings, files.sample)
    _write_vcf(files.callset, [*candidate_header(reference.lengths, files.sample), *lines])
    return [Record(line) for line in lines]


def _write_causes(
    files: SimulatedFiles, reference: ReferenceSource, counts: Sequence[CauseCounts], records: Sequence[Record]
) -> None:
    """Labels each allele by the truth, as 'cnnspark tensors' does, and says what its reads come from."""
    rows = []
    by_contig: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_contig[record.contig].append(record)
    with TruthSource(str(files.truth), str(files.confident)) as truth:
        for seen in counts:
            contig = seen.contig
            members = by_contig[contig.name]
            for begin in range(contig.start, contig.end, _LABEL_BASES):
                region = Region(contig.name, begin, min(begin + _LABEL_BASES, contig.end))
                wide = region.padded(DEFAULT_SETTINGS.margin_bases)
                bounds = (bisect_left(members, at, key=_start) for at in (wide.start, wide.end))
                near = members[slice(*bounds)]
                labels, _ = label_block(near, region, truth, reference)
                owned = [record for record in near if region.owns(record.start)]
                rows += [_cause_row(r, label[0], seen) for r, label in zip(owned, labels, strict=True)]
    write_causes(files.causes, rows)
    with open(files.labels, "w", encoding="ascii", newline="\n") as out:
        out.write("chrom\tpos\tref\talt\tlabel\n")
        out.writelines("\t".join(row[:5]) + "\n" for row in rows)


def _start(record: Record) -> int:
    return record.start


def _cause_row(record: Record, label: int, seen: CauseCounts) -> list[str]:
    alt = record.alts[0]
    by_cause = seen.of(record.start, record.ref, alt)
    n = sum(by_cause.values())
    kind = "."
    if label == TRUE_VARIANT:
        cause, n_cause = main_cause(by_cause, TRUE_CAUSES)
        kind, name = cause.label if cause in TRUE_CAUSES else ".", TRUE
    else:
        false = [c for c in Cause if c not in (*TRUE_CAUSES, Cause.NONE)]
        cause, n_cause = main_cause(by_cause, [*TRUE_CAUSES, *false])
        # Reads of a true variant, spelled as another one: the alignment's doing. Outside the confident regions the
        # truth is what the reads come from.
        if cause in TRUE_CAUSES and label == UNKNOWN:
            kind, name = cause.label, TRUE
        else:
            name = Cause.MISALIGNED.label if cause in TRUE_CAUSES else cause.label
    columns = [record.contig, str(record.start + 1), record.ref, alt, _LABEL_NAMES[label], name, kind]
    return [*columns, str(n), str(n_cause)]
