"""What a cascade costs and saves: the figures with and without the first model, the share passed on, processor time.

    python -m benchmarks.training.cascade --data ../shared/data --work DIR --model DIR|NAME [--on draws] [--time HG002]

``--model`` is a bundle of two models ('cnnspark cascade', or the bundled ``reads``). The figures are of the test
alleles of ``benchmarks.accuracy.accuracy`` (``--on draws``: none of them was trained on by the bundled models, and no
band was chosen on them; ``freebayes`` and ``bcftools`` are for a model that was trained on the first 60 % of these),
their difference with its paired interval; the threshold is the card's. The time is that of scoring blocks whole but for
writing them, one thread, with and without by turns: read the ratio, for other programs of the machine are in the
seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.accuracy import dataset_of, tested_parts
from benchmarks.scoring.sim import CALLSETS
from benchmarks.support.measure import blocks_of, machine, pin_to_one_core, table
from benchmarks.tensors.tensors import SETS, inputs_of
from cnnspark.evaluation.bootstrap import bootstrap
from cnnspark.models.bundle_files import absolute_model, chosen_model
from cnnspark.models.card import Card, model_tensors, read_card
from cnnspark.scoring.cascade import PASSED_ON, FirstStage, first_stage
from cnnspark.scoring.cascade_band import SENSITIVITY, combined, figures
from cnnspark.scoring.plan import ScoringPlan
from cnnspark.scoring.score import score_work
from cnnspark.scoring.settings import ScoreSettings
from cnnspark.stages.cascade import probabilities_of
from cnnspark.tensors.block_tensors import Inputs
from cnnspark.tensors.dataset import Dataset
from cnnspark.tensors.settings import TensorSettings
from cnnspark.variants.score_fields import probability_of_score


def measure_part(path: str, model: str, card: Card, first: FirstStage) -> dict[str, Any]:
    """The figures of a labelled dataset with both models and with the second one alone."""
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


def time_blocks(inputs: Inputs, model: str, card: Card, first: FirstStage, blocks: int, runs: int) -> dict[str, Any]:
    """Processor seconds of scoring the first blocks of a callset, with the first model and without, by turns."""
    chosen = blocks_of(inputs.vcf)[:blocks]
    tensors = model_tensors(model, card, TensorSettings())
    work = {
        name: score_work(inputs, ScoringPlan(model, card, tensors, ScoreSettings(), before))
        for name, before in (("alone", None), ("cascade", first))
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    counts: dict[str, int] = {}
    for run in range(runs + 1):
        for name, score in work.items():
            used, lines, counts = time.process_time(), 0, {}
            for block in chosen:
                output = score(block)
                lines += sum(1 for _ in output.lines)
                for key, count in output.counts.items():
                    counts[key] = counts.get(key, 0) + count
            if run:  # the first round loads what is compiled
                seconds[name].append(time.process_time() - used)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        "records": lines,
        "alleles": counts["alleles scored"],
        "passed_on": counts[PASSED_ON] / counts["alleles scored"],
        "seconds": seconds,
        "records_per_second": {name: lines / median for name, median in medians.items()},
        "ratio": statistics.median(a / c for a, c in zip(seconds["alone"], seconds["cascade"], strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--work", help="folder of samples and tensors of benchmarks.accuracy.accuracy [no figures]")
    parser.add_argument("--model", default="reads", help="a bundle of two models [the bundled reads]")
    parser.add_argument("--on", choices=[*CALLSETS, "draws"], default="draws")
    parser.add_argument("--tests", type=lambda text: text.split(","), help="of the set [all]")
    parser.add_argument("--time", action="append", choices=sorted(SETS), default=[], help="callset to time; repeatable")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of it")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    model = absolute_model(chosen_model(options.model, with_reads=True))
    card = read_card(model)
    first = first_stage(model, card, True)
    assert first is not None
    results: dict[str, Any] = {"machine": machine(), "cascade": first.identity(), "figures": {}, "time": {}}
    print(f"{first.name} ({first.band.low:g} to {first.band.high:g}), then {card.model}")
    rows = []
    for part in tested_parts(options.data, options.work, options.on) if options.work else []:
        if options.tests and part.name not in options.tests:
            continue
        path = dataset_of(part, "reads", options.work)
        found = results["figures"][part.name] = measure_part(path, model, card, first)
        for figure, interval in zip(found["alone"], [*found["intervals"].values(), None, None], strict=True):
            loss = found["cascade"][figure] - found["alone"][figure]
            rows.append({
                "callset": part.name, "passed on": f"{found['passed_on']:.1%}", "figure": figure,
                first.name: f"{found['first'][figure]:.4f}", card.model: f"{found['alone'][figure]:.4f}",
                "cascade": f"{found['cascade'][figure]:.4f}",
                "difference": f"{loss:+.5f}" + (f" ({interval[0]:+.5f} to {interval[1]:+.5f})" if interval else ""),
            })  # fmt: skip
    if rows:
        print(table(rows))
    pin_to_one_core()
    times = []
    for name in options.time:
        timed = results["time"][name] = time_blocks(
            inputs_of(options.data, name), model, card, first, options.blocks, options.runs
        )
        times.append({
            "callset": name, "records": timed["records"], "passed on": f"{timed['passed_on']:.1%}",
            "records/s, alone": timed["records_per_second"]["alone"],
            "records/s, cascade": timed["records_per_second"]["cascade"], "ratio": timed["ratio"],
        })  # fmt: skip
    if times:
        print(table(times))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
