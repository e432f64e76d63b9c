"""What scoring and tensors cost by alleles, rows and reads: the constants of cnnspark/stages/costs.py, and their fit.

    python -m benchmarks.execution.costs --data ../shared/data --work DIR [--json FILE]

Blocks of the simulated callset, of HG002 and NA12878, whole and thinned, and of simulated samples of 8x to 250x are
built, scored by every network and written, in one process on one core; processor time, the lesser of two runs. The
constants are fitted by least squares of relative errors, and are not negative. Each sample is also left out of a fit
and predicted from the others: this says how far the constants can be trusted.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pysam
from scipy.optimize import nnls

from benchmarks.support.callsets import blocks_of, inputs_of, tensor_source, truth_of_sim
from benchmarks.support.command import arguments, table, use_one_core, write_results
from cnnspark.common.log import quiet_stderr
from cnnspark.execution import shards
from cnnspark.execution.blocks import Block, BlockSettings
from cnnspark.execution.run_folder import RunFolder
from cnnspark.formats.vcf import Record, VcfSource
from cnnspark.models.card import Card, read_card
from cnnspark.models.gatk_weights.importer import import_weights
from cnnspark.scoring.predict import known_features
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.simulation import simulate
from cnnspark.stages import write_tensors
from cnnspark.stages.costs import (
    BUILD,
    BUILD_GATK,
    BUILD_WITHOUT_READS,
    NETWORKS,
    READ_RECORDS,
    WRITE_SHARD,
    WRITE_TENSORS,
    Costs,
    Expected,
    Work,
    scoring_costs,
)
from cnnspark.tensors import dataset
from cnnspark.tensors.batches import scoring_batches
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.alleles import unscorable_reason
from cnnspark.variants.annotations import GATK_ANNOTATIONS
from cnnspark.variants.labeller import TruthPaths, open_labeller

LEAST_SECONDS = 1e-3
COVERAGES = (8, 60, 120, 250)
THINNED = (10, 50)
NETWORK_ALLELES = 256
GATK_ALLELES = 16  # GATK's read network takes 60 times as long
KNOWN = {"read records": READ_RECORDS, "build": BUILD, "build without reads": BUILD_WITHOUT_READS,
         "build gatk": BUILD_GATK, "write shard": WRITE_SHARD, "write tensors": WRITE_TENSORS,
         **{f"network {name}": costs for name, costs in NETWORKS.items()}}  # fmt: skip
# What a step can depend on.
TERMS = {"read records": ("block", "record"), "build": ("block", "allele", "row", "read"),
         "build without reads": ("block", "allele"), "build gatk": ("block", "allele", "row", "read"),
         "write shard": ("block", "record", "allele"), "write tensors": ("block", "allele", "row")}  # fmt: skip
NETWORK_TERMS = {
    "reads": ("block", "allele", "row"),
    "features": ("block", "allele", "row"),
    "gatk_2d": ("allele", "row"),
}


@dataclass(frozen=True)
class Part:
    """A callset that is measured, in blocks of ``records`` records."""

    name: str
    inputs: Inputs
    records: int = 1000
    truth: TruthPaths | None = None
    most_blocks: int = 3


def thinned(vcf: str, each: int, folder: Path) -> str:
    """Writes every ``each``-th record of a callset, so that records are as far apart as in a genome."""
    target = str(folder / f"{each}.{Path(vcf).name}")
    with VcfSource(vcf) as source, pysam.BGZFile(target, "wb", None) as out:
        out.write(source.header.text().encode("latin-1"))
        for number, line in enumerate(line for c in source.contigs for line in source._file.fetch(c)):
            if number % each == 0:
                out.write(f"{line}\n".encode("latin-1"))
    pysam.tabix_index(target, preset="vcf", force=True)
    return target


def parts(data: str, work: Path) -> Iterator[Part]:
    """The callsets that are measured."""
    of_sim, truth = inputs_of(data, "sim"), truth_of_sim(data)
    yield Part("sim 23x", of_sim, truth=truth)
    yield Part("sim 23x, small blocks", of_sim, records=100, truth=truth)
    for each in THINNED:
        yield Part(f"sim 23x, 1 of {each}", replace(of_sim, vcf=thinned(of_sim.vcf, each, work)), 200, truth)
    for name, of_real in (("HG002 bam", "HG002"), ("NA12878 bam", "NA12878"), ("NA12878 cram", "NA12878-cram")):
        yield Part(name, inputs_of(data, of_real))
        yield Part(f"{name}, small blocks", inputs_of(data, of_real), records=100)
    for coverage in COVERAGES:
        files = simulate(work / f"{coverage}x", seed=11, length=40_000, coverage=coverage)
        made = Inputs(str(files.callset), str(files.reads), str(files.reference), files.sample)
        yield Part(f"made up {coverage}x", made, records=300)


def seconds_of(work: Callable[..., Any], *given: Any, runs: int = 2) -> float:
    """The least processor time of some runs, in seconds."""
    used = []
    for _ in range(runs):
        started = time.process_time()
        work(*given)
        used.append(time.process_time() - started)
    return min(used)


def predict(bundle: Any, tensors: TensorBatch) -> None:
    """What scoring asks of the network."""
    tensors = replace(tensors, site_features=known_features(bundle.card, tensors))
    for _, arrays in scoring_batches(tensors, ScoreSettings().batch_size):
        bundle.predict(arrays)


def work_of(part: Part, lines: list[str]) -> Work:
    """The work of a block with these lines, as a run predicts it."""
    counted = Expected(BUILD, part.inputs.reads).open().block()
    for line in lines:
        columns = line.split("\t", 5)
        scorable = sum(unscorable_reason(columns[3], alt) is None for alt in columns[4].split(","))
        counted.add(columns[0], int(columns[1]) - 1, len(columns[3]), scorable)
    return counted.work()


class Source:
    """Builders of a part's tensors: with reads, without reads, and in GATK's encoding."""

    def __init__(self, part: Part):
        self.usual = tensor_source(part.inputs)
        self.without_reads = tensor_source(replace(part.inputs, reads=None))
        self.gatk = tensor_source(part.inputs, GATK_ANNOTATIONS, TensorSettings(encoding="gatk"))

    def of_model(self, card: Card, records: list[Record], block: Block) -> TensorBatch:
        """The tensors of the block's first alleles, as the model's network takes them."""
        source, most = self.gatk, GATK_ALLELES if card.model == "gatk_2d" else NETWORK_ALLELES
        if not card.model.startswith("gatk"):
            source = tensor_source(self.usual.inputs, card.annotation_names)
        tensors, _ = source.build(records, block)
        return tensors.take(range(min(len(tensors), most)))


def measure(part: Part, bundles: dict[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Each block's work and the seconds of each step."""
    source, header = Source(part), VcfSource(part.inputs.vcf).header
    usual = source.usual
    labeller = open_labeller(part.truth, usual.vcf, part.inputs.reference) if part.truth else None
    blocks = blocks_of(part.inputs.vcf, BlockSettings(records=part.records))
    for block in blocks[:: max(1, len(blocks) // part.most_blocks)][: part.most_blocks]:
        lines, records = list(usual.vcf.lines(block.region)), usual.records(block)
        batch, _ = usual.build(records, block)
        row: dict[str, Any] = {"part": part.name, "block": block.index, "rows": int(batch.row_offsets[-1])}
        row["work"] = asdict(work_of(part, lines))
        seconds = row["seconds"] = {
            "read records": seconds_of(usual.records, block),
            "build": seconds_of(usual.build, records, block),
            "build without reads": seconds_of(source.without_reads.build, records, block),
            "build gatk": seconds_of(source.gatk.build, records, block, runs=1),
        }
        for name, (bundle, card) in bundles.items():
            own = source.of_model(card, records, block)
            row[f"alleles {name}"] = len(own)
            if name != "gatk_2d":
                predict(bundle, own)  # TensorFlow sets up each new shape
            seconds[f"network {name}"] = seconds_of(predict, bundle, own, runs=1)
        out = shards.shard_folder(str(folder / part.name))
        out.open({}, [block], "overwrite")
        (out.out / shards.SHARDS).mkdir(exist_ok=True)
        output = shards.BlockOutput(lines, Counter())
        seconds["write shard"] = seconds_of(write_lines, out, block, header.text(), output)
        if labeller:
            tensors = dataset.dataset_folder(str(folder / f"{part.name}.tensors"))
            tensors.open({}, [block], "overwrite")
            whole = seconds_of(write_tensors, tensors, block, usual, labeller)
            seconds["write tensors"] = max(1e-3, whole - seconds["build"] - seconds["read records"])
        yield row


def write_lines(folder: RunFolder, block: Block, header: str, output: shards.BlockOutput) -> None:
    """Writes a shard of given lines."""
    shards.write_shard(folder, block, header, lambda _: output)


def columns(rows: list[dict[str, Any]], step: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Units of work (rows, terms), seconds (rows,), and the names of the terms."""
    network = step.removeprefix("network ")
    terms = NETWORK_TERMS.get(network, ("block", "allele")) if step.startswith("network") else TERMS[step]
    units = []
    for row in rows:
        work = Work(**row["work"])
        share = row.get(f"alleles {network}", work.alleles) / max(1, work.alleles)
        units.append([getattr(work, f"{term}s") * (share if term != "block" else 1) for term in terms])
    return np.array(units, float), np.array([row["seconds"][step] for row in rows]), terms


def fit(rows: list[dict[str, Any]], step: str) -> Costs:
    """Constants for one step, by relative errors; by absolute ones for ``write tensors``, a difference of two times."""
    units, seconds, terms = columns(rows, step)
    scale = np.ones(len(seconds)) if step == "write tensors" else 1 / seconds
    found, _ = nnls(units * scale[:, None], seconds * scale)
    return Costs(**{term: float(f"{value:.3g}") for term, value in zip(terms, found, strict=True)})


def predicted(rows: list[dict[str, Any]], step: str, costs: Costs) -> np.ndarray:
    """Predicted seconds (rows,)."""
    units, _, terms = columns(rows, step)
    return units @ np.array([getattr(costs, term) for term in terms])


def totals(rows: list[dict[str, Any]], network: str) -> dict[str, Any]:
    """How near cnnspark/stages/costs.py is to scoring whole blocks.

    The network is measured on some of a block's alleles; its time is scaled up to all of them.
    """
    found: dict[str, list[float]] = {"predicted": [], "real": []}
    for row in rows:
        work = Work(**row["work"])
        steps = row["seconds"]
        times = work.alleles / max(1, row[f"alleles {network}"])
        real = steps["read records"] + steps["build"] + steps[f"network {network}"] * times + steps["write shard"]
        found["real"].append(real)
        found["predicted"].append(scoring_costs(network, True).seconds(work))
    predicted, real = np.array(found["predicted"]), np.array(found["real"])
    error = np.abs(predicted / real - 1)
    return {"scoring with": network, "real s": real.sum(), "predicted s": predicted.sum(),
            "median error": f"{np.median(error):.0%}", "90 %": f"{np.quantile(error, 0.9):.0%}"}  # fmt: skip


def measure_all(data: str, work: Path) -> list[dict[str, Any]]:
    """The blocks of all parts, one after the other on one core."""
    use_one_core()
    work.mkdir(parents=True, exist_ok=True)
    bundles: dict[str, Any] = {}
    with quiet_stderr():
        from cnnspark.models.bundle import load_bundle

        for name in ("reads", "features", "reference"):
            bundles[name] = (load_bundle(f"bundled:{name}", 1), read_card(f"bundled:{name}"))
        for kind in ("1d", "2d"):
            target = str(work / f"gatk_{kind}")
            card = import_weights(str(Path(data, "oracle", f"gatk_{kind}.npz")), kind, target, True)
            bundles[f"gatk_{kind}"] = (load_bundle(target, 1), card)
    rows: list[dict[str, Any]] = []
    for part in parts(data, work):
        measured = list(measure(part, bundles, work))
        rows += measured
        print(f"{part.name}: {len(measured)} blocks", flush=True)
    return rows


def family(row: dict[str, Any]) -> str:
    """Rows of one family are left out together: of one sample and one format or depth of reads."""
    words = row["part"].split()
    return words[0] + words[-1][:1]


def fit_row(rows: list[dict[str, Any]], step: str) -> dict[str, Any]:
    """One step's constants, their errors, the errors on samples left out, and the error of costs.py as it is."""
    # A difference of two times that noise has swallowed says nothing.
    given = [row for row in rows if row["seconds"].get(step, 0) > LEAST_SECONDS or step == "read records"]
    costs = fit(given, step)
    seconds = columns(given, step)[1]
    error = np.abs(predicted(given, step, costs) / seconds - 1)
    apart = []
    for name in sorted({family(row) for row in given}):
        own = [row for row in given if family(row) == name]
        others = [row for row in given if family(row) != name]
        if others:
            apart.append(abs(predicted(own, step, fit(others, step)).sum() / columns(own, step)[1].sum() - 1))
    used = {f.name: getattr(costs, f.name) for f in fields(costs) if getattr(costs, f.name)}
    now = np.abs(predicted(given, step, KNOWN[step]).sum() / seconds.sum() - 1)
    return {"step": step, "blocks": len(given), "median error": f"{np.median(error):.0%}",
            "90 %": f"{np.quantile(error, 0.9):.0%}", "left out": f"{max(apart):.0%}" if apart else None,
            "as in costs.py, total": f"{now:.0%}", "fitted": used}  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--work", metavar="DIR", help="folder for what is made on the way [a temporary one]")
    parser.add_argument("--rows", metavar="FILE", help="the --json of an earlier run: fit it again")
    options = parser.parse_args()
    if options.rows:
        rows = json.loads(Path(options.rows).read_text())["rows"]
    else:
        with tempfile.TemporaryDirectory() as temporary:
            rows = measure_all(options.data, Path(options.work or temporary).absolute())
    write_results(options, {"rows": rows})
    print(table([fit_row(rows, step) for step in KNOWN]))
    print(table([totals(rows, name) for name in ("reads", "features")]))


if __name__ == "__main__":
    main()
