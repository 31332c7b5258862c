"""What the harness compares on: the bundled parts and MNIST, their shots, test pictures and generated pictures."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from thesis_lib.contrastive.arms import build_pools
from thesis_lib.contrastive.probe import extract_features
from thesis_lib.datasets import PARTS_CORPUS, PreparedSet, few_shot, prepare_data
from thesis_lib.diffusion.base import load_base_model
from thesis_lib.diffusion.hardness import Hardness, load_hardness_encoder
from thesis_lib.diffusion.miniature import read_captioned_table
from thesis_lib.diffusion.through_vae import pass_through_vae
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.generative import surer_half
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.sections import Kind, ViewParameters
from thesis_lib.tensors import made_once, tensor_digest
from thesis_lib.vae import fitting
from thesis_lib.vae.digits import Digits, vae_made_of
from thesis_lib.vae.fitting import fit
from thesis_lib.vae.methods import DA_FUSION, VAE
from thesis_lib.vae.models import PictureVAE, codes
from thesis_lib.vae.parameters import HarnessParameters, VaeParameters
from thesis_lib.vae.sampling import draw_codes

VERSION = 1
"""Part of what kept VAEs' pictures of parts are made of: raise it when the code here makes them differently."""
ID_CHOICES = {
    "da_fusion_object": "object", "da_fusion_background": "background", "da_fusion_filter": "generative",
    "da_fusion_half": "half",
}  # fmt: skip
"""What the main study calls these choices of its pictures; `da_fusion` is that of the main run."""
DIGIT_VIEWS = ViewParameters(crop_scale=(0.7, 1.0), jitter_probability=0.0, grey_probability=0.0)
Pictures = tuple[Tensor, Tensor]
"""uint8 (n, 3, s, s) and labels (n,)."""


class Bench(ABC):
    """A data set of the harness.

    Attributes:
        name: `parts` or `mnist`.
        parameters: The main study's, for network, training and views.
        mirror: Whether views may be mirror images.
        fill: Grey value in [0, 1] of what RandAugment moves into the frame.
        has_masks: Whether the shots' objects are known; a list of work asks without drawing shots.
        sources: Those of `methods.MADE` that it has at all.
        tests: Split -> pictures.
        depends_on: What all results depend on beside method and seed, JSON-encodable.
    """

    name: str
    parameters: Parameters
    mirror: bool
    fill: float
    has_masks: bool
    sources: tuple[str, ...]
    tests: dict[str, Pictures]
    depends_on: dict[str, Any]

    @abstractmethod
    def shots(self, seed: int) -> Pictures:
        """Real training pictures."""

    def masks(self, seed: int) -> Tensor | None:
        """The shots' objects, bool (n, s, s), or none where they are not known."""
        return None

    @abstractmethod
    def made(self, source: str, seed: int) -> Pictures:
        """Generated pictures.

        Raises:
            ThesisError: They cannot be had.
        """

    @abstractmethod
    def made_of(self, source: str, seed: int) -> dict[str, Any]:
        """What these depend on beside `depends_on`, JSON-encodable; raises as `made` does."""


