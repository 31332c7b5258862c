"""The sections of a main experiment's parameters, and the kinds of pictures that they speak of."""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

HARDNESS_ENCODER = "hardness_encoder.safetensors"
"""The file in a base model's folder that `hardness.encoder: base` means."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Kind(StrEnum):
    """What a training picture is: a photograph, or synthetic inside or just outside its class."""

    REAL = "real"
    ID = "id"
    NEAR_OOD = "near_ood"


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

    timesteps: list[Annotated[int, Field(ge=1, le=999)]] | Literal["auto"] = []
    """Insertion timesteps, 1 to 999; they are comparable between step counts, not between models. `auto`, for near-OOD
    pictures only: the one among `hardness.candidates` at which most pictures fall into the near-OOD band."""
    strengths: list[Annotated[float, Field(gt=0, le=1)]] = []
    """Or strengths in diffusers' sense, turned into timesteps; give one of the two."""
    guidance_scales: list[Annotated[float, Field(ge=0, le=50)]] = [3.0]
    prompts: list[str] = ["a photo of a {}"]
    mask: Literal["none", "object", "background", "box"] = "object"
    """What may change: everything, the object, its background, or a random box around a point of the object."""

    @model_validator(mode="after")
    def _one_way(self) -> "SetParameters":
        if bool(self.timesteps) == bool(self.strengths):
            raise ValueError("give either timesteps or strengths, not both and not neither")
        if not self.prompts:
            raise ValueError("prompts: there is none")
        return self


class GenerationParameters(Section):
    """Image-to-image generation (DA-Fusion, Trabucco et al. 2023, arXiv 2302.07944)."""

    steps: Annotated[int, Field(ge=1, le=250)] = 50
    """Steps of the whole DDIM schedule; those from the insertion timestep on are run. With more than 250 diffusers'
    leading spacing may begin well before the timestep 1,000."""
    sources: Positive = 8
    """Source pictures a class, taken from the shots."""
    per_source: Positive = 4
    """Synthetic pictures a source and set."""
    batch: Positive = 32
    precision: Literal["model", "bf16"] = "model"
    """`bf16`: the UNet denoises in bfloat16, on new processors at least 1.5 times as fast; the VAE stays as it is."""
    id: SetParameters = SetParameters(timesteps=[200])
    background: SetParameters | None = None
    """A second ID set, most often with `mask: background`: the object stays, its surroundings change."""
    near_ood: SetParameters = SetParameters(timesteps=[500])
    sibling: SetParameters | None = None
    """A second near-OOD set, whose prompts name other things in the concept's place. With `mask: none` and a late
    timestep little but the light is left of the source, and most lie beyond the near-OOD band."""

    @property
    def sets(self) -> dict[str, tuple[Kind, SetParameters]]:
        """The sets by the name of their folder, each with its kind."""
        sets = {"id": (Kind.ID, self.id), "near_ood": (Kind.NEAR_OOD, self.near_ood)}
        sets |= {"background": (Kind.ID, self.background)} if self.background else {}
        return sets | ({"sibling": (Kind.NEAR_OOD, self.sibling)} if self.sibling else {})

    @property
    def masked_sets(self) -> list[str]:
        """The sets whose pictures change by the object's mask, so that their sources must have one."""
        return [name for name, (_, settings) in self.sets.items() if settings.mask != "none"]

    def mask_problem(self, classes: Iterable[str], masked: Iterable[str]) -> str:
        """A sentence about the classes that have no source with a mask though a set needs one; empty without such."""
        without = sorted(set(classes) - set(masked))
        if not (without and self.masked_sets):
            return ""
        remedy = " ".join(f"--set generation.{name}.mask=none" for name in self.masked_sets)
        return (
            f"classes {without} have no source picture with a mask: add masks, or let all of a picture change, {remedy}"
        )

    @model_validator(mode="after")
    def _sets_fit(self) -> "GenerationParameters":
        for name, (_, settings) in self.sets.items():
            if settings.timesteps == "auto" and name != "near_ood":
                raise ValueError(f"timesteps auto is for near_ood; give {name} a list of timesteps")
            braces, where = ["{", "}"], "exactly one {} where the concept goes"
            if name == "sibling":
                braces, where = [], "the words of another thing and no {}"
            if bad := [prompt for prompt in settings.prompts if re.findall("[{}]", prompt) != braces]:
                raise ValueError(f"{name}: every prompt needs {where}: {bad[:3]}")
        return self


