"""Random views of pictures, drawn for a whole batch at once, and random backgrounds."""

import torch
from torch import nn
from torch.nn import functional as F

from thesis_lib.sections import ViewParameters

PASTED = 0.5
"""Share of views with another background, where backgrounds are pasted."""


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
        mirror: Whether half of the views are mirror images; not for digits.
    """

    def __init__(self, size: int, parameters: ViewParameters, mirror: bool = True) -> None:
        super().__init__()
        import kornia.augmentation as K  # two seconds to import

        p = parameters
        steps: list[nn.Module] = [
            K.RandomResizedCrop((size, size), scale=p.crop_scale, cropping_mode="resample", align_corners=False),
        ]
        if mirror:
            steps.append(K.RandomHorizontalFlip())
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


class StrongViews(Views):
    """`Views` with RandAugment (Cubuk et al. 2020, arXiv 1909.13719) in the place of the colour jitter.

    Each view draws its own two of the paper's 14 operations at magnitude 10 of 30. torchvision's RandAugment, picture
    by picture: kornia's draws one pair of operations for a whole batch, and at this magnitude it only ever darkens,
    flattens and greys.

    Args:
        size: Side of a view in pixels.
        parameters: Ranges and probabilities; the jitter's are not used.
        mirror: As in `Views`.
        fill: Grey value in [0, 1] of what comes into the frame.
    """

    def __init__(self, size: int, parameters: ViewParameters, mirror: bool = True, fill: float = 0.5) -> None:
        super().__init__(size, parameters.model_copy(update={"jitter_probability": 0.0}), mirror)
        from torchvision.transforms import InterpolationMode, v2

        rand_augment = v2.RandAugment(2, 10, interpolation=InterpolationMode.BILINEAR, fill=[fill] * 3)
        self.augment.append(v2.Lambda(lambda pictures: torch.stack([rand_augment(picture) for picture in pictures])))


def paste_backgrounds(pictures: torch.Tensor, masks: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Put random backgrounds behind objects.

    Args:
        pictures: (n, 3, s, s) in [0, 1].
        masks: (n, m, m) bool, true on the object, resized to the pictures; an empty one leaves its picture as it is.
        share: Probability 0 to 1 that a picture gets another background.
        seed: Seeds the draw; the same pictures and seed give the same result on every device.

    Returns:
        (n, 3, s, s) in [0, 1]. The object's edge is blended over two pixels.
    """
    if masks.shape[-1] != pictures.shape[-1]:
        masks = F.interpolate(masks[:, None].float(), pictures.shape[-2:])[:, 0] > 0.5
    generator = torch.Generator().manual_seed(seed)
    chosen = (torch.rand(len(pictures), generator=generator) < share).to(pictures.device) & masks.flatten(1).any(1)
    backgrounds = random_backgrounds(len(pictures), pictures.shape[-1], generator).to(pictures.device)
    inside = F.avg_pool2d(masks[:, None].float(), 3, stride=1, padding=1, count_include_pad=False)
    return torch.where(chosen[:, None, None, None], torch.lerp(backgrounds, pictures, inside), pictures)


def random_backgrounds(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Procedural tables and walls: two colours blended along a direction, and smooth noise, grained or not.

    Args:
        count: Number of backgrounds n.
        size: Side s in pixels.
        generator: Draws them, on the CPU.

    Returns:
        (n, 3, s, s) in [0, 1].
    """

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    angle = uniform(0, 2 * torch.pi, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    grid = torch.linspace(-0.5, 0.5, size)
    along = cos * grid[None, None, :] + sin * grid[None, :, None]
    blend = torch.sigmoid((along - uniform(-0.3, 0.3, 1, 1)) * uniform(1, 8, 1, 1))[:, None]
    # Tables and walls are seldom saturated: greys with a tint that is mostly faint, two of them not far apart.
    tint = 1 - 0.7 * uniform(0, 1, 1) ** 2 * uniform(0, 1, 3)
    first = uniform(0.15, 0.95, 1)
    second = (first + uniform(-0.25, 0.25, 1)) * tint * uniform(0.93, 1.07, 3)
    first = first * tint
    colour = torch.lerp(first[..., None, None], second[..., None, None], blend)
    # Noise of a random scale, longer than wide where there is grain: a low-pass with a fat tail in frequency space.
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :]
    width = size * 2 ** uniform(-6, -2, 1, 1)
    length = width * 2 ** uniform(0, 2.5, 1, 1)
    across, down = cos * columns + sin * rows, cos * rows - sin * columns
    low_pass = 1 / (1 + (2 * torch.pi) ** 2 * ((width * across) ** 2 + (length * down) ** 2))
    white = torch.randn(count, size, size, generator=generator)
    noise = torch.fft.irfft2(torch.fft.rfft2(white) * low_pass, s=(size, size))
    noise = noise / noise.std(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    return (colour + (uniform(0, 0.08, 1, 1) * noise)[:, None]).clamp(0, 1)
