"""MNIST with few pictures a class: with as many generated, with generated ones only, with many generated."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from thesis_lib.datasets.mnist import read_mnist
from thesis_lib.evaluation.generative import genuineness, surer_half
from thesis_lib.randomness import derive_seed, torch_generator
from thesis_lib.tensors import tensor_digest
from thesis_lib.vae import fitting
from thesis_lib.vae.classifiers import SmallNetwork, fit_and_measure
from thesis_lib.vae.fitting import class_members, fit
from thesis_lib.vae.models import PictureVAE, codes
from thesis_lib.vae.parameters import FEW, MnistParameters, SamplingName, SamplingParameters, VaeParameters
from thesis_lib.vae.published import DIGIT_METHODS, FEWER_METHODS
from thesis_lib.vae.sampling import draw_codes, normal
from thesis_lib.vae.tables import few_of_each
from thesis_lib.vae.work import Item, Items, Row, row

VERSION = 4
"""Part of what these results are made of: raise it when the code here measures differently."""
BEST: SamplingName = "interpolation_noise"
"""The source's best way with four and five pictures a class, with two, three and ten within 0.004 of the best; the rows
that the source lacks build on it."""
MULTI = ("multi", "multi_interpolation")
"""Rows of a VAE a class."""
SHOTS_ALONE = ("from_shots", "from_shots_extrapolation")
"""Rows of one VAE for all classes that has seen nothing but the shots, with few of them, for as many steps as the VAEs
of all classes together; the second one extrapolates, which the first results of the VAE of all pictures suggested."""
OWN_METHODS = (*SHOTS_ALONE, "multi_interpolation", "gc")
"""Rows that the source lacks: those of `SHOTS_ALONE`; `multi_interpolation`, codes drawn in the same way from a VAE a
class; `gc`, the generative classifier's half of twice as many."""


@dataclass
class Digits:
    """MNIST and the VAEs trained on it.

    Attributes:
        p: The study's section.
        sampling: How codes are drawn.
        train: Pictures (n, 1, 28, 28) in [0, 1] and labels (n,).
        test: Likewise.
        folder: Where trained VAEs are kept.
        baselines: (Shots, steps, seed) -> weighted F1 without generated pictures, which several tables repeat.
    """

    p: MnistParameters
    sampling: SamplingParameters
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    folder: Path
    baselines: dict[tuple[int, int, int], float] = field(default_factory=dict)
    _singles: dict[int, tuple[PictureVAE, PictureVAE]] = field(default_factory=dict)

    def few(self, shots: int, seed: int) -> tuple[Tensor, Tensor]:
        """So many training pictures a class and their labels."""
        labels = self.train[1].numpy()
        rows = few_of_each(labels, np.arange(len(labels)), shots, seed)
        return self.train[0][rows], self.train[1][rows]

    def single(self, seed: int) -> tuple[PictureVAE, PictureVAE]:
        """The VAE trained on all training pictures without labels, and its early state."""
        if seed not in self._singles:
            self._singles.clear()  # one at a time: a list of items goes through the seeds in order
            everything, file = [[torch.arange(len(self.train[0]))]], self.folder / f"mnist_seed{seed}.safetensors"
            self._singles[seed] = fit(self._build, self.train[0], everything, [self.p.beta], self.p.fit, seed, file)
        return self._singles[seed]

    def of_shots(self, shots: int, seed: int) -> PictureVAE:
        """A VAE for all classes, trained on the shots alone for as many steps as `of_classes` takes together."""
        x, y = self.few(shots, seed)
        file = self.folder / f"mnist_shots{shots}_seed{seed}.safetensors"
        p = self.p.multi.times(len(y.unique()))
        return fit(self._build, x, [[torch.arange(len(x))]], [self.p.beta], p, seed, file)[0]

    def of_classes(self, shots: int, seed: int) -> list[PictureVAE]:
        """Multi-VAE: a VAE a class, trained on its shots and what is mixed in.

        All start from the same weights and random numbers: they differ by their examples.
        """
        x, y = self.few(shots, seed)
        found = []
        for label, rows in enumerate(class_members(y, self.p.mix_in, seed)):
            file = self.folder / f"mnist_shots{shots}_class{label}_seed{seed}.safetensors"
            found.append(fit(self._build, x, [[rows]], [self.p.beta], self.p.multi, seed, file)[0])
        return found

    def _build(self) -> PictureVAE:
        channels, side = self.train[0].shape[1:3]
        return PictureVAE(channels, side, self.p.latent, self.p.width)

    def generate(
        self, method: str, shots: int, per_class: int, seed: int, best: SamplingName = BEST
    ) -> tuple[Tensor, Tensor]:
        """Generated pictures (m, 1, 28, 28) in [0, 1] and their labels, so many a class.

        Args:
            method: `none`; `multi` (prior samples of a VAE a class); one of `OWN_METHODS`; or a way of drawing codes
                from the single VAE's codes of the shots.
            shots: Real pictures a class.
            per_class: Generated pictures a class.
            seed: The seed.
            best: The way of drawing codes of the methods that are none themselves.
        """
        x, y = self.few(shots, seed)
        if method == "none":
            return x[:0], y[:0]
        if method == "multi":
            parts = [
                model.pictures(normal(per_class, model.latent, 1.0, torch_generator(seed, "prior", label)))
                for label, model in enumerate(self.of_classes(shots, seed))
            ]
            return torch.cat(parts), torch.arange(len(parts)).repeat_interleave(per_class)
        way: Any = method.removeprefix("from_shots_")
        way = way if way in get_args(SamplingName) else best
        if method == "multi_interpolation":
            drawn = []
            for label, own in enumerate(self.of_classes(shots, seed)):
                mine = y == label
                z, names = draw_codes(way, *codes(own, x[mine]), y[mine], per_class, self.sampling, seed)
                drawn.append((own.pictures(z), names))
            return torch.cat([made for made, _ in drawn]), torch.cat([names for _, names in drawn])
        model = self.of_shots(shots, seed) if method in SHOTS_ALONE else self.single(seed)[0]
        count = 2 * per_class if method == "gc" else per_class
        z, labels = draw_codes(way, *codes(model, x), y, count, self.sampling, seed)
        made = model.pictures(z)
        if method == "gc":
            early = self.single(seed)[1]
            bad = early.pictures(codes(early, x)[0])
            judge = SmallNetwork(self.p.network, derive_seed(seed, "genuine"))  # starts unlike the one that is tested
            scores = genuineness(made.numpy(), x.numpy(), bad.numpy(), judge)
            kept = torch.tensor(surer_half(pd.Series(scores), [labels.numpy()]).to_numpy())
            made, labels = made[kept], labels[kept]
        return made, labels


