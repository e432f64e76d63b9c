"""Records a second that a task of ``score`` scores, end to end, and what a second task on a second core adds.

    python -m benchmarks.scoring.rate --data ../shared/data [--model reads] [--repeats 41] [--only rate|tasks]
        [--cascade DIR]

``rate``: the work of a task on a block (records read from the VCF, reads decoded, tensors, network, scores, shard with
its index) in one process on one core, the 492 records of real/HG002 as one block again and again: 41 times are 20,172
records. A task keeps from one time to the next only what it keeps from block to block, so it decodes the reads each
time. Start-up (loading the model, and the first block) is left out and printed separately. ``..., genome`` is every
third record, as far apart as those of a genome (1.6 a kb); the set itself has three times as many, called permissively.
``..., 3 samples`` is a callset of three samples that all have these calls and these reads. ``--cascade`` takes a bundle
of two models (``cnnspark cascade``); if the bundled ``reads`` is one, it is always measured both ways.

The limit is what nothing can avoid: the same reads through plain pysam, the network's operations as one matrix product,
and the shard's text compressed.

``tasks``: two such processes at the same time against one, beside two plain Python loops against one, which say what
the second core of this machine is worth. Seconds by the clock: on a machine that does other work they say nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.execution.costs import thinned
from benchmarks.models.network import operations
from benchmarks.scoring.limits import compress, matrix_product, python_loop
from benchmarks.support.callsets import all_tensors, blocks_of, inputs_of, tensor_source
from benchmarks.support.command import arguments, finish, use_one_core
from benchmarks.support.measure import figure, figure_of, in_rounds, time_in_rounds
from benchmarks.support.scoring_task import ScoringTask
from benchmarks.tensors import generated
from benchmarks.tensors.tensors import pysam_decoding, read_regions
from cnnspark.common.log import quiet_stderr
from cnnspark.execution.shards import ShardRow
from cnnspark.models.card import read_card
from cnnspark.scoring import predict
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.carrier_tensors import CarrierTensors
from cnnspark.tensors.schema import TensorBatch

MODELS = ("reads", "features", "reference")
REPEATS = 41
GENOME_EACH = 3
SAMPLES = 3
TASK_SECONDS = 8.0
_LOOP_ROUNDS = 2_000_000


class Task(ScoringTask):
    """A task of ``score`` with all blocks of a callset, and what its start took: the model and the first round."""

    def __init__(self, inputs: Inputs, model: str, folder: Path, with_first: bool = False):
        started, used = time.perf_counter(), time.process_time()
        super().__init__(inputs, model, with_first=with_first)
        self.blocks = blocks_of(inputs.vcf)
        self.open_shards(folder, self.blocks)
        self.run()
        self.start_seconds = time.perf_counter() - started, time.process_time() - used

    def run(self) -> list[ShardRow]:
        """All blocks once."""
        return [self.write(block) for block in self.blocks]

    @property
    def records(self) -> int:
        return sum(block.records for block in self.blocks)

    def limit(self, folder: Path) -> Callable[[], None]:
        """Work that is the least that has to be done for the same blocks."""
        regions = read_regions(self.work, self.blocks) if self.looks_at_reads else []
        reads = self.inputs.reads or next((member.reads for member in self.inputs.members), None)
        bundle = predict.loaded_model(self.model, self.card.digest, 1)
        product = matrix_product(operations(bundle.model, self.all_tensors()))
        lines = [f"{line}\n" for block in self.blocks for line in self.work(block).lines]
        text = (self.header + "".join(lines)).encode("latin-1")

        def work() -> None:
            if regions:
                pysam_decoding(replace(self.inputs, reads=reads), regions)
            product()
            compress(text, folder / "limit.gz")

        return work

    def all_tensors(self) -> TensorBatch:
        """The tensors of all blocks, of all samples that carry an allele."""
        if not self.inputs.members:
            return all_tensors(tensor_source(self.inputs, self.card.annotation_names, self.tensors), self.blocks)
        source = CarrierTensors(self.inputs, self.card.annotation_names, self.tensors, 20)
        found = [source.tensors(source.carriers(block)) for block in self.blocks]
        return TensorBatch.concatenate([tensors for of_block in found for _, _, tensors in of_block])


def measure_rate(
    data: str, name: str, model: str, repeats: int, runs: int, each: int = 1, samples: int = 1,
    with_first: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """The figure of one model and its start-up, on every ``each``-th record and ``samples`` samples with its calls.

    The limit of two models is that of the second alone, so the ratio can exceed 1.
    """
    inputs = inputs_of(data, "HG002")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if each > 1:
            inputs = replace(inputs, vcf=thinned(inputs.vcf, each, folder))
        if samples > 1:
            inputs = generated.several_samples(inputs, samples, folder)
        task = Task(inputs, model, folder / "out", with_first)
        times = -(-repeats // runs)  # in each of the runs
        limit = task.limit(folder)

        def often(work: Callable[[], object]) -> Callable[[], None]:
            def repeated() -> None:
                for _ in range(times):
                    work()

            return repeated

        found = time_in_rounds({"work": often(task.run), "limit": often(limit)}, runs)
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
    """One process of ``tasks``: answers how often a second it did the work of ``model``, or a plain loop."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})
    use_one_core()
    with tempfile.TemporaryDirectory() as temporary:
        if model:
            with quiet_stderr():
                work: Callable[[], object] = Task(
                    inputs_of(data, "HG002"), f"bundled:{model}", Path(temporary) / "out"
                ).run
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
    """What a second task adds, beside what a second plain loop does, alternately."""

    def gain(name: str) -> Callable[[], float]:
        return lambda: together(2, data, name, seconds) / together(1, data, name, seconds)

    gains = in_rounds({"tasks": gain(model), "loops": gain("")}, turns, warm_up=False)
    ratios = [tasks / loops for tasks, loops in zip(gains["tasks"], gains["loops"], strict=True)]
    limit = statistics.median(gains["loops"])
    return figure_of(f"two tasks, {model}", "of one", gains["tasks"], "two plain loops", limit, ratios)


