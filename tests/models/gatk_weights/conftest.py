"""The tests of this folder use small networks instead of GATK's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnnspark.models.gatk_weights.layout import LAYERS

# Before its first import, so that its assertions say what they compare.
pytest.register_assert_rewrite("tests.models.gatk_weights.weight_files")

from tests.models.gatk_weights.weight_files import REAL, SMALL  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    """The small networks instead of GATK's, except in tests that ask for ``real_networks``."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, layers in SMALL.items():
            patch.setitem(LAYERS, kind, layers)
        yield


@pytest.fixture
def real_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """GATK's own networks."""
    for kind, layers in REAL.items():
        monkeypatch.setitem(LAYERS, kind, layers)
