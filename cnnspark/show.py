"""One allele's tensor as a picture, found by its position: in a callset with its reads, or in a tensor dataset."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnspark.alleles import VariantType, unscorable_reason
from cnnspark.annotations import AnnotationReader, default_annotations
from cnnspark.callset import copy_callset, needs_copy, open_callset, require_file
from cnnspark.dataset import Dataset
from cnnspark.errors import InputError, UsageError
from cnnspark.features import FURTHEST
from cnnspark.files import local_folder
from cnnspark.members import column_of, starts_of
from cnnspark.picture import show_tensor
from cnnspark.preflight import check_reads, choose_sample
from cnnspark.reads import ReadSource
from cnnspark.reference import ReferenceSource
from cnnspark.regions import END_OF_CONTIG, Region, parse_region
from cnnspark.schema import NEITHER, SUPPORTS_ALT, SUPPORTS_OTHER, SUPPORTS_REF, TensorBatch
from cnnspark.tensors import TensorSettings, build_tensors
from cnnspark.vcf import Record, VcfSource

_LABELS = {1: "true", 0: "false", -1: "unlabelled"}
_SUPPORT = {"alt": SUPPORTS_ALT, "ref": SUPPORTS_REF, "other_alt": SUPPORTS_OTHER, "neither": NEITHER}


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
    """Draws the tensor of an allele of a callset to ``out`` (PNG) and says what it shows.

    Args:
        vcf: .vcf.gz with index, .vcf or .bcf.
        at: the record's position as text, ``chr20:10000117`` (1-based).
        alt: which ALT; None takes the first that can be scored.

    Raises UsageError for a position or an ALT that cannot be drawn, InputError where nothing is there or the inputs do
    not fit.
    """
    _check_out(out)
    require_file(vcf, "callset")
    require_file(reference, "reference")
    with tempfile.TemporaryDirectory(prefix="cnnspark-show-") as folder:
        readable = vcf
        if needs_copy(vcf):
            readable = str(Path(folder) / "callset.vcf.gz")
            copy_callset(vcf, Path(readable))
        with open_callset(readable) as source, ReadSource(reads, reference) as read_source:
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
    facts = [sample, *(f"{n} {v}" for n, v in (("QUAL", record.qual), ("FILTER", record.filter)) if v != ".")]
    return draw_allele(batch, numbers.index(index), out, facts, alts_of(records), {"sample": sample})


def show_from_dataset(data: str, at: str, alt: str | None, out: str) -> dict[str, Any]:
    """Draws the tensor of an allele of a tensor dataset (the ``--out`` of ``cnnspark tensors``) to ``out`` (PNG).

    ``at`` and ``alt`` as for :func:`show`. Raises UsageError for a position or an ALT that cannot be drawn, InputError
    where the dataset does not hold it.
    """
    _check_out(out)
    dataset = Dataset(data)
    contigs = list(dict.fromkeys(block["contig"] for block in dataset.blocks))
    contig, start = parse_position(at, contigs)
    if contig not in contigs:
        raise InputError(f"{data} holds no tensor on '{contig}'{_hint(contig, contigs)}")
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
        f"{data} holds no tensor at {at}{_nearest(nearest, start)}; check --at (alleles without a label and such that "
        "cannot be scored have none)"
    )


def summary(result: Mapping[str, Any]) -> str:
    """What :func:`show` or :func:`show_from_dataset` returned, in one line."""
    support = result["support"]
    others = [alt for alt in result["alts"] if alt != result["alt"] and unscorable_reason(result["ref"], alt) is None]
    return (
        f"{result['contig']}:{result['pos']} {result['ref'][:40]}>{result['alt'][:40]}: of {result['reads']} reads "
        f"{support['alt']} support it, {support['ref']} REF, {support['other_alt']} another ALT, {support['neither']} "
        f"neither: {result['out']}" + (f" (also there: --alt {listed(others)})" if others else "")
    )


def parse_position(text: str, contigs: Iterable[str]) -> tuple[str, int]:
    """``chr20:10,000,117`` (1-based) as contig and 0-based position. Raises UsageError for anything else."""
    region = parse_region(text, contigs)
    if region.end != END_OF_CONTIG and region.end != region.start + 1:
        raise UsageError(f"'{text}' is a stretch; give the position of one record, as chr20:10000117")
    if text in set(contigs) or not re.search(r":[\d,]+(-[\d,]+)?$", text.strip()):
        raise UsageError(f"'{text}' has no position; write it as chr20:10000117")
    return region.contig, region.start


def choose_alt(records: Sequence[Record], alt: str | None, at: str) -> tuple[Record, int]:
    """The record and the number (from 1) of the ALT asked for, or of the first that can be scored.

    Raises UsageError where there is no such ALT or it cannot be scored.
    """
    reasons = {}
    for record in records:
        for index, found in enumerate(record.alts, 1):
            if alt is not None and found.upper() != alt.upper():
                continue
            reason = unscorable_reason(record.ref, found)
            if reason is None:
                return record, index
            reasons[found] = reason
    if reasons:
        texts = [f"{found[:30]} ({reason})" if found != reason else found for found, reason in reasons.items()]
        raise UsageError(f"{at} has no tensor for {listed(texts)}; only ALTs that are sequences have one")
    alts = alts_of(records)
    if not alts:
        raise UsageError(f"the record at {at} has no ALT and so no tensor; choose a variant")
    raise UsageError(f"{at} has the ALT {listed(alts)}, not {alt}; choose one of these with --alt")


def alts_of(records: Sequence[Record]) -> list[str]:
    """The ALTs of the records at one position."""
    return [alt for record in records for alt in record.alts]


def listed(names: Sequence[str]) -> str:
    """Names of any number and length, in a sentence."""
    return ", ".join(name[:40] for name in names[:8]) + (" and others" if len(names) > 8 else "")


def _check_out(out: str) -> None:
    if not out.lower().endswith(".png"):
        raise UsageError(f"{out} must end in .png; the picture is written as PNG")
    check_folder_of(out)


def check_folder_of(out: str) -> None:
    """Raises UsageError where there is no folder for the file ``out``."""
    if not local_folder(out).parent.is_dir():
        raise UsageError(f"the folder of {out} does not exist; make it or choose another --out")


def _hint(contig: str, contigs: Sequence[str]) -> str:
    other = contig[3:] if contig.startswith("chr") else f"chr{contig}"
    return f"; did you mean '{other}'?" if other in contigs else f"; it has {listed(contigs) or 'no records'}"


def _nearest(starts: Iterable[int], start: int) -> str:
    """``; the nearest are at ...``, in text coordinates; empty where there are none."""
    near = sorted(sorted(set(starts), key=lambda s: (abs(s - start), s))[:3])
    return f", the nearest at {' and '.join(f'{s + 1:,}' for s in near)}" if near else ""


def nothing_there(source: VcfSource, contig: str, start: int) -> str:
    """That the callset has no record there, and where the nearest are."""
    if contig not in source.contigs:
        return f"{source.path} has no records on '{contig}'{_hint(contig, source.contigs)}"
    around = source.records(Region(contig, start, start + 1).padded(FURTHEST))
    return (
        f"{source.path} has no record at {contig}:{start + 1}{_nearest((r.start for r in around), start)}; give the "
        "POS of a record with --at"
    )


def draw_allele(
    tensors: TensorBatch, index: int, out: str, facts: Sequence[str], alts: Sequence[str], more: dict[str, Any]
) -> dict[str, Any]:
    """Draws allele ``index`` to ``out`` (PNG) and says what it shows; ``facts`` stand below the title."""
    key = tensors.keys[index]
    example = tensors.example(index)
    support = {name: int((example["read_support"] == code).sum()) for name, code in _SUPPORT.items()}
    kind = VariantType(key.variant_type).name
    told = support["alt"] + support["ref"]
    fraction = f", ALT fraction {support['alt'] / told:.2f}" if told else ""
    ref, alt = (f"{a[:22]}… ({len(a)} bases)" if len(a) > 26 else a for a in (key.ref, key.alt))
    others = [other for other in alts if other != key.alt]
    lines = [f"{len(example['read_support'])} reads{fraction}", *(fact for fact in facts if fact)]
    if others:
        lines.append(f"other ALT: {listed(others)}")
    kind_text = kind if kind in ("SNV", "MNV") else kind.lower()
    show_tensor(
        tensors, index, out, f"{key.contig}:{key.start + 1:,}  {ref} > {alt}  ({kind_text})", "   ·   ".join(lines)
    )
    return {
        "out": out,
        "contig": key.contig,
        "pos": key.start + 1,
        "ref": key.ref,
        "alt": key.alt,
        "alts": list(alts),
        "type": kind,
        "reads": len(example["read_support"]),
        "support": support,
        **more,
    }
