"""VCF as text: a record keeps its line, and a run edits only the columns that it adds to.

htslib's own writer reformats floats and can move fields between headers (pysam#1270); text that is never parsed cannot
lose anything. Lines are decoded as Latin-1, which maps every byte to itself and back.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import pysam

from cnnspark.errors import InputError
from cnnspark.formats.bgzf import open_bgzf
from cnnspark.formats.htslib import VCF_INDEXES, fetched_index, for_htslib
from cnnspark.formats.regions import END_OF_CONTIG, Region

ENCODING = "latin-1"
TAB = "\t"


@dataclass(frozen=True)
class FieldDeclaration:
    """One ``##INFO``, ``##FORMAT`` or ``##FILTER`` line, with the values of Number and Type that it declares."""

    id: str
    number: str
    type: str
    line: str


class VcfHeader:
    """The header's lines, unchanged, and what they declare.

    Attributes:
        lines: without line ends; the last is the ``#CHROM`` line.
        columns: the number of columns of the ``#CHROM`` line.
        samples: names of the sample columns, in their order, read as UTF-8 if they are that.
        info: declarations of INFO fields, by ID.
        format: declarations of FORMAT fields, by ID.
        filters: declarations of FILTERs, by ID.
        contig_lengths: length of each declared contig in bases, None if the header does not say.
    """

    def __init__(self, lines: Sequence[str]):
        """Reads the declarations of ``lines`` (without line ends; the last is the ``#CHROM`` line).

        Raises:
            InputError: if there is not one ``#CHROM`` line at the end, or a sample has no name or that of another.
        """
        if not lines or not lines[-1].startswith("#CHROM\t"):
            raise InputError("the VCF has no #CHROM line before its first record; it is truncated or not a VCF")
        if any(line.startswith("#CHROM") for line in lines[:-1]):
            raise InputError("the VCF has several #CHROM lines; leave one, before the first record")
        self.lines = tuple(lines)
        columns = lines[-1].split("\t")
        self.columns = len(columns)
        self.samples = tuple(_text(name) for name in columns[9:])
        repeated = [name for name, times in Counter(self.samples).items() if times > 1 or not name]
        if repeated:
            raise InputError(
                f"the VCF's #CHROM line has the sample '{repeated[0]}' more than once or a sample without a name; "
                "rename it with 'bcftools reheader -s'"
            )
        self.info = self._declared("INFO")
        self.format = self._declared("FORMAT")
        self.filters = self._declared("FILTER")
        self.contig_lengths: dict[str, int | None] = {}
        for line in lines:
            if line.startswith("##contig=<"):
                name = re.search(r"[<,]ID=([^,>]+)", line)
                length = re.search(r"[<,]length=(\d+)", line)
                if name:
                    self.contig_lengths[name[1]] = int(length[1]) if length else None

    def _declared(self, kind: str) -> dict[str, FieldDeclaration]:
        declared = {}
        for line in self.lines:
            if not line.startswith(f"##{kind}=<"):
                continue
            # A description may itself look like a declaration.
            values = dict(re.findall(r"[<,](ID|Number|Type)=([^,>\"]*)", line.partition(",Description=")[0]))
            if "ID" in values:
                declared[values["ID"]] = FieldDeclaration(
                    values["ID"], values.get("Number", "."), values.get("Type", "String"), line
                )
        return declared

    def with_lines(self, added: Iterable[str]) -> VcfHeader:
        """A header with more ``##`` lines before ``#CHROM``.

        A line that declares an ID (``##INFO=<ID=X``) replaces the line that declared it before; a line that is already
        there is not repeated.
        """
        lines = list(self.lines[:-1])
        for line in added:
            declared = _declared_id(line)
            same = [i for i, old in enumerate(lines) if declared and _declared_id(old) == declared]
            if same:
                lines[same[0]] = line
            elif line not in lines:
                lines.append(line)
        return VcfHeader([*lines, self.lines[-1]])

    def without_lines(self, prefixes: Sequence[str]) -> VcfHeader:
        """A header without the ``##`` lines that begin with one of ``prefixes``."""
        return VcfHeader([line for line in self.lines if not line.startswith(tuple(prefixes))])

    def text(self) -> str:
        """All lines, each with its line end."""
        return "\n".join(self.lines) + "\n"


def _declared_id(line: str) -> tuple[str, str] | None:
    """Kind and ID that an INFO, FORMAT or FILTER line declares, whatever the order of its values; None for others."""
    kind = re.match(r"##(INFO|FORMAT|FILTER)=<", line)
    found = kind and re.search(r"[<,]ID=([^,>]+)", line.partition(",Description=")[0])
    return (kind[1], found[1]) if kind and found else None


def _text(name: str) -> str:
    """A name whose bytes were read as Latin-1, as UTF-8 if it is that."""
    try:
        return name.encode(ENCODING).decode("utf-8")
    except UnicodeError:
        return name


