"""Turns any failure into one of cnnspark's own errors: one sentence with a remedy, and an exit code."""

from __future__ import annotations

import os
import re

from cnnspark import errors


def explain(error: BaseException) -> errors.CnnsparkError:
    """The error of :mod:`cnnspark.errors` that stands for a failure.

    Args:
        error: what was raised: an error of cnnspark's own is returned as it is; one that a task raised is found in the
            text of Spark's exception; a full disk, a killed executor and a store's refusal are known by their text.

    Returns:
        The error to print; a RunError with the failure's own first line if nothing better is known.
    """
    if isinstance(error, errors.CnnsparkError):
        return error
    text = str(error)
    # A task's exception arrives as the text of its traceback inside a Java exception: the module's name is part of the
    # wire format, so cnnspark/errors.py must not move.
    found = re.findall(r"cnnspark\.errors\.(\w+): (.+)", text)
    if found:
        kind = getattr(errors, found[-1][0], errors.RunError)
        return kind(found[-1][1].strip())
    store_failure = store_error(f"{type(error).__name__}: {text}")
    if store_failure is not None:
        return store_failure
    # As Python, pyarrow and Java word it.
    full = re.search(r"(No space left on device|Disk quota exceeded)(?:: '([^'\n]+)')?", text)
    if full:
        which = f"the disk of {os.path.dirname(full[2])}" if full[2] else "a disk"
        return errors.RunError(
            f"{which} is full ({full[1]}); free space and run again, with --if-exists resume where the command has it"
        )
    if re.search(r"exit code[: ]+137|OutOfMemory|Container killed", text):
        return errors.RunError(
            "an executor was killed, most likely for memory; raise spark.executor.memoryOverhead and run again with "
            "--if-exists resume"
        )
    if "ExecutorLostFailure" in text:
        return errors.RunError(
            "executors were lost again and again; see their logs and the cluster's, and run again with --if-exists "
            "resume"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    python = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    first = (python or lines or [type(error).__name__])[-1 if python else 0]
    return errors.RunError(f"{first[:300]} ({type(error).__name__}); run with --debug for the traceback")


def store_error(text: str, path: object = "the object store") -> errors.CnnsparkError | None:
    """The error to show for a store's failure, or None if the text is not that of a store's failure.

    Args:
        text: the type and the message of an exception, or a traceback; nothing of it is repeated (it may hold secrets).
        path: what was to be read or written.
    """
    if re.search(r"NoCredentialsError|PartialCredentialsError|Unable to locate credentials", text):
        return errors.UsageError(
            f"there are no credentials for {path}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the driver and, "
            "as spark.executorEnv.*, for the executors, or give the machines a role"
        )
    if re.search(r"NoSuchBucket|[Tt]he specified bucket does not exist", text):
        return errors.UsageError(f"{path} is in a bucket that does not exist; make it first, or check its name")
    refused = r"AccessDenied|Access Denied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken"
    if re.search(r"PermissionError|ClientError", text) and re.search(refused, text):
        return errors.UsageError(
            f"the object store refuses access to {path}; check the credentials and what they may do"
        )
    if re.search(r"EndpointConnectionError|ConnectTimeoutError|Could not connect to the endpoint", text):
        return errors.RunError(
            f"the object store does not answer for {path}; check AWS_ENDPOINT_URL and the network, and run again with "
            "--if-exists resume"
        )
    return None
