"""The jobs under spark-submit, on separate executor processes: the same bytes as in one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnspark import stages
from cnnspark.execution.session import use_bundled_java
from cnnspark.stages.requests import ScoreRequest
from tests.conftest import ROOT, Sample
from tests.support.standalone import QUICK_JVM

pytestmark = pytest.mark.spark


def submit(job: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """``spark-submit`` with two executors of one core each, as processes of their own."""
    use_bundled_java()
    import pyspark

    # Executors of local-cluster leave their working folders in SPARK_HOME/work unless told another.
    environment = os.environ | {
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(folder / "work"),
        "PYTHONPATH": str(ROOT),
        "JAVA_TOOL_OPTIONS": QUICK_JVM,
    }
    environment.pop("PYSPARK_GATEWAY_PORT", None)
    command = [
        str(Path(pyspark.__file__).parent / "bin" / "spark-submit"),
        # The README's line, and what makes this machine the cluster.
        "--properties-file", str(ROOT / "conf" / "spark" / "yarn.conf"), "--master", "local-cluster[2,1,1024]",
        "--conf", "spark.executor.cores=1", "--conf", "spark.eventLog.enabled=false",
        "--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.ui.enabled=false",
        "--conf", "spark.executor.memory=512m", str(ROOT / "jobs" / job), *arguments,
    ]  # fmt: skip
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=400, cwd=folder, check=False
    )


def test_separate_executors_write_the_same_bytes(spark: object, sample: Sample, tmp_path: Path) -> None:
    stages.score_callset(spark, ScoreRequest(sample.unlabelled, sample.model, str(tmp_path / "one"), sample.config))  # type: ignore[arg-type]
    paths = sample.unlabelled
    done = submit(
        "score.py",
        ["--vcf", str(paths.vcf), "--reads", str(paths.reads), "--reference", str(paths.reference), "--model",
         sample.model, "--out", "many", "--set", "blocks.records=20", "--json"],
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["conservation"]["blocks"] > 2
    assert (tmp_path / "many" / "merged.vcf.gz").read_bytes() == (tmp_path / "one" / "merged.vcf.gz").read_bytes()
    assert (tmp_path / "many" / "merged.vcf.gz.tbi").read_bytes() == (
        tmp_path / "one" / "merged.vcf.gz.tbi"
    ).read_bytes()


def test_a_failed_job_has_its_exit_code_and_sentence(sample: Sample, tmp_path: Path) -> None:
    shutil.copy(str(sample.paths.reads), tmp_path / "noindex.bam")
    done = submit(
        "score.py",
        ["--vcf", str(sample.paths.vcf), "--reads", "noindex.bam", "--reference", str(sample.paths.reference),
         "--model", sample.model, "--out", "out"],
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 3
    # spark-submit sends the driver's stderr to its own stdout.
    said = [line for line in done.stdout.splitlines() if line.startswith("cnnspark:")]
    assert len(said) == 1 and "samtools index" in said[0]
    assert not (tmp_path / "out").exists()