def as_bytes_of_utf8(name: str) -> str:
    """A name as :data:`ENCODING` reads its UTF-8 bytes: what a header's line has to hold."""
    return name.encode("utf-8").decode(ENCODING)


def number_or_nan(text: str | None) -> float:
    """The number that a value's text is; NaN if it is missing (``.``, empty, None), text or several values."""
    try:
        return float(text or "")
    except ValueError:
        return math.nan


class Record:
    """One line of a VCF.

    Attributes:
        contig: CHROM.
        start: POS-1, so 0-based.
        id: ID.
        ref: REF.
        alts: the ALTs; empty if ALT is ``.``.
        qual: QUAL as text.
        filter: FILTER as text.
        info: INFO as text.
        rest: FORMAT and the sample columns as text, None if there are none.
        index: number of the record in the whole file, from 0; -1 if unknown.
    """

    __slots__ = ("contig", "start", "id", "ref", "alts", "qual", "filter", "info", "rest", "index")

    def __init__(self, line: str, index: int = -1):
        """Splits ``line``, without its line end, into columns.

        Raises:
            InputError: if the line is not a record.
        """
        columns = line.split("\t", 8)
        if len(columns) < 8:
            raise InputError(f"a VCF line has {len(columns)} columns instead of 8: '{line[:60]}'; repair the file")
        self.contig, pos, self.id, self.ref, alt, self.qual, self.filter, self.info = columns[:8]
        # What is written must be what was read: "0300" and "+300" are numbers for Python.
        if not pos.isdecimal() or (pos[0] == "0" and pos != "0"):
            raise InputError(f"a VCF line has the position '{pos}' on {self.contig}; repair the file")
        self.start = int(pos) - 1
        if not alt:
            raise InputError(f"the VCF line at {self.contig}:{pos} has an empty ALT; write '.' for none")
        self.alts: tuple[str, ...] = () if alt == "." else tuple(alt.split(","))
        self.rest = columns[8] if len(columns) > 8 else None
        self.index = index

    @property
    def end(self) -> int:
        """One past the last base of REF, 0-based."""
        return self.start + len(self.ref)

    @property
    def qual_value(self) -> float:
        """QUAL as a number; NaN if it is missing."""
        return number_or_nan(self.qual)

    def line(self) -> str:
        """The record as a line of a VCF, without line end."""
        alt = ",".join(self.alts) or "."
        columns = [self.contig, str(self.start + 1), self.id, self.ref, alt, self.qual, self.filter, self.info]
        if self.rest is not None:
            columns.append(self.rest)
        return "\t".join(columns)

    def info_value(self, key: str) -> str | None:
        """The text of an INFO value; ``""`` for a flag, None if INFO lacks the key."""
        for item in self.info.split(";"):
            name, separator, value = item.partition("=")
            if name == key:
                return value if separator else ""
        return None

    def set_info(self, values: Mapping[str, str]) -> None:
        """Adds ``key=value`` items at the end of INFO; an item of the same key is replaced in its place."""
        items = [] if self.info in (".", "") else self.info.split(";")
        at = {item.partition("=")[0]: i for i, item in enumerate(items)}
        for key, value in values.items():
            if key in at:
                items[at[key]] = f"{key}={value}"
            else:
                items.append(f"{key}={value}")
        self.info = ";".join(items) or "."

    def drop_info(self, keys: Iterable[str]) -> None:
        """Removes the items of these keys from INFO."""
        unwanted = set(keys)
        kept = [item for item in self.info.split(";") if item.partition("=")[0] not in unwanted]
        self.info = ";".join(kept) or "."

    def set_filter(self, name: str, failed: bool, keep: bool = True) -> None:
        """Sets or removes one filter in FILTER, which becomes PASS if no filter is left.

        Args:
            name: the filter.
            failed: whether the record failed it: True sets the filter, False removes it.
            keep: whether the other filters stay.
        """
        others = [f for f in self.filter.split(";") if keep and f not in (".", "PASS", "", name)]
        self.filter = ";".join([*others, name] if failed else others) or "PASS"

    def format_values(self, sample: int) -> dict[str, str]:
        """The text of each FORMAT field of a sample (number of its column, from 0); empty without that column."""
        if self.rest is None:
            return {}
        columns = self.rest.split("\t")
        if sample + 1 >= len(columns):
            return {}
        return dict(zip(columns[0].split(":"), columns[sample + 1].split(":"), strict=False))


