"""Labels a callset's ALTs by a truth VCF and its confident regions.

An allele is true if the truth has it under any spelling: alleles are first compared after trimming and
left-normalisation, those that are left by the haplotypes that they can make (:mod:`cnnspark.variants.haplotypes`). The
callset's genotypes play no part: an allele that was called in the wrong zygosity is still there. The confident regions
decide as vcfeval's ``--evaluation-regions`` do: all reference bases that an allele changes (after trimming and
left-normalisation; for an insertion the base after it) must be inside, else its label is unknown.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cnnspark.errors import InputError
from cnnspark.formats.reference import ReferenceSource
from cnnspark.formats.regions import Region, RegionSet, read_bed
from cnnspark.formats.vcf import Record, VcfHeader, VcfSource
from cnnspark.variants.alleles import FALSE_VARIANT, REF_MISMATCH, TRUE_VARIANT, UNKNOWN, ref_agrees, unscorable_reason
from cnnspark.variants.haplotypes import Allele, ReferenceWindow, SearchLimits, explain, left_normalise, make_allele

# Reasons for a label, keys of the counts; cnnspark.variants.alleles has those for ALTs that cannot be scored.
EXACT = "true: same allele"
HAPLOTYPE = "true: same haplotype"
NOT_IN_TRUTH = "false: not in truth"
OUTSIDE = "unknown: outside confident regions"
UNDECIDED = "unknown: too many alleles nearby"
NOT_IN_TABLE = "unknown: not in the table of labels"
# Two more counts, of the truth's own alleles.
TRUTH = "truth alleles in confident regions"
TRUTH_FOUND = "truth alleles found"
_LABEL_OF_REASON = {EXACT: TRUE_VARIANT, HAPLOTYPE: TRUE_VARIANT, NOT_IN_TRUTH: FALSE_VARIANT}


@dataclass(frozen=True)
class LabelSettings:
    """How alleles are compared."""

    limits: SearchLimits = field(default_factory=SearchLimits)
    # Whether a truth record with a FILTER other than PASS counts; by default not, as in vcfeval.
    truth_filtered: bool = False

    @property
    def margin_bases(self) -> int:
        """How far from a region (by POS) a record can affect the labels of the records that the region owns."""
        return 2 * self.limits.reach_bases


DEFAULT_SETTINGS = LabelSettings()


class TruthSource:
    """A truth VCF (bgzipped, indexed) and its confident regions (BED). Open it inside the task.

    Attributes:
        path: of the VCF, as given.
        bed_path: as given.
        regions: the confident regions, merged and sorted.
    """

    def __init__(self, truth_vcf_path: str, bed_path: str, index: str | None = None):
        """Opens the truth; ``index`` is a local index file, if it is not beside the VCF.

        Raises:
            InputError: if a file cannot be opened, the VCF has no index or the BED no interval; the message has a
                remedy.
        """
        self.path, self.bed_path = truth_vcf_path, bed_path
        self._vcf = VcfSource(truth_vcf_path, index)
        self.regions = read_bed(bed_path)
        if not self.regions:
            raise InputError(f"{bed_path} has no interval; give the truth set's confident regions as BED")
        self._confident = RegionSet(self.regions)

    @property
    def contigs(self) -> set[str]:
        """The contigs of the confident regions; on others no label can be known."""
        return self._confident.contigs

    def covers(self, contig: str, start: int, end: int) -> bool:
        """Whether one confident region holds all of [start, end), or the base at ``start`` if that is empty."""
        return self._confident.covers(contig, start, end)

    @property
    def header(self) -> VcfHeader:
        """The header of the truth VCF."""
        return self._vcf.header

    def records(self, region: Region) -> list[Record]:
        """The truth records that the region owns.

        Raises:
            InputError: if the VCF is damaged.
        """
        return list(self._vcf.records(region))

    def close(self) -> None:
        """Closes the VCF."""
        self._vcf.close()

    def __enter__(self) -> TruthSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def true_alleles(record: Record, filtered: bool = False) -> list[int]:
    """The ALTs of a truth record that are true: those in any sample's GT, or all if the record has no GT.

    Args:
        record: of the truth VCF.
        filtered: whether a record with a FILTER other than PASS counts.

    Returns:
        Numbers of the ALTs, from 0, ascending.
    """
    if not filtered and record.filter not in ("PASS", ".", ""):
        return []
    columns = record.rest.split("\t") if record.rest is not None else []
    keys = columns[0].split(":") if columns else []
    if "GT" not in keys or len(columns) < 2:
        return list(range(len(record.alts)))
    at = keys.index("GT")
    called = set()
    for sample in columns[1:]:
        values = sample.split(":")
        if at < len(values):
            called.update(values[at].replace("|", "/").split("/"))
    return [n for n in range(len(record.alts)) if str(n + 1) in called]


def label_block(
    records: Sequence[Record],
    region: Region,
    truth: TruthSource,
    reference: ReferenceSource,
    settings: LabelSettings = DEFAULT_SETTINGS,
) -> tuple[list[list[int]], Counter[str]]:
    """Labels the ALTs of the records that a region owns.

    Args:
        records: those that ``region.padded(settings.margin_bases)`` owns, in any order. The ones outside of ``region``
            are neighbours that help to explain an allele, so that labels do not depend on where the regions are cut.
        region: the region whose records are labelled.
        truth: the truth.
        reference: the FASTA.
        settings: how alleles are compared.

    Returns:
        For each owned record, in the order of ``records``, a list with the label of each ALT (TRUE_VARIANT,
        FALSE_VARIANT or UNKNOWN); and counts by reason, which add up to the owned ALTs, with TRUTH and TRUTH_FOUND.

    Raises:
        InputError: if an input cannot be read or the reference lacks the contig.
    """
    owned = [record for record in records if record.contig == region.contig and region.owns(record.start)]
    labels = [[UNKNOWN] * len(record.alts) for record in owned]
    counts: Counter[str] = Counter()
    wide = region.padded(settings.margin_bases)
    near = [record for record in records if record.contig == region.contig and wide.owns(record.start)]
    truth_records = truth.records(wide)
    if not near and not truth_records:
        return labels, counts
    letters = ReferenceWindow(reference, region.contig)

    reasons: Counter[str] = Counter()
    query = _Alleles(letters)
    places = []  # of each query allele: (record's number among the owned or -1, ALT's number)
    row = -1
    for number, record in enumerate(near):
        is_owned = region.owns(record.start)
        row += is_owned
        for alt_number, alt in enumerate(record.alts):
            reason = query.add(record, alt, number)
            if reason is None:
                places.append((row if is_owned else -1, alt_number))
            elif is_owned:
                reasons[reason] += 1
    true = _Alleles(letters)
    for number, record in enumerate(truth_records):
        for alt_number in true_alleles(record, settings.truth_filtered):
            true.add(record, record.alts[alt_number], number)

    exact_query = query.found_in(true, settings.margin_bases)
    exact_truth = true.found_in(query, settings.margin_bases)
    found = explain(query.alleles, true.alleles, letters, settings.limits, exact_query, exact_truth)
    for number, (row, alt_number) in enumerate(places):
        if row < 0:
            continue
        start, ref, _ = query.normalised[number]
        if not truth.covers(region.contig, start, start + len(ref)):
            reason = OUTSIDE
        elif number in exact_query:
            reason = EXACT
        elif number in found.query:
            reason = HAPLOTYPE
        else:
            reason = UNDECIDED if number in found.undecided else NOT_IN_TRUTH
        reasons[reason] += 1
        labels[row][alt_number] = _LABEL_OF_REASON.get(reason, UNKNOWN)
    counts.update(reasons)
    for number, (start, ref, _) in enumerate(true.normalised):
        if region.owns(true.alleles[number].anchor) and truth.covers(region.contig, start, start + len(ref)):
            counts[TRUTH] += 1
            counts[TRUTH_FOUND] += number in exact_truth or number in found.truth
    return labels, counts


class _Alleles:
    """The comparable alleles of one side, trimmed and left-normalised."""

    def __init__(self, letters: ReferenceWindow):
        self._letters = letters
        self.alleles: list[Allele] = []
        self.normalised: list[tuple[int, str, str]] = []
        self._by_normalised: dict[tuple[int, str, str], list[int]] = defaultdict(list)

    def add(self, record: Record, alt: str, number: int) -> str | None:
        """Adds one ALT; returns None, or the reason why it cannot be compared."""
        reason = unscorable_reason(record.ref, alt)
        if reason:
            return reason
        if not ref_agrees(record.ref, self._letters(record.start, record.end)):
            return REF_MISMATCH
        allele = make_allele(record.start, record.ref, alt, number)
        normalised = left_normalise(allele, self._letters)
        self._by_normalised[normalised].append(len(self.alleles))
        self.alleles.append(allele)
        self.normalised.append(normalised)
        return None

    def found_in(self, other: _Alleles, margin_bases: int) -> set[int]:
        """Numbers of the alleles that the other side also has, at most ``margin_bases`` away (by POS)."""
        return {
            number
            for number, (allele, normalised) in enumerate(zip(self.alleles, self.normalised, strict=True))
            if any(
                abs(other.alleles[n].anchor - allele.anchor) <= margin_bases
                for n in other._by_normalised.get(normalised, ())
            )
        }


def require_both_labels(counts: Mapping[str, int], what: str) -> None:
    """Checks that a whole callset has both true and false alleles.

    Raises:
        InputError: if ``counts`` (by reason) hold none of one kind; ``what`` names the callset.
    """
    n_true = counts.get(EXACT, 0) + counts.get(HAPLOTYPE, 0)
    n_false = counts.get(NOT_IN_TRUTH, 0)
    if n_true and n_false:
        return
    lacking = "labelled" if not n_true and not n_false else "true" if not n_true else "false"
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(counts.items())) or "no allele at all"
    raise InputError(
        f"{what} has no {lacking} allele ({reasons}); check that callset, truth, confident regions and reference are "
        "of one sample and one genome build"
    )