class HardnessParameters(Section):
    """How far a picture is from its class, in the feature space of an encoder that selects and never evaluates.

    Changes of the three limits change which pictures are accepted, not which are made.
    """

    encoder: str = "base"
    """`base`: the one that came with the base model (bundled, or trained by notebook 10); else a safetensors file."""
    neighbours: Positive = 3
    """d_c is the mean cosine distance to so many nearest real training pictures of class c."""
    id_p: Share = 0.2
    """ID band: the own class's conformal p value is at least this, and the own class is the nearest."""
    near_p: Share = 0.2
    """Near-OOD band: no class's conformal p value is above this ..."""
    near_percentile: Annotated[float, Field(ge=0, le=100)] = 25.0
    """... and the distance to the own class is below this percentile of other classes' pictures'."""
    candidates: Annotated[list[Annotated[int, Field(ge=1, le=999)]], Field(min_length=1)] = [501, 651, 801]
    """Timesteps tried for `near_ood.timesteps: auto`."""
    quota: Positive = 8
    """Most pictures of a class that `training.near_ood_choice: hardness` takes."""
    per_source: Positive = 1
    """Pictures a source and candidate timestep; at the chosen one there are `generation.per_source`."""


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
    projection: tuple[Positive, Positive] | None = (128, 64)
    """Hidden and output width of the projection head, which is put aside after pre-training; none: the contrastive loss
    acts on the representation itself."""

    @model_validator(mode="after")
    def _width_fits(self) -> "EncoderParameters":
        if self.architecture != "resnet10" and self.width != 64:
            raise ValueError(f"width is a setting of resnet10; {self.architecture} has 64 channels")
        return self


class ViewParameters(Section):
    """Random views of a picture."""

    crop_scale: tuple[Share, Share] = (0.6, 1.0)
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Degrees at most, either way; half of the views are rotated."""
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    """Brightness, contrast, saturation, hue."""
    jitter_probability: Share = 0.8
    grey_probability: Share = 0.2


class TrainingParameters(Section):
    """Contrastive pre-training, or the cross-entropy network, at equal optimiser steps."""

    objective: Literal["supcon", "simclr", "label_vectors"] = "supcon"
    """`label_vectors`: generalised SupCon, where a near-OOD picture is partly of its class (`label_mixing`)."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    negatives: Literal["own_class", "all_classes"] = "own_class"
    """Which anchors a near-OOD picture repels: those of its source's class, or all."""
    near_ood_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of a near-OOD picture in the denominator; exp(m / temperature) is an additive margin of m."""
    tilt: Annotated[float, Field(ge=0)] = 0.0
    """Negatives are weighted by exp(tilt * similarity) (Jiang et al., arXiv 2209.00078); 0 weights all alike."""
    label_mixing: Share = 0.5
    """Share of a near-OOD picture's label vector that is not its class (Kim et al., arXiv 2206.00384)."""
    near_ood_set: Literal["near_ood", "sibling"] = "near_ood"
    """Which set of near-OOD pictures trains: those made with the concept, or those made with other things' words."""
    near_ood_choice: Literal["all", "hardness", "random"] | Annotated[int, Field(ge=1, le=999)] = "all"
    """Which of them: all; of those that no class claims, the `hardness.quota` a class that fit the near-OOD band best;
    as many of each class and timestep, whatever their hardness; or those of one timestep."""
    id_choice: Literal["all", "object", "background", "band", "confidence", "generative", "half"] = "all"
    """Which ID pictures train: all; those of one mask region; those in the ID band; the half of each class and
    mask that a nearest-neighbour classifier, or a generative classifier, is most confident of; a half at random."""
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
    precision: Literal["fp32", "bf16"] = "fp32"
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
    pictures: Literal["all", "real"] = "all"
    """What the probe trains on: all that the arm trains on but near-OOD pictures, or its real pictures only."""


class EvaluationParameters(Section):
    """Embeddings and OOD detection."""

    perplexity: Annotated[float, Field(gt=1)] = 20.0
    neighbours: Annotated[int, Field(ge=2)] = 15
    """UMAP's neighbourhood."""
    knn: Positive = 5
    """Neighbours of the kNN detector and of the vote of nearest neighbours."""
    odin_temperature: Annotated[float, Field(gt=0)] = 1000.0
    odin_epsilon: Annotated[float, Field(ge=0)] = 0.0014
    """Perturbation in units of the pixel range [0, 1]."""
