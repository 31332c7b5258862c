"""The generative classifier: which generated examples pass for real ones.

A classifier learns real examples against bad ones; bad are noised originals for tables, reconstructions of an early VAE
or pictures inserted too early for pictures. Of what was generated, the half of each class that it takes for real most
surely is kept.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from thesis_lib.datasets.proben1 import AttributeTable
from thesis_lib.randomness import torch_generator


def genuineness(made: np.ndarray, real: np.ndarray, bad: np.ndarray, classifier: Any) -> np.ndarray:
    """How surely each generated example is a real one and not a bad one.

    Args:
        made: (n, ...) generated examples, or features of them.
        real: (m, ...) real ones.
        bad: (k, ...) bad ones.
        classifier: With scikit-learn's `fit` and `predict_proba`, not fitted.

    Returns:
        (n,) in [0, 1].
    """
    is_real = (np.arange(len(real) + len(bad)) < len(real)).astype(np.int64)
    classifier.fit(np.concatenate([real, bad]), is_real)
    return classifier.predict_proba(made)[:, 1]


def surer_half(scores: pd.Series, groups: list[Any]) -> pd.Series:
    """Whether a score is in the upper half of its group or its middle; equal ones count in their order."""
    return scores.groupby(groups).rank(pct=True, method="first") > 0.5


def noised(x: Tensor, table: AttributeTable, variance: float, change: float, seed: int) -> Tensor:
    """Bad examples for a table: noise on numbers that are there, other values at random in the other attributes.

    Args:
        x: (n, columns) standardised examples.
        table: Tells what the columns are.
        variance: Of the normal noise on continuous attributes.
        change: Probability that a binary or nominal attribute gets the value of another example.
        seed: Seeds everything.
    """
    generator = torch_generator(seed, "noised")
    bad = x.clone()
    for attribute in table.attributes:
        columns = slice(attribute.start, attribute.start + attribute.width)
        if attribute.kind == "continuous":
            noise = variance**0.5 * torch.randn(len(x), generator=generator)
            there = 1.0 if attribute.missing is None else 1 - x[:, attribute.missing]
            bad[:, attribute.start] += noise * there
        else:
            others = x[torch.randint(len(x), (len(x),), generator=generator), columns]
            changed = torch.rand(len(x), 1, generator=generator) < change
            bad[:, columns] = torch.where(changed, others, x[:, columns])
    return bad
