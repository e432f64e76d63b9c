"""Whether a mutant ended as it should: with the right result, or with one sentence and nothing written."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import pysam
import pysam.bcftools
from pysam.utils import SamtoolsError

from cnnspark.formats.regions import read_bed
from tests.support.fuzzing.inputs import CONTIGS
from tests.support.fuzzing.kinds import BCFTOOLS, BED, RECORDS, SAME, TEXT, Kind

RESULT, SENTENCE, FAILURE = "result", "sentence", "FAILURE"
_PROGRESS = re.compile(r"\[ *\d+\.\d s\] ")
_LONGEST_SENTENCE = 1_200
_SCORES = (b"CNN_2D=", b"CNN_ALT_SCORES=")
# What a command leaves beside the callset that it writes.
_OF_FILTER = {"o.vcf.gz", "o.vcf.gz.tbi", "o.vcf.gz.csi", "o.vcf.gz.filter.json"}


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code, and what it wrote to stderr and to the folder ``out``."""

    code: int
    stderr: str
    out: Path

    @property
    def lines(self) -> list[str]:
        """What stderr says beside progress."""
        return [line for line in self.stderr.split("\n") if line and not _PROGRESS.match(line)]

    @property
    def warnings(self) -> list[str]:
        return [_PROGRESS.sub("", line) for line in self.stderr.split("\n") if "] warning: " in line]


@dataclass(frozen=True)
class Result:
    """What a command wrote: the lines of its callset, or its figures."""

    header: list[bytes]
    records: list[bytes]
    figures: str = ""


def result_of(kind: Kind, out: Path) -> Result:
    """Reads what a command wrote; OSError if it cannot be read."""
    if kind.command == "plan":
        return Result([], [])
    if kind.command == "evaluate":
        return Result([], [], (out / "o" / "metrics.json").read_text())
    path = out / ("o.vcf.gz" if kind.command in ("filter", "tranches") else "o/merged.vcf.gz")
    return Result(*_text_of(gzip.decompress(path.read_bytes())))


def _text_of(content: bytes) -> tuple[list[bytes], list[bytes]]:
    """Header lines and records of a VCF's text, read slowly: line ends and empty lines do not count."""
    lines = [line.rstrip(b"\r") for line in content.split(b"\n")]
    return [line for line in lines if line.startswith(b"#")], [line for line in lines if line and line[:1] != b"#"]


def judge(kind: Kind, ending: Ending, inputs: Path, intact: Result, intact_warnings: list[str]) -> tuple[str, str]:
    """The class of an ending, and what is wrong with it or what it said."""
    if ending.code == 0:
        wrong = _wrong_success(kind, ending, inputs, intact, intact_warnings)
        return (FAILURE, wrong) if wrong else (RESULT, "")
    wrong = _wrong_end(kind, ending, inputs)
    return (FAILURE, wrong) if wrong else (SENTENCE, ending.lines[-1])


def _wrong_end(kind: Kind, ending: Ending, inputs: Path) -> str:
    """What is wrong with a command that did not succeed; empty if nothing is."""
    said = " | ".join(ending.lines)[-600:]
    allowed = (2, 3, 4) if kind.command == "resume" else (2, 3)
    if ending.code not in allowed:
        return f"exit {ending.code}: {said}"
    if len(ending.lines) != 1:
        return f"{len(ending.lines)} lines on stderr instead of a sentence: {said}"
    sentence = ending.lines[0]
    if re.search(r"Traceback|run with --debug", sentence):
        return f"a raw exception: {said}"
    if not sentence.isprintable() or len(sentence) > _LONGEST_SENTENCE:
        return f"no clear sentence ({len(sentence)} letters): {said!r}"
    if str(inputs) not in sentence and str(ending.out) not in sentence:
        return f"names no file: {said}"
    if kind.command == "resume":
        return ""
    left = [str(path.relative_to(ending.out)) for path in ending.out.rglob("*")]
    if kind.command == "score":
        left = [name for name in left if not re.match(r"o(/(run\.json|shards.*|manifest.*|guard\.json))?$", name)]
    return f"left {left} behind: {said}" if left else ""


