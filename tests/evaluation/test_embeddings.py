import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from tests.widgets.made_up import ARMS, CLASSES, EVALUATION, INSIDE, made_up_data, made_up_features
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.embeddings import (
    METHODS,
    alignment_table,
    coordinates,
    displacement,
    embed_arms,
    map_points,
    onto,
    place,
    tsne,
    umap,
)
from thesis_lib.randomness import numpy_generator, torch_generator


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


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def test_onto_undoes_any_turn_reflection_and_shift_and_scales_nothing() -> None:
    reference = numpy_generator(0, "map").normal(size=(30, 2)) * (3, 1) + 5
    for degrees, flip in itertools.product((0, 70, 200), (1, -1)):
        moved = turned(reference * (flip, 1), degrees) + np.array([8, -3])
        assert np.allclose(onto(moved, reference), reference)
        centred = reference - reference.mean(0)
        assert np.allclose(onto(2 * moved, reference) - reference.mean(0), 2 * centred)


def test_onto_is_the_best_of_all_turns_tried_one_by_one() -> None:
    generator = numpy_generator(1, "map")
    reference, points = generator.normal(size=(2, 25, 2)) * (3, 1)
    tried = [
        displacement(turned((points - points.mean(0)) * (flip, 1), degrees), reference)
        for degrees in np.arange(0, 360, 0.5)
        for flip in (1, -1)
    ]
    best = displacement(onto(points, reference), reference)
    assert best <= min(tried) + 1e-12 and best == pytest.approx(min(tried), abs=1e-4)


def test_displacement_in_closed_form() -> None:
    reference = numpy_generator(2, "map").normal(size=(40, 2))
    assert displacement(reference + 3, reference) == pytest.approx(0, abs=1e-12)
    for degrees in (30, 90, 180):  # a chord of the unit circle
        assert displacement(turned(reference, degrees), reference) == pytest.approx(2 * np.sin(np.deg2rad(degrees) / 2))
    other = numpy_generator(3, "map").normal(size=(4000, 2))
    assert displacement(other, numpy_generator(4, "map").normal(size=(4000, 2))) == pytest.approx(2**0.5, abs=0.03)


def test_a_map_of_the_same_features_stays_where_its_reference_is(clusters) -> None:
    features, labels = clusters
    reference = tsne(features, 10, seed=1)
    shuffled = features[:, torch.randperm(16, generator=torch_generator(0, "axes"))] * torch.tensor([1.0, -1.0] * 8)
    aligned = place("tsne", shuffled, 10, 1, reference)  # the same distances in other coordinates
    assert displacement(aligned, reference) < 0.5  # rounding of a processor steers t-SNE; unrelated maps have 1.41
    assert silhouette_score(aligned, labels) > 0.5


@pytest.mark.slow
def test_aligned_maps_of_similar_arms_are_as_faithful_and_umap_lies_nearer_to_the_first() -> None:
    data, features = made_up_data(), made_up_features()
    assert data.ood is not None
    maps = embed_arms(features, data.images.table, data.ood.table, EVALUATION, 0)
    assert list(dict.fromkeys(maps["arm"])) == list(ARMS)
    first = maps[maps["arm"] == "real"]
    assert list(first["set"]) == ["id"] * INSIDE + ["near", "far"] * 6
    assert list(first["row"]) == [*range(INSIDE), *range(12)]
    logits = torch.cat([features["real"]["test_logits"], features["real"]["ood_logits"]]).numpy().astype(float)
    exponentials = np.exp(logits)
    by_hand = exponentials.max(1) / exponentials.sum(1)
    assert np.allclose(first["confidence"], by_hand)
    assert list(first["predicted"]) == [CLASSES[i] for i in logits.argmax(1)]
    points = map_points(features["real"], data.ood.table)
    assert np.array_equal(coordinates(first, "tsne"), tsne(points, 5, 0)), "the first arm is its own reference"
    table = alignment_table(maps, features | {"not mapped": {}}, data.ood.table, EVALUATION, 0)
    assert list(table.index) == [(arm, method) for arm in ARMS[1:] for method in METHODS]
    # t-SNE's early exaggeration forgets most of where it started, so its maps gain by the turn alone, if at all
    of_umap = table.xs("umap", level="method")
    assert (of_umap["displacement"] < of_umap["displacement by itself"]).all()
    assert (table["trustworthiness"] > table["trustworthiness by itself"] - 0.05).all()


def test_arms_of_different_pictures_are_refused() -> None:
    data, features = made_up_data(), made_up_features()
    features["real_id"]["test_rows"] = features["real_id"]["test_rows"].flip(0)
    with pytest.raises(ThesisError, match=r"real_id and real are of different pictures.*notebook 05"):
        embed_arms(features, data.images.table, None, EVALUATION, 0)
