"""The settings of a training run, the job that a replica is given, and the schedule of the learning rate. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cnnspark.common.dataclass_settings import number_of
from cnnspark.common.storage import location
from cnnspark.errors import InputError, UsageError
from cnnspark.models.bundle_files import chosen_model
from cnnspark.models.card import Range, read_card
from cnnspark.models.input_drift import KnownValues
from cnnspark.models.names import GATK_MODELS, MODELS
from cnnspark.models.spec import BINS, HIDDEN_UNITS, ModelSpec

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

STATE_FILE = "state.npz"
OBJECTIVES = ("classify", "pretrain")
# Settings that one of the objectives alone has.
ONLY_CLASSIFY = ("loss", "label_smoothing", "hard_examples", "balance_classes")
ONLY_PRETRAIN = ("objective", "mask_cells", "mask_values")
# cnnspark.training.losses has them; named here so that a setting is checked before anything is started.
LOSS_NAMES = ("cross_entropy", "focal", "log_loss_cubed", "log_loss_squared")
# The function that opens the datasets of a training.
DATA_OPENER = "cnnspark.training.data:open_training_data"
# Earlier versions counted the opener among the settings. Their fingerprints stay the same, so that what they began can
# be resumed.
OLDER_IDENTITY = {"data_opener": "cnnspark.training_data:open_training_data"}
HISTORY_LINES_FILE = "history.jsonl"  # of the running training; the bundle's is history.json


def check_share(share: float) -> None:
    """Raises UsageError where the validation share is none."""
    if not 0 < share < 1:
        raise UsageError(f"the validation share is {share:g}; give a number between 0 and 1 or regions")


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The weights depend on all of it but for what :meth:`identity` leaves out."""

    model: str = "reads"
    init: str | None = None  # a model bundle whose weights training starts from, its network is then the default
    picture: str | None = None  # a `reads` model whose picture of the reads is taken, beside what `init` gives
    # The share of the weights that training started from in those it ends with (Wortsman et al. 2022, "Robust
    # fine-tuning of zero-shot models"): a little less on data like the training's, more on others. Layers that were new
    # keep nothing.
    keep_start: float = 0.0
    replicas: int = 1
    epochs: int = 10
    batch_size: int = 32  # over all replicas
    lanes: int = 4  # parts of a batch that are computed apart: as many replicas give the same weights, to the bit
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
    label_smoothing: float = 0.0  # share of the labels taken for coin tosses
    hard_examples: float = 0.0  # what the network gets wrong weighs up to 1 + this
    balance_classes: bool = True
    dropout: float = 0.3
    bins: int = BINS  # of the encoding of annotations and site features
    hidden_units: tuple[int, ...] = HIDDEN_UNITS  # of the layers behind them
    hidden_dropout: float = 0.0  # behind each of these layers
    drop_reads: float = 0.0  # the largest share of an example's reads that training leaves out: robust to less depth
    use_annotations: bool = True  # without them a model knows reads alone, and is of no caller
    use_site_features: bool = True  # without them reads and windows speak for themselves
    by_parts: bool = False  # `reads` in three trainings: site features, picture, all together
    drop_annotations: float = 0.0  # share of the examples that lose all annotations: robust to another caller
    flip_strand: bool = False  # half of the examples as if each fragment had been read from its other strand
    mask_cells: float = 0.15  # pre-training: the share of bases and qualities, or of the window, that is hidden
    mask_values: float = 0.3  # pre-training: the share of annotations and site features
    mixed_precision: bool | str = "auto"  # where a GPU has it; or true, false, bfloat16, float16
    patience: int = 0  # epochs without a better validation AUPRC after which training ends; 0: never
    seed: int = 1
    validation: float | tuple[str, ...] = 0.2  # the last share of each contig, or regions; whole blocks
    quantile_sample: int = 50_000  # alleles; quantiles of more differ in the third digit
    threads: int = 1  # of each replica
    timeout_seconds: int = 300  # of one all-reduce; the first one waits for the slowest replica to be compiled
    slot_wait_seconds: int = 60  # for executors to register
    max_retries: int = 2
    log_dir: str | None = None  # for TensorBoard, on storage that driver and executors share
    # Not a user's to set: the flag --if-exists, for the model's folder and a checkpoint (fail, resume, overwrite), and
    # what the command trains for (classify, pretrain).
    if_exists: str = field(default="fail", metadata={"internal": True})
    objective: str = field(default="classify", metadata={"internal": True})

    def __post_init__(self) -> None:
        for name in (
            "replicas",
            "epochs",
            "batch_size",
            "lanes",
            "threads",
            "timeout_seconds",
            "quantile_sample",
            "bins",
        ):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.batch_size < self.replicas:
            raise UsageError(
                f"a global batch of {self.batch_size} cannot be dealt to {self.replicas} replicas; make it larger"
            )
        for name in ("learning_rate", "clip_norm", "adam_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a number above 0")
        for name in ("seed", "max_retries", "slot_wait_seconds", "hard_examples", "patience", "tolerance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a number of at least 0")
        if not self.use_annotations and self.model in (*GATK_MODELS, "reference"):
            raise UsageError(f"'{self.model}' is little without annotations; leave train.use_annotations at true")
        self._check_parts()
        if self.model not in MODELS:
            raise UsageError(f"there is no model '{self.model}'; choose one of {', '.join(MODELS)}")
        if self.loss not in LOSS_NAMES:
            raise UsageError(f"there is no loss '{self.loss}'; choose one of {', '.join(LOSS_NAMES)}")
        if not self.hidden_units or min(self.hidden_units) < 1:
            raise UsageError(f"hidden_units is {list(self.hidden_units)}; give one or more numbers of at least 1")
        shares = ("warmup_share", "dropout", "hidden_dropout", "label_smoothing", "drop_reads", "drop_annotations")
        for name in (*shares, "keep_start"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.mixed_precision not in (True, False, "auto", "bfloat16", "float16"):
            raise UsageError(
                f"mixed_precision is '{self.mixed_precision}'; choose auto, true, false, bfloat16 or float16"
            )
        if not 0 < self.mask_cells < 1 or not 0 < self.mask_values < 1:
            raise UsageError("mask_cells and mask_values must be above 0 and below 1")
        if self.objective not in OBJECTIVES:
            raise UsageError(f"objective is '{self.objective}'; choose one of {', '.join(OBJECTIVES)}")
        if self.pretrains and self.model in GATK_MODELS:
            possible = [name for name in MODELS if name not in GATK_MODELS]
            raise UsageError(f"'{self.model}' cannot be pre-trained; choose one of {', '.join(possible)}")
        if isinstance(self.validation, float):
            check_share(self.validation)
        if self.if_exists not in ("fail", "resume", "overwrite"):
            raise UsageError(f"if_exists is '{self.if_exists}'; choose fail, resume or overwrite")

    def _check_parts(self) -> None:
        """Raises UsageError where parts of ``reads`` are asked for that it, or another network, does not have."""
        odd = [name for name in ("picture", "by_parts") if getattr(self, name)]
        if odd and self.model != "reads":
            raise UsageError(f"'{self.model}' has no picture of reads; leave train.{odd[0]} out")
        if len(odd) > 1:
            raise UsageError(f"train.{odd[0]} and train.{odd[1]} exclude each other; leave one of them out")
        if self.by_parts and not self.use_site_features:
            raise UsageError("training by parts begins with the site features; leave train.use_site_features at true")
        if self.pretrains and self.by_parts:
            raise UsageError("pre-training takes the network whole; leave train.by_parts out")

    def with_flags(self, validation: Sequence[str] = (), **flags: Any) -> TrainSettings:
        """These settings with the command line's flags over them; None stands for a flag that was not given.

        ``validation``: a share, as text, or regions.
        """
        chosen = {name: value for name, value in flags.items() if value is not None}
        if validation:
            share = number_of(validation[0]) if len(validation) == 1 else None
            # Any other number may be a contig's name, as "20" is: the dataset tells.
            chosen["validation"] = share if share is not None and 0 < share < 1 else tuple(validation)
        settings = dataclasses.replace(self, **chosen)
        settings.require_start()
        return settings if "model" in chosen else settings.of_starting_model()

    def require_start(self) -> None:
        """Raises UsageError where a share of a start is to be kept that there is not, now that all settings are known:
        ``keep_start`` may come from a file, ``init`` from a flag."""
        if self.keep_start and not (self.init or self.picture or self.by_parts):
            raise UsageError("there is no start to keep a share of; leave train.keep_start out, or give train.init")

    def of_starting_model(self) -> TrainSettings:
        """The settings with the network of the bundle that training starts from, where they name no other.

        Raises InputError where there is no bundle.
        """
        # Only `reads` has the parts that these are about, so it is named by them.
        named = self.model != TrainSettings.model or self.picture or self.by_parts
        if self.init is None or named:
            return self
        return dataclasses.replace(self, model=read_card(chosen_model(self.init, with_reads=True)).model)

    def chosen(self) -> dict[str, Any]:
        """What a spec has of the settings, whatever model training starts from."""
        return {"dropout": self.dropout, "hidden_dropout": self.hidden_dropout}

    @property
    def pretrains(self) -> bool:
        """Whether the network learns what was hidden from it, instead of labels."""
        return self.objective == "pretrain"

    @property
    def augments(self) -> bool:
        """Whether training examples are changed."""
        return self.drop_reads > 0 or self.flip_strand or self.drop_annotations > 0

    def lanes_used(self, row_groups: int) -> int:
        """How many lanes a batch is computed in: the most up to ``lanes`` that divide it and have a row group each.

        The replicas are not in it as long as there are fewer of them. Raises InputError where there are fewer row
        groups than replicas, UsageError where the batch cannot be dealt to so many.
        """
        if row_groups < self.replicas:
            raise InputError(
                f"{self.replicas} replicas need as many row groups, the training blocks have {row_groups}; "
                "use fewer replicas or more data"
            )
        possible = [n for n in range(1, min(self.batch_size, row_groups) + 1) if self.batch_size % n == 0]
        enough = [n for n in possible if n >= self.replicas]
        if not enough:
            raise UsageError(
                f"a global batch of {self.batch_size} cannot be dealt to {self.replicas} replicas and {row_groups} row "
                "groups; choose a multiple of the replicas"
            )
        return max([n for n in enough if n <= self.lanes], default=enough[0])

    def identity(self) -> dict[str, Any]:
        """What the weights depend on: a checkpoint is only ever resumed under the same. Replicas are not in it."""
        # A bundle may move: the job has its digest.
        free: tuple[str, ...] = (
            "replicas",
            "timeout_seconds",
            "slot_wait_seconds",
            "max_retries",
            "if_exists",
            "log_dir",
            "init",
            "picture",
        )
        free += ONLY_CLASSIFY if self.pretrains else ONLY_PRETRAIN
        return {name: value for name, value in asdict(self).items() if name not in free}


@dataclass(frozen=True)
class ReplicaJob:
    """All that a replica's process is told, as JSON on its standard input."""

    settings: TrainSettings
    data: tuple[str, ...]  # datasets that are trained on together
    model_out: str
    spec: ModelSpec
    ranges: tuple[Range, ...]
    class_weights: tuple[float, float]  # of false and true alleles
    data_facts: dict[str, Any]
    known: KnownValues
    lanes: int  # that this batch, these data and, where there are more of them, these replicas allow
    resume: bool = False
    init_sha256: str = ""  # of the network that training starts from
    picture_sha256: str = ""  # of the network whose picture is taken
    whole: str = ""  # the fingerprint of the training that this one is a part of
    # See cnnspark.training.warm_start.arranged; empty: as they stand in the data.
    annotation_columns: tuple[int, ...] = ()
    feature_columns: tuple[int, ...] = ()
    # What opens the data, as module:function; called as cnnspark.training.data.open_training_data.
    data_opener: str = DATA_OPENER

    @property
    def fingerprint(self) -> str:
        """A digest of everything that the weights depend on."""
        data = {name: value for name, value in self.data_facts.items() if name != "path"}  # a dataset may move
        identity = self.settings.identity() | OLDER_IDENTITY | {"lanes": self.lanes}
        facts = [identity, self.spec.to_json(), self.class_weights, data]
        facts += [digest for digest in (self.init_sha256, self.picture_sha256) if digest]
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
        settings["hidden_units"] = tuple(settings["hidden_units"])
        values["settings"] = TrainSettings(**settings)
        values["data"] = tuple(values["data"])
        values["spec"] = ModelSpec.from_json(values["spec"])
        values["ranges"] = tuple(Range(**r) for r in values["ranges"])
        values["known"] = KnownValues.from_json(values["known"])
        for name in ("class_weights", "annotation_columns", "feature_columns"):
            values[name] = tuple(values[name])
        return ReplicaJob(**values)


def checkpoint_folder(model_out: str) -> Location:
    """Where a run that is not finished keeps its state: beside the model's folder."""
    target = location(model_out)
    return target.with_name(f"{target.name}.ckpt")


def learning_rate(step: int, steps: int, peak: float, warmup_share: float) -> float:
    """The learning rate of step ``step`` (from 0) of ``steps``: a linear rise to ``peak``, then half a cosine to 0
    (Loshchilov and Hutter 2017, "SGDR", eq. 5 without restarts)."""
    warmup = round(steps * warmup_share)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
