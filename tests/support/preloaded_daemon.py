"""Spark's daemon of Python workers (``spark.python.daemon.module``) that imports TensorFlow before it forks the first.

Spark ends a worker that had nothing to do for a minute, and the next one would take 3 to 5 s of a core to import it
again. A fork is safe because TensorFlow starts its threads with its first operation.
"""

import gc

from pyspark.daemon import manager

from cnnspark.execution.tensorflow_setup import lean_import, own_process
from cnnspark.formats.htslib import prepare_htslib

if __name__ == "__main__":
    gc.disable()
    prepare_htslib()  # as a task that loads a model does
    own_process()
    with lean_import():
        import cnnspark.models.bundle
        import cnnspark.scoring.score
        import cnnspark.tensors.builder  # noqa: F401
    gc.freeze()
    gc.enable()
    manager()
