"""Dense beta-VAEs for tables, convolutional ones for pictures.

Kingma and Welling 2014 (arXiv 1312.6114), Higgins et al. 2017 (beta-VAE, ICLR).

A dense one is a stack of several networks of one size, trained at once because each alone is too small to keep a
processor busy. Equation numbers are the source's.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thesis_lib.datasets.proben1 import Attribute

SMALLEST_LOG_VARIANCE = math.log(0.01)
"""No number is known better than to a tenth of its standard deviation: with few or constant values the likelihood would
grow without end."""


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL[N(mean, diag(variance)) || N(0, I)] in nats, over the last dimension (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1)


def normalised_beta(beta: float, latent: int, inputs: int) -> float:
    """Equation 2: beta_norm = beta * d / N with d latent dimensions and N inputs (attributes, or pixels x channels)."""
    return beta * latent / inputs


def posterior_sample(mean: Tensor, log_variance: Tensor, standard_normal: Tensor) -> Tensor:
    """Draw z ~ N(mean, diag(variance)) from standard normal numbers of the same shape."""
    return mean + (0.5 * log_variance).exp() * standard_normal


class AttributeLikelihood(nn.Module):
    """p(x | z) of examples with continuous, binary and nominal attributes, independent given z.

    Continuous: normal, with a variance that is learned for each attribute; a missing value has no likelihood, that it
    is missing has one. Binary: Bernoulli. Nominal: categorical over its one-hot columns.

    Args:
        attributes: What the columns mean.
        stack: Networks.
    """

    def __init__(self, attributes: Sequence[Attribute], stack: int = 1) -> None:
        super().__init__()
        numbers = [a for a in attributes if a.kind == "continuous"]
        flags = [a.missing for a in numbers if a.missing is not None]
        self.numbers = torch.tensor([a.start for a in numbers], dtype=torch.long)
        self.with_flag = torch.tensor([i for i, a in enumerate(numbers) if a.missing is not None], dtype=torch.long)
        self.flags = torch.tensor(flags, dtype=torch.long)
        self.binaries = torch.tensor([*(a.start for a in attributes if a.kind == "binary"), *flags], dtype=torch.long)
        nominal = [a for a in attributes if a.kind == "nominal"]
        self.nominals = [  # attributes of one width together: a loop over sixty nucleotides would be slow
            torch.tensor([range(a.start, a.start + width) for a in nominal if a.width == width])
            for width in sorted({a.width for a in nominal})
        ]
        self.raw_log_variance = nn.Parameter(torch.zeros(stack, len(numbers)))

    @property
    def log_variance(self) -> Tensor:
        """(stack, numbers), bounded below."""
        return self.raw_log_variance.clamp_min(SMALLEST_LOG_VARIANCE)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log p(x | z) in nats: outputs (means, logits) and x (stack, n, columns) to (stack, n)."""
        log_variance = self.log_variance[:, None]
        error = (x - outputs)[..., self.numbers].square() / log_variance.exp()
        normal = -0.5 * (error + log_variance + math.log(2 * math.pi))
        if len(self.flags):
            present = torch.ones_like(normal)
            present[..., self.with_flag] = 1 - x[..., self.flags]
            normal = normal * present
        total = normal.sum(-1)
        bits = F.binary_cross_entropy_with_logits(outputs[..., self.binaries], x[..., self.binaries], reduction="none")
        total = total - bits.sum(-1)
        for groups in self.nominals:
            total = total + (outputs[..., groups].log_softmax(-1) * x[..., groups]).sum((-1, -2))
        return total

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw x ~ p(x | z): (stack, n, columns) to the same shape, whole examples in the data's own code."""
        x = torch.zeros_like(outputs)
        normal = torch.randn(*outputs.shape[:2], len(self.numbers), generator=generator)
        x[..., self.numbers] = outputs[..., self.numbers] + (0.5 * self.log_variance[:, None]).exp() * normal
        uniform = torch.rand(*outputs.shape[:2], len(self.binaries), generator=generator)
        x[..., self.binaries] = (uniform < outputs[..., self.binaries].sigmoid()).float()
        for groups in self.nominals:
            chances = outputs[..., groups].softmax(-1)
            drawn = torch.multinomial(chances.flatten(0, -2), 1, generator=generator).view(chances.shape[:-1])
            x[..., groups] = F.one_hot(drawn, groups.shape[1]).to(x.dtype)
        if len(self.flags):
            numbers = self.numbers[self.with_flag]
            x[..., numbers] = x[..., numbers] * (1 - x[..., self.flags])
        return x


