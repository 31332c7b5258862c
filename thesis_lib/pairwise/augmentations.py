"""The source's augmentations of the positive, drawn for a whole batch at once."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from thesis_lib.contrastive.views import Views
from thesis_lib.pairwise.parameters import Augmentation
from thesis_lib.sections import ViewParameters


def build_augmentation(name: Augmentation, channels: int, size: int) -> nn.Module | None:
    """What draws an augmentation; none for `none`, which only normalises."""
    if name == "none":
        return None
    return FerViews(size) if name == "fer" else SimclrViews(channels, size)


def augment(augmentation: nn.Module, pictures: torch.Tensor, seed: int) -> torch.Tensor:
    """Augment uint8 pictures.

    Args:
        augmentation: `SimclrViews` or `FerViews`.
        pictures: uint8 (n, c, s, s).
        seed: Seeds the draw.

    Returns:
        uint8 (n, c, s, s): the source augments 8-bit pictures, too.
    """
    return augmentation(pictures.float() / 255, 1, seed)[:, 0].mul_(255).round_().to(torch.uint8)


class SimclrViews(Views):
    """Chen et al. 2020 as the source has it: the main study's views with SimCLR's ranges, then a blur, always.

    RandomResizedCrop (8 to 100 % of the area), mirror image, ColorJitter(0.8, 0.8, 0.8, 0.2) with probability 0.8, grey
    with probability 0.2, GaussianBlur with kernel 3 and sigma 0.1 to 2. Saturation, hue and grey change nothing in a
    picture of one channel.

    Args:
        channels: 1 or 3.
        size: Side in pixels.
    """

    def __init__(self, channels: int, size: int) -> None:
        import kornia.augmentation as K

        colour = channels == 3
        parameters = ViewParameters(
            crop_scale=(0.08, 1.0),
            rotation=0.0,
            jitter=(0.8, 0.8, 0.8, 0.2) if colour else (0.8, 0.8, 0.0, 0.0),
            jitter_probability=0.8,
            grey_probability=0.2 if colour else 0.0,
        )
        super().__init__(size, parameters)
        self.augment.append(K.RandomGaussianBlur((3, 3), (0.1, 2.0), p=1.0))


class FerViews(nn.Module):
    """Guo et al. 2016 as the source has it: twice the size, 18 px of black border, a rotation, the centre, back.

    Resize(2s), Pad(18), RandomRotation(-15 to 15 degrees, nearest neighbour), CenterCrop(2.25 s), Resize(s). Rotation
    and crop are one look-up here: what it finds outside the picture of side 2s is the black border.

    Args:
        size: s in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, pictures: torch.Tensor, views: int, seed: int) -> torch.Tensor:
        """As `Views.forward`: (n, c, s, s) in [0, 1] to (n, views, c, s, s)."""
        generator = torch.Generator().manual_seed(seed)
        angles = (30 * torch.rand(len(pictures) * views, generator=generator) - 15).to(pictures.device)
        return self.rotate(pictures.repeat_interleave(views, dim=0), angles).unflatten(0, (len(pictures), views))

    def rotate(self, pictures: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
        """Pictures (n, c, s, s) and their angles (n,), counter-clockwise, to pictures (n, c, s, s)."""
        large, cropped = 2 * self.size, int(2.25 * self.size)
        padded = large + 2 * 18
        left = round((padded - cropped) / 2)  # to the even number, as torchvision; the crop may lie half a pixel off
        scaled = F.interpolate(pictures, (large, large), mode="bilinear", align_corners=False)
        angle = degrees * (math.pi / 180)
        cos, sin = angle.cos(), angle.sin()
        middle = 2 * left + cropped - padded  # of the crop, relative to the picture's, in half pixels
        shift = middle / large
        side = cropped / large
        theta = torch.stack(
            [
                torch.stack([side * cos, -side * sin, shift * (cos - sin)], dim=1),
                torch.stack([side * sin, side * cos, shift * (sin + cos)], dim=1),
            ],
            dim=1,
        )
        grid = F.affine_grid(theta, [len(pictures), pictures.shape[1], cropped, cropped], align_corners=False)
        turned = F.grid_sample(scaled, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return F.interpolate(
            turned, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        ).clamp(0, 1)
