"""Collects labelled alleles of one or several callsets: each allele once, with the scores that each callset gives it.

An allele that a callset lacks has none of its scores, and so ranks below all others there: recall is of the alleles
that any of the callsets holds. Trimming and left-normalisation make different spellings of an allele the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cnnspark.errors import UsageError
from cnnspark.evaluation.callset_composition import composition
from cnnspark.evaluation.callset_counts import CallsetCounter, CallsetCounts
from cnnspark.evaluation.metrics import AlleleScores
from cnnspark.evaluation.score_reader import ScoreReader, declaration, record_counts
from cnnspark.evaluation.strata import RegionFile, StratumReader
from cnnspark.execution.blocks import Block
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.vcf import Record, VcfHeader, VcfSource
from cnnspark.variants.haplotypes import ReferenceWindow, left_normalise, make_allele
from cnnspark.variants.label_tables import read_causes
from cnnspark.variants.labeller import TruthPaths, open_labeller
from cnnspark.variants.truth import TRUTH, TRUTH_FOUND

# (0-based start, ref, alt), trimmed and left-normalised; the contig is that of the block.
NormalisedName = tuple[int, str, str]


@dataclass(frozen=True)
class MeasuredCallset:
    """One callset of an evaluation, in a form that can be sent to tasks."""

    name: str  # of the callset (callset_names)
    path: str
    header: VcfHeader
    keys: tuple[str, ...]  # its scores, as it declares them
    sample: int | None  # the column that is measured
    prefix: str = ""  # of its scores' names: "name:" if there are several callsets

    @property
    def key(self) -> str:
        """The score that a report is about: the first one other than QUAL, if any."""
        return next((key for key in self.keys if key != "QUAL"), "QUAL")


@dataclass(frozen=True)
class EvaluationTask:
    """What a task needs to collect labelled alleles. It is small."""

    callsets: tuple[MeasuredCallset, ...]
    truth: TruthPaths
    reference: str | None
    region_files: tuple[RegionFile, ...] = ()
    causes: str | None = None
    min_qual: float | None = None


@dataclass
class BlockAlleles:
    """What a task returns for one block.

    Attributes:
        block: The block's number.
        alleles: The labelled alleles of all callsets.
        counts: By callset, labels by reason and records.
        composition: By callset, what it is made of (:func:`cnnspark.evaluation.callset_composition.composition`).
        callset_counts: The counts for the report, of the first callset.
    """

    block: int
    alleles: AlleleScores
    counts: list[Counter[str]] = field(default_factory=list)
    composition: list[Counter[str]] = field(default_factory=list)
    callset_counts: CallsetCounts = field(default_factory=lambda: CallsetCounts(""))


def callset_names(paths: Sequence[str]) -> list[str]:
    """A short name for each callset: that of its file or folder without endings; repeated names get a number."""
    names: list[str] = []
    for path in paths:
        stem = re.sub(r"(\.vcf|\.bcf|\.gz)+$", "", path.rstrip("/").rpartition("/")[2])
        short = re.sub(r"[^\w.-]", "_", stem) or "callset"
        same = sum(re.sub(r"-\d+$", "", name) == short for name in names)
        names.append(f"{short}-{same + 1}" if same else short)
    return names


def keys_of_each(names: Sequence[str], headers: Sequence[VcfHeader], wanted: Sequence[str]) -> list[list[str]]:
    """The wanted scores of each callset.

    Args:
        names: The callsets' names.
        headers: The callsets' headers, in the same order.
        wanted: ``name:KEY`` is a score of that callset, ``KEY`` one of each callset that declares it.

    Returns:
        For each callset the keys, without the name.

    Raises:
        UsageError: If a name is not that of a callset, or no callset declares a score.
    """
    keys: list[list[str]] = [[] for _ in names]
    for text in wanted:
        name, separator, key = text.rpartition(":")
        if separator and name not in names:
            raise UsageError(f"'{text}' names no callset; there are {', '.join(names)}")
        holders = [
            number
            for number, header in enumerate(headers)
            if names[number] == name or not separator and (key == "QUAL" or declaration(header, key) is not None)
        ]
        if not holders:
            raise UsageError(f"no callset declares {key}; score one first, or name a score that they have")
        for number in holders:
            keys[number].append(key)
    return keys


def pairs_of(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of scores from texts like ``A,B``, as --compare takes them, each pair once.

    Raises:
        UsageError: If a text is not two different scores.
    """
    pairs = []
    for text in texts:
        names = [name.strip() for name in text.split(",")]
        if len(names) != 2 or not all(names) or names[0] == names[1]:
            raise UsageError(f"--compare '{text}' is not two scores; write e.g. --compare QUAL,CNN_2D")
        pairs.append((names[0], names[1]))
    return list(dict.fromkeys(pairs))


