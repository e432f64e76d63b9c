"""The sample sheet: a TSV that names a run's samples, checked whole before any work.

A line a sample, below a line with the columns' names::

    sample  vcf           reads      truth          bed
    NA1     na1.vcf.gz    na1.bam    .              .
    NA2     trio.vcf.gz   na2.cram   na2.truth.vcf.gz  na2.bed

Lines that begin with ``#`` are comments; ``.`` or nothing stands for "none"; relative paths are relative to the sheet's
folder. Rows that name one VCF are the members of one multi-sample callset.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cnnspark.common.storage import absolute, scheme_of
from cnnspark.config import InputPaths
from cnnspark.errors import CnnsparkError, InputError, UsageError
from cnnspark.formats import callset
from cnnspark.variants.carriers import Member

SAMPLE, FILES = "sample", ("vcf", "reads", "truth", "bed", "labels")
_WHAT = {"vcf": "callset", "reads": "reads", "truth": "truth", "bed": "confident BED", "labels": "label table"}
# Taken off a file's name where it names a callset of several samples.
_VCF_SUFFIX = re.compile(r"\.(vcf|vcf\.gz|vcf\.bgz|bcf)$")


@dataclass(frozen=True)
class SheetRow:
    """One line of a sheet; paths are absolute, None if the sheet gives none."""

    line: int
    sample: str
    vcf: str | None = None
    reads: str | None = None
    truth: str | None = None
    bed: str | None = None
    labels: str | None = None


@dataclass(frozen=True)
class SheetCallset:
    """One callset of a sheet, the unit that a stage runs on. ``name`` is also that of its folder."""

    name: str
    samples: tuple[str, ...]
    paths: InputPaths


def read_sheet(path: str, needs: Sequence[str] = ("vcf",)) -> list[SheetRow]:
    """The rows of a sheet; every row must have the columns ``needs``.

    Raises:
        InputError: all problems of the sheet at once: unknown columns, lines of another width, samples named twice,
            files that do not exist.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a sample sheet") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file; give a sample sheet, a TSV") from None
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise InputError(f"{path} is empty; the first line names the columns: {SAMPLE}, {', '.join(FILES)}")
    columns = _columns(path, numbered[0][1], needs)
    problems: list[str] = []
    rows = [row for n, line in numbered[1:] if (row := _row(Path(path), n, line, columns, needs, problems))]
    problems += _clashes(rows)
    if not rows and not problems:
        problems.append("it has no samples below the line with the columns' names")
    if problems:
        many = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InputError(f"{path} has {many}; mend it, nothing was done:\n  " + "\n  ".join(problems))
    return rows


def _columns(path: str, line: str, needs: Sequence[str]) -> list[str]:
    columns = line.split("\t")
    if SAMPLE not in columns:
        hint = "separate the columns by tabs" if SAMPLE in line.split() else f"name the first column '{SAMPLE}'"
        raise InputError(f"{path} does not begin with the columns' names; {hint}")
    unknown = [name for name in columns if name != SAMPLE and name not in FILES]
    missing = [name for name in needs if name not in columns]
    twice = [name for name, n in Counter(columns).items() if n > 1]
    if unknown or missing or twice:
        wrong = f"has a column '{unknown[0]}'" if unknown else f"has '{twice[0]}' twice" if twice else ""
        wrong = wrong or f"has no column '{missing[0]}'"
        raise InputError(f"{path} {wrong}; known are {SAMPLE}, {', '.join(FILES)}")
    return columns


