"""Buckets on a server of this machine, for the tests that need an object store."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnspark.common.storage import location

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from upath import UPath

# Nothing else says it: where it is found, credentials have leaked.
SECRET = "NeverToBeSeen0123456789"


@dataclass(frozen=True)
class Store:
    """One bucket, empty at first."""

    bucket: str
    environment: dict[str, str]

    def url(self, name: str = "") -> str:
        return f"s3://{self.bucket}/{name}"

    def path(self, name: str = "") -> UPath:
        return location(self.url(name))  # type: ignore[return-value]

    def put(self, local: str | Path, name: str) -> str:
        """Uploads a file; returns its address."""
        self.path(name).write_bytes(Path(local).read_bytes())
        return self.url(name)

    def objects(self, name: str = "") -> dict[str, bytes]:
        """Everything below ``name``, by its name relative to it."""
        root = self.path(name)
        top = root.path.rstrip("/") + "/"
        return {key.removeprefix(top): root.fs.cat_file(key) for key in root.fs.find(top)}

    def changed(self, name: str) -> dict[str, object]:
        """When each object below ``name`` was last written."""
        root = self.path(name)
        return {key: facts["LastModified"] for key, facts in root.fs.find(root.path, detail=True).items()}


@contextmanager
def opened_store(server: str, temporary: Path, spark: SparkSession | None = None) -> Iterator[Store]:
    """A bucket on the server, with the environment that finds it, here and in Spark's tasks.

    ``temporary`` is the temporary directory meanwhile, so that a test can see what stays in it.
    """
    environment = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "TMPDIR": str(temporary),
    }
    before = dict(os.environ)
    os.environ.update(environment)
    of_tasks = spark.sparkContext.environment if spark is not None else {}
    of_tasks.update(environment)
    tempfile.tempdir = None  # what it was found to be before
    try:
        store = Store(f"bucket-{uuid.uuid4().hex[:8]}", environment)
        store.path().fs.mkdir(store.bucket)
        yield store
    finally:
        for name in environment:
            of_tasks.pop(name, None)
        os.environ.clear()
        os.environ.update(before)
        tempfile.tempdir = None
