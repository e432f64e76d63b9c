"""Generated inputs of the benchmarks: depths of 10x to 300x, other read lengths, long accurate reads, several samples.

Short reads are those of ``cnnspark simulate`` on a made-up genome. It makes no long reads, so these are written here.
For decoding and tensors they are like PacBio HiFi (15 kb, no pairs, quality 40, an error in a thousand bases, half of
the errors indels), and they carry the true SNVs of the simulated sample on one haplotype.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysam

from cnnspark.formats.regions import END_OF_CONTIG, Region
from cnnspark.formats.vcf import VcfSource
from cnnspark.simulation import SimulatedFiles, simulate
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.variants.carriers import Member

LENGTH = 40_000
DEPTHS = (10, 30, 100, 300)
SHORT_READS = (100, 250)
LONG_BASES, LONG_SPREAD, LONG_DEPTH, LONG_ERRORS = 15_000, 3_000, 30, 0.001
_SEED = 11


def _inputs(files: SimulatedFiles) -> Inputs:
    return Inputs(str(files.callset), str(files.reads), str(files.reference), files.sample)


def depth(folder: Path, coverage: int) -> Inputs:
    """A sample of 2 x 150 bases at this depth."""
    return _inputs(simulate(folder / f"{coverage}x", seed=_SEED, length=LENGTH, coverage=coverage))


def short_reads(folder: Path, read_length: int) -> Inputs:
    """A sample at 30x whose reads have this length."""
    out = folder / f"{read_length}b"
    return _inputs(simulate(out, seed=_SEED, length=LENGTH, coverage=30, read_length=read_length))


def long_reads(folder: Path) -> Inputs:
    """The simulated sample at 30x with long reads instead of its own."""
    files = simulate(folder / "long", seed=_SEED, length=LENGTH, coverage=30)
    target = folder / "long" / "long.bam"
    _write_long_reads(files, target)
    return Inputs(str(files.callset), str(target), str(files.reference), files.sample)


def _write_long_reads(files: SimulatedFiles, target: Path) -> None:
    draw = np.random.default_rng(_SEED)
    with pysam.FastaFile(str(files.reference)) as fasta, pysam.VariantFile(str(files.truth)) as truth:
        names = list(fasta.references)
        genome = {name: fasta.fetch(name).upper() for name in names}
        snvs = [(r.contig, r.start, r.alts[0]) for r in truth if r.ref and r.alts and len(r.ref) == len(r.alts[0]) == 1]
    haplotypes = {name: [bytearray(text.encode()), bytearray(text.encode())] for name, text in genome.items()}
    for contig, start, alt in snvs:
        haplotypes[contig][1][start] = ord(alt)
    header = pysam.AlignmentHeader.from_dict(
        {
            "HD": {"VN": "1.6", "SO": "coordinate"},
            "SQ": [{"SN": name, "LN": len(genome[name])} for name in names],
            "RG": [{"ID": "long", "SM": files.sample, "PL": "PACBIO"}],
        }
    )
    with pysam.AlignmentFile(str(target), "wb", header=header) as out:
        for number, name in enumerate(names):
            size = len(genome[name])
            # Those that hang over an end are cut there.
            count = round((size + LONG_BASES) * LONG_DEPTH / LONG_BASES)
            for i, start in enumerate(np.sort(draw.integers(-LONG_BASES, size, count))):
                length = max(1_000, int(draw.normal(LONG_BASES, LONG_SPREAD)))
                first, last = max(0, int(start)), min(size, int(start) + length)
                if last - first < 500:
                    continue
                haplotype = bytes(haplotypes[name][int(draw.integers(2))][first:last])
                out.write(_read(header, f"long/{number}/{i}", number, first, haplotype, draw))
    pysam.index(str(target))


def _read(
    header: pysam.AlignmentHeader, name: str, contig: int, start: int, haplotype: bytes, draw: np.random.Generator
) -> pysam.AlignedSegment:
    """A read of the haplotype from ``start``, with errors: substitutions, and bases left out or doubled."""
    parts, cigar, at = [], [], 0
    places = np.flatnonzero(draw.random(len(haplotype)) < LONG_ERRORS)
    for place in [int(place) for place in places if 50 < place < len(haplotype) - 50]:
        if place - at < 2:
            continue
        kind = draw.integers(4)
        if kind < 2:  # a substitution: goes on as a match
            parts += [haplotype[at:place], b"ACGT"[(place % 4) : (place % 4) + 1]]
            cigar.append((0, place + 1 - at))
        elif kind == 2:
            parts.append(haplotype[at:place])
            cigar += [(0, place - at), (2, 1)]
        else:
            parts += [haplotype[at : place + 1], haplotype[place : place + 1]]
            cigar += [(0, place + 1 - at), (1, 1)]
        at = place + 1
    parts.append(haplotype[at:])
    cigar.append((0, len(haplotype) - at))
    read = pysam.AlignedSegment(header)
    read.query_name, read.flag, read.reference_id, read.reference_start = name, 0, contig, start
    if draw.integers(2):
        read.flag = 16
    read.mapping_quality = 60
    merged: list[tuple[int, int]] = []
    for operation, length in cigar:
        if merged and merged[-1][0] == operation:
            merged[-1] = (operation, merged[-1][1] + length)
        else:
            merged.append((operation, length))
    read.query_sequence = b"".join(parts).decode()
    read.cigartuples = merged
    read.query_qualities = pysam.qualitystring_to_array("I" * len(read.query_sequence))
    read.set_tag("RG", "long")
    return read


def several_samples(inputs: Inputs, samples: int, folder: Path) -> Inputs:
    """A callset of ``samples`` samples, a column each, that all have the calls and the reads of the given one."""
    target = folder / "samples.vcf.gz"
    names = [f"S{i + 1}" for i in range(samples)]
    with VcfSource(inputs.vcf) as source, pysam.BGZFile(str(target), "wb", None) as out:
        for line in source.header.text().splitlines():
            if line.startswith("#CHROM"):
                line = "\t".join([*line.split("\t")[:9], *names])
            out.write(f"{line}\n".encode("latin-1"))
        for contig in source.contigs:
            for line in source.lines(Region(contig, 0, source.header.contig_lengths[contig] or END_OF_CONTIG)):
                *fixed, call = line.split("\t")
                out.write(("\t".join([*fixed, *[call] * samples]) + "\n").encode("latin-1"))
    pysam.tabix_index(str(target), preset="vcf", force=True)
    assert inputs.reads is not None
    members = tuple(Member(name, inputs.reads) for name in names)
    return Inputs(str(target), None, inputs.reference, members=members)


SETS: dict[str, Callable[[Path], Inputs]] = {
    **{f"generated {each}x": lambda folder, each=each: depth(folder, each) for each in DEPTHS},  # type: ignore[misc]
    **{f"generated {each}b": lambda folder, each=each: short_reads(folder, each) for each in SHORT_READS},  # type: ignore[misc]
    "long reads": long_reads,
}
