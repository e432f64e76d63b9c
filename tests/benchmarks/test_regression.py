"""The regression guard of the benchmarks: what counts as moved, and what its exit code says."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import __main__ as entry
from benchmarks.support.measure import Timing, figure
from benchmarks.support.regression import Change, compare, ratios_of, read_baseline, write_baseline


def made(name: str, ratio: float | None) -> dict:
    limit = None if ratio is None else Timing((ratio,), (ratio,))
    return figure(name, 10, "records", Timing((1.0,), (1.0,)), limit, "copy")


def test_a_figures_ratio_is_its_limits_time_by_its_own_round_by_round():
    work, limit = Timing((9.0,) * 3, (2.0, 4.0, 8.0)), Timing((9.0,) * 3, (1.0, 3.0, 2.0))
    found = figure("merge", 16, "records", work, limit, "copy")
    assert (found["ratio_low"], found["ratio"], found["ratio_high"]) == (0.25, 0.5, 0.75)
    assert (found["low"], found["rate"], found["high"], found["limit_rate"]) == (2.0, 4.0, 8.0, 8.0)
    assert found["unit"] == "records/s"
    assert figure("merge", 16, "records", work)["ratio"] is None


@pytest.mark.parametrize(
    ("now", "moved", "worse"),
    [(1.0, False, False), (0.8, False, False), (0.79, True, True), (1.25, False, False), (1.26, True, False)],
)
def test_a_fifth_less_or_a_quarter_more_is_moved_and_only_less_is_worse(now, moved, worse):
    change = Change("merge", 1.0, now)
    assert (change.moved(0.2), change.worse(0.2)) == (moved, worse)


def test_what_got_worse_is_named_first_with_before_now_and_change():
    before = {"merge": 0.4, "decode": 2.0, "gone": 1.0, "network": 0.2}
    found = compare(before, {"merge": 0.41, "decode": 1.0, "network": 0.4, "added": 3.0})
    assert found.rows() == [
        {"ratio": "decode", "before": 2.0, "now": 1.0, "change": "-50%", "verdict": "WORSE"},
        {"ratio": "merge", "before": 0.4, "now": 0.41, "change": "+2%", "verdict": ""},
        {"ratio": "network", "before": 0.2, "now": 0.4, "change": "+100%", "verdict": "better"},
    ]
    assert found.sentence() == (
        "2 of 3 ratios moved by more than 20%, 1 of them for the worse: decode; 1 of the baseline were not measured; "
        "1 are not in the baseline: added"
    )
    assert compare({"merge": 1.0}, {"merge": 1.1}).sentence() == "none of 1 ratios moved by more than 20%"


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ratio_that_is_no_positive_number_is_refused(ratio):
    with pytest.raises(ValueError, match="the ratio of merge"):
        compare({"merge": 1.0}, {"merge": ratio})


def test_two_figures_of_one_name_would_hide_each_other():
    assert ratios_of([made("a", 0.5), made("b", None)]) == {"a": 0.5}
    with pytest.raises(ValueError, match="two figures are named a"):
        ratios_of([made("a", 0.5), made("a", 0.6)])


def test_a_baseline_keeps_what_was_not_measured_again(tmp_path):
    path = tmp_path / "baseline.json"
    write_baseline(path, [made("a", 0.5), made("b", 0.123456)], {"written": "then"})
    write_baseline(path, [made("a", 0.7)], {"written": "now"})
    assert read_baseline(path) == {"a": 0.7, "b": 0.1235}
    assert json.loads(path.read_text())["written"] == "now"
    path.write_text('{"ratios": {}}')
    with pytest.raises(ValueError, match="no baseline of this version"):
        read_baseline(path)


@pytest.mark.parametrize(("ratio", "code"), [(0.5, 0), (0.45, 0), (0.3, 1), (0.9, 0)])
def test_the_entry_ends_with_1_where_a_ratio_fell(tmp_path, monkeypatch, capsys, ratio, code):
    baseline, run = tmp_path / "baseline.json", tmp_path / "run.json"
    write_baseline(baseline, [made("merge", 0.5)], {})
    found = {"machine": {"load": 0.1}, "failed": [], "benchmarks": {"write": {"figures": [made("merge", ratio)]}}}
    run.write_text(json.dumps(found))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--from", str(run), "--against", str(baseline)])
    assert entry.main() == code
    assert ("WORSE" in capsys.readouterr().out) == bool(code)


def test_a_baseline_that_is_not_there_is_said_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--against", str(tmp_path / "none.json")])
    assert entry.main() == 2
    assert "write one with --write-baseline" in capsys.readouterr().err


def test_a_benchmark_that_is_not_there_is_left_out_with_a_line(monkeypatch, capsys):
    absent = entry.Benchmark("benchmarks.no_such_module", "nothing")
    monkeypatch.setattr(entry, "BENCHMARKS", {"absent": absent})
    results = entry.run_all(["absent"], "data", quick=False)
    assert (results.figures, results.failed) == ([], [])
    assert "left out: there is no benchmarks.no_such_module" in capsys.readouterr().out
