"""Maps of a representation in two or three dimensions, the same on every run with the same seed on one machine."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from thesis_lib.errors import ThesisError
from thesis_lib.parameters import EvaluationParameters
from thesis_lib.randomness import derive_seed


def tsne(
    features: Tensor | np.ndarray, perplexity: float, seed: int, dimensions: int = 2, normalised: bool = True
) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008) of features, started from their principal components.

    Args:
        features: (n, d) raw features.
        perplexity: Effective number of neighbours, below n.
        seed: The experiment's seed.
        dimensions: Of the map, 2 or 3.
        normalised: Whether features are L2-normalised first.

    Returns:
        (n, dimensions) coordinates without unit.

    Raises:
        ThesisError: The perplexity is too large for n points.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    points = _normalised(features) if normalised else np.asarray(features, dtype=np.float32)
    if perplexity >= len(points):
        raise ThesisError(
            f"t-SNE's perplexity ({perplexity:g}) must be below the number of pictures, and there are "
            f"{len(points)}: lower it in the parameter file"
        )
    state = derive_seed(seed, "tsne") % 2**32
    with threadpool_limits(1):  # sums over threads come in any order, and t-SNE magnifies the last digit
        found = TSNE(dimensions, perplexity=perplexity, init="pca", random_state=state, n_jobs=1).fit_transform(points)
    return np.asarray(found)


def pca(features: Tensor | np.ndarray, dimensions: int = 2) -> np.ndarray:
    """The first principal components of (n, d) raw features: (n, dimensions), in the features' unit."""
    from sklearn.decomposition import PCA

    return np.asarray(PCA(dimensions, svd_solver="full").fit_transform(np.asarray(features, dtype=np.float64)))


def umap(features: Tensor | np.ndarray, neighbours: int, seed: int) -> np.ndarray:
    """UMAP (McInnes et al. 2018, arXiv 1802.03426) of L2-normalised features.

    Args:
        features: (n, d) raw features.
        neighbours: Size of the neighbourhood, at least 2 and below n.
        seed: The experiment's seed.

    Returns:
        (n, 2) coordinates without unit.

    Raises:
        ThesisError: There are more neighbours than other points.
    """
    points = _normalised(features)
    if neighbours >= len(points):
        raise ThesisError(
            f"evaluation.neighbours ({neighbours}) must be below the number of pictures, and there are "
            f"{len(points)}: lower it"
        )
    from umap import UMAP  # compiles for seconds, so only once it is known to be needed

    state = derive_seed(seed, "umap") % 2**32
    return np.asarray(UMAP(n_neighbors=neighbours, random_state=state, n_jobs=1).fit_transform(points))


def embed_arms(
    features: Mapping[str, Mapping[str, Tensor]], images: pd.DataFrame, ood: pd.DataFrame | None,
    evaluation: EvaluationParameters, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """t-SNE and UMAP of each arm's test, near and far pictures.

    Returns:
        Columns arm, set (id, near, far), class_name, path, row, tsne_x, tsne_y, umap_x, umap_y.
    """
    from threadpoolctl import threadpool_limits

    frames, points = [], []
    for arm, tensors in features.items():
        parts = [("test", images), *([("ood", ood)] if ood is not None and "ood_features" in tensors else [])]
        rows = pd.concat([table.loc[tensors[f"{part}_rows"].numpy()] for part, table in parts])
        frame = pd.DataFrame({"arm": arm, "set": np.where(rows["label"] < 0, rows["set"], "id")})
        frames.append(
            frame.assign(class_name=rows["class_name"].to_numpy(), path=rows["path"].to_numpy(), row=rows.index)
        )
        points.append(torch.cat([tensors[f"{part}_features"] for part, _ in parts]))
    # UMAP compiles for many seconds, in which t-SNE computes
    with threadpool_limits(1), ThreadPoolExecutor(1) as other:
        maps = [other.submit(umap, each, evaluation.neighbours, seed) for each in points]
        for frame, each, mapped in zip(frames, points, maps, strict=True):
            frame[["tsne_x", "tsne_y"]] = tsne(each, evaluation.perplexity, seed)
            frame[["umap_x", "umap_y"]] = mapped.result()
    return pd.concat(frames, ignore_index=True)


def _normalised(features: Tensor | np.ndarray) -> np.ndarray:
    points = np.asarray(features, dtype=np.float32)
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
