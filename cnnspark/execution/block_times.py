"""How long the blocks of a run took: the table ``blocks.tsv`` and its summary."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnspark.common.stopwatch import PARTS, start_seconds

if TYPE_CHECKING:
    from cnnspark.execution.blocks import Block

# The columns of blocks.tsv.
COLUMNS = (
    *("block", "sample", "contig", "start", "end", "records", "alleles", "reads", "seconds", "predicted_seconds"),
    *(f"{part}_seconds" for part in PARTS),
    *("cpu_seconds", "peak_mib", "host", "pid", "task"),
)


def blocks_table(blocks: Sequence[Block], reports: Mapping[int, Mapping[str, Any]], sample: str) -> str:
    """``blocks.tsv``: one row for each block, ``reports`` by the block's number. Empty where a report lacks a value."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n", restval="", extrasaction="ignore")
    table.writeheader()
    for block in blocks:
        of_block = reports.get(block.index, {})
        table.writerow(
            {
                "block": block.index,
                "sample": sample,
                "contig": block.region.contig,
                "start": block.region.start,
                "end": block.region.end,
                "records": block.records,
                "predicted_seconds": block.cost,
                **of_block,
                **{f"{name}_seconds": seconds for name, seconds in of_block.get("parts", {}).items()},
            }
        )
    return text.getvalue()


def summarise(reports: Iterable[Mapping[str, Any]], predicted_seconds: float = 0.0) -> dict[str, Any]:
    """The blocks' reports in short, for the manifest; empty where there are none.

    ``predicted_seconds`` are those of all blocks, to be compared with ``cpu_seconds`` (:mod:`cnnspark.stages.costs`).

    A task's seconds are those of its blocks. What is done once, before the first block, is in none, but in
    ``start_seconds``: the driver waits for Spark, and each worker loads the model (that of the slowest one).
    """
    known = [each for each in reports if each]
    if not known:
        return {}
    of_task: Counter[tuple[str, int, str]] = Counter()
    for each in known:
        of_task[each["host"], each["pid"], each["task"]] += each["seconds"]
    starts = start_seconds()
    for each in known:
        for name, seconds in each.get("start_seconds", {}).items():
            starts[name] = max(seconds, starts.get(name, 0.0))
    return {
        "seconds": round(sum(each["seconds"] for each in known), 3),
        "start_seconds": starts,
        "cpu_seconds": round(sum(each["cpu_seconds"] for each in known), 3),
        "predicted_seconds": round(predicted_seconds, 3),
        "parts": {name: round(sum(each["parts"][name] for each in known), 3) for name in PARTS},
        "reads": sum(each["reads"] for each in known),
        "block_seconds": _spread([each["seconds"] for each in known]),
        "task_seconds": _spread(list(of_task.values())),
        "tasks": len(of_task),
        "peak_mib": max(each["peak_mib"] for each in known),
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    mean = sum(seconds) / len(seconds)
    # 1 where all took the same.
    over = round(max(seconds) / mean, 3) if mean else 1.0
    return {"mean": round(mean, 3), "max": round(max(seconds), 3), "max_over_mean": over}


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary in one line."""
    blocks = summary["block_seconds"]
    total = sum(summary["parts"].values()) or 1.0
    shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in summary["parts"].items() if seconds)
    starts = "".join(f"; {name} took {seconds:.1f} s" for name, seconds in summary["start_seconds"].items())
    return (
        f"a block took {blocks['mean']:.2f} s, the slowest {blocks['max']:.2f} s ({shares}); "
        f"workers held {summary['peak_mib']} MiB at most{starts}"
    )
