"""A start without a caller: every allele that enough reads show, as permissive VCF records for the network to filter.

One biallelic record per allele, sorted by (POS, REF, ALT); indels are left-normalised before reads are counted, so
equal events that are aligned differently add up. Reads count one by one: both reads of an overlapping pair do.

QUAL and GT come from a binomial likelihood of the reads that show REF (r) or ALT (a): a genotype that makes a share f
of them ALT has L = (1 - f)^r f^a, with f = e (0/0), 1/2 (0/1), 1 - e (1/1); this is Li 2011 (doi:10.1093/
bioinformatics/btr509) with one error rate e for all bases (``error_rate``). With the prior 1 - 3t/2, t, t/2 (t =
``heterozygosity``), QUAL = -10 log10 P(0/0 | reads). GT is the likelier one of the two genotypes that have the allele:
whether it is there at all is the filter's question.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cnnspark.formats.reads import ReadBatch, ReadFilter, ReadSource
from cnnspark.formats.reference import LETTER_OF_CODE, A, ReferenceSource, T, encode_bases
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import as_bytes_of_utf8
from cnnspark.variants.candidate_kernels import (
    BASE,
    GOES_ON,
    QUALITY,
    READ,
    SITE,
    AlignedReads,
    allele_statistics,
    observe,
    pile_up,
)
from cnnspark.variants.haplotypes import ReferenceWindow, left_normalise, make_allele

# Positions piled up at once: bounds memory (reads of 50 kb at 30x are 4 MB) whatever the region.
_TILE_BASES = 50_000
_RANK_SUMS = ("MQRankSum", "BaseQRankSum", "ReadPosRankSum")

HEADER_LINES = (
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="Reads that cover the site: a base of sufficient quality (SNV), '
    'the anchor base and more behind it (indel)">',
    '##INFO=<ID=QD,Number=1,Type=Float,Description="QUAL divided by depth">',
    '##INFO=<ID=MQ,Number=1,Type=Float,Description="Root mean square of the mapping qualities">',
    '##INFO=<ID=FS,Number=1,Type=Float,Description="Phred-scaled p-value of Fisher\'s exact test for strand bias">',
    '##INFO=<ID=SOR,Number=1,Type=Float,Description="Symmetric odds ratio of the 2x2 table of allele and strand">',
    '##INFO=<ID=MQRankSum,Number=1,Type=Float,Description="Z of the rank sum test of ALT vs REF mapping qualities">',
    '##INFO=<ID=BaseQRankSum,Number=1,Type=Float,Description="Z of the rank sum test of ALT vs REF base qualities">',
    '##INFO=<ID=ReadPosRankSum,Number=1,Type=Float,Description="Z of the rank sum test of ALT vs REF distances from '
    "the read's end\">",
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Likeliest genotype that has the allele">',
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Reads that show REF and ALT">',
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Reads that cover the site">',
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Genotype quality: distance to the next likelihood, up to 99">',
    '##FORMAT=<ID=PL,Number=G,Type=Integer,Description="Phred-scaled genotype likelihoods">',
)


@dataclass(frozen=True)
class CandidateSettings:
    """What makes an allele a candidate, and the model behind QUAL."""

    # A single read is an error far more often than an allele.
    min_reads: int = 2
    # At 30x a heterozygous allele seldom falls below 12 % of the reads; indels do, as read ends don't show them.
    min_snv_fraction: float = 0.12
    min_indel_fraction: float = 0.06
    # For SNVs only: an indel has no quality of its own.
    min_base_quality: int = 10
    # Collapsed paralogs show themselves by reads of mapping quality 0.
    min_mapping_quality: int = 0
    # Share of reads that show an allele that is not there; above the base qualities' promise, as errors repeat.
    error_rate: float = 0.01
    # Differences per base between two human haplotypes.
    heterozygosity: float = 1e-3


@dataclass(frozen=True)
class _Allele:
    """A normalised allele with the VCF's anchor base; ``reads`` are those whose CIGAR shows it (indels)."""

    start: int  # POS-1
    ref: str
    alt: str
    reads: frozenset[int] = frozenset()

    @property
    def is_snv(self) -> bool:
        return len(self.ref) == len(self.alt)


