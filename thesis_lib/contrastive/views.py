"""Random views of pictures, drawn for a whole batch at once with kornia."""

import torch
from torch import nn
from torch.nn import functional as F

from thesis_lib.parameters import ViewParameters


def to_unit_range(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 pictures (n, 3, h, w) to floats in [0, 1] of side `size`.

    Real and synthetic pictures both come this way: one resize for all, else sharpness would tell them apart.
    """
    scaled = pictures.float() / 255
    if scaled.shape[-2:] != (size, size):
        scaled = F.interpolate(scaled, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return scaled


class Views(nn.Module):
    """Draws augmented views: resized crop, mirror image, rotation, colour jitter, grey.

    Args:
        size: Side of a view in pixels.
        parameters: Ranges and probabilities.
    """

    def __init__(self, size: int, parameters: ViewParameters) -> None:
        super().__init__()
        import kornia.augmentation as K  # two seconds to import

        p = parameters
        steps: list[nn.Module] = [
            K.RandomResizedCrop((size, size), scale=p.crop_scale, cropping_mode="resample", align_corners=False),
            K.RandomHorizontalFlip(),
        ]
        if p.rotation:
            steps.append(K.RandomAffine(p.rotation, padding_mode="reflection"))  # reflection: no black corners
        if p.jitter_probability:
            steps.append(K.ColorJitter(*p.jitter, p=p.jitter_probability))
        if p.grey_probability:
            steps.append(K.RandomGrayscale(p=p.grey_probability))
        self.augment = nn.Sequential(*steps)

    @torch.no_grad()
    def forward(self, pictures: torch.Tensor, views: int, seed: int) -> torch.Tensor:
        """Draw views.

        Args:
            pictures: (n, 3, h, w) in [0, 1].
            views: Views a picture.
            seed: Seeds the draw; the same pictures and seed give the same views.

        Returns:
            (n, views, 3, size, size) in [0, 1].
        """
        devices = [pictures.device] if pictures.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # kornia draws from the global generator
            torch.manual_seed(seed)
            augmented = self.augment(pictures.repeat_interleave(views, dim=0))
        return augmented.clamp(0, 1).unflatten(0, (len(pictures), views))