class VcfSource:
    """A bgzipped, indexed VCF that is read by region. Open it inside the task: a handle cannot be shipped or forked.

    Attributes:
        path: as given.
        header: the VCF's header.
    """

    def __init__(self, path: str, index: str | None = None, called: str | None = None):
        """Opens the VCF, a path or a URL.

        Args:
            path: the VCF.
            index: a local index file, if it is not beside the VCF.
            called: what messages call the VCF, if not ``path``.

        Raises:
            InputError: if the file or its index cannot be opened, or the header is damaged; the message has a remedy.
        """
        self.path = called or path
        if index is None and os.path.exists(f"{path}.csi") and not os.path.exists(f"{path}.tbi"):
            index = f"{path}.csi"  # pysam looks for .tbi only
        try:
            with fetched_index(path, VCF_INDEXES) if index is None else nullcontext(index) as beside:
                self._file = pysam.TabixFile(for_htslib(path), index=beside, encoding=ENCODING)
                # pysam opens the index once more for the header, so this belongs inside the context.
                lines = [line.rstrip("\r\n") for line in self._file.header]
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be opened with an index ({error}); "
                "compress it with bgzip and index it with 'tabix -p vcf'"
            ) from None
        try:
            self.header = VcfHeader(lines)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    @property
    def contigs(self) -> list[str]:
        """The contigs that have records, in the order of the file."""
        return list(self._file.contigs)

    def lines(self, region: Region) -> Iterator[str]:
        """The lines of the records that the region owns (:meth:`Region.owns`), in the file's order.

        Raises:
            InputError: while reading, if the file is damaged or its index does not fit.
        """
        if region.contig not in self._file.contigs:
            return
        end = None if region.end >= END_OF_CONTIG else region.end
        tabs = self.header.columns - 1
        has_samples = bool(self.header.samples)
        try:
            for line in self._file.fetch(region.contig, region.start, end):
                columns = line.split("\t", 2)
                if region.owns(int(columns[1]) - 1):
                    if has_samples and line.count("\t") != tabs:
                        found = line.count(TAB) + 1
                        raise InputError(
                            f"{self.path} has {found} columns at {columns[0]}:{columns[1]} and {tabs + 1} in its header"
                            "; repair the file, or make it again"
                        )
                    yield line
        except (OSError, ValueError, IndexError) as error:
            bad = self._first_bad_line()
            raise InputError(
                f"{self.path} {bad}; repair or remove the line"
                if bad
                else f"{self.path} cannot be read at {region} ({error}); the file is damaged or its index is old"
            ) from None

    def _first_bad_line(self) -> str:
        """Which line is empty or not a record, in words; "" if none is, or the file cannot be read line by line."""
        try:
            with open_bgzf(self._file.filename.decode()) as lines:
                for number, line in enumerate(lines, 1):
                    columns = line.split(b"\t", 2)
                    if not line.strip():
                        return f"line {number} is empty"
                    if not line.startswith(b"#") and (len(columns) < 3 or not columns[1].isdigit()):
                        return f"line {number} is not a VCF record"
        except OSError:
            pass
        return ""

    def records(self, region: Region, first_index: int = 0) -> Iterator[Record]:
        """The records that the region owns, numbered from ``first_index``.

        Raises:
            InputError: as :meth:`lines` does, and if a line is not a record.
        """
        for index, line in enumerate(self.lines(region), first_index):
            yield Record(line, index)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> VcfSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def lines_of(records: Iterable[Record]) -> Iterator[str]:
    """The records as lines."""
    for record in records:
        yield record.line()


def check_header_field(header: VcfHeader, path: str, name: str, number: str, kind: str, column: str = "INFO") -> None:
    """Checks that the callset does not declare differently a field that the run writes.

    Args:
        header: the callset's header.
        path: the callset, for the message.
        name: ID of the field.
        number: the Number that the run will write.
        kind: the Type that the run will write.
        column: ``INFO`` or ``FORMAT``.

    Raises:
        InputError: if the field is declared with another Number or Type.
    """
    declared = (header.format if column == "FORMAT" else header.info).get(name)
    if declared is not None and (declared.number, declared.type) != (number, kind):
        raise InputError(
            f"{path} declares {column}/{name} as Number={declared.number},Type={declared.type} but cnnspark writes "
            f"Number={number},Type={kind}; rename or drop it with 'bcftools annotate -x {column}/{name}'"
        )


def set_sample_values(record: Record, key: str, values: Mapping[int, str]) -> None:
    """Sets a FORMAT field of some samples; it becomes the last field.

    Earlier values of the field are removed, those of other samples as well. Columns of other samples are not changed
    otherwise: a column may end early, and only fields before a later value need a ``.`` (VCF 4.3, 1.6.2).

    Args:
        record: changed in place; without sample columns nothing happens.
        key: the field.
        values: text by the number of the sample's column, from 0; if empty, FORMAT loses the key.
    """
    if record.rest is None:
        return
    columns = record.rest.split("\t")
    keys = columns[0].split(":")
    if key in keys:
        at = keys.index(key)
        columns = [_without(column, at) for column in columns]
        keys.remove(key)
    elif not values:
        return
    if values:
        known = [] if keys in (["."], [""], []) else keys
        columns[0] = ":".join([*known, key])
        for number, value in values.items():
            fields = columns[number + 1].split(":") if known else []
            columns[number + 1] = ":".join([*fields, *["."] * (len(known) - len(fields)), value])
    record.rest = "\t".join(columns)


def _without(column: str, at: int) -> str:
    """A sample's column without the field of this number."""
    fields = column.split(":")
    del fields[at : at + 1]
    return ":".join(fields) or "."