def candidate_header(contigs: Mapping[str, int], sample: str) -> list[str]:
    """The VCF's header without line ends; ``contigs`` are names and lengths in the order of the reference."""
    lines = ["##fileformat=VCFv4.2", '##FILTER=<ID=PASS,Description="All filters passed">']
    lines.append("##source=cnnspark candidates: one biallelic record per allele, indels left-normalised")
    lines += [f"##contig=<ID={name},length={length}>" for name, length in contigs.items()]
    return [*lines, *HEADER_LINES, f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{as_bytes_of_utf8(sample)}"]


def candidate_lines(
    region: Region, reads: ReadSource, reference: ReferenceSource, settings: CandidateSettings, sample: str
) -> Iterator[str]:
    """Records (without line ends) of the candidate alleles that the region owns, sorted by position, REF and ALT.

    How the genome is cut into regions changes nothing. ``sample`` must be the only sample of the reads, or the reads
    must be all of one: read groups are not told apart. Raises InputError as the sources do.
    """
    letters = ReferenceWindow(reference, region.contig)
    # An unknown contig gets one base to ask for, so that the source says what is wrong.
    end = min(region.end, reads.contig_lengths.get(region.contig, region.start + 1))
    end = min(end, reference.lengths.get(region.contig, end))
    read_filter = ReadFilter(min_mapping_quality=settings.min_mapping_quality)
    for begin in range(region.start, end, _TILE_BASES):
        tile = Region(region.contig, begin, min(begin + _TILE_BASES, end))
        batch = reads.read(tile, read_filter)
        if len(batch):
            yield from _tile_lines(tile, batch, letters, settings)


def _tile_lines(tile: Region, batch: ReadBatch, letters: ReferenceWindow, settings: CandidateSettings) -> Iterator[str]:
    """The records of the alleles that a tile owns."""
    reads = AlignedReads(*(getattr(batch, name) for name in AlignedReads._fields))
    base_counts, events = pile_up(reads, tile.start, tile.end, settings.min_base_quality)
    reference_codes = encode_bases(letters(tile.start, tile.end))
    indels = _indels(tile, batch, events, letters)
    alleles = [*_snvs(tile, base_counts, reference_codes, settings)]
    alleles += [allele for allele in indels if len(allele.reads) >= settings.min_reads]
    if not alleles:
        return
    alleles.sort(key=lambda allele: (allele.start, allele.ref, allele.alt))
    positions = sorted({allele.start for allele in alleles})
    site_of_pos = np.full(tile.end - tile.start, -1, dtype=np.int32)
    site_of_pos[np.array(positions) - tile.start] = np.arange(len(positions))
    # Reads that begin at or before a site less those that end before it.
    n_expected = np.searchsorted(batch.starts, positions, side="right").sum()
    n_expected -= np.searchsorted(np.sort(batch.ends), positions, side="right").sum()
    seen = observe(reads, tile.start, site_of_pos, int(n_expected))
    seen = seen[np.argsort(seen[:, SITE], kind="stable")]
    bounds = np.searchsorted(seen[:, SITE], np.arange(len(positions) + 1))
    with_indel: dict[int, set[int]] = {}
    for allele in indels:
        with_indel.setdefault(allele.start, set()).update(allele.reads)
    for allele in alleles:
        site = int(site_of_pos[allele.start - tile.start])
        here = seen[bounds[site] : bounds[site + 1]]
        line = _record(tile.contig, allele, here, batch, with_indel.get(allele.start, set()), settings)
        if line is not None:
            yield line


def _snvs(
    tile: Region, base_counts: np.ndarray, reference_codes: np.ndarray, settings: CandidateSettings
) -> Iterator[_Allele]:
    """Mismatching bases that enough reads show; positions where the reference is not A, C, G or T are left out."""
    depth = np.maximum(base_counts.sum(axis=1), 1)
    enough = (base_counts >= settings.min_reads) & (base_counts / depth[:, None] >= settings.min_snv_fraction)
    enough[:, :A] = enough[:, T + 1 :] = False
    enough[np.arange(len(reference_codes)), reference_codes] = False
    enough[reference_codes > T] = False
    for offset, code in zip(*np.nonzero(enough), strict=True):
        yield _Allele(tile.start + int(offset), LETTER_OF_CODE[reference_codes[offset]], LETTER_OF_CODE[code])


def _indels(tile: Region, batch: ReadBatch, events: np.ndarray, letters: ReferenceWindow) -> list[_Allele]:
    """The insertions and deletions whose anchor base is in the tile, left-normalised, with the reads that show them."""
    readers: dict[tuple[int, str, str], set[int]] = {}
    spellings: dict[tuple[int, int, bytes], tuple[int, str, str]] = {}
    for read, start, length, base in events.tolist():
        inserted = batch.bases[base : base + length].tobytes() if length > 0 else b""
        spelling = spellings.get((start, length, inserted))
        if spelling is None:
            ref = "" if length > 0 else letters(start, start - length)
            alt = "".join(LETTER_OF_CODE[code] for code in inserted)
            spelling = left_normalise(make_allele(start, ref, alt, 0), letters)
            spellings[start, length, inserted] = spelling
        readers.setdefault(spelling, set()).add(read)
    alleles = []
    for (start, ref, alt), members in readers.items():
        # An event that normalises to the contig's first base has no base before it; no aligner spans it.
        if start > 0 and tile.owns(start - 1):
            anchor = letters(start - 1, start)
            if set(anchor + ref + alt) <= set("ACGT"):
                alleles.append(_Allele(start - 1, anchor + ref, anchor + alt, frozenset(members)))
    return alleles


def _record(
    contig: str,
    allele: _Allele,
    here: np.ndarray,
    batch: ReadBatch,
    with_indel: set[int],
    settings: CandidateSettings,
) -> str | None:
    """The VCF line of one allele from the observations at its site, None where too few reads show it."""
    if allele.is_snv:
        here = here[here[:, QUALITY] >= settings.min_base_quality]
        is_ref, is_alt = (here[:, BASE] == encode_bases(base)[0] for base in (allele.ref, allele.alt))
        min_fraction = settings.min_snv_fraction
    else:
        here = here[here[:, GOES_ON] == 1]
        is_alt = np.isin(here[:, READ], list(allele.reads))
        # A read with another indel at this anchor shows neither allele.
        is_ref = ~np.isin(here[:, READ], list(with_indel))
        min_fraction = settings.min_indel_fraction
    depth, n_ref, n_alt = len(here), int(is_ref.sum()), int(is_alt.sum())
    if n_alt < settings.min_reads or n_alt / depth < min_fraction:
        return None
    mq, fs, sor, *rank_sums = allele_statistics(is_alt, is_ref, here, batch.mapqs, batch.flags)
    qual, likelihoods = genotype_likelihoods(n_ref, n_alt, settings)
    best = 1 if likelihoods[1] <= likelihoods[2] else 2
    distance = min(likelihoods[:best] + likelihoods[best + 1 :]) - likelihoods[best]
    info = [f"DP={depth}", f"QD={qual / depth:.2f}", f"FS={fs:.3f}", f"SOR={sor:.3f}"]
    if not math.isnan(mq):
        info.append(f"MQ={mq:.2f}")
    info += [f"{k}={_fixed(z)}" for k, z in zip(_RANK_SUMS, rank_sums, strict=True) if not math.isnan(z)]
    call = [("0/0", "0/1", "1/1")[best], f"{n_ref},{n_alt}", str(depth), str(min(99, max(0, distance)))]
    call.append(",".join(map(str, likelihoods)))
    columns = [contig, str(allele.start + 1), ".", allele.ref, allele.alt, f"{qual:.2f}", ".", ";".join(info)]
    return "\t".join([*columns, "GT:AD:DP:GQ:PL", ":".join(call)])


def _fixed(value: float) -> str:
    """Three decimals, without a sign on zero."""
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text


def genotype_likelihoods(n_ref: int, n_alt: int, settings: CandidateSettings) -> tuple[float, list[int]]:
    """QUAL and the Phred-scaled likelihoods of 0/0, 0/1 and 1/1 (best 0), by the formula at the top of the module."""
    error, theta = settings.error_rate, settings.heterozygosity
    logs = [n_ref * math.log10(1 - f) + n_alt * math.log10(f) for f in (error, 0.5, 1 - error)]
    posteriors = [log + math.log10(p) for log, p in zip(logs, (1 - 1.5 * theta, theta, theta / 2), strict=True)]
    top = max(posteriors)
    total = top + math.log10(sum(10 ** (log - top) for log in posteriors))
    return max(0.0, -10 * (posteriors[0] - total)), [round(10 * (max(logs) - log)) for log in logs]
