"""What is mutated, how, by which command it is read, and what its result is compared with."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pysam
from pysam.utils import SamtoolsError

from cnnspark.common.storage import file_digest
from tests.support.fuzzing.containers import cram_with_mutated_block, repacked, unpacked
from tests.support.fuzzing.inputs import MODEL
from tests.support.fuzzing.mutations import BYTES, JSON, LINES, Mutation, mutated

# What a result is compared with.
TEXT = "a slow reading of the mutated text"
BCFTOOLS = "bcftools' reading of the mutated file"
SAME = "the result of the intact file"
RECORDS = "the intact file's records, whatever their scores"
BED = "a slow reading of the mutated BED"
NOTHING = "nothing; it has to end with a result or a sentence"

Change = Callable[[random.Random, Path], str]


@dataclass(frozen=True)
class Kind:
    """One kind of mutants.

    Attributes:
        name: in messages and on the command line.
        file: the file to change, a name among the inputs.
        command: name of the command, a key of :data:`COMMANDS`.
        callset: the callset that the command reads.
        change: changes the file in place and says how.
        oracle: what a result is compared with.
        weight: how often it is tried.
        reads: the reads of a command that needs some.
        reference: the FASTA.
    """

    name: str
    file: str
    command: str
    callset: str
    change: Change
    oracle: str
    weight: int = 1
    reads: str = "r.bam"
    reference: str = "ref.fa"


def of_file(kinds: tuple[Mutation, ...]) -> Change:
    """Changes the bytes as they are."""

    def change(dice: random.Random, path: Path) -> str:
        content, names = mutated(dice, path.read_bytes(), kinds)
        replace(path, content)
        return names

    return change


def of_content(kinds: tuple[Mutation, ...], index: Callable[[Path], None] | None = None) -> Change:
    """Changes what is compressed, and compresses it again; ``index`` makes the file's index anew where it can."""

    def change(dice: random.Random, path: Path) -> str:
        content, names = mutated(dice, unpacked(path), kinds)
        replace(path, repacked(path, content))
        if index is None:
            return f"{names} in the content"
        try:
            index(path)
        except (OSError, ValueError, SamtoolsError):
            return f"{names} in the content, which cannot be indexed"
        return f"{names} in the content, with a new index"

    return change


def of_cram(dice: random.Random, path: Path) -> str:
    content, names = cram_with_mutated_block(dice, path.read_bytes())
    replace(path, content)
    return names


