"""The table of causes: why each false allele of a simulated callset is there, for reports by mechanism.

A TSV with the columns of a table of labels (chrom, pos, ref, alt, label) and behind them ``cause`` (``true``, or the
mechanism that most of its reads come from), ``kind`` (het, hom or mosaic of a true allele), ``reads`` (that show it)
and ``cause_reads`` (of that cause).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnnspark.errors import InputError
from cnnspark.label_sources import AlleleName, read_table

COLUMNS = ("chrom", "pos", "ref", "alt", "label", "cause", "kind", "reads", "cause_reads")
_READ_COLUMNS = ("chrom", "pos", "ref", "alt", "cause")
TRUE = "true"


def write_causes(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Writes rows of texts in the order of COLUMNS."""
    with open(path, "w", encoding="ascii", newline="\n") as out:
        out.write("\t".join(COLUMNS) + "\n")
        out.writelines("\t".join(row) + "\n" for row in rows)


def read_causes(path: str) -> dict[AlleleName, str]:
    """Cause by (contig, start = pos - 1, ref, alt). Raises InputError naming the line that is none."""
    causes = {}
    for number, line, columns in read_table(path, _READ_COLUMNS, "causes"):
        try:
            contig, pos, ref, alt, cause = columns
            causes[contig, int(pos) - 1, ref, alt] = cause
        except ValueError:
            raise InputError(
                f"{path} line {number} is not a cause ('{line[:60]}'); a line needs {', '.join(_READ_COLUMNS)}"
            ) from None
    return causes


def counts_by_cause(path: str) -> dict[str, int]:
    """Alleles of the table by cause, outside the confident regions, too."""
    return dict(sorted(Counter(read_causes(path).values()).items()))
