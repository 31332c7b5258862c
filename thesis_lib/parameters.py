"""Typed parameters of an experiment: one YAML file under `parameters/` is one experiment.

Unknown names, wrong types and values out of range are refused with one sentence each. `read_parameters` also applies
overrides such as ``data.shots=4``; an override changes the run's name, so that two settings never share a folder.
"""

import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from thesis_lib.errors import ThesisError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]


class Kind(StrEnum):
    """What a training picture is: a photograph, or synthetic inside or just outside its class."""

    REAL = "real"
    ID = "id"
    NEAR_OOD = "near_ood"


class Arm(StrEnum):
    """The compared set-ups."""

    REAL = "real"
    REAL_ID = "real_id"
    REAL_ID_NEAROOD = "real_id_nearood"
    CROSS_ENTROPY = "cross_entropy"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of pictures the arm trains on."""
        if self is Arm.REAL:
            return (Kind.REAL,)
        if self is Arm.REAL_ID_NEAROOD:
            return (Kind.REAL, Kind.ID, Kind.NEAR_OOD)
        return (Kind.REAL, Kind.ID)


class Section(BaseModel):
    """A part of the parameter file; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CropParameters(Section):
    """The square cut around the object."""

    margin: Annotated[float, Field(ge=0, le=2)] = 0.06
    """Margin on each side, as a share of the longer side of the object's box."""
    dilation: Annotated[int, Field(ge=0)] | None = None
    """The thesis's way instead: dilate the mask by this many pixels, no relative margin."""


class FolderParameters(Section):
    """How the `folder` reader divides pictures that come without splits."""

    split_by: Literal["object", "random"] = "object"
    """`object`: whole objects go to one split (file names start with it and a dash); `random`: pictures do."""
    valid_share: Share = 0.15
    test_share: Share = 0.3
    seed: int = 0
    """Seeds the division; the same in every run of the experiment."""
    ood_near: list[str] = []
    """Class folders held out as near-OOD; they train nothing."""
    ood_far: str | None = None
    """A second folder of class folders, read as far-OOD."""
    ood_far_classes: list[str] = []
    """Its class folders that are read; all when empty."""
    ood_far_per_class: Positive = 10


class DataParameters(Section):
    """The data set."""

    reader: Literal["parts", "mvip", "folder"] = "parts"
    root: str | None = None
    """The data set's folder; none for the bundled parts."""
    super_class: str | None = None
    """MVIP's super class."""
    num_classes: Positive | None = None
    """The first so many classes in sorted order; none for all."""
    shots: Positive = 8
    """Training pictures a class, chosen by the seed, spread over capture groups."""
    crop: CropParameters = CropParameters()
    folder: FolderParameters = FolderParameters()

    @model_validator(mode="after")
    def _root_is_named(self) -> "DataParameters":
        if self.reader != "parts" and self.root is None:
            raise ValueError(
                f"reader {self.reader} needs data.root, the data set's folder: add --set data.root=/path/to/it"
            )
        return self


class ModelParameters(Section):
    """The base model."""

    base: str = "bundled"
    """`bundled`, a diffusers folder of a Stable Diffusion 1.x or 2.x, or a hub id."""
    size: Annotated[int, Field(ge=16, le=1024, multiple_of=8)] = 64
    """Side in pixels at which pictures are cropped, generated and stored."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """`auto`: fp16 on a GPU, fp32 on the CPU."""
    through_vae: bool = True
    """Every picture an encoder sees, in training and in tests, passes through the VAE, so that the decoder's trace is
    no cue to what is synthetic."""


class InversionParameters(Section):
    """Textual inversion (Gal et al. 2022, arXiv 2208.01618)."""

    method: Literal["textual_inversion", "real_guidance"] = "textual_inversion"
    """`real_guidance`: no concept is learned, the prompt names the class in plain words (He et al. 2022)."""
    vectors: Annotated[int, Field(ge=1, le=64)] = 4
    initializer_word: str = "part"
    steps: Positive = 150
    batch: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    warm_up: Annotated[int, Field(ge=0)] = 15
    previews: Annotated[int, Field(ge=0)] = 4
    """Preview pictures a class."""


class SetParameters(Section):
    """One set of synthetic pictures: where it starts in the noise schedule and how it is guided."""

    timesteps: list[Annotated[int, Field(ge=1, le=999)]] = []
    """Insertion timesteps, 1 to 999; they are comparable between step counts, not between models."""
    strengths: list[Annotated[float, Field(gt=0, le=1)]] = []
    """Or strengths in diffusers' sense, turned into timesteps; give one of the two."""
    guidance_scales: list[Annotated[float, Field(ge=0, le=50)]] = [3.0]
    prompts: list[str] = ["a photo of a {}"]
    mask: Literal["none", "object", "background", "box"] = "object"
    """What may change: everything, the object, its background, or a random box inside the object."""

    @model_validator(mode="after")
    def _one_way(self) -> "SetParameters":
        if bool(self.timesteps) == bool(self.strengths):
            raise ValueError("give either timesteps or strengths, not both and not neither")
        bad = [p for p in self.prompts if p.count("{}") != 1]
        if bad or not self.prompts:
            raise ValueError(f"every prompt needs exactly one {{}} where the concept goes: {bad or 'there is none'}")
        return self


