"""Augmentation of training examples: fewer reads, the other strand, another caller. No Spark, no TensorFlow.

What happens to an example is a hash of its noise key (seed, step, allele). So it is the same in any replica and batch,
and after a resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnspark.tensors.batches import ROW_STEP
from cnnspark.tensors.schema import FIELD

_PAIRED, _FIRST, _SECOND = 0x1, 0x40, 0x80
_DEPTH, _ROW, _STRAND, _CALLER = 0x2545F491, 0x9E3779B1, 0x632BE5AB, 0x7FEB352D
# GATK's counts of fragments by orientation, which are swapped when first and second are.
_ORIENTATIONS = ("F1R2", "F2R1")
# Site features x that become 1 - x.
_F1R2_SHARES = ("ref_f1r2_fraction", "alt_f1r2_fraction", "alt_f1r2_fraction_of_pyrimidine")


def uniform(noise_key: np.ndarray, salt: int) -> np.ndarray:
    """Numbers in [0, 1) by hash.

    Args:
        noise_key: int32, of any shape.
        salt: tells independent draws of the same keys apart.

    Returns:
        float64, the shape of the keys.
    """
    with np.errstate(over="ignore"):
        h = np.asarray(noise_key, np.int32).view(np.uint32) ^ np.uint32(salt)
        # MurmurHash3's finaliser (Appleby, fmix32).
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        h = h ^ (h >> np.uint32(16))
    return h / 2.0**32


def augment(
    batch: Mapping[str, np.ndarray],
    noise_key: np.ndarray,
    drop_reads: float,
    flip_strand: bool,
    annotations: Sequence[str],
    features: Sequence[str],
    drop_annotations: float = 0.0,
) -> dict[str, np.ndarray]:
    """A padded batch with augmentation; the given arrays are not changed.

    Args:
        batch: as :func:`cnnspark.tensors.batches.pad_rows` gives it.
        noise_key: int32 (B,), of (seed, step, allele).
        drop_reads: the largest share of an example's reads that is dropped; see :func:`drop_rows`.
        flip_strand: whether half of the examples get :func:`flip_strands`.
        annotations: names of the annotations.
        features: names of the site features.
        drop_annotations: the share of the examples that lose all annotations, as from a caller that writes none.

    Returns:
        The batch, of the same fields; per-read fields may have fewer rows.
    """
    batch = dict(batch)
    if not len(noise_key):
        return batch
    if drop_reads:
        batch = drop_rows(batch, noise_key, drop_reads)
    if flip_strand:
        batch = flip_strands(batch, uniform(noise_key, _STRAND) < 0.5, annotations, features)
    if drop_annotations and "annotations" in batch:
        unknown = uniform(noise_key, _CALLER) < drop_annotations
        batch["annotations"] = np.where(unknown[:, None], np.float32(np.nan), batch["annotations"])
    return batch


def drop_rows(batch: Mapping[str, np.ndarray], noise_key: np.ndarray, most: float) -> dict[str, np.ndarray]:
    """Drops rows of each example: a share drawn evenly from 0 to ``most``; at least one row stays.

    The order of the rows is kept, and padding is cut to what is needed. Annotations and site features stay those of all
    reads. Rows are dropped one by one, so a row may keep the flag that its mate is a row (0x1000) although the mate is
    gone.

    Args:
        batch: as :func:`cnnspark.tensors.batches.pad_rows` gives it: per-read fields (B, R, ...), row_count (B,).
        noise_key: int32 (B,).
        most: the largest share.

    Returns:
        The batch, its per-read fields (B, R', ...) with R' at most R.
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
    batch: Mapping[str, np.ndarray], flipped: np.ndarray, annotations: Sequence[str], features: Sequence[str]
) -> dict[str, np.ndarray]:
    """Makes examples look as if each fragment had been read from its other strand.

    The mates stay aligned as they are, one forward on the left and one reverse on the right, but first and second in
    pair are swapped (flags 99 and 147 become 163 and 83). So are the orientations F1R2 and F2R1 in annotations and site
    features. Counts of forward reads and reads without a mate stay. An error that affects only one strand of the
    molecules then appears on the other.

    Args:
        batch: as :func:`cnnspark.tensors.batches.pad_rows` gives it.
        flipped: bool (B,), the examples that are flipped.
        annotations: names of the annotations.
        features: names of the site features.

    Returns:
        The batch, of the same fields and shapes.
    """
    turned = dict(batch)
    if "read_flags" in batch and batch["read_flags"].shape[-1]:
        flags = batch["read_flags"]
        # Of a pair, either first or second.
        known = ((flags & _PAIRED) != 0) & (((flags & _FIRST) != 0) != ((flags & _SECOND) != 0))
        swapped = np.where(known, flags ^ (_FIRST | _SECOND), flags)
        turned["read_flags"] = np.where(flipped[:, None], swapped, flags).astype(flags.dtype)
    if "annotations" in batch:
        places = {name: i for i, name in enumerate(annotations)}
        order = list(range(len(places)))
        for name, place in places.items():
            # INFO/F1R2 or FORMAT/F1R2
            where, _, key = name.rpartition("/")
            if key in _ORIENTATIONS:
                partner = _ORIENTATIONS[1 - _ORIENTATIONS.index(key)]
                order[place] = places.get(f"{where}/{partner}".lstrip("/"), place)
        turned["annotations"] = np.where(flipped[:, None], batch["annotations"][:, order], batch["annotations"])
    shares = [place for place, name in enumerate(features) if name in _F1R2_SHARES]
    if "site_features" in batch and shares:
        values = batch["site_features"].copy()
        for share in shares:
            values[flipped, share] = 1 - values[flipped, share]
        turned["site_features"] = values
    return turned
