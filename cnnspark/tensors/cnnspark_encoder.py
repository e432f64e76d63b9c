"""``encoding: cnnspark``: pileups of reads that are sorted by the allele that they support, with site features.

An indel is followed through its repeat, so that reads are compared over all of the places where it can be spelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.formats.reads import no_reads
from cnnspark.formats.reference import encode_bases
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record
from cnnspark.tensors import kernel_tools, pileup_kernels, row_kernels, site_feature_kernels
from cnnspark.tensors.chunks import record_hash
from cnnspark.tensors.encoder import Chunk, OpenedInputs, batch_of
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.site_features import READ_REACH, SITE_FEATURES
from cnnspark.variants import alleles
from cnnspark.variants.alleles import VariantType

# How far an indel is followed through its repeat; beyond, no read spans both sides.
EXTENSION_LIMIT = 500
_ACGT = frozenset("ACGT")


@dataclass(frozen=True)
class Edit:
    """An ALT after trimming: ``ref`` at ``start`` (0-based) is replaced by ``alt``; either may be empty."""

    start: int
    ref: str
    alt: str

    @property
    def is_indel(self) -> bool:
        """Whether REF and ALT differ in length."""
        return len(self.ref) != len(self.alt)


@dataclass(frozen=True)
class Site:
    """A record's scorable ALTs and the span over which reads are compared with their haplotypes."""

    record: Record
    alt_indexes: tuple[int, ...]  # from 1, as in a genotype
    edits: tuple[Edit, ...]
    span_start: int
    span_end: int
    has_indels: bool
    haplotypes: tuple[str, ...]  # REF and each ALT over the span


class CnnsparkEncoder:
    """An :class:`cnnspark.tensors.encoder.Encoder`: rows by support, ALT window and site features (DESIGN "Tensor")."""

    # Beyond this distance, reading twice around both records costs less than reading what lies between.
    gap = 2 * READ_REACH
    before = after = READ_REACH

    def feature_names(self, with_reads: bool) -> tuple[str, ...]:
        """All site features, or none without reads: all are of reads."""
        return SITE_FEATURES if with_reads else ()

    def variant_type(self, record: Record, alt_index: int) -> VariantType:
        """The kind of the ALT, whatever others the record has."""
        return alleles.variant_type(record.ref, record.alts[alt_index - 1])

    def encode(self, chunk: Chunk, inputs: OpenedInputs) -> TensorBatch:
        """The tensors of a chunk.

        Raises:
            InputError: if the reads do not have the contig or cannot be read.
        """
        settings = inputs.settings
        # The columns of the pileup; they may begin before the contig.
        start, end = chunk.start - self.before, chunk.end + self.after
        region = Region(chunk.contig, chunk.text_start, end)
        batch = inputs.reads.read(region, settings.read_filter) if inputs.reads is not None else no_reads()
        codes_start = min(start, int(batch.starts[0])) if len(batch) else start
        codes_end = max(end, int(batch.ends.max())) if len(batch) else end
        codes = inputs.reference.codes(chunk.contig, codes_start, codes_end)

        found = [_site(record, indexes, chunk.text, chunk.text_start) for record, indexes in chunk.records]
        reads, reference = kernel_tools.reads_of(batch), kernel_tools.Reference(codes, codes_start)
        sites, edits = _kernel_sites(found, settings.seed, inputs.sample), self._kernel_alleles(found)
        pairs = pileup_kernels.observe(reads, reference, sites, _kernel_haplotypes(found))
        rows = row_kernels.encode(reads, reference, sites, edits, pairs, settings.read_limit, settings.use_soft_clips)
        pileup = pileup_kernels.pileup(reads, reference, start, end)
        contig_length = inputs.reference.lengths[chunk.contig]
        features = site_feature_kernels.site_features(
            reads, reference, sites, edits, pairs, pileup, contig_length, inputs.neighbours
        )
        return batch_of(rows, features if inputs.reads is not None else features[:, :0])

    def _kernel_alleles(self, sites: Sequence[Site]) -> kernel_tools.Alleles:
        edits = [edit for site in sites for edit in site.edits]
        types = [self.variant_type(site.record, index) for site in sites for index in site.alt_indexes]
        return kernel_tools.Alleles(
            types=np.array(types, np.int64),
            starts=np.array([edit.start for edit in edits], np.int64),
            ref_lengths=np.array([len(edit.ref) for edit in edits], np.int64),
            offsets=_offsets([len(edit.alt) for edit in edits]),
            bases=encode_bases("".join(edit.alt for edit in edits)),
        )


