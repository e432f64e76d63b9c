"""Keras is loaded without packages that nobody here uses, but only where nobody else is."""

from __future__ import annotations

import subprocess
import sys

from cnnspark.execution import tensorflow_setup
from tests.conftest import ROOT

CODE = """
import gc, sys
from cnnspark import tensorflow_setup as lean
lean.own_process()
collections = gc.get_stats()[2]["collections"]
with lean.lean_import():
    import cnnspark.models.bundle
    print(gc.get_stats()[2]["collections"] - collections, gc.isenabled())
print(gc.isenabled(), sorted(set(lean.UNUSED) & set(sys.modules)))
import matplotlib.pyplot, pandas, sklearn
print(pandas.DataFrame({"a": [1]}).shape, sklearn.__name__, matplotlib.pyplot.figure().get_axes())
"""


def test_the_commands_own_process_loads_keras_without_them_and_can_load_them_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["0 False", "True []", "(1, 1) sklearn []"]


def test_a_callers_process_keeps_all_of_keras() -> None:
    before = {name: sys.modules.pop(name, None) for name in tensorflow_setup.UNUSED}
    try:
        with tensorflow_setup.lean_import():
            assert not set(tensorflow_setup.UNUSED) & set(sys.modules)
    finally:
        sys.modules.update({name: module for name, module in before.items() if module is not None})
