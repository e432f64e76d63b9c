"""What a finished scoring run says of itself, read from its folder: for reports, long after the run."""

from __future__ import annotations

import csv
import io
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnnspark.common.stopwatch import PARTS
from cnnspark.common.storage import explained, location, read_json
from cnnspark.errors import CnnsparkError, InputError
from cnnspark.execution.merge import Conservation
from cnnspark.execution.run_folder import MANIFEST, REPORT, RUN, SUCCESS
from cnnspark.models.card import Card, read_card

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

_TEXTS = ("sample", "contig", "host", "pid", "task")
_NUMBERS = ("start", "end", "records", "alleles", "reads", "seconds", "predicted_seconds", "cpu_seconds", "peak_mib")
# An allele or a locus that cannot be taken for anything else by a shell or a terminal.
_PLAIN = re.compile(r"[\w.:*<>,+=@#|/-]+", re.ASCII)


@dataclass(frozen=True)
class RunFacts:
    """What a report says of the run that made the scores; whatever is not known is empty."""

    statement: str = ""  # that all records are there
    blocks: list[dict[str, Any]] = field(default_factory=list)  # of blocks.tsv, numbers as floats, NaN unknown
    runtime: dict[str, Any] = field(default_factory=dict)
    guard: Mapping[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    key: str = ""  # of the score
    model: str = ""
    card: Card | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    shards: tuple[str, ...] = ()  # files, in the order of the records

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The paths that the run was given."""
        return self.configuration.get("inputs") or {}


def is_scoring_run(folder: Location) -> bool:
    """Whether a folder is the ``--out`` of 'cnnspark score'."""
    with explained(folder):
        return (folder / RUN).exists() and read_json(folder / RUN, "a run").get("stage") == "score"


def read_run(out: str) -> RunFacts:
    """The facts of a scoring run's folder.

    A model that is not where it was leaves the card out. Raises InputError where the run is not finished or its
    manifest is damaged.
    """
    folder = location(out)
    with explained(folder):
        if not (folder / SUCCESS).exists():
            raise InputError(f"{out} is not a finished run; score with --if-exists resume until it ends")
    manifest = read_json(folder / MANIFEST, "a run")
    try:
        config = dict(manifest["config"])
        model = str(config.get("model") or "")
        return RunFacts(
            statement=str(Conservation(**manifest["conservation"])),
            blocks=_blocks(folder, manifest["shards"]),
            runtime=dict(manifest.get("runtime") or {}),
            guard=manifest.get("guard"),
            counts=dict(manifest["counts"]),
            key=str(manifest["key"]),
            model=model,
            card=_card(model, str(manifest["model"])),
            configuration=config,
            shards=tuple(str(folder / str(row["file"])) for row in manifest["shards"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / MANIFEST} is not a scoring run's ({error}); score again") from None


def run_of(callset: str) -> RunFacts | None:
    """The facts of a callset that is given as its scoring run's folder; None of any other."""
    if callset.endswith((".vcf", ".gz", ".bcf")):
        return None
    folder = location(callset)
    with explained(callset):
        finished = folder.is_dir() and (folder / SUCCESS).exists()
    return read_run(callset) if finished and is_scoring_run(folder) else None


def _card(model: str, digest: str) -> Card | None:
    """The model's card, where the model is still the one that scored."""
    try:
        card = read_card(model)
    except (CnnsparkError, OSError):
        return None
    return card if card.sha256 == digest else None


def _blocks(folder: Location, shards: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of blocks.tsv; of a run that has none, what the shards' rows say of time."""
    path = folder / REPORT
    if not path.exists():
        rows = [{k: str(v) for k, v in row.items() if isinstance(v, (str, int, float))} for row in shards]
    else:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter="\t"))
    return [_typed(row) for row in rows]


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    numbers = {name: _number(row.get(name, "")) for name in (*_NUMBERS, *(f"{part}_seconds" for part in PARTS))}
    return {**{name: row.get(name) or "" for name in _TEXTS}, **numbers}


def _number(text: str | None) -> float:
    return float(text) if text else math.nan


def explain_command(inputs: Mapping[str, Any], model: str, contig: str, pos: int, alt: str, number: int) -> str | None:
    """The command that shows why an allele has its score, each word quoted for a shell.

    ``inputs`` has ``vcf``, ``reads``, ``reference`` and ``sample``; what it does not name is left for the user to fill
    in. None where a name of the callset has letters that do not belong on a command line.
    """
    if not all(_PLAIN.fullmatch(name) and not name.startswith("-") for name in (contig, alt)):
        return None
    words = ["cnnspark", "explain", "--vcf", str(inputs["vcf"])]
    # A known model that scored without reads needs none.
    if reads := inputs.get("reads") or (None if model else "BAM"):
        words += ["--reads", str(reads)]
    words += ["--reference", str(inputs.get("reference") or "FASTA"), "--model", model or "MODEL"]
    if inputs.get("sample"):
        words += ["--sample", str(inputs["sample"])]
    words += ["--at", f"{contig}:{pos}"]
    if number > 1:
        words += ["--alt", alt]
    return shlex.join([*words, "--out", "call.html"])
