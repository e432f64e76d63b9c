"""A model on a callset: predictions, their INFO and FORMAT, callsets of several samples, two models in a row.

- ``plan``: everything that scores depend on, but the callset; ``settings``: the user's part of it;
- ``predict``: probabilities of a block's alleles; ``cascade``, ``cascade_band``: two models in a row;
- ``score``: the work of a task, for one sample (``single_sample``) or several (``multisample``);
- ``output``: header and records; ``score_table``: a scored callset as a data frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.scoring.plan import ScoringPlan
    from cnnspark.scoring.predict import predictor
    from cnnspark.scoring.score import score_header, score_work
    from cnnspark.scoring.settings import ScoreSettings

__all__ = ["ScoreSettings", "ScoringPlan", "predictor", "score_header", "score_work"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ScoreSettings": ".settings",
        "ScoringPlan": ".plan",
        "predictor": ".predict",
        "score_header": ".score",
        "score_work": ".score",
    },
)