def pairs_to_compare(
    wanted: Sequence[tuple[str, str]], callsets: Sequence[MeasuredCallset]
) -> tuple[tuple[str, str], ...]:
    """The pairs to compare, by the names that the scores have in the tables.

    With several callsets a pair ``KEY,KEY`` is compared within each callset that has both. If no pair is wanted, each
    score of the first callset is compared with the same score of every other callset that has it.

    Raises:
        UsageError: If a pair is not two scores of one callset, nor two full names of scores.
    """
    first = callsets[0]
    if not wanted:
        return tuple(
            (first.prefix + key, other.prefix + key)
            for other in callsets[1:]
            for key in first.keys
            if key in other.keys
        )
    known = {callset.prefix + key for callset in callsets for key in callset.keys}
    pairs: list[tuple[str, str]] = []
    for a, b in wanted:
        within = [(c.prefix + a, c.prefix + b) for c in callsets if a in c.keys and b in c.keys]
        if not within and not {a, b} <= known:
            raise UsageError(
                f"--compare {a},{b} names no two scores of one callset; there are {', '.join(sorted(known))}"
            )
        pairs += [(a, b)] if {a, b} <= known else within
    return tuple(dict.fromkeys(pairs))


class BlockCollector:
    """Collects the labelled alleles of one block after another. Create it inside the task: it opens files."""

    def __init__(self, task: EvaluationTask):
        self._task = task
        causes = read_causes(task.causes) if task.causes else None
        self._reference = ReferenceSource(task.reference) if task.reference else None
        self._letters: tuple[str, ReferenceWindow] | None = None
        self._sources = [VcfSource(callset.path) for callset in task.callsets]
        self._labellers = [open_labeller(task.truth, source, task.reference) for source in self._sources]
        self._readers = [
            ScoreReader(
                callset.header,
                callset.keys,
                causes,
                StratumReader(callset.header, self._reference, task.region_files, callset.sample),
                callset.sample,
            )
            for callset in task.callsets
        ]
        first = task.callsets[0]
        self._counter = CallsetCounter(first.header, first.key, task.min_qual, first.sample)

    def collect(self, block: Block) -> BlockAlleles:
        """Labels, scores and strata of a block's alleles, and counts of its records."""
        result = BlockAlleles(block.index, AlleleScores.concatenate([]))
        tables, names = [], []
        for callset, source, labeller, reader in zip(
            self._task.callsets, self._sources, self._labellers, self._readers, strict=True
        ):
            records = list(block.read(source))
            labels, counts = labeller.labels(records, block.region)
            if len(callset.header.samples) > 1:
                # These count the truth that all samples together hold; one of them may carry less.
                del counts[TRUTH], counts[TRUTH_FOUND]
            chosen = reader.chosen(records, labels, self._task.min_qual)
            if callset is self._task.callsets[0]:
                result.callset_counts = self._counter.count(records, chosen)
            tables.append(reader.table(chosen))
            names.append([self._name(record, number) for record, number, _ in chosen] if callset.prefix else [])
            result.counts.append(counts + record_counts(records))
            result.composition.append(composition(records, callset.sample))
        prefixes = [callset.prefix for callset in self._task.callsets]
        result.alleles = join_alleles(tables, names, prefixes) if len(tables) > 1 else tables[0]
        return result

    def _name(self, record: Record, number: int) -> NormalisedName:
        allele = make_allele(record.start, record.ref, record.alts[number - 1], 0)
        if self._reference is None or record.contig not in self._reference.lengths:
            return allele.start, allele.ref, allele.alt
        if self._letters is None or self._letters[0] != record.contig:
            self._letters = record.contig, ReferenceWindow(self._reference, record.contig)
        return left_normalise(allele, self._letters[1])


def join_alleles(
    tables: Sequence[AlleleScores], names: Sequence[Sequence[NormalisedName]], prefixes: Sequence[str]
) -> AlleleScores:
    """Joins the alleles of several callsets on one contig, in the order of their normalised starts.

    An allele is true if any table says so. Its type, position, cause and strata are those of the first table that holds
    it. If a callset holds it twice, the higher score counts.

    Args:
        tables: The alleles of each callset.
        names: For each table, the normalised names of its alleles.
        prefixes: For each table, what its scores' names get in front.
    """
    rows: dict[NormalisedName, tuple[int, int]] = {}  # table and row that first hold the allele
    for number, of_table in enumerate(names):
        for row, name in enumerate(of_table):
            rows.setdefault(name, (number, row))
    order = sorted(rows)
    at = {name: i for i, name in enumerate(order)}
    # The tables one below the other, and for each allele the row in which it comes first.
    offsets = np.cumsum([0, *(len(table) for table in tables)])
    first = np.array([offsets[rows[name][0]] + rows[name][1] for name in order], np.int64)
    bare = [AlleleScores(t.contig, t.start, t.variant_type, t.label, {}, t.cause, t.strata) for t in tables]
    joined = AlleleScores.concatenate(bare).select(first)
    for table, of_table, prefix in zip(tables, names, prefixes, strict=True):
        places = np.array([at[name] for name in of_table], np.int64)
        np.maximum.at(joined.label, places, table.label)
        for key, values in table.scores.items():
            column = np.full(len(order), np.nan)
            np.fmax.at(column, places, values)
            joined.scores[prefix + key] = column
    return joined
