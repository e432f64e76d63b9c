"""Spark's daemon of Python workers (``spark.python.daemon.module``), forked from a process with TensorFlow.

Importing it takes a worker 5 s of a core, and Spark ends a worker that had nothing to do for a minute.
"""

import os

from tests.support.fork_client import become
from tests.support.fork_server import ADDRESS

# In the environment of tasks that load no model. Spark has a daemon and workers of its own for each environment.
NO_MODELS = "CNNSPARK_TESTS_NO_MODELS"

if __name__ == "__main__":
    become("daemon", os.environ[ADDRESS])
