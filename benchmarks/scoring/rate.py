"""Records a second that a task of ``score`` does, end to end, and what a second task on a second core adds.

    python -m benchmarks.scoring.rate --data ../shared/data [--model reads] [--repeats 41] [--only rate|tasks]
        [--cascade DIR]

``rate``: the work of a task on a block (records read from the VCF, reads decoded, tensors, network, scores, shard with
its index) in one process on one core, the 492 records of real/HG002 as one block again and again: 41 times are 20,172
records. Nothing is kept from one time to the next but what a task keeps from block to block, so each decodes its reads
anew. A callset in which each record stood 41 times would share the decoding, and say less. Start-up, which is loading
the model and the first block, is left out and printed beside. ``..., genome`` is every third of the records, which are
as far apart as those of a genome (1.6 a kb); the set itself has three times as many, called permissively. ``..., 3
samples`` is a callset of three that all have these calls and these reads. ``--cascade`` takes a bundle of two models
(``cnnspark cascade``); where the bundled ``reads`` is one, it is measured both ways without being asked.

The limit is what nothing can avoid: the same reads through plain pysam, the network's operations as one matrix product,
and the shard's text compressed.

``tasks``: two processes that do so at the same time against one, and two plain Python loops against one: what the
second core is worth on this machine at all. By the clock; on a machine that does other work it says nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.execution.costs import thinned
from benchmarks.models.network import operations
from benchmarks.scoring.limits import compress, matrix_product, python_loop
from benchmarks.support.measure import blocks_of, by_turns, figure, figures_table, machine, pin_to_one_core
from benchmarks.tensors import generated
from benchmarks.tensors.tensors import inputs_of, pysam_decoding, read_regions
from cnnspark.common.log import quiet_stderr, set_quiet
from cnnspark.execution.blocks import Block
from cnnspark.execution.shards import SHARDS, ShardRow, shard_folder, write_shard
from cnnspark.formats.vcf import VcfSource
from cnnspark.models.bundle_files import absolute_model
from cnnspark.models.card import model_tensors, read_card
from cnnspark.scoring import predict, score
from cnnspark.scoring import settings as scoring_settings
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.tensors import block_tensors, carrier_tensors
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings

# Scoring in two stages; a version without has no such module.
_STAGES = "cnnspark.scoring.cascade"
stages: Any = importlib.import_module(_STAGES) if importlib.util.find_spec(_STAGES) else None
MODELS = ("reads", "features", "reference")
REPEATS = 41
GENOME_EACH = 3
SAMPLES = 3
TASK_SECONDS = 8.0
_LOOP_ROUNDS = 2_000_000


def bundled(name: str) -> str:
    """The path of a bundled model."""
    return absolute_model(f"bundled:{name}")


class Task:
    """What a task of ``score`` holds, and the blocks that it is given. ``model`` is a bundle's path.

    With ``cascade`` the model that the bundle has before it scores first. Raises CnnsparkError where it has none.
    """

    def __init__(self, inputs: block_tensors.Inputs, model: str, folder: Path, cascade: bool = False):
        started, used = time.perf_counter(), time.process_time()
        self.path = model
        self.card = read_card(model)
        self.looks_at_reads = self.card.looks_at_reads
        self.inputs = inputs if self.looks_at_reads else replace(inputs, reads=None)
        self.tensors = model_tensors(model, self.card, TensorSettings())
        before = [stages.first_stage(model, self.card, cascade)] if stages else []
        self.folder = shard_folder(str(folder))
        self.blocks = blocks_of(inputs.vcf)
        self.folder.open({}, self.blocks, "overwrite")
        (folder / SHARDS).mkdir(exist_ok=True)
        plan = ScoringPlan(model, self.card, self.tensors, scoring_settings.ScoreSettings(), *before)
        self.header = score.score_header(VcfSource(inputs.vcf).header, inputs.vcf, plan, inputs).text()
        self.work = score.score_work(self.inputs, plan)
        self.run()
        self.start_seconds = time.perf_counter() - started, time.process_time() - used

    def run(self) -> list[ShardRow]:
        """All blocks once."""
        return [write_shard(self.folder, block, self.header, self.work) for block in self.blocks]

    @property
    def records(self) -> int:
        return sum(block.records for block in self.blocks)

    def limit(self, folder: Path) -> Callable[[], None]:
        """The least that has to be done for the same blocks."""
        regions = read_regions(self.work, self.blocks) if self.looks_at_reads else []
        reads = self.inputs.reads or next((member.reads for member in self.inputs.members), None)
        bundle = predict.loaded_model(self.path, self.card.sha256, 1)
        product = matrix_product(operations(bundle.model, TensorBatch.concatenate(list(self.batches()))))
        text = self.header.encode("latin-1") + b"".join(_text(self, block) for block in self.blocks)

        def work() -> None:
            if regions:
                pysam_decoding(replace(self.inputs, reads=reads), regions)
            product()
            compress(text, folder / "limit.gz")

        return work

    def batches(self) -> Iterator[TensorBatch]:
        """The tensors of all blocks."""
        if self.inputs.members:
            of_many = carrier_tensors.CarrierTensors(self.inputs, self.card.annotation_names, self.tensors, 20)
            for block in self.blocks:
                yield from (tensors for _, _, tensors in of_many.tensors(of_many.carriers(block)))
        else:
            source = block_tensors.BlockTensors(self.inputs, self.card.annotation_names, self.tensors)
            yield from (source.build(source.records(block), block)[0] for block in self.blocks)


def _text(task: Task, block: Block) -> bytes:
    return "".join(f"{line}\n" for line in task.work(block).lines).encode("latin-1")


def measure_rate(
    data: str, name: str, model: str, repeats: int, runs: int, each: int = 1, samples: int = 1, cascade: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figure of one model, of every so-many-th record and so many samples with its calls; and its start-up.

    The limit of two models is that of the second alone: what the first spares may make the ratio exceed it.
    """
    inputs = inputs_of(data, "HG002")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if each > 1:
            inputs = replace(inputs, vcf=thinned(str(Path(inputs.vcf).absolute()), each, folder))
        if samples > 1:
            inputs = generated.several_samples(inputs, samples, folder)
        task = Task(inputs, model, folder / "out", cascade)
        times = -(-repeats // runs)  # in each of the runs
        limit = task.limit(folder)

        def often(work: Callable[[], object]) -> Callable[[], None]:
            def repeated() -> None:
                for _ in range(times):
                    work()

            return repeated

        found = by_turns({"work": often(task.run), "limit": often(limit)}, runs)
        written = sum(row.bytes - row.header_bytes for row in task.run()) / task.records
    name = f"score {name}" + (", genome" if each > 1 else "") + (f", {samples} samples" if samples > 1 else "")
    parts = "decode + product + compress" if task.looks_at_reads else "product + compress"
    # Of several samples each scores a record.
    count = task.records * times * samples
    made = figure(name, count, "records", found["work"], found["limit"], parts)
    wall, cpu = task.start_seconds
    start = {"model": name, "start-up s, clock": round(wall, 2), "start-up s, processor": round(cpu, 2)}
    return made | {"records": count * runs, "bytes_by_record": written}, start


def _work_on(core: int, data: str, model: str, seconds: float, barrier: Any, answers: Any) -> None:
    """One process of ``tasks``: says how often it did the work (of ``model``, or a plain loop) in so many seconds."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    set_quiet(True)
    with tempfile.TemporaryDirectory() as temporary:
        if model:
            with quiet_stderr():
                work: Callable[[], object] = Task(inputs_of(data, "HG002"), bundled(model), Path(temporary) / "out").run
        else:

            def work() -> object:
                return python_loop(_LOOP_ROUNDS)

        work()
        barrier.wait()
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            work()
            count += 1
        answers.put(count / (time.perf_counter() - started))


def together(count: int, data: str, model: str, seconds: float) -> float:
    """How often a second ``count`` processes do the work, all together."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=_work_on, args=(core, data, model, seconds, barrier, answers)) for core in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"a process of {model or 'plain Python'} ended with {process.exitcode}; see its message")
    return sum(answers.get() for _ in processes)


def measure_tasks(data: str, model: str, turns: int, seconds: float) -> dict[str, Any]:
    """What a second task adds, beside what a second plain loop does, by turns."""
    gains: dict[str, list[float]] = {"tasks": [], "loops": []}
    for _ in range(turns):
        for kind, name in (("tasks", model), ("loops", "")):
            gains[kind].append(together(2, data, name, seconds) / together(1, data, name, seconds))
    ratios = [tasks / loops for tasks, loops in zip(gains["tasks"], gains["loops"], strict=True)]
    return {
        "name": f"two tasks, {model}",
        "rate": statistics.median(gains["tasks"]),
        "low": min(gains["tasks"]),
        "high": max(gains["tasks"]),
        "unit": "of one",
        "limit": "two plain loops",
        "limit_rate": statistics.median(gains["loops"]),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "runs": turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated [all]")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="times that the 492 records are scored")
    parser.add_argument("--runs", type=int, default=5, help="among which these times are dealt")
    parser.add_argument("--turns", type=int, default=3, help="of 'tasks'")
    parser.add_argument("--seconds", type=float, default=TASK_SECONDS, help="of each process of 'tasks'")
    parser.add_argument("--only", choices=["rate", "tasks"])
    parser.add_argument("--cascade", metavar="DIR", help="a bundle of two models, measured too")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    set_quiet(True)
    figures, starts = [], []
    models = options.model or MODELS
    if options.only != "rate" and (os.cpu_count() or 1) > 1:
        figures.append(measure_tasks(options.data, models[0], options.turns, options.seconds))
    if options.only != "tasks":
        pin_to_one_core()
        with quiet_stderr():
            given = [(name, bundled(name), False) for name in models]
            with_first = options.cascade or (bundled("reads") if "reads" in models else None)
            if with_first and getattr(read_card(with_first), "cascade", None):
                given.append(("reads, cascade", with_first, True))
            elif options.cascade:
                raise SystemExit(f"{options.cascade} has no first model; make one with 'cnnspark cascade'")
            for name, path, cascade in given:
                for each in (1, GENOME_EACH):
                    made, start = measure_rate(
                        options.data, name, path, options.repeats, options.runs, each, cascade=cascade
                    )
                    figures.append(made)
                    starts += [start] if each == 1 else []
            repeats = max(1, options.repeats // SAMPLES)
            name, path, _ = given[0]
            made, _ = measure_rate(options.data, name, path, repeats, options.runs, samples=SAMPLES)
            figures.append(made)
    facts = machine()
    print(f"one core of {facts['processor']}, load {facts['load']}, processor time (tasks: by the clock)")
    print(figures_table(figures))
    for start in starts:
        print(", ".join(f"{name} {value}" for name, value in start.items()))
    if options.json:
        found = {"machine": facts, "figures": figures, "start_up": starts}
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