class StackedLinear(nn.Module):
    """So many linear layers beside each other, each for its own network of the stack.

    Args:
        stack: Networks.
        inputs, outputs: Widths.
    """

    def __init__(self, stack: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as torch's own linear layers
        self.weight = nn.Parameter(torch.empty(stack, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(stack, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(stack, n, inputs) to (stack, n, outputs)."""
        return torch.baddbmm(self.bias, x, self.weight)


class TableVAE(nn.Module):
    """A stack of dense VAEs for examples with attributes.

    Args:
        attributes: What the columns of the examples mean.
        columns: Their number.
        latent: Latent dimensions d.
        hidden: Units of both hidden layers of encoder and decoder.
        stack: Networks.
    """

    def __init__(self, attributes: Sequence[Attribute], columns: int, latent: int, hidden: int, stack: int = 1) -> None:
        super().__init__()
        self.latent, self.stack = latent, stack
        self.encoder = _dense(stack, columns, hidden, 2 * latent)
        self.decoder = _dense(stack, latent, hidden, columns)
        self.likelihood = AttributeLikelihood(attributes, stack)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x): (stack, n, columns) to two of (stack, n, latent)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return mean, log_variance.clamp(-12, 12)

    def decode(self, z: Tensor) -> Tensor:
        """The likelihood's parameters: (stack, n, latent) to (stack, n, columns)."""
        return self.decoder(z)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log p(x | z) in nats: (stack, n)."""
        return self.likelihood.log_prob(outputs, x)


def _dense(stack: int, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        StackedLinear(stack, inputs, hidden), nn.ReLU(), StackedLinear(stack, hidden, hidden), nn.ReLU(),
        StackedLinear(stack, hidden, outputs),
    )  # fmt: skip


class PictureVAE(nn.Module):
    """A convolutional VAE; a stack of one.

    Pixels with one channel are grey values between ink and none and get Bernoulli's cross entropy, the field's usual
    choice, though not a density of numbers between 0 and 1 (Loaiza-Ganem and Cunningham 2019, arXiv 1907.06845); those
    with three get a normal distribution of variance 1, so that beta is as good as the pixels' variance.

    Args:
        channels: 1 or 3.
        side: Side of the pictures; the convolutions halve it while it is even and above 8.
        latent: Latent dimensions d.
        width: Channels of the first convolution; each following one has twice as many.
    """

    def __init__(self, channels: int, side: int, latent: int, width: int) -> None:
        super().__init__()
        self.latent, self.stack, self.shape = latent, 1, (channels, side, side)
        widths, small = [channels], side
        while small > 8 and small % 2 == 0:
            widths, small = [*widths, width * 2 ** (len(widths) - 1)], small // 2
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for before, after in pairwise(widths):
            down += [nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()]
            up = [nn.ReLU(), nn.ConvTranspose2d(after, before, 4, 2, 1), *up]
        flat = widths[-1] * small**2
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, flat), nn.Unflatten(1, (widths[-1], small, small)), *up)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x): (1, n, channels, side, side) in [0, 1] to two of (1, n, latent)."""
        mean, log_variance = self.encoder(x[0]).chunk(2, dim=-1)
        return mean[None], log_variance[None].clamp(-12, 12)

    def decode(self, z: Tensor) -> Tensor:
        """Mean pixels, of one channel their logits: (1, n, latent) to (1, n, channels, side, side)."""
        return self.decoder(z[0])[None]

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log p(x | z) in nats, the normal one without its constant: (1, n)."""
        if self.shape[0] == 1:
            return -F.binary_cross_entropy_with_logits(outputs, x, reduction="none").flatten(2).sum(-1)
        return -0.5 * (x - outputs).square().flatten(2).sum(-1)

    @torch.no_grad()
    def pictures(self, z: Tensor) -> Tensor:
        """Mean pictures of codes (n, latent): (n, channels, side, side) in [0, 1]."""
        parts = [self.decode(part[None])[0] for part in z.split(512)]
        outputs = torch.cat(parts) if parts else torch.empty(0, *self.shape)
        return outputs.sigmoid() if self.shape[0] == 1 else outputs.clamp(0, 1)


@torch.no_grad()
def codes(model: TableVAE | PictureVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance (n, latent) of the codes of n examples, from the first network of the stack."""
    parts = [model.encode(part.expand(model.stack, *part.shape)) for part in x.split(512)]
    mean, log_variance = (torch.cat([part[i][0] for part in parts]) for i in (0, 1))
    return mean, log_variance


def objective(model: TableVAE | PictureVAE, x: Tensor, beta: Tensor, standard_normal: Tensor) -> Tensor:
    """Equation 1, to be minimised: the mean over examples of -log p(x | z) + beta * KL, one z an example.

    Args:
        model: The networks.
        x: (stack, n, ...).
        beta: (stack,), normalised where it is to be.
        standard_normal: (stack, n, latent).

    Returns:
        (stack,) in nats.
    """
    mean, log_variance = model.encode(x)
    outputs = model.decode(posterior_sample(mean, log_variance, standard_normal))
    return (beta[:, None] * kl_divergence(mean, log_variance) - model.log_prob(outputs, x)).mean(1)
