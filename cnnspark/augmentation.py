"""Augmentation of training examples: thinner reads, and the other strand. Pure.

What happens to an example is a hash of its noise key (seed, step, allele), so it is the same in whichever replica or
batch the example stands, and after a resume.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cnnspark.batches import ROW_STEP
from cnnspark.models.spec import ModelSpec
from cnnspark.schema import FIELD

_PAIRED, _MATE_UNMAPPED, _REVERSE, _MATE_REVERSE = 0x1, 0x8, 0x10, 0x20
_DEPTH, _ROW, _STRAND = 0x2545F491, 0x9E3779B1, 0x632BE5AB
# Values that count reads by strand: freebayes, Mutect2, bcftools and the orientations F1R2 and F2R1 of GATK.
_PAIRS = (("SAF", "SAR"), ("SRF", "SRR"), ("ADF", "ADR"), ("F1R2", "F2R1"))
_SWAPPED = dict(_PAIRS) | {other: one for one, other in _PAIRS}
# Signed by strand: bcftools' Z score of mapping quality against strand, and ALT - REF of the shares below. FS, SOR,
# SAP, SRP and strand_odds_ratio are the same on both strands.
_NEGATED = ("MQSBZ", "difference_forward_fraction")
_COMPLEMENTED = ("ref_forward_fraction", "alt_forward_fraction")


def uniform(noise_key: np.ndarray, salt: int) -> np.ndarray:
    """Numbers of [0, 1) by hash of int32 keys and a salt: float64, the shape of the keys."""
    with np.errstate(over="ignore"):
        h = np.asarray(noise_key, np.int32).view(np.uint32) ^ np.uint32(salt)
        # MurmurHash3's finaliser (Appleby, fmix32).
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        h = h ^ (h >> np.uint32(16))
    return h / 2.0**32


def augment(
    batch: Mapping[str, np.ndarray], noise_key: np.ndarray, drop_reads: float, flip_strand: bool, spec: ModelSpec
) -> dict[str, np.ndarray]:
    """The padded batch (:func:`cnnspark.batches.pad_rows`) with fewer reads and other strands; arrays are not changed.

    Args:
        noise_key: (B,) int32, of (seed, step, allele).
        drop_reads: the largest share of an example's reads that is dropped; see :func:`drop_rows`.
        flip_strand: whether half of the examples get :func:`flip_strands`.
        spec: names the annotations and site features.
    """
    batch = dict(batch)
    if not len(noise_key):
        return batch
    if drop_reads:
        batch = drop_rows(batch, noise_key, drop_reads)
    if flip_strand:
        batch = flip_strands(batch, uniform(noise_key, _STRAND) < 0.5, spec.annotation_names, spec.feature_names)
    return batch


def drop_rows(batch: Mapping[str, np.ndarray], noise_key: np.ndarray, most: float) -> dict[str, np.ndarray]:
    """Each example with a share of its rows dropped that is drawn evenly from 0 to ``most``; at least one row stays.

    The order of the rows is kept, and padding is cut to what is needed. Annotations and site features stay those of all
    reads; so does the mark of a row whose mate is a row (0x1000): where depth is lower, whole fragments are missing.
    """
    counts = batch["row_count"]
    per_read = {
        name: values for name, values in batch.items() if name in FIELD and FIELD[name].per_read and values.size
    }
    if not per_read:
        return dict(batch)
    rows = next(iter(per_read.values())).shape[1]
    share = most * uniform(noise_key, _DEPTH)
    with np.errstate(over="ignore"):
        row = (np.arange(rows, dtype=np.uint32) * np.uint32(_ROW)).view(np.int32)
        draw = uniform(np.asarray(noise_key, np.int32)[:, None] + row, _ROW)  # (B, R)
    inside = np.arange(rows) < counts[:, None]
    kept = inside & (draw >= share[:, None])
    none = ~kept.any(axis=1)
    highest = np.where(inside, draw, -1.0).argmax(axis=1)
    kept[none, highest[none]] = counts[none] > 0
    left = kept.sum(axis=1)
    width = min(rows, max(ROW_STEP, -(-int(left.max()) // ROW_STEP) * ROW_STEP))
    # Kept rows first, each group in its order.
    order = np.argsort(~kept, axis=1, kind="stable")[:, :width]
    filled = np.arange(width) < left[:, None]
    thinned = dict(batch)
    for name, values in per_read.items():
        index = order.reshape(*order.shape, *[1] * (values.ndim - 2))
        moved = np.take_along_axis(values, index, axis=1)
        thinned[name] = moved * filled.reshape(index.shape).astype(values.dtype)
    thinned["row_count"] = left.astype(counts.dtype)
    return thinned


def flip_strands(
    batch: Mapping[str, np.ndarray], flipped: np.ndarray, annotations: Iterable[str], features: Iterable[str]
) -> dict[str, np.ndarray]:
    """The ``flipped`` (B,) examples as if every fragment had been read from the other strand.

    Toggled are the FLAG bits of the read's strand and, for a mapped mate, of the mate's; first and second in pair stay
    what they are. Counts by strand change places, shares of forward reads become their complements. What is symmetric
    (FS, SOR, ...) stays, and so does the position in the read as sequenced: an error at a read's end is one on both
    strands. Not mirrored is in which direction the qualities fall along the window.
    """
    turned = dict(batch)
    if "read_flags" in batch and batch["read_flags"].shape[-1]:
        flags = batch["read_flags"]
        mate = ((flags & _PAIRED) != 0) & ((flags & _MATE_UNMAPPED) == 0)
        toggled = flags ^ _REVERSE ^ np.where(mate, _MATE_REVERSE, 0).astype(flags.dtype)
        inside = np.arange(flags.shape[1]) < batch["row_count"][:, None]
        turned["read_flags"] = np.where(flipped[:, None] & inside, toggled, flags).astype(flags.dtype)
    for field, names in (("annotations", annotations), ("site_features", features)):
        if field in batch and batch[field].shape[-1]:
            values = _other_strand(batch[field], list(names))
            turned[field] = np.where(flipped[:, None], values, batch[field])
    return turned


def _other_strand(values: np.ndarray, names: list[str]) -> np.ndarray:
    """The named columns as they are on the other strand."""
    turned: Any = values.copy()
    for i, name in enumerate(names):
        column, _, key = name.rpartition("/")
        partner = f"{column}/{_SWAPPED[key]}".lstrip("/") if key in _SWAPPED else ""
        if partner in names:
            turned[:, i] = values[:, names.index(partner)]
        elif key in _NEGATED:
            turned[:, i] = -values[:, i]
        elif key in _COMPLEMENTED:
            turned[:, i] = 1 - values[:, i]
    return turned
