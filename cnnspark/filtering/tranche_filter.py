"""FILTER by tranches, in two passes over a callset's blocks: scores of the records that resources know, then FILTER.

The rules are in :mod:`cnnspark.filtering.tranches`. FilterVariantTranches ends with an error if a type cannot be
filtered or a REF conflicts with a resource; here the type is left unfiltered and the record skipped, with a warning.
``strict`` brings the errors back.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnspark.errors import InputError
from cnnspark.execution.blocks import Block
from cnnspark.execution.shards import BlockLines, BlockOutput
from cnnspark.filtering.record_filter import FILTERED, NOT_SCORED, PASSED, count_filters
from cnnspark.filtering.score_distribution import ScoreCounts
from cnnspark.filtering.thresholds import record_score
from cnnspark.filtering.tranches import (
    INDEL,
    SNP,
    TYPES,
    Alleles,
    Tranches,
    band,
    bands,
    cutoffs,
    filter_id,
    filter_lines,
    look_up,
    record_type,
)
from cnnspark.formats.callset import needs_copy, open_callset, require_file
from cnnspark.formats.contigs import other_spelling
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfHeader, VcfSource, lines_of

# Conflicts whose place is said; of a resource of another build there are millions.
NAMED_CONFLICTS = 5


def open_resource(path: str, contigs: Sequence[str], callset: str) -> tuple[VcfSource, list[str]]:
    """Opens a resource; returns it with warnings.

    Raises:
        InputError: it cannot be read by region, or only the ``chr`` prefix of its contigs differs from the callset's.
    """
    require_file(path, "resource")
    if needs_copy(path):
        raise InputError(
            f"resource {path} is no bgzipped VCF; write one with 'bcftools view -Oz' and index it with 'tabix -p vcf'"
        )
    source = open_callset(path)
    there = set(source.contigs)
    if there.intersection(contigs):
        return source, []
    for contig in contigs:
        other = other_spelling(contig)
        if other in there:
            raise InputError(
                f"resource {path} says '{other}' where {callset} says '{contig}'; rename with 'bcftools annotate "
                "--rename-chrs' or give the resource of the callset's build"
            )
    return source, [f"resource {path} has no record on the callset's contigs"]


@dataclass(frozen=True)
class FirstPass:
    """What the first pass found in some blocks, by type."""

    scored: Mapping[str, int] = field(default_factory=dict)  # records with the key: SNP, INDEL, OTHER
    known: Mapping[str, ScoreCounts] = field(default_factory=dict)  # scores of those the resources have: SNP, INDEL
    conflicts: int = 0
    first_conflicts: tuple[tuple[int, str], ...] = ()  # (number of the record, what is said), the first few

    @staticmethod
    def merged(parts: Iterable[FirstPass]) -> FirstPass:
        """The findings in all parts; their order does not matter."""
        every = list(parts)
        return FirstPass(
            scored=sum((Counter(part.scored) for part in every), Counter()),
            known={kind: ScoreCounts.merged([p.known[kind] for p in every if kind in p.known]) for kind in TYPES},
            conflicts=sum(part.conflicts for part in every),
            first_conflicts=tuple(sorted(c for part in every for c in part.first_conflicts)[:NAMED_CONFLICTS]),
        )


def first_pass(block: Block, vcf: VcfSource, resources: Sequence[VcfSource], key: str) -> FirstPass:
    """The scores of the block's records that a resource has, each once."""
    scored: Counter[str] = Counter()
    scores: dict[str, list[float]] = {SNP: [], INDEL: []}
    conflicts = 0
    first_conflicts: list[tuple[int, str]] = []
    records = []
    for record in block.read(vcf):
        score = record_score(record, key)
        if score is not None:
            records.append((record, score))
    starts: dict[str, set[int]] = defaultdict(set)
    for record, _ in records:
        starts[record.contig].add(record.start)
    known_of = {contig: known_alleles(resources, contig, of_contig) for contig, of_contig in starts.items()}
    for record, score in records:
        kind = record_type(record.ref, record.alts)
        scored[kind] += 1
        found, odd = look_up(record.ref, record.alts, known_of[record.contig].get(record.start, ()))
        if found:
            scores[SNP if kind == SNP else INDEL].append(score)
        conflicts += len(odd)
        for conflict in odd[: NAMED_CONFLICTS - len(first_conflicts)]:
            first_conflicts.append((record.index, f"{record.contig}:{record.start + 1} {conflict}"))
    return FirstPass(
        scored, {kind: ScoreCounts.of(found) for kind, found in scores.items()}, conflicts, tuple(first_conflicts)
    )


def known_alleles(resources: Sequence[VcfSource], contig: str, starts: set[int]) -> dict[int, list[Alleles]]:
    """The resources' records at these positions (POS-1), the first resource's first."""
    found: dict[int, list[Alleles]] = defaultdict(list)
    if not starts:
        return found
    # No more of a dense resource than lies between the callset's records.
    region = Region(contig, max(min(starts), 0), max(max(starts), 0) + 1)
    for source in resources:
        for line in source.lines(region):
            columns = line.split("\t", 5)
            if len(columns) < 6:
                raise InputError(f"{source.path} has a line of too few columns: '{line[:60]}'; repair the file")
            start = int(columns[1]) - 1
            if start in starts:
                alts = () if columns[4] in (".", "") else tuple(columns[4].split(","))
                found[start].append(Alleles(columns[3], alts))
    return found


