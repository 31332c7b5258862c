"""Parameters of the study of pairs and triplets, and its work list."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from thesis_lib.parameters import DataRoot, Study
from thesis_lib.sections import Positive, Section

SetName = Literal["mnist", "cifar10", "parts"]
Augmentation = Literal["none", "fer", "simclr"]
MethodName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

PARTS_SIZE = 32
"""Side in pixels of the bundled parts' pictures, that of CIFAR-10's."""
CLASSES: dict[str, int] = {"mnist": 10, "cifar10": 10, "parts": 20}
"""How many each set has."""


class PicturesParameters(DataRoot):
    """The data sets.

    `root` holds `mnist` (idx files, gzipped or not) and `cifar10` (sheets), or what torchvision left there; without a
    root torchvision downloads both. The bundled parts need neither.
    """

    sets: Annotated[list[SetName], Field(min_length=1)] = ["mnist", "cifar10"]
    anchors: Positive = 5000
    """Anchors a class, its first pictures; where it has fewer, they are anchors several times (and NT-Xent's negatives
    then include the anchor's own picture)."""
    test: Annotated[int, Field(ge=10)] = 10_000
    """Test pictures whose features are evaluated, at most."""


READ_BY = {
    "mining": ("triplet",),
    "margin": ("triplet", "margin"),
    "temperature": ("nt_xent", "supcon"),
    "negative": ("cosine", "margin", "triplet", "nt_xent"),
}
"""Fields of a method that some losses alone read."""


class Method(Section):
    """How a network is trained: what makes a pair or triplet, the loss, the budget."""

    loss: Literal["cosine", "triplet", "margin", "nt_xent", "supcon", "cross_entropy", "pca"]
    """`cosine`: torch's CosineEmbeddingLoss; `triplet`: torch's TripletMarginLoss; `margin`: Hadsell et al. 2006;
    `nt_xent`: InfoNCE over the batch, debiased where `tau_plus` is above 0; `supcon`: the main study's loss;
    `cross_entropy`: a linear classifier on the features, trained with the network and thrown away; `pca`: no network,
    32 principal components of the training pictures, with `epochs: 0`."""
    epochs: Annotated[int, Field(ge=0)] = 10
    """Passes over all pairs, two an anchor with `cosine` and `margin`, or over all anchors with the other losses; 0
    leaves the network as it was drawn."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.15
    augmentation: Augmentation = "simclr"
    """Of the positive."""
    fresh: bool = False
    """Augmentations are drawn anew in every epoch; the source draws them once."""
    augment_anchor: bool = False
    """The anchor is augmented, too, and with it the negative of a pair or triplet: a clean one would be known by its
    being clean (the triplet loss then falls to 0 within 200 steps)."""
    positive: Literal["same_picture", "same_class"] = "same_picture"
    """What the positive is made from: the anchor itself (the source), or another picture of its class."""
    negative: Literal["other_class", "any"] = "other_class"
    """Negatives come from other classes (the source; it needs labels), or are any other picture."""
    mining: Literal["none", "semi_hard", "hard", "batch_hard"] = "none"
    """For `triplet`: the negative (`semi_hard`, `hard`), or positive and negative, are chosen among 64 of the batch."""
    margin: Annotated[float, Field(gt=0)] = 1.0
    """Of `triplet` and `margin`, a distance; `cosine` has margin 0, as in the source."""
    temperature: Annotated[float, Field(ge=0.02)] = 0.5
    """Of `nt_xent` and `supcon`; e^(1 / temperature) is a single-precision number."""
    tau_plus: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Debiased `nt_xent`: the probability that an unlabelled negative is of the anchor's class."""
    sigmoid: bool = True
    """Whether the network ends in a sigmoid, as the source's."""
    everywhere: bool = False
    """Beyond the source: whether it runs on all sets, not on `beyond_sets` alone, and stands in the source's table."""

    @property
    def chosen_beforehand(self) -> bool:
        """Whether an item is a triplet, not a pair or an anchor and its positive."""
        return self.loss == "triplet" and self.mining == "none"

    @property
    def augmented_roles(self) -> tuple[int, ...]:
        """Which of anchor (0), positive (1) and negative (2) are augmented; negatives from the batch are anchors."""
        if self.augmentation == "none":
            return ()
        own_negative = self.chosen_beforehand or self.loss in ("cosine", "margin")
        return ((0, 1, 2) if own_negative else (0, 1)) if self.augment_anchor else (1,)

    @property
    def passes(self) -> int:
        """Pictures an item that pass the network: anchor and positive at once where they are one picture."""
        one_picture = self.augmentation == "none" and self.positive == "same_picture"
        return 3 if self.chosen_beforehand and not one_picture else 2

    @model_validator(mode="after")
    def _belongs_together(self) -> "Method":
        for field, losses in READ_BY.items():
            if getattr(self, field) != type(self).model_fields[field].default and self.loss not in losses:
                raise ValueError(f"{field} is read by {', '.join(losses)}, not by {self.loss}: leave it out")
        if self.mining != "none" and self.negative == "any":
            raise ValueError("mining chooses negatives by their classes: leave negative: any out")
        if self.loss == "pca" and self.epochs:
            raise ValueError("pca is not trained: set epochs to 0")
        if self.tau_plus and (self.loss != "nt_xent" or self.negative != "any"):
            raise ValueError("tau_plus is for nt_xent with negative: any, whose negatives may be of the anchor's class")
        return self


class SourceMethod(Method):
    """One of the source's, which may have other epochs, another rate and margin; its augmentations are the study's."""

    @model_validator(mode="after")
    def _stays_the_source_s(self) -> "SourceMethod":
        for field, value in Method.model_fields.items():
            if field not in ("loss", "epochs", "learning_rate", "margin") and getattr(self, field) != value.default:
                raise ValueError(f"{field} makes it another method than the source's: put it under beyond, with a name")
        return self


class PairwiseMethod(SourceMethod):
    """The source's pairs."""

    loss: Literal["cosine"] = "cosine"
    epochs: Annotated[int, Field(ge=0)] = 5
    learning_rate: Annotated[float, Field(gt=0)] = 0.05


class TripletMethod(SourceMethod):
    """The source's triplets."""

    loss: Literal["triplet"] = "triplet"


class ProbeParameters(Section):
    """How features are judged."""

    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the test pictures on which the classifiers are measured; the others train them."""
    neighbours: Positive = 30
    perplexity: Annotated[float, Field(gt=1)] = 20.0
    """Of the t-SNE maps of all scenarios."""
    perplexities: list[Annotated[float, Field(gt=1)]] = [3.0, 10.0, 15.0, 25.0, 35.0, 50.0]
    """Of further maps of each set's best scenario."""
    perplexity_3d: Annotated[float, Field(gt=1)] = 30.0
    """Of their maps in three dimensions, the source's."""
    points: Annotated[int, Field(ge=10)] = 1000
    """Test pictures in a map."""


class Scenario(NamedTuple):
    """One training: an item of the study's work list."""

    data: SetName
    name: str
    """`pairwise_fer`, or the name of a method beyond the source."""
    method: Method
    seed: int


class PairwiseTripletParameters(Study):
    """The study: the source's scenarios are each of `pairwise` and `triplet` with each augmentation."""

    study: Literal["pairwise_triplet"]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0, 1, 2]
    data: PicturesParameters = PicturesParameters()
    batch: Annotated[int, Field(ge=2)] = 1024
    """Pairs, triplets or anchors a step."""
    augmentations: Annotated[list[Augmentation], Field(min_length=1)] = ["none", "fer", "simclr"]
    pairwise: PairwiseMethod = PairwiseMethod()
    triplet: TripletMethod = TripletMethod()
    beyond: dict[MethodName, Method] = {}
    """Further methods by name, at the same budget."""
    beyond_sets: list[SetName] | None = None
    """The sets on which they run; none for all. A network that is not trained costs nothing and runs on all."""
    probe: ProbeParameters = ProbeParameters()

    def source_methods(self) -> dict[str, Method]:
        """The source's methods by scenario name: `pairwise_none` and so on."""
        return {
            f"{name}_{augmentation}": method.model_copy(update={"augmentation": augmentation})
            for name, method in (("pairwise", self.pairwise), ("triplet", self.triplet))
            for augmentation in self.augmentations
        }

    def scenarios(self) -> list[Scenario]:
        """The work list: seed by seed, so that a run that was stopped has whole seeds."""
        return [
            Scenario(data, name, method, seed)
            for seed in self.seeds
            for data in self.data.sets
            for name, method in (self.source_methods() | self.beyond).items()
            if name in self.on_all_sets() or self._goes_beyond(data)
        ]

    def on_all_sets(self) -> list[str]:
        """The source's scenarios, methods that run everywhere, and networks that are not trained."""
        further = (name for name, method in self.beyond.items() if method.everywhere or not method.epochs)
        return [*self.source_methods(), *further]

    def data_problems(self) -> tuple[list[str], list[str]]:
        """As `Study` says; sets that would be downloaded are not looked for."""
        from thesis_lib.pairwise.pictures import missing

        return missing(self.data), []

    def _goes_beyond(self, data: SetName) -> bool:
        return self.beyond_sets is None or data in self.beyond_sets

    def steps(self, method: Method, data: str) -> int:
        """Optimiser steps a method takes on a set."""
        items = CLASSES[data] * self.data.anchors * (2 if method.loss in ("cosine", "margin") else 1)
        return method.epochs * -(-items // self.batch)

    @property
    def seconds(self) -> float:
        """Estimated from the pictures that pass the network or are augmented anew, and from evaluations, on 2 cores."""
        total = 0.0
        for data, _, method, _ in self.scenarios():
            redrawn = len(method.augmented_roles) * AUGMENTED if method.fresh else 0.0
            total += self.steps(method, data) * self.batch * (method.passes * PASSED + redrawn) + EVALUATED
        return total

    @model_validator(mode="after")
    def _fits(self) -> "PairwiseTripletParameters":
        for field, values in (("data.sets", self.data.sets), ("augmentations", self.augmentations)):
            if len(set(values)) < len(values):
                raise ValueError(f"{field} names one value twice: {values}")
        if self.beyond_sets is not None and (absent := set(self.beyond_sets) - set(self.data.sets)):
            raise ValueError(
                f"beyond_sets names {', '.join(sorted(absent))}, which data.sets does not: choose among those, "
                f"for example --set beyond_sets=[{self.data.sets[0]}]"
            )
        if taken := set(self.beyond) & set(self.source_methods()):
            raise ValueError(f"beyond: {sorted(taken)} are names of the source's scenarios: choose others")
        return self


PASSED, AUGMENTED, EVALUATED = 2.5e-4, 2e-4, 15.0
"""Seconds on 2 cores: forward and backward pass of a picture of 32 px, its augmentation, a network's evaluation."""
