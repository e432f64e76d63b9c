"""What a simulation is made with: the machine, the library, and how much of each cause of false alleles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from cnnspark.errors import UsageError

READ_LENGTHS = (100, 150, 250)
PROFILES = ("hiseq", "novaseq")
# Both contigs of a made-up genome need room for what makes callsets hard.
MIN_LENGTH = 20_000
# More of a mechanism than this is another organism, not a harder callset.
MAX_SHARE = 20.0


@dataclass(frozen=True)
class Mechanisms:
    """How much of each cause of false alleles: 1 is the amount that docs/simulation.md tables, 0 is none.

    Shares count sites (or repeats, or reads of a contaminant), so 2 makes about twice as many false alleles.
    """

    paralogs: float = 1.0
    stutter: float = 1.0
    oxidation: float = 1.0
    deamination: float = 1.0
    motifs: float = 1.0
    read_ends: float = 1.0
    adapters: float = 1.0
    misaligned: float = 1.0
    chimeras: float = 1.0
    low_complexity: float = 1.0
    contamination: float = 1.0
    duplicates: float = 1.0
    low_quality: float = 1.0
    # Not an error: true alleles of a part of the cells. Whether they are wanted is the user's choice.
    mosaic: float = 0.0

    def __post_init__(self) -> None:
        for name, share in dataclasses.asdict(self).items():
            if not 0 <= share <= MAX_SHARE:
                raise UsageError(f"the share of {name} cannot be {share}; give a number from 0 to {MAX_SHARE:g}")

    @classmethod
    def only(cls, **shares: float) -> Mechanisms:
        """These mechanisms alone."""
        return cls(**{**{f.name: 0.0 for f in fields(cls)}, **shares})

    def changed(self, texts: Iterable[str]) -> Mechanisms:
        """With ``NAME=SHARE`` texts applied in order; the name ``all`` stands for every one of them but ``mosaic``.

        Raises UsageError on a name that there is not and on a share that is no number.
        """
        chosen = dataclasses.asdict(self)
        for text in texts:
            name, _, share = text.partition("=")
            names = [known for known in chosen if known != "mosaic"] if name == "all" else [name]
            if names[0] not in chosen:
                raise UsageError(f"there is no mechanism '{name}'; known are all, {', '.join(chosen)}")
            try:
                chosen.update(dict.fromkeys(names, float(share)))
            except ValueError:
                raise UsageError(f"'{text}' has no share; write NAME=SHARE, as {name}=0.5") from None
        return Mechanisms(**chosen)


@dataclass(frozen=True)
class SimulationSettings:
    """Everything that changes a simulation's bytes, beside the reference that it is made on."""

    seed: int = 1
    # Bases of the made-up genome; a given reference has its own.
    length: int = 400_000
    # Mean depth of unique sequence.
    coverage: float = 30.0
    read_length: int = 150
    # A usual whole-genome library; fragments shorter than a read end in the adapter.
    fragment_mean: float = 400.0
    fragment_sd: float = 60.0
    profile: str = "hiseq"
    # True variants, as a multiple of a human's.
    variants: float = 1.0
    mechanisms: Mechanisms = field(default_factory=Mechanisms)

    def __post_init__(self) -> None:
        if self.length < MIN_LENGTH:
            raise UsageError(f"a simulated genome of {self.length} bases is too small; give at least {MIN_LENGTH}")
        if not 1 <= self.coverage <= 1_000:
            raise UsageError(f"a simulated coverage of {self.coverage} cannot be; give a number from 1 to 1000")
        if self.read_length not in READ_LENGTHS:
            lengths = ", ".join(map(str, READ_LENGTHS))
            raise UsageError(f"reads of {self.read_length} bases are not simulated; choose one of {lengths}")
        if self.profile not in PROFILES:
            raise UsageError(f"there is no error profile '{self.profile}'; choose one of {', '.join(PROFILES)}")
        if not (80 <= self.fragment_mean <= 1_000 and 0 <= self.fragment_sd <= self.fragment_mean / 2):
            raise UsageError(
                f"fragments of {self.fragment_mean} +- {self.fragment_sd} bases cannot be; give a mean from 80 to 1000 "
                "and a deviation of at most half of it"
            )
        if not 0 <= self.variants <= 10:
            raise UsageError(f"{self.variants} times a human's variants cannot be; give a number from 0 to 10")
        if self.seed < 0:
            raise UsageError(f"a seed of {self.seed} cannot be; give a number from 0")

    @property
    def max_fragment(self) -> int:
        """The longest fragment, in bases."""
        return int(self.fragment_mean + 4 * self.fragment_sd)
