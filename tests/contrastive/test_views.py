import pytest
import torch

from thesis_lib.contrastive.views import StrongViews, Views, paste_backgrounds, random_backgrounds
from thesis_lib.sections import ViewParameters

SIZE = 32


@pytest.fixture
def pictures():
    return torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def masks():
    masks = torch.zeros(6, SIZE, SIZE, dtype=torch.bool)
    masks[:, 8:24, 10:26] = True
    masks[5] = False
    return masks


def test_strong_views_are_seeded_and_of_the_same_form_as_views(pictures):
    strong = StrongViews(24, ViewParameters())
    drawn = strong(pictures, 2, 7)
    assert drawn.shape == Views(24, ViewParameters())(pictures, 2, 7).shape == (6, 2, 3, 24, 24)
    assert drawn.min() >= 0 and drawn.max() <= 1
    state = torch.get_rng_state()
    assert torch.equal(drawn, strong(pictures, 2, 7)) and not torch.equal(drawn, strong(pictures, 2, 8))
    assert torch.equal(state, torch.get_rng_state())


def test_each_strong_view_draws_its_own_operations():
    """Where a batch shared its two operations, one constant picture would come out in one shade."""
    parameters = ViewParameters(crop_scale=(1.0, 1.0), rotation=0, grey_probability=0)
    shades = torch.tensor([0.9, 0.5, 0.2])[:, None, None].expand(3, SIZE, SIZE)
    drawn = StrongViews(SIZE, parameters)(shades.expand(40, 3, SIZE, SIZE), 1, 0)
    centre = drawn[:, 0, :, SIZE // 2, SIZE // 2]
    assert len(centre.mul(50).round().unique(dim=0)) > 5
    level = centre.mean(1)
    assert (level > 0.6).any() and (level < 0.45).any()  # brighter and darker than the picture's 0.53


def test_backgrounds_change_outside_the_mask_alone(pictures, masks):
    pasted = paste_backgrounds(pictures, masks, 1.0, 3)
    assert pasted.shape == pictures.shape and pasted.min() >= 0 and pasted.max() <= 1
    assert torch.allclose(pasted[:5, :, 9:23, 11:25], pictures[:5, :, 9:23, 11:25], atol=1e-6)
    outside = torch.ones(SIZE, SIZE, dtype=torch.bool)
    outside[7:25, 9:27] = False
    backgrounds = pasted[:5, :, outside]
    assert (backgrounds - pictures[:5, :, outside]).abs().mean((1, 2)).min() > 0.1
    assert torch.equal(pasted[5], pictures[5])  # no mask: nothing to keep
    edge = pasted[:5, :, 8, 12] - pictures[:5, :, 8, 12]
    assert (edge != 0).all()  # blended, not cut


def test_backgrounds_are_seeded_and_pasted_into_the_stated_share(pictures, masks):
    first = paste_backgrounds(pictures, masks, 1.0, 3)
    assert torch.equal(first, paste_backgrounds(pictures, masks, 1.0, 3))
    assert not torch.equal(first, paste_backgrounds(pictures, masks, 1.0, 4))
    assert torch.equal(paste_backgrounds(pictures, masks, 0.0, 3), pictures)
    many, their_masks = pictures[:1].expand(400, -1, -1, -1), masks[:1].expand(400, -1, -1)
    changed = (paste_backgrounds(many, their_masks, 0.3, 0) != many).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.07)


def test_random_backgrounds_differ_and_are_smooth():
    backgrounds = random_backgrounds(50, SIZE, torch.Generator().manual_seed(0))
    assert backgrounds.shape == (50, 3, SIZE, SIZE) and backgrounds.min() >= 0 and backgrounds.max() <= 1
    assert backgrounds.mean((1, 2, 3)).std() > 0.1
    assert (backgrounds[..., 1:] - backgrounds[..., :-1]).abs().mean() < 0.05
