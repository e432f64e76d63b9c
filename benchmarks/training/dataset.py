"""The tensor dataset: bytes a variant, write and read rates on one core, and whether a worker's memory stays flat.

    python -m benchmarks.training.dataset --data ../shared/data [--memory]

The tensors are those of real/HG002 (30x), written by the jobs' own writer as often as is needed for blocks of a steady
pass. Reading goes through Petastorm as in training: Parquet to arrays, to padded batches of 64, to ``tf.data`` tensors.
``--memory`` runs a worker's work (read, build, write block after block) over 1,000, 10,000 and 100,000 variants of the
simulated callset, each in a process of its own, and gives its peak memory: some two minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.scoring.limits import file_copy
from benchmarks.support.measure import blocks_of, by_turns, figure, figures_table, machine, pin_to_one_core, table
from benchmarks.tensors.tensors import inputs_of
from cnnspark.common.log import quiet_stderr
from cnnspark.common.storage import write_json
from cnnspark.execution.blocks import Block
from cnnspark.execution.run_folder import RunFolder
from cnnspark.formats.regions import Region
from cnnspark.formats.vcf import VcfSource
from cnnspark.tensors import dataset
from cnnspark.tensors.batches import pad_rows
from cnnspark.tensors.block_tensors import BlockTensors, Inputs
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.variants.annotations import default_annotations

BATCH = 64
COPIES = 8
# Times that the files are copied for one figure: a copy takes less than can be timed.
COPIED = 20
# Further apart than two reads and a window reach together.
LONE_BASES = 600
MEMORY_SIZES = (1_000, 10_000, 100_000)


def open_source(inputs: Inputs) -> tuple[BlockTensors, tuple[str, ...]]:
    """A worker's tensor builder with the callset's usual annotations, and their names."""
    with VcfSource(inputs.vcf) as callset:
        names = default_annotations(callset.header)
    return BlockTensors(inputs, names, TensorSettings()), names


def write_copies(folder: str, batch: TensorBatch, sample: str, names: tuple[str, ...]) -> int:
    """A dataset of COPIES blocks with the same tensors, half of them labelled true; returns the number of tensors."""
    contig = batch.keys[0].contig
    blocks = [Block(i, Region(contig, i, i + 1), len(batch), len(batch)) for i in range(COPIES)]
    run = dataset.dataset_folder(folder)
    run.open({}, blocks, "overwrite")
    for block in blocks:
        dataset.write_block(run, block, batch, np.arange(len(batch)) % 2, sample, {})
    write_short_card(run, names)
    return COPIES * len(batch)


def write_short_card(run: RunFolder, names: Sequence[str]) -> None:
    """What a reader of the dataset needs of its card; the jobs' own, with summaries of the columns, takes Spark."""
    rows = run.rows()
    card = {
        "format": dataset.FORMAT_VERSION,
        "annotations": list(names),
        "site_features": list(SITE_FEATURES),
        "bytes": sum(row["bytes"] for row in rows),
        "blocks": rows,
    }
    write_json(run.out / dataset.CARD, card)


def lone_bytes(batch: TensorBatch, sample: str, names: tuple[str, ...]) -> float:
    """Bytes of a tensor on disk where no two share reads, as in a sparse callset: neighbours compress each other."""
    chosen: list[int] = []
    for i, key in enumerate(batch.keys):
        if not chosen or key.start - batch.keys[chosen[-1]].start >= LONE_BASES:
            chosen.append(i)
    with tempfile.TemporaryDirectory() as folder:
        write_copies(folder, batch.take(chosen), sample, names)
        return round(dataset.Dataset(folder).card["bytes"] / (COPIES * len(chosen)), 1)


def column_bytes(folder: str) -> dict[str, int]:
    """Compressed bytes of each column over all files."""
    sizes: dict[str, int] = {}
    for path in sorted(Path(folder, dataset.DATA).rglob("*.parquet")):
        meta = pq.ParquetFile(path).metadata
        for group in range(meta.num_row_groups):
            for i in range(meta.num_columns):
                column = meta.row_group(group).column(i)
                name = column.path_in_schema.split(".")[0]
                sizes[name] = sizes.get(name, 0) + column.total_compressed_size
    return sizes


