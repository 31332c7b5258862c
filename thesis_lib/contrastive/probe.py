"""Frozen features, computed once, and the classifiers on them: a linear probe and k nearest neighbours."""

import torch
from torch import nn
from torch.nn import functional as F

from thesis_lib.contrastive.batches import Pool
from thesis_lib.contrastive.encoders import Classifier, Encoder
from thesis_lib.contrastive.views import PASTED, Views, paste_backgrounds, to_unit_range
from thesis_lib.randomness import derive_seed, torch_generator
from thesis_lib.sections import EncoderParameters, ProbeParameters, ViewParameters
from thesis_lib.tensors import device_of

OUTLIER_WEIGHT = 0.5


@torch.no_grad()
def extract_features(network: nn.Module, pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Features of uint8 pictures (n, 3, h, w), without augmentation: (n, d) in float32 on the CPU."""
    network.eval()  # batch norm in training mode would make a feature depend on its batch
    device = device_of(network)
    return torch.cat([network(to_unit_range(chunk.to(device), size)).float().cpu() for chunk in pictures.split(256)])


def train_probe(
    encoder: Encoder, pools: list[Pool], encoder_parameters: EncoderParameters, parameters: ProbeParameters,
    views: ViewParameters, num_classes: int, seed: int, outliers: Pool | None = None, paste: bool = False,
) -> Classifier:  # fmt: skip
    """Train a linear classifier on cached features of augmented training pictures.

    Args:
        encoder: Frozen.
        pools: The training pictures; each pool is drawn from equally often, whatever its size.
        encoder_parameters: Gives the views' size.
        parameters: Steps, batch, learning rate and the number of cached views.
        views: Jitter and rotation; the crop scale is the probe's own.
        num_classes: Number of classes.
        seed: The experiment's seed.
        outliers: Pictures on which the classifier is to be undecided: outlier exposure (Hendrycks et al. 2019, arXiv
            1812.04606), the mean cross entropy to the uniform distribution with weight 0.5.
        paste: Whether half of the views of pictures with masks get another background, as the encoder's did.

    Returns:
        The classifier in evaluation mode, on the CPU.
    """
    device = device_of(encoder)
    draw = Views(encoder_parameters.size, views.model_copy(update={"crop_scale": parameters.crop_scale})).to(device)
    encoder.eval()
    cached: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.no_grad():
        for i, pool in enumerate([*pools, *([outliers] if outliers else [])]):
            parts = [to_unit_range(part.to(device), encoder_parameters.size) for part in pool.pictures.split(256)]
            unit, collected = torch.cat(parts), []
            for v in range(parameters.views):
                own = derive_seed(seed, "probe", i, v)
                pasted = unit
                if paste and pool.masks is not None:
                    pasted = paste_backgrounds(unit, pool.masks.to(device), PASTED, derive_seed(own, "backgrounds"))
                view = draw(pasted, 1, own).squeeze(1)
                collected += [encoder(chunk).float().cpu() for chunk in view.split(256)]
            cached.append((torch.cat(collected), pool.labels.repeat(parameters.views)))
    outside = cached.pop()[0] if outliers else None
    classifier = Classifier(encoder.num_features, num_classes)
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "probe"))
        classifier.linear.reset_parameters()
    real = cached[0][0]
    classifier.mean.copy_(real.mean(0))
    classifier.std.copy_(real.std(0).clamp_min(1e-4))
    optimizer = torch.optim.AdamW(
        classifier.linear.parameters(), lr=parameters.learning_rate, weight_decay=parameters.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, parameters.steps)
    share = parameters.batch // len(cached)
    for step in range(parameters.steps):
        generator = torch_generator(seed, "probe", step)
        rows = [torch.randint(len(labels), (share,), generator=generator) for _, labels in cached]
        features = torch.cat([f[r] for (f, _), r in zip(cached, rows, strict=True)])
        labels = torch.cat([y[r] for (_, y), r in zip(cached, rows, strict=True)])
        loss = F.cross_entropy(classifier(features), labels)
        if outside is not None:
            drawn = outside[torch.randint(len(outside), (parameters.batch,), generator=generator)]
            loss = loss - OUTLIER_WEIGHT * classifier(drawn).log_softmax(1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


def knn_accuracy(
    bank: torch.Tensor, bank_labels: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, k: int
) -> float:
    """Accuracy of a cosine k-nearest-neighbour vote; ties go to the class of the nearer neighbours.

    Args:
        bank: (m, d) features of training pictures.
        bank_labels: (m,).
        features: (n, d).
        labels: (n,).
        k: Neighbours, at most m are used.
    """
    similarity = F.normalize(features, dim=1) @ F.normalize(bank, dim=1).T
    near = similarity.topk(min(k, len(bank)), dim=1)
    votes = F.one_hot(bank_labels[near.indices], int(bank_labels.max()) + 1).float()
    ranked = votes.sum(1) + 1e-3 * (votes * near.values[..., None]).sum(1)
    return (ranked.argmax(1) == labels).float().mean().item()
