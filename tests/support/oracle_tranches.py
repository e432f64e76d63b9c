"""FilterVariantTranches once more, slow and plain, from its description alone: whole files as lists of lines.

Nothing of the package is used, so that a mistake would have to be made twice.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass


class TranchesError(Exception):
    """One of the errors that the tool ends with."""


@dataclass
class Line:
    contig: str
    pos: int
    ref: str
    alts: list[str]
    filters: list[str]
    score: float | None

    def kind(self) -> str:
        """By the lengths of the alleles; the same for all ALTs, or it is mixed."""
        kinds = []
        for alt in self.alts:
            if alt.startswith("<") or "[" in alt or "]" in alt:
                kinds.append("symbolic")
            elif len(alt) != len(self.ref):
                kinds.append("INDEL")
            elif len(alt) == 1:
                kinds.append("SNP")
            else:
                kinds.append("MNP")
        if not kinds:
            return "none"
        for kind in kinds:
            if kind != kinds[0]:
                return "mixed"
        return kinds[0]


def parse(line: str, key: str) -> Line:
    contig, pos, _, ref, alt, qual, filters, info = line.split("\t")[:8]
    score = None
    if key == "QUAL":
        score = None if qual == "." else float(qual)
    for item in info.split(";"):
        if item.startswith(key + "="):
            score = None if item == key + "=." else float(item[len(key) + 1 :])
    return Line(
        contig, int(pos), ref, [] if alt == "." else alt.split(","),
        [] if filters in (".", "PASS") else filters.split(";"), score,
    )  # fmt: skip


def in_list(ref1: str, alt1: str, ref2: str, alts2: list[str]) -> bool:
    if ref1 == ref2:
        return alt1 in alts2
    if len(ref1) == len(ref2):
        raise TranchesError("inconsistent references for the same position(s)")
    if len(ref1) > len(ref2):
        suffix = ref1[len(ref2) :]
        longer = []
        for alt in alts2:
            if alt == "*":
                longer.append("*")
            elif not alt.startswith("<"):
                longer.append(alt + suffix)
        return alt1 in longer
    if alt1.startswith("<"):
        return False
    suffix = "" if alt1 == "*" else ref2[len(ref1) :]
    return alt1 + suffix in alts2


def known_to(line: Line, resources: list[list[Line]], skip_conflicts: bool) -> bool:
    for resource in resources:
        for other in resource:
            if other.contig != line.contig or other.pos != line.pos:
                continue
            for alt in line.alts:
                try:
                    if in_list(line.ref, alt, other.ref, other.alts):
                        return True
                except TranchesError:
                    if not skip_conflicts:
                        raise
    return False


def tranche_filters(
    callset: list[str], resources: list[list[str]], key: str, snp: list[float], indel: list[float],
    invalidate: bool = False, strict: bool = True,
) -> tuple[list[set[str]], list[str]]:  # fmt: skip
    """The set of FILTERs of each record, and the header's lines; without ``strict`` a type that nothing is known of
    is not filtered and a conflict is no match, where the tool would end."""
    snp, indel = sorted(set(snp)), sorted(set(indel))
    lines = [parse(line, key) for line in callset]
    parsed = [[parse(line, key) for line in resource] for resource in resources]
    snp_scores, indel_scores, n_snps, n_indels = [], [], 0, 0
    for line in lines:
        if line.score is None:
            continue
        n_snps += line.kind() == "SNP"
        n_indels += line.kind() == "INDEL"
        if known_to(line, parsed, not strict):
            (snp_scores if line.kind() == "SNP" else indel_scores).append(line.score)
    if not snp_scores and not indel_scores:
        raise TranchesError("no overlap with the resources")
    if strict and (n_snps == n_indels == 0 or (n_snps and not snp_scores) or (n_indels and not indel_scores)):
        raise TranchesError("a type without scores")
    snp_scores.sort(reverse=True)
    indel_scores.sort(reverse=True)
    snp_cutoffs = [snp_scores[int((t / 100.0) * (len(snp_scores) - 1))] for t in snp] if snp_scores else []
    indel_cutoffs = [indel_scores[int((t / 100.0) * (len(indel_scores) - 1))] for t in indel] if indel_scores else []

    result = []
    for line in lines:
        filters = set() if invalidate else set(line.filters)
        for kind, tranches, cutoffs in (("SNP", snp, snp_cutoffs), ("INDEL", indel, indel_cutoffs)):
            if line.score is not None and line.kind() == kind and cutoffs and line.score <= cutoffs[0]:
                low, high = tranches[-1], 100.0
                for i in range(1, len(cutoffs)):
                    if line.score > cutoffs[i]:
                        low, high = tranches[i - 1], tranches[i]
                        break
                filters.add(f"{key}_{kind}_Tranche_{low:.2f}_{high:.2f}")
        result.append(filters or {"PASS"})
    header = []
    for kind, tranches in (("SNP", snp), ("INDEL", indel)):
        for low, high in zip(tranches, tranches[1:] + [100.0], strict=True):
            header.append(
                f'##FILTER=<ID={key}_{kind}_Tranche_{low:.2f}_{high:.2f},Description="{kind} truth resource '
                f'sensitivity between {low:.2f} and {high:.2f} for info key {key}">'
            )
    return result, header


def vcf_lines(path: str) -> list[str]:
    """The records of a compressed VCF."""
    with gzip.open(path, "rt") as lines:
        return [line.rstrip("\n") for line in lines if not line.startswith("#")]
