"""PROBEN1: prior samples of one VAE per class beside the official training data, and thyroid with few examples."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from thesis_lib.datasets.proben1 import AttributeTable, read_proben1
from thesis_lib.evaluation.generative import genuineness, surer_half
from thesis_lib.randomness import derive_seed, numpy_generator, torch_generator
from thesis_lib.vae import fitting
from thesis_lib.vae.classifiers import SmallNetwork, fit_and_measure
from thesis_lib.vae.fitting import class_members, fit
from thesis_lib.vae.models import TableVAE, codes, normalised_beta
from thesis_lib.vae.parameters import VaeParameters
from thesis_lib.vae.published import PUBLISHED_SETS
from thesis_lib.vae.sampling import draw_codes, normal
from thesis_lib.vae.work import Item, Items, Row, row

FEW_SHOT_SET = "thyroid"
VERSION = 2
"""Part of what these tables are made of: raise it when the code here measures differently."""


def permutation_of(seed: int) -> int:
    """Which of a set's three permutations, and so which official split, a seed uses."""
    return seed % 3 + 1


def standardised(table: AttributeTable, train: np.ndarray) -> Tensor:
    """The examples with continuous attributes of mean 0 and standard deviation 1 among the training ones.

    Args:
        table: n examples.
        train: (n,) bool or rows: the training examples.

    Returns:
        (n, columns). Missing values stay 0; an attribute with one value only is 0 throughout the training examples.
    """
    x = torch.from_numpy(table.x.copy())
    for attribute in table.attributes:
        if attribute.kind != "continuous":
            continue
        column = x[:, attribute.start]
        there = torch.ones_like(column) if attribute.missing is None else 1 - x[:, attribute.missing]
        known = column[train][there[train] > 0]
        spread = known.std(correction=0) if len(known) else torch.zeros(())
        centre = known.mean() if len(known) else torch.zeros(())
        x[:, attribute.start] = (column - centre) / (spread if spread > 1e-6 else 1.0) * there
    return x


def noised(x: Tensor, table: AttributeTable, variance: float, change: float, seed: int) -> Tensor:
    """Bad examples for a table: noise on numbers that are there, other values at random in the other attributes.

    Args:
        x: (n, columns) standardised examples.
        table: Tells what the columns are.
        variance: Of the normal noise on continuous attributes.
        change: Probability that a binary or nominal attribute gets the value of another example.
        seed: Seeds everything.
    """
    generator = torch_generator(seed, "noised")
    bad = x.clone()
    for attribute in table.attributes:
        columns = slice(attribute.start, attribute.start + attribute.width)
        if attribute.kind == "continuous":
            noise = variance**0.5 * torch.randn(len(x), generator=generator)
            there = 1.0 if attribute.missing is None else 1 - x[:, attribute.missing]
            bad[:, attribute.start] += noise * there
        else:
            others = x[torch.randint(len(x), (len(x),), generator=generator), columns]
            changed = torch.rand(len(x), 1, generator=generator) < change
            bad[:, columns] = torch.where(changed, others, x[:, columns])
    return bad


def counts_to_generate(labels: Tensor, balance: bool) -> list[int]:
    """How many examples of each class are generated: as many as there are, or so many that all classes end equal.

    Balanced, every class ends with twice the largest one's examples, so that the largest is doubled, too.
    """
    counts = torch.bincount(labels)
    return (2 * counts.max() - counts if balance else counts).tolist()


def repeated_rows(labels: Tensor, counts: Sequence[int], seed: int) -> Tensor:
    """Rows of real examples, so many of each class, each as often as any other of its class but for one time."""
    chosen = []
    for label, count in enumerate(counts):
        rows = (labels == label).nonzero().flatten()
        order = rows[torch.randperm(len(rows), generator=torch_generator(seed, "repeated", label))]
        chosen.append(order[torch.arange(count) % len(rows)])
    return torch.cat(chosen)


def weight_of(beta: float | str, latent: int, table: AttributeTable) -> float:
    """The weight of the KL term: `norm` is beta = 1 normalised by the number of attributes."""
    return normalised_beta(1.0, latent, len(table.attributes)) if beta == "norm" else float(beta)


