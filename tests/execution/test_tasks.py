"""Tasks without Spark (``--local``): the same bytes, the same resume and exit codes, and no JVM."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from cnnspark import stages
from cnnspark.cli import main
from cnnspark.config import InputPaths, load_config
from cnnspark.errors import InputError, UsageError
from cnnspark.execution import shards
from cnnspark.execution.tasks import LocalSession, run_tasks, slices
from cnnspark.filtering.request import FilterOptions
from cnnspark.scoring import predict
from cnnspark.stages import pipeline
from cnnspark.stages.requests import EvaluationRequest, RunRequest, ScoreRequest
from tests.conftest import ROOT, Sample, read_lines


def written(out: Path) -> dict[str, bytes]:
    """The files of a scoring run, except those that say how long it took."""
    timed = {"manifest.json", "blocks.tsv"}
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in timed]
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "manifest"}


def test_a_local_task_gets_all_items_in_order_and_its_failure_is_the_callers() -> None:
    calls = []

    def double(part: Any) -> Any:
        calls.append(1)
        for item in part:
            if item == 99:
                raise InputError("that one")
            yield 2 * item

    assert run_tasks(LocalSession(), [[1, 2], [], [3]], double, "double") == [2, 4, 6]
    assert len(calls) == 1
    with pytest.raises(InputError, match="^that one$"):
        run_tasks(LocalSession(), [[1], [99]], double, "double")


@pytest.mark.parametrize(("items", "number"), [(0, 3), (1, 3), (7, 3), (8, 1), (5, 5), (5, 9)])
def test_slices_are_even_and_hold_everything_in_order(items: int, number: int) -> None:
    parts = slices(range(items), number)
    assert [item for part in parts for item in part] == list(range(items))
    assert len(parts) == min(items, number)
    assert max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1


@pytest.mark.spark
def test_a_worker_outlives_a_task_that_looks_at_nothing_it_was_given(spark: Any) -> None:
    """A worker keeps the model, which takes ten seconds to load, for the next callset of a sheet."""

    def processes(part: Any) -> Any:
        time.sleep(0.5)  # a worker that ends with the task before this one has ended by then
        yield from [os.getpid() for _ in part]

    before = run_tasks(spark, [[1], [2]], processes, "before")
    assert run_tasks(spark, [[1], [2]], lambda _: iter([7]), "look at nothing") == [7, 7]
    run_tasks(spark, [[1], [2]], processes, "after")
    assert all(map(psutil.pid_exists, before))


@pytest.fixture(scope="module")
def by_spark(spark: Any, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("spark") / "run"
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(out), sample.config))
    return out


@pytest.mark.spark
@pytest.mark.parametrize("read_ahead", [0, 2])
def test_without_spark_a_run_has_the_same_files(
    sample: Sample, by_spark: Path, tmp_path: Path, read_ahead: int
) -> None:
    config = load_config(None, ["blocks.records=20", f"score.read_ahead={read_ahead}"])
    found = stages.score_callset(
        LocalSession(), ScoreRequest(sample.unlabelled, sample.model, str(tmp_path / "out"), config)
    )
    assert written(tmp_path / "out") == written(by_spark)
    assert found["conservation"]["blocks"] > 5
    assert found["runtime"]["tasks"] == 1


@pytest.mark.spark
def test_a_run_that_was_stopped_goes_on_without_spark_and_with_it(
    spark: Any, sample: Sample, by_spark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, out = sample.unlabelled, tmp_path / "out"
    command = ["score", "-q", "--vcf", str(paths.vcf), "--reads", str(paths.reads), "--reference", str(paths.reference)]
    command += ["--model", sample.model, "--out", str(out), "--set", "blocks.records=20"]
    ahead = ["--set", "score.read_ahead=1"]

    whole = predict.predicted_scores

    def stopped_at(block: int, error: BaseException) -> Callable[..., Any]:
        def predicted(bundle: Any, batch: Any, batch_size: int, of: Any) -> Any:
            if of.index == block:
                raise error
            return whole(bundle, batch, batch_size, of)

        return predicted

    def finished() -> list[str]:
        return sorted(path.stem for path in (out / "manifest").iterdir())

    with monkeypatch.context() as patch:
        patch.setattr(predict, "predicted_scores", stopped_at(2, KeyboardInterrupt()))
        assert main([*command, "--local"]) == 130
        assert finished() == ["block-000000", "block-000001"]
    with monkeypatch.context() as patch:
        patch.setattr(predict, "predicted_scores", stopped_at(4, InputError("no number; train it again")))
        assert main([*command, *ahead, "--local", "--if-exists", "resume"]) == 3
        assert finished() == [f"block-00000{number}" for number in range(4)]
    assert not (out / "_SUCCESS").exists()
    assert main([*command, "--local"]) == 2
    untouched = (out / "shards" / "block-000001.vcf.gz").stat().st_mtime_ns
    assert main([*command, *ahead, "--local", "--if-exists", "resume"]) == 0
    assert written(out) == written(by_spark)
    (out / "shards" / "block-000003.vcf.gz").unlink()
    stages.score_callset(spark, ScoreRequest(paths, sample.model, str(out), sample.config, "resume"))
    assert written(out) == written(by_spark)
    assert (out / "shards" / "block-000001.vcf.gz").stat().st_mtime_ns == untouched


@pytest.mark.spark
def test_candidates_filter_and_evaluation_need_no_spark_either(
    spark: Any, sample: Sample, by_spark: Path, tmp_path: Path
) -> None:
    for name, session in (("spark", spark), ("local", LocalSession())):
        folder = tmp_path / name
        folder.mkdir()
        stages.filter_callset(session, str(by_spark), str(folder / "f.vcf.gz"), sample.config, FilterOptions(fdr=0.3))
        stages.evaluate_callset(
            session, EvaluationRequest(sample.paths, str(folder / "evaluation"), sample.config, ["QUAL"])
        )
        region = InputPaths(reads=sample.paths.reads, reference=sample.paths.reference, regions=("chrA:1-20,000",))
        stages.call_candidates(session, region, str(folder / "candidates.vcf.gz"), sample.config)
    for name in ("f.vcf.gz", "f.vcf.gz.tbi", "evaluation/metrics.json", "candidates.vcf.gz"):
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "spark" / name).read_bytes()


def test_a_run_with_a_model_needs_no_spark_and_training_does(simulated: InputPaths, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a model is trained by Spark"):
        pipeline.run_all(LocalSession(), RunRequest(simulated, str(tmp_path / "out"), load_config()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--master", "local[2]"], "--local runs without Spark; leave --master out"),
        (["--conf-spark", "spark.ui.enabled=true"], "leave --conf-spark out"),
        (["--sheet", "sheet.tsv"], "--local is for one callset"),
    ],
)
def test_what_is_sparks_does_not_go_with_local(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--local", "--vcf", "x.vcf.gz", "--out", str(tmp_path / "out"), *given]) == 2
    assert said in capsys.readouterr().err


def test_no_jvm_is_started_and_pyspark_is_not_loaded(simulated: InputPaths, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from cnnspark.cli import main\n"
        "run = ['run', '--local', '--model', 'reference', '--vcf', sys.argv[1], '--reference', sys.argv[2]]\n"
        "code = main([*run, '--truth', sys.argv[3], '--bed', sys.argv[4], '--out', sys.argv[5]])\n"
        "print(code, sorted({'pyspark', 'py4j', 'petastorm'} & set(sys.modules)), 'tensorflow' in sys.modules)\n"
    )
    paths = [str(path) for path in (simulated.vcf, simulated.reference, simulated.truth, simulated.bed)]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 [] True"
    # Lines that are written while TensorFlow is loaded are not lost, and TensorFlow's own lines do not appear.
    lines = done.stderr.splitlines()
    assert all(line.startswith("[") for line in lines), lines
    merged, callset = tmp_path / "out" / "scored" / "merged.vcf.gz", str(simulated.vcf)
    assert len(read_lines(merged)) == len(read_lines(callset))
    assert shards.finished_rows(shards.shard_folder(str(tmp_path / "out" / "scored")))
