"""What is looked at: latent spaces, lines within a class, sweeps over dimensions, and a number for blur."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from thesis_lib.randomness import torch_generator
from thesis_lib.tensors import tensor_digest
from thesis_lib.vae import fitting
from thesis_lib.vae.benches import Bench, PartsBench, as_bytes, in_colour
from thesis_lib.vae.digits import Digits, vae_made_of
from thesis_lib.vae.fitting import fit
from thesis_lib.vae.harness import sources_of
from thesis_lib.vae.models import PictureVAE, codes, kl_divergence, normalised_beta
from thesis_lib.vae.parameters import CelebaParameters, MnistParameters
from thesis_lib.vae.published import DIGIT_METHODS
from thesis_lib.vae.sampling import normal
from thesis_lib.vae.work import Item, Items, Row, row

VERSION = 2
"""Part of what the numbers for blur are made of: raise it when the code here measures differently."""


def latent_maps(digits: Digits, seed: int, points: int = 2000) -> tuple[dict[float, np.ndarray], np.ndarray]:
    """Two-dimensional codes of so many test pictures for each of the betas, beta -> (n, 2); their labels."""
    p: MnistParameters = digits.p
    everything = [[torch.arange(len(digits.train[0]))]]
    found = {}
    for beta in p.map_betas:
        build = partial(PictureVAE, 1, digits.train[0].shape[-1], 2, p.width)
        file = digits.folder / f"mnist_map_beta{beta:g}_seed{seed}.safetensors"
        model, _ = fit(build, digits.train[0], everything, [beta], p.map_fit, seed, file)
        found[beta] = codes(model, digits.test[0][:points])[0].numpy()
    return found, digits.test[1][:points].numpy()


def line_between(model: PictureVAE, first: Tensor, second: Tensor, steps: int) -> Tensor:
    """The pictures on the line between two pictures' codes, both ends included: (steps, channels, side, side)."""
    mean, _ = codes(model, torch.stack([first, second]))
    return model.pictures(torch.lerp(mean[:1], mean[1:], torch.linspace(0, 1, steps)[:, None]))


def digit_lines(digits: Digits, seed: int, labels: Sequence[int] = (2, 4, 8), steps: int = 9) -> Tensor:
    """For each label the line between two pictures of it, under the single VAE: (labels * steps, 3, side, side) uint8.

    Labels that the digits lack are left out.
    """
    x, y = digits.few(2, seed)
    ends = [x[y == label] for label in labels if (y == label).sum() == 2]
    lines = [line_between(digits.single(seed)[0], pair[0], pair[1], steps) for pair in ends]
    return in_colour(torch.cat(lines))


def digit_samples(digits: Digits, seed: int) -> dict[str, Tensor]:
    """One picture a class as each way of sampling makes it from `only_shots` originals, which come first.

    Returns:
        `original` or a way -> (classes, 3, side, side) uint8.
    """
    shots = digits.p.only_shots
    shown = {"original": digits.few(shots, seed)[0][::shots]}
    shown |= {way: digits.generate(way, shots, 1, seed)[0] for way in DIGIT_METHODS if way != "none"}
    return {name: in_colour(pictures) for name, pictures in shown.items()}


def bench_samples(bench: Bench, seed: int, classes: int = 5, each: int = 2) -> dict[str, Tensor]:
    """Pictures of the first classes as the harness trains on them: shots and what was made, but for a half at random.

    Returns:
        `original` or a source -> (classes * each, 3, side, side) uint8, class by class; fewer of each where one has
        fewer.
    """
    sources = [source for source in sources_of(bench, seed)[0] if source != "da_fusion_half"]
    sets = {"original": bench.shots(seed)} | {source: bench.made(source, seed) for source in sources}
    each = min(each, *(int(labels.bincount().min()) for _, labels in sets.values()))
    return {
        name: torch.cat([pictures[labels == label][:each] for label in range(min(classes, int(labels.max()) + 1))])
        for name, (pictures, labels) in sets.items()
    }