def table_items(p: VaeParameters, folder: Path) -> Items:
    """The work list: an item a set and seed, and one a number of examples and seed; VAEs are kept in `folder`."""
    made_of = _made_of(p)
    sets = {
        f"{name}/seed{s}": Item(partial(whole_set, p, name, s, folder), made_of)
        for name in p.proben1.sets
        for s in p.seeds
    }
    few = {
        f"few_shot/shots{shots}/seed{s}": Item(partial(few_examples, p, shots, s, folder), made_of)
        for shots in p.proben1.few_shot
        for s in p.seeds
    }
    return sets | few


def _made_of(p: VaeParameters) -> dict[str, Any]:
    sha = hashlib.sha256()
    for file in sorted(Path(str(p.proben1.root)).glob("*/*[123].dt")):
        sha.update(file.name.encode() + file.read_bytes())
    section = p.proben1.model_dump(mode="json", exclude={"root", "sets", "few_shot"})
    return {
        "version": [VERSION, fitting.VERSION],
        "proben1": section, "sampling": p.sampling.model_dump(), "network": p.network.model_dump(),
        "data": sha.hexdigest()[:16],
    }  # fmt: skip


def whole_set(p: VaeParameters, name: str, seed: int, folder: Path) -> list[Row]:
    """All rows of a set and seed: without generated data, with a VAE's, and with those that pass for real.

    Where classes are balanced, generated examples also balance them; `repeated`, real examples in their place, shows
    what that gives by itself.
    """
    table = read_proben1(str(p.proben1.root), name, permutation_of(seed))
    train = table.split == "train"
    x, y = standardised(table, train), torch.from_numpy(table.y)
    settings = PUBLISHED_SETS[name]
    counts = counts_to_generate(y[train], settings.balance)
    generated = _prior_samples(
        p, table, x[train], y[train], counts,
        p.proben1.mix_in if settings.mix_in else 0.0, p.proben1.betas, seed, folder / f"{name}_seed{seed}.safetensors",
    )  # fmt: skip
    again = repeated_rows(y[train], counts, seed)
    generated["repeated", ""] = (x[train][again], y[train][again])
    test = (x[table.split == "test"].numpy(), table.y[table.split == "test"])
    real = (x[train].numpy(), table.y[train])
    rows = _measured(p, "proben1", name, seed, real, generated, test)
    for classifier in p.proben1.classifiers:
        value = fit_and_measure(classifier, p.network, seed, real, real)
        rows.append(row("proben1", name, "none", seed, value, classifier=classifier, metric="f1_training"))
    return rows


def few_examples(p: VaeParameters, shots: int, seed: int, folder: Path) -> list[Row]:
    """All rows of thyroid with few examples a class and as many generated, as above and from one VAE for all classes.

    The smallest class of the training split has 82 to 84 examples: where more are asked for it gives what it has.
    """
    table = read_proben1(str(p.proben1.root), FEW_SHOT_SET, permutation_of(seed))
    chosen = few_of_each(table.y, np.flatnonzero(table.split == "train"), shots, seed)
    x, y = standardised(table, chosen), torch.from_numpy(table.y)
    real_x, real_y = x[chosen], y[chosen]
    weight, file = p.proben1.betas[:1], folder / f"few_shot_{shots}_seed{seed}.safetensors"
    counts = [shots] * table.classes
    generated = _prior_samples(p, table, real_x, real_y, counts, p.proben1.few_shot_mix_in, weight, seed, file)
    generated |= _from_one_vae(p, table, real_x, real_y, shots, seed, file.with_stem(f"{file.stem}_single"))
    test = (x[table.split == "test"].numpy(), table.y[table.split == "test"])
    real = (real_x.numpy(), real_y.numpy())
    return _measured(p, "few_shot_table", FEW_SHOT_SET, seed, real, generated, test, shots=shots)


