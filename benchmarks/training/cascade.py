"""What a cascade costs and saves: the figures with and without the first model, the share passed on, processor time.

    python -m benchmarks.training.cascade --data ../shared/data --work DIR --model DIR|NAME [--on draws] [--time HG002]

``--model`` is a bundle of two models ('cnnspark cascade', or the bundled ``reads``). The figures are of the test
alleles of ``benchmarks.accuracy.accuracy`` (``--on draws``: none of them was trained on by the bundled models, and no
band was chosen on them; ``freebayes`` and ``bcftools`` are for a model that was trained on the first 60 % of these),
their difference with its paired interval; the threshold is the card's. The time is that of scoring blocks without
writing them, one thread, alternately with and without: read the ratio, because other programs of the machine are in the
seconds.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from functools import partial
from typing import Any

import numpy as np

from benchmarks.accuracy.accuracy import dataset_of, tested_parts
from benchmarks.scoring.sim import CALLSETS
from benchmarks.support.callsets import SETS, blocks_of, inputs_of
from benchmarks.support.command import arguments, table, use_one_core, write_results
from benchmarks.support.measure import in_rounds
from benchmarks.support.scoring_task import ScoringTask
from cnnspark.evaluation.bootstrap import bootstrap
from cnnspark.models.bundle_files import absolute_model, chosen_model
from cnnspark.models.card import Card, read_card
from cnnspark.scoring.cascade import PASSED_ON, FirstStage, first_stage
from cnnspark.scoring.cascade_band import SENSITIVITY, combined, figures
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.stages.cascade import probabilities_of
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.dataset import Dataset
from cnnspark.variants.score_fields import probability_of_score


def measure_part(path: str, model: str, card: Card, first: FirstStage) -> dict[str, Any]:
    """The figures of a labelled dataset with both models, and with the second one alone."""
    dataset = Dataset(path)
    blocks = [block["block"] for block in dataset.blocks]
    cards = (read_card(first.model), card)
    labels, by_first, by_second, stretches, _ = probabilities_of(
        dataset, blocks, (first.model, model), cards, ScoreSettings()
    )
    both = combined(by_first, by_second, first.band)
    promised = card.sensitivity_thresholds.get("ALL", {}).get(f"{SENSITIVITY}")
    threshold = 0.0 if promised is None else float(probability_of_score(np.array(promised)))
    alone, cascade = figures(labels, by_second, threshold), figures(labels, both, threshold)
    pair = ("alone", "cascade")
    found = bootstrap(labels, {"alone": by_second, "cascade": both}, stretches, [pair]).differences.get(pair, {})
    return {
        "alleles": len(labels),
        "passed_on": float(first.band.holds(by_first).mean()),
        "first": figures(labels, by_first, threshold),
        "alone": alone,
        "cascade": cascade,
        "intervals": {name: (interval.low, interval.high) for name, interval in found.items()},
    }


def time_blocks(inputs: Inputs, model: str, blocks: int, runs: int) -> dict[str, Any]:
    """Processor seconds of scoring the first blocks of a callset, alternately with the first model and without."""
    chosen = blocks_of(inputs.vcf)[:blocks]

    def score(task: ScoringTask) -> tuple[float, int, Counter[str]]:
        used, lines, counts = time.process_time(), 0, Counter[str]()
        for block in chosen:
            output = task.work(block)
            lines += sum(1 for _ in output.lines)
            counts.update(output.counts)
        return time.process_time() - used, lines, counts

    tasks = {name: ScoringTask(inputs, model, with_first=name == "cascade") for name in ("alone", "cascade")}
    found = in_rounds({name: partial(score, task) for name, task in tasks.items()}, runs)
    seconds = {name: [each[0] for each in runs_of] for name, runs_of in found.items()}
    _, lines, counts = found["cascade"][-1]
    return {
        "records": lines,
        "alleles": counts["alleles scored"],
        "passed_on": counts[PASSED_ON] / counts["alleles scored"],
        "seconds": seconds,
        "records_per_second": {name: lines / statistics.median(each) for name, each in seconds.items()},
        "ratio": statistics.median(a / c for a, c in zip(seconds["alone"], seconds["cascade"], strict=True)),
    }


def figure_rows(callset: str, found: dict[str, Any], first: str, second: str) -> list[dict[str, str]]:
    """The figures of a part with each of the models, named ``first`` and ``second``, and with both."""
    rows = []
    for figure, interval in zip(found["alone"], [*found["intervals"].values(), None, None], strict=True):
        loss = found["cascade"][figure] - found["alone"][figure]
        rows.append({
            "callset": callset, "passed on": f"{found['passed_on']:.1%}", "figure": figure,
            first: f"{found['first'][figure]:.4f}", second: f"{found['alone'][figure]:.4f}",
            "cascade": f"{found['cascade'][figure]:.4f}",
            "difference": f"{loss:+.5f}" + (f" ({interval[0]:+.5f} to {interval[1]:+.5f})" if interval else ""),
        })  # fmt: skip
    return rows


def time_row(callset: str, timed: dict[str, Any]) -> dict[str, Any]:
    """The times of a callset, for the table."""
    rates = timed["records_per_second"]
    return {"callset": callset, "records": timed["records"], "passed on": f"{timed['passed_on']:.1%}",
            "records/s, alone": rates["alone"], "records/s, cascade": rates["cascade"],
            "ratio": timed["ratio"]}  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, runs=3)
    parser.add_argument("--work", help="folder of samples and tensors of benchmarks.accuracy.accuracy [no figures]")
    parser.add_argument("--model", default="reads", help="a bundle of two models [the bundled reads]")
    parser.add_argument("--on", choices=[*CALLSETS, "draws"], default="draws")
    parser.add_argument("--tests", type=lambda text: text.split(","), help="of the set [all]")
    parser.add_argument("--time", action="append", choices=sorted(SETS), default=[], help="callset to time; repeatable")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of it")
    options = parser.parse_args()
    model = absolute_model(chosen_model(options.model, with_reads=True))
    card = read_card(model)
    first = first_stage(model, card, True)
    assert first is not None
    results: dict[str, Any] = {"cascade": first.identity(), "figures": {}, "time": {}}
    print(f"{first.name} ({first.band.low:g} to {first.band.high:g}), then {card.model}")
    rows = []
    for part in tested_parts(options.data, options.work, options.on) if options.work else []:
        if options.tests and part.name not in options.tests:
            continue
        found = measure_part(dataset_of(part, "reads", options.work), model, card, first)
        results["figures"][part.name] = found
        rows += figure_rows(part.name, found, first.name, card.model)
    if rows:
        print(table(rows))
    use_one_core()
    for name in options.time:
        results["time"][name] = time_blocks(inputs_of(options.data, name), model, options.blocks, options.runs)
    if options.time:
        print(table([time_row(name, timed) for name, timed in results["time"].items()]))
    write_results(options, results)


if __name__ == "__main__":
    main()
