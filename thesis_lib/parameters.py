"""Typed parameters of an experiment: its arms, seeds and sections; `parameter_files` reads them from YAML.

Unknown names, wrong types and values out of range are refused with one sentence each.
"""

import os
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from thesis_lib.errors import ThesisError
from thesis_lib.sections import (
    DataParameters,
    EncoderParameters,
    EvaluationParameters,
    GenerationParameters,
    HardnessParameters,
    InversionParameters,
    Kind,
    ModelParameters,
    Positive,
    ProbeParameters,
    Section,
    TrainingParameters,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]


class Arm(StrEnum):
    """The compared set-ups; a `Variant` is one of them with other settings."""

    REAL = "real"
    REAL_STRONG = "real_strong"
    """RandAugment and pasted backgrounds: the cheap competitor."""
    REAL_ID = "real_id"
    REAL_ID_NEAROOD = "real_id_nearood"
    FILLER = "filler"
    """Further ID pictures in the places of the near-OOD ones, never anchors, negatives of nobody."""
    PROBE_ID = "probe_id"
    """The encoder of `real`, and a probe that has synthetic ID pictures, too."""
    SECOND_VIEW = "second_view"
    """The second view of a photograph is a synthetic picture made from it."""
    CROSS_ENTROPY_REAL = "cross_entropy_real"
    CROSS_ENTROPY = "cross_entropy"
    OUTLIER_EXPOSURE = "outlier_exposure"
    """The encoder of real_id; near-OOD pictures reach its probe (Hendrycks et al. 2019, arXiv 1812.04606)."""
    ORACLE_ID = "oracle_id"
    """As real_id, with pictures a perfect generator would make."""
    ORACLE_NEAROOD = "oracle_nearood"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of pictures the arm trains on."""
        if self in (Arm.REAL, Arm.REAL_STRONG, Arm.CROSS_ENTROPY_REAL):
            return (Kind.REAL,)
        if self in (Arm.REAL_ID_NEAROOD, Arm.ORACLE_NEAROOD, Arm.OUTLIER_EXPOSURE):
            return (Kind.REAL, Kind.ID, Kind.NEAR_OOD)
        return (Kind.REAL, Kind.ID)

    @property
    def is_cross_entropy(self) -> bool:
        """Whether it trains an ordinary classifier, not a contrastive encoder."""
        return self in (Arm.CROSS_ENTROPY_REAL, Arm.CROSS_ENTROPY)

    @property
    def is_strong(self) -> bool:
        """Whether it uses strong views, half of them with another background behind the object."""
        return self is Arm.REAL_STRONG

    @property
    def is_oracle(self) -> bool:
        """Whether its synthetic pictures are the data set's oracle pictures."""
        return self in (Arm.ORACLE_ID, Arm.ORACLE_NEAROOD)

    @property
    def needs_generation(self) -> bool:
        """Whether it trains on pictures that notebook 04 makes."""
        return len(self.kinds) > 1 and not self.is_oracle


class Variant(Section):
    """An arm with other settings."""

    arm: Arm
    set: dict[str, Any]
    """Changes such as ``training.negatives: own_class``, in the sections that training reads."""

    @model_validator(mode="after")
    def _training_only(self) -> "Variant":
        limits = ("hardness.id_p", "hardness.near_p", "hardness.near_percentile", "hardness.quota")
        allowed = re.compile(rf"(training|encoder|probe)\.\w+|{'|'.join(map(re.escape, limits))}")
        if bad := [key for key in self.set if not allowed.fullmatch(key)]:
            raise ValueError(
                f"a variant changes parameters of training, encoder and probe, and {', '.join(limits)}, "
                f"not {', '.join(bad)}"
            )
        return self


class Common(Section):
    """What every parameter file says, of a main experiment or of a companion study."""

    name: Name
    """The run's folder: runs/<name>."""
    description: str = ""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    language: Literal["en", "de"] = "en"
    """Language of the figures."""

    @property
    def arm_names(self) -> list[str]:
        """All arms that are trained; a companion study has none."""
        return []

    def arms_of(self, seed: int) -> list[str]:
        """The arms that run with a seed."""
        return self.arm_names if seed in self.seeds else []

    @model_validator(mode="after")
    def _each_seed_once(self) -> "Common":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds names one value twice: {self.seeds}")
        return self


def absolute(path: str | None, root: Path) -> str | None:
    """A path of a parameter file, which is relative to the project's `root`, made absolute; none stays none."""
    return None if path is None else os.path.abspath(root / Path(path).expanduser())


class DataRoot(Section):
    """A section of a companion study that names a folder of data."""

    root: str | None = None
    """The folder; relative to the project where it is not absolute."""


class Study(Common):
    """A companion study: one notebook, which `study` names; its own model stands in the study's package."""

    study: str

    @property
    def sections(self) -> dict[str, DataRoot]:
        """Its sections with folders of data, by name."""
        return {name: section for name, section in self if isinstance(section, DataRoot)}

    def resolved(self, root: Path) -> Self:
        """The same with the folders of data absolute."""
        changed = {
            name: section.model_copy(update={"root": absolute(section.root, root)})
            for name, section in self.sections.items()
        }
        return self.model_copy(update=changed)

    @property
    def main_experiment(self) -> str | None:
        """The parameter file, relative to the project, of the main experiment whose run it reads; none reads none."""
        return None

    @property
    def seconds(self) -> float:
        """About how long it takes on two cores, for `thesis check`."""
        raise NotImplementedError

    def data_problems(self) -> tuple[list[str], list[str]]:
        """What is wrong with its data, a sentence each, and remarks; folders are absolute, nothing is downloaded."""
        raise NotImplementedError


