"""What a network is built from: the named inputs, their quantiles in the training data and the hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnnspark.errors import InputError
from cnnspark.tensors.input_histogram import capped_bin_edges

# Bins of the piecewise-linear encoding. With the number itself beside them four were better than eight on 7,600
# alleles, where finer codes let the network memorise alleles. On 240,000 alleles eight are better.
BINS = 4
# Units of the layers behind the encoded annotations and site features, from first to last.
HIDDEN_UNITS = (128, 64)
# The most that one value counts among the quantiles, as a share of a bin. Many features have one value nearly
# everywhere: plain quantiles would give all bins to it and one ramp to the rest, which is the informative part.
MOST_OF_A_BIN = 0.25
# The edges of a value that the training data never have: no value is above them, so its code stays zero.
NEVER_SEEN = 3e38


@dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes a network's shape and its constants; stored in the card.

    Attributes:
        annotation_names: Annotations that the network takes, in this order.
        feature_names: Site features that the network takes, in this order.
        annotation_edges: One ascending row of edges (:func:`quantile_edges`) for each annotation; no row at all if the
            network does not encode by quantiles.
        feature_edges: The same for the site features.
        read_limit: The most reads of an allele.
        dropout: On the encoded values and before the logit.
        annotation_means: Of the training values, with 0 for missing ones, for networks that standardise; empty means 0.
        annotation_variances: Of the same values; empty means 1.
        hidden_units: Units of the layers behind the encoded values, from first to last.
        hidden_dropout: Dropout of these layers.

    Raises:
        ValueError: if names and edges, means or variances differ in number, or a hidden layer has no units.
    """

    annotation_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    annotation_edges: tuple[tuple[float, ...], ...] = ()
    feature_edges: tuple[tuple[float, ...], ...] = ()
    read_limit: int = 128
    # It gained .001 AUPRC on 7,600 alleles.
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

        Raises:
            KeyError, TypeError, ValueError: if ``values`` are not a spec.
            InputError: if it is of a network that earlier versions had.
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
    """The edges by which a network encodes each column.

    Args:
        values: (n, F), NaN where missing.
        bins: Number of bins.

    Returns:
        For each column ``bins`` + 1 ascending float32 edges
        (:func:`cnnspark.tensors.input_histogram.capped_bin_edges`), the last one repeated if there are fewer distinct
        ones; ``NEVER_SEEN`` throughout if all values are missing.
    """
    edges = []
    for column in np.asarray(values, np.float32).T:
        row = capped_bin_edges(column, bins, MOST_OF_A_BIN)
        row = np.pad(row, (0, bins + 1 - len(row)), mode="edge") if len(row) else np.full(bins + 1, NEVER_SEEN)
        edges.append(tuple(float(v) for v in row.astype(np.float32)))
    return tuple(edges)


def moments(values: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means (F,) and variances (F,) of the columns of ``values`` (n, F); a missing or infinite value counts as 0."""
    filled = np.where(np.isfinite(values), values, 0).astype(np.float64)
    return tuple(map(float, filled.mean(axis=0))), tuple(map(float, filled.var(axis=0)))
