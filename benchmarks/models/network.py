"""The networks on one core: scoring, what comes before it, and GATK's network with and without its empty rows.

    python -m benchmarks.models.network --data ../shared/data [--model reads] [--only scoring|expand|empty-rows|batches]

``scoring``: each network on the alleles of real/HG002 (31 reads each), in the batches that ``score`` makes of them,
beside one large matrix product of as many operations on one thread. ``expand``: padding to batches, and compact codes
to channels, beside a copy in memory of the bytes that come out. ``empty-rows``: ``gatk_2d`` as it is and on all 128
rows, and how much the scores differ. ``batches`` compares ways to cut the batches and to run the graph, which is how
the ones in use were chosen; ``TF_ENABLE_ONEDNN_OPTS=0`` before the command turns oneDNN off. All is processor time,
measured alternately in one process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring.limits import FLOPS, LEAST_FLOPS, matrix_product
from benchmarks.support.callsets import all_tensors, blocks_of, inputs_of, tensor_source
from benchmarks.support.command import arguments, finish, use_one_core
from benchmarks.support.measure import figure, time_in_rounds
from benchmarks.support.scoring_task import logits_of
from benchmarks.training.training import random_batch
from cnnspark.common.log import quiet_stderr
from cnnspark.models.gatk_weights.importer import import_weights
from cnnspark.models.summary import usual_spec
from cnnspark.scoring.predict import known_features
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.tensors import batches
from cnnspark.tensors.batches import ROWS_AT_ONCE, SCORING_ROW_STEP, padded, scoring_batches
from cnnspark.tensors.schema import TensorBatch
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.annotations import GATK_ANNOTATIONS
from cnnspark.variants.score_fields import log_odds

BUNDLED = ("reads", "features", "reference")
GATK_ALLELES = 32
EMPTY_ROWS_AT = (20, 30, 50)
BATCH = ScoreSettings.batch_size


def tensors_of(data: str, annotations: tuple[str, ...], settings: TensorSettings | None = None) -> TensorBatch:
    """All alleles of real/HG002 as a model with these annotations takes them."""
    inputs = inputs_of(data, "HG002")
    return all_tensors(tensor_source(inputs, annotations, settings), blocks_of(inputs.vcf))


def operations(model: Any, tensors: TensorBatch) -> float:
    """Floating point operations of the network on these alleles, each with its own number of reads."""
    from cnnspark.models.networks.registry import LEAST_ROWS, complexity

    counts = np.maximum(np.diff(tensors.row_offsets), LEAST_ROWS)
    low, high = int(counts.min()), int(counts.max())
    at_low, at_high = (complexity(model, rows)[1] for rows in (low, high))
    # What a network costs is linear in the reads: a constant and so much for each of them.
    slope = (at_high - at_low) / max(1, high - low)
    return float(FLOPS * 1e6 * (at_low + slope * (counts - low)).sum())


def predict(bundle: Any, tensors: TensorBatch, size: int = BATCH, rows_at_once: int = ROWS_AT_ONCE) -> np.ndarray:
    """What ``score`` asks of the network: (n,) float64 logits."""
    known = replace(tensors, site_features=known_features(bundle.card, tensors))
    return logits_of(bundle, known, size, rows_at_once)


def bundle_of(name: str, data: str, folder: Path) -> Any:
    """A bundled model, or GATK's with the oracle's random weights."""
    from cnnspark.models.bundle import load_bundle

    if name in BUNDLED:
        return load_bundle(f"bundled:{name}", 1)
    kind = name.removeprefix("gatk_")
    import_weights(str(Path(data, "oracle", f"{name}.npz")), kind, str(folder / name), True)
    return load_bundle(folder / name, 1)


def measure_scoring(name: str, data: str, folder: Path, runs: int) -> list[dict[str, Any]]:
    """The figure of scoring with one network."""
    bundle = bundle_of(name, data, folder)
    if name in BUNDLED:
        tensors = tensors_of(data, bundle.card.annotation_names)
    else:
        tensors = tensors_of(data, GATK_ANNOTATIONS, TensorSettings(encoding="gatk"))
        tensors = tensors.take(range(min(len(tensors), GATK_ALLELES)))
    flops = operations(bundle.model, tensors)
    # A product of so few operations that nothing could be timed is done as often as is needed, and divided.
    times = max(1, round(LEAST_FLOPS / flops))
    limit = matrix_product(flops * times)
    found = time_in_rounds(
        {"work": lambda: [predict(bundle, tensors) for _ in range(times)], "limit": limit},
        runs,
    )
    return [figure(f"network {name}", len(tensors) * times, "alleles", found["work"], found["limit"], "matrix product")]


def measure_expand(data: str, runs: int) -> list[dict[str, Any]]:
    """The figures of padding, and of turning codes into channels as ``reads`` does it."""
    import tensorflow as tf

    from cnnspark.models.networks.layers import BaseChannels, QualityChannels, RowChannels, RowMask, WindowChannels

    tensors = tensors_of(data, ())
    padded_batches = [arrays for _, arrays in scoring_batches(tensors, BATCH)]
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
    fed = [{name: tf.constant(arrays[name]) for name in taken} for arrays in padded_batches]
    expanded = [[value.numpy() for value in channels(batch)] for batch in fed]
    found = time_in_rounds(
        {
            "padding": lambda: sum(len(chosen) for chosen, _ in scoring_batches(tensors, BATCH)),
            "padding limit": lambda: [values.copy() for arrays in padded_batches for values in arrays.values()],
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
    """The figures of ``gatk_2d`` on batches with one row for each read, beside batches of 128 rows.

    Raises:
        SystemExit: If the scores differ by more than 1e-5.
    """
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
        found = time_in_rounds({"ours": partial(bundle.logits, batch), "all": partial(bundle.logits, whole)}, runs)
        name = f"gatk_2d, {reads} reads"
        figures.append(figure(name, 16, "alleles", found["ours"], found["all"], "the same on 128 rows"))
        print(f"{name}: the scores of 16 alleles are at most {apart:.1e} from those on 128 rows", flush=True)
    return figures


class OtherGraph:
    """A bundle whose graph is run in another way."""

    def __init__(self, bundle: Any, run: Callable[[dict[str, Any]], Any]):
        from cnnspark.models.networks.registry import feed, model_inputs

        self.card, self.inputs = bundle.card, bundle.inputs
        self.feed, self.run = partial(feed, dtypes=model_inputs(bundle.model)), run

    def logits(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self.run(self.feed(arrays)))


def other_graphs(bundle: Any) -> dict[str, OtherGraph]:
    """The bundle's network with its weights as constants, and compiled by XLA."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = bundle.model
    signature = [{t.name: tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs}]

    def compiled(jit: bool) -> Any:
        return tf.function(lambda arrays: model(arrays, training=False), input_signature=signature, jit_compile=jit)

    frozen = convert_variables_to_constants_v2(compiled(False).get_concrete_function())
    names = [tensor.op.name for tensor in frozen.inputs]

    def run_frozen(arrays: dict[str, Any]) -> Any:
        return frozen(*[tf.constant(arrays[each]) for each in names])[0]

    return {"frozen graph": OtherGraph(bundle, run_frozen), "XLA": OtherGraph(bundle, compiled(True))}


