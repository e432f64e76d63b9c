"""A scored callset as a table: for notebooks, where a genome's five million alleles fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pysam

from cnnspark.errors import InputError
from cnnspark.formats.bgzf import open_bgzf
from cnnspark.formats.callset import require_file
from cnnspark.formats.htslib import for_htslib
from cnnspark.formats.vcf import ENCODING, Record, number_or_nan
from cnnspark.variants.score_fields import ALT_SCORES, SCORE_KEYS

if TYPE_CHECKING:
    import pandas as pd


def score_table(path: str, key: str) -> pd.DataFrame:
    """A row for each ALT, in the callset's order: contig, pos (1-based), ref, alt, qual, filter, score.

    ``score`` is the ALT's own if the callset has scores by ALT, otherwise the record's ``key``; NaN if it is missing.

    Raises:
        InputError: the callset cannot be read.
    """
    import pandas as pd

    require_file(path, "callset")  # pysam would crash without it
    columns = ("contig", "pos", "ref", "alt", "qual", "filter", "score")
    try:
        rows = [row for record in _records(path) for row in _rows(record, key)]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); score it again") from None
    return pd.DataFrame(rows, columns=list(columns))


def _records(path: str) -> Iterator[Record]:
    if path.endswith(".bcf"):
        with pysam.VariantFile(for_htslib(path)) as file:
            for found in file:
                yield Record(str(found).rstrip("\n"))
        return
    with open_bgzf(path) as lines:
        for line in lines:
            if line and not line.startswith(b"#"):
                yield Record(line.decode(ENCODING))


def _rows(record: Record, key: str) -> Iterator[tuple[str, int, str, str, float, str, float]]:
    best = record.info_value(key) or ""
    each = (record.info_value(ALT_SCORES) or "").split(",") if key in SCORE_KEYS else [""]
    for number, alt in enumerate(record.alts):
        text = each[number] if len(each) == len(record.alts) and each != [""] else best
        place = record.contig, record.start + 1, record.ref, alt
        yield *place, record.qual_value, record.filter, number_or_nan(text)
