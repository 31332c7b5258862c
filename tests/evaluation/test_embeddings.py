import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.embeddings import tsne, umap
from thesis_lib.randomness import torch_generator


@pytest.fixture(scope="module")
def clusters() -> tuple[torch.Tensor, np.ndarray]:
    generator = torch_generator(0, "clusters")
    labels = np.repeat(np.arange(3), 20)
    return 4 * torch.randn(3, 16, generator=generator)[labels] + torch.randn(60, 16, generator=generator), labels


def test_tsne_is_deterministic_and_keeps_clusters(clusters) -> None:
    features, labels = clusters
    first, second = tsne(features, 10, seed=1), tsne(features.numpy(), 10, seed=1)
    assert first.shape == (60, 2)
    assert np.array_equal(first, second)
    assert silhouette_score(first, labels) > 0.5
    assert np.array_equal(first, tsne(features * 8, 10, seed=1))  # lengths are normalised away


@pytest.mark.slow
def test_umap_is_deterministic_and_keeps_clusters(clusters) -> None:
    features, labels = clusters
    first, second = umap(features, 10, seed=1), umap(features, 10, seed=1)
    assert first.shape == (60, 2)
    assert np.array_equal(first, second)
    assert silhouette_score(first, labels) > 0.5


def test_too_few_pictures_name_the_parameter(clusters) -> None:
    with pytest.raises(ThesisError, match=r"perplexity \(60\).*60"):
        tsne(clusters[0], 60, seed=0)
    with pytest.raises(ThesisError, match=r"evaluation\.neighbours \(60\)"):
        umap(clusters[0], 60, seed=0)
