"""What the benchmarks share: rounds, the frame of a command, callsets, and commands in processes of their own."""

from __future__ import annotations

import json

import pytest

from benchmarks.support.callsets import labelled_paths
from benchmarks.support.command import arguments, finish, table
from benchmarks.support.measure import Timing, figure, in_rounds, time_in_rounds
from benchmarks.support.processes import peak_bytes, run_cnnspark


@pytest.mark.parametrize(("warm_up", "counted"), [(True, [2, 3]), (False, [1, 2])])
def test_works_take_turns_and_the_first_round_only_warms_up(warm_up: bool, counted: list[int]):
    order: list[str] = []

    def work(name: str) -> int:
        order.append(name)
        return order.count(name)

    found = in_rounds({"a": lambda: work("a"), "b": lambda: work("b")}, 2, warm_up)
    assert found == {"a": counted, "b": counted}
    assert "".join(order) == "ab" * (2 + warm_up)


def test_a_timing_has_the_seconds_of_each_counted_run():
    timing = time_in_rounds({"sum": lambda: sum(range(100_000))}, 3)["sum"]
    assert len(timing.wall) == len(timing.cpu) == 3 and all(seconds > 0 for seconds in timing.wall)
    assert Timing.of([(2.0, 1.0), (4.0, 3.0)]).divided(2) == Timing((1.0, 2.0), (0.5, 1.5))


def test_a_table_is_aligned():
    text = table([{"stage": "reading", "rate": 12345.6}, {"stage": "rest", "rate": None}])
    assert text.splitlines() == ["stage      rate", "reading  12,346", "rest           "]


def test_a_command_has_the_arguments_that_it_asks_for_and_writes_its_results(tmp_path, capsys):
    options = arguments("What it measures.", runs=3).parse_args(["--json", str(tmp_path / "results.json")])
    assert vars(options) == {"data": "../shared/data", "runs": 3, "json": str(tmp_path / "results.json")}
    assert set(vars(arguments("", data=False, work="samples").parse_args(["--work", "x"]))) == {"work", "json"}
    made = figure("merge", 10, "records", Timing((1.0,), (2.0,)), Timing((1.0,), (1.0,)), "copy")
    finish(options, [{"stage": "merge"}], [made], shards=4)
    said = capsys.readouterr().out.splitlines()
    assert said[1:3] == ["stage", "merge"]
    assert " ".join(said[4].split()) == "merge records/s 5 5 5 copy 10 0.5"
    written = json.loads((tmp_path / "results.json").read_text())
    assert written.pop("machine")["cores"] >= 1
    assert written == {"rows": [{"stage": "merge"}], "figures": [made], "shards": 4}


def test_a_callsets_files_go_by_the_caller():
    found = labelled_paths("/data", "NA12878", "bcftools")
    assert found["vcf"] == "/data/real/NA12878/NA12878.bcftools.vcf.gz"
    assert found["labels"] == "/data/real/NA12878/NA12878.bcftools.labels.tsv"


def test_a_command_in_a_process_of_its_own_says_what_it_took():
    ended = run_cnnspark("--version").require_success()
    assert "cnnspark" in ended.said and ended.cpu_seconds > 0 and peak_bytes() > 2**20
    failed = run_cnnspark("score", "--unknown")
    assert failed.code == 2 and "No such option" in failed.said
    with pytest.raises(SystemExit, match="No such option"):
        failed.require_success()
