"""OOD detection: scores, metrics, and the whole evaluation of one arm.

A score is higher for pictures that look more in-distribution (ID). ID is the positive class unless a name says
otherwise. Metrics are averaged over OOD parts, so that a part with many pictures or an easy one can't carry the figure.
Nothing is tuned here: k, temperature and epsilon are parameters fixed beforehand.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from thesis_lib.contrastive.probe import knn_accuracy
from thesis_lib.datasets import PreparedData
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.evaluation.classification import classification_metrics
from thesis_lib.sections import EvaluationParameters

DETECTORS = ("msp", "energy", "knn", "knn_projection", "mahalanobis", "odin")
ID_SPLITS = ("valid", "test", "field")
METRICS = ("auroc", "aupr_id_positive", "aupr_ood_positive", "fpr95_id_positive", "fpr95_ood_positive")


def detector_scores(features: Mapping[str, Tensor], bank_labels: Tensor, k: int) -> dict[str, dict[str, np.ndarray]]:
    """Score every picture with every detector.

    MSP: maximum softmax probability (Hendrycks and Gimpel 2017). Energy: log-sum-exp of the logits (Liu et al. 2020).
    kNN: minus the distance to the k-th nearest bank picture, features L2-normalised (Sun et al. 2022); the same on the
    projection head's output, where the contrastive loss acts and which is thrown away otherwise. Mahalanobis:
    minus the squared distance to the nearest class mean (Lee et al. 2018). ODIN: as precomputed by `odin_scores`.

    Args:
        features: An arm's features: "<part>_features" (n, d), "<part>_logits" (n, c), "odin_<part>" (n,), with the
            real training pictures as part `bank`.
        bank_labels: (n_bank,) classes of the bank's pictures.
        k: Neighbours of the kNN detector, at most n_bank.

    Returns:
        Detector -> part (valid, test, field, ood; those there are) -> (n,) scores. Mahalanobis is absent when no class
        has two bank pictures, ODIN where it was not computed.

    Raises:
        ThesisError: k is larger than the bank.

    Warns:
        ThesisWarning: k is larger than a class's part of the bank.
    """
    from pytorch_ood.detector import KNN, EnergyBased, MaxSoftmax

    bank = features["bank_features"].double()
    if k > len(bank):
        raise ThesisError(
            f"evaluation.knn ({k}) is more than the {len(bank)} real training pictures it is measured against: lower it"
        )
    fewest = int(bank_labels.unique(return_counts=True)[1].min())
    if k > fewest:
        warnings.warn(
            f"evaluation.knn: neighbour number {k} of a picture is of another class where a class has {fewest} real "
            f"training pictures, so that the kNN detector tells little: --set evaluation.knn={fewest}",
            ThesisWarning,
            stacklevel=2,
        )
    knn = KNN(None, k=k).fit_features(bank, bank_labels)
    projected = None
    if "bank_projections" in features:
        projected = KNN(None, k=k).fit_features(features["bank_projections"].double(), bank_labels)
    distance = mahalanobis(bank, bank_labels)
    scores: dict[str, dict[str, np.ndarray]] = {name: {} for name in DETECTORS}
    for part in (*ID_SPLITS, "ood"):
        if f"{part}_features" not in features:
            continue
        points, logits = features[f"{part}_features"].double(), features[f"{part}_logits"].double()
        # pytorch-ood's scores rise towards OOD; the sign turns them round.
        scores["msp"][part] = -MaxSoftmax.score(logits).numpy()
        scores["energy"][part] = -EnergyBased.score(logits).numpy()
        scores["knn"][part] = -knn.predict_features(points).numpy()
        if projected is not None:
            points_there = features[f"{part}_projections"].double()
            scores["knn_projection"][part] = -projected.predict_features(points_there).numpy()
        if distance is not None:
            scores["mahalanobis"][part] = -distance(points).numpy()
        if f"odin_{part}" in features:
            scores["odin"][part] = features[f"odin_{part}"].double().numpy()
    return {name: parts for name, parts in scores.items() if parts}


def mahalanobis(bank: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Class means with one shared covariance, shrunk by Ledoit and Wolf's rule: d may exceed the bank's size.

    Own code, because pytorch-ood's detector inverts the unshrunk covariance.

    Args:
        bank: (n, d) double features.
        labels: (n,) classes.

    Returns:
        A function from (m, d) features to (m,) squared distances to the nearest class mean; None when the bank shows
        no spread within any class, as with one picture a class.
    """
    from sklearn.covariance import LedoitWolf

    classes, index = labels.unique(return_inverse=True)
    means = torch.stack([bank[index == i].mean(0) for i in range(len(classes))])
    spread = bank - means[index]
    if not bool(spread.abs().max() > 1e-9 * bank.abs().max()):
        return None
    covariance = torch.from_numpy(LedoitWolf(assume_centered=True).fit(spread.numpy()).covariance_)
    factor = torch.linalg.cholesky(covariance)

    def distance(points: Tensor) -> Tensor:
        # Whitened by the Cholesky factor, the Mahalanobis distance is the Euclidean one.
        white, centres = (torch.linalg.solve_triangular(factor, x.T, upper=False).T for x in (points, means))
        return torch.cdist(white, centres, compute_mode="donot_use_mm_for_euclid_dist").min(1).values ** 2

    return distance


