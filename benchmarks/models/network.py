"""The networks on one core: scoring, what comes before it, and GATK's network with and without its empty rows.

    python -m benchmarks.models.network --data ../shared/data [--model reads] [--only scoring|expand|empty-rows|batches]

``scoring``: each network on the alleles of real/HG002 (31 reads each), in the batches that ``score`` makes of them,
beside one large matrix product of as many operations on as many threads, which is one. ``expand``: padding to batches,
and compact codes to channels, beside a copy in memory of the bytes that come out. ``empty-rows``: ``gatk_2d`` as it is
and on all 128 rows, and how far the scores lie apart. ``batches`` compares ways to cut the batches and to run the
graph, which is how the ones in use were chosen; ``TF_ENABLE_ONEDNN_OPTS=0`` before the command leaves oneDNN out.
All in processor time, by turns in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring.limits import FLOPS, LEAST_FLOPS, matrix_product
from benchmarks.support.measure import blocks_of, by_turns, figure, figures_table, machine, pin_to_one_core
from benchmarks.tensors.tensors import inputs_of
from benchmarks.training.training import random_batch
from cnnspark.common.log import quiet_stderr
from cnnspark.models.gatk_weights.importer import import_weights
from cnnspark.models.summary import usual_spec
from cnnspark.scoring.predict import known_features
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.tensors.batches import SCORING_ROW_STEP, padded, scoring_batches
from cnnspark.tensors.block_tensors import BlockTensors
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.annotations import GATK_ANNOTATIONS
from cnnspark.variants.score_fields import log_odds

BUNDLED = ("reads", "features", "reference")
GATK_ALLELES = 32
EMPTY_ROWS_AT = (20, 30, 50)


def tensors_of(data: str, annotations: tuple[str, ...], encoding: str = "cnnspark") -> TensorBatch:
    """All alleles of real/HG002 as a model with these annotations takes them."""
    inputs = inputs_of(data, "HG002")
    source = BlockTensors(inputs, annotations, TensorSettings(encoding=encoding))
    return TensorBatch.concatenate([source.build(source.records(b), b)[0] for b in blocks_of(inputs.vcf)])


def operations(model: Any, tensors: TensorBatch) -> float:
    """Floating point operations of the network on these alleles, each with its own number of reads."""
    from cnnspark.models.networks.registry import LEAST_ROWS, complexity

    counts = np.maximum(np.diff(tensors.row_offsets), LEAST_ROWS)
    low, high = int(counts.min()), int(counts.max())
    at_low, at_high = (complexity(model, rows)[1] for rows in (low, high))
    # What a network costs is linear in the reads: a constant and so much for each of them.
    slope = (at_high - at_low) / max(1, high - low)
    return float(FLOPS * 1e6 * (at_low + slope * (counts - low)).sum())


def predict(bundle: Any, tensors: TensorBatch, batch_size: int) -> np.ndarray:
    """What ``score`` asks of the network: (n,) float32 logits."""
    tensors = replace(tensors, site_features=known_features(bundle.card, tensors))
    logits = np.zeros(len(tensors), np.float32)
    for chosen, arrays in scoring_batches(tensors, batch_size, getattr(bundle, "inputs", None)):
        logits[chosen] = bundle.logits(arrays)
    return logits


def bundle_of(name: str, data: str, folder: Path) -> Any:
    """A bundled model, or GATK's with the oracle's random weights."""
    from cnnspark.models.bundle import load_bundle

    if name in BUNDLED:
        return load_bundle(f"bundled:{name}", 1)
    kind = name.removeprefix("gatk_")
    import_weights(str(Path(data, "oracle", f"{name}.npz")), kind, str(folder / name), True)
    return load_bundle(folder / name, 1)


def measure_scoring(name: str, data: str, folder: Path, runs: int) -> list[dict[str, Any]]:
    """One network."""
    bundle = bundle_of(name, data, folder)
    if name in BUNDLED:
        tensors = tensors_of(data, bundle.card.annotation_names)
    else:
        tensors = tensors_of(data, GATK_ANNOTATIONS, "gatk")
        tensors = tensors.take(range(min(len(tensors), GATK_ALLELES)))
    flops = operations(bundle.model, tensors)
    # A product of so few operations that nothing could be timed is done as often as is needed, and divided.
    times = max(1, round(LEAST_FLOPS / flops))
    limit = matrix_product(flops * times)
    found = by_turns(
        {"work": lambda: [predict(bundle, tensors, ScoreSettings().batch_size) for _ in range(times)], "limit": limit},
        runs,
    )
    return [figure(f"network {name}", len(tensors) * times, "alleles", found["work"], found["limit"], "matrix product")]


def measure_expand(data: str, runs: int) -> list[dict[str, Any]]:
    """Padding, and codes to channels as ``reads`` does it."""
    import tensorflow as tf

    from cnnspark.models.networks.layers import BaseChannels, QualityChannels, RowChannels, RowMask, WindowChannels

    tensors = tensors_of(data, ())
    size = ScoreSettings().batch_size
    batches = [arrays for _, arrays in scoring_batches(tensors, size)]
    mask, bases, quals, rows, window = RowMask(), BaseChannels(), QualityChannels(), RowChannels(), WindowChannels()

    @tf.function(reduce_retracing=True)
    def channels(b: Mapping[str, Any]) -> tuple[Any, ...]:
        inside = mask(b["row_count"], b["read_flags"])
        return (
            bases(b["read_bases"], b["reference"], b["alternate"], inside),
            quals(b["read_quals"], inside),
            rows(b["read_flags"], b["read_mapqs"], b["read_support"], b["read_bases"], inside),
            window(b["reference"], b["alternate"]),
        )

    taken = ("row_count", "read_flags", "read_mapqs", "read_support", "read_bases", "read_quals", "reference",
             "alternate")  # fmt: skip
    fed = [{name: tf.constant(arrays[name]) for name in taken} for arrays in batches]
    expanded = [[value.numpy() for value in channels(batch)] for batch in fed]
    found = by_turns(
        {
            "padding": lambda: sum(len(chosen) for chosen, _ in scoring_batches(tensors, size)),
            "padding limit": lambda: [values.copy() for arrays in batches for values in arrays.values()],
            "channels": lambda: [channels(batch) for batch in fed],
            "channels limit": lambda: [values.copy() for arrays in expanded for values in arrays],
        },
        runs,
    )
    return [
        figure(f"expand: {name}", len(tensors), "alleles", found[name], found[f"{name} limit"], "copy in memory")
        for name in ("padding", "channels")
    ]


def measure_empty_rows(data: str, folder: Path, runs: int) -> list[dict[str, Any]]:
    """``gatk_2d`` on batches of as many rows as reads, and of 128. Raises SystemExit where scores differ by 1e-5."""
    bundle = bundle_of("gatk_2d", data, folder)
    figures = []
    for reads in EMPTY_ROWS_AT:
        batch = random_batch(usual_spec("gatk_2d"), rows=int(padded(np.array(reads), SCORING_ROW_STEP)), batch=16)
        batch["row_count"][:] = reads
        whole = {
            name: np.pad(values, [(0, 0), (0, 128 - values.shape[1])] + [(0, 0)] * (values.ndim - 2))
            if name.startswith("read_")
            else values
            for name, values in batch.items()
        }
        apart = float(np.abs(log_odds(bundle.predict(batch)) - log_odds(bundle.predict(whole))).max())
        if apart > 1e-5:
            raise SystemExit(f"gatk_2d: scores with {reads} reads are {apart:g} from those on 128 rows")
        found = by_turns({"ours": partial(bundle.logits, batch), "all": partial(bundle.logits, whole)}, runs)
        name = f"gatk_2d, {reads} reads"
        figures.append(figure(name, 16, "alleles", found["ours"], found["all"], "the same on 128 rows"))
        print(f"{name}: the scores of 16 alleles are at most {apart:.1e} from those on 128 rows", flush=True)
    return figures


def measure_batches(name: str, data: str, folder: Path, runs: int, ways: Collection[str]) -> list[dict[str, Any]]:
    """Other ways to run a network, of these names or all, each beside the one in use: its ratio is how much faster."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from cnnspark.models.networks.registry import feed, model_inputs
    from cnnspark.tensors import batches

    bundle = bundle_of(name, data, folder)
    tensors = tensors_of(data, bundle.card.annotation_names)
    model, dtypes = bundle.model, model_inputs(bundle.model)
    signature = [{t.name: tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs}]

    def compiled(jit: bool) -> Any:
        return tf.function(lambda arrays: model(arrays, training=False), input_signature=signature, jit_compile=jit)

    frozen = convert_variables_to_constants_v2(compiled(False).get_concrete_function())
    names = [tensor.op.name for tensor in frozen.inputs]
    xla = compiled(True)

    class Other:
        """A bundle whose graph is run in another way."""

        card = bundle.card

        def __init__(self, run: Callable[[dict[str, Any]], Any]):
            self.run = run

        def logits(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
            return np.asarray(self.run(feed(arrays, dtypes)))

    def cut(size: int, rows: int, step: int) -> np.ndarray:
        kept = batches.ROWS_AT_ONCE, batches.SCORING_ROW_STEP
        batches.ROWS_AT_ONCE, batches.SCORING_ROW_STEP = rows, step
        try:
            return predict(bundle, tensors, size)
        finally:
            batches.ROWS_AT_ONCE, batches.SCORING_ROW_STEP = kept

    now, limit = ScoreSettings().batch_size, 1 << 30
    works: dict[str, Callable[[], np.ndarray]] = {"in use": lambda: predict(bundle, tensors, now)}
    works |= {f"batches of {n}, rows by 8": partial(cut, n, limit, 8) for n in (16, 32, 64, 128, 256)}
    works |= {f"{n} rows at once": partial(cut, now, n, batches.SCORING_ROW_STEP) for n in (512, 2048)}
    works |= {f"rows by {n}": partial(cut, now, batches.ROWS_AT_ONCE, n) for n in (2, 8)}
    frozen_bundle = Other(lambda arrays: frozen(*[tf.constant(arrays[each]) for each in names])[0])
    works["frozen graph"] = lambda: predict(frozen_bundle, tensors, now)
    works["XLA"] = lambda: predict(Other(xla), tensors, now)
    works = {way: work for way, work in works.items() if way == "in use" or not ways or way in ways}
    found = by_turns(works, runs)
    expected = works["in use"]()
    figures = []
    for way, work in works.items():
        apart = float(np.abs(work() - expected).max())
        made = figure(f"{name}, {way}", len(tensors), "alleles", found[way], found["in use"], "in use")
        figures.append(made | {"logits_apart": apart})
        print(f"{name}, {way}: logits at most {apart:.1e} from those in use", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--model", action="append", help="may be repeated [all]")
    parser.add_argument("--only", action="append", choices=["scoring", "expand", "empty-rows", "batches"])
    parser.add_argument("--way", action="append", default=[], help="of 'batches', such as XLA; may be repeated [all]")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    pin_to_one_core()
    wanted = options.only or ["scoring", "expand", "empty-rows"]
    figures: list[dict[str, Any]] = []
    with quiet_stderr():
        from cnnspark.models import bundle

        bundle.use_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "scoring" in wanted:
            for name in options.model or (*BUNDLED, "gatk_1d", "gatk_2d"):
                figures += measure_scoring(name, options.data, folder, options.runs)
        if "expand" in wanted:
            figures += measure_expand(options.data, options.runs)
        if "empty-rows" in wanted:
            figures += measure_empty_rows(options.data, folder, options.runs)
        if "batches" in wanted:
            for name in options.model or ("reads", "features"):
                figures += measure_batches(name, options.data, folder, options.runs, options.way)
    print(f"one core of {machine()['processor']}, load {machine()['load']}, processor time\n{figures_table(figures)}")
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
