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
    """Writes the table ``blocks.tsv`` with one row for each block.

    Args:
        blocks: the run's blocks.
        reports: what the stopwatch says of a block, by the block's number; a value that it lacks stays empty.
        sample: name of the sample, the same in all rows.

    Returns:
        The table with its header, tab-separated.
    """
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
    """Sums up the blocks' reports for the manifest.

    A task's seconds are those of its blocks. They leave out what happens once, before the first block; that is in
    ``start_seconds``: the driver waits for Spark, and each worker loads the model (the slowest one counts).

    Args:
        reports: what the stopwatch says of each block; empty ones are left out.
        predicted_seconds: of all blocks, to compare with ``cpu_seconds`` (:mod:`cnnspark.stages.costs`).

    Returns:
        Values for JSON, times in seconds; empty without a report.
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
    # 1 if all took the same time.
    over = round(max(seconds) / mean, 3) if mean else 1.0
    return {"mean": round(mean, 3), "max": round(max(seconds), 3), "max_over_mean": over}


def summary_text(summary: Mapping[str, Any]) -> str:
    """One line for the terminal from what :func:`summarise` returns (not empty)."""
    blocks = summary["block_seconds"]
    total = sum(summary["parts"].values()) or 1.0
    shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in summary["parts"].items() if seconds)
    starts = "".join(f"; {name} took {seconds:.1f} s" for name, seconds in summary["start_seconds"].items())
    return (
        f"a block took {blocks['mean']:.2f} s, the slowest {blocks['max']:.2f} s ({shares}); "
        f"workers held {summary['peak_mib']} MiB at most{starts}"
    )
