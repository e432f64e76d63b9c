"""Keras is loaded without packages that nobody here uses, but only where nobody else is."""

from __future__ import annotations

import subprocess
import sys

from cnnspark import lean
from tests.conftest import ROOT

CODE = """
import sys
from cnnspark import lean
lean.own_process()
with lean.without_unused_packages():
    import cnnspark.models.bundle
print(sorted(set(lean.UNUSED) & set(sys.modules)))
import pandas, sklearn
print(pandas.DataFrame({"a": [1]}).shape, sklearn.__name__)
"""


def test_the_commands_own_process_loads_keras_without_them_and_can_load_them_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["[]", "(1, 1) sklearn"]


def test_a_callers_process_keeps_all_of_keras() -> None:
    before = {name: sys.modules.pop(name, None) for name in lean.UNUSED}
    try:
        with lean.without_unused_packages():
            assert not set(lean.UNUSED) & set(sys.modules)
    finally:
        sys.modules.update({name: module for name, module in before.items() if module is not None})
