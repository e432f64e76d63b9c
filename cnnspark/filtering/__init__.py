"""FILTER from scores: by thresholds, by an expected false discovery rate, or by tranches as GATK's.

- ``request``: what the user asks for, checked, and the filter that follows from it;
- ``record_filter``: what every filter of records offers; ``thresholds`` and ``tranche_filter``: the two kinds;
- ``tranches``: the rules of GATK's FilterVariantTranches; ``score_distribution``: a callset's scores, counted.
"""
