"""The source's network: five small convolutions, 32 features."""

import copy
import itertools

import numpy as np
import torch
from torch import nn

from thesis_lib.randomness import torch_generator
from thesis_lib.tensors import device_of

NUM_FEATURES = 32


class SmallNetwork(nn.Sequential):
    """The source's siamese network (section 5.3), layer by layer as its tables list it.

    Pictures come in [0, 1] and are normalised with mean 0.5 and standard deviation 0.5 first.

    Args:
        channels: Of the pictures.
        sigmoid: Whether features end in a sigmoid, as the source's; they then lie in the unit cube, where no cosine is
            below 0 and no distance above the root of 32.
    """

    def __init__(self, channels: int, sigmoid: bool = True) -> None:
        widths = (channels, 32, 64, 128, 256)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(itertools.pairwise(widths)):
            layers.append(nn.Conv2d(before, after, 2, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(after)] if index else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        layers.append(nn.Conv2d(256, 8, 2, bias=False))
        super().__init__(*layers, *([nn.Sigmoid()] if sigmoid else []), nn.Flatten())

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (n, c, 28 or 32, 28 or 32) in [0, 1] to features (n, 32)."""
        # channels_last computes a third faster on a CPU
        return super().forward((2 * pictures - 1).contiguous(memory_format=torch.channels_last))


def enough(pictures: torch.Tensor, purpose: str) -> torch.Tensor:
    """Ten thousand of the pictures, enough for a mean and a variance, at random, so in no order of classes."""
    return pictures[torch.randperm(len(pictures), generator=torch_generator(0, purpose))[:10_000]]


class PrincipalComponents(nn.Module):
    """The pictures' first 32 principal components: as many features as the network's, from pixels alone.

    Args:
        values: Values of a picture, c * s * s.
    """

    def __init__(self, values: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(values), requires_grad=False)
        self.axes = nn.Parameter(torch.zeros(NUM_FEATURES, values), requires_grad=False)

    @classmethod
    def of(cls, pictures: torch.Tensor) -> "PrincipalComponents":
        """Of uint8 pictures (n, c, s, s), `enough` of them; features that n is too small for stay 0."""
        from sklearn.decomposition import PCA

        some = enough(pictures, "principal components").flatten(1).numpy().astype(np.float32) / 255
        components = min(NUM_FEATURES, *some.shape)
        found, module = PCA(components, svd_solver="covariance_eigh").fit(some), cls(some.shape[1])
        module.mean.copy_(torch.from_numpy(found.mean_))
        module.axes[:components] = torch.from_numpy(found.components_)
        return module

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (n, c, s, s) in [0, 1] to features (n, 32)."""
        return (pictures.flatten(1) - self.mean) @ self.axes.T


Features = SmallNetwork | PrincipalComponents
"""What turns pictures into features."""


def layer_table(network: SmallNetwork, size: int) -> list[tuple[str, tuple[int, ...], int]]:
    """Each layer's kind, output shape of one picture and number of parameters, as the source's tables have them.

    Args:
        network: The network; it is left as it is.
        size: Side of the pictures in pixels.
    """
    network, rows = copy.deepcopy(network).eval(), []
    values = torch.zeros(1, next(network.parameters()).shape[1], size, size)
    with torch.no_grad():
        for layer in network:
            values = layer(values)
            parameters = sum(p.numel() for p in layer.parameters())
            rows.append((type(layer).__name__, tuple(values.shape[1:]), parameters))
    return rows


@torch.no_grad()
def features_by_batch(network: Features, pictures: torch.Tensor, batch: int, seed: int) -> torch.Tensor:
    """Features as the source takes them: batch normalisation uses the statistics of each shuffled test batch.

    The public notebook never leaves training mode, so a picture's features depend on the batch it comes in.

    Args:
        network: The network; it is left as it is.
        pictures: uint8 (n, c, s, s).
        batch: Pictures in a batch, the last one smaller.
        seed: Seeds the order.

    Returns:
        (n, 32) in the pictures' order, on the CPU.
    """
    network = copy.deepcopy(network).train()
    device = device_of(network)
    features = torch.empty(len(pictures), NUM_FEATURES)
    for rows in torch.randperm(len(pictures), generator=torch_generator(seed, "test batches")).split(batch):
        features[rows] = network(pictures[rows].to(device).float() / 255).float().cpu()
    return features
