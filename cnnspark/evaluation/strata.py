"""The strata of an allele: by type, length, depth, allele fraction, repeats of the reference, and regions.

A score that is good on average may be poor where it matters: in homopolymers, at low depth, in long deletions. Each
way to divide alleles is a dimension. Its strata are numbered, and tasks send the numbers (a byte for each allele and
dimension) to the driver. :mod:`cnnspark.evaluation.metrics_by_stratum` measures them.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cnnspark.common.storage import file_identity
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.contigs import require_shared_contig
from cnnspark.formats.reference import ReferenceSource, encode_bases
from cnnspark.formats.regions import RegionSet, read_bed
from cnnspark.formats.vcf import Record, VcfHeader
from cnnspark.variants.allele_depth import SampleCounts
from cnnspark.variants.alleles import VariantType, is_transition, trim
from cnnspark.variants.haplotypes import ReferenceWindow
from cnnspark.variants.repeats import MARGIN_BASES, homopolymer_run, is_low_complexity

IN_NONE = -1  # an allele that is in no stratum of a dimension


@dataclass(frozen=True)
class Dimension:
    """A way to divide alleles. ``strata[k]`` is the name of the stratum with number k."""

    name: str
    strata: tuple[str, ...]
    description: str


# Numbered like VariantType, so that AlleleScores need no further column.
TYPE = Dimension("type", tuple(kind.name for kind in sorted(VariantType)), "what the allele is")
SUBSTITUTION = Dimension("substitution", ("transition", "transversion"), "SNVs by A<->G, C<->T or another")
# Bases lost or gained: hap.py's bins (up to 5, up to 15, more) with the first and the last one divided.
_LENGTH_BOUNDS = (1, 2, 6, 16, 51)  # lowest length of each bin
_LENGTH_NAMES = ("1", "2-5", "6-15", "16-50", "51+")
INDEL_LENGTH = Dimension(
    "indel length",
    (*(f"deletion {name}" for name in reversed(_LENGTH_NAMES)), *(f"insertion {name}" for name in _LENGTH_NAMES)),
    "bases that the allele takes away or adds, of MIXED alleles in sum",
)
_DEPTH_BOUNDS = (0, 10, 20, 30, 50, 100)
DEPTH = Dimension("depth", ("0-9", "10-19", "20-29", "30-49", "50-99", "100+"), "reads of the sample at the site")
_FRACTION_BOUNDS = (0.0, 0.1, 0.2, 0.35, 0.65, 0.9)
ALLELE_FRACTION = Dimension(
    "allele fraction",
    ("under .10", ".10-.20", ".20-.35", ".35-.65", ".65-.90", ".90 and over"),
    "share of the sample's reads that carry the allele; about .5 is heterozygous, about 1 homozygous",
)
# GIAB's homopolymer stratifications begin at 4, 7 and 12 bases and have one over 20.
_RUN_BOUNDS = (0, 4, 7, 12, 21)
HOMOPOLYMER = Dimension(
    "homopolymer", ("under 4", "4-6", "7-11", "12-20", "21+"), "longest run of one base at the allele, in the reference"
)
LOW_COMPLEXITY = Dimension("low complexity", ("no", "yes"), "whether symmetric DUST masks the site in the reference")
_OF_THE_REFERENCE = (HOMOPOLYMER, LOW_COMPLEXITY)
_OF_THE_CALL = (SUBSTITUTION, INDEL_LENGTH, DEPTH, ALLELE_FRACTION)


@dataclass(frozen=True)
class RegionFile:
    """A BED file whose bases are a stratum."""

    name: str
    path: str

    @property
    def dimension(self) -> Dimension:
        """The dimension of this file, with the strata outside and inside."""
        return Dimension(f"region {self.name}", ("outside", "inside"), "whether the changed bases lie in the BED")


def parse_region_files(texts: Sequence[str]) -> list[RegionFile]:
    """Region files from texts like ``name=path``, as --stratify takes them.

    Raises:
        UsageError: If a text has another form, or a name comes twice.
    """
    files: list[RegionFile] = []
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or not path or not re.fullmatch(r"[\w.+-]{1,40}", name):
            raise UsageError(
                f"--stratify '{text}' is not name=bed; write e.g. --stratify exome=exome.bed, the name of letters, "
                "digits, '.', '_', '+' and '-'"
            )
        if any(name == other.name for other in files):
            raise UsageError(f"--stratify names '{name}' twice; give each BED a name of its own")
        files.append(RegionFile(name, path))
    return files


def check_region_files(files: Sequence[RegionFile], contigs: Collection[str], callset: str) -> None:
    """Checks that each BED file fits the callset.

    Args:
        files: The BED files.
        contigs: The callset's contigs.
        callset: What messages call the callset.

    Raises:
        InputError: If a BED cannot be read, has no interval, or has no contig in common with the callset.
    """
    for file in files:
        there = RegionSet(read_bed(file.path)).contigs
        if not there:
            raise InputError(f"{file.path} has no interval; give a BED with some, or leave --stratify {file.name} out")
        require_shared_contig(file.path, there, callset, contigs)


def _read_regions(path: str) -> RegionSet:
    return _regions(path, json.dumps(file_identity(path), sort_keys=True))


@lru_cache(maxsize=16)
def _regions(path: str, identity: str) -> RegionSet:
    """The regions of a BED, read once per Python worker as long as the file's ``identity`` stays the same."""
    return RegionSet(read_bed(path))


