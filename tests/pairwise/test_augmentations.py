import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from thesis_lib.pairwise.augmentations import FerViews, SimclrViews, augment, build_augmentation


def smooth_picture(size: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 3, size), np.linspace(0, 2, size))
    return np.stack([127 + 120 * np.sin(x + k) * np.cos(y * (k + 1)) for k in range(3)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("angle", [-15.0, 4.0, 11.5])
def test_fer_is_what_torchvision_does_to_one_picture(size, angle):
    """The chain of the source on a PIL picture, step by step, against all steps at once on a batch."""
    picture = smooth_picture(size)
    chained = tv.pad(tv.resize(Image.fromarray(picture), [2 * size]), [18])
    chained = tv.rotate(chained, angle, InterpolationMode.NEAREST)
    chained = tv.resize(tv.center_crop(chained, [int(2.25 * size)]), [size])
    batch = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    ours = 255 * FerViews(size).rotate(batch, torch.tensor([angle]))[0].permute(1, 2, 0).numpy()
    difference = np.abs(ours - np.asarray(chained, dtype=float))
    # nearest neighbours on the edge of two pixels may fall either way
    assert difference.mean() < 1.0 and np.quantile(difference, 0.98) < 6


def test_fer_turns_each_picture_by_its_own_angle_and_shrinks_it():
    bright = torch.full((2, 1, 28, 28), 255, dtype=torch.uint8)
    out = augment(FerViews(28), bright, seed=0)
    assert not torch.equal(out[0], out[1])
    assert (out[:, :, 0, 0] == 0).all() and (out[:, :, 10:18, 10:18] == 255).all()
    share = (out > 127).float().mean()  # 56 of 63 pixels a side
    assert abs(share - (56 / 63) ** 2) < 0.03


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
@pytest.mark.parametrize("name", ["fer", "simclr"])
def test_augmentations_keep_shape_and_follow_their_seed(name, channels, size):
    pictures = torch.randint(0, 255, (6, channels, size, size), dtype=torch.uint8)
    drawn = build_augmentation(name, channels, size)
    first = augment(drawn, pictures, 3)
    assert first.shape == pictures.shape and first.dtype == torch.uint8
    assert torch.equal(first, augment(drawn, pictures, 3)) and not torch.equal(first, augment(drawn, pictures, 4))


def test_no_augmentation_is_none():
    assert build_augmentation("none", 1, 28) is None


def test_simclr_blurs_every_picture():
    """The same draw with and without the last step: what follows is always smoother."""
    views = SimclrViews(3, 32)
    noise = torch.rand(60, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = views(noise, 1, seed=0)[:, 0]
    views.augment = views.augment[:-1]
    sharp = views(noise, 1, seed=0)[:, 0]
    before, after = ((v[..., 1:] - v[..., :-1]).abs().mean((1, 2, 3)) for v in (sharp, blurred))
    assert (after <= before + 1e-6).all() and (after < 0.7 * before).float().mean() > 0.5


def test_simclr_has_the_sources_ranges():
    grey = torch.full((300, 3, 32, 32), 100, dtype=torch.uint8)
    levels = augment(SimclrViews(3, 32), grey, 0).float().mean((1, 2, 3))
    untouched = (levels == 100).float().mean()
    assert abs(untouched - 0.2) < 0.08  # no jitter
    assert 20 <= levels.min() < 40 and 160 < levels.max() <= 181
