"""Where a network looks: saliency maps of a class, and the share of them that lies on the object.

Pictures are those an encoder sees, passed through the base model's VAE (`diffusion.through_vae`).
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from thesis_lib.contrastive.encoders import Classifier, Encoder, NarrowResNet10, load_network
from thesis_lib.contrastive.views import to_unit_range
from thesis_lib.datasets import PreparedSet
from thesis_lib.parameters import Parameters
from thesis_lib.randomness import derive_seed
from thesis_lib.tensors import best_device, device_of

SPLITS = ("test", "field")
Networks = Mapping[str, tuple[Encoder, Classifier]]
"""Arm -> its frozen encoder and linear classifier, in evaluation mode."""


def load_networks(folders: Mapping[str, Path], parameters: Parameters, num_classes: int) -> Networks:
    """The trained networks of arms by the folders they lie in, on the GPU where there is one.

    Raises:
        ThesisError: A folder has no trained network.
    """
    loaded = {
        arm: load_network(folder, parameters.of_arm(arm)[1].encoder, num_classes) for arm, folder in folders.items()
    }
    return {
        arm: (encoder.to(best_device()), classifier.to(best_device())) for arm, (encoder, classifier) in loaded.items()
    }


def untrained_network(
    parameters: Parameters, pictures: Tensor, num_classes: int, seed: int
) -> tuple[Encoder, Classifier]:
    """A network with random weights, the floor of the share inside the object (Adebayo et al. 2018, arXiv 1810.03292).

    Without having learnt anything a network answers more to an object's edges than to a smooth table, so its maps lie
    on the object more than the area would have it.

    Args:
        parameters: The experiment's; `encoder` is used, without its weights.
        pictures: (n, 3, s, s) uint8; the normalisation layers take their statistics from them, as training would.
        num_classes: Number of classes.
        seed: The experiment's seed.

    Returns:
        Encoder and classifier, in evaluation mode, on the GPU where there is one.
    """
    settings = parameters.encoder.model_copy(update={"weights": None})
    unit = to_unit_range(pictures, settings.size)
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "untrained"))
        encoder = Encoder(settings, unit.mean((0, 2, 3)), unit.std((0, 2, 3)).clamp_min(1e-3))
        classifier = Classifier(encoder.num_features, num_classes)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # take over this batch's statistics
    with torch.no_grad():
        features = encoder.train()(unit)
    classifier.mean.copy_(features.mean(0))
    classifier.std.copy_(features.std(0).clamp_min(1e-4))
    return encoder.eval().to(best_device()), classifier.eval().to(best_device())


def explained_stage(encoder: Encoder) -> nn.Module:
    """The last of the encoder's first three residual stages that has 8 x 8 cells or more, else the first.

    For pictures of 64 px that is the third with the small stem, the second with the standard one; 14 x 14 for 224 px.
    """
    backbone, settings = encoder.backbone, encoder.settings
    if isinstance(backbone, NarrowResNet10):
        stages = [*backbone.layers][:3]
    else:
        stages = [backbone.layer1, backbone.layer2, backbone.layer3]
    cells = settings.size // (2 if settings.stem == "small" else 4)
    return stages[max([0, *(place for place in (1, 2) if cells // 2**place >= 8)])]


def saliency_maps(encoder: Encoder, classifier: Classifier, pictures: Tensor, labels: Tensor) -> Tensor:
    """HiResCAM (Draelos and Carin 2020, arXiv 2011.08891) of `explained_stage`, by captum.

    Gradient times activation, summed over channels, what is negative set to 0: for each place a first-order estimate of
    what the class would lose without it. What is explained is the logit minus the mean of all classes' logits, for only
    differences of logits matter to what is predicted.

    On the last stage this would be Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), since only an average over
    places and a linear layer follow; but its cells, for pictures of 64 px at most 4 x 4, are too coarse to say what is
    inside an object. It was measured by deletion (Petsiuk et al. 2018, arXiv 1806.07421) on networks of quickstart, on
    test pictures: blurring the tenth of the pixels with the most saliency lowers that logit by 2.2 (`oracle_id`) and
    1.0 (`cross_entropy_real`); with Grad-CAM on the last stage by 0.8 and 0.7, with random smooth maps by 0.4 and 0.2.
    Maps of earlier stages and integrated gradients lower it more, but follow the picture's edges whether or not a
    network has learnt anything: 61 % of the saliency of untrained networks lies on objects here, 63 % one stage earlier
    and 74 % with integrated gradients, at 48 % of the area. Compare with `untrained_network`, not with the area alone.

    Args:
        encoder: In evaluation mode.
        classifier: Its linear classifier, on the same device.
        pictures: (n, 3, s, s) uint8.
        labels: (n,) the class to explain, for each picture.

    Returns:
        (n, s, s) float32 on the CPU, at least 0, without unit; all zero where no place speaks for the class.
    """
    device, size = device_of(classifier), encoder.settings.size
    network = nn.Sequential(encoder, classifier).eval()
    maps = []
    for chunk, targets in zip(pictures.split(32), labels.split(32), strict=True):
        unit = to_unit_range(chunk.to(device), size)
        coarse = hires_cam(network, explained_stage(encoder), unit, targets.to(device))
        maps.append(upsample(coarse, size, pictures.shape[-1]).cpu())
    return torch.cat(maps)


def hires_cam(network: nn.Module, stage: nn.Module, unit: Tensor, labels: Tensor) -> Tensor:
    """What `saliency_maps` does to one batch, for any network and stage of it, in the stage's own cells.

    Args:
        network: From pictures to logits (n, classes), in evaluation mode.
        stage: The part of it whose activations (n, channels, h, h) are explained.
        unit: (n, c, s, s) in [0, 1], on the network's device.
        labels: (n,) the class to explain, for each picture.

    Returns:
        (n, 1, h, h), at least 0.
    """
    from captum.attr import LayerGradientXActivation  # seconds to import

    def centred(pictures: Tensor) -> Tensor:
        logits = network(pictures)
        return logits - logits.mean(1, keepdim=True)

    found = LayerGradientXActivation(centred, stage).attribute(unit.detach().requires_grad_(), labels)
    return found.detach().sum(1, keepdim=True).relu()


def upsample(coarse: Tensor, size: int, side: int, before: float = 0.0) -> Tensor:
    """Bring a map to picture size, each cell to where its receptive field has its centre.

    With the strides, kernels and paddings of a residual network cell i looks at pixel i * stride, not at the middle of
    the i-th tile: plain interpolation would shift a map by half a cell to the lower right.

    Args:
        coarse: (n, 1, h, h).
        size: Side of the picture that the network saw.
        side: Side of the result.
        before: For other networks: cell i looks so many of the seen picture's pixels before pixel i * stride.

    Returns:
        (n, side, side), bilinear; beyond the outermost centres the border's values.
    """
    cells = coarse.shape[-1]
    stride = 2 ** math.ceil(math.log2(size / cells))  # a stage of stride 2 rounds up
    pixels = (torch.arange(side, device=coarse.device) + 0.5) * size / side - 0.5
    place = 2 * (pixels + before) / (stride * max(cells - 1, 1)) - 1
    grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), -1).expand(len(coarse), -1, -1, -1)
    return F.grid_sample(coarse, grid, padding_mode="border", align_corners=True)[:, 0]


def inside_share(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of the saliency that lies on the object: the energy-based pointing game (Wang et al. 2020, arXiv
    1910.01279, section 4.3) with the object's mask in the place of its box.

    Args:
        maps: (n, s, s), at least 0.
        masks: (n, s, s) bool.

    Returns:
        (n,) in [0, 1]; nan where a map or a mask is empty. A map that is the same everywhere gives the mask's share of
        the area.
    """  # noqa: D205
    inside = (maps * masks).sum((1, 2)) / maps.sum((1, 2))
    return torch.where(masks.flatten(1).any(1), inside, torch.nan)


