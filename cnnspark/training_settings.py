"""The settings of a training run, the job that a replica is given, and the schedule of the learning rate. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnspark.errors import UsageError
from cnnspark.models.card import Range
from cnnspark.models.spec import ModelSpec

STATE_FILE = "state.npz"
HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The weights depend on all of it but for what :meth:`identity` leaves out."""

    model: str = "reads"
    replicas: int = 1
    epochs: int = 10
    batch_size: int = 32  # over all replicas
    lanes: int = 4  # parts of a batch that are computed apart; replicas that divide it give the same weights to the bit
    learning_rate: float = 1e-3
    # Adam's usual 1e-7 is as small as the rounding of a gradient, which it then blows up to whole steps: the weights of
    # two replicas would drift from those of one.
    adam_epsilon: float = 1e-5
    warmup_share: float = 0.05  # of all steps: Adam's first moments are noise
    clip_norm: float = 5.0  # of the whole gradient; far above what healthy batches have
    # Epochs whose validation AUPRC is alike within this count as equal, and the last of them is kept: a few hundred
    # false alleles resolve no less, and with a rate that falls to 0 the last is the best settled.
    tolerance: float = 1e-3
    loss: str = "cross_entropy"
    balance_classes: bool = True
    dropout: float = 0.3
    seed: int = 1
    validation: float | tuple[str, ...] = 0.2  # the last share of each contig, or regions; whole blocks
    quantile_sample: int = 50_000  # alleles; quantiles of more differ in the third digit
    threads: int = 1  # of each replica
    timeout_seconds: int = 300  # of one all-reduce; the first one waits for the slowest replica to be compiled
    slot_wait_seconds: int = 60  # for executors to register
    max_retries: int = 2
    if_exists: str = "fail"  # the model's folder or a checkpoint: fail, resume, overwrite
    data_opener: str = "cnnspark.training_data:open_training_data"

    def __post_init__(self) -> None:
        for name in ("replicas", "epochs", "batch_size", "lanes", "threads", "timeout_seconds", "quantile_sample"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.batch_size % self.replicas:
            raise UsageError(
                f"a global batch of {self.batch_size} cannot be dealt to {self.replicas} replicas; choose a multiple"
            )
        if not self.learning_rate > 0 or not self.clip_norm > 0:
            raise UsageError("learning_rate and clip_norm must be above 0")
        if not 0 <= self.warmup_share < 1 or not 0 <= self.dropout < 1:
            raise UsageError("warmup_share and dropout must be at least 0 and below 1")
        if not self.tolerance >= 0:
            raise UsageError(f"tolerance is {self.tolerance}; it must be at least 0")
        if self.if_exists not in ("fail", "resume", "overwrite"):
            raise UsageError(f"if_exists is '{self.if_exists}'; choose fail, resume or overwrite")

    def lanes_used(self, row_groups: int) -> int:
        """``lanes`` where batch, replicas and the data's row groups allow it, else one for each replica."""
        fits = self.lanes % self.replicas == 0 and self.batch_size % self.lanes == 0 and row_groups >= self.lanes
        return self.lanes if fits else self.replicas

    def identity(self) -> dict[str, Any]:
        """What the weights depend on: a checkpoint is only ever resumed under the same. Replicas are not in it."""
        free = ("replicas", "threads", "timeout_seconds", "slot_wait_seconds", "max_retries", "if_exists")
        kept = {name: value for name, value in asdict(self).items() if name not in free}
        # Where the lanes do not suit the replicas, these do matter.
        return kept | {"lanes": self.lanes_used(self.lanes)}


@dataclass(frozen=True)
class ReplicaJob:
    """All that a replica's process is told, as JSON on its standard input."""

    settings: TrainSettings
    data: str
    model_out: str
    spec: ModelSpec
    ranges: tuple[Range, ...]
    class_weights: tuple[float, float]  # of false and true alleles
    data_facts: dict[str, Any]
    resume: bool = False

    @property
    def fingerprint(self) -> str:
        """A digest of everything that the weights depend on."""
        data = {name: value for name, value in self.data_facts.items() if name != "path"}  # a dataset may move
        facts = [self.settings.identity(), self.spec.to_json(), self.class_weights, data]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> ReplicaJob:
        """The job that :meth:`to_json` wrote."""
        values = json.loads(text)
        settings = values["settings"]
        if isinstance(settings["validation"], list):
            settings["validation"] = tuple(settings["validation"])
        values["settings"] = TrainSettings(**settings)
        values["spec"] = ModelSpec.from_json(values["spec"])
        values["ranges"] = tuple(Range(**r) for r in values["ranges"])
        values["class_weights"] = tuple(values["class_weights"])
        return ReplicaJob(**values)


def checkpoint_folder(model_out: str) -> Path:
    """Where a run that is not finished keeps its state: beside the model's folder."""
    target = Path(model_out)
    return target.with_name(f"{target.name}.ckpt")


def learning_rate(step: int, steps: int, peak: float, warmup_share: float) -> float:
    """The learning rate of step ``step`` (from 0) of ``steps``: a linear rise to ``peak``, then half a cosine to 0
    (Loshchilov and Hutter 2017, "SGDR", eq. 5 without restarts)."""
    warmup = round(steps * warmup_share)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
