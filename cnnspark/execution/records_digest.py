"""The digest of records that proves that none is lost, doubled or changed."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

from cnnspark.errors import InputError
from cnnspark.variants.score_fields import ALT_SCORES, FORMAT_KEY, STAGE

DIGEST_BITS = 128
# What a run writes into INFO, and the beginning that these keys share.
_OWN_INFO = frozenset(("CNN_1D", "CNN_2D", ALT_SCORES, STAGE))
_OWN_PREFIX = "CNN_"
# Missing values at the end of a sample's column, which may be left out (VCF 4.3, 1.6.2).
_MISSING_AT_END = re.compile(r"(?::\.)+(?=\t|$)")


class RecordsDigest:
    """Order-independent digest of records: of all that a run does not write itself.

    That is every column but FILTER, INFO without the scores, and the samples without theirs. The digest is the sum
    modulo 2**128 of a BLAKE2b hash of each record and its ``occurrence``, which counts equal records, so doubling one
    and losing another cannot cancel out. All records of a position must go to the same digest.
    """

    def __init__(self) -> None:
        self.records = 0
        self._sum = 0
        self._seen: Counter[bytes] = Counter()
        self._position = ""

    def add(self, line: str) -> None:
        """Takes in a record's line, without line end.

        Raises:
            InputError: if the line has fewer than six columns.
        """
        columns = line.split("\t", 8)
        if len(columns) < 6:
            raise InputError(f"a VCF line has too few columns: '{line[:60]}'; repair the file")
        position = f"{columns[0]}\t{columns[1]}"
        if position != self._position:  # equal records share a position, so only one position's are kept
            self._seen.clear()
            self._position = position
        if len(columns) > 6:
            columns[6] = ""
        if len(columns) > 7:
            columns[7] = _without_own(columns[7])
        if len(columns) > 8:
            columns[8] = _samples_without_own(columns[8])
        record = hashlib.blake2b("\t".join(columns).encode("latin-1"), digest_size=DIGEST_BITS // 8).digest()
        self._seen[record] += 1
        if (times := self._seen[record]) > 1:
            record = hashlib.blake2b(record + b"%d" % times, digest_size=DIGEST_BITS // 8).digest()
        self._sum += int.from_bytes(record, "big")
        self.records += 1

    def hex(self) -> str:
        """The digest as 32 hexadecimal digits."""
        return format(self._sum % 2**DIGEST_BITS, f"0{DIGEST_BITS // 4}x")


def add_digests(digests: Iterable[str]) -> str:
    """The digest of all records, from the digests of disjoint parts of them."""
    return format(sum(int(d, 16) for d in digests) % 2**DIGEST_BITS, f"0{DIGEST_BITS // 4}x")


def _without_own(info: str) -> str:
    """INFO without the keys of :data:`_OWN_INFO`."""
    if _OWN_PREFIX in info:
        info = ";".join(item for item in info.split(";") if item.partition("=")[0] not in _OWN_INFO)
    return info or "."


def _samples_without_own(text: str) -> str:
    """FORMAT and the samples' columns without the scores of samples, and without missing values at their ends."""
    keys = text.partition("\t")[0].split(":")
    if FORMAT_KEY in keys:
        at = keys.index(FORMAT_KEY)
        columns = [column.split(":") for column in text.split("\t")]
        text = "\t".join(":".join(fields[:at] + fields[at + 1 :]) or "." for fields in columns)
    return _MISSING_AT_END.sub("", text) if ":." in text else text
