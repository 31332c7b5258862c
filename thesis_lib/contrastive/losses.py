"""Supervised contrastive loss with near-OOD negatives.

Khosla et al. 2020 (arXiv 2004.11362), eq. 2 (L_out), extended by synthetic pictures just outside a class that are
negatives only. The indices of the equations run over views.
"""

from typing import Literal

import torch
from torch import nn

Negatives = Literal["own_class", "all_classes"]


class SupConLoss(nn.Module):
    r"""Supervised contrastive loss, L_out form, without base temperature.

    For an anchor view i with positives P(i), the other in-distribution views of its class, the loss is

    .. math:: -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log \frac{\exp(s_{ip}/\tau)}{\sum_{j \in J(i)} \exp(s_{ij}/\tau)}

    where J(i) holds every in-distribution view but i itself, and the near-OOD views that i may see. Near-OOD views are
    never anchors and never positives. Anchors without positives are left out of the mean.

    Args:
        temperature: tau > 0.
        negatives: `own_class`: only anchors of a near-OOD picture's class see it (the thesis); `all_classes`: all do.

    Example:
        >>> loss = SupConLoss(temperature=0.07)
        >>> features = nn.functional.normalize(torch.randn(8, 2, 16), dim=-1)
        >>> loss(features, torch.arange(8) // 2).ndim
        0
    """

    def __init__(self, temperature: float = 0.07, negatives: Negatives = "own_class") -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if negatives not in ("own_class", "all_classes"):
            raise ValueError(f"negatives must be own_class or all_classes, got {negatives!r}")
        self.temperature = temperature
        self.negatives = negatives

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, is_near_ood: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The mean loss over anchors that have positives.

        Args:
            features: (batch, views >= 1, dim), taken as they come: normalising is the head's business.
            labels: (batch,) class of each picture; for near-OOD pictures the class they were made from.
            is_near_ood: (batch,) bool; none means that no picture is.

        Returns:
            A scalar in float32; 0, still attached to the graph, where no anchor has a positive.

        Raises:
            ValueError: Shapes do not fit.
        """
        if features.ndim != 3:
            raise ValueError(f"features must be (batch, views, dim), got shape {tuple(features.shape)}")
        batch, views, _ = features.shape
        if is_near_ood is None:
            is_near_ood = torch.zeros(batch, dtype=torch.bool, device=features.device)
        if labels.shape != (batch,) or is_near_ood.shape != (batch,):
            raise ValueError(
                f"labels and is_near_ood must be ({batch},), got {tuple(labels.shape)} and {tuple(is_near_ood.shape)}"
            )
        near = is_near_ood.bool().repeat_interleave(views)
        label = labels.repeat_interleave(views)
        same_class = label[:, None] == label[None, :]
        other = ~torch.eye(batch * views, dtype=torch.bool, device=features.device)
        positive = same_class & other & ~near[None, :] & ~near[:, None]
        anchors = positive.any(dim=1)
        if not anchors.any():
            return features.float().sum() * 0.0
        sees_near = same_class if self.negatives == "own_class" else torch.ones_like(same_class)
        contrast = other & (~near[None, :] | sees_near)
        # Half precision overflows at exp(1 / 0.07); similarities are taken and summed in float32 whatever comes in.
        with torch.autocast(features.device.type, enabled=False):
            flat = features.float().flatten(0, 1)
            similarity = flat[anchors] @ flat.T / self.temperature
            in_contrast = similarity.masked_fill(~contrast[anchors], -torch.inf)
            log_probability = similarity - in_contrast.logsumexp(dim=1, keepdim=True)
            positive = positive[anchors]
            return -((log_probability * positive).sum(1) / positive.sum(1)).mean()

    def collapse_value(self, labels: torch.Tensor, views: int, is_near_ood: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a network that maps everything to one point: the mean of ln |J(i)| over anchors.

        Losses of batches of different make-up are comparable only relative to it.

        Args:
            labels: (batch,) as in `forward`.
            views: Views a picture.
            is_near_ood: (batch,) as in `forward`.
        """
        return self(torch.ones(len(labels), views, 1, device=labels.device), labels, is_near_ood)
