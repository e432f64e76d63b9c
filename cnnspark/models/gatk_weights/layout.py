"""The arrays of GATK's networks: their names and shapes, as in the state dicts of the PyTorch networks.

There is no PyTorch network of ``2d_mix``; its names are made like those of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cnnspark.errors import UsageError


@dataclass(frozen=True)
class GatkLayer:
    """A layer with weights.

    Attributes:
        name: Its name in PyTorch.
        shape: Shape of its ``weight`` in PyTorch: (out, in, ...kernel), or (features,) for a batch normalisation.
        maps: Of a dense layer behind the convolutions: the shape of their output (..., channels), which the first
            columns of its ``weight`` take, flattened.
    """

    name: str
    shape: tuple[int, ...]
    maps: tuple[int, ...] = ()

    @property
    def normalises(self) -> bool:
        """Whether the layer is a batch normalisation."""
        return len(self.shape) == 1

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """The arrays of the layer by name, with their shapes."""
        parts = ("bias", "running_mean", "running_var") if self.normalises else ("bias",)
        return {f"{self.name}.weight": self.shape, **{f"{self.name}.{part}": self.shape[:1] for part in parts}}


# PyTorch's number of batches seen in training; Keras does not count them, and no score depends on it.
_COUNTER = ".num_batches_tracked"
# Flatten counts channels last in the networks of both frameworks: the PyTorch ones were made from Keras' and transpose
# the convolutions' output first. So a dense kernel behind it differs by a plain transposition.
LAYERS: dict[str, tuple[GatkLayer, ...]] = {
    "1d": (
        GatkLayer("conv.0", (256, 4, 12)),
        GatkLayer("conv.2", (256, 256, 12)),
        GatkLayer("conv.5", (128, 256, 12)),
        GatkLayer("normalize", (7,)),
        GatkLayer("dense_1.0", (40, 7)),
        GatkLayer("dense_2.0", (40, 95 * 128 + 40), maps=(95, 128)),
        GatkLayer("dense_3", (4, 40 + 7)),
    ),
    "2d": (
        GatkLayer("conv.0", (64, 15, 25, 1)),
        GatkLayer("conv.3", (48, 64, 1, 25)),
        GatkLayer("conv.6", (32, 48, 25, 1)),
        GatkLayer("conv.10", (24, 32, 1, 25)),
        GatkLayer("dense_1.0", (7,)),
        GatkLayer("dense_1.1", (64, 7)),
        GatkLayer("dense_2.0", (24, 8 * 80 * 24 + 64), maps=(8, 80, 24)),
        GatkLayer("dense_2.3", (4, 24)),
    ),
    "2d_mix": (
        GatkLayer("conv.0", (216, 15, 16, 1)),
        GatkLayer("conv.1", (160, 216, 1, 16)),
        GatkLayer("conv.2", (128, 160, 16, 1)),
        GatkLayer("conv.3", (96, 128, 1, 16)),
        GatkLayer("conv.4", (64, 96, 16, 1)),
        GatkLayer("normalize", (7,)),
        GatkLayer("dense_1.0", (16, 7)),
        GatkLayer("dense_2.0", (32, 4 * 98 * 64 + 16), maps=(4, 98, 64)),
        GatkLayer("dense_3", (4, 32 + 7)),
    ),
}
KINDS = tuple(LAYERS)


def weight_shapes(kind: str) -> dict[str, tuple[int, ...]]:
    """The arrays of a network by name, with their shapes in PyTorch.

    Raises:
        UsageError: if ``kind`` is not one of :data:`KINDS`.
    """
    if kind not in LAYERS:
        raise UsageError(f"there is no GATK network '{kind}'; choose 1d (reference), 2d (reads) or 2d_mix (reads)")
    return {name: shape for layer in LAYERS[kind] for name, shape in layer.arrays.items()}


def printable(text: str) -> str:
    """Text of a file for a terminal: control characters, which could move the cursor, become question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def difference(found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """How arrays with the shapes ``found`` differ from those of a network, in a few words; empty if they do not."""
    missing = [name for name in shapes if name not in found]
    extra = sorted(name for name in found if name not in shapes and not name.endswith(_COUNTER))
    for name, shape in shapes.items():
        if name in found and found[name] != shape:
            return f"{name} is {found[name]} instead of {shape}"
    for names, of_one, of_many in (
        (missing, "is missing", "are missing"),
        (extra, "does not belong there", "do not belong there"),
    ):
        if names:
            what = of_one if len(names) == 1 else f"and {len(names) - 1} more {of_many}"
            return f"{printable(names[0][:60])} {what}"
    return ""


def value_problem(name: str, values: np.ndarray) -> str:
    """What is wrong with the values of the array ``name`` as float32, in a few words; empty if nothing is."""
    if values.dtype.kind != "f":
        return f"holds {values.dtype} instead of numbers"
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        return "holds values that are not finite"
    return "holds negative variances" if name.endswith(".running_var") and (values < 0).any() else ""
