"""From records and reads to tensors: which alleles, which stretch of the reference, and the call of the kernels.

Records that lie close together share one decoding of their reads (a chunk). What an allele's tensor holds depends on
the reads within fixed distances of it only, never on how records were grouped into blocks or chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspark.formats.reads import ReadBatch, ReadSource, no_reads
from cnnspark.formats.reference import ReferenceSource, encode_bases
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record
from cnnspark.tensors import kernel_tools, pileup_kernels, row_kernels, site_feature_kernels
from cnnspark.tensors import site_features as features
from cnnspark.tensors.chunks import Scorable, agreeing, chunks, empty_batch, record_hash, scorable_records
from cnnspark.tensors.gatk_builder import build_gatk_tensors
from cnnspark.tensors.schema import AlleleKey, TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.variants import alleles
from cnnspark.variants.annotations import AnnotationReader

# Beyond this distance, reading twice around both records costs less than reading what lies between.
_CHUNK_GAP = 2 * features.READ_REACH
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


def build_tensors(
    records: Sequence[Record],
    reads: ReadSource | None,
    reference: ReferenceSource,
    settings: TensorSettings,
    annotations: AnnotationReader,
    sample: str,
    neighbours: np.ndarray | None,
) -> tuple[TensorBatch, Counter[str]]:
    """One tensor per scorable ALT of consecutive, position-sorted records of one contig, and the skipped by reason.

    Without ``reads`` tensors have no rows and, as all site features are of reads, no site features
    (:func:`feature_names`).

    ``neighbours`` are the sorted 0-based starts of the callset's records on the contig, at least those within
    ``features.FURTHEST`` bases of the block; None stands for the starts of ``records``. ``sample`` takes part in the
    choice of reads and names the FORMAT column.

    Raises InputError where REF disagrees with the reference (or the record is skipped, by ``settings``), where a contig
    is unknown to reads or reference, and where the reads cannot be read.
    """
    if settings.encoding == "gatk":
        return build_gatk_tensors(records, reads, reference, settings, annotations, sample)
    skipped: Counter[str] = Counter()
    calls = np.array([record.start for record in records] if neighbours is None else neighbours, np.int64)
    scorable = list(scorable_records(records, skipped))
    batches = [
        batch
        for chunk in chunks(scorable, _CHUNK_GAP)
        if (batch := _build_chunk(chunk, reads, reference, settings, annotations, sample, calls, skipped)) is not None
    ]
    if batches:
        return TensorBatch.concatenate(batches), skipped
    return empty_batch(len(annotations.names), len(feature_names(settings, reads is not None))), skipped


def feature_names(settings: TensorSettings, with_reads: bool) -> tuple[str, ...]:
    """The site features that tensors of these settings have: none without reads, and none for GATK's networks."""
    return SITE_FEATURES if with_reads and settings.encoding == "cnnspark" else ()


def _build_chunk(
    chunk: Sequence[Scorable],
    reads: ReadSource | None,
    reference: ReferenceSource,
    settings: TensorSettings,
    annotations: AnnotationReader,
    sample: str,
    calls: np.ndarray,
    skipped: Counter[str],
) -> TensorBatch | None:
    contig = chunk[0][0].contig
    core = Region(
        contig,
        chunk[0][0].start - features.READ_REACH,
        max(max(record.end, record.start + 1) for record, _ in chunk) + features.READ_REACH,
    )
    # Letters from text_start on: the core without what lies before the contig.
    text_start = max(core.start, 0)
    text = reference.sequence(contig, text_start, core.end)
    sites = [
        _site(record, indexes, text, text_start)
        for record, indexes in agreeing(chunk, text, text_start, reference, settings, skipped)
    ]
    if not sites:
        return None
    batch = reads.read(Region(contig, text_start, core.end), settings.read_filter) if reads else no_reads()
    if len(batch):
        wide_start = min(core.start, int(batch.starts[0]))
        wide_end = max(core.end, int(batch.ends.max()))
    else:
        wide_start, wide_end = core.start, core.end
    codes = reference.codes(contig, wide_start, wide_end)
    tensors = _run_kernels(
        sites, batch, codes, wide_start, core, reference.lengths[contig], settings, annotations, sample, calls
    )
    if reads is None:
        tensors.site_features = tensors.site_features[:, :0]
    return tensors


def _run_kernels(
    sites: Sequence[Site],
    batch: ReadBatch,
    codes: np.ndarray,
    codes_start: int,
    core: Region,
    contig_length: int,
    settings: TensorSettings,
    annotations: AnnotationReader,
    sample: str,
    calls: np.ndarray,
) -> TensorBatch:
    keys = [
        AlleleKey(
            contig=core.contig,
            start=site.record.start,
            ref=site.record.ref,
            alt=site.record.alts[index - 1],
            alt_index=index,
            record_index=site.record.index,
            variant_type=int(alleles.variant_type(site.record.ref, site.record.alts[index - 1])),
        )
        for site in sites
        for index in site.alt_indexes
    ]
    reads, reference = kernel_tools.reads_of(batch), kernel_tools.Reference(codes, codes_start)
    kernel_sites, edits = _kernel_sites(sites, settings.seed, sample), _kernel_alleles(sites, keys)
    pairs = pileup_kernels.observe(reads, reference, kernel_sites, _kernel_haplotypes(sites))
    rows = row_kernels.encode(
        reads, reference, kernel_sites, edits, pairs, settings.read_limit, settings.use_soft_clips
    )
    pileup = pileup_kernels.pileup(reads, reference, core.start, core.end)
    site_features = site_feature_kernels.site_features(
        reads, reference, kernel_sites, edits, pairs, pileup, contig_length, calls
    )
    column = annotations.sample_index(sample)
    values = [annotations.values(site.record, index, column) for site in sites for index in site.alt_indexes]
    return TensorBatch(
        keys=keys,
        row_offsets=rows.offsets,
        read_bases=rows.bases,
        read_quals=rows.quals,
        read_flags=rows.flags,
        read_mapqs=rows.mapqs,
        read_support=rows.support,
        reference=rows.references,
        alternate=rows.alternates,
        annotations=np.array(values, np.float32).reshape(len(keys), len(annotations.names)),
        site_features=site_features,
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


def _kernel_alleles(sites: Sequence[Site], keys: Sequence[AlleleKey]) -> kernel_tools.Alleles:
    edits = [edit for site in sites for edit in site.edits]
    return kernel_tools.Alleles(
        types=np.array([key.variant_type for key in keys], np.int64),
        starts=np.array([edit.start for edit in edits], np.int64),
        ref_lengths=np.array([len(edit.ref) for edit in edits], np.int64),
        offsets=_offsets([len(edit.alt) for edit in edits]),
        bases=encode_bases("".join(edit.alt for edit in edits)),
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