@dataclass(frozen=True)
class TrancheFilter:
    """Filters SNPs and indels whose score does not exceed the first cutoff of their type (a :class:`RecordFilter`)."""

    key: str
    tranches: Tranches
    cutoffs: Mapping[str, tuple[float, ...] | None]  # by SNP and INDEL, descending; None: the type is left as it is
    found: FirstPass
    keep_filters: bool = True

    def filter_of(self, kind: str, score: float | None) -> str | None:
        """The FILTER of a record of this type and score, or None if it passes or cannot be judged."""
        at = self.cutoffs.get(kind)
        if score is None or at is None:
            return None
        number = band(score, at)
        return None if number is None else filter_id(self.key, kind, bands(self.tranches.of(kind))[number])

    def header(self, header: VcfHeader) -> VcfHeader:
        """The header with FilterVariantTranches' lines, and a line for each cutoff."""
        said = [
            f"##cnnspark_tranche=<ID={each['filter']},Key={self.key},Group={kind},Tranche={each['tranche']:g},"
            f"Cutoff={each['cutoff']},Known={found['known']}>"
            for kind, found in self._types().items()
            for each in found["tranches"]
        ]
        # Those of an earlier filter with the same tranches.
        old = [line.partition(",")[0] + "," for line in said]
        kept = header.without_lines(old if self.keep_filters else [*old, "##FILTER=", "##cnnspark_tranche="])
        return kept.with_lines([*filter_lines(self.key, self.tranches), *said])

    def facts(self) -> dict[str, Any]:
        """What is decided, as plain values. A cutoff that is infinite is text: JSON has no such number."""
        return {
            "kind": "tranches",
            "key": self.key,
            "types": self._types(),
            "other_scored": self.found.scored.get("OTHER", 0),
            "conflicts": {"count": self.found.conflicts, "first": [text for _, text in self.found.first_conflicts]},
        }

    def _types(self) -> dict[str, dict[str, Any]]:
        types = {}
        for kind in TYPES:
            at = self.cutoffs.get(kind)
            tranches = self.tranches.of(kind)
            types[kind] = {
                "scored": self.found.scored.get(kind, 0),
                "known": self.found.known[kind].total,
                "tranches": [
                    {
                        "tranche": ends[0],
                        "cutoff": cutoff if math.isfinite(cutoff) else str(cutoff),
                        "filter": filter_id(self.key, kind, ends),
                    }
                    for ends, cutoff in zip(bands(tranches), at or (), strict=False)
                ],
            }
        return types

    def work(self, vcf: str) -> BlockLines:
        """What a task of the second pass does with each block: its lines with FILTER set, and counts."""
        source = VcfSource(vcf)

        def work(block: Block) -> BlockOutput:
            counts: Counter[str] = Counter()
            records = list(block.read(source))
            for record in records:
                kind, score = record_type(record.ref, record.alts), record_score(record, self.key)
                name = self.filter_of(kind, score)
                if score is None:
                    counts[NOT_SCORED] += 1
                else:
                    counts[FILTERED if name else PASSED] += 1
                kept = [f for f in record.filter.split(";") if self.keep_filters and f not in (".", "PASS", "")]
                record.filter = ";".join(kept if name is None or name in kept else [*kept, name]) or "PASS"
                count_filters(counts, kind, record)
            return BlockOutput(lines_of(records), counts)

        return work


def decide_tranches(
    found: FirstPass, key: str, tranches: Tranches, keep_filters: bool = True, strict: bool = False
) -> tuple[TrancheFilter, list[str]]:
    """The cutoffs that follow from the first pass, and warnings.

    Raises:
        InputError: no record has the key, or the resources know none of the callset's alleles; with ``strict``,
            whenever FilterVariantTranches ends with an error.
    """
    warnings = []
    scored, known = found.scored, {kind: scores.total for kind, scores in found.known.items()}
    if found.conflicts:
        first = ", ".join(text for _, text in found.first_conflicts)
        if strict:
            raise InputError(
                f"inconsistent references for the same position(s): {first}; give resources of the callset's build, or "
                "leave --strict out to skip such records"
            )
        warnings.append(
            f"REF conflicts between callset and resources, skipped: {found.conflicts} (first: {first}); "
            "are they of one build?"
        )
    filterable = sum(scored.get(kind, 0) for kind in TYPES)
    if not (filterable if strict else sum(scored.values())):
        what = "SNP or indel" if strict else "record"
        raise InputError(f"no {what} has a value of {key}; score the callset with 'cnnspark score', or check --key")
    if not sum(known.values()):
        raise InputError(
            "the resources have none of the callset's alleles; give VCFs of known variants of the callset's build, or "
            "filter without resources by --threshold, --precision, --sensitivity or --fdr"
        )
    for kind, name, flag in ((SNP, "SNPs", "snp"), (INDEL, "indels", "indel")):
        if scored.get(kind, 0) and not known[kind]:
            what = f"the resources have none of the callset's {scored[kind]} {name}"
            if strict:
                raise InputError(f"{what}; add a --resource that has, or leave --strict out to leave them unfiltered")
            warnings.append(f"{what}; they are left unfiltered (a --resource with {name} would set --{flag}-tranche)")
    if not filterable:
        warnings.append(f"no SNP or indel has a value of {key}, and nothing else is ever filtered by tranches")
    at = {kind: cutoffs(found.known[kind], tranches.of(kind)) for kind in TYPES}
    return TrancheFilter(key, tranches, at, found, keep_filters), warnings
