"""The facts of a finished scoring run, read from its folder: for reports made long after the run."""

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
# Names of alleles and contigs without letters that a shell or a terminal could misunderstand.
_PLAIN = re.compile(r"[\w.:*<>,+=@#|/-]+", re.ASCII)


@dataclass(frozen=True)
class RunFacts:
    """What is known of the run that made the scores. What is not known is empty.

    Attributes:
        statement: The proof that no record was lost or duplicated.
        blocks: The rows of blocks.tsv; numbers are floats, NaN if unknown.
        runtime: The manifest's summary of time and memory.
        guard: The content of guard.json: how the callset's inputs compare with the training data.
        counts: The manifest's counts of records and alleles.
        key: The INFO key of the score.
        model: The model, as the run was given it.
        card: Its card, if the model is still there.
        configuration: The run's configuration.
        shards: The scored files, in the order of the records.
    """

    statement: str = ""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    runtime: dict[str, Any] = field(default_factory=dict)
    guard: Mapping[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    key: str = ""
    model: str = ""
    card: Card | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    shards: tuple[str, ...] = ()

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The paths that the run was given: ``vcf``, ``reads``, ``reference``, ``sample``, ..."""
        return self.configuration.get("inputs") or {}


def is_scoring_run(folder: Location) -> bool:
    """Whether a folder is the ``--out`` of 'cnnspark score'."""
    with explained(folder):
        return (folder / RUN).exists() and read_json(folder / RUN, "a run").get("stage") == "score"


def read_run(out: str) -> RunFacts:
    """Reads the facts of a scoring run's folder.

    If the model is no longer where it was, the card is None.

    Raises:
        InputError: If the run is not finished, or its manifest is damaged.
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
    """The facts of a callset that is given as a finished scoring run's folder; None for any other callset."""
    if callset.endswith((".vcf", ".gz", ".bcf")):
        return None
    folder = location(callset)
    with explained(callset):
        finished = folder.is_dir() and (folder / SUCCESS).exists()
    return read_run(callset) if finished and is_scoring_run(folder) else None


def _card(model: str, digest: str) -> Card | None:
    """The model's card; None if the model is gone, or another one is there now."""
    try:
        card = read_card(model)
    except (CnnsparkError, OSError):
        return None
    return card if card.sha256 == digest else None


def _blocks(folder: Location, shards: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of blocks.tsv; without that file, the times in the manifest's rows of shards."""
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
    """The ``cnnspark explain`` command for an allele, each word quoted for a shell.

    Args:
        inputs: ``vcf``, ``reads``, ``reference`` and ``sample``; the user has to fill in what is missing.
        model: The model that scored; empty if unknown.
        contig: The allele's contig.
        pos: Its position, 1-based.
        alt: The ALT.
        number: The number of the ALT, from 1.

    Returns:
        The command, or None if a name of the callset has letters that do not belong on a command line.
    """
    if not all(_PLAIN.fullmatch(name) and not name.startswith("-") for name in (contig, alt)):
        return None
    words = ["cnnspark", "explain", "--vcf", str(inputs["vcf"])]
    # A known model that scored without reads needs none here either.
    if reads := inputs.get("reads") or (None if model else "BAM"):
        words += ["--reads", str(reads)]
    words += ["--reference", str(inputs.get("reference") or "FASTA"), "--model", model or "MODEL"]
    if inputs.get("sample"):
        words += ["--sample", str(inputs["sample"])]
    words += ["--at", f"{contig}:{pos}"]
    if number > 1:
        words += ["--alt", alt]
    return shlex.join([*words, "--out", "call.html"])
