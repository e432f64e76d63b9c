"""``cnnspark show``: an allele's tensor as a picture, from a callset or a dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnspark.common.log import listed
from cnnspark.common.storage import local_folder
from cnnspark.errors import InputError, UsageError
from cnnspark.formats.callset import copy_callset, needs_copy, open_callset, require_file
from cnnspark.formats.reads import open_reads
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region
from cnnspark.reports.allele.position import (
    alts_of,
    choose_alt,
    contigs_hint,
    nearest_hint,
    nothing_there,
    parse_position,
)
from cnnspark.reports.allele.tensor_picture import draw_allele, record_facts
from cnnspark.stages.preflight import check_reads, choose_sample
from cnnspark.tensors.builder import build_tensors
from cnnspark.tensors.dataset import Dataset
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import FURTHEST
from cnnspark.variants.alleles import unscorable_reason
from cnnspark.variants.annotations import AnnotationReader, default_annotations
from cnnspark.variants.carriers import column_of, starts_of

_LABELS = {1: "true", 0: "false", -1: "unlabelled"}


def show(
    vcf: str,
    reads: str,
    reference: str,
    at: str,
    alt: str | None,
    out: str,
    sample: str | None = None,
    settings: TensorSettings | None = None,
) -> dict[str, Any]:
    """Draws the tensor of an allele of a callset, and returns what the picture shows.

    Args:
        vcf: .vcf.gz with index, .vcf or .bcf.
        reads: indexed BAM or CRAM.
        reference: indexed FASTA.
        at: the record's position, ``chr20:10000117`` (1-based).
        alt: which ALT; None takes the first that can be scored.
        out: the picture to write, PNG.
        sample: the callset's sample that the reads belong to.
        settings: how tensors are built.

    Raises:
        UsageError: the position or the ALT cannot be drawn.
        InputError: the callset has nothing there, or the inputs do not fit together.
    """
    _check_out(out)
    require_file(vcf, "callset")
    require_file(reference, "reference")
    with tempfile.TemporaryDirectory(prefix="cnnspark-show-") as folder:
        readable = vcf
        if needs_copy(vcf):
            readable = str(Path(folder) / "callset.vcf.gz")
            copy_callset(vcf, Path(readable))
        with open_callset(readable, vcf) as source, open_reads(reads, reference) as read_source:
            source.path = vcf
            genome = ReferenceSource(reference)
            check_reads(read_source, genome)
            contig, start = parse_position(at, [*source.contigs, *genome.lengths])
            records = list(source.records(Region(contig, start, start + 1)))
            if not records:
                raise InputError(nothing_there(source, contig, start))
            record, index = choose_alt(records, alt, at)
            if source.header.samples:
                sample = choose_sample(source, read_source, sample, [])
            else:
                sample = sample or (read_source.samples[0] if read_source.samples else "")
            several = len(source.header.samples) > 1
            around = source.lines(Region(contig, start, start + 1).padded(FURTHEST))
            batch, _ = build_tensors(
                [record],
                read_source,
                genome,
                settings or TensorSettings(),
                AnnotationReader(source.header, default_annotations(source.header, several), several),
                sample,
                starts_of(around, column_of(source.header.samples, sample)),
            )
            genome.close()
    numbers = [key.alt_index for key in batch.keys]
    if index not in numbers:
        raise InputError(f"the record at {at} has a REF that {reference} does not have there; give its own reference")
    facts = record_facts(sample, record)
    return draw_allele(batch, numbers.index(index), out, facts, alts_of(records), {"sample": sample})


def show_from_dataset(data: str, at: str, alt: str | None, out: str) -> dict[str, Any]:
    """Draws the tensor of an allele of a tensor dataset (the ``--out`` of ``cnnspark tensors``).

    Args:
        data: the dataset's folder.
        at: as for :func:`show`.
        alt: as for :func:`show`.
        out: the picture to write, PNG.

    Raises:
        UsageError: the position or the ALT cannot be drawn.
        InputError: the dataset does not have it.
    """
    _check_out(out)
    dataset = Dataset(data)
    contigs = list(dict.fromkeys(block["contig"] for block in dataset.blocks))
    contig, start = parse_position(at, contigs)
    if contig not in contigs:
        raise InputError(f"{data} holds no tensor on '{contig}'{contigs_hint(contig, contigs)}")
    chosen = [
        block["block"]
        for block in dataset.blocks
        if block["contig"] == contig and block["first_start"] <= start <= block["last_start"]
    ]
    nearest: list[int] = []
    for tensors, values in dataset.tensors(chosen) if chosen else ():
        found = np.flatnonzero(values["start"] == start)
        if not len(found):
            nearest += values["start"].tolist()
            continue
        # The alleles of a record can stand on both sides of a row group's end.
        alts = [str(a) for a in values["alt"][found]]
        wanted = [i for i, a in zip(found, alts, strict=True) if alt is None or a.upper() == alt.upper()]
        if wanted:
            i = int(wanted[0])
            sample = str(values["sample"][i])
            label = _LABELS[int(values["label"][i])]
            return draw_allele(tensors, i, out, [sample, label], alts, {"sample": sample, "label": label})
        raise UsageError(f"{at} has the ALT {listed(alts)} in {data}, not {alt}; choose one of these with --alt")
    raise InputError(
        f"{data} holds no tensor at {at}{nearest_hint(nearest, start)}; check --at (alleles without a label and such "
        "that cannot be scored have none)"
    )


def summary(result: Mapping[str, Any]) -> str:
    """The result of :func:`show` or :func:`show_from_dataset` in one line."""
    support = result["support"]
    others = [alt for alt in result["alts"] if alt != result["alt"] and unscorable_reason(result["ref"], alt) is None]
    return (
        f"{result['contig']}:{result['pos']} {result['ref'][:40]}>{result['alt'][:40]}: of {result['reads']} reads "
        f"{support['alt']} support it, {support['ref']} REF, {support['other_alt']} another ALT, {support['neither']} "
        f"neither: {result['out']}" + (f" (also there: --alt {listed(others)})" if others else "")
    )


def _check_out(out: str) -> None:
    if not out.lower().endswith(".png"):
        raise UsageError(f"{out} must end in .png; the picture is written as PNG")
    check_folder_of(out)


def check_folder_of(out: str) -> None:
    """Checks that the folder of the file ``out`` exists.

    Raises:
        UsageError: it does not.
    """
    if not local_folder(out).parent.is_dir():
        raise UsageError(f"the folder of {out} does not exist; make it or choose another --out")
