"""New latent codes from those of real examples: the source's equations, named as there."""

import torch
from torch import Tensor

from thesis_lib.errors import ThesisError
from thesis_lib.randomness import torch_generator
from thesis_lib.vae.models import posterior_sample
from thesis_lib.vae.parameters import SamplingName, SamplingParameters


def normal(count: int, latent: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draw z ~ N(0, alpha) with alpha the variance: (count, latent)."""
    return alpha**0.5 * torch.randn(count, latent, generator=generator)


def towards(mean: Tensor, neighbour: Tensor, alpha: float) -> Tensor:
    """The code alpha * (mu(x_k) - mu(x_i)) + mu(x_i): positive alpha interpolates, negative alpha extrapolates."""
    return alpha * (neighbour - mean) + mean


def nearest_of_class(means: Tensor, labels: Tensor, k: int) -> list[Tensor]:
    """The nearest few other examples of the same class, by Euclidean distance in latent space, nearest first.

    Args:
        means: (n, latent).
        labels: (n,).
        k: At least 1; all others where there are fewer.

    Returns:
        For each example the rows of its neighbours; those of examples of one class are equally many.

    Raises:
        ThesisError: A class has one example, which has no neighbour.
    """
    found: list[Tensor] = [torch.empty(0)] * len(labels)
    for label in labels.unique().tolist():
        rows = torch.nonzero(labels == label)[:, 0]
        if len(rows) < 2:
            raise ThesisError(
                f"class {label} has one example, so that it has no neighbour to inter- or extrapolate to: give it two, "
                "or sample with noise"
            )
        distances = torch.cdist(means[rows], means[rows]).fill_diagonal_(torch.inf)
        near = distances.topk(min(k, len(rows) - 1), largest=False).indices
        for row, others in zip(rows.tolist(), rows[near], strict=True):
            found[row] = others
    return found


def draw_codes(
    method: SamplingName,
    means: Tensor,
    log_variances: Tensor,
    labels: Tensor,
    per_class: int,
    p: SamplingParameters,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Codes made from those of real examples, each with the label of the example it started from.

    `noise` starts at a sample z_i of the example's posterior, the others at its mean; the neighbour x_k is one of the
    nearest few of the same class, drawn at random. `..._noise` adds N(0, alpha) to the moved code.

    Args:
        method: Which; codes from the prior are none of them, they have no example and so no label.
        means: (n, latent) of the real examples' posteriors.
        log_variances: (n, latent).
        labels: (n,).
        per_class: Codes a class; sources are taken equally often, in random order.
        p: Neighbours and both alphas.
        seed: Seeds everything; a class's draws do not depend on the other classes.

    Returns:
        (m, latent) and their labels (m,), class by class.

    Raises:
        ThesisError: A class has one example, and the method needs neighbours.
    """
    neighbours = None if method == "noise" else nearest_of_class(means, labels, p.neighbours)
    parts, names = [], []
    for label in labels.unique().tolist():
        rows = torch.nonzero(labels == label)[:, 0]
        generator = torch_generator(seed, "codes", method, label)
        turns = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(-(-per_class // len(rows)))]
        sources = torch.cat(turns)[:per_class]
        mean = means[sources]
        if neighbours is None:
            z = posterior_sample(mean, log_variances[sources], torch.randn(mean.shape, generator=generator))
        else:
            choice = torch.randint(len(neighbours[int(rows[0])]), (per_class,), generator=generator)
            partners = torch.stack([neighbours[int(i)][c] for i, c in zip(sources, choice, strict=True)])
            z = towards(mean, means[partners], p.step if method.startswith("interpolation") else -p.step)
        if method.endswith("noise"):
            z = z + normal(per_class, z.shape[1], p.noise, generator)
        parts.append(z)
        names.append(torch.full((per_class,), label))
    return torch.cat(parts), torch.cat(names)
