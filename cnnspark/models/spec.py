"""What a network is built from: the named inputs, their quantiles in the training data and the hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnnspark.errors import InputError
from cnnspark.tensors.input_histogram import capped_bin_edges

# Bins of the piecewise-linear encoding. With the number itself beside them four were better than eight on 7,600
# alleles: finer codes let the network learn places by heart. On 240,000 eight are better.
BINS = 4
# Units of the layers behind the encoded annotations and site features, from first to last.
HIDDEN_UNITS = (128, 64)
# The most that one value counts among the quantiles, as a share of a bin. Many features have one value nearly
# everywhere: plain quantiles would give all bins to it and one ramp to the rest, which is what there is to learn from.
MOST_OF_A_BIN = 0.25
# The edges of a value that the training data never have: nothing lies above them, so its code stays zero.
NEVER_SEEN = 3e38


@dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes a network's shape and its constants; stored in the card.

    ``annotation_edges`` and ``feature_edges`` hold one ascending row of edges (:func:`quantile_edges`) for each name,
    or no row at all where the network does not encode by quantiles. ``annotation_means`` and ``annotation_variances``
    are of the training values with 0 where one is missing, for networks that standardise; empty means 0 and 1.
    ``hidden_units`` and ``hidden_dropout`` are of the layers behind the encoded numbers.
    """

    annotation_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    annotation_edges: tuple[tuple[float, ...], ...] = ()
    feature_edges: tuple[tuple[float, ...], ...] = ()
    read_limit: int = 128
    # On the encoded values and before the logit: it was worth .001 AUPRC on 7,600 alleles.
    dropout: float = 0.3
    annotation_means: tuple[float, ...] = ()
    annotation_variances: tuple[float, ...] = ()
    hidden_units: tuple[int, ...] = HIDDEN_UNITS
    hidden_dropout: float = 0.0

    def __post_init__(self) -> None:
        for names, edges in ((self.annotation_names, self.annotation_edges), (self.feature_names, self.feature_edges)):
            if edges and len(names) != len(edges):
                raise ValueError(f"{len(names)} names but {len(edges)} rows of quantiles: each name needs its row")
        for moments in (self.annotation_means, self.annotation_variances):
            if moments and len(moments) != len(self.annotation_names):
                raise ValueError(f"{len(self.annotation_names)} annotations but {len(moments)} means or variances")
        if not self.hidden_units or min(self.hidden_units) < 1:
            raise ValueError(f"hidden_units are {list(self.hidden_units)}: one layer or more of one unit or more")

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> ModelSpec:
        """The spec that :meth:`to_json` wrote.

        Raises TypeError or ValueError where it is not one, InputError where it is of a network that there was once.
        """
        values = dict(values)
        if not values.pop("picture", True):
            raise InputError(
                "a model 'counts' ('reads' without its picture) is no longer used, for 'features' knows as much; where "
                "it comes before another, score with --no-cascade or make that bundle anew with 'cnnspark cascade'"
            )
        for name in ("annotation_names", "feature_names"):
            values[name] = tuple(str(v) for v in values[name])
        for name in ("annotation_edges", "feature_edges"):
            values[name] = tuple(tuple(float(v) for v in row) for row in values[name])
        for name in ("annotation_means", "annotation_variances"):
            values[name] = tuple(float(v) for v in values.get(name, ()))
        values["hidden_units"] = tuple(int(v) for v in values.get("hidden_units", HIDDEN_UNITS))
        return ModelSpec(**values)


def quantile_edges(values: np.ndarray, bins: int = BINS) -> tuple[tuple[float, ...], ...]:
    """Edges of ``bins`` bins of each column of ``values`` (n, F), missing values (NaN) and infinities left out.

    The least and the greatest value, and between them quantiles of the distinct values, each weighing as often as it
    occurs but at most ``MOST_OF_A_BIN`` of a bin. Edges are distinct; where there are fewer values than edges, the last
    is repeated.
    """
    edges = []
    for column in np.asarray(values, np.float32).T:
        row = capped_bin_edges(column, bins, MOST_OF_A_BIN)
        row = np.pad(row, (0, bins + 1 - len(row)), mode="edge") if len(row) else np.full(bins + 1, NEVER_SEEN)
        edges.append(tuple(float(v) for v in row.astype(np.float32)))
    return tuple(edges)


def moments(values: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and variance of each column of ``values`` (n, F), with 0 where a value is missing or infinite."""
    filled = np.where(np.isfinite(values), values, 0).astype(np.float64)
    return tuple(map(float, filled.mean(axis=0))), tuple(map(float, filled.var(axis=0)))
