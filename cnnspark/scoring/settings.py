"""The user's settings for scoring."""

from __future__ import annotations

from dataclasses import dataclass

from cnnspark.errors import UsageError


@dataclass(frozen=True)
class ScoreSettings:
    """How a callset is scored."""

    batch_size: int = 64  # alleles; at most; a batch of deep ones is smaller (cnnspark.tensors.batches)
    threads: int = 1  # TensorFlow threads per task; one per core is the job of Spark's tasks
    # Of a callset of several samples: carriers of an allele that are scored. A common allele costs as much as 20 rare
    # ones, and the mean of 20 is known to a fifth of the spread between samples.
    max_carriers: int = 20
    # Whether a first model scores alone what it is sure of (cnnspark.scoring.cascade). None: as the model's card says.
    cascade: bool | None = None
    # Blocks that are decoded while the network runs on another: it pays where a task has more than one core, or a GPU.
    # No byte depends on it, so a run may be resumed with another number.
    read_ahead: int = 0

    def __post_init__(self) -> None:
        if self.read_ahead < 0:
            raise UsageError("score.read_ahead must be 0 or more")
        if self.batch_size < 1 or self.threads < 1 or self.max_carriers < 1:
            raise UsageError("score.batch_size, score.threads and score.max_carriers must be 1 or more")