def few_of_each(labels: np.ndarray, among: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Rows of so many examples of every class, fewer where there are fewer; a smaller choice is part of a larger one.

    Args:
        labels: (n,) of all examples.
        among: Rows that may be chosen.
        shots: Examples a class.
        seed: Seeds which.
    """
    chosen = []
    for label in np.unique(labels):
        rows = among[labels[among] == label]
        chosen.append(numpy_generator(seed, "few", int(label)).permutation(rows)[:shots])
    return np.concatenate(chosen)


Generated = dict[tuple[str, str], tuple[Tensor, Tensor]]
"""Method and beta -> generated examples and their labels."""


def _vae(p: VaeParameters, table: AttributeTable, stack: int) -> TableVAE:
    return TableVAE(table.attributes, table.x.shape[1], p.proben1.latent, p.proben1.hidden, stack)


def _prior_samples(
    p: VaeParameters, table: AttributeTable, x: Tensor, y: Tensor, counts: list[int], mix_in: float,
    betas: Sequence[float | str], seed: int, file: Path,
) -> Generated:  # fmt: skip
    """Multi-VAE: a VAE a class and beta, all trained at once, decodes codes from the prior, twice as many as asked for.

    `vae` takes the first half of them, `vae_gc` the half judged most real.
    """
    q, members = p.proben1, class_members(y, mix_in, seed)
    weights = [weight_of(beta, q.latent, table) for beta in betas for _ in members]
    stacked = [[member] for _ in betas for member in members]
    model, _ = fit(partial(_vae, p, table, len(stacked)), x, stacked, weights, q.fit, seed, file)
    z = torch.stack([
        normal(2 * max(counts), q.latent, 1.0, torch_generator(seed, "prior", i)) for i in range(len(stacked))
    ])  # fmt: skip
    with torch.no_grad():
        made = model.likelihood.sample(model.decode(z), torch_generator(seed, "attributes"))
    bad = noised(x, table, q.bad_noise, q.bad_change, seed)
    judge = SmallNetwork(p.network, derive_seed(seed, "genuine"))  # starts unlike the one that is tested
    scores = genuineness(made.flatten(0, 1).numpy(), x.numpy(), bad.numpy(), judge).reshape(made.shape[:2])
    found: Generated = {}
    for place, beta in enumerate(betas):
        plain, kept, labels = [], [], []
        for label, count in enumerate(counts):
            member = place * len(counts) + label
            plain.append(made[member, :count])
            score = pd.Series(scores[member, : 2 * count])
            kept.append(made[member, : 2 * count][torch.tensor(surer_half(score, [0] * (2 * count)).to_numpy())])
            labels.append(torch.full((count,), label))
        for method, parts in (("vae", plain), ("vae_gc", kept)):
            found[method, str(beta)] = (torch.cat(parts), torch.cat(labels))
    return found


def _from_one_vae(
    p: VaeParameters, table: AttributeTable, x: Tensor, y: Tensor, shots: int, seed: int, file: Path
) -> Generated:
    """Single VAE: one for all classes, without labels; codes between neighbours, with noise, keep their sources'.

    It takes as many steps as the VAEs of all classes together.
    """
    q = p.proben1
    weight = weight_of(q.betas[0], q.latent, table)
    model, _ = fit(
        partial(_vae, p, table, 1), x, [[torch.arange(len(x))]], [weight], q.fit.times(table.classes), seed, file
    )
    z, labels = draw_codes("interpolation_noise", *codes(model, x), y, shots, p.sampling, seed)
    with torch.no_grad():
        made = model.likelihood.sample(model.decode(z[None]), torch_generator(seed, "attributes"))[0]
    return {("from_shots", str(q.betas[0])): (made, labels)}


def _measured(
    p: VaeParameters, section: str, name: str, seed: int, real: tuple[np.ndarray, np.ndarray], generated: Generated,
    test: tuple[np.ndarray, np.ndarray], shots: int = 0,
) -> list[Row]:  # fmt: skip
    """Weighted F1 of every classifier on the real examples and on those with generated ones.

    The rows' column `generated` is the mean over classes, which may have different numbers.
    """
    nothing = (torch.empty(0, real[0].shape[1]), torch.empty(0, dtype=torch.long))
    network = p.network.for_examples(len(real[0]) + max(len(made) for made, _ in generated.values()))
    rows = []
    for (method, beta), (made, labels) in ({("none", ""): nothing} | generated).items():
        train = (np.concatenate([real[0], made.numpy()]), np.concatenate([real[1], labels.numpy()]))
        a_class = round(len(made) / len(np.unique(real[1])))
        for classifier in p.proben1.classifiers:
            value = fit_and_measure(classifier, network, seed, train, test)
            rows.append(
                row(section, name, method, seed, value, shots=shots, generated=a_class, beta=beta,
                    classifier=classifier)
            )  # fmt: skip
    return rows
