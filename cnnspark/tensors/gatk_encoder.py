"""``encoding: gatk``: tensors by the rules of GATK's NVScoreVariants, so that its networks' weights give its scores.

The fields are those of every tensor (:mod:`cnnspark.tensors.schema`); the networks expand them to GATK's channels. The
rules, defects included, stand in :mod:`cnnspark.tensors.gatk_kernels`. All reads are kept, also duplicates. The ALT is
nowhere in them: ``alternate`` and ``read_support`` hold nothing, all ALTs of a record have the same tensor, and a key's
variant type is that of the record. Where this differs from NVScoreVariants: docs/models.md.
"""

from __future__ import annotations

import numpy as np

from cnnspark.formats.reads import no_reads
from cnnspark.formats.reference import encode_bases
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import Record
from cnnspark.tensors import gatk_kernels
from cnnspark.tensors.chunks import record_hash
from cnnspark.tensors.encoder import Chunk, OpenedInputs, batch_of
from cnnspark.tensors.kernel_tools import reads_of
from cnnspark.tensors.schema import REF_COLUMN, WINDOW, TensorBatch
from cnnspark.variants.alleles import VariantType

_ONE_BASE = frozenset("ACGTN*")


class GatkEncoder:
    """An :class:`cnnspark.tensors.encoder.Encoder`.

    Without reads as for GATK's 1D network: no rows, and no columns opened in the reference.
    """

    # One look-up by the index decompresses some 16 kb of reads: what lies nearer than that is read in one go.
    gap = 2_000
    before = REF_COLUMN
    after = 2 * WINDOW

    def feature_names(self, with_reads: bool) -> tuple[str, ...]:
        """No site features: GATK's networks know none."""
        return ()

    def variant_type(self, record: Record, alt_index: int) -> VariantType:
        """The kind of the whole record (:func:`record_type`)."""
        return record_type(record, alt_index)

    def encode(self, chunk: Chunk, inputs: OpenedInputs) -> TensorBatch:
        """The tensors of a chunk.

        Raises:
            InputError: if the reads do not have the contig or cannot be read.
        """
        records = [record for record, _ in chunk.records]
        # POS may be 0, a telomere.
        start = max(records[0].start, 0)
        region = Region(chunk.contig, start, max(chunk.end, start + 1))
        batch = inputs.reads.read(region, None) if inputs.reads is not None else no_reads()
        hashes = [record_hash(inputs.settings.seed, inputs.sample, record) for record in records]
        sites = gatk_kernels.GatkSites(
            starts=np.array([record.start for record in records], np.int64),
            ends=np.array([record.end for record in records], np.int64),
            is_snp=np.array([sorts_as_snp(record) for record in records], np.bool_),
            hashes=np.array(hashes, np.uint64),
            windows=np.stack([reference_window(record, chunk.text, chunk.text_start) for record in records]),
        )
        rows = gatk_kernels.encode(reads_of(batch), sites, inputs.settings.read_limit)
        of_records = batch_of(rows, np.zeros((len(records), 0), np.float32))
        return of_records.take([i for i, (_, indexes) in enumerate(chunk.records) for _ in indexes])


def record_type(record: Record, alt_index: int) -> VariantType:
    """The kind of the whole record, by the lengths of REF and of all its ALTs, ``*`` and symbolic ones included.

    SNV: all are one base long, so of GATK's type SNP. INSERTION or DELETION, by the ALT with this number: none is as
    long as REF, so of type INDEL. MNV: all are as long as REF, which is longer than a base; MIXED: anything else; GATK
    tells neither from the other.
    """
    same = {len(alt) == len(record.ref) for alt in record.alts if alt != record.ref}
    if same == {True}:
        return VariantType.SNV if len(record.ref) == 1 else VariantType.MNV
    if same == {False}:
        longer = len(record.alts[alt_index - 1]) > len(record.ref)
        return VariantType.INSERTION if longer else VariantType.DELETION
    return VariantType.MIXED


def sorts_as_snp(record: Record) -> bool:
    """Whether rows are sorted by the base at POS: REF and every ALT one of A, C, G, T, N, ``*``."""
    return len(record.ref) == 1 and _ONE_BASE.issuperset(record.alts)


def reference_window(record: Record, text: str, text_start: int) -> np.ndarray:
    """The reference's codes from 64 bases before POS on: uint8 (W,); ``text`` are its letters from ``text_start`` on.

    Where the contig begins later than the window, the letters stand at the window's left end, so that POS is left of
    its column, and the window ends as many bases behind POS as always, plus one, plus what of REF's other bases there
    is room for. Behind the last letter there is nothing.
    """
    start, end = record.start - REF_COLUMN, record.start - REF_COLUMN + WINDOW
    if start < 0:
        end += min(-start, len(record.ref) - 1) + 1
    letters = text[max(start, 0) - text_start : max(end - text_start, 0)][:WINDOW]
    window = np.zeros(WINDOW, np.uint8)
    window[: len(letters)] = encode_bases(letters)
    return window
