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


def last_stage(encoder: Encoder) -> nn.Module:
    """The encoder's last residual stage, whose output is averaged over places and read by the linear classifier."""
    backbone = encoder.backbone
    return backbone.layers[-1] if isinstance(backbone, NarrowResNet10) else backbone.layer4


def saliency_maps(encoder: Encoder, classifier: Classifier, pictures: Tensor, labels: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2) on the last stage, by captum.

    What is explained is the logit minus the mean of all classes' logits, for only differences of logits matter to what
    is predicted. What follows the stage is an average over places and a linear layer, so before rectifying the map is
    that difference itself, divided up among the places (but for a factor and a constant): Grad-CAM, CAM (Zhou et al.
    2016) and HiResCAM (Draelos and Carin 2020, arXiv 2011.08891) are one here. The price is a coarse map: 4 x 4 cells
    for pictures of 64 px, and a cell sees more than its place.

    Args:
        encoder: In evaluation mode.
        classifier: Its linear classifier.
        pictures: (n, 3, s, s) uint8.
        labels: (n,) the class to explain, for each picture.

    Returns:
        (n, s, s) float32 on the CPU, at least 0, without unit; all zero where no place speaks for the class.
    """
    from captum.attr import LayerGradCam  # seconds to import

    device, size = device_of(encoder), encoder.settings.size
    network = nn.Sequential(encoder, classifier).eval()

    def centred(unit: Tensor) -> Tensor:
        logits = network(unit)
        return logits - logits.mean(1, keepdim=True)

    grad_cam = LayerGradCam(centred, last_stage(encoder))
    maps = []
    for chunk, targets in zip(pictures.split(256), labels.split(256), strict=True):
        unit = to_unit_range(chunk.to(device), size).requires_grad_()
        coarse = grad_cam.attribute(unit, targets.to(device), relu_attributions=True)
        maps.append(upsample(coarse.detach(), size, pictures.shape[-1]).cpu())
    return torch.cat(maps)


def upsample(coarse: Tensor, size: int, side: int) -> Tensor:
    """Bring a residual network's map to picture size, each cell to where its receptive field has its centre.

    With the strides, kernels and paddings of a residual network cell i looks at pixel i * stride, not at the middle of
    the i-th tile: plain interpolation would shift a map by half a cell, 8 of 64 pixels, to the lower right.

    Args:
        coarse: (n, 1, h, h).
        size: Side of the picture that the network saw.
        side: Side of the result.

    Returns:
        (n, side, side), bilinear; beyond the outermost centres the border's values.
    """
    cells = coarse.shape[-1]
    stride = 2 ** math.ceil(math.log2(size / cells))  # a stage of stride 2 rounds up
    pixels = (torch.arange(side, device=coarse.device) + 0.5) * size / side - 0.5
    place = 2 * pixels / (stride * max(cells - 1, 1)) - 1
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
        the saliency; `area`, of the picture, which is what a map that knows nothing gets; `centre`, of the arm's mean
        map over the split, which is what a map gets that follows no object but knows where objects are. `inside`
        is nan where no place speaks for the class, all three without a mask.
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