def odin_scores(network: Callable[[Tensor], Tensor], pictures: Tensor, temperature: float, epsilon: float) -> Tensor:
    """ODIN (Liang et al. 2018, arXiv 1706.02690): max-softmax after a small step that raises it.

    Args:
        network: From pictures to (n, c) logits, normalisation included, in evaluation mode and differentiable.
        pictures: (n, 3, h, w) in [0, 1]; one batch.
        temperature: Divides the logits, before and after the step.
        epsilon: Size of the step in units of the pixel range [0, 1].

    Returns:
        (n,) float32 maximum softmax probabilities at `temperature`, higher = more ID, on the CPU.
    """
    from pytorch_ood.detector import odin_preprocessing

    moved = odin_preprocessing(network, pictures, eps=epsilon, temperature=temperature)  # type: ignore[arg-type]
    with torch.no_grad():
        # In double: at temperature 1000 the probabilities differ late in the mantissa.
        return (network(moved).double() / temperature).softmax(1).amax(1).float().cpu()


def cue_scores(bank_masks: Tensor, masks: Tensor, k: int) -> dict[str, np.ndarray]:
    """Floors for the detectors: how ID a picture looks by its object's size or silhouette alone.

    Args:
        bank_masks: (n_bank, s, s) bool masks of the real training pictures, s a multiple of 16.
        masks: (n, s, s) bool masks to score.
        k: Neighbours, at most n_bank.

    Returns:
        ``size`` (share of the crop the object covers) and ``silhouette`` (the mask at 16 x 16): (n,) scores, minus the
        distance to the k-th nearest bank picture, higher = more ID.
    """
    scores = {}
    for cue, side in (("size", 1), ("silhouette", 16)):
        bank, points = (
            torch.nn.functional.adaptive_avg_pool2d(x.float(), side).flatten(1).double() for x in (bank_masks, masks)
        )
        scores[cue] = -torch.cdist(points, bank).topk(k, largest=False).values[:, -1].numpy()
    return scores


def cue_floors(data: PreparedData, bank_rows: ArrayLike, k: int) -> dict[str, dict[str, float]]:
    """Part-averaged AUROC that size and silhouette alone reach: cue -> "<ID split> against <OOD set>" -> AUROC.

    Pictures without a mask have neither and are left out, and so is a comparison that has none left; there are no
    floors where fewer than `k` of the training pictures have one.

    Args:
        data: Tables and masks; it must have OOD pictures.
        bank_rows: Rows of the real training pictures.
        k: Neighbours.
    """
    if data.ood is None:
        raise ThesisError("there are no OOD pictures, so cues cannot be measured against them: leave the floors out")
    bank = data.images.masks[np.asarray(bank_rows)]
    bank = bank[bank.flatten(1).any(1)]
    if len(bank) < k:
        return {}
    inside, outside = (cue_scores(bank, prepared.masks, k) for prepared in (data.images, data.ood))
    masked, ood_masked = (prepared.masks.flatten(1).any(1).numpy() for prepared in (data.images, data.ood))
    table, floors = data.ood.table, {}
    for cue in inside:
        floors[cue] = {
            f"{split} against {name}": ood_metrics(
                inside[cue][own],
                outside[cue][chosen],
                table["class_name"].to_numpy(str)[chosen],
            )["auroc"]
            for split in ("test", "field")
            for name in ("near", "far")
            if (chosen := ((table["set"] == name) & (table["split"] == "test")).to_numpy() & ood_masked).any()
            and (own := (data.images.table["split"] == split).to_numpy() & masked).any()
        }
    return floors


