"""What a callset is made of, before and after its FILTER: kinds of alleles, Ti/Tv, heterozygous and homozygous calls.

This needs no truth, so it covers all records, not only those inside confident regions. A human genome has about
2.0-2.1 times as many transitions as transversions (about 3 in exomes; DePristo et al. 2011, doi:10.1038/ng.806), random
errors have .5: a filter that removes errors brings the ratio closer to that of its region.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from cnnspark.common.text_tables import Value, format_rows
from cnnspark.evaluation.strata import substitution_code
from cnnspark.formats.vcf import Record
from cnnspark.variants.alleles import trim, unscorable_reason, variant_type

BEFORE, AFTER = "before", "after"
_PASSING = ("PASS", ".", "")
# Rows of the table: name -> the kinds of alleles that it counts.
_KINDS = {"SNV": ("SNV",), "MNV": ("MNV",), "indels": ("INSERTION", "DELETION", "MIXED")}
# The counts, in the order of the table.
_COUNTS = ("records", "alleles", "SNV", "MNV", "INSERTION", "DELETION", "MIXED", "other", "transition", "transversion",
           "heterozygous", "homozygous")  # fmt: skip


def passes(record: Record) -> bool:
    """Whether a record passes its FILTER: PASS, or no FILTER was set."""
    return record.filter in _PASSING


def composition(records: Sequence[Record], sample: int | None = 0) -> Counter[str]:
    """Counts of records, alleles and genotypes before and after FILTER.

    Genotypes are counted per record: heterozygous if two of the called alleles differ, homozygous if all are the same
    ALT.

    Args:
        records: Part of a callset. Counts of parts add up to those of the whole.
        sample: The number of the sample's column whose genotypes are counted; None counts no genotypes.

    Returns:
        Counts under keys like ``before SNV`` (all records) and ``after SNV`` (those that pass).
    """
    counts: Counter[str] = Counter()
    for record in records:
        found = ["records", *_of_genotype(record, sample)]
        for alt in record.alts:
            found.append("alleles")
            if unscorable_reason(record.ref, alt) is not None:
                found.append("other")
                continue
            found.append(variant_type(record.ref, alt).name)
            _, ref, short = trim(record.ref.upper(), alt.upper())
            code = substitution_code(ref, short)
            if code >= 0:
                found.append(("transition", "transversion")[code])
        for name in found:
            counts[f"{BEFORE} {name}"] += 1
            if passes(record):
                counts[f"{AFTER} {name}"] += 1
    return counts


def _of_genotype(record: Record, sample: int | None) -> list[str]:
    if sample is None or record.rest is None:
        return []
    called = record.format_values(sample).get("GT", "").replace("|", "/").strip("/").split("/")
    if not set(called) - {"0", ".", ""} or "." in called:
        return []
    if len(called) < 2:
        return []  # a haploid call is neither
    return ["heterozygous" if len(set(called)) > 1 else "homozygous"]


def composition_summary(counts: Mapping[str, int]) -> dict[str, dict[str, Value]]:
    """The counts and ratios by ``before`` and ``after``, ready for JSON; a ratio over 0 is None."""
    summary: dict[str, dict[str, Value]] = {}
    for when in (BEFORE, AFTER):
        values: dict[str, Value] = {name.lower(): counts.get(f"{when} {name}", 0) for name in _COUNTS}

        def ratio(over: str, under: str, when: str = when) -> float | None:
            below = counts.get(f"{when} {under}", 0)
            return counts.get(f"{when} {over}", 0) / below if below else None

        values["indels"] = sum(counts.get(f"{when} {kind}", 0) for kind in _KINDS["indels"])
        values["ti_tv"] = ratio("transition", "transversion")
        values["het_hom"] = ratio("heterozygous", "homozygous")
        values["insertion_deletion"] = ratio("INSERTION", "DELETION")
        summary[when] = values
    return summary


# Rows of the table: heading -> the value's name.
SHOWN = {
    "records": "records",
    "SNV alleles": "snv",
    "MNV alleles": "mnv",
    "indel alleles": "indels",
    "insertions": "insertion",
    "deletions": "deletion",
    "Ti/Tv": "ti_tv",
    "het/hom": "het_hom",
    "insertions/deletions": "insertion_deletion",
}


def format_composition(summary: Mapping[str, Mapping[str, Value]]) -> str:
    """The summary as a plain-text table."""
    rows = [[name, *(summary[when][key] for when in (BEFORE, AFTER))] for name, key in SHOWN.items()]
    return "All records, before and after FILTER\n" + format_rows([["", "all", "passing"], *rows])