def held_out(faces: Tensor) -> tuple[Tensor, Tensor]:
    """Faces (n, ...) that train the VAEs and those that are looked at: a tenth, at most 500, at random but the same.

    By their order, a folder of several sources would be looked at by the first one's.
    """
    order = torch.randperm(len(faces), generator=torch_generator(0, "held out"))
    count = max(1, min(500, len(faces) // 10))
    return faces[order[count:]], faces[order[:count]]


def face_vae(p: CelebaParameters, faces: Tensor, beta: float, seed: int, folder: Path) -> PictureVAE:
    """A VAE of faces (n, 3, side, side) uint8 whose KL term has the weight beta_norm = beta * d / N."""
    weight = normalised_beta(beta, p.latent, faces[0].numel())
    build = partial(PictureVAE, 3, faces.shape[-1], p.latent, p.width)
    file = folder / f"faces_beta{beta:g}_seed{seed}.safetensors"
    return fit(build, faces, [[torch.arange(len(faces))]], [weight], p.fit, seed, file)[0]


def information(model: PictureVAE, pictures: Tensor) -> Tensor:
    """Nats that each latent dimension carries: the mean KL divergence of its posteriors from the prior, (latent,)."""
    mean, log_variance = codes(model, pictures)
    return kl_divergence(mean[..., None], log_variance[..., None]).mean(0)


def sweeps(model: PictureVAE, picture: Tensor, dimensions: Tensor, reach: float = 2.5, steps: int = 9) -> Tensor:
    """A picture (channels, side, side) with one code dimension at a time swept from -reach to reach, the others fixed.

    Returns:
        (dimensions, steps, channels, side, side) in [0, 1].
    """
    mean, _ = codes(model, picture[None])
    z = mean.repeat(len(dimensions), steps, 1)
    for line, dimension in enumerate(dimensions.tolist()):
        z[line, :, dimension] = torch.linspace(-reach, reach, steps)
    return model.pictures(z.flatten(0, 1)).unflatten(0, z.shape[:2])


def face_sweeps(
    models: Mapping[float, PictureVAE], face: Tensor, nats: Mapping[float, Tensor], most: int
) -> dict[tuple[float, int, float], Tensor]:
    """Sweeps of the dimensions of each VAE that carry most, the first the most.

    Args:
        models: beta -> VAE of faces.
        face: (3, side, side) uint8.
        nats: beta -> what `information` returns.
        most: Dimensions of each.

    Returns:
        (beta, dimension, its nats) -> (9, 3, side, side) uint8.
    """
    found = {}
    for beta, model in models.items():
        dimensions = nats[beta].argsort(descending=True)[:most]
        lines = as_bytes(sweeps(model, face.float() / 255, dimensions))
        for dimension, line in zip(dimensions.tolist(), lines, strict=True):
            found[beta, dimension, float(nats[beta][dimension])] = line
    return found


def edge_energy(pictures: Tensor) -> float:
    """Mean square of the discrete Laplacian of the grey values at half the size: what blur takes away first.

    At half the size, since a decoder's strided transposed convolutions leave a checkerboard of single pixels, which
    would count as sharpness: in the parts' reconstructions it is more than half of all edge energy at full size.

    Args:
        pictures: (n, channels, side, side) in [0, 1].
    """
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(F.avg_pool2d(pictures.mean(1, keepdim=True), 2), kernel).square().mean())


def sharpness(pictures: Tensor, originals: Tensor) -> float:
    """Edge energy of pictures relative to that of originals: 1 as sharp, 0 without any edge.

    A linear blur whose transfer function leaves half of the amplitude at the edges' frequencies gives 0.25.
    """
    return edge_energy(pictures) / edge_energy(originals)


def digit_blur_items(digits: Digits, seeds: Sequence[int]) -> Items:
    """The work list: sharpness of what the single VAE makes of digits, see `digit_blur`."""
    of = {"version": VERSION, "data": tensor_digest(*digits.train, *digits.test)} | vae_made_of(digits, "noise")
    return {f"mnist_seed{seed}": Item(partial(digit_blur, digits, seed), of) for seed in seeds}


def digit_blur(digits: Digits, seed: int, pictures: int = 1000) -> list[Row]:
    """Sharpness of test pictures as the single VAE and its early state give them back, and of codes from the prior."""
    x = digits.test[0][:pictures]
    trained, early = digits.single(seed)
    shown = {
        "reconstruction": trained.pictures(codes(trained, x)[0]),
        "early": early.pictures(codes(early, x)[0]),
        "prior": trained.pictures(normal(pictures, trained.latent, 1.0, torch_generator(seed, "blur"))),
    }
    return [_blur_row("mnist", method, seed, sharpness(made, x)) for method, made in shown.items()]


def part_blur_items(bench: PartsBench, seeds: Sequence[int]) -> Items:
    """The work list: sharpness of test pictures as the parts' VAE gives them back, and of what it and others made."""
    items: Items = {}
    for seed in seeds:
        own = bench.depends_on | {"version": VERSION}
        back = own | bench.made_of("vae", seed)
        items[f"parts_given_back_seed{seed}"] = Item(partial(_given_back, bench, seed), back)
        for source, made_of in sources_of(bench, seed)[0].items():
            items[f"parts_{source}_seed{seed}"] = Item(partial(_made_blur, bench, source, seed), own | made_of)
    return items


def _given_back(bench: PartsBench, seed: int) -> list[Row]:
    trained, early = bench.vaes(seed)
    unit = bench.tests["test"][0].float() / 255
    models = {"reconstruction": trained, "early": early}
    shown = {name: bench.seen(as_bytes(model.pictures(codes(model, unit)[0]))) for name, model in models.items()}
    return [_blur_row("parts", method, seed, sharpness(made.float() / 255, unit)) for method, made in shown.items()]


def _made_blur(bench: Bench, source: str, seed: int) -> list[Row]:
    made, shots = (pictures.float() / 255 for pictures in (bench.made(source, seed)[0], bench.shots(seed)[0]))
    return [_blur_row("parts", source, seed, sharpness(made, shots))]


def face_blur_items(
    p: CelebaParameters, models: Mapping[float, PictureVAE], faces: tuple[Tensor, Tensor], seed: int
) -> Items:
    """The work list: sharpness of held out faces as each beta's VAE gives them back.

    Args:
        p: The study's section.
        models: beta -> VAE.
        faces: Those it was trained on and those held out, each (n, 3, side, side) uint8.
        seed: The VAEs'.
    """
    section = p.model_dump(mode="json", exclude={"root", "dimensions", "betas"})
    made_of = {"version": [VERSION, fitting.VERSION], "celeba": section, "data": tensor_digest(*faces)}
    return {
        f"faces_beta{beta:g}_seed{seed}": Item(partial(_face_blur, model, faces[1], beta, seed), made_of)
        for beta, model in models.items()
    }


def _face_blur(model: PictureVAE, faces: Tensor, beta: float, seed: int) -> list[Row]:
    unit = faces.float() / 255
    given_back = model.pictures(codes(model, unit)[0])
    return [_blur_row("faces", "reconstruction", seed, sharpness(given_back, unit), f"{beta:g}")]


def _blur_row(data: str, method: str, seed: int, value: float, beta: str = "") -> Row:
    return row("blur", data, method, seed, value, metric="sharpness", classifier="", beta=beta)
