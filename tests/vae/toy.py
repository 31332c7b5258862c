"""Small real things that the tests of the VAE study share."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.datasets.toy import write_idx, write_proben1
from thesis_lib.datasets.proben1 import Attribute

ATTRIBUTES = (
    Attribute("continuous", 0, 1),
    Attribute("continuous", 1, 1, missing=2),
    Attribute("binary", 3, 1),
    Attribute("nominal", 4, 3),
)
"""A number; a number that may be missing; a binary attribute; a nominal one of three levels: seven columns."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(count: int, side: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey pictures (count, 1, side, side) of a bright square in one of three places, and the place."""
    pictures = 0.1 * torch.rand(count, 1, side, side, generator=generator(seed))
    labels = torch.arange(count) % 3
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        corner = (0, side // 3, 2 * side // 3)[label]
        picture[:, corner : corner + side // 3, corner : corner + side // 3] += 0.8
    return pictures, labels


def write_folders(root: Path) -> dict[str, str]:
    """Little files in the formats of all that the study reads: section -> folder."""
    random = np.random.default_rng(0)
    for name, inputs, classes in (("diabetes", 8, 2), ("thyroid", 21, 3)):
        values = random.random((32, inputs)).round(2)
        values[:, 1:16] = values[:, 1:16].round() if name == "thyroid" else values[:, 1:16]
        labels = np.eye(classes, dtype=int)[np.arange(32) % classes]
        lines = [" ".join(map(str, [*x, *y])) for x, y in zip(values, labels, strict=True)]
        write_proben1(root / "proben1", name, lines, inputs, classes, 30)
    (root / "mnist").mkdir()
    for split, count in (("train", 40), ("t10k", 20)):
        labels = np.arange(count) % 10
        pictures = random.integers(0, 60, (count, 28, 28)) + 15 * labels[:, None, None]
        write_idx(root / "mnist" / f"{split}-images-idx3-ubyte", pictures)
        write_idx(root / "mnist" / f"{split}-labels-idx1-ubyte", labels)
    (root / "celeba").mkdir()
    for index in range(4):
        face = random.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(face).save(root / "celeba" / f"{index}.png")
    return {name: str(root / name) for name in ("proben1", "mnist", "celeba")}
