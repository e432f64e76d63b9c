"""What pre-training hides from a network, and the targets that it has to predict. No Spark, no TensorFlow.

Reads: runs of RUN columns, each in one read alone. The neighbours of a single cell would give it away: base qualities
change little from one base to the next, and the kernels at full resolution see both sides. Whole columns could be
predicted from the reference alone. A run of one read is predicted from the other reads that agree with it elsewhere,
and this is what tells a haplotype or a paralog from errors. A run is as wide as a cell of the last map before the reads
are pooled, so what predicts it has seen none of it.

Window: runs of WINDOW_RUN columns, of reference and alternate together. They are shorter, because only the sequence
beside them helps.

Annotations and site features: each value by itself.

What is hidden is a hash of (noise key, place). So it is the same in any replica and batch, and after a resume; rows of
padding do not shift it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnspark.models.spec import NEVER_SEEN, ModelSpec
from cnnspark.tensors.schema import TARGET, WINDOW
from cnnspark.training.augmentation import uniform

RUN, WINDOW_RUN = 8, 4
# Codes of read_bases: 1-5 are bases, which have a quality; 6 is a gap, which has none.
LAST_BASE = 5
_PLACE = 0x9E3779B1  # odd: places of one example get different keys
_READS, _WINDOW = 0x68BC21EB, 0x02E5BE93
_VALUES = {"annotations": 0x5BD1E995, "site_features": 0x1B873593}


def masked_fields(model: str, spec: ModelSpec) -> tuple[str, ...]:
    """The fields of which pre-training hides parts.

    Each has a target of its own dtype and shape in a masked batch, called ``target_`` and its name.

    Args:
        model: the network's name.
        spec: the network's spec; inputs that it does not have are not hidden.
    """
    cells = {"reads": ("read_bases", "read_quals"), "reference": ("reference",)}.get(model, ())
    values = (("annotations", spec.annotation_edges), ("site_features", spec.feature_edges))
    # "reference" takes no site features, because they are computed from reads.
    return (*cells, *(name for name, edges in values if edges and (model, name) != ("reference", "site_features")))


def mask(
    batch: Mapping[str, np.ndarray], noise_key: np.ndarray, model: str, spec: ModelSpec, cells: float, values: float
) -> dict[str, np.ndarray]:
    """A padded batch with parts of it hidden, and their targets; the given arrays are not changed.

    Args:
        batch: as :func:`cnnspark.tensors.batches.pad_rows` gives it.
        noise_key: int32 (B,), what the choice is a hash of.
        model: the network's name.
        spec: the network's spec.
        cells: the share of the cells of reads, or of the columns of the window, that is hidden.
        values: the share of annotations and site features that is hidden.

    Returns:
        The batch with the targets of :func:`masked_fields`. Hidden cells are 0, hidden values NaN; the target of a cell
        that is not hidden is 0, of a value NaN.
    """
    masked = dict(batch)
    fields = masked_fields(model, spec)
    if "read_bases" in fields:
        masked |= _masked_reads(batch, noise_key, cells)
    if "reference" in fields:
        masked |= _masked_window(batch, noise_key, cells)
    for name, edges in (("annotations", spec.annotation_edges), ("site_features", spec.feature_edges)):
        if name in fields:
            masked |= _masked_values(name, batch[name], noise_key, values, edges)
    return masked


def hidden(noise_key: np.ndarray, places: int, salt: int, share: float) -> np.ndarray:
    """Which places of each example are hidden, by hash of (noise key, place).

    Args:
        noise_key: int32 (B,).
        places: how many places an example has.
        salt: tells the fields apart.
        share: of the places that is hidden.

    Returns:
        bool (B, places).
    """
    with np.errstate(over="ignore"):
        place = (np.arange(places, dtype=np.uint32) * np.uint32(_PLACE)).view(np.int32)
        return uniform(np.asarray(noise_key, np.int32)[:, None] + place, salt) < share


def _masked_reads(batch: Mapping[str, np.ndarray], noise_key: np.ndarray, share: float) -> dict[str, np.ndarray]:
    bases, quals = batch["read_bases"], batch["read_quals"]  # (B, R, W)
    shape = (len(bases), bases.shape[1], WINDOW // RUN)
    runs = hidden(noise_key, shape[1] * shape[2], _READS, share)
    chosen = np.repeat(runs.reshape(shape), RUN, axis=2)  # (B, R, W)
    has_quality = chosen & (bases >= 1) & (bases <= LAST_BASE)
    return {
        "read_bases": np.where(chosen, 0, bases).astype(bases.dtype),
        "read_quals": np.where(chosen, 0, quals).astype(quals.dtype),
        # 0 stands for no target: there is no base or gap, or nothing is hidden.
        TARGET + "read_bases": np.where(chosen, bases, 0).astype(bases.dtype),
        TARGET + "read_quals": np.where(has_quality, quals, 0).astype(quals.dtype),
    }


def _masked_window(batch: Mapping[str, np.ndarray], noise_key: np.ndarray, share: float) -> dict[str, np.ndarray]:
    reference, alternate = batch["reference"], batch["alternate"]  # (B, W)
    chosen = np.repeat(hidden(noise_key, WINDOW // WINDOW_RUN, _WINDOW, share), WINDOW_RUN, axis=1)
    return {
        "reference": np.where(chosen, 0, reference).astype(reference.dtype),
        "alternate": np.where(chosen, 0, alternate).astype(alternate.dtype),
        TARGET + "reference": np.where(chosen, reference, 0).astype(reference.dtype),
    }


def _masked_values(
    name: str, values: np.ndarray, noise_key: np.ndarray, share: float, edges: Sequence[Sequence[float]]
) -> dict[str, np.ndarray]:
    chosen = hidden(noise_key, values.shape[1], _VALUES[name], share)  # (B, F)
    return {
        name: np.where(chosen, np.nan, values).astype(np.float32),
        TARGET + name: np.where(chosen, positions(values, edges), np.nan).astype(np.float32),
    }


def positions(values: np.ndarray, edges: Sequence[Sequence[float]]) -> np.ndarray:
    """The position of each value among the quantiles of its column, from 0 to 1.

    It is the mean of the piecewise-linear codes of :class:`cnnspark.models.networks.layers.QuantileEncoding`.

    Args:
        values: (n, F).
        edges: the quantiles of each column, (F, bins + 1).

    Returns:
        float32 (n, F); NaN if the value is missing, or its column had no values when the quantiles were taken.
    """
    values = np.asarray(values, np.float32)[:, :, None]
    bounds = np.asarray(edges, np.float32)[None]  # (1, F, bins + 1)
    low, high = bounds[..., :-1], bounds[..., 1:]
    flat = high <= low
    with np.errstate(invalid="ignore", over="ignore"):
        ramp = np.clip((values - low) / np.where(flat, 1, high - low), 0, 1)
    codes = np.where(flat, values >= high, ramp)
    known = np.isfinite(values[..., 0]) & (bounds[..., 0] < np.float32(NEVER_SEEN) / 2)
    return np.where(known, codes.mean(axis=2), np.nan).astype(np.float32)
