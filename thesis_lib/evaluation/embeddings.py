"""Maps of a representation: the same on every run with one seed, and alike where arms are alike.

t-SNE and UMAP leave rotation, reflection and the places of groups to chance, so that maps of two arms differ even where
the arms don't. Here the first arm is the reference: every other arm's map starts from the reference's layout (Kobak and
Berens 2019, Nature Communications 10:5416, advise this for t-SNE) and is then rotated and reflected onto it. The loss
that is minimised stays the plain one, nothing pulls a picture back to its place. A group that lies elsewhere may still
have the same neighbours, for its place is chance's to some degree: `alignment_table` says how many are kept.

umap's AlignedUMAP is not used. It adds a penalty on the distance between a picture's places in neighbouring maps, which
hides change in the measure of its weight; it fits all maps together, so that adding an arm changes every other map; its
layouts start anew from a spectral layout; and there is no such thing for t-SNE.
"""

import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.randomness import derive_seed, numpy_generator
from thesis_lib.sections import EvaluationParameters

METHODS = ("tsne", "umap")
"""The columns of a table of maps are called after them: `tsne_x`, `tsne_y`, `umap_x`, `umap_y`."""
MEASURED = 2000
"""Pictures at most among which neighbours are compared, which takes memory that grows with the square."""
_UMAP_LOCK = threading.Lock()  # numba's own threads end the process when two threads enter them at once


def tsne(
    features: Tensor | np.ndarray, perplexity: float, seed: int, start: np.ndarray | None = None, dimensions: int = 2,
    normalised: bool = True,
) -> np.ndarray:  # fmt: skip
    """t-SNE (van der Maaten and Hinton 2008) of features.

    Args:
        features: (n, d) raw features.
        perplexity: Effective number of neighbours, below n.
        seed: The experiment's seed.
        start: (n, dimensions) layout to start from, of any scale; by default the features' principal components.
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
    init: str | np.ndarray = "pca"
    if start is not None:  # as small as scikit-learn makes principal components, else early steps can't move groups
        centred = start - start.mean(0)
        init = (1e-4 * centred / centred[:, 0].std()).astype(np.float32)
    state = derive_seed(seed, "tsne") % 2**32
    with threadpool_limits(1):  # sums over threads come in any order, and t-SNE magnifies the last digit
        made = TSNE(dimensions, perplexity=perplexity, init=init, random_state=state, n_jobs=1).fit_transform(points)
    return np.asarray(made)


def pca(features: Tensor | np.ndarray, dimensions: int = 2) -> np.ndarray:
    """The first principal components of (n, d) raw features: (n, dimensions), in the features' unit."""
    from sklearn.decomposition import PCA

    return np.asarray(PCA(dimensions, svd_solver="full").fit_transform(np.asarray(features, dtype=np.float64)))


def umap(features: Tensor | np.ndarray, neighbours: int, seed: int, start: np.ndarray | None = None) -> np.ndarray:
    """UMAP (McInnes et al. 2018, arXiv 1802.03426) of L2-normalised features.

    Args:
        features: (n, d) raw features.
        neighbours: Size of the neighbourhood, at least 2 and below n.
        seed: The experiment's seed.
        start: (n, 2) layout to start from, of any scale; by default a spectral layout.

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
    from threadpoolctl import threadpool_limits

    with _UMAP_LOCK, threadpool_limits(1):
        from umap import UMAP  # compiles for seconds, so only once it is known to be needed

        init: str | np.ndarray = "spectral"
        if start is not None:  # within ±10, as umap makes its spectral layout
            centred = start - start.mean(0)
            init = (10 * centred / np.abs(centred).max()).astype(np.float32)
        state = derive_seed(seed, "umap") % 2**32
        mapper = UMAP(n_neighbors=neighbours, init=init, random_state=state, n_jobs=1)
        return np.asarray(mapper.fit_transform(points))


def onto(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`points` rotated, reflected and shifted to lie as near to `reference` as that can bring them.

    The orthogonal Procrustes problem (Schönemann 1966). Nothing is scaled: how far a map spreads is its own.

    Args:
        points: (n, 2) coordinates.
        reference: (n, 2) coordinates of the same pictures.

    Returns:
        (n, 2) coordinates; distances between points are those of `points`.
    """
    centred = points - points.mean(0)
    turn, _ = orthogonal_procrustes(centred, reference - reference.mean(0))
    return centred @ turn + reference.mean(0)