def of_network(dice: random.Random, path: Path) -> str:
    """Changes a part of a ``.keras``, and writes the digest of the new file into the card."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = dice.choice(sorted(members))
    members[name], names = mutated(dice, members[name], JSON if name.endswith(".json") else BYTES)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for each, content in members.items():
            archive.writestr(zipfile.ZipInfo(each), content)
    replace(path, packed.getvalue())
    card = path.with_name("model.json")
    values = json.loads(card.read_text())
    values["sha256"] = file_digest(str(path))
    replace(card, json.dumps(values).encode())
    return f"{names} in {name}, with the card's digest put right"


def of_run(dice: random.Random, out: Path) -> str:
    """Changes one file of a run that is to be resumed."""
    chosen = dice.choice(sorted(path for path in out.rglob("*") if path.is_file() and path.stat().st_size))
    content, names = mutated(dice, chosen.read_bytes(), JSON if chosen.suffix == ".json" else BYTES)
    replace(chosen, content)
    return f"{names} in {chosen.relative_to(out)}"


def replace(path: Path, content: bytes) -> None:
    """Writes a new file in place of one that may be a hard link to the intact one; its time stays."""
    before = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _index_vcf(path: Path) -> None:
    Path(f"{path}.tbi").unlink()
    shutil.copy(path, f"{path}.copy.vcf.gz")
    try:
        pysam.tabix_index(f"{path}.copy.vcf.gz", preset="vcf", index=f"{path}.tbi")
    finally:
        Path(f"{path}.copy.vcf.gz").unlink(missing_ok=True)


def _index_reads(path: Path) -> None:
    Path(f"{path}.bai").unlink()
    pysam.index(str(path))


def _index_fasta(path: Path) -> None:
    for suffix in (".fai", ".gzi"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    pysam.faidx(str(path))


def command(kind: Kind, inputs: Path, out: Path) -> list[str]:
    """The arguments of ``cnnspark`` for a mutant in the folder ``inputs``; results go into the folder ``out``."""
    callset, reference = str(inputs / kind.callset), ["--reference", str(inputs / kind.reference)]
    score = ["score", "--local", "--vcf", callset, "--reads", str(inputs / kind.reads), *reference]
    truth = ["--truth", str(inputs / "truth.vcf.gz"), "--bed", str(inputs / "confident.bed")]
    return {
        "filter": ["filter", "--local", "--in", callset, "--key", "QUAL", "--threshold", "20"]
        + ["--out", str(out / "o.vcf.gz")],
        "tranches": ["filter", "--local", "--in", callset, "--key", "CNN_1D"]
        + ["--resource", str(inputs / "truth.vcf.gz"), "--out", str(out / "o.vcf.gz")],
        "score": [*score, "--model", str(inputs / MODEL), "--out", str(out / "o")],
        "resume": [*score, "--model", str(inputs / MODEL), "--set", "blocks.records=8", "--if-exists", "resume"]
        + ["--out", str(out / "o")],
        "evaluate": ["evaluate", "--local", "--vcf", callset, "--score", "CNN_1D", *truth, *reference]
        + ["--out", str(out / "o")],
        "plan": ["plan", "--sheet", str(inputs / "sheet.tsv"), *reference, "--model", "features"],
    }[kind.command]


_NETWORK, _CARD = f"{MODEL}/model.keras", f"{MODEL}/model.json"
KINDS = (
    Kind("vcf", "c.vcf", "filter", "c.vcf", of_file(LINES), TEXT, 5),
    Kind("vcf-scored", "c.vcf", "score", "c.vcf", of_file(LINES), TEXT, 3),
    Kind("vcf-bytes", "c.vcf", "filter", "c.vcf", of_file(BYTES), TEXT, 2),
    Kind("vcfgz", "c.vcf.gz", "filter", "c.vcf.gz", of_file(BYTES), TEXT, 2),
    Kind("vcfgz-content", "c.vcf.gz", "filter", "c.vcf.gz", of_content(LINES, _index_vcf), TEXT, 3),
    Kind("vcfgz-scored", "c.vcf.gz", "score", "c.vcf.gz", of_content(LINES, _index_vcf), TEXT, 2),
    Kind("vcfgz-old-index", "c.vcf.gz", "filter", "c.vcf.gz", of_content(LINES), TEXT, 2),
    Kind("bcf", "c.bcf", "filter", "c.bcf", of_file(BYTES), BCFTOOLS, 2),
    Kind("bcf-content", "c.bcf", "filter", "c.bcf", of_content(BYTES), BCFTOOLS, 3),
    Kind("tbi", "c.vcf.gz.tbi", "filter", "c.vcf.gz", of_file(BYTES), SAME),
    Kind("tbi-content", "c.vcf.gz.tbi", "filter", "c.vcf.gz", of_content(BYTES), SAME, 3),
    Kind("csi", "x.vcf.gz.csi", "filter", "x.vcf.gz", of_file(BYTES), SAME),
    Kind("csi-content", "x.vcf.gz.csi", "filter", "x.vcf.gz", of_content(BYTES), SAME, 3),
    Kind("bam", "r.bam", "score", "c.vcf", of_file(BYTES), SAME, 2),
    Kind("bam-content", "r.bam", "score", "c.vcf", of_content(BYTES, _index_reads), RECORDS, 3),
    Kind("bam-old-index", "r.bam", "score", "c.vcf", of_content(BYTES), RECORDS),
    Kind("bai", "r.bam.bai", "score", "c.vcf", of_file(BYTES), SAME, 3),
    Kind("cram", "r.cram", "score", "c.vcf", of_file(BYTES), SAME, 2, reads="r.cram"),
    Kind("cram-content", "r.cram", "score", "c.vcf", of_cram, RECORDS, 2, reads="r.cram"),
    Kind("crai", "r.cram.crai", "score", "c.vcf", of_file(BYTES), SAME, reads="r.cram"),
    Kind("crai-content", "r.cram.crai", "score", "c.vcf", of_content(LINES), SAME, 2, reads="r.cram"),
    Kind("fasta", "ref.fa", "score", "c.vcf", of_file(LINES), RECORDS, 2),
    Kind("fasta-new-index", "ref.fa", "score", "c.vcf", of_content(LINES, _index_fasta), RECORDS),
    Kind("fai", "ref.fa.fai", "score", "c.vcf", of_file(LINES), SAME, 2),
    Kind("fagz", "z.fa.gz", "score", "c.vcf", of_file(BYTES), SAME, 2, reference="z.fa.gz"),
    Kind("fagz-content", "z.fa.gz", "score", "c.vcf", of_content(LINES, _index_fasta), RECORDS, reference="z.fa.gz"),
    Kind("gzi", "z.fa.gz.gzi", "score", "c.vcf", of_file(BYTES), SAME, 2, reference="z.fa.gz"),
    Kind("bed", "confident.bed", "evaluate", "c.vcf.gz", of_file(LINES), BED, 2),
    Kind("truth", "truth.vcf.gz", "evaluate", "c.vcf.gz", of_file(BYTES), SAME),
    Kind("truth-content", "truth.vcf.gz", "evaluate", "c.vcf.gz", of_content(LINES, _index_vcf), NOTHING),
    Kind("truth-index", "truth.vcf.gz.tbi", "evaluate", "c.vcf.gz", of_content(BYTES), SAME),
    Kind("resource", "truth.vcf.gz", "tranches", "c.vcf.gz", of_content(LINES, _index_vcf), RECORDS, 2),
    Kind("card", _CARD, "score", "c.vcf", of_file(JSON), RECORDS, 2),
    Kind("network", _NETWORK, "score", "c.vcf", of_file(BYTES), SAME),
    Kind("network-content", _NETWORK, "score", "c.vcf", of_network, RECORDS),
    Kind("sheet", "sheet.tsv", "plan", "c.vcf", of_file(LINES), NOTHING),
    Kind("run", "", "resume", "c.vcf", of_run, SAME, 2),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def mutants(number: int) -> list[tuple[str, int]]:
    """The first mutants as (kind, seed): all kinds, each as often as its weight says."""
    cycle = [kind.name for round_ in range(5) for kind in KINDS if kind.weight > round_]
    return [(cycle[i % len(cycle)], i) for i in range(number)]
