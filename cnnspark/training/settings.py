"""The settings of a training, its folder of checkpoints and its learning rate. No Spark, no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cnnspark.common.dataclass_settings import number_of
from cnnspark.common.storage import location
from cnnspark.errors import InputError, UsageError
from cnnspark.models.bundle_files import chosen_model
from cnnspark.models.card import read_card
from cnnspark.models.names import GATK_MODELS, MODELS
from cnnspark.models.spec import BINS, HIDDEN_UNITS

if TYPE_CHECKING:
    from cnnspark.common.storage import Location

STATE_FILE = "state.npz"
OBJECTIVES = ("classify", "pretrain")
# Settings that only one of the objectives has.
ONLY_CLASSIFY = ("loss", "label_smoothing", "hard_examples", "balance_classes")
ONLY_PRETRAIN = ("objective", "mask_cells", "mask_values")
# The keys of cnnspark.training.losses.LOSSES, named here so that settings are checked without loading Keras.
LOSS_NAMES = ("cross_entropy", "focal", "log_loss_cubed", "log_loss_squared")
HISTORY_LINES_FILE = "history.jsonl"  # of the running training; the bundle's is history.json


def check_share(share: float) -> None:
    """Checks a validation share.

    Raises:
        UsageError: if it is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UsageError(f"the validation share is {share:g}; give a number between 0 and 1 or regions")


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The weights depend on all of it except what :meth:`identity` leaves out.

    Raises:
        UsageError: if a value is out of range, or settings do not suit each other.
    """

    model: str = "reads"
    init: str | None = None  # a model bundle whose weights training starts from, its network is then the default
    # A `reads` model whose picture (the convolutions over the reads) is taken, beside what `init` gives.
    picture: str | None = None
    # The share of the weights that training started from in those it ends with (Wortsman et al. 2022, "Robust
    # fine-tuning of zero-shot models"): slightly worse on data like the training's, better on others. Layers that were
    # new keep nothing.
    keep_start: float = 0.0
    replicas: int = 1
    epochs: int = 10
    batch_size: int = 32  # over all replicas
    lanes: int = 4  # parts of a batch that are computed apart: as many replicas or fewer give exactly the same weights
    learning_rate: float = 1e-3
    # Adam's usual 1e-7 is as small as the rounding error of a gradient, which it then scales up to whole steps: the
    # weights of two replicas would drift from those of one.
    adam_epsilon: float = 1e-5
    warmup_share: float = 0.05  # of all steps: Adam's first moments are noise
    clip_norm: float = 5.0  # of the whole gradient; far above what healthy batches have
    # Epochs whose validation AUPRC differs by less than this count as equal, and the last of them is kept: a few
    # hundred false alleles resolve nothing finer, and as the rate falls to 0 the last epoch is the best converged.
    tolerance: float = 1e-3
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0  # the share of labels that are treated as random
    hard_examples: float = 0.0  # alleles that the network gets wrong weigh up to 1 + this
    balance_classes: bool = True
    dropout: float = 0.3
    bins: int = BINS  # quantile bins that encode each annotation and site feature
    hidden_units: tuple[int, ...] = HIDDEN_UNITS  # of the layers behind annotations and site features
    hidden_dropout: float = 0.0  # after each of these layers
    drop_reads: float = 0.0  # the largest share of an example's reads that training leaves out: robust to less depth
    use_annotations: bool = True  # without them a model depends on the reads alone, and not on the caller
    use_site_features: bool = True
    by_parts: bool = False  # `reads` in three trainings: site features, picture, all together
    drop_annotations: float = 0.0  # share of the examples that lose all annotations: robust to another caller
    flip_strand: bool = False  # half of the examples as if each fragment had been read from its other strand
    mask_cells: float = 0.15  # pre-training: the share of bases and qualities, or of the window, that is hidden
    mask_values: float = 0.3  # pre-training: the share of annotations and site features
    mixed_precision: bool | str = "auto"  # if a GPU supports it; or true, false, bfloat16, float16
    patience: int = 0  # epochs without a better validation AUPRC after which training ends; 0: never
    seed: int = 1
    validation: float | tuple[str, ...] = 0.2  # the last share of each contig, or regions; whole blocks
    quantile_sample: int = 50_000  # alleles; quantiles of more differ in the third digit
    threads: int = 1  # of each replica
    timeout_seconds: int = 300  # of one all-reduce; the first one waits for the slowest replica to be compiled
    slot_wait_seconds: int = 60  # for executors to register
    max_retries: int = 2
    log_dir: str | None = None  # for TensorBoard, on storage that driver and executors share
    # Set by the command, not by users: the flag --if-exists, for the model's folder and a checkpoint (fail, resume,
    # overwrite), and what to train for (classify, pretrain).
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
                f"batch_size is {self.batch_size} for all replicas together, and there are {self.replicas}; "
                "make it larger"
            )
        for name in ("learning_rate", "clip_norm", "adam_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a number above 0")
        for name in ("seed", "max_retries", "slot_wait_seconds", "hard_examples", "patience", "tolerance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a number of at least 0")
        if not self.use_annotations and self.model in (*GATK_MODELS, "reference"):
            raise UsageError(f"'{self.model}' needs annotations; leave train.use_annotations at true")
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
        """Checks the settings that are about parts of the network ``reads``."""
        given = [name for name in ("picture", "by_parts") if getattr(self, name)]
        if given and self.model != "reads":
            raise UsageError(f"train.{given[0]} is for the model 'reads' alone, not for '{self.model}'; leave it out")
        if len(given) > 1:
            raise UsageError(f"train.{given[0]} and train.{given[1]} exclude each other; leave one of them out")
        if self.by_parts and not self.use_site_features:
            raise UsageError("training by parts begins with the site features; leave train.use_site_features at true")
        if self.pretrains and self.by_parts:
            raise UsageError("pre-training has no parts; leave train.by_parts out")

    def with_flags(self, validation: Sequence[str] = (), **flags: Any) -> TrainSettings:
        """These settings, overridden by the command line's flags.

        Args:
            validation: a share, as text, or regions; empty if the flag was not given.
            flags: values by the names of settings; None stands for a flag that was not given.

        Raises:
            UsageError: if the settings do not suit each other.
            InputError: if the model to start from is not a bundle.
        """
        chosen = {name: value for name, value in flags.items() if value is not None}
        if validation:
            share = number_of(validation[0]) if len(validation) == 1 else None
            # Any other number may be a contig's name, such as "20": the dataset decides.
            chosen["validation"] = share if share is not None and 0 < share < 1 else tuple(validation)
        settings = dataclasses.replace(self, **chosen)
        settings.require_start()
        return settings if "model" in chosen else settings.of_starting_model()

    def require_start(self) -> None:
        """Checks that ``keep_start`` has a model to keep a share of.

        Not checked with the other settings, because ``keep_start`` may come from a file and ``init`` from a flag.

        Raises:
            UsageError: if training starts from nothing.
        """
        if self.keep_start and not (self.init or self.picture or self.by_parts):
            raise UsageError(
                "train.keep_start keeps a share of the weights that training starts from, and it starts from nothing; "
                "leave train.keep_start out, or give train.init"
            )

    def of_starting_model(self) -> TrainSettings:
        """The settings with the network of the bundle that training starts from, unless they name another one.

        Raises:
            InputError: if ``init`` is not a bundle.
        """
        # ``picture`` and ``by_parts`` are about parts of `reads`, so they name it.
        named = self.model != TrainSettings.model or self.picture or self.by_parts
        if self.init is None or named:
            return self
        return dataclasses.replace(self, model=read_card(chosen_model(self.init, with_reads=True)).model)

    def chosen(self) -> dict[str, Any]:
        """The fields of a :class:`ModelSpec` that always come from the settings, not from the model to start from."""
        return {"dropout": self.dropout, "hidden_dropout": self.hidden_dropout}

    @property
    def pretrains(self) -> bool:
        """Whether the network is trained to predict what was hidden from it, instead of labels."""
        return self.objective == "pretrain"

    @property
    def augments(self) -> bool:
        """Whether training examples are augmented (:mod:`cnnspark.training.augmentation`)."""
        return self.drop_reads > 0 or self.flip_strand or self.drop_annotations > 0

    def lanes_used(self, row_groups: int) -> int:
        """How many lanes a batch is computed in: the most up to ``lanes`` that divide it and have a row group each.

        If that is fewer than the replicas, it is the least number that is enough for them.

        Args:
            row_groups: row groups of the training blocks.

        Raises:
            InputError: if there are fewer row groups than replicas.
            UsageError: if the batch cannot be divided evenly.
        """
        if row_groups < self.replicas:
            raise InputError(
                f"each replica reads row groups of its own, and the training blocks have {row_groups} for "
                f"{self.replicas} replicas; use fewer replicas or more data"
            )
        possible = [n for n in range(1, min(self.batch_size, row_groups) + 1) if self.batch_size % n == 0]
        enough = [n for n in possible if n >= self.replicas]
        if not enough:
            raise UsageError(
                f"train.batch_size is {self.batch_size}, which cannot be divided evenly among {self.replicas} replicas "
                f"and {row_groups} row groups; choose a multiple of {self.replicas}"
            )
        return max([n for n in enough if n <= self.lanes], default=enough[0])

    def identity(self) -> dict[str, Any]:
        """The settings that the weights depend on, by name: a checkpoint is resumed only under the same."""
        # Bundles may move: the job has their digests.
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


def checkpoint_folder(model_out: str) -> Location:
    """The folder, beside the model's, in which a training that is not finished keeps its state."""
    target = location(model_out)
    return target.with_name(f"{target.name}.ckpt")


def learning_rate(step: int, steps: int, peak: float, warmup_share: float) -> float:
    """The learning rate of a step: a linear rise to the peak, then half a cosine to 0.

    Loshchilov and Hutter 2017, "SGDR", eq. 5 without restarts.

    Args:
        step: from 0.
        steps: of the whole training.
        peak: the highest rate.
        warmup_share: the share of the steps in which it rises.
    """
    warmup = round(steps * warmup_share)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