def displacement(points: np.ndarray, reference: np.ndarray) -> float:
    """How far points lie from their places in a reference map, with both maps centred.

    Args:
        points: (n, 2) coordinates.
        reference: (n, 2) coordinates of the same pictures.

    Returns:
        The root mean square distance in units of the reference's root mean square radius: 0 for the same map, about 1.4
        (the square root of 2) for a map of the same size that has nothing to do with it.
    """
    centred = reference - reference.mean(0)
    return float(np.linalg.norm(points - points.mean(0) - centred) / np.linalg.norm(centred))


def place(method: str, features: Tensor, setting: float, seed: int, reference: np.ndarray | None) -> np.ndarray:
    """One arm's map, aligned with the reference arm's.

    Args:
        method: `tsne` or `umap`.
        features: (n, d) raw features.
        setting: The perplexity of t-SNE or the neighbours of UMAP.
        seed: The experiment's seed.
        reference: (n, 2) map of the reference arm by the same method; none for the reference itself.

    Returns:
        (n, 2) coordinates.

    Raises:
        ThesisError: The setting is too large for n points.
    """
    if method == "tsne":
        made = tsne(features, setting, seed, reference)
    else:
        made = umap(features, int(setting), seed, reference)
    return made if reference is None else onto(made, reference)


def fitting(evaluation: EvaluationParameters, pictures: int) -> EvaluationParameters:
    """The settings for maps of so many pictures: perplexity and neighbours at most a third of their number.

    Warns:
        ThesisWarning: They are lowered.
    """
    most = max(2, pictures // 3)
    fits = evaluation.model_copy(
        update={
            "perplexity": min(evaluation.perplexity, most),
            "neighbours": min(evaluation.neighbours, most),
        }
    )
    if fits != evaluation:
        warnings.warn(
            f"maps of {pictures} pictures: evaluation.perplexity and evaluation.neighbours are lowered to "
            f"{fits.perplexity:g} and {fits.neighbours}",
            ThesisWarning,
            stacklevel=2,
        )
    return fits


def embed_arms(
    features: Mapping[str, Mapping[str, Tensor]], images: pd.DataFrame, ood: pd.DataFrame | None,
    evaluation: EvaluationParameters, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """t-SNE and UMAP of each arm's test, near and far pictures, aligned with the first arm's.

    Args:
        features: Arm -> what `collect_features` gives; the first arm is the reference.
        images: The image table.
        ood: The OOD table, or none.
        evaluation: Perplexity and neighbours.
        seed: The experiment's seed.

    Returns:
        Columns arm, set (id, near, far), class_name, path, row (of the image or the OOD table), predicted (the class
        the arm's classifier answers), confidence (its softmax probability), tsne_x, tsne_y, umap_x, umap_y. Every arm
        has the same pictures in the same order.

    Raises:
        ThesisError: The arms' features are of different pictures; a setting is too large for so few pictures.
    """
    from threadpoolctl import threadpool_limits

    frames = {arm: _answers(tensors, images, ood).assign(arm=arm) for arm, tensors in features.items()}
    first, *others = frames
    for arm in others:
        if not frames[arm][["set", "row"]].equals(frames[first][["set", "row"]]):
            raise ThesisError(
                f"the features of {arm} and {first} are of different pictures, so their maps can't be compared: "
                "run notebook 05 again for both"
            )
    points = {arm: map_points(tensors, ood) for arm, tensors in features.items()}

    def maps(method: str, setting: float) -> dict[str, np.ndarray]:
        made = {first: place(method, points[first], setting, seed, None)}
        return made | {arm: place(method, points[arm], setting, seed, made[first]) for arm in others}

    # UMAP compiles for many seconds, in which t-SNE computes
    with threadpool_limits(1), ThreadPoolExecutor(1) as other:
        waiting = other.submit(maps, "umap", evaluation.neighbours)
        for method, made in (("tsne", maps("tsne", evaluation.perplexity)), ("umap", waiting.result())):
            for arm, frame in frames.items():
                frame[[f"{method}_x", f"{method}_y"]] = made[arm]
    return pd.concat(frames.values(), ignore_index=True)


def alignment_table(
    maps: pd.DataFrame, features: Mapping[str, Mapping[str, Tensor]], ood: pd.DataFrame | None,
    evaluation: EvaluationParameters, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """What aligning does to the maps: every arm but the first beside the map it would have by itself.

    Args:
        maps: What `embed_arms` gives.
        features: What it was made from; arms that are not mapped may be among them.
        ood: The OOD table, or none.
        evaluation: Perplexity and neighbours.
        seed: The experiment's seed.

    Returns:
        Index arm and method; columns `displacement` (see there) aligned, `displacement by itself`, `trustworthiness`
        aligned (Venna and Kaski 2001: 1 where all near neighbours on the map are near neighbours among the features)
        and `trustworthiness by itself`, over as many neighbours as UMAP has; `neighbours kept`, the mean share of a
        picture's nearest among the features that are its nearest among the first arm's, too, whatever the maps say. The
        last three among 2,000 pictures at random where there are more.
    """
    from sklearn.manifold import trustworthiness

    groups = {str(arm): rows for arm, rows in maps.groupby("arm", sort=False)}
    first, *others = groups
    rows: dict[tuple[str, str], dict[str, float]] = {}
    count, near = len(groups[first]), evaluation.neighbours
    some = np.sort(numpy_generator(seed, "alignment").permutation(count)[:MEASURED])
    points = {arm: _normalised(map_points(features[arm], ood))[some] for arm in groups}
    nearest = {arm: _nearest(points[arm], near) for arm in groups}
    for arm in others:
        kept = np.mean(
            [len(set(one) & set(other)) / near for one, other in zip(nearest[arm], nearest[first], strict=True)]
        )
        for method, setting in zip(METHODS, (evaluation.perplexity, evaluation.neighbours), strict=True):
            reference, aligned = (coordinates(groups[name], method) for name in (first, arm))
            alone = place(method, map_points(features[arm], ood), setting, seed, None)
            rows[arm, method] = {
                "displacement": displacement(aligned, reference),
                "displacement by itself": displacement(alone, reference),
                "trustworthiness": trustworthiness(points[arm], aligned[some], n_neighbors=near),
                "trustworthiness by itself": trustworthiness(points[arm], alone[some], n_neighbors=near),
                "neighbours kept": float(kept),
            }
    return pd.DataFrame(rows).T.rename_axis(["arm", "method"])


def _nearest(points: np.ndarray, count: int) -> np.ndarray:
    """Rows of the nearest other points: (n, count)."""
    from sklearn.neighbors import NearestNeighbors

    return np.asarray(NearestNeighbors(n_neighbors=count).fit(points).kneighbors(return_distance=False))


def coordinates(maps: pd.DataFrame, method: str) -> np.ndarray:
    """The columns of a method in a table of maps: (n, 2)."""
    return maps[[f"{method}_x", f"{method}_y"]].to_numpy()


def map_points(tensors: Mapping[str, Tensor], ood: pd.DataFrame | None) -> Tensor:
    """The features that are mapped, of test and then of OOD pictures: (n, d)."""
    return torch.cat([tensors[f"{part}_features"] for part in _parts(tensors, ood)])


def _parts(tensors: Mapping[str, Tensor], ood: pd.DataFrame | None) -> list[str]:
    return ["test", *(["ood"] if ood is not None and "ood_features" in tensors else [])]


def _answers(tensors: Mapping[str, Tensor], images: pd.DataFrame, ood: pd.DataFrame | None) -> pd.DataFrame:
    """The pictures of `map_points` and what the arm's classifier says to them."""
    parts, tables = _parts(tensors, ood), [images] if ood is None else [images, ood]
    rows = pd.concat([table.loc[tensors[f"{part}_rows"].numpy()] for part, table in zip(parts, tables, strict=False)])
    names = images.drop_duplicates("label").set_index("label")["class_name"]
    confidence, predicted = torch.cat([tensors[f"{part}_logits"] for part in parts]).double().softmax(1).max(1)
    return pd.DataFrame(
        {
            "set": np.where(rows["label"] < 0, rows["set"], "id"),
            "class_name": rows["class_name"].to_numpy(),
            "path": rows["path"].to_numpy(),
            "row": rows.index,
            "predicted": names[predicted.numpy()].to_numpy(),
            "confidence": confidence.numpy(),
        }
    )


def _normalised(features: Tensor | np.ndarray) -> np.ndarray:
    points = np.asarray(features, dtype=np.float32)
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
