"""The study's losses behind one call: a list of features, one tensor a role, and what is known of each item."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from thesis_lib.contrastive.losses import SupConLoss
from thesis_lib.pairwise.network import NUM_FEATURES
from thesis_lib.pairwise.parameters import Method

MINED_AMONG = 64
"""Anchors among which `mining` chooses: 6 or 7 of each of ten classes. The hardest of more are the ambiguous ones, with
which a network may map all pictures to one point (Schroff et al. 2015); Hermans et al. take 72, 4 of a class."""


def build_loss(method: Method, classes: int = 10) -> nn.Module:
    """The loss of a method; its modules take `(features, known)`, see `Bank.items`.

    Args:
        method: Its loss is trained, so not `pca`.
        classes: What the classifier of `cross_entropy` tells apart.
    """
    match method.loss:
        case "cosine":
            return Called(nn.CosineEmbeddingLoss())
        case "margin":
            return Called(MarginLoss(method.margin))
        case "triplet" if method.mining == "none":
            return Called(nn.TripletMarginLoss(method.margin), with_known=False)
        case "triplet" if method.mining == "batch_hard":
            return Grouped(BatchHardLoss(method.margin))
        case "triplet":
            return Grouped(MinedNegativeLoss(method.mining == "semi_hard", method.margin))
        case "nt_xent":
            return DebiasedNTXent(method.temperature, method.tau_plus, labelled=method.negative == "other_class")
        case "supcon":
            return SupCon(method.temperature)
        case "cross_entropy":
            return LinearCrossEntropy(classes)
    raise ValueError(f"{method.loss} has no loss")


class Called(nn.Module):
    """A loss on the roles' features one by one.

    Args:
        loss: Takes the features, and what is known of each item where it is to be told.
        with_known: Whether it is to be told.
    """

    def __init__(self, loss: nn.Module, with_known: bool = True) -> None:
        super().__init__()
        self.loss, self.with_known = loss, with_known

    def forward(self, features: Sequence[torch.Tensor], known: torch.Tensor) -> torch.Tensor:
        """The mean loss."""
        return self.loss(*features, *([known] if self.with_known else []))


class Grouped(nn.Module):
    """The mean of a loss over groups of a batch, which comes in random order.

    Args:
        loss: Takes features and what is known of each item.
        size: Items of a group, at least; groups differ by one at most.
    """

    def __init__(self, loss: nn.Module, size: int = MINED_AMONG) -> None:
        super().__init__()
        self.loss, self.size = loss, size

    def forward(self, features: Sequence[torch.Tensor], known: torch.Tensor) -> torch.Tensor:
        """The mean over groups."""
        groups = torch.arange(len(known)).tensor_split(max(1, len(known) // self.size))
        return torch.stack([self.loss([f[rows] for f in features], known[rows]) for rows in groups]).mean()


class MarginLoss(nn.Module):
    """The contrastive loss of Hadsell, Chopra and LeCun 2006 (eq. 4): D^2 / 2, or max(0, m - D)^2 / 2 of a negative.

    Args:
        margin: m > 0, in the features' Euclidean distance D.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, first: torch.Tensor, second: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
        """Features (n, d) and (n, d); sign (n,) is 1 for a positive pair, -1 for a negative one."""
        squared = (first - second).square().sum(1)
        # the root's derivative at 0 is infinite: equal features are pushed nowhere
        distance = squared.clamp_min(1e-12).sqrt()
        apart = (self.margin - distance).clamp_min(0).square()
        return 0.5 * torch.where(sign > 0, squared, apart).mean()


class MinedNegativeLoss(nn.Module):
    """The triplet loss with the negative chosen in the batch instead of at random; anchor and positive stay.

    The candidates are the batch's other anchors, those of another class. `hard`: the nearest (Hermans et al. 2017,
    arXiv 1703.07737); `semi_hard`: the nearest that is farther than the positive (Schroff et al. 2015, arXiv
    1503.03832); an anchor without one gives no triplet.

    Args:
        semi_hard: Whether it is `semi_hard`.
        margin: Of the triplet loss.
    """

    def __init__(self, semi_hard: bool, margin: float) -> None:
        super().__init__()
        self.semi_hard = semi_hard
        self.loss = nn.TripletMarginLoss(margin, reduction="sum")

    def forward(self, features: Sequence[torch.Tensor], known: torch.Tensor) -> torch.Tensor:
        """Features of anchors and positives, each (n, d), and their classes (n,); 0 where there is no triplet."""
        anchor, positive = features
        with torch.no_grad():
            distance = torch.cdist(anchor, anchor)
            allowed = known[:, None] != known
            if self.semi_hard:
                allowed &= distance > (anchor - positive).norm(dim=1, keepdim=True)
            negative = distance.masked_fill(~allowed, math.inf).argmin(1)
        has = allowed.any(1)
        return self.loss(anchor[has], positive[has], anchor[negative[has]]) / has.sum().clamp_min(1)