def predict_by_step(bundle: Any, tensors: TensorBatch, step: int, size: int, rows_at_once: int) -> np.ndarray:
    """:func:`predict` with rows padded to a multiple of ``step``."""
    kept = batches.SCORING_ROW_STEP
    batches.SCORING_ROW_STEP = step
    try:
        return predict(bundle, tensors, size, rows_at_once)
    finally:
        batches.SCORING_ROW_STEP = kept


def measure_batches(name: str, data: str, folder: Path, runs: int, ways: Collection[str]) -> list[dict[str, Any]]:
    """The figures of other ways to run a network (all if none is named); the ratio says how much faster each is."""
    bundle = bundle_of(name, data, folder)
    tensors = tensors_of(data, bundle.card.annotation_names)
    by_step, no_limit = partial(predict_by_step, bundle, tensors), 1 << 30
    works: dict[str, Callable[[], np.ndarray]] = {"in use": partial(predict, bundle, tensors)}
    works |= {f"batches of {n}, rows by 8": partial(by_step, 8, n, no_limit) for n in (16, 32, 64, 128, 256)}
    works |= {f"{n} rows at once": partial(predict, bundle, tensors, BATCH, n) for n in (512, 2048)}
    works |= {f"rows by {n}": partial(by_step, n, BATCH, ROWS_AT_ONCE) for n in (2, 8)}
    works |= {way: partial(predict, other, tensors) for way, other in other_graphs(bundle).items()}
    works = {way: work for way, work in works.items() if way == "in use" or not ways or way in ways}
    found = time_in_rounds(works, runs)
    expected = works["in use"]()
    figures = []
    for way, work in works.items():
        apart = float(np.abs(work() - expected).max())
        made = figure(f"{name}, {way}", len(tensors), "alleles", found[way], found["in use"], "in use")
        figures.append(made | {"logits_apart": apart})
        print(f"{name}, {way}: logits at most {apart:.1e} from those in use", flush=True)
    return figures


def main() -> None:
    parser = arguments(__doc__, runs=7)
    parser.add_argument("--model", action="append", help="may be repeated [all]")
    parser.add_argument("--only", action="append", choices=["scoring", "expand", "empty-rows", "batches"])
    parser.add_argument("--way", action="append", default=[], help="of 'batches', such as XLA; may be repeated [all]")
    options = parser.parse_args()
    use_one_core()
    wanted = options.only or ["scoring", "expand", "empty-rows"]
    figures: list[dict[str, Any]] = []
    with quiet_stderr():
        from cnnspark.models import bundle

        bundle.use_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        given = options.data, Path(temporary), options.runs
        if "scoring" in wanted:
            for name in options.model or (*BUNDLED, "gatk_1d", "gatk_2d"):
                figures += measure_scoring(name, *given)
        if "expand" in wanted:
            figures += measure_expand(options.data, options.runs)
        if "empty-rows" in wanted:
            figures += measure_empty_rows(*given)
        if "batches" in wanted:
            for name in options.model or ("reads", "features"):
                figures += measure_batches(name, *given, options.way)
    finish(options, figures=figures)


if __name__ == "__main__":
    main()