def _row(
    sheet: Path, number: int, line: str, columns: Sequence[str], needs: Sequence[str], problems: list[str]
) -> SheetRow | None:
    """One line as a row, or None if it is invalid; what is wrong with it is added to ``problems``."""
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) != len(columns):
        problems.append(f"line {number} has {len(fields)} columns instead of {len(columns)}")
        return None
    values: dict[str, str | None] = {}
    for name, value in zip(columns, fields, strict=True):
        values[name] = None if value in ("", ".") else value
    sample = values.pop(SAMPLE)
    if sample is None:
        problems.append(f"line {number} names no sample")
        return None
    for name, given in values.items():
        if given is None:
            if name in needs:
                problems.append(f"line {number} ({sample}): there is no {_WHAT[name]}")
            continue
        try:
            path = absolute(given if scheme_of(given) else str(sheet.parent / given))
            values[name] = path
            callset.require_file(path, _WHAT[name])
        except CnnsparkError as error:
            problems.append(f"line {number} ({sample}): {error}")
    if values.get("labels") and (values.get("truth") or values.get("bed")):
        problems.append(f"line {number} ({sample}): there are both labels and a truth with its BED; give one of them")
    elif bool(values.get("truth")) != bool(values.get("bed")):
        problems.append(f"line {number} ({sample}): a truth needs its confident BED, and a BED its truth")
    return SheetRow(number, sample, **values)


def _clashes(rows: Sequence[SheetRow]) -> list[str]:
    """Names that two rows have, and folders that two callsets would share."""
    problems = []
    lines: dict[str, list[int]] = {}
    for row in rows:
        lines.setdefault(row.sample, []).append(row.line)
    problems += [
        f"sample {sample} stands in lines {', '.join(map(str, where))}"
        for sample, where in lines.items()
        if len(where) > 1
    ]
    if not problems:
        # Of file systems that take upper and lower case for the same.
        twice: dict[str, None] = {}
        for by_sample in (False, True):
            names = Counter(each.name.lower() for each in callsets(rows, InputPaths(), by_sample))
            twice |= {name: None for name, n in names.items() if n > 1}
        problems += [f"two callsets would be written to one folder, '{name}'" for name in twice]
    return problems


def callsets(rows: Sequence[SheetRow], inputs: InputPaths, by_sample: bool = False) -> list[SheetCallset]:
    """The sheet's callsets, in its order: rows of one VCF together or, with ``by_sample``, each by itself.

    ``inputs`` has what all callsets share: reference and regions.
    """
    by_vcf: dict[str, list[SheetRow]] = {}
    for row in rows:
        alone = by_sample or row.vcf is None
        by_vcf.setdefault(f"of {row.sample}" if alone else str(row.vcf), []).append(row)
    return [_callset(members, inputs) for members in by_vcf.values()]


def _callset(members: Sequence[SheetRow], inputs: InputPaths) -> SheetCallset:
    first, names = members[0], tuple(row.sample for row in members)
    if len(members) == 1:
        paths = dataclasses.replace(
            inputs, vcf=first.vcf, reads=first.reads, truth=first.truth, bed=first.bed, labels=first.labels,
            sample=first.sample,
        )  # fmt: skip
        return SheetCallset(folder_name(first.sample), names, paths)
    # A truth is one sample's, and a callset of several is compared with none.
    with_reads = tuple(Member(row.sample, row.reads or "") for row in members)
    paths = dataclasses.replace(inputs, vcf=first.vcf, members=with_reads)
    return SheetCallset(folder_name(_VCF_SUFFIX.sub("", Path(str(first.vcf)).name)), names, paths)


def folder_name(name: str) -> str:
    """A sample's name as a folder's name: characters that could lead out of the folder are escaped as in a URL."""
    escaped = quote(name, safe="")
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped


def shared_inputs(inputs: InputPaths) -> InputPaths:
    """What all samples of a sheet share.

    Raises:
        UsageError: an input is given that the sheet names for each sample.
    """
    if inputs.members:
        raise UsageError("inputs.members and --sheet cannot go together; the sheet names each sample's files")
    for name in (*FILES, SAMPLE):
        if getattr(inputs, name):
            raise UsageError(f"--{name} and --sheet cannot go together; the sheet names each sample's files")
    return inputs


def sheet_callsets(
    sheet: str, inputs: InputPaths, needs: Sequence[str] = ("vcf",), by_sample: bool = False
) -> list[SheetCallset]:
    """Reads the sheet and returns its callsets (:func:`callsets`).

    Raises:
        InputError: everything that is wrong with the sheet, in one sentence.
        UsageError: ``inputs``, which all callsets share, have something that the sheet names for each.
    """
    shared = shared_inputs(inputs).absolute()
    return callsets(read_sheet(sheet, needs), shared, by_sample)
