"""The callsets of the simulated data set with real human sequence, and how they are split into training and test."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from benchmarks.support.callsets import labelled_paths
from cnnspark.formats.vcf import Record
from cnnspark.variants.alleles import UNKNOWN
from cnnspark.variants.label_tables import read_label_table

# The part of each contig's labelled alleles that is trained on.
TRAIN_SHARE = 0.6
CALLSETS = {"freebayes": 1.0, "bcftools": None}  # the least QUAL of the alleles that are counted


def read_alleles(vcf: str | Path, labels: str | Path, min_qual: float | None) -> list[tuple[str, int, int, float]]:
    """(contig, POS, label, allele fraction) of the labelled alleles.

    The allele fraction is the share of the called alleles' reads that carry the ALT, from FORMAT/AD.
    """
    table = read_label_table(str(labels))
    found = []
    with gzip.open(vcf, "rt", encoding="latin-1") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            record = Record(line.rstrip("\n"))
            if min_qual is not None and not float(record.qual) >= min_qual:
                continue
            depths = [float(x) if x != "." else 0.0 for x in record.format_values(0).get("AD", "0").split(",")]
            for number, alt in enumerate(record.alts, 1):
                label = table.get((record.contig, record.start, record.ref, alt), UNKNOWN)
                if label != UNKNOWN:
                    share = depths[number] / max(1.0, sum(depths)) if number < len(depths) else 0.0
                    found.append((record.contig, record.start + 1, label, share))
    return found


def split_positions(alleles: list[tuple[str, int, int, float]]) -> dict[str, int]:
    """The position on each contig up to which alleles are trained on."""
    positions: dict[str, list[int]] = {}
    for contig, pos, _, _ in alleles:
        positions.setdefault(contig, []).append(pos)
    return {contig: int(np.quantile(of_contig, TRAIN_SHARE)) for contig, of_contig in positions.items()}


def parts(data: str, caller: str) -> dict[str, tuple[str, ...]]:
    """The regions to train on (``first``) and those to measure on (``rest``)."""
    given = labelled_paths(data, "sim", caller)
    cuts = split_positions(read_alleles(given["vcf"], given["labels"], CALLSETS[caller]))
    return {
        "first": tuple(f"{contig}:1-{cut}" for contig, cut in cuts.items()),
        "rest": tuple(f"{contig}:{cut + 1}-" for contig, cut in cuts.items()),
    }