def _kernel_sites(sites: Sequence[Site], seed: int, sample: str) -> kernel_tools.Sites:
    return kernel_tools.Sites(
        starts=np.array([site.record.start for site in sites], np.int64),
        ends=np.array([site.record.end for site in sites], np.int64),
        span_starts=np.array([site.span_start for site in sites], np.int64),
        span_ends=np.array([site.span_end for site in sites], np.int64),
        has_indels=np.array([site.has_indels for site in sites], np.int64),
        hashes=np.array([record_hash(seed, sample, site.record) for site in sites], np.uint64),
        alt_counts=np.array([len(site.record.alts) for site in sites], np.int64),
        allele_offsets=_offsets([len(site.edits) for site in sites]),
    )


def _kernel_haplotypes(sites: Sequence[Site]) -> kernel_tools.Haplotypes:
    haplotypes = [haplotype for site in sites for haplotype in site.haplotypes]
    return kernel_tools.Haplotypes(
        record_offsets=_offsets([len(site.haplotypes) for site in sites]),
        offsets=_offsets([len(haplotype) for haplotype in haplotypes]),
        bases=encode_bases("".join(haplotypes)),
    )


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _site(record: Record, alt_indexes: tuple[int, ...], text: str, text_start: int) -> Site:
    """The edits of a record and the span for the comparison of haplotypes (indels followed through their repeat)."""
    ref = record.ref.upper()
    edits = []
    for index in alt_indexes:
        offset, removed, added = alleles.trim(ref, record.alts[index - 1].upper())
        edits.append(Edit(record.start + offset, removed, added))
    span_start = min(edit.start for edit in edits)
    span_end = max(edit.start + len(edit.ref) for edit in edits)
    has_indels = any(edit.is_indel for edit in edits)
    for edit in edits:
        if edit.is_indel:
            left, right = _shift_range(edit, text, text_start)
            span_start, span_end = min(span_start, left), max(span_end, right)

    def letters(start: int, end: int) -> str:
        # REF's own letters where it reaches: an N of REF stands for no base, as the record says.
        before = text[max(start - text_start, 0) : max(min(end, record.start) - text_start, 0)]
        within = ref[max(start - record.start, 0) : max(end - record.start, 0)]
        after = text[max(max(start, record.end) - text_start, 0) : max(end - text_start, 0)]
        return before + within + after

    haplotypes = [letters(span_start, span_end)]
    for edit in edits:
        haplotypes.append(letters(span_start, edit.start) + edit.alt + letters(edit.start + len(edit.ref), span_end))
    return Site(record, alt_indexes, tuple(edits), span_start, span_end, has_indels, tuple(haplotypes))


def _shift_range(edit: Edit, text: str, text_start: int) -> tuple[int, int]:
    """The stretch [start, end) of the reference within which the indel can be spelled in other ways.

    The bases inserted or deleted beyond min(REF, ALT) are moved left and right as long as the same haplotype results,
    over A C G T only and EXTENSION_LIMIT bases at most.
    """
    shared = min(len(edit.ref), len(edit.alt))
    unit = edit.ref[shared:] or edit.alt[shared:]
    start = edit.start + shared - text_start
    end = edit.start + len(edit.ref) - text_start
    left = 0
    while left < EXTENSION_LIMIT and start - left > 0:
        base = text[start - left - 1]
        if base not in _ACGT or base != unit[(-1 - left) % len(unit)]:
            break
        left += 1
    right = 0
    while right < EXTENSION_LIMIT and end + right < len(text):
        base = text[end + right]
        if base not in _ACGT or base != unit[right % len(unit)]:
            break
        right += 1
    return start - left + text_start, end + right + text_start
