"""How tensors are built: the settings that a dataset, a model's card and a scoring run must share."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnnspark.errors import UsageError
from cnnspark.formats.reads import ReadFilter

# The keys of cnnspark.tensors.builder.ENCODERS; named here because settings are read where nothing is encoded.
ENCODINGS = ("cnnspark", "gatk")


@dataclass(frozen=True)
class TensorSettings:
    """How tensors are built; part of a dataset's and a model's identity.

    ``encoding``: "cnnspark", or "gatk" for tensors by the rules of GATK's own (:mod:`cnnspark.tensors.gatk_encoder`),
    where all reads are kept and soft-clipped bases are used, so that these two settings have nothing to say.
    """

    encoding: str = "cnnspark"
    read_limit: int = 128
    use_soft_clips: bool = False
    on_ref_mismatch: str = "error"  # or "skip"
    seed: int = 0
    read_filter: ReadFilter = field(default_factory=ReadFilter)

    @property
    def annotations_by_sample(self) -> bool:
        """Whether annotations are one sample's where a callset has several; GATK's are the record's own, of all."""
        return self.encoding != "gatk"

    def __post_init__(self) -> None:
        if self.read_limit < 1:
            raise UsageError(f"read_limit is {self.read_limit}; it must be 1 or more")
        if self.on_ref_mismatch not in ("error", "skip"):
            raise UsageError(f"on_ref_mismatch is '{self.on_ref_mismatch}'; use 'error' or 'skip'")
        if self.encoding not in ENCODINGS:
            raise UsageError(f"encoding is '{self.encoding}'; use 'cnnspark' or 'gatk'")
        if self.encoding == "gatk" and (self.use_soft_clips or self.read_filter != ReadFilter()):
            raise UsageError("encoding gatk keeps all reads and their soft clips; leave those settings out")
