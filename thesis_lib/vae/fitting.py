"""Training VAEs: a stack at once, each network with its own examples, random numbers and beta."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from thesis_lib.errors import ThesisError
from thesis_lib.randomness import derive_seed, numpy_generator, torch_generator
from thesis_lib.tensors import made_once, tensor_digest
from thesis_lib.vae.models import PictureVAE, TableVAE, objective
from thesis_lib.vae.parameters import EarlyFitParameters, FitParameters

VERSION = 1
"""Part of what a kept VAE is made of: raise it when the code trains differently."""
Model = TypeVar("Model", TableVAE, PictureVAE)
BLOCK = 100
"""Steps whose random numbers are drawn at once."""


def class_members(labels: Tensor, mix_in: float, seed: int) -> list[Tensor]:
    """The training examples of one VAE per class: rows of the own class and, mixed in, of the others.

    Args:
        labels: (n,), every class from 0 on has an example.
        mix_in: Share of the others in a VAE's examples, in [0, 1); as many as there are, where they are too few.
        seed: Seeds which.

    Returns:
        For each class its rows, own ones first.
    """
    members = []
    for label in range(int(labels.max()) + 1):
        own, others = torch.nonzero(labels == label)[:, 0], torch.nonzero(labels != label)[:, 0]
        if not len(own):
            raise ThesisError(f"class {label} has no example to train a VAE with: take it out of the data")
        count = min(len(others), round(mix_in / (1 - mix_in) * len(own)))
        order = numpy_generator(seed, "mix in", label).permutation(len(others))[:count]
        members.append(torch.cat([own, others[order]]))
    return members


def fit(
    build: Callable[[], Model],
    x: Tensor,
    members: Sequence[Sequence[Tensor]],
    betas: Sequence[float],
    p: FitParameters,
    seed: int,
    file: Path,
) -> tuple[Model, Model]:
    """Train a stack of VAEs, or read it where it has been trained from the same.

    Args:
        build: Makes the networks; called with the seed set.
        x: (n, ...) examples; pictures in [0, 1], or as uint8, which are divided by 255.
        members: For each network of the stack the rows it learns from, in one or more pools; each pool gives an equal
            part of every batch, drawn with repeats.
        betas: For each network the weight of the KL term.
        p: Steps, batch, learning rate, and, where there is to be an early VAE, which one.
        seed: Seeds weights, batches and latent noise of the stack.
        file: Where the result is kept.

    Returns:
        The networks after the last step and the early ones (without one the first again), frozen, in evaluation mode.

    Raises:
        ThesisError: The loss is not finite, or the disk is full.
    """
    trained, early = (_initial(build, seed) for _ in range(2))
    made_of = {
        "version": VERSION, "fit": p.model_dump(mode="json"), "seed": seed, "betas": list(betas),
        "examples": [tensor_digest(x), str(x.dtype), *x.shape],
        "members": [[tensor_digest(pool) for pool in pools] for pools in members],
        "model": str(trained), "shapes": {name: list(value.shape) for name, value in trained.state_dict().items()},
    }  # fmt: skip

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        snapshot = _train(trained, x, members, torch.tensor(betas, dtype=torch.float32), p, seed, file.stem)
        tensors = {f"early.{name}": value for name, value in snapshot.items()}
        return tensors | {f"trained.{name}": value for name, value in trained.state_dict().items()}, {}

    kept, _ = made_once(file, made_of, make)
    for name, model in (("trained", trained), ("early", early)):
        prefix = f"{name}."
        model.load_state_dict({k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)})
        model.eval().requires_grad_(False)
    return trained, early


def _initial(build: Callable[[], Model], seed: int) -> Model:
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "vae"))
        return build()


def _train(
    model: TableVAE | PictureVAE, x: Tensor, members: Sequence[Sequence[Tensor]], betas: Tensor, p: FitParameters,
    seed: int, name: str,
) -> dict[str, Tensor]:  # fmt: skip
    """Train in place; returns the state after the early share of the steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=p.learning_rate)
    generators = [torch_generator(seed, "vae", member) for member in range(model.stack)]
    early = max(1, round(p.early * p.steps)) if isinstance(p, EarlyFitParameters) else p.steps
    snapshot: dict[str, Tensor] = {}
    bar = tqdm(range(p.steps), desc=name, mininterval=1, leave=False)
    for step in bar:
        if step % BLOCK == 0:
            rows, noise = _draw(members, p.batch, min(BLOCK, p.steps - step), model.latent, generators)
        examples = x[rows[:, step % BLOCK]]
        examples = examples.float() / 255 if x.dtype == torch.uint8 else examples
        losses = objective(model, examples, betas, noise[:, step % BLOCK])
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
        if step + 1 == early:
            snapshot = {key: value.clone() for key, value in model.state_dict().items()}
        if step % BLOCK == 0 or step + 1 == p.steps:
            if not bool(losses.isfinite().all()):
                raise ThesisError(f"{name}: the VAE's loss is not finite after {step} steps: lower its learning_rate")
            bar.set_postfix(loss=f"{losses.mean().item():.3f}")
    return snapshot


def _draw(
    members: Sequence[Sequence[Tensor]], batch: int, steps: int, latent: int, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Rows (stack, steps, batch) and standard normal numbers (stack, steps, batch, latent) of the next steps."""
    rows, noise = [], []
    for pools, generator in zip(members, generators, strict=True):
        sizes = [batch // len(pools) + (i < batch % len(pools)) for i in range(len(pools))]
        drawn = [
            pool[torch.randint(len(pool), (steps, size), generator=generator)]
            for pool, size in zip(pools, sizes, strict=True)
        ]
        rows.append(torch.cat(drawn, dim=1))
        noise.append(torch.randn(steps, batch, latent, generator=generator))
    return torch.stack(rows), torch.stack(noise)
