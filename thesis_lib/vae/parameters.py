"""Parameters of the study, section by section; what the source does not say stands here with the value taken."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from thesis_lib.parameters import DataRoot, Study
from thesis_lib.sections import Positive, Section, Share
from thesis_lib.vae.published import PUBLISHED_SETS

FEW = 10
"""Few pictures a class are so many or fewer: findings ask for them, and a VAE of the shots alone is trained on them."""
Rate = Annotated[float, Field(gt=0)]
Alpha = Annotated[float, Field(ge=0)]
ClassifierName = Literal["network", "logistic", "forest", "nearest"]
SamplingName = Literal["noise", "interpolation", "extrapolation", "interpolation_noise", "extrapolation_noise"]
"""Ways to make latent codes, see `sampling.draw_codes`."""
Counts = Annotated[tuple[Positive, ...], Field(min_length=1)]
Shots = Annotated[int, Field(ge=2)]
"""Real examples a class: codes are drawn between two of a class."""
ShotCounts = tuple[Shots, ...]
Beta = Annotated[float, Field(ge=0)]
Betas = Annotated[tuple[Beta, ...], Field(min_length=1)]


class FitParameters(Section):
    """Training of a VAE with Adam (Kingma and Ba 2015), a fixed number of steps."""

    steps: Positive = 6000
    batch: Positive = 64
    learning_rate: Rate = 1e-3

    def times(self, count: int) -> Self:
        """The same with so many times the steps."""
        return self.model_copy(update={"steps": count * self.steps})


class EarlyFitParameters(FitParameters):
    """Training of a VAE whose early state is needed, too."""

    early: Share = 0.1
    """The early VAE, whose reconstructions are the generative classifier's bad pictures, is the one after this share of
    the steps."""


class SamplingParameters(Section):
    """How latent codes are drawn from those of real examples."""

    neighbours: Positive = 5
    """Nearest neighbours of the same class among which one is drawn."""
    step: Alpha = 0.5
    """alpha of inter- and extrapolation, a factor (DeVries and Taylor 2017, arXiv 1702.05538, take 0.5, too)."""
    noise: Alpha = 0.25
    """alpha of noise, the VARIANCE of N(0, alpha): the source writes a normal distribution's second parameter, which
    is its variance, and does not say more."""


class NetworkParameters(Section):
    """The small network that classifies: dense with one hidden layer for tables, two convolutions for pictures."""

    width: Positive = 64
    """Hidden units, for pictures channels of the second convolution."""
    steps: Positive = 2000
    """At least so many."""
    epochs: Positive = 3
    """At least so many passes over the largest training set that is compared, for every method alike."""
    batch: Positive = 64
    learning_rate: Rate = 2e-3

    def for_examples(self, largest: int) -> Self:
        """The same with the steps that a comparison takes whose largest training set has so many examples."""
        return self.model_copy(update={"steps": max(self.steps, -(-self.epochs * largest // self.batch))})


class Proben1Parameters(DataRoot):
    """Tables with prior samples of one VAE per class, and thyroid with few examples.

    `root` holds PROBEN1's sets; none leaves these tables out.
    """

    sets: Annotated[tuple[str, ...], Field(min_length=1)] = tuple(PUBLISHED_SETS)
    betas: Annotated[tuple[Beta | Literal["norm"], ...], Field(min_length=1)] = ("norm", 0.5, 1.0)
    """Weights of the KL term; `norm` is beta = 1 normalised, 1 * d / N with N attributes."""
    latent: Positive = 2
    hidden: Positive = 64
    fit: FitParameters = FitParameters()
    mix_in: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of other classes' examples in a class's training data, for the sets that the source mixes (its "20 %" may
    also mean a fifth of the others)."""
    classifiers: Annotated[tuple[ClassifierName, ...], Field(min_length=1)] = (
        "network",
        "forest",
        "logistic",
        "nearest",
    )
    """The first one stands in the table beside the published numbers."""
    bad_noise: Annotated[float, Field(gt=0)] = 1.0
    """Bad examples of the generative classifier: variance of the noise on standardised numbers."""
    bad_change: Share = 0.3
    """Bad examples: probability that a binary or nominal value is drawn anew from its column."""
    few_shot: ShotCounts = (5, 10, 20, 30, 50, 100)
    """Examples a class of thyroid, and as many generated."""
    few_shot_mix_in: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """`mix_in` with few examples, of which the source says nothing."""

    @model_validator(mode="after")
    def _sets_are_known(self) -> "Proben1Parameters":
        if unknown := sorted(set(self.sets) - set(PUBLISHED_SETS)):
            raise ValueError(f"sets: {', '.join(unknown)} is none of {', '.join(PUBLISHED_SETS)}")
        return self

    @field_validator("classifiers")
    @classmethod
    def _network_is_there(cls, classifiers: tuple[ClassifierName, ...]) -> tuple[ClassifierName, ...]:
        if "network" not in classifiers:
            raise ValueError("network is missing, whose gains the figures and findings show: add it")
        return classifiers