def dimensions(with_reference: bool, files: Sequence[RegionFile] = ()) -> list[Dimension]:
    """All dimensions except TYPE, in the order of the tables; some need the reference."""
    return [*_OF_THE_CALL, *(_OF_THE_REFERENCE if with_reference else ()), *(file.dimension for file in files)]


class StratumReader:
    """Gives each allele its strata. Create it inside the task: it reads files."""

    def __init__(
        self,
        header: VcfHeader,
        reference: ReferenceSource | None,
        files: Sequence[RegionFile] = (),
        sample: int | None = 0,
    ):
        """Prepares to read records.

        Args:
            header: The callset's.
            reference: For the strata of repeats; None leaves these dimensions out.
            files: BED files, a dimension each.
            sample: The number of the column that depth and allele fraction come from; None if it is not clear which.
        """
        self.dimensions = dimensions(reference is not None, files)
        self._counts = SampleCounts(header, sample)
        self._reference = reference
        self._regions = {file.dimension.name: _read_regions(file.path) for file in files}
        self._window: tuple[str, ReferenceWindow] | None = None

    def codes(self, record: Record, alt_index: int) -> dict[str, int]:
        """The number of an ALT's stratum in each dimension, by the dimension's name; IN_NONE if it is in none.

        Args:
            record: Of the callset.
            alt_index: The number of the ALT, from 1.
        """
        offset, ref, alt = trim(record.ref.upper(), record.alts[alt_index - 1].upper())
        start = record.start + offset
        depth, fraction = self._counts.of(record, alt_index)
        codes = {
            SUBSTITUTION.name: substitution_code(ref, alt),
            INDEL_LENGTH.name: length_code(len(alt) - len(ref)),
            DEPTH.name: bin_of(depth, _DEPTH_BOUNDS),
            ALLELE_FRACTION.name: bin_of(fraction, _FRACTION_BOUNDS),
        }
        if self._reference is not None:
            codes |= self._repeats(record.contig, start, start + len(ref))
        for name, regions in self._regions.items():
            codes[name] = int(regions.covers(record.contig, start, start + len(ref)))
        return codes

    def _repeats(self, contig: str, start: int, end: int) -> Mapping[str, int]:
        assert self._reference is not None
        if contig not in self._reference.lengths:
            return dict.fromkeys((HOMOPOLYMER.name, LOW_COMPLEXITY.name), IN_NONE)
        if self._window is None or self._window[0] != contig:
            self._window = contig, ReferenceWindow(self._reference, contig)
        begin = max(0, start - MARGIN_BASES)
        codes = encode_bases(self._window[1](begin, end + MARGIN_BASES))
        if end - begin > len(codes):  # beyond the contig's end
            return dict.fromkeys((HOMOPOLYMER.name, LOW_COMPLEXITY.name), IN_NONE)
        run = homopolymer_run(codes, start - begin, end - begin)
        low = is_low_complexity(codes, start - begin, end - begin)
        return {HOMOPOLYMER.name: bin_of(run, _RUN_BOUNDS), LOW_COMPLEXITY.name: int(low)}


def bin_of(value: float, bounds: Sequence[float]) -> int:
    """The number of the bin, each from its bound up to the next; IN_NONE for NaN and below the first bound."""
    return IN_NONE if math.isnan(value) else bisect_right(bounds, value) - 1


def length_code(gained: int) -> int:
    """The stratum of INDEL_LENGTH for an allele that is ``gained`` bases longer than REF (negative: shorter)."""
    if gained == 0:
        return IN_NONE
    size = bisect_right(_LENGTH_BOUNDS, abs(gained)) - 1
    return len(_LENGTH_NAMES) + size if gained > 0 else len(_LENGTH_NAMES) - 1 - size


def substitution_code(ref: str, alt: str) -> int:
    """The stratum of SUBSTITUTION for a trimmed allele: 0 transition, 1 transversion, IN_NONE if not an SNV."""
    if len(ref) != 1 or len(alt) != 1 or ref not in "ACGT" or alt not in "ACGT":
        return IN_NONE
    return 0 if is_transition(ref, alt) else 1