class GenerationParameters(Section):
    """Image-to-image generation (DA-Fusion, Trabucco et al. 2023, arXiv 2302.07944)."""

    steps: Positive = 50
    """Steps of the whole DDIM schedule; those from the insertion timestep on are run."""
    sources: Positive = 8
    """Source pictures a class, taken from the shots."""
    per_source: Positive = 4
    """Synthetic pictures a source and set."""
    batch: Positive = 32
    id: SetParameters = SetParameters(timesteps=[200])
    near_ood: SetParameters = SetParameters(timesteps=[500])

    def of(self, kind: Kind) -> SetParameters:
        """The set's parameters."""
        return self.id if kind is Kind.ID else self.near_ood


class EncoderParameters(Section):
    """The network whose representation is learned."""

    architecture: Literal["resnet10", "resnet18", "resnet50"] = "resnet10"
    width: Annotated[int, Field(ge=8, le=128)] = 64
    """Channels of the first stage; a narrow resnet10 has fewer than torchvision's 64."""
    stem: Literal["small", "standard"] = "small"
    """`small`: a 3 x 3 convolution of stride 2 without pooling, for small pictures; `standard`: 7 x 7 and pooling."""
    weights: str | None = None
    """`imagenet` (torchvision, downloaded), or a safetensors file; none starts from nothing."""
    size: Annotated[int, Field(ge=16, le=512)] = 64
    """Side of the views in pixels."""
    projection: tuple[Positive, Positive] = (128, 64)
    """Hidden and output width of the projection head."""

    @model_validator(mode="after")
    def _width_fits(self) -> "EncoderParameters":
        if self.architecture != "resnet10" and self.width != 64:
            raise ValueError(f"width is a setting of resnet10; {self.architecture} has 64 channels")
        return self


class ViewParameters(Section):
    """Random views of a picture."""

    crop_scale: tuple[Share, Share] = (0.6, 1.0)
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    """Brightness, contrast, saturation, hue."""
    jitter_probability: Share = 0.8
    grey_probability: Share = 0.2


class TrainingParameters(Section):
    """Contrastive pre-training, or the cross-entropy network, at equal optimiser steps."""

    objective: Literal["supcon", "simclr", "label_vectors"] = "supcon"
    temperature: Annotated[float, Field(gt=0)] = 0.07
    negatives: Literal["own_class", "all_classes"] = "own_class"
    """Which anchors a near-OOD picture repels: those of its source's class, or all."""
    near_ood_weight: Annotated[float, Field(gt=0)] = 1.0
    """How many times a near-OOD picture counts in the denominator; exp(m / temperature) is a margin m."""
    tilt: Annotated[float, Field(ge=0)] = 0.0
    """Negatives are weighted by exp(tilt * similarity); 0 weighs all alike."""
    label_mixing: Share = 0.5
    """Objective `label_vectors`: 0 makes near-OOD pictures positives of their class, 1 negatives of all classes."""
    steps: Positive = 300
    classes_per_batch: Positive = 8
    anchors_per_class: Annotated[int, Field(ge=2, multiple_of=2)] = 4
    """Anchor pictures a class and batch; half of them synthetic in arms with ID pictures."""
    near_ood_per_class: Positive = 2
    """Near-OOD pictures a class and batch, beside the anchors."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    checkpoint_every: Positive = 200
    views: ViewParameters = ViewParameters()


class ProbeParameters(Section):
    """The classifiers on frozen features."""

    steps: Positive = 300
    batch: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    views: Positive = 8
    """Augmented views of each training picture whose features are cached."""
    crop_scale: tuple[Share, Share] = (0.8, 1.0)
    neighbours: Positive = 5


class EvaluationParameters(Section):
    """Embeddings and OOD detection."""

    perplexity: Annotated[float, Field(gt=1)] = 20.0
    neighbours: Annotated[int, Field(ge=2)] = 15
    """UMAP's neighbourhood."""
    knn: Positive = 5
    """Neighbours of the kNN detector."""
    odin_temperature: Annotated[float, Field(gt=0)] = 1000.0
    odin_epsilon: Annotated[float, Field(ge=0)] = 0.0014
    """Perturbation in units of the pixel range [0, 1]."""


