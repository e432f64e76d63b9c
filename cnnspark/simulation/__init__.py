"""A simulated sample in known truth: a made-up genome or a given one, its variants, reads, alignments and a callset.

``simulate`` and ``SimulatedFiles`` are loaded when they are first used: the configuration needs the settings alone, and
the simulator loads numba and pysam (:mod:`cnnspark.simulation.simulator`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnspark.simulation.settings import SimulationSettings

if TYPE_CHECKING:
    from cnnspark.simulation.simulator import SimulatedFiles, simulate

__all__ = ["SimulatedFiles", "SimulationSettings", "simulate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cnnspark.simulation' has no attribute '{name}'")
    from cnnspark.simulation import simulator

    return getattr(simulator, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
