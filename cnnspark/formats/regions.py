"""Regions of the genome, and the rule for which region a record belongs to.

Coordinates are 0-based and half-open everywhere in cnnspark; text (VCF positions, ``chr:from-to``) is 1-based and
inclusive and is converted here and in :mod:`cnnspark.formats.vcf`, nowhere else.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnspark.errors import InputError, UsageError
from cnnspark.formats.htslib import open_lines

# Behind the last position that a VCF can name (2**31 - 1): "to the end of the contig, whatever its length".
END_OF_CONTIG = 2**31 - 1
# A TBI index holds positions up to 2**29; longer contigs need CSI (tabix specification).
TBI_MAX_BASES = 2**29


@dataclass(frozen=True, order=True)
class Region:
    """A stretch of one contig: 0-based, half-open ``[start, end)``."""

    contig: str
    start: int = 0
    end: int = END_OF_CONTIG

    def owns(self, start: int) -> bool:
        """Whether a record belongs to this region: its first REF base, at ``start`` (POS-1), is inside.

        This is the only rule of ownership, so regions that tile a contig own each of its records exactly once, however
        long the record is. POS 0 (a telomere, VCF 4.3 section 1.6.1) counts as the first base.
        """
        return self.start <= max(start, 0) < self.end

    def padded(self, bases: int) -> Region:
        """The region with ``bases`` more on each side, cut at the contig's first base."""
        return Region(self.contig, max(0, self.start - bases), min(END_OF_CONTIG, self.end + bases))

    def __str__(self) -> str:
        if self.end >= END_OF_CONTIG:
            return self.contig if self.start == 0 else f"{self.contig}:{self.start + 1}-"
        return f"{self.contig}:{self.start + 1}-{self.end}"


def parse_region(text: str, contigs: Iterable[str] = ()) -> Region:
    """Reads a region as samtools does: ``chr20``, ``chr20:1,000``, ``chr20:1000-`` or ``chr20:1,000-2,000``.

    Args:
        text: 1-based and inclusive; without an end the region reaches to the end of the contig.
        contigs: the known names: one that itself holds a colon (HLA contigs) is taken as a whole.

    Raises:
        UsageError: if the text is not a region, or the region is empty.
    """
    if text in set(contigs):
        return Region(text)
    match = re.fullmatch(r"(?P<contig>[^:].*?)(?::(?P<start>[\d,]+)(?P<dash>-(?P<end>[\d,]*))?)?", text.strip())
    if not match or not match["contig"]:
        raise UsageError(f"'{text}' is not a region; write it as chr20 or chr20:1,000-2,000")
    if match["start"] is None:
        return Region(match["contig"])
    start = int(match["start"].replace(",", "")) - 1
    end = int(match["end"].replace(",", "")) if match["end"] else END_OF_CONTIG
    if start < 0 or end <= start:
        raise UsageError(f"region '{text}' is empty; positions count from 1 and the end must not precede the start")
    return Region(match["contig"], start, end)


def read_bed(path: str) -> list[Region]:
    """The intervals of a BED file, merged and sorted; comment, ``track`` and ``browser`` lines are skipped.

    Raises:
        InputError: if the file cannot be read, naming the first line that is not BED.
    """
    regions = []
    try:
        with open_lines(path) as lines:
            for number, line in enumerate(lines, 1):
                fields = line.split()
                if not fields or line.startswith(("#", "track", "browser")):
                    continue
                try:
                    region = Region(fields[0], int(fields[1]), int(fields[2]))
                except (IndexError, ValueError):
                    raise InputError(f"{path} line {number} is not BED; a line needs contig, start, end") from None
                if region.start < 0 or region.end < region.start:
                    raise InputError(f"{path} line {number} ends before it starts; BED is 0-based and half-open")
                if region.end > region.start:
                    regions.append(region)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file; give an uncompressed BED file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None
    return merge_regions(regions)


class RegionSet:
    """Finds out quickly whether regions cover a position."""

    def __init__(self, regions: Iterable[Region]):
        """``regions`` must be disjoint and sorted, as :func:`read_bed` returns them."""
        self._starts: dict[str, list[int]] = defaultdict(list)
        self._ends: dict[str, list[int]] = defaultdict(list)
        for region in regions:
            self._starts[region.contig].append(region.start)
            self._ends[region.contig].append(region.end)

    @property
    def contigs(self) -> set[str]:
        """The contigs that hold a region."""
        return set(self._starts)

    def covers(self, contig: str, start: int, end: int) -> bool:
        """Whether one region holds all of [start, end), or the base at ``start`` if that is empty."""
        starts = self._starts.get(contig, ())
        i = bisect_right(starts, start) - 1
        return i >= 0 and max(end, start + 1) <= self._ends[contig][i]


def merge_regions(regions: Iterable[Region]) -> list[Region]:
    """Merges regions that overlap or touch; contigs in the order in which they first appear, positions ascending."""
    order: dict[str, list[Region]] = {}
    for region in regions:
        order.setdefault(region.contig, []).append(region)
    merged: list[Region] = []
    for contig, members in order.items():
        start, end = None, 0
        for region in sorted(members):
            if start is not None and region.start <= end:
                end = max(end, region.end)
                continue
            if start is not None:
                merged.append(Region(contig, start, end))
            start, end = region.start, region.end
        if start is not None:
            merged.append(Region(contig, start, end))
    return merged


def in_order(regions: Iterable[Region], contigs: Iterable[str]) -> list[Region]:
    """The same bases as disjoint regions, in the order of the contigs and by position; other contigs are left out."""
    order = {contig: i for i, contig in enumerate(contigs)}
    inside = [region for region in merge_regions(regions) if region.contig in order]
    return sorted(inside, key=lambda region: (order[region.contig], region.start))


def clip_to_contigs(regions: Sequence[Region], lengths: Mapping[str, int]) -> list[Region]:
    """Cuts the regions at the ends of their contigs, if ``lengths`` (in bases) has the contig."""
    return [Region(r.contig, r.start, min(r.end, lengths.get(r.contig, r.end))) for r in regions]
