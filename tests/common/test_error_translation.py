"""Failures of tasks, stores and disks as errors of cnnspark's own."""

from __future__ import annotations

import pytest

from cnnspark import errors
from cnnspark.common.error_translation import explain, store_error
from cnnspark.errors import RunError, UsageError
from tests.support.object_store import SECRET


@pytest.mark.parametrize("kind", [errors.UsageError, errors.InputError, errors.RunError, errors.QualityError])
def test_an_error_of_a_task_is_found_in_its_traceback(kind: type[errors.CnnsparkError]) -> None:
    own = kind("x.bam has no index; run 'samtools index x.bam'")
    assert explain(own) is own
    text = f"Job aborted\nTraceback (most recent call last):\n{kind.__module__}.{kind.__name__}: {own}\n\tat y"
    found = explain(RuntimeError(text))
    assert type(found) is kind and str(found) == str(own)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[Errno 28] No space left on device: '/data/out/x'", "the disk of /data/out is full"),
        ("java.io.IOException: Disk quota exceeded", "a disk is full"),
        ("Container killed by YARN for exceeding memory limits", "raise spark.executor.memoryOverhead"),
        ("ExecutorLostFailure (executor 3 exited)", "executors were lost again and again"),
        ("Job aborted\nValueError: odd\n\tat x", "ValueError: odd (RuntimeError); run with --debug"),
        ("", "RuntimeError (RuntimeError); run with --debug"),
    ],
)
def test_other_failures_are_run_errors_with_a_remedy(text: str, says: str) -> None:
    found = explain(RuntimeError(text))
    assert type(found) is RunError and says in str(found)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        ("botocore.exceptions.EndpointConnectionError: Could not connect to the endpoint URL", RunError, "not answer"),
        ("PermissionError: Access Denied", UsageError, "refuses access"),
        ("PermissionError: The AWS Access Key Id you provided (InvalidAccessKeyId)", UsageError, "refuses access"),
        ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", UsageError, "no credentials"),
        ("FileNotFoundError: The specified bucket does not exist", UsageError, "bucket"),
    ],
)
def test_a_stores_errors_in_a_task_are_explained(error: str, kind: type, says: str) -> None:
    explained = explain(RuntimeError(f"Job aborted: Traceback\n  File x\n{error} {SECRET}"))
    assert type(explained) is kind and says in str(explained) and SECRET not in str(explained)


def test_other_errors_are_not_mistaken_for_a_stores() -> None:
    assert store_error("PermissionError: [Errno 13] Permission denied: '/data/x'") is None
    assert store_error("FileNotFoundError: [Errno 2] No such file or directory: 'x'") is None