class BatchHardLoss(nn.Module):
    """Batch-hard triplets of Hermans et al. 2017 (arXiv 1703.07737) among anchors and positives.

    Every picture is an anchor once, with the farthest picture of its class and the nearest of another.

    Args:
        margin: Of the triplet loss.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        from pytorch_metric_learning.distances import LpDistance
        from pytorch_metric_learning.miners import BatchHardMiner

        self.miner = BatchHardMiner(distance=LpDistance(normalize_embeddings=False))
        self.loss = nn.TripletMarginLoss(margin, reduction="sum")

    def forward(self, features: Sequence[torch.Tensor], known: torch.Tensor) -> torch.Tensor:
        """Features of anchors and positives, each (n, d), and their classes (n,); 0 where there is no triplet."""
        together = torch.cat(list(features))
        anchor, positive, negative = self.miner(together, known.repeat(len(features)))  # the anchors come twice
        return self.loss(together[anchor], together[positive], together[negative]) / max(len(anchor), 1)


class DebiasedNTXent(nn.Module):
    r"""InfoNCE over a batch of two views, with unlabelled negatives and the correction of Chuang et al. 2020.

    For a view with its other view at cosine s+ and N negatives at cosines s_i (arXiv 2007.00224, eqs. 7 and 8, one
    positive), the loss is

    .. math:: -\log \frac{e^{s_+/t}}{e^{s_+/t} + N g}, \quad g = \max\left(
        \frac{\frac{1}{N}\sum_i e^{s_i/t} - \tau_+ e^{s_+/t}}{1 - \tau_+}, e^{-1/t}\right)

    tau+ is the probability that a negative is of the anchor's class; e^(-1/t), the least value that a cosine allows,
    keeps the estimate above what is possible. tau+ = 0 is NT-Xent (Chen et al. 2020), whose negatives are the 2n - 2
    views of the batch's other pictures.

    Args:
        temperature: t > 0.
        tau_plus: tau+ in [0, 1).
        labelled: Leave out negatives of the anchor's class, which needs labels: what the correction estimates.
    """

    def __init__(self, temperature: float, tau_plus: float = 0.0, labelled: bool = False) -> None:
        super().__init__()
        self.temperature, self.tau_plus, self.labelled = temperature, tau_plus, labelled

    def forward(self, features: Sequence[torch.Tensor], known: torch.Tensor) -> torch.Tensor:
        """Features of two views, each (n, d), normalised here, and the classes (n,), which only `labelled` uses."""
        views = F.normalize(torch.cat(list(features)).float(), dim=1)
        numbers = torch.arange(len(known), device=views.device).repeat(2)
        classes = known.repeat(2) if self.labelled else numbers
        logits = views @ views.T / self.temperature
        positive = logits.diagonal(len(known)).repeat(2)
        is_negative = classes[:, None] != classes
        count = is_negative.sum(1).clamp_min(1)
        mean = (logits.exp() * is_negative).sum(1) / count
        unbiased = (mean - self.tau_plus * positive.exp()) / (1 - self.tau_plus)
        others = count * unbiased.clamp_min(math.exp(-1 / self.temperature))
        return (torch.log(positive.exp() + others) - positive).mean()


class SupCon(nn.Module):
    """The main study's supervised contrastive loss on the anchors and positives of a batch.

    Args:
        temperature: tau > 0.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.loss = SupConLoss(temperature)

    def forward(self, features: Sequence[torch.Tensor], known: torch.Tensor) -> torch.Tensor:
        """Features of anchors and positives, each (n, d), normalised here, and their classes (n,)."""
        return self.loss(F.normalize(torch.stack(list(features), dim=1), dim=-1), known)


class LinearCrossEntropy(nn.Module):
    """What labels give without contrast: a linear classifier on the features of all views.

    Args:
        classes: Their number.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(NUM_FEATURES, classes)

    def forward(self, features: Sequence[torch.Tensor], known: torch.Tensor) -> torch.Tensor:
        """Features of anchors and positives, each (n, 32), and their classes (n,)."""
        return F.cross_entropy(self.head(torch.cat(list(features))), known.repeat(len(features)))
