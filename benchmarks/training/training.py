"""Training: the pace of two replicas beside two independent processes, and how fast each network trains and scores.

    python -m benchmarks.training.training --data ../shared/data [--dataset DIR] [--model reads]
        [--only networks|replicas]

``networks``: every network there is, batches of 32 alleles with 32 reads each, one thread on one core, without reading
from disk, in processor time, beside one matrix product of a step's operations. ``replicas``: one training by two
replicas, and two independent ones of the same settings by one replica each at the same time, in turns; alleles a second
of all epochs but the first, in which functions are compiled. Reading, decoding and dealing are in it, validation is
not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from benchmarks.scoring.limits import FLOPS, LEAST_FLOPS, matrix_product
from benchmarks.support.callsets import labelled_paths
from benchmarks.support.command import arguments, figures_table, machine, table, use_one_core, write_results
from benchmarks.support.measure import figure, in_rounds, time_in_rounds
from cnnspark.config import InputPaths, load_config
from cnnspark.models.input_drift import known_values
from cnnspark.models.names import MODELS
from cnnspark.models.spec import ModelSpec
from cnnspark.models.summary import usual_spec
from cnnspark.tensors.schema import FIELDS, WINDOW
from cnnspark.training.barrier_stage import replica_command, run_child
from cnnspark.training.job import ReplicaJob, prepare_job
from cnnspark.training.settings import HISTORY_LINES_FILE, TrainSettings, checkpoint_folder
from cnnspark.variants.alleles import VariantType

BATCH, ROWS = 32, 32
# Largest code of each field, so that random codes are valid.
LARGEST = {"read_bases": 6, "read_quals": 41, "read_mapqs": 60, "read_support": 3, "reference": 4, "alternate": 4}


def random_batch(spec: ModelSpec, seed: int = 1, batch: int = BATCH, rows: int = ROWS) -> dict[str, np.ndarray]:
    """Random alleles of ``rows`` reads each, with valid codes in every field."""
    rng = np.random.default_rng(seed)
    sizes = {"R": rows, "A": len(spec.annotation_names), "F": len(spec.feature_names), WINDOW: WINDOW}
    arrays: dict[str, np.ndarray] = {}
    for field in FIELDS:
        shape = (batch, *(sizes[size] for size in field.shape))
        if field.dtype == np.float32:
            arrays[field.name] = rng.normal(size=shape).astype(np.float32)
        elif field.name == "read_flags":
            arrays[field.name] = rng.choice([83, 99, 147, 163], shape).astype(np.int32)
        else:
            arrays[field.name] = rng.integers(1, LARGEST[field.name] + 1, shape).astype(field.dtype)
    return arrays | {
        "row_count": np.full(batch, rows, np.int32),
        "label": (np.arange(batch) % 2).astype(np.float32),
        "weight": np.ones(batch, np.float32),
        "example_key": rng.integers(-(2**31), 2**31, batch).astype(np.int32),
        "variant_type": np.full(batch, VariantType.SNV, np.int32),
    }


def measure_network(model: str, runs: int) -> dict[str, Any]:
    """Size, cost and rates of one network, in this process."""
    import tensorflow as tf

    from cnnspark.models.networks.registry import complexity
    from cnnspark.training.all_reduce import Replicas
    from cnnspark.training.trainer import Trainer

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    spec = usual_spec(model)
    batch = random_batch(spec)
    settings = TrainSettings(model=model, batch_size=BATCH)
    nothing_known = known_values((), np.zeros((0, 0)))
    job = ReplicaJob(settings, (), "", spec, (), (1.0, 1.0), {}, nothing_known, settings.lanes_used(BATCH))
    trainer = Trainer(job, Replicas(0, 1, 60))
    lanes = [{name: values[i :: job.lanes] for name, values in batch.items()} for i in range(job.lanes)]
    parameters, mmac = complexity(trainer.model, ROWS)
    steps = iter(range(1 << 30))
    # Operations of a step: forward, and backward by the inputs and by the weights.
    flops = 3 * FLOPS * 1e6 * mmac * BATCH
    times = max(1, round(LEAST_FLOPS / flops))
    found = time_in_rounds(
        {
            "train": lambda: [trainer.train(lanes, next(steps), 1e-4) for _ in range(times)],
            "score": lambda: [trainer.measure(batch) for _ in range(times)],
            "limit": matrix_product(flops * times),
        },
        runs,
    )
    count = BATCH * times
    return {
        "model": model,
        "parameters": parameters,
        "MMAC": round(mmac, 2),
        "train/s": round(count / statistics.median(found["train"].cpu), 1),
        "score/s": round(count / statistics.median(found["score"].cpu), 1),
        "figure": figure(f"training step {model}", count, "alleles", found["train"], found["limit"], "matrix product"),
    }


def networks(models: Sequence[str], runs: int) -> list[dict[str, Any]]:
    """Each network in a process of its own, so that none warms the next one up."""
    rows = []
    for model in models:
        command = [sys.executable, "-m", "benchmarks.training.training", "--one", model, "--runs", str(runs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{model} cannot be measured: {done.stderr.strip().splitlines()[-1]}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def run_replicas(job: ReplicaJob, count: int) -> list[dict[str, Any]]:
    """Runs a job by ``count`` replicas on this machine, each a process of one thread, as the barrier tasks start them.

    Returns:
        The finished epochs' rows of the history.

    Raises:
        RuntimeError: With what the first failure said.
    """
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, replicas=count))
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    together = threading.Barrier(count)
    failures: list[Exception] = []

    def wait() -> None:
        together.wait()

    def one(rank: int) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
        environment |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
        environment |= {"PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "2"}
        if count > 1:
            cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
            environment["TF_CONFIG"] = json.dumps(cluster)
        try:
            run_child(replica_command(), environment, job.to_json(), rank, wait)
        except Exception as error:
            failures.append(error)
            together.abort()

    in_parallel([partial(one, rank) for rank in range(count)])
    if failures:
        raise failures[0]
    lines = (checkpoint_folder(job.model_out) / HISTORY_LINES_FILE).read_text().splitlines()
    return [row for row in map(json.loads, lines) if "val_loss" in row]


def in_parallel(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Runs functions at the same time; returns their results, or raises what one raises."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(function) for function in functions]]


def pace(rows: Sequence[dict[str, Any]]) -> float:
    """Alleles a second over the epochs after the first."""
    seconds = sum(1 / row["examples_per_second"] for row in rows[1:])
    return (len(rows) - 1) / seconds


def measure_replicas(dataset: str, model: str, replicas: int, epochs: int, turns: int, sets: Sequence[str]) -> dict:
    """The pace of ``replicas`` replicas against that of as many independent trainings at the same time."""
    given = [f"train.model={model}", f"train.epochs={epochs}", "train.validation=0.1", *sets]
    settings = load_config(None, given).train

    def shared() -> float:
        with tempfile.TemporaryDirectory() as folder:
            job = prepare_job(dataset, f"{folder}/together", dataclasses.replace(settings, replicas=replicas))
            return pace(run_replicas(job, replicas))

    def independent() -> float:
        with tempfile.TemporaryDirectory() as folder:
            jobs = [prepare_job(dataset, f"{folder}/apart{i}", settings) for i in range(replicas)]
            return sum(map(pace, in_parallel([partial(run_replicas, job, 1) for job in jobs])))

    found = in_rounds({"together": shared, "apart": independent}, turns, warm_up=False)
    together, apart = found["together"], found["apart"]
    ratios = [one / both for one, both in zip(together, apart, strict=True)]
    return {
        "model": model,
        "batch": settings.batch_size,
        "replicas": replicas,
        "together/s": round(statistics.median(together), 1),
        "apart/s": round(statistics.median(apart), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": " ".join(f"{ratio:.3f}" for ratio in ratios),
    }


def build_dataset(data: str, out: str) -> str:
    """Builds the labelled tensors of the simulated freebayes callset."""
    from cnnspark import stages
    from cnnspark.execution.session import spark_session

    paths = InputPaths(**labelled_paths(data, "sim"))
    spark = spark_session("training", "local[2]")
    stages.build_dataset(spark, paths, out, load_config(None, ["blocks.records=500"]))
    spark.stop()  # its processes would take part in what is timed
    return out


def main() -> None:
    parser = arguments(__doc__, runs=7)
    parser.add_argument("--dataset", metavar="DIR", help="labelled tensors instead of the simulated callset's")
    parser.add_argument("--only", choices=["networks", "replicas"])
    parser.add_argument("--model", action="append", help="of 'replicas'; may be repeated [reads]")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3, help="how often 'replicas' are measured")
    parser.add_argument("--network", action="append", help="of 'networks'; may be repeated [all]")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="train.KEY=VALUE")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        use_one_core()
        print(json.dumps(measure_network(options.one, options.runs)))
        return
    results: dict[str, Any] = {"options": vars(options)}
    if options.only != "replicas":
        rows = networks(options.network or MODELS, options.runs)
        results["figures"] = [row.pop("figure") for row in rows]
        results["networks"] = rows
        print(f"batches of {BATCH} with {ROWS} reads, one thread, processor time\n{table(rows)}")
        print(figures_table(results["figures"]), flush=True)
    if options.only != "networks":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with tempfile.TemporaryDirectory() as folder:
            dataset = options.dataset or build_dataset(options.data, f"{folder}/tensors")
            results["replicas"] = [
                measure_replicas(dataset, model, options.replicas, options.epochs, options.turns, options.settings)
                for model in options.model or ["reads"]
            ]
        print(f"replicas against independent trainings at the same time\n{table(results['replicas'])}")
    write_results(options, results | {"load_afterwards": machine()["load"]})


if __name__ == "__main__":
    main()
