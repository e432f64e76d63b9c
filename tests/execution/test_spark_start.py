"""Why Spark did not start: one sentence with Java's reason and what to set, and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnspark.execution.spark_start import start_sentence
from tests.conftest import ROOT

CLASS = "org.apache.spark.SparkException: "
EXITED = "[JAVA_GATEWAY_EXITED] Java gateway process exited"
CALL = "An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.\n: "


@pytest.mark.parametrize(
    ("error", "stderr", "reason", "remedy"),
    [
        (f"{CALL}{CLASS}Could not parse Master URL: 'x'\n\tat a.b(c)", "", "not parse Master URL: 'x'", "--master"),
        (f"{CALL}{CLASS}Asked to run locally with 0 threads", "", "Asked to run locally with 0 threads", "--master"),
        (EXITED, "Error: x\nInvalid initial heap size: -Xmx1x\nBye",
         "Invalid initial heap size: -Xmx1x", "spark.driver.memory"),
        (EXITED, "spark-class: line 71: /x/bin/java: No such file\nCMD: bad",
         "/x/bin/java: No such file", "JAVA_HOME"),
        (EXITED, "", "it does not say why", "JAVA_HOME"),
        (f"{CALL}java.io.FileNotFoundException: File file:/no/where does not exist", "", "/no/where", "eventLog"),
    ],
)  # fmt: skip
def test_the_sentence_has_javas_reason_and_a_remedy(error: str, stderr: str, reason: str, remedy: str) -> None:
    found = start_sentence(error, stderr)
    assert found.startswith("Spark does not start: ") and "\n" not in found
    assert reason in found.split("; ")[0] and remedy in found.split("; ")[1]


def test_a_master_that_is_none_is_an_error_of_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnnspark", "candidates", "--master", "loacl[2]", "--out", "x.vcf.gz"]
    for name in ("r.bam", "r.fa"):
        (tmp_path / name).touch()
    done = subprocess.run(
        [*command, "--reads", "r.bam", "--reference", "r.fa"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Spark does not start: Master must" in done.stderr and "Traceback" not in done.stderr