class Parameters(Common):
    """One experiment."""

    arms: Annotated[list[str], Field(min_length=1)] = ["real", "real_id", "real_id_nearood", "cross_entropy"]
    """What is compared with all seeds: arms, or names of `variants`."""
    explore: list[str] = []
    """Arms and variants that run with the first `explore_seeds` seeds only."""
    explore_seeds: Positive = 3
    variants: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Variant] = {}
    data: DataParameters = DataParameters()
    model: ModelParameters = ModelParameters()
    inversion: InversionParameters = InversionParameters()
    generation: GenerationParameters = GenerationParameters()
    hardness: HardnessParameters = HardnessParameters()
    encoder: EncoderParameters = EncoderParameters()
    training: TrainingParameters = TrainingParameters()
    probe: ProbeParameters = ProbeParameters()
    evaluation: EvaluationParameters = EvaluationParameters()

    @property
    def arm_names(self) -> list[str]:
        """All that is trained: `arms` first, then `explore`."""
        return [*self.arms, *self.explore]

    def seeds_of(self, name: str) -> list[int]:
        """The seeds an arm or variant runs with."""
        return self.seeds if name in self.arms else self.seeds[: self.explore_seeds]

    def arms_of(self, seed: int) -> list[str]:
        """The arms and variants that run with a seed."""
        return [name for name in self.arm_names if seed in self.seeds_of(name)]

    def drawn_with(self, seed: int, wanted: Sequence[str] = ()) -> list[str]:
        """The arms whose figures the analysis of a seed draws.

        Args:
            seed: The seed.
            wanted: Further ones, beside those that run with all seeds, which are drawn of the first seed.

        Raises:
            ThesisError: One asked for does not run with the seed.
        """
        there = self.arms_of(seed)
        if unknown := [name for name in wanted if name not in there]:
            raise ThesisError(f"draw: {unknown[0]} does not run with seed {seed}; there are: {', '.join(there)}")
        return list(dict.fromkeys([*(self.arms if seed == self.seeds[0] else []), *wanted]))

    def of_arm(self, name: str) -> tuple[Arm, "Parameters"]:
        """The arm behind a name, and the parameters it trains with."""
        if name not in self.variants:
            return Arm(name), self
        variant, content = self.variants[name], self.model_dump()
        content |= {"arms": [str(variant.arm)], "explore": [], "variants": {}}
        for key, value in variant.set.items():
            section, _, field = key.partition(".")
            content[section][field] = value
        return variant.arm, Parameters.model_validate(content)

    @property
    def needs_hardness(self) -> bool:
        """Whether pictures are chosen by what the hardness encoder says of them."""
        chosen = {own.training.near_ood_choice for own in self._trained} | {
            own.training.id_choice for own in self._trained
        }
        by_score = {"hardness", "random", "band", "confidence", "generative"}
        return self.generation.near_ood.timesteps == "auto" or bool(chosen & by_score)

    @property
    def generation_tried(self) -> GenerationParameters:
        """The sets, with the timesteps that are tried where they are chosen by measurement."""
        if self.generation.near_ood.timesteps != "auto":
            return self.generation
        near_ood = self.generation.near_ood.model_copy(update={"timesteps": self.hardness.candidates})
        return self.generation.model_copy(update={"near_ood": near_ood})

    @property
    def _trained(self) -> list["Parameters"]:
        return [self.of_arm(name)[1] for name in self.arm_names]

    @model_validator(mode="after")
    def _fits(self) -> "Parameters":
        if len(set(self.arm_names)) < len(self.arm_names):
            raise ValueError(f"arms and explore names one value twice: {self.arm_names}")
        if taken := set(self.variants) & {*map(str, Arm), "concepts", "synthetic", "analysis"}:
            raise ValueError(f"variants: {sorted(taken)} are names of arms or of folders: choose others")
        if unknown := [name for name in self.arm_names if name not in {*Arm, *self.variants}]:
            raise ValueError(
                f"arms: {', '.join(unknown)} is neither an arm ({', '.join(Arm)}) nor one of the variants "
                f"({', '.join(self.variants) or 'there are none'})"
            )
        if self.training.near_ood_set == "sibling" and self.generation.sibling is None:
            raise ValueError(
                "training.near_ood_set is sibling and generation.sibling is absent: add that set, or choose near_ood"
            )
        if self.generation.sources > self.data.shots:
            raise ValueError(
                f"generation.sources ({self.generation.sources}) is more than data.shots ({self.data.shots}): "
                "sources are taken from the shots"
            )
        return self

    @model_validator(mode="after")
    def _variants_fit(self) -> "Parameters":
        for name in self.variants:
            try:
                self.of_arm(name)
            except ValidationError as error:
                raise ValueError(f"variants.{name}: {'; '.join(sentence(e) for e in error.errors())}") from None
        return self


Experiment = Parameters | Study
"""What a parameter file holds."""


def sentence(problem: Any, model: type[Common] = Parameters) -> str:
    """One of pydantic's problems with a parameter file of `model` in words."""
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section: Any = model
        for part in problem["loc"][:-1]:
            fields = getattr(section, "model_fields", {})
            types = [fields[part].annotation, *get_args(fields[part].annotation)] if part in fields else [section]
            section = next((t for t in types if hasattr(t, "model_fields")), section)
        return f"unknown parameter {where}; known here: {', '.join(section.model_fields)}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not where:
        return message
    if problem["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message}, got {problem['input']!r}"