def ood_metrics(scores_id: np.ndarray, scores_ood: np.ndarray, parts: np.ndarray) -> dict[str, Any]:
    """How well scores separate ID from OOD.

    Args:
        scores_id: (n,) scores of ID pictures, higher = more ID.
        scores_ood: (m,) scores of OOD pictures.
        parts: (m,) name of each OOD picture's part.

    Returns:
        Each of `METRICS` averaged over parts (all ID pictures against one part at a time); ``pooled``: the same over
        all pictures at once; ``parts``: part -> AUROC; ``id_pictures`` and ``ood_pictures``. AUPR is the trapezoidal
        area and depends on the shares of ID and OOD, so compare it only at equal counts. fpr95_id_positive: share of
        OOD accepted where 95 % of ID are accepted; fpr95_ood_positive: share of ID rejected where 95 % of OOD are.
    """
    parts = np.asarray(parts)
    single = {str(part): _separation(scores_id, scores_ood[parts == part]) for part in sorted(set(parts))}
    return {
        **{metric: float(np.mean([values[metric] for values in single.values()])) for metric in METRICS},
        "pooled": _separation(scores_id, scores_ood),
        "parts": {part: values["auroc"] for part, values in single.items()},
        "id_pictures": len(scores_id),
        "ood_pictures": len(scores_ood),
    }


def _separation(scores_id: np.ndarray, scores_ood: np.ndarray) -> dict[str, float]:
    from pytorch_ood.metrics import functional as metrics

    scores = torch.from_numpy(np.concatenate([scores_id, scores_ood]))
    is_id = torch.arange(len(scores)) < len(scores_id)
    # The library takes label < 0 as the positive class and expects it to score higher.
    id_positive, ood_positive = 1 - 2 * is_id.long(), 2 * is_id.long() - 1
    return {
        "auroc": float(metrics.auroc(scores, id_positive)),
        "aupr_id_positive": float(metrics.aupr(scores, id_positive)),
        "aupr_ood_positive": float(metrics.aupr(-scores, ood_positive)),
        "fpr95_id_positive": float(metrics.fpr_at_tpr(scores, id_positive, 0.95)),
        "fpr95_ood_positive": float(metrics.fpr_at_tpr(-scores, ood_positive, 0.95)),
    }


def score_table(
    features: Mapping[str, Tensor], images: pd.DataFrame, ood: pd.DataFrame | None, evaluation: EvaluationParameters
) -> pd.DataFrame:
    """All detector scores of an arm, one row a picture and detector.

    Args:
        features: The arm's features, see `detector_scores`, with "<part>_rows" (n,) rows in the tables.
        images: The image table.
        ood: The OOD table, or none.
        evaluation: Gives k.

    Returns:
        Columns detector; set (id, near, far); split (ID: valid, test, field; OOD: valid, test); part (class name);
        score.

    Raises:
        ThesisError: A feature is not finite, or k is larger than the bank.
    """
    for name, tensor in features.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ThesisError(f"{name} has values that are not finite, training diverged: lower training.learning_rate")
    scores = detector_scores(features, _labels(features, "bank", images), evaluation.knn)
    frames = []
    for detector, by_part in scores.items():
        for part, values in by_part.items():
            if part == "ood" and ood is None:
                continue
            table = ood if part == "ood" and ood is not None else images
            rows = table.loc[features[f"{part}_rows"].numpy()]
            group = rows["set"].to_numpy() if part == "ood" else "id"
            frame = {"detector": detector, "set": group, "split": rows["split"].to_numpy()}
            frames.append(pd.DataFrame(frame | {"part": rows["class_name"].to_numpy(), "score": values}))
    return pd.concat(frames, ignore_index=True)


