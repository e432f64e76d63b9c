"""The tensor dataset: bytes a variant, write and read rates on one core, and whether a worker's memory stays flat.

    python -m benchmarks.training.dataset --data ../shared/data [--memory]

The tensors are those of real/HG002 (30x), written several times by the jobs' own writer, to measure a steady pass.
Reading goes through Petastorm as in training: Parquet to arrays, to padded batches of 64, to ``tf.data`` tensors.
``--memory`` runs a worker's work (read, build, write block after block) over 1,000, 10,000 and 100,000 variants of the
simulated callset, each in a process of its own, and gives its peak memory: some two minutes.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.scoring.limits import file_copy
from benchmarks.support.callsets import all_tensors, blocks_of, inputs_of, tensor_source
from benchmarks.support.command import arguments, figures_table, machine_text, table, use_one_core, write_results
from benchmarks.support.measure import figure, time_in_rounds
from benchmarks.support.processes import peak_bytes
from cnnspark.common.log import quiet_stderr
from cnnspark.common.storage import write_json
from cnnspark.execution.blocks import Block
from cnnspark.execution.run_folder import RunFolder
from cnnspark.formats.regions import Region
from cnnspark.tensors import dataset
from cnnspark.tensors.batches import pad_rows
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.site_features import SITE_FEATURES
from cnnspark.variants.annotations import default_annotations

BATCH = 64
COPIES = 8
# Times that the files are copied for one figure: a copy takes less than can be timed.
COPIED = 20
# Further apart than two reads and a window reach together.
LONE_BASES = 600
MEMORY_SIZES = (1_000, 10_000, 100_000)


def write_copies(folder: str, batch: TensorBatch, sample: str, names: tuple[str, ...]) -> int:
    """Writes COPIES blocks of the same tensors, half of them labelled true; returns the number of tensors."""
    contig = batch.keys[0].contig
    blocks = [Block(i, Region(contig, i, i + 1), len(batch), len(batch)) for i in range(COPIES)]
    run = dataset.dataset_folder(folder)
    run.open({}, blocks, "overwrite")
    for block in blocks:
        dataset.write_block(run, block, batch, np.arange(len(batch)) % 2, sample, {})
    write_short_card(run, names)
    return COPIES * len(batch)


def write_short_card(run: RunFolder, names: Sequence[str]) -> None:
    """Writes the part of the card that a reader needs; the jobs write summaries of the columns with Spark."""
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
    """Bytes of a tensor on disk if no two share reads, as in a sparse callset: neighbours compress each other."""
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
    """Reads the dataset once as ``tf.data`` tensors; returns the number of alleles."""
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
    source = tensor_source(inputs)
    batch, names = all_tensors(source, blocks_of(inputs.vcf)), default_annotations(source.vcf.header)
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
            found = time_in_rounds(
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
    }


def work_through(inputs: Inputs, variants: int, answer: Any) -> None:
    """Does a worker's work on ``variants`` alleles, the callset again and again; answers with its peak memory."""
    source = tensor_source(inputs)
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
    return (
        f"{result['tensors']:,} tensors of {result['rows_per_tensor']} reads: {result['bytes_per_tensor']:,.0f} bytes "
        f"each on disk, {result['bytes_per_lone_tensor']:,.0f} where they share no reads\nby column: {columns}\n"
        f"processor time on one core of {machine_text()}\n{figures_table(result['figures'])}"
    )


def main() -> None:
    parser = arguments(__doc__, runs=5)
    parser.add_argument(
        "--memory", action="store_true", help="also a worker's peak memory from 1,000 to 100,000 variants"
    )
    options = parser.parse_args()
    use_one_core()
    results: dict[str, Any] = {"dataset": measure_dataset(options.data, options.runs)}
    print(report(results["dataset"]), flush=True)
    if options.memory:
        results["memory"] = measure_memory(options.data)
        print("\npeak memory of a worker\n" + table(results["memory"]))
    results["figures"] = results["dataset"].pop("figures")
    write_results(options, results)


if __name__ == "__main__":
    main()