def inside_table(networks: Networks, images: PreparedSet) -> pd.DataFrame:
    """How much of the saliency for its true class lies on each test and field picture's object.

    Args:
        networks: Of each arm.
        images: The classes' pictures as encoders see them.

    Returns:
        A row an arm and picture: arm, split, class_name, row (of the image table), and shares in [0, 1]: `inside`, of
        the saliency; `area`, of the picture, which a map gets that is the same everywhere; `centre`, of the arm's mean
        map over the split, which a map gets that follows no object but knows where objects are. `inside` is nan where
        no place speaks for the class, all three without a mask.
    """
    table, frames = images.table, []
    for arm, (encoder, classifier) in tqdm(networks.items(), desc="saliency"):
        for split in SPLITS:
            rows = np.flatnonzero(table["split"] == split)
            if not len(rows):
                continue
            labels, masks = torch.tensor(table["label"].to_numpy()[rows]), images.masks[rows]
            maps = saliency_maps(encoder, classifier, images.pictures[rows], labels)
            mean = maps.mean(0, keepdim=True).expand_as(maps)
            shares = {
                "inside": inside_share(maps, masks),
                "area": inside_share(torch.ones_like(maps), masks),
                "centre": inside_share(mean, masks),
            }
            names = table["class_name"].to_numpy()[rows]
            frame = pd.DataFrame({"arm": arm, "split": split, "class_name": names, "row": rows})
            frames.append(frame.assign(**{name: share.numpy() for name, share in shares.items()}))
    return pd.concat(frames, ignore_index=True)
