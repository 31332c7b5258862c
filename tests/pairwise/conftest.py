"""A data set that a toy network can learn: bars at a place and slope of their class."""

import pytest
import torch

from thesis_lib.datasets.labelled import LabelledPictures


def draw_bars(count: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    pictures = torch.randint(0, 60, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        at = 3 + 7 * label + int(torch.randint(0, 3, (), generator=generator))
        picture[0, at : at + 3] = 220
    return pictures, labels


@pytest.fixture(scope="session")
def bars() -> LabelledPictures:
    return LabelledPictures(*draw_bars(60, 3, 0), *draw_bars(50, 3, 1), ["high", "middle", "low"])