class Parameters(Section):
    """One experiment."""

    name: Name
    """The run's folder: runs/<name>."""
    description: str = ""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    arms: Annotated[list[Arm], Field(min_length=1)] = list(Arm)
    language: Literal["en", "de"] = "en"
    """Language of the figures."""
    data: DataParameters = DataParameters()
    model: ModelParameters = ModelParameters()
    inversion: InversionParameters = InversionParameters()
    generation: GenerationParameters = GenerationParameters()
    encoder: EncoderParameters = EncoderParameters()
    training: TrainingParameters = TrainingParameters()
    probe: ProbeParameters = ProbeParameters()
    evaluation: EvaluationParameters = EvaluationParameters()

    @model_validator(mode="after")
    def _fits(self) -> "Parameters":
        for field in ("seeds", "arms"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise ValueError(f"{field} names one value twice: {[str(v) for v in values]}")
        if self.generation.sources > self.data.shots:
            raise ValueError(
                f"generation.sources ({self.generation.sources}) is more than data.shots ({self.data.shots}): "
                "sources are taken from the shots"
            )
        return self


def read_parameters(path: str | Path, overrides: str | Sequence[str] = ()) -> Parameters:
    """Read and check a parameter file.

    Args:
        path: The YAML file.
        overrides: ``key=value`` items such as ``data.shots=4``, values in YAML: a list, or one string with
            blanks between.

    Returns:
        The parameters. With overrides, and none of them `name`, the name gains their digest.

    Raises:
        ThesisError: The file is missing or no YAML, a name is unknown, a value has a wrong type or range.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "none"
        raise ThesisError(
            f"{path}: cannot read the parameter file ({error.strerror}); {path.parent} has: {there}"
        ) from None
    except yaml.YAMLError as error:
        raise ThesisError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ThesisError(f"{path}: a parameter file is a mapping of names to values, this is {type(content).__name__}")
    items = overrides.split() if isinstance(overrides, str) else list(overrides)
    for item in items:
        _apply(content, item)
    if items and not any(item.startswith("name=") for item in items):
        slug = re.sub(r"[^A-Za-z0-9]+", "-", "_".join(item.rpartition(".")[2] for item in items)).strip("-")[:40]
        digest = hashlib.sha256("\n".join(sorted(items)).encode()).hexdigest()[:6]
        content["name"] = f"{content.get('name', path.stem)}_{slug}_{digest}"
    content.setdefault("name", path.stem)
    try:
        return Parameters.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_sentence(problem) for problem in error.errors())
        raise ThesisError(f"{path}: {problems}") from None


def _apply(content: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise ThesisError(f"--set {item}: write key=value, for example data.shots=4")
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ThesisError(f"--set {item}: {section} is a value, not a section")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ThesisError(f"--set {item}: {value!r} is not a YAML value") from None


def _sentence(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section: Any = Parameters
        for part in problem["loc"][:-1]:
            section = section.model_fields[part].annotation if isinstance(part, str) else section
        known = ", ".join(section.model_fields)
        return f"unknown parameter {where}; known here: {known}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not where:
        return message
    if problem["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message}, got {problem['input']!r}"


def dump_parameters(parameters: Parameters) -> str:
    """The parameters as YAML that `read_parameters` reads back."""
    return yaml.safe_dump(parameters.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