def _wrong_success(kind: Kind, ending: Ending, inputs: Path, intact: Result, intact_warnings: list[str]) -> str:
    """What is wrong with a command that succeeded; empty if nothing is."""
    if ending.lines:
        return f"success with messages: {' | '.join(ending.lines)[-600:]}"
    try:
        found = result_of(kind, ending.out)
    except (OSError, EOFError, zlib.error) as error:
        return f"the result cannot be read ({error})"
    if kind.oracle == BED:
        return _wrong_regions(inputs / "confident.bed")
    if kind.oracle == SAME:
        expected = _slow_reading(inputs / kind.callset) if kind.name == "vcfgz" else None
        if found == intact or expected or set(ending.warnings) - set(intact_warnings):
            return ""
        return f"differs from the intact file's result without a word: {_difference(intact, found)}"
    if kind.oracle == RECORDS:
        return _differs(_bare(intact.records, kind), _bare(found.records, kind))
    if kind.oracle == BCFTOOLS:
        by_bcftools = bcftools_records(inputs / kind.callset)
        if by_bcftools is None:
            return "bcftools cannot read the mutant"
        return _differs(_bare(by_bcftools, kind), _bare(found.records, kind))
    return _wrong_text(kind, found, inputs, ending.out) if kind.oracle == TEXT else ""


def _wrong_text(kind: Kind, found: Result, inputs: Path, out: Path) -> str:
    callset = inputs / kind.callset
    read = _slow_reading(callset)
    if read is None:
        return "the mutant cannot be decompressed"
    header, records = read
    wrong = _differs(_bare(records, kind), _bare(found.records, kind))
    if wrong:
        return wrong
    rest = iter(found.header)
    lost = next((line for line in header if b"ID=CNN_2D" not in line and line not in rest), None)
    if lost is not None:
        return f"the header has lost {lost[:200]!r}, or another order"
    by_bcftools = bcftools_records(callset)
    if by_bcftools is None:
        return ""
    written = bcftools_records(out / ("o.vcf.gz" if kind.command == "filter" else "o/merged.vcf.gz"))
    if written is None or len(written) != len(by_bcftools):
        return f"bcftools reads {len(by_bcftools)} records of the mutant and {written and len(written)} of the result"
    return ""


def _slow_reading(path: Path) -> tuple[list[bytes], list[bytes]] | None:
    content = path.read_bytes()
    try:
        return _text_of(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    except (OSError, EOFError, zlib.error):
        return None


def _bare(lines: list[bytes], kind: Kind) -> list[bytes]:
    """Records without what the command writes: FILTER, or the score in INFO."""
    bare = []
    for line in lines:
        columns = line.split(b"\t")
        if kind.command in ("filter", "tranches"):
            columns[6:7] = [b"?"]
        elif len(columns) > 7:
            columns[7] = b";".join(item for item in columns[7].split(b";") if not item.startswith(_SCORES)) or b"."
        bare.append(b"\t".join(columns))
    return bare


def _differs(expected: list[bytes], found: list[bytes]) -> str:
    if expected == found:
        return ""
    first = next((pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]), (b"", b""))
    return (
        f"{len(expected)} records became {len(found)}; the first that differs is {first[0][:200]!r} and became "
        f"{first[1][:200]!r}"
    )


def _difference(intact: Result, found: Result) -> str:
    if intact.figures != found.figures:
        return "other figures"
    return _differs(intact.records, found.records) or "another header"


def bcftools_records(path: Path) -> list[bytes] | None:
    """The records as bcftools reads them; None if it cannot."""
    target = path.with_name("bcftools.txt")
    before = pysam.set_verbosity(0)
    try:
        pysam.bcftools.view("--no-version", "-H", "-o", str(target), str(path), catch_stdout=False)
        return [line for line in target.read_bytes().split(b"\n") if line]
    except SamtoolsError:
        return None
    finally:
        pysam.set_verbosity(before)
        target.unlink(missing_ok=True)


def _wrong_regions(path: Path) -> str:
    """What of a BED is read otherwise than by a slow reading; empty if nothing is."""
    covered: dict[str, set[int]] = {}
    for line in path.read_bytes().decode("utf-8-sig").split("\n"):
        fields = line.split()
        if not fields or line.startswith(("#", "track", "browser")):
            continue
        if len(fields) < 3 or not all(re.fullmatch(r"[0-9]+", field) for field in fields[1:3]):
            return f"took {line[:80]!r} for a region"
        start, end = int(fields[1]), int(fields[2])
        covered.setdefault(fields[0], set()).update(range(start, min(end, max(CONTIGS.values()))))
    found: dict[str, set[int]] = {}
    for region in read_bed(str(path)):
        end = min(region.end, max(CONTIGS.values()))
        found.setdefault(region.contig, set()).update(range(region.start, end))
    differ = [contig for contig in {*covered, *found} if covered.get(contig, set()) != found.get(contig, set())]
    return f"reads other regions of {differ}" if differ else ""