def padded_batches(data: dataset.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """One pass in batches of BATCH tensors, with their labels."""
    for tensors, values in data.tensors([block["block"] for block in data.blocks]):
        for first in range(0, len(tensors), BATCH):
            chosen = np.arange(first, min(first + BATCH, len(tensors)))
            yield pad_rows(tensors, chosen) | {"label": values["label"][chosen]}


def through_tf_data(data: dataset.Dataset) -> int:
    """One pass as ``tf.data`` tensors; returns how many alleles came."""
    with quiet_stderr():
        import tensorflow as tf

    first = next(padded_batches(data))
    signature = {
        name: tf.TensorSpec(
            [None, None, *value.shape[2:]] if name.startswith("read_") else [None, *value.shape[1:]], value.dtype
        )
        for name, value in first.items()
    }
    stream = tf.data.Dataset.from_generator(lambda: padded_batches(data), output_signature=signature).prefetch(2)
    return sum(int(batch["label"].shape[0]) for batch in stream)


def measure_dataset(data: str, runs: int) -> dict[str, Any]:
    """Sizes and rates of the dataset of real/HG002."""
    inputs = inputs_of(data, "HG002")
    source, names = open_source(inputs)
    batch = TensorBatch.concatenate([source.build(source.records(b), b)[0] for b in blocks_of(inputs.vcf)])
    with tempfile.TemporaryDirectory() as folder:
        count = write_copies(folder, batch, inputs.sample, names)
        written = dataset.Dataset(folder)
        stored = int(written.card["bytes"])
        columns = {name: round(size / count, 1) for name, size in column_bytes(folder).items()}
        every = [block["block"] for block in written.blocks]

        def read_arrays() -> int:
            return sum(len(tensors) for tensors, _ in written.tensors(every))

        files = sorted(Path(folder, dataset.DATA).rglob("*.parquet"))
        with tempfile.TemporaryDirectory() as other:
            found = by_turns(
                {
                    "write": lambda: write_copies(other, batch, inputs.sample, names),
                    "file copy": lambda: file_copy(files, Path(other, "copy"), COPIED),
                    "read to arrays": read_arrays,
                    "read to batches": lambda: sum(1 for _ in padded_batches(written)),
                    "read to tf.data": lambda: through_tf_data(written),
                    "plain Parquet": lambda: [pq.ParquetFile(path).read(use_threads=False) for path in files],
                },
                runs,
            )
        copy, plain = found["file copy"].divided(COPIED), found["plain Parquet"]
        figures = [figure("Parquet: write", count, "alleles", found["write"], copy, "file copy")]
        for name in ("read to arrays", "read to batches", "read to tf.data"):
            figures.append(figure(f"Parquet: {name}", count, "alleles", found[name], plain, "plain pyarrow"))
    return {
        "tensors": count,
        "rows_per_tensor": round(len(batch.read_bases) / len(batch), 1),
        "bytes_per_tensor": round(stored / count, 1),
        "bytes_per_lone_tensor": lone_bytes(batch, inputs.sample, names),
        "bytes_by_column": dict(sorted(columns.items(), key=lambda item: -item[1])),
        "figures": figures,
        "machine": machine(),
    }


def work_through(inputs: Inputs, variants: int, answer: Any) -> None:
    """A worker's work over at least this many alleles, the callset again and again; puts its peak memory."""
    source, _ = open_source(inputs)
    blocks = blocks_of(inputs.vcf)
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        run = dataset.dataset_folder(folder)
        run.open({}, blocks, "fail")
        for block in cycle(blocks):
            batch, _ = source.build(source.records(block), block)
            dataset.write_block(run, block, batch, np.zeros(len(batch), np.int32), inputs.sample, {})
            done += len(batch)
            if done >= variants:
                break
    answer.put((done, peak_bytes()))


def peak_bytes() -> int:
    """The most memory this process had resident. Linux hands ru_maxrss on from the parent, so VmHWM is asked first."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure_memory(data: str, sizes: tuple[int, ...] = MEMORY_SIZES) -> list[dict[str, Any]]:
    """Peak memory of a worker by the number of variants it has gone through."""
    inputs = inputs_of(data, "sim")
    context = multiprocessing.get_context("spawn")
    found = []
    for size in sizes:
        answer = context.Queue()
        worker = context.Process(target=work_through, args=(inputs, size, answer))
        worker.start()
        worker.join()
        if worker.exitcode != 0:
            raise SystemExit(f"the worker of {size} variants ended with {worker.exitcode}; see its message above")
        alleles, peak = answer.get()
        found.append({"alleles": alleles, "peak_mib": round(peak / 2**20, 1)})
    return found


def report(result: dict[str, Any]) -> str:
    """The dataset's figures as text."""
    columns = ", ".join(f"{name} {size:,.0f}" for name, size in list(result["bytes_by_column"].items())[:8])
    facts = result["machine"]
    return (
        f"{result['tensors']:,} tensors of {result['rows_per_tensor']} reads: {result['bytes_per_tensor']:,.0f} bytes "
        f"each on disk, {result['bytes_per_lone_tensor']:,.0f} where they share no reads\nby column: {columns}\n"
        f"one core of {facts['processor']}, load {facts['load']}, processor time\n{figures_table(result['figures'])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--memory", action="store_true", help="a worker's peak memory from 1,000 to 100,000 variants, too"
    )
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    pin_to_one_core()
    results: dict[str, Any] = {"dataset": measure_dataset(options.data, options.runs)}
    print(report(results["dataset"]), flush=True)
    if options.memory:
        results["memory"] = measure_memory(options.data)
        print("\npeak memory of a worker\n" + table(results["memory"]))
    results["figures"] = results["dataset"].pop("figures")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