class MnistParameters(DataRoot):
    """Few-shot recognition of digits with generated ones; `root` holds MNIST's idx files, none leaves them out."""

    latent: Positive = 50
    beta: Beta = 0.5
    """Weight of the KL term, not normalised."""
    width: Positive = 16
    """Channels of the VAE's first convolution."""
    fit: EarlyFitParameters = EarlyFitParameters(steps=3000, batch=128)
    """The single VAE, trained on all training pictures without their labels."""
    multi: FitParameters = FitParameters(steps=400, batch=32, learning_rate=3e-3)
    """Each VAE of a class; the single VAE `from_shots`, trained on the shots alone, takes ten times the steps."""
    mix_in: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of other classes' pictures in a class's training data."""
    shots: Annotated[ShotCounts, Field(min_length=1)] = (2, 3, 4, 5, 10, 20, 30, 50, 100, 200, 500, 1000, 2000)
    """Pictures a class; as many are generated."""
    only_shots: Shots = 5
    """Originals a class behind the table with only generated pictures."""
    only_generated: Counts = (2, 3, 4, 5, 10, 20, 30, 50, 100, 200, 500, 1000, 2000)
    many: Positive = 2000
    """Generated pictures a class in the third table."""
    many_shots: Annotated[ShotCounts, Field(min_length=1)] = (2, 3, 4, 5, 10, 20, 30, 50, 100, 200, 500, 1000, 2000)
    network: NetworkParameters = NetworkParameters(width=16, steps=400)
    test: Annotated[int, Field(ge=10)] = 10_000
    """So many of the test pictures are tested on, drawn at random, the same for all seeds."""
    map_betas: Betas = (0.1, 1.0, 4.0, 16.0)
    """Latent spaces of two dimensions that are drawn."""
    map_fit: FitParameters = FitParameters(steps=2000, batch=128)


class CelebaParameters(DataRoot):
    """Latent traversals of faces; `root` is any folder of aligned faces, none leaves them out."""

    betas: Betas = (1.0, 150.0)
    """Weights of the KL term before normalising: beta_norm = beta * d / N with N = 64 * 64 * 3."""
    latent: Positive = 32
    width: Positive = 32
    fit: FitParameters = FitParameters(steps=4000)
    dimensions: Positive = 8
    """The dimensions that carry most are swept."""


class HarnessParameters(Section):
    """One classifier, one budget, all kinds of augmentation: on the bundled parts and on MNIST."""

    experiment: str | None = "parameters/quickstart.yaml"
    """The main study's experiment that gives the parts, shots, network and training, and whose run in the folder of
    runs gives the DA-Fusion pictures; none leaves the harness out."""
    steps: Positive = 600
    """Optimiser steps of each training. With more, pasted backgrounds and mixing gain further in the field (the README
    has three budgets beside each other)."""
    generated: Positive = 32
    """Pictures a class that a VAE makes."""
    sampling: SamplingName = "interpolation_noise"
    """The way to draw codes, named before the run: the source's best with four and five pictures a class."""
    latent: Positive = 64
    beta: Beta = 0.01
    """Of the parts' VAE: weight of the KL term against squared errors, as good as pixel noise of this variance."""
    width: Positive = 24
    fit: EarlyFitParameters = EarlyFitParameters(steps=2000, early=0.2)
    """The parts' VAE, trained on the corpus of other parts and on the shots, half of each batch from either."""
    mnist_shots: Shots = 5