def evaluate_arm(
    features: Mapping[str, Tensor], images: pd.DataFrame, ood: pd.DataFrame | None, evaluation: EvaluationParameters
) -> dict[str, Any]:
    """Everything measured on one arm and seed.

    Args:
        features: The arm's features, see `score_table`.
        images: The image table.
        ood: The OOD table, or none.
        evaluation: The evaluation parameters.

    Returns:
        ``top1``: split -> share, of the probe; ``top1_knn``: of as many nearest neighbours among the real training
        pictures as `evaluation.knn` says, so of the encoder alone; ``classification``: split ->
        `classification_metrics`; ``auroc`` (ID = test) and ``auroc_field`` (ID = field): set -> detector ->
        part-averaged AUROC over the OOD parts of split test; ``ood``: ID split -> set -> detector -> `ood_metrics`;
        ``ood_valid``: the same of ID valid against the OOD parts of split valid, set -> detector -> ...;
        ``thesis_confidence``: ID split -> set -> mean confidence; ``clusters``: split -> capture group -> [pictures
        named right, pictures]. What the data lack, a split, a set, is absent.
        All values are plain numbers, ready for JSON.

    Raises:
        ThesisError: A feature is not finite, or k is larger than the bank.
    """
    table = score_table(features, images, ood, evaluation)
    classification = {
        split: classification_metrics(features[f"{split}_logits"], _labels(features, split, images))
        for split in ID_SPLITS
        if f"{split}_logits" in features
    }
    tested = {split: _against(table, split, "test") for split in ("test", "field")}
    confidence = {split: _against(table[table["detector"] == "msp"], split, "test", _confidence) for split in tested}
    result: dict[str, Any] = {
        "top1": {split: values["top1"] for split, values in classification.items() if split in tested},
        "top1_knn": {
            split: knn_accuracy(
                features["bank_features"],
                _labels(features, "bank", images),
                features[f"{split}_features"],
                _labels(features, split, images),
                evaluation.knn,
            )
            for split in classification
            if split in tested
        },
        "classification": classification,
        "ood": {split: sets for split, sets in tested.items() if sets},
        "thesis_confidence": {
            split: {name: by_detector["msp"] for name, by_detector in sets.items()}
            for split, sets in confidence.items()
            if sets
        },
    }
    result["clusters"] = {split: _by_group(features, split, images) for split in result["top1"]}
    for key, split in (("auroc", "test"), ("auroc_field", "field")):
        if tested[split]:
            result[key] = {
                name: {detector: values["auroc"] for detector, values in by_detector.items()}
                for name, by_detector in tested[split].items()
            }
    validated = _against(table, "valid", "valid")
    return result | ({"ood_valid": validated} if validated else {})


def _by_group(features: Mapping[str, Tensor], split: str, images: pd.DataFrame) -> dict[str, list[int]]:
    """Capture group -> how many of its pictures are named right, and how many there are."""
    right = (features[f"{split}_logits"].argmax(1) == _labels(features, split, images)).numpy()
    groups = images.loc[features[f"{split}_rows"].numpy(), "capture_group"].to_numpy()
    counts = pd.DataFrame({"right": right, "group": groups}).groupby("group")["right"].agg(["sum", "size"])
    return {str(group): [int(row["sum"]), int(row["size"])] for group, row in counts.iterrows()}


def _against(
    table: pd.DataFrame,
    id_split: str,
    ood_split: str,
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, Any]] = ood_metrics,
) -> dict[str, dict[str, Any]]:
    """Set -> detector -> measure of one ID split against one split of the OOD table."""
    inside = table[(table["set"] == "id") & (table["split"] == id_split)]
    result: dict[str, dict[str, Any]] = {}
    for name in ("near", "far"):
        outside = table[(table["set"] == name) & (table["split"] == ood_split)]
        for detector in table["detector"].unique():
            ids, oods = (frame[frame["detector"] == detector] for frame in (inside, outside))
            if len(ids) and len(oods):
                values = measure(ids["score"].to_numpy(), oods["score"].to_numpy(), oods["part"].to_numpy(str))
                result.setdefault(name, {})[detector] = values
    return result


def _confidence(scores_id: np.ndarray, scores_ood: np.ndarray, parts: np.ndarray) -> dict[str, float]:
    """The thesis's figure: mean maximum softmax probability of ID and OOD pictures, and their difference."""
    inside, outside = float(scores_id.mean()), float(scores_ood.mean())
    return {"id": inside, "ood": outside, "difference": inside - outside}


def _labels(features: Mapping[str, Tensor], part: str, images: pd.DataFrame) -> Tensor:
    return torch.tensor(images.loc[features[f"{part}_rows"].numpy(), "label"].to_numpy(np.int64))