def read_digits(p: VaeParameters, folder: Path) -> Digits:
    """MNIST from the folder that the parameters name, with so many of its test pictures as they ask for.

    The first half of MNIST's test pictures is cleaner than the second, so they come in an order of chance.

    Raises:
        ThesisError: As `read_mnist` does.
    """
    found = read_mnist(p.mnist.root, "mnist.root")
    train, test = (
        (pictures.float() / 255, labels)
        for pictures, labels in ((found.train, found.train_labels), (found.test, found.test_labels))
    )
    drawn = torch.randperm(len(test[1]), generator=torch_generator(0, "test"))[: p.mnist.test]
    return Digits(p.mnist, p.sampling, train, (test[0][drawn], test[1][drawn]), folder)


def digit_items(digits: Digits, seeds: Sequence[int]) -> Items:
    """The work list: an item a table, number of pictures, method and seed; of a seed all items follow each other."""
    p, data = digits.p, tensor_digest(*digits.train, *digits.test)
    own = {"version": VERSION, "data": data, "beta": p.beta, "network": p.network.model_dump()}  # rows name beta
    made_of = {m: own | vae_made_of(digits, m) for m in (*DIGIT_METHODS, *OWN_METHODS)}
    items: Items = {}
    for seed in seeds:
        cells = [
            ("few_shot", k, k, method)
            for k in p.shots
            for method in (*DIGIT_METHODS, *OWN_METHODS)
            if method not in SHOTS_ALONE or k <= FEW
        ]
        cells += [("only_generated", p.only_shots, k, method) for k in p.only_generated for method in FEWER_METHODS]
        cells += [("many_generated", k, p.many, method) for k in p.many_shots for method in FEWER_METHODS]
        for section, shots, count, method in cells:
            name = f"{section}/shots{shots}_generated{count}/{method}_seed{seed}"
            items[name] = Item(partial(measure, digits, section, shots, count, method, seed), made_of[method])
    return items


def measure(digits: Digits, section: str, shots: int, count: int, method: str, seed: int) -> list[Row]:
    """Weighted F1 of the small network trained on the shots and generated pictures, or on these alone.

    All methods of a section, number of shots and `count` take the same number of steps; `none` has the shots alone.
    """
    made, labels = digits.generate(method, shots, count, seed)
    x, y = digits.few(shots, seed)
    alone = section == "only_generated"
    if not alone or method == "none":
        made, labels = torch.cat([x, made]), torch.cat([y, labels])
    test = (digits.test[0].numpy(), digits.test[1].numpy())
    network = digits.p.network.for_examples(len(y.unique()) * (count if alone else shots + count))
    kept, at = digits.baselines if method == "none" else {}, (shots, network.steps, seed)
    if at not in kept:
        kept[at] = fit_and_measure("network", network, seed, (made.numpy(), labels.numpy()), test)
    generated = 0 if method == "none" and not alone else count
    return [row(section, "mnist", method, seed, kept[at], shots=shots, generated=generated, beta=str(digits.p.beta))]


def vae_made_of(digits: Digits, method: str) -> dict[str, Any]:
    """What the pictures that `Digits.generate` makes depend on, but for MNIST, their number and the seed."""
    if method == "none":
        return {}
    of = {"gc": ("fit", "network")} | dict.fromkeys(SHOTS_ALONE, ("multi",)) | dict.fromkeys(MULTI, ("multi", "mix_in"))
    fields = {"latent", "beta", "width", *of.get(method, ("fit",))}
    return {
        "vae": [VERSION, fitting.VERSION], "mnist": digits.p.model_dump(mode="json", include=fields),
        "sampling": digits.sampling.model_dump(),
    }  # fmt: skip
