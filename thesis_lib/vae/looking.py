"""What is looked at: latent spaces, lines within a class, sweeps over dimensions, and a number for blur."""

from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from thesis_lib.errors import ThesisError
from thesis_lib.randomness import torch_generator
from thesis_lib.vae.digits import Digits
from thesis_lib.vae.fitting import fit
from thesis_lib.vae.harness import Bench, part_vae
from thesis_lib.vae.models import PictureVAE, codes, kl_divergence, normalised_beta
from thesis_lib.vae.parameters import CelebaParameters, MnistParameters, VaeParameters
from thesis_lib.vae.sampling import normal
from thesis_lib.vae.work import Row, row


def latent_maps(digits: Digits, seed: int, points: int = 2000) -> dict[float, Tensor]:
    """Two-dimensional codes of the first so many test pictures, for each of the betas: beta -> (points, 2)."""
    p: MnistParameters = digits.p
    everything = [[torch.arange(len(digits.train[0]))]]
    found = {}
    for beta in p.map_betas:
        build = partial(PictureVAE, 1, digits.train[0].shape[-1], 2, p.width)
        file = digits.folder / f"mnist_map_beta{beta:g}_seed{seed}.safetensors"
        model, _ = fit(build, digits.train[0], everything, [beta], p.map_fit, seed, file)
        found[beta] = codes(model, digits.test[0][:points])[0]
    return found


def line_between(model: PictureVAE, first: Tensor, second: Tensor, steps: int) -> Tensor:
    """The pictures on the line between two pictures' codes, both ends included: (steps, channels, side, side)."""
    mean, _ = codes(model, torch.stack([first, second]))
    return model.pictures(torch.lerp(mean[:1], mean[1:], torch.linspace(0, 1, steps)[:, None]))


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


def edge_energy(pictures: Tensor) -> float:
    """Mean square of the discrete Laplacian of the grey values: what blur takes away first.

    Args:
        pictures: (n, channels, side, side) in [0, 1].
    """
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(pictures.mean(1, keepdim=True), kernel).square().mean())


def sharpness(pictures: Tensor, originals: Tensor) -> float:
    """Edge energy of pictures relative to that of originals: 1 as sharp, 0 without any edge.

    A linear blur whose transfer function leaves half of the amplitude at the edges' frequencies gives 0.25.
    """
    return edge_energy(pictures) / edge_energy(originals)


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


def part_blur(p: VaeParameters, bench: Bench, seed: int, folder: Path) -> list[Row]:
    """Sharpness of the parts' shots as their VAE gives them back, and of the pictures that the harness trains on."""
    real = bench.shots(seed)[0]
    unit = real.float() / 255
    trained, early = part_vae(p, real, seed, folder / f"parts_seed{seed}.safetensors")
    shown = {
        name: model.pictures(codes(model, unit)[0]) for name, model in (("reconstruction", trained), ("early", early))
    }
    for source in bench.sources:
        with suppress(ThesisError):  # the harness has said what cannot be had
            shown[source] = bench.made(source, seed)[0].float() / 255
    return [_blur_row("parts", method, seed, sharpness(made, unit)) for method, made in shown.items()]


def face_blur(model: PictureVAE, faces: Tensor, beta: float, seed: int) -> list[Row]:
    """Sharpness of faces (n, 3, side, side) uint8 as a VAE gives them back."""
    unit = faces.float() / 255
    return [
        _blur_row("faces", "reconstruction", seed, sharpness(model.pictures(codes(model, unit)[0]), unit), f"{beta:g}")
    ]


def _blur_row(data: str, method: str, seed: int, value: float, beta: str = "") -> Row:
    return row("blur", data, method, seed, value, metric="sharpness", classifier="", beta=beta)