class PartsBench(Bench):
    """The main study's data: its shots, its test and field pictures, DA-Fusion pictures of its run.

    All pictures have passed the base model's VAE where the main study lets them, so that its trace tells none apart.

    Args:
        p: The study's parameters.
        main: The main study's, paths resolved.
        synthetic: Seed -> folder of its run's synthetic pictures; raises a ThesisError where there are none.
        folder: Crops and trained VAEs are kept here.

    Raises:
        ThesisError: The main study's data are no bundled parts, or a class has one shot; as `prepare_data` and the base
            model do.
    """

    name, mirror, fill, has_masks = "parts", True, 0.5, True

    def __init__(self, p: VaeParameters, main: Parameters, synthetic: Callable[[int], Path], folder: Path) -> None:
        if main.data.reader != "parts":
            raise ThesisError(
                f"harness.experiment: {p.harness.experiment} reads {main.data.reader}, the harness the bundled parts, "
                "whose VAE learns from a corpus of other parts: name an experiment with data.reader parts"
            )
        if main.data.shots < 2:
            raise ThesisError(
                f"harness.experiment: {p.harness.experiment} has data.shots {main.data.shots}, but codes are drawn "
                "between two examples of a class: name an experiment with more"
            )
        self.p, self.main, self.synthetic, self.folder = p, main, synthetic, folder
        one_region = ("da_fusion_object", "da_fusion_background") if main.generation.background is None else ()
        self.sources = ("vae", "vae_gc", *(name for name in DA_FUSION if name not in one_region))
        photographs = prepare_data(main.data, main.model.size, folder / "parts")
        photographs = dataclasses.replace(photographs, ood=None, oracle=None)
        self.base = load_base_model(main.model)
        self.images = pass_through_vae(photographs, self.base, folder / "parts").images
        self.encoder = load_hardness_encoder(self.base, main.hardness)
        self.parameters = _training(main, p.harness, len(photographs.classes))
        splits = self.images.table["split"]
        chosen = {split: self.images.select((splits == split).to_numpy()) for split in ("test", "field")}
        self.tests = {split: _pictures(prepared) for split, prepared in chosen.items() if len(prepared.table)}
        self.depends_on = {
            "training": self.parameters.training.model_dump(mode="json"),
            "encoder": self.parameters.encoder.model_dump(mode="json"),
            "data": tensor_digest(*_pictures(self.images), self.images.masks), "splits": "".join(splits.str[:2]),
            "shots": main.data.shots,
        }  # fmt: skip
        fields = {"generated", "sampling", "latent", "beta", "width", "fit"}
        self._of_vae = {
            "vae": [VERSION, fitting.VERSION], "harness": p.harness.model_dump(mode="json", include=fields),
            "sampling": p.sampling.model_dump(), "genuine": tensor_digest(*self.encoder.state_dict().values()),
            "passed": self.base.digest if self.base.through_vae else "",
            "corpus": tensor_digest(_corpus(self.images.pictures.shape[-1])),
        }  # fmt: skip
        self._made: dict[tuple[str, int], Pictures] = {}

    def shots(self, seed: int) -> Pictures:
        """As `Bench`."""
        return _pictures(self._few(seed))

    def masks(self, seed: int) -> Tensor:
        """As `Bench`."""
        return self._few(seed).masks

    def made(self, source: str, seed: int) -> Pictures:
        """As `Bench`."""
        if (source, seed) not in self._made:
            if source in VAE:
                kept = self._from_vae(seed)
                self._made |= {(name, seed): (kept[name], kept[f"{name}_labels"]) for name in ("vae", "vae_gc")}
            else:
                choice = {"id_choice": ID_CHOICES[source]} if source in ID_CHOICES else {}
                chosen = self.main.model_copy(update={"training": self.main.training.model_copy(update=choice)})
                few, synthetic = self._few(seed), self.synthetic(seed)
                pool = build_pools(Arm.CROSS_ENTROPY, chosen, seed, few, synthetic, None)[Kind.ID]
                self._made[source, seed] = (pool.pictures, pool.labels)
        return self._made[source, seed]

    def made_of(self, source: str, seed: int) -> dict[str, Any]:
        """As `Bench`."""
        return self._of_vae if source in VAE else {"pictures": tensor_digest(*self.made(source, seed))}

    def vaes(self, seed: int) -> tuple[PictureVAE, PictureVAE]:
        """The parts' VAE and its early state: trained without labels on the corpus of other parts and on the shots."""
        h, shots = self.p.harness, self.shots(seed)[0]
        corpus = _corpus(shots.shape[-1])
        everything = torch.cat([corpus, shots])
        pools = [torch.arange(len(corpus)), torch.arange(len(corpus), len(everything))]
        build = partial(PictureVAE, 3, shots.shape[-1], h.latent, h.width)
        return fit(build, everything, [pools], [h.beta], h.fit, seed, self.folder / f"parts_seed{seed}.safetensors")

    def _from_vae(self, seed: int) -> dict[str, Tensor]:
        def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
            plain, chosen = self._draw(seed)
            return {"vae": plain[0], "vae_labels": plain[1], "vae_gc": chosen[0], "vae_gc_labels": chosen[1]}, {}

        made_of = self.depends_on | self._of_vae | {"seed": seed}
        return made_once(self.folder / f"parts_made_seed{seed}.safetensors", made_of, make)[0]

    def _draw(self, seed: int) -> tuple[Pictures, Pictures]:
        """Pictures that the parts' VAE makes, and as many of twice as many: the half judged most real.

        The generative classifier sees them in the features of the main study's hardness encoder, whole; DA-Fusion's
        filter sees the objects alone. Made and bad ones pass the base model's VAE first, as the shots have, lest its
        trace tell them apart.
        """
        h, encoder, (real, labels), (trained, early) = self.p.harness, self.encoder, self.shots(seed), self.vaes(seed)
        unit, count = real.float() / 255, 2 * h.generated
        z, names = draw_codes(h.sampling, *codes(trained, unit), labels, count, self.p.sampling, seed)
        made, bad = trained.pictures(z), early.pictures(codes(early, unit)[0])
        made, bad = (self.seen(as_bytes(pictures)) for pictures in (made, bad))
        features = [F.normalize(extract_features(encoder, x, encoder.settings.size), dim=1) for x in (made, real, bad)]
        scores = pd.Series(Hardness.genuineness(*features))
        first = torch.arange(len(names)) % count < h.generated
        kept = torch.tensor(surer_half(scores, [names.numpy()]).to_numpy())
        return (made[first], names[first]), (made[kept], names[kept])

    def seen(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 (n, 3, s, s) as an encoder sees them: passed through the base model's VAE, where all are."""
        from thesis_lib.diffusion.augmentation import as_seen  # here: diffusers is slow to import

        return torch.cat([as_seen(self.base, part) for part in pictures.split(64)])

    def _few(self, seed: int) -> PreparedSet:
        return self.images.select(few_shot(self.images.table, self.main.data.shots, seed).index)


class DigitsBench(Bench):
    """MNIST with few shots, its pictures with three equal channels at 32 pixels; there are no DA-Fusion pictures.

    The VAE of `vae` and `vae_gc` has seen all training pictures without labels, that of `from_shots` the shots alone.

    Args:
        p: The study's parameters.
        main: The main study's.
        digits: MNIST.
    """

    name, mirror, fill, has_masks, sources = "mnist", False, 0.0, False, VAE

    def __init__(self, p: VaeParameters, main: Parameters, digits: Digits) -> None:
        self.p, self.digits = p, digits
        encoder = main.encoder.model_copy(update={"size": 32})
        training = main.training.model_copy(update={"views": DIGIT_VIEWS})
        self.parameters = _training(main.model_copy(update={"encoder": encoder, "training": training}), p.harness, 10)
        self.tests = {"test": (in_colour(digits.test[0]), digits.test[1])}
        self.depends_on = {
            "training": self.parameters.training.model_dump(mode="json"),
            "encoder": self.parameters.encoder.model_dump(mode="json"),
            "data": tensor_digest(*digits.train, *digits.test), "shots": p.harness.mnist_shots,
        }  # fmt: skip
        self._names: dict[str, str] = {"vae": p.harness.sampling, "vae_gc": "gc", "from_shots": "from_shots"}

    def shots(self, seed: int) -> Pictures:
        """As `Bench`."""
        pictures, labels = self.digits.few(self.p.harness.mnist_shots, seed)
        return in_colour(pictures), labels

    def made(self, source: str, seed: int) -> Pictures:
        """As `Bench`."""
        h = self.p.harness
        name = self._names[source]
        pictures, labels = self.digits.generate(name, h.mnist_shots, h.generated, seed, h.sampling)
        return in_colour(pictures), labels

    def made_of(self, source: str, seed: int) -> dict[str, Any]:
        """As `Bench`."""
        h = self.p.harness
        return vae_made_of(self.digits, self._names[source]) | {"generated": h.generated, "way": h.sampling}


def _training(main: Parameters, p: HarnessParameters, classes: int) -> Parameters:
    """The main study's network and training, at the harness's number of steps.

    In fp32: a study has no say in the main study's precision, and bf16 is ten times slower on processors without it.
    """
    short = {
        "steps": p.steps, "checkpoint_every": p.steps, "precision": "fp32",
        "classes_per_batch": min(main.training.classes_per_batch, classes),
    }  # fmt: skip
    return main.model_copy(update={"training": main.training.model_copy(update=short)})


def _pictures(prepared: PreparedSet) -> Pictures:
    return prepared.pictures, torch.tensor(prepared.table["label"].to_numpy())


@cache
def _corpus(size: int) -> Tensor:
    return read_captioned_table(PARTS_CORPUS, size)[1]


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8."""
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8)


def in_colour(pictures: Tensor) -> Tensor:
    """Grey pictures (n, 1, s, s) in [0, 1] as uint8 with three equal channels."""
    return as_bytes(pictures).expand(-1, 3, -1, -1)
