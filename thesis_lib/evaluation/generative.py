"""The generative classifier: which generated examples pass for real ones.

A classifier learns real examples against bad ones; bad are noised originals for tables, reconstructions of an early VAE
or pictures inserted too early for pictures. Of what was generated, the half of each class that it takes for real most
surely is kept.
"""

from typing import Any

import numpy as np
import pandas as pd


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
