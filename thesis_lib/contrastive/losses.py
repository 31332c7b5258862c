"""Supervised contrastive losses with near-OOD pictures beside the classes.

Two losses, one form. For an anchor view i and targets t and weights v over the other views,

    loss_i = ln sum_j v_ij exp(s_ij / tau) - sum_j t_ij s_ij / tau / sum_j t_ij

with s_ij the product of two features and tau the temperature. `SupConLoss` (Khosla et al. 2020, arXiv 2004.11362,
eq. 2, L_out) has near-OOD pictures as negatives only, `GeneralisedSupConLoss` (Kim et al. 2022, arXiv 2206.00384) gives
them label vectors between their class and a class of their own. Indices run over views; there is no base temperature.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import nn

from thesis_lib.sections import TrainingParameters

Negatives = Literal["own_class", "all_classes"]


class ContrastiveLoss(nn.Module, ABC):
    """What the losses share: who is an anchor, the mean over anchors, the value of a collapsed network.

    Anchors are the in-distribution (ID) views that have a positive: another ID view of their class. So every loss has
    the same anchors. Near-OOD views are never anchors. Nor are *fillers*, extra ID pictures in the near-OOD slots: they
    are positives of their class's anchors and nothing to the others, the control for "is it only more pictures?".

    Args:
        temperature: tau > 0.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    @abstractmethod
    def targets_and_weights(
        self, similarity: torch.Tensor, same_class: torch.Tensor, others: torch.Tensor, near: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The targets t and the logarithms of the weights v, both (anchors, n) for n views.

        Args:
            similarity: (anchors, n) products of features, in float32, not divided by the temperature.
            same_class: (anchors, n) bool; a near-OOD view has the class it was made from.
            others: (anchors, n) bool: not the anchor itself, and no filler of another class.
            near: (n,) bool.
        """

    def per_anchor(
        self, features: torch.Tensor, labels: torch.Tensor, is_near_ood: torch.Tensor | None = None,
        is_filler: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """The loss of each anchor.

        Args:
            features: (batch, views >= 1, dim), taken as they come: normalising is the head's business.
            labels: (batch,) class of each picture; for near-OOD pictures the class they were made from.
            is_near_ood: (batch,) bool; none means that no picture is.
            is_filler: (batch,) bool; none means that no picture is.

        Returns:
            The losses in float32, (anchors,), and which views are anchors, (batch, views) bool, in the same order.

        Raises:
            ValueError: Shapes do not fit, or a picture is both near-OOD and a filler.
        """
        if features.ndim != 3:
            raise ValueError(f"features must be (batch, views, dim), got shape {tuple(features.shape)}")
        batch, views, _ = features.shape
        none = torch.zeros(batch, dtype=torch.bool, device=features.device)
        is_near_ood, is_filler = (none if x is None else x.bool() for x in (is_near_ood, is_filler))
        if any(x.shape != (batch,) for x in (labels, is_near_ood, is_filler)):
            raise ValueError(
                f"labels, is_near_ood and is_filler must be ({batch},), "
                f"got {[tuple(x.shape) for x in (labels, is_near_ood, is_filler)]}"
            )
        if (is_near_ood & is_filler).any():
            raise ValueError("a picture is near-OOD or a filler, not both")
        label, near, filler = (x.repeat_interleave(views) for x in (labels, is_near_ood, is_filler))
        same_class = label[:, None] == label
        others = ~torch.eye(len(label), dtype=torch.bool, device=features.device) & (~filler | same_class)
        anchors = (same_class & others & ~near).any(dim=1) & ~near & ~filler
        # Half precision overflows at exp(1 / 0.07); similarities are taken and summed in float32 whatever comes in.
        with torch.autocast(features.device.type, enabled=False):
            flat = features.float().flatten(0, 1)
            similarity = flat[anchors] @ flat.T
            target, log_weight = self.targets_and_weights(similarity, same_class[anchors], others[anchors], near)
            logits = similarity / self.temperature
            attraction = (target * logits).sum(1) / target.sum(1)
            return (logits + log_weight).logsumexp(1) - attraction, anchors.unflatten(0, (batch, views))

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, is_near_ood: torch.Tensor | None = None,
        is_filler: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The mean of `per_anchor`, whose arguments it takes; 0, still attached to the graph, without anchors."""
        losses, _ = self.per_anchor(features, labels, is_near_ood, is_filler)
        return losses.sum() / max(len(losses), 1)

    def collapse_value(
        self, labels: torch.Tensor, views: int, is_near_ood: torch.Tensor | None = None,
        is_filler: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The loss of a network that maps everything to one point: the mean over anchors of ln sum_j v_ij.

        Without weights that is ln |J(i)|, J(i) being the views in the anchor's sum. Losses of batches of different
        make-up are comparable only relative to it.

        Args:
            labels: (batch,) as in `per_anchor`.
            views: Views a picture.
            is_near_ood: (batch,) as in `per_anchor`.
            is_filler: (batch,) as in `per_anchor`.
        """
        return self(torch.ones(len(labels), views, 1, device=labels.device), labels, is_near_ood, is_filler)


class SupConLoss(ContrastiveLoss):
    r"""Supervised contrastive loss, L_out form, with near-OOD pictures as negatives only.

    For an anchor i with positives P(i), the other ID views of its class, the loss is

    .. math:: -\frac{1}{|P(i)|} \sum_{p \in P(i)}
        \log \frac{\exp(s_{ip}/\tau)}{\sum_{j \in J(i)} v_{ij} \exp(s_{ij}/\tau)}

    where J(i) holds every ID view but i itself and the near-OOD views that i may see. v is 1 but for

    - *weight*: a near-OOD view counts w times. An additive margin m on its similarity is the same thing:
      exp((s + m) / tau) = exp(m / tau) exp(s / tau), so w = exp(m / tau), and there is no margin to set.
    - *tilt*: among the anchor's negatives, J(i) without P(i), v is proportional to exp(tilt * s) and sums to their
      number, so hard negatives count more and easy ones less (Robinson et al. 2021, arXiv 2010.04592; Jiang et al.,
      arXiv 2209.00078). Taken as a constant by the gradient. s is not divided by tau here; it is in both papers' code,
      whose beta is tilt * tau.

    Both together: the tilt is normalised first, over ID and near-OOD negatives alike, then w multiplies, so that w
    remains a margin. A further near-OOD negative never lowers an anchor's loss without tilt; with it, it can, since an
    easy negative draws weight from a harder one.

    Args:
        temperature: tau > 0.
        negatives: `own_class`: only anchors of a near-OOD picture's class see it (the thesis); `all_classes`: all do.
        near_ood_weight: w > 0.
        tilt: beta >= 0.

    Example:
        >>> loss = SupConLoss(temperature=0.07)
        >>> features = nn.functional.normalize(torch.randn(8, 2, 16), dim=-1)
        >>> loss(features, torch.arange(8) // 2).ndim
        0
    """

    def __init__(
        self, temperature: float = 0.07, negatives: Negatives = "own_class", near_ood_weight: float = 1.0,
        tilt: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(temperature)
        if negatives not in ("own_class", "all_classes"):
            raise ValueError(f"negatives must be own_class or all_classes, got {negatives!r}")
        if near_ood_weight <= 0 or tilt < 0:
            raise ValueError(f"near_ood_weight must be > 0 and tilt >= 0, got {near_ood_weight} and {tilt}")
        self.negatives, self.near_ood_weight, self.tilt = negatives, near_ood_weight, tilt

    def targets_and_weights(
        self, similarity: torch.Tensor, same_class: torch.Tensor, others: torch.Tensor, near: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """1 for positives; ln w for near-OOD views, the tilt for negatives, -inf for views outside J(i)."""
        positive = same_class & others & ~near
        negative = others & ~positive
        if self.negatives == "own_class":
            negative &= ~near | same_class
        log_weight = (near * math.log(self.near_ood_weight)).expand_as(similarity)
        if self.tilt:
            tilted = (self.tilt * similarity.detach()).masked_fill(~negative, -torch.inf)
            tilted = tilted - tilted.logsumexp(1, keepdim=True) + negative.sum(1, keepdim=True).log()
            log_weight = torch.where(negative, log_weight + tilted, log_weight)
        return positive.float(), log_weight.masked_fill(~(positive | negative), -torch.inf)


class GeneralisedSupConLoss(ContrastiveLoss):
    """Generalised supervised contrastive loss with label vectors for near-OOD pictures.

    The loss of an anchor is the cross entropy of its target and softmax(s_ij / tau) over all other views j. The target
    is the cosine similarity of label vectors, normalised to sum 1 (Kim et al. 2022, "A Generalized Supervised
    Contrastive Learning Framework", arXiv 2206.00384). A picture of class y has label vector e_y, a near-OOD picture
    made from class y has (1 - mixing) e_y + mixing e_extra(y), with an extra entry for each class: a mix towards a
    uniform vector would make it alike to classes it has nothing to do with. Its cosine with an anchor of class y is
    (1 - mixing) / sqrt((1 - mixing)^2 + mixing^2), with other anchors 0.

    mixing = 1 is SupConLoss with `all_classes`, mixing = 0 makes near-OOD pictures full positives. Between them every
    anchor has all near-OOD pictures in its sum. Unlike the paper, where every picture is an anchor, near-OOD pictures
    are none, so that arms and losses are compared at equal anchors.

    Args:
        temperature: tau > 0.
        mixing: 0 to 1.
    """

    def __init__(self, temperature: float = 0.07, mixing: float = 0.5) -> None:
        super().__init__(temperature)
        if not 0 <= mixing <= 1:
            raise ValueError(f"mixing must be between 0 and 1, got {mixing}")
        self.mixing = mixing

    def targets_and_weights(
        self, similarity: torch.Tensor, same_class: torch.Tensor, others: torch.Tensor, near: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The cosine of label vectors; 0 for all other views, -inf for what is none."""
        cosine = (1 - self.mixing) / math.hypot(1 - self.mixing, self.mixing)
        target = (same_class & others) * torch.where(near, cosine, 1.0)
        return target, torch.zeros_like(similarity).masked_fill(~others, -torch.inf)


def build_loss(training: TrainingParameters) -> ContrastiveLoss:
    """The loss of an objective.

    `supcon` takes `negatives`, `near_ood_weight` and `tilt`; `simclr` the last two, and every anchor sees every
    near-OOD picture (its labels are the pictures' numbers: who calls it gives them); `label_vectors` takes
    `label_mixing`.
    """
    p = training
    if p.objective == "label_vectors":
        return GeneralisedSupConLoss(p.temperature, p.label_mixing)
    negatives: Negatives = "all_classes" if p.objective == "simclr" else p.negatives
    return SupConLoss(p.temperature, negatives, p.near_ood_weight, p.tilt)
