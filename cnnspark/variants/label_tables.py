"""Tables of alleles: labels made by another tool, and the causes of simulated alleles.

Labels come as a TSV, or as a callset that vcfeval or hap.py has annotated. The simulator writes the cause of each
allele (:mod:`cnnspark.simulation`), and an evaluation reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cnnspark.errors import InputError
from cnnspark.formats.bgzf import open_bgzf
from cnnspark.formats.htslib import open_lines
from cnnspark.formats.vcf import ENCODING, Record
from cnnspark.variants.alleles import FALSE_VARIANT, TRUE_VARIANT, UNKNOWN, unscorable_reason
from cnnspark.variants.truth import EXACT, NOT_IN_TABLE, NOT_IN_TRUTH, OUTSIDE

# Contig, start (POS - 1), REF and ALT, as the callset spells them.
AlleleName = tuple[str, int, str, str]

_LABEL_COLUMNS = ("chrom", "pos", "ref", "alt", "label")
# OUT: outside the confident regions.
_LABEL_OF_NAME = {"TP": TRUE_VARIANT, "FP": FALSE_VARIANT, "OUT": UNKNOWN}


def read_table(path: str, names: Sequence[str], what: str) -> Iterator[tuple[int, str, list[str]]]:
    """Reads the named columns of a TSV with a header; blank lines are left out.

    Args:
        path: the table, a path or a URL.
        names: the columns to read.
        what: what the table lists, for messages: "labels".

    Yields:
        The number of a line, its text, and its columns in the order of ``names``; no columns if the line is too short.

    Raises:
        InputError: if the header lacks a column or the file cannot be read.
    """
    try:
        with open_lines(path) as lines:
            header = next(lines, "").rstrip("\r\n").lstrip("#").split("\t")
            missing = [name for name in names if name not in header]
            if missing:
                raise InputError(
                    f"{path} line 1 lacks the column {', '.join(missing)}; a table of {what} needs all of "
                    f"{', '.join(names)}, separated by tabs"
                )
            at = [header.index(name) for name in names]
            for number, line in enumerate(lines, 2):
                if line.strip():
                    columns = line.rstrip("\r\n").split("\t")
                    yield number, line.rstrip(), [columns[i] for i in at] if len(columns) > max(at) else []
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file; give an uncompressed table of {what}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None


def read_label_table(path: str) -> dict[AlleleName, int]:
    """Reads labels from a TSV with the columns chrom, pos (1-based), ref, alt and label (TP, FP, OUT).

    Returns:
        The label of each allele. An allele with two lines is true if one of them says so, else false if one does.

    Raises:
        InputError: if the table cannot be read, naming the first invalid line.
    """
    table: dict[AlleleName, int] = {}
    for number, line, columns in read_table(path, _LABEL_COLUMNS, "labels"):
        try:
            contig, pos, ref, alt, name = columns
            key, label = (contig, int(pos) - 1, ref, alt), _LABEL_OF_NAME[name]
        except (ValueError, KeyError):
            raise InputError(
                f"{path} line {number} is not a label ('{line[:60]}'); a line needs "
                f"{', '.join(_LABEL_COLUMNS)} with a label of TP, FP or OUT"
            ) from None
        table[key] = max(label, table.get(key, label))
    return table


def labels_from_table(
    records: Sequence[Record], table: Mapping[AlleleName, int]
) -> tuple[list[list[int]], Counter[str]]:
    """Labels the ALTs of some records by a table.

    Args:
        records: the records.
        table: label by allele, as the callset spells it.

    Returns:
        For each record a list with the label of each ALT, and counts by reason, as
        :func:`cnnspark.variants.truth.label_block` returns them. Alleles that the table lacks are UNKNOWN.
    """
    labels: list[list[int]] = []
    counts: Counter[str] = Counter()
    reasons = {TRUE_VARIANT: EXACT, FALSE_VARIANT: NOT_IN_TRUTH, UNKNOWN: OUTSIDE}
    for record in records:
        row = []
        for alt in record.alts:
            label, reason = UNKNOWN, unscorable_reason(record.ref, alt)
            if reason is None:
                known = table.get((record.contig, record.start, record.ref, alt))
                label, reason = (UNKNOWN, NOT_IN_TABLE) if known is None else (known, reasons[known])
            row.append(label)
            counts[reason] += 1
        labels.append(row)
    return labels, counts


# INFO/CALL of vcfeval's annotated or combined output. FP_CA: an allele of the call is true, the genotype is not.
_LABEL_OF_CALL = {"TP": TRUE_VARIANT, "FP": FALSE_VARIANT, "FP_CA": TRUE_VARIANT}
# FORMAT/BD of hap.py's query column (GA4GH benchmarking, "decision").
_LABEL_OF_DECISION = {"TP": TRUE_VARIANT, "FP": FALSE_VARIANT}


def read_annotated_callset(path: str) -> dict[AlleleName, int]:
    """Labels from a callset with vcfeval's INFO/CALL or hap.py's FORMAT/BD in the column QUERY.

    The decision is about the call, so it applies to the ALTs of its genotype (to all ALTs without a genotype). If a
    call has several ALTs and only a part of it is true (FP_CA), the label of each is unknown, as for alleles outside
    the confident regions.

    Raises:
        InputError: if the callset cannot be read, or no record carries a decision.
    """
    table: dict[AlleleName, int] = {}
    decided = 0
    for record, columns in _annotated_records(path):
        call, decision = record.info_value("CALL"), columns.get("BD", "")
        if call is None and not decision:
            continue
        decided += 1
        decided_as = _LABEL_OF_DECISION.get(decision, UNKNOWN) if call is None else _LABEL_OF_CALL.get(call, UNKNOWN)
        called = set(columns.get("GT", "").replace("|", "/").split("/")) - {"", ".", "0"}
        of_call = [alt for n, alt in enumerate(record.alts, 1) if not called or str(n) in called]
        label = UNKNOWN if call == "FP_CA" and len(of_call) > 1 else decided_as
        for alt in of_call:
            key = (record.contig, record.start, record.ref, alt)
            table[key] = max(label, table.get(key, label))
    if not decided:
        raise InputError(
            f"{path} has neither INFO/CALL (vcfeval) nor FORMAT/BD in a column QUERY (hap.py); "
            "give the callset that one of them has annotated"
        )
    return table


def _annotated_records(path: str) -> Iterator[tuple[Record, dict[str, str]]]:
    """Each record, with the FORMAT values of its column QUERY, or of its last sample."""
    sample = 0
    try:
        with open_bgzf(path) as lines:
            for raw in lines:
                line = raw.decode(ENCODING).rstrip("\r")
                if line.startswith("#CHROM"):
                    names = line.split("\t")[9:]
                    sample = names.index("QUERY") if "QUERY" in names else len(names) - 1
                elif not line.startswith("#"):
                    record = Record(line)
                    yield record, record.format_values(sample) if sample >= 0 else {}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); check the path") from None


def read_labels(path: str) -> dict[AlleleName, int]:
    """The label of each allele, from an annotated VCF (:func:`read_annotated_callset`) or a table.

    Raises:
        InputError: if the file cannot be read or has no labels.
    """
    return read_annotated_callset(path) if path.endswith((".vcf", ".vcf.gz")) else read_label_table(path)


CAUSE_COLUMNS = ("chrom", "pos", "ref", "alt", "label", "cause", "kind", "reads", "cause_reads")
_READ_CAUSE_COLUMNS = ("chrom", "pos", "ref", "alt", "cause")
TRUE = "true"  # the cause of an allele that the simulated genome has


def write_causes(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Writes a table of causes; each row has the texts of CAUSE_COLUMNS."""
    with open(path, "w", encoding="ascii", newline="\n") as out:
        out.write("\t".join(CAUSE_COLUMNS) + "\n")
        out.writelines("\t".join(row) + "\n" for row in rows)


def read_causes(path: str) -> dict[AlleleName, str]:
    """The cause of each allele in a table of causes.

    Raises:
        InputError: if the table cannot be read, naming the first invalid line.
    """
    causes = {}
    for number, line, columns in read_table(path, _READ_CAUSE_COLUMNS, "causes"):
        try:
            contig, pos, ref, alt, cause = columns
            causes[contig, int(pos) - 1, ref, alt] = cause
        except ValueError:
            raise InputError(
                f"{path} line {number} is not a cause ('{line[:60]}'); a line needs {', '.join(_READ_CAUSE_COLUMNS)}"
            ) from None
    return causes


def counts_by_cause(path: str) -> dict[str, int]:
    """How many alleles of a table have each cause, those outside the confident regions included.

    Raises:
        InputError: if the table cannot be read.
    """
    return dict(sorted(Counter(read_causes(path).values()).items()))
