"""FILTER from scores: by thresholds, by an expected false discovery rate, or by tranches as GATK's.

- ``request``: what the user asks for, checked, and the filter that follows from it;
- ``record_filter``: what every filter of records offers; ``thresholds`` and ``tranche_filter``: the two kinds;
- ``tranches``: the rules of GATK's FilterVariantTranches; ``score_distribution``: a callset's scores, counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.filtering.record_filter import RecordFilter
    from cnnspark.filtering.request import FilterOptions, FilterRequest, decide_filter
    from cnnspark.filtering.thresholds import FilterSettings
    from cnnspark.filtering.tranche_filter import TrancheFilter

__all__ = ["FilterOptions", "FilterRequest", "FilterSettings", "RecordFilter", "TrancheFilter", "decide_filter"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "FilterOptions": ".request",
        "FilterRequest": ".request",
        "FilterSettings": ".thresholds",
        "RecordFilter": ".record_filter",
        "TrancheFilter": ".tranche_filter",
        "decide_filter": ".request",
    },
)