def models_of(models: Sequence[str], cascade: str | None) -> list[tuple[str, str, bool]]:
    """Name and path of each model that is measured, and whether its first model scores before it."""
    given = [(name, f"bundled:{name}", False) for name in models]
    both = cascade or ("bundled:reads" if "reads" in models else None)
    if both and read_card(both).cascade:
        given.append(("reads, cascade", both, True))
    elif cascade:
        raise SystemExit(f"{cascade} has no first model; make one with 'cnnspark cascade'")
    return given


def main() -> None:
    parser = arguments(__doc__, runs=5)
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated [all]")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="times that the 492 records are scored, in all")
    parser.add_argument("--turns", type=int, default=3, help="of 'tasks'")
    parser.add_argument("--seconds", type=float, default=TASK_SECONDS, help="of each process of 'tasks'")
    parser.add_argument("--only", choices=["rate", "tasks"])
    parser.add_argument("--cascade", metavar="DIR", help="also measure this bundle of two models")
    options = parser.parse_args()
    figures, starts = [], []
    models = options.model or MODELS
    if options.only != "rate" and (os.cpu_count() or 1) > 1:
        figures.append(measure_tasks(options.data, models[0], options.turns, options.seconds))
    if options.only != "tasks":
        use_one_core()
        given = models_of(models, options.cascade)
        with quiet_stderr():
            for name, path, with_first in given:
                for each in (1, GENOME_EACH):
                    made, start = measure_rate(
                        options.data, name, path, options.repeats, options.runs, each, with_first=with_first
                    )
                    figures.append(made)
                    starts += [start] if each == 1 else []
            name, path, _ = given[0]
            repeats = max(1, options.repeats // SAMPLES)
            figures.append(measure_rate(options.data, name, path, repeats, options.runs, samples=SAMPLES)[0])
    finish(options, figures=figures, start_up=starts)
    for start in starts:
        print(", ".join(f"{name} {value}" for name, value in start.items()))


if __name__ == "__main__":
    main()
