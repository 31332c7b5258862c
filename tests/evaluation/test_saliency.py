import copy

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thesis_lib.contrastive.encoders import Classifier, Encoder
from thesis_lib.datasets import PreparedSet
from thesis_lib.evaluation.saliency import (
    explained_stage,
    inside_share,
    inside_table,
    saliency_maps,
    untrained_network,
    upsample,
)
from thesis_lib.parameters import Parameters
from thesis_lib.randomness import torch_generator
from thesis_lib.sections import EncoderParameters

CLASSES = 3


def network(architecture: str = "resnet10", stem: str = "small") -> tuple[Encoder, Classifier]:
    torch.manual_seed(0)
    width = {"width": 8} if architecture == "resnet10" else {}
    settings = EncoderParameters(architecture=architecture, stem=stem, size=64, **width)
    encoder = Encoder(settings, torch.full((3,), 0.5), torch.full((3,), 0.2))
    classifier = Classifier(encoder.num_features, CLASSES)
    classifier.std.uniform_(0.5, 2)
    return encoder.eval(), classifier.eval()


def noise(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch_generator(0, "noise"), dtype=torch.uint8)


def by_hand(
    stage: nn.Module, encoder: Encoder, classifier: Classifier, pictures: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """HiResCAM and Grad-CAM, one picture and channel at a time, as the papers' equations have them."""
    hires_cams, grad_cams = [], []
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        kept = []
        hook = stage.register_forward_hook(lambda *args, kept=kept: kept.append(args[2]))
        logits = classifier(encoder(picture[None].float() / 255))[0]
        hook.remove()
        (gradient,) = torch.autograd.grad(logits[label] - logits.mean(), kept[0])
        hires_cam, grad_cam = torch.zeros(2, *kept[0].shape[2:])
        for slope, activation in zip(gradient[0], kept[0][0].detach(), strict=True):
            hires_cam += slope * activation
            grad_cam += slope.mean() * activation
        hires_cams.append(hires_cam.clamp_min(0))
        grad_cams.append(grad_cam.clamp_min(0))
    return torch.stack(hires_cams), torch.stack(grad_cams)


@pytest.mark.parametrize("stem", ["small", "standard"])
@pytest.mark.parametrize("architecture", ["resnet10", "resnet18"])
def test_maps_agree_with_hirescam_by_hand(architecture, stem):
    encoder, classifier = network(architecture, stem)
    pictures, labels = noise(5), torch.tensor([0, 1, 2, 0, 1])
    expected, grad_cam = by_hand(explained_stage(encoder), encoder, classifier, pictures, labels)
    assert expected.shape == (5, 8, 8) and expected.max() > 0
    maps = saliency_maps(encoder, classifier, pictures, labels)
    assert maps.shape == (5, 64, 64)
    assert torch.allclose(maps[:, ::8, ::8], expected, rtol=1e-4, atol=1e-6)  # at the cells' centres
    assert not torch.allclose(expected, grad_cam, rtol=0.1)


def test_on_the_last_stage_it_would_be_captums_grad_cam():
    from captum.attr import LayerGradCam

    encoder, classifier = network()
    pictures, labels = noise(4), torch.tensor([0, 1, 2, 1])
    last = encoder.backbone.layers[-1]
    hires_cam, grad_cam = by_hand(last, encoder, classifier, pictures, labels)
    assert torch.allclose(hires_cam, grad_cam, rtol=1e-4, atol=1e-7) and hires_cam.max() > 0
    library = LayerGradCam(lambda x: (y := classifier(encoder(x))) - y.mean(1, keepdim=True), last)
    found = library.attribute((pictures.float() / 255).requires_grad_(), labels, relu_attributions=True)[:, 0]
    assert torch.allclose(found, grad_cam, rtol=1e-4, atol=1e-7)


def test_what_all_logits_share_changes_no_map_and_batches_do_not_matter():
    encoder, classifier = network()
    pictures, labels = noise(3), torch.tensor([0, 1, 2])
    maps = saliency_maps(encoder, classifier, pictures, labels)
    shifted = copy.deepcopy(classifier)
    shifted.linear.weight.data += torch.randn(encoder.num_features)  # the predictions are the same
    assert torch.allclose(saliency_maps(encoder, shifted, pictures, labels), maps, atol=1e-5)
    assert torch.allclose(saliency_maps(encoder, classifier, pictures[1:2], labels[1:2]), maps[1:2], atol=1e-6)


@pytest.mark.parametrize(("size", "side"), [(64, 64), (64, 128), (40, 40), (40, 160)])
def test_upsampling_puts_a_cell_where_it_looks(size, side):
    # Four stages of stride 2 that hand on the pixel under the kernel's middle, as each stage of a residual network may
    stages = nn.Sequential(*(nn.Conv2d(1, 1, 3, 2, 1, bias=False) for _ in range(4)))
    for stage in stages:
        stage.weight.data = F.one_hot(torch.tensor(4), 9).float().view(1, 1, 3, 3)
    picture = torch.zeros(1, 1, size, size)
    picture[0, 0, 16, 32] = 1
    with torch.no_grad():
        large = upsample(stages(picture), size, side)[0]
    row, column = divmod(int(large.argmax()), side)
    assert (row * size // side, column * size // side) == (16, 32)
    rows = torch.arange(side).view(-1, 1) * large / large.sum()
    assert rows.sum() * size / side == pytest.approx(16, abs=0.5)


def test_a_map_of_one_cell_is_the_same_everywhere():
    assert (upsample(torch.full((2, 1, 1, 1), 3.0), 16, 32) == 3).all()


def test_inside_share_on_maps_made_by_hand():
    masks = torch.zeros(5, 4, 4, dtype=torch.bool)
    masks[:4, :2, :2] = True  # a quarter; the last picture has no mask
    maps = torch.zeros(5, 4, 4)
    maps[0] = 7.0  # everywhere alike
    maps[1, 0, 0] = 2.0  # inside only
    maps[2, 3, 3] = 2.0  # outside only
    maps[4] = 1.0
    share = inside_share(maps, masks)
    assert share[:3].tolist() == [0.25, 1.0, 0.0]
    assert share[3:].isnan().all()  # an empty map, an empty mask
    maps[0, :2, :2], maps[0, 2:] = 3.0, 1.0
    maps[0, :2, 2:] = 0.0
    assert inside_share(maps, masks)[0].item() == pytest.approx(12 / 20)


def test_a_network_that_looks_for_colour_looks_at_the_object():
    """The stage that is explained is made to be the picture's red, so the map must lie on the red object."""
    encoder, classifier = network()
    rows = [(split, label) for split in ("train", "test", "field") for label in (0, 1) for _ in range(2)]
    pictures = torch.full((len(rows), 3, 64, 64), 60, dtype=torch.uint8)
    masks = torch.zeros(len(rows), 64, 64, dtype=torch.bool)
    masks[:, 12:53, 12:53] = True
    for picture, mask in zip(pictures, masks, strict=True):
        picture[0, mask] = 250
    table = pd.DataFrame({"split": [s for s, _ in rows], "label": [y for _, y in rows]})
    table["class_name"] = table["label"].map({0: "red", 1: "not red"})

    backbone = encoder.backbone
    backbone.conv1, backbone.bn1, backbone.maxpool = nn.Conv2d(3, 1, 1, bias=False), nn.Identity(), nn.Identity()
    backbone.conv1.weight.data = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    backbone.layers = nn.Sequential(nn.Identity(), nn.Identity(), nn.AvgPool2d(3, 16, 1), nn.Identity())
    classifier = Classifier(1, 2).eval()
    classifier.linear.weight.data = torch.tensor([[1.0], [-1.0]])
    found = inside_table({"red": (encoder, classifier)}, PreparedSet(table, pictures, masks))
    assert len(found) == 8 and set(found["split"]) == {"test", "field"}
    assert found["area"].to_numpy() == pytest.approx(41**2 / 64**2)
    red, other = (found[found["class_name"] == name] for name in ("red", "not red"))
    # Along each axis the map is 0 at the first cell's centre, pixel 0, rises to 1 at pixel 16 and stays.
    assert red["inside"].to_numpy() == pytest.approx((40.375 / 55.5) ** 2)
    assert red["centre"].to_numpy() == pytest.approx(red["inside"].to_numpy())
    assert other["inside"].isna().all()  # nothing speaks for it
    assert list(found["row"]) == list(range(4, 12))


def test_an_untrained_network_depends_on_the_seed_and_has_statistics():
    parameters = Parameters(name="toy", encoder={"architecture": "resnet10", "width": 8, "size": 64})
    pictures, labels = noise(12), torch.arange(12) % CLASSES
    before = torch.get_rng_state()
    first, again, other = (untrained_network(parameters, pictures, CLASSES, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    logits = [classifier(encoder(pictures.float() / 255)) for encoder, classifier in (first, again, other)]
    assert torch.equal(logits[0], logits[1]) and not torch.allclose(logits[0], logits[2])
    features = first[0](pictures.float() / 255)
    assert ((features - first[1].mean) / first[1].std).mean(0).abs().max() < 0.5  # as in training
    assert saliency_maps(*first, pictures, labels).amax((1, 2)).gt(0).all()
