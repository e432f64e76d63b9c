"""A simulated sample in known truth: a made-up genome or a given one, its variants, reads, alignments and a callset.

``simulate`` and ``SimulatedFiles`` are loaded when they are first used: the configuration needs the settings alone, and
the simulator loads numba and pysam (:mod:`cnnspark.simulation.simulator`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names
from cnnspark.simulation.settings import SimulationSettings

if TYPE_CHECKING:
    from cnnspark.simulation.simulator import SimulatedFiles, simulate

__all__ = ["SimulatedFiles", "SimulationSettings", "simulate"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "SimulatedFiles": ".simulator",
        "simulate": ".simulator",
    },
)