class VaeParameters(Study):
    """The study."""

    study: Literal["vae"]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0, 1, 2, 3, 4]
    sampling: SamplingParameters = SamplingParameters()
    network: NetworkParameters = NetworkParameters()
    proben1: Proben1Parameters = Proben1Parameters()
    mnist: MnistParameters = MnistParameters()
    celeba: CelebaParameters = CelebaParameters()
    harness: HarnessParameters = HarnessParameters()

    @property
    def main_experiment(self) -> str | None:
        """The harness's."""
        return self.harness.experiment

    @property
    def seconds(self) -> float:
        """Estimated from the steps of all VAEs and classifiers, at 2 cores' pace."""
        q, d, faces, h, total = self.proben1, self.mnist, self.celeba, self.harness, 0.0
        if q.root:
            classifiers = len(q.classifiers) * (1 + 2 * len(q.betas)) * self.network.steps / 500
            total += (len(q.sets) + len(q.few_shot)) * (q.fit.steps * TABLE_STEP + classifiers * TABLE_CLASSIFIER)
            total += len(q.few_shot) * q.fit.steps * TABLE_STEP  # one VAE for all classes, three times as long
        if d.root:
            vaes = 10 * (len({*d.shots, *d.many_shots, d.only_shots}) + sum(k <= FEW for k in d.shots))
            of_shots = vaes * d.multi.steps * d.multi.batch
            total += (d.fit.steps * d.fit.batch + of_shots) * DIGIT * d.width / 16
            cells = [(10 * 2 * k, 10) for k in d.shots] + [(10 * k, 5) for k in d.only_generated]
            cells += [(10 * (k + d.many), 5) for k in d.many_shots]
            total += sum(count * d.network.for_examples(examples).steps for examples, count in cells) * DIGIT_STEP
            total += 10 * h.steps * HARNESS_STEP / 4 if h.experiment else 0
        if h.experiment:
            total += h.fit.steps * h.fit.batch * PICTURE * h.width / 24 + 15 * h.steps * HARNESS_STEP
        total *= len(self.seeds)
        if faces.root:
            total += len(faces.betas) * faces.fit.steps * faces.fit.batch * PICTURE * faces.width / 24
        return total + 60

    def data_problems(self) -> tuple[list[str], list[str]]:
        """As `Study` says; the remarks say what is left out for want of a folder."""
        from thesis_lib.vae.folders import folder_problems

        return folder_problems(self)

    @model_validator(mode="after")
    def _has_something_to_do(self) -> "VaeParameters":
        if self.harness.experiment is None and not any(section.root for section in self.sections.values()):
            raise ValueError(
                "there is nothing to do: name a main experiment in harness.experiment, or a folder of data in "
                f"{', '.join(f'{name}.root' for name in self.sections)}"
            )
        return self


TABLE_STEP, TABLE_CLASSIFIER, DIGIT_STEP, HARNESS_STEP = 0.002, 0.22, 0.0055, 0.15
"""Seconds on 2 cores: a step of a stack of tables' VAEs, a classifier of tables, a step of the digits' classifier and
of the harness's network on parts."""
DIGIT, PICTURE = 3e-4, 2e-3
"""Seconds on 2 cores that a VAE takes for a digit, and for a picture of 64 px in colour."""
