"""The stopwatch of a block's work, and the report of a run."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time

import pytest

from cnnspark.common import stopwatch as runtime
from cnnspark.execution import block_times
from cnnspark.execution.blocks import Block
from cnnspark.formats.regions import Region
from tests.conftest import ROOT


def test_parts_within_parts_add_up_to_the_whole() -> None:
    @runtime.part("encode")
    def build() -> None:
        time.sleep(0.02)
        with runtime.part("read"):
            time.sleep(0.04)
            runtime.add_count("reads", 7)
        runtime.add_count("alleles", 2)

    with runtime.measured("write"):
        build()
        build()
        time.sleep(0.01)
        report = runtime.report()
    parts = report["parts"]
    assert sum(parts.values()) == pytest.approx(report["seconds"], abs=0.002)
    assert parts["read"] >= 0.08 and parts["encode"] >= 0.04 and parts["write"] >= 0.01
    assert parts["predict"] == parts["label"] == 0
    assert parts["read"] > parts["encode"] > parts["write"]
    assert (report["reads"], report["alleles"], report["pid"]) == (14, 4, os.getpid())
    assert report["cpu_seconds"] < report["seconds"]  # it slept


def test_a_part_that_fails_ends() -> None:
    with runtime.measured("write"):
        with pytest.raises(ValueError), runtime.part("read"):
            raise ValueError
        before = runtime.report()["parts"]["read"]
        time.sleep(0.01)
        assert runtime.report()["parts"]["read"] == before


def test_each_call_of_a_measured_function_has_its_own_watch() -> None:
    @runtime.measured("write")
    def work(reads: int) -> dict:
        runtime.add_count("reads", reads)
        return runtime.report()

    assert [work(3)["reads"], work(5)["reads"]] == [3, 5]
    assert runtime.report() == {}


def test_without_a_watch_parts_and_counts_do_nothing() -> None:
    with runtime.part("read"):
        runtime.add_count("reads", 1)
    assert runtime.report() == {}


def test_the_peak_is_the_most_that_the_process_ever_held() -> None:
    # In a process of its own, because this one may have held more before.
    code = """
from cnnspark.common.stopwatch import peak_mib
before = peak_mib()
held = bytearray(100 << 20)
del held
print(before, peak_mib())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    before, after = map(int, done.stdout.split())
    assert before + 95 <= after <= before + 110


def report(seconds: float, task: str, read: float = 0.5, peak: int = 100) -> dict:
    parts = dict.fromkeys(runtime.PARTS, 0.0) | {"read": read, "write": seconds - read}
    rest = {"cpu_seconds": seconds / 2, "reads": 10, "alleles": 3, "peak_mib": peak, "host": "node1", "pid": 7}
    return {"seconds": seconds, "parts": parts, "task": task, **rest}


def test_the_summary_has_blocks_and_tasks() -> None:
    found = block_times.summarise([report(1.0, "1.0.0"), {}, report(2.0, "1.1.0", peak=300), report(4.0, "1.0.0")], 3.0)
    assert found["seconds"] == 7.0 and found["cpu_seconds"] == 3.5 and found["reads"] == 30
    assert found["parts"]["read"] == 1.5 and found["parts"]["write"] == 5.5
    assert found["predicted_seconds"] == 3.0
    assert found["block_seconds"] == {"mean": pytest.approx(7 / 3, abs=1e-3), "max": 4.0, "max_over_mean": 1.714}
    assert found["task_seconds"] == {"mean": 3.5, "max": 5.0, "max_over_mean": 1.429} and found["tasks"] == 2
    assert found["peak_mib"] == 300
    assert "read 21%, write 79%" in block_times.summary_text(found)
    assert block_times.summarise([{}]) == {}


def test_starts_are_in_the_report_and_those_of_the_slowest_worker_in_the_summary() -> None:
    with runtime.starting("a probe"), runtime.measured("read") as stopwatch:
        time.sleep(0.01)
    assert 0.01 <= stopwatch.report()["start_seconds"]["a probe"] < 1
    loaded = [report(1.0, task) | {"start_seconds": {"the model": of}} for task, of in (("1.0.0", 3.0), ("1.1.0", 5.0))]
    found = block_times.summarise([*loaded, report(1.0, "1.2.0")])
    assert found["start_seconds"]["the model"] == 5.0
    assert "; the model took 5.0 s" in block_times.summary_text(found)


def test_the_table_has_a_row_for_each_block() -> None:
    blocks = [Block(0, Region("chr1", 0, 1000), 20), Block(1, Region("chr1", 1000, 5000), 30, cost=1.5)]
    table = block_times.blocks_table(blocks, {1: report(2.0, "1.1.0")}, "HG002")
    unknown, known = csv.DictReader(io.StringIO(table), delimiter="\t")
    assert tuple(known) == block_times.COLUMNS
    assert (known["sample"], known["start"], known["end"], known["records"]) == ("HG002", "1000", "5000", "30")
    assert (known["alleles"], known["reads"], known["read_seconds"], known["seconds"]) == ("3", "10", "0.5", "2.0")
    assert (known["predicted_seconds"], unknown["predicted_seconds"]) == ("1.5", "0.0")
    assert (known["peak_mib"], known["host"], known["pid"], known["task"]) == ("100", "node1", "7", "1.1.0")
    assert (unknown["block"], unknown["records"], unknown["seconds"], unknown["host"]) == ("0", "20", "", "")
