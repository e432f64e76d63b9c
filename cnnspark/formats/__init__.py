"""The bytes of genomic files, local and remote: all that goes through htslib (pysam).

``regions`` has the coordinates; ``vcf``, ``reads`` (BAM, CRAM) and ``reference`` (FASTA) read by region. ``callset``
opens a VCF or BCF in any state and makes an indexed copy if it needs one; ``contigs`` checks that files are of one
genome build. ``bgzf`` reads and writes blocks, ``bcf`` writes, ``index_check`` compares an index with its file.
``binning_index`` and ``read_depth`` estimate the work from indexes alone. ``htslib`` opens local and remote inputs,
and ``bam_decoding`` is the compiled part of ``reads``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.formats.reads import ReadFilter, ReadSource
    from cnnspark.formats.reference import ReferenceSource
    from cnnspark.formats.regions import Region, parse_region
    from cnnspark.formats.vcf import Record, VcfHeader, VcfSource

__all__ = [
    "ReadFilter",
    "ReadSource",
    "Record",
    "ReferenceSource",
    "Region",
    "VcfHeader",
    "VcfSource",
    "parse_region",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ReadFilter": ".reads",
        "ReadSource": ".reads",
        "Record": ".vcf",
        "ReferenceSource": ".reference",
        "Region": ".regions",
        "VcfHeader": ".vcf",
        "VcfSource": ".vcf",
        "parse_region": ".regions",
    },
)
