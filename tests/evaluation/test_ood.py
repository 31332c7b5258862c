import json
import warnings
from math import erf, sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score
from torch import nn

from thesis_lib.datasets import PreparedData, PreparedSet
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.evaluation.ood import (
    DETECTORS,
    METRICS,
    cue_floors,
    cue_scores,
    detector_scores,
    evaluate_arm,
    mahalanobis,
    odin_scores,
    ood_metrics,
    score_table,
)
from thesis_lib.randomness import numpy_generator, torch_generator
from thesis_lib.sections import EvaluationParameters

CLASSES, DIM = 4, 12


@pytest.fixture(scope="module")
def study() -> tuple[dict[str, torch.Tensor], pd.DataFrame, pd.DataFrame]:
    """Four Gaussian classes; near parts lie between classes, far parts at the origin's other side."""
    generator = torch_generator(0, "study")
    centres = 2.5 * torch.randn(CLASSES, DIM, generator=generator)
    labels = torch.arange(CLASSES).repeat_interleave(15)
    features: dict[str, torch.Tensor] = {}

    def add(part: str, points: torch.Tensor, rows: torch.Tensor) -> None:
        features[f"{part}_features"], features[f"{part}_logits"] = points, points @ centres.T / 6
        features[f"{part}_rows"], features[f"{part}_projections"] = rows, points[:, : DIM // 2]
        if part != "bank":
            features[f"odin_{part}"] = (points @ centres.T / 6000).softmax(1).amax(1)

    splits = ["train", "valid", "test", "field"]
    for index, part in enumerate(["bank", "valid", "test", "field"]):
        noise = 2.0 if part == "field" else 1.0
        points = centres[labels] + noise * torch.randn(60, DIM, generator=generator)
        rows = 60 * index + torch.arange(60)
        keep = torch.arange(0, 60, 2) if part == "bank" else torch.arange(60)
        add(part, points[keep], rows[keep])
    images = pd.DataFrame(
        {
            "class_name": [f"class_{i}" for i in labels] * 4,
            "label": labels.tolist() * 4,
            "split": np.repeat(splits, 60),
            "set": "",
            "capture_group": [f"group_{i // 10}" for i in range(240)],
        }
    )
    parts = [("near", "valid", "n0"), ("near", "test", "n1"), ("near", "test", "n2"), ("far", "test", "f1")]
    sizes = [6, 4, 12, 10]
    ood = pd.DataFrame(
        [
            {"class_name": name, "label": -1, "split": split, "set": group}
            for (group, split, name), size in zip(parts, sizes, strict=True)
            for _ in range(size)
        ]
    )
    near = torch.tensor((ood["set"] == "near").to_numpy())[:, None]
    points = torch.where(near, 0.5 * centres[0] + 0.5 * centres[1], -centres.mean(0))
    add("ood", points + torch.randn(len(ood), DIM, generator=generator), torch.arange(len(ood)))
    return features, images, ood


def bank_labels(features, images) -> torch.Tensor:
    return torch.tensor(images["label"].to_numpy())[features["bank_rows"]]


def test_auroc_of_shifted_gaussians() -> None:
    """Closed form: scores N(d, 1) against N(0, 1) have AUROC Phi(d / sqrt 2)."""
    generator = numpy_generator(0, "gaussians")
    got = ood_metrics(generator.normal(1.2, 1, 20000), generator.normal(0, 1, 20000), np.repeat(["a", "b"], 10000))
    expected = 0.5 * (1 + erf(1.2 / sqrt(2) / sqrt(2)))
    assert got["auroc"] == pytest.approx(expected, abs=0.006)
    assert got["pooled"]["auroc"] == pytest.approx(expected, abs=0.006)
    # Where 95 % of ID are accepted the threshold is d - 1.645, and Phi(1.645 - d) of OOD lie above it.
    assert got["fpr95_id_positive"] == pytest.approx(0.5 * (1 + erf((1.645 - 1.2) / sqrt(2))), abs=0.02)
    assert got["fpr95_ood_positive"] == pytest.approx(got["fpr95_id_positive"], abs=0.03)  # equal variances


def test_metrics_by_hand_and_scikit_learn() -> None:
    generator = numpy_generator(0, "metrics")
    inside, outside = generator.normal(1, 1, 60).round(1), generator.normal(0, 2, 45).round(1)  # rounding makes ties
    parts = np.repeat(["a", "b", "c"], [5, 30, 10])
    got = ood_metrics(inside, outside, parts)
    is_id, scores = np.r_[np.ones(60), np.zeros(45)], np.r_[inside, outside]
    assert got["pooled"]["auroc"] == pytest.approx(roc_auc_score(is_id, scores))
    slow = np.mean([(i > o) + 0.5 * (i == o) for i in inside for o in outside])
    assert got["pooled"]["auroc"] == pytest.approx(slow)
    for key, truth, sign in (("aupr_id_positive", is_id, 1), ("aupr_ood_positive", 1 - is_id, -1)):
        precision, recall, _ = precision_recall_curve(truth, sign * scores)
        assert got["pooled"][key] == pytest.approx(auc(recall, precision))
    for key, own, other in (
        ("fpr95_id_positive", inside, outside), ("fpr95_ood_positive", -outside, -inside),
    ):  # fmt: skip
        threshold = max(t for t in np.unique(own) if (own >= t).mean() >= 0.95)
        assert got["pooled"][key] == pytest.approx((other >= threshold).mean())
    single = [ood_metrics(inside, outside[parts == part], parts[parts == part]) for part in "abc"]
    for metric in METRICS:
        assert got[metric] == pytest.approx(np.mean([values["pooled"][metric] for values in single]))
    assert got["parts"]["b"] == pytest.approx(single[1]["auroc"])
    assert (got["id_pictures"], got["ood_pictures"]) == (60, 45)


def test_direction_of_both_conventions() -> None:
    got = ood_metrics(np.array([3.0, 4, 5]), np.array([0.0, 1]), np.array(["a", "b"]))
    assert got["auroc"] == 1
    assert got["fpr95_id_positive"] == got["fpr95_ood_positive"] == 0
    assert got["aupr_id_positive"] == got["aupr_ood_positive"] == 1


def test_detectors_by_hand(study) -> None:
    features, images, _ = study
    labels = bank_labels(features, images)
    scores = detector_scores(features, labels, k=3)
    assert list(scores) == list(DETECTORS)
    logits = features["ood_logits"].double().numpy()
    exp = np.exp(logits)
    assert scores["msp"]["ood"] == pytest.approx((exp / exp.sum(1, keepdims=True)).max(1))
    assert scores["energy"]["ood"] == pytest.approx(np.log(exp.sum(1)))
    bank, points = (features[f"{part}_features"].double().numpy() for part in ("bank", "ood"))
    bank_n, points_n = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, points))
    nearest = np.sort(np.linalg.norm(points_n[:, None] - bank_n[None], axis=2), axis=1)
    assert scores["knn"]["ood"] == pytest.approx(-nearest[:, 2], abs=1e-6)
    means = np.stack([bank[labels.numpy() == c].mean(0) for c in range(CLASSES)])
    spread = bank - means[labels.numpy()]
    inverse = np.linalg.inv(LedoitWolf(assume_centered=True).fit(spread).covariance_)
    slow = [min((x - m) @ inverse @ (x - m) for m in means) for x in points]
    assert scores["mahalanobis"]["ood"] == pytest.approx(-np.array(slow))


def test_mahalanobis_with_much_data_is_pytorch_oods() -> None:
    """With many pictures shrinkage vanishes; the library's covariance is a sum, its score half the distance."""
    from pytorch_ood.detector import Mahalanobis

    generator = torch_generator(0, "maha")
    labels = torch.arange(2).repeat(5000)
    mixing = torch.tensor([[1.0, 0.3, 0], [0, 1, -0.4], [0, 0, 1.2]]).double()
    bank = torch.randn(10000, 3, generator=generator).double() @ mixing + 3 * labels[:, None]
    points = 4 * torch.randn(50, 3, generator=generator).double()
    distance = mahalanobis(bank, labels)
    assert distance is not None
    theirs = 2 * 10000 * Mahalanobis(None).fit_features(bank.float(), labels).predict_features(points.float())
    assert torch.allclose(distance(points), theirs.double(), rtol=0.02)


def test_mahalanobis_survives_more_dimensions_than_pictures_and_needs_spread() -> None:
    generator = torch_generator(0, "wide")
    bank = torch.randn(10, 50, generator=generator).double()
    distance = mahalanobis(bank, torch.arange(2).repeat(5))
    assert distance is not None
    assert bool(distance(bank).isfinite().all())
    assert mahalanobis(bank, torch.arange(10)) is None


def test_too_many_neighbours_name_the_parameter(study) -> None:
    features, images, _ = study
    with pytest.raises(ThesisError, match=r"evaluation\.knn \(31\).*30"):
        detector_scores(features, bank_labels(features, images), k=31)


def test_more_neighbours_than_a_class_has_pictures_are_warned_of(study) -> None:
    features, images, _ = study
    labels = bank_labels(features, images)
    fewest = int(labels.unique(return_counts=True)[1].min())
    with pytest.warns(ThesisWarning, match=rf"--set evaluation\.knn={fewest}"):
        detector_scores(features, labels, k=fewest + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ThesisWarning)
        detector_scores(features, labels, k=fewest)


def test_odin_on_a_linear_network_by_hand() -> None:
    generator = torch_generator(0, "odin")
    network = nn.Sequential(nn.Flatten(), nn.Linear(27, 4)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.randn(4, 27, generator=generator))
    pictures = torch.rand(5, 3, 3, 3, generator=generator).double()
    temperature, epsilon = 10.0, 0.01
    got = odin_scores(network, pictures, temperature, epsilon)
    weight, bias = network[1].weight.detach(), network[1].bias.detach()
    expected = []
    for picture in pictures.flatten(1):
        p = ((weight @ picture + bias) / temperature).softmax(0)
        winner = int(p.argmax())
        gradient = (weight[winner] - p @ weight) / temperature  # of log p_winner
        moved = picture + epsilon * gradient.sign()
        expected.append(((weight @ moved + bias) / temperature).softmax(0).max())
    assert torch.allclose(got, torch.stack(expected).float(), atol=1e-6)
    unmoved = (network(pictures) / temperature).softmax(1).amax(1).float()
    assert bool((got > unmoved).all())
    assert got.dtype == torch.float32
    assert network[1].weight.grad is None


def test_evaluate_arm(study) -> None:
    features, images, ood = study
    got = evaluate_arm(features, images, ood, EvaluationParameters(knn=3))
    json.dumps(got, allow_nan=False)
    assert set(got["top1"]) == set(got["top1_knn"]) == {"test", "field"}
    bank = torch.nn.functional.normalize(features["bank_features"], dim=1)
    nearest = (torch.nn.functional.normalize(features["test_features"], dim=1) @ bank.T).argmax(1)
    right = images.loc[features["bank_rows"][nearest].numpy(), "label"].to_numpy()
    right = right == images.loc[features["test_rows"].numpy(), "label"].to_numpy()
    one = evaluate_arm(features, images, ood, EvaluationParameters(knn=1))
    assert one["top1_knn"]["test"] == pytest.approx(right.mean())
    assert set(got["classification"]) == {"valid", "test", "field"}
    for key in ("auroc", "auroc_field"):
        assert {name: set(values) for name, values in got[key].items()} == {
            "near": set(DETECTORS),
            "far": set(DETECTORS),
        }
    assert got["auroc"]["far"]["knn"] > 0.9
    assert got["auroc"]["near"]["knn"] > got["auroc_field"]["near"]["knn"]
    knn = got["ood"]["test"]["near"]["knn"]
    assert set(knn["parts"]) == {"n1", "n2"}  # n0 is for validation
    assert knn["auroc"] == pytest.approx(np.mean(list(knn["parts"].values())))
    assert set(got["ood_valid"]) == {"near"}
    assert set(got["ood_valid"]["near"]["knn"]["parts"]) == {"n0"}
    groups = got["clusters"]["test"]
    assert len(groups) == 6 and sum(size for _, size in groups.values()) == 60
    assert sum(right for right, _ in groups.values()) / 60 == pytest.approx(got["top1"]["test"])
    confidence = got["thesis_confidence"]["test"]["near"]
    assert confidence["id"] == pytest.approx(float(features["test_logits"].softmax(1).amax(1).mean()), abs=1e-6)
    assert confidence["difference"] == pytest.approx(confidence["id"] - confidence["ood"])


def test_what_the_data_lack_is_absent(study) -> None:
    features, images, ood = study
    plain = {k: v for k, v in features.items() if not any(part in k for part in ("field", "ood", "odin"))}
    got = evaluate_arm(plain, images, None, EvaluationParameters(knn=3))
    assert set(got) == {"top1", "top1_knn", "classification", "ood", "thesis_confidence", "clusters"}
    assert set(got["clusters"]) == {"test"}
    assert got["ood"] == got["thesis_confidence"] == {}
    assert set(got["top1"]) == {"test"}
    without_odin = {k: v for k, v in features.items() if "odin" not in k}
    got = evaluate_arm(without_odin, images, ood, EvaluationParameters(knn=3))
    assert set(got["auroc"]["near"]) == {"msp", "energy", "knn", "knn_projection", "mahalanobis"}
    without_head = {k: v for k, v in features.items() if "projections" not in k}
    got = evaluate_arm(without_head, images, ood, EvaluationParameters(knn=3))
    assert set(got["auroc"]["near"]) == set(DETECTORS) - {"knn_projection"}


def test_features_that_are_not_finite_are_named(study) -> None:
    features, images, ood = study
    broken = features | {"test_logits": features["test_logits"] * float("nan")}
    with pytest.raises(ThesisError, match="test_logits"):
        score_table(broken, images, ood, EvaluationParameters(knn=3))


def test_cues_tell_size_and_silhouette() -> None:
    def disc(radius: float) -> torch.Tensor:
        y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        return (x - 32) ** 2 + (y - 32) ** 2 < radius**2

    bank = torch.stack([disc(r) for r in (19, 20, 21)])
    square = torch.zeros(64, 64, dtype=torch.bool)
    square[14:50, 14:50] = True  # about the area of the disc of radius 20
    scores = cue_scores(bank, torch.stack([disc(20), disc(8), square]), k=1)
    assert scores["size"].argmin() == 1
    assert scores["size"][2] == pytest.approx(scores["size"][0], abs=0.02)
    assert scores["silhouette"][0] > scores["silhouette"][2] > scores["silhouette"][1]


def test_pictures_without_a_mask_give_no_floor() -> None:
    def prepared(sides: list[int], **columns: object) -> PreparedSet:
        masks = torch.zeros(len(sides), 16, 16, dtype=torch.bool)
        for mask, side in zip(masks, sides, strict=True):
            mask[:side, :side] = True
        return PreparedSet(pd.DataFrame(columns), torch.zeros(len(sides), 3, 16, 16, dtype=torch.uint8), masks)

    sides, splits = [8, 9, 8, 9, 0, 8], ["train"] * 3 + ["test"] * 3
    images = prepared(sides, split=splits, label=[0] * 6, class_name=["a"] * 6)
    sets, parts = ["near", "near", "far", "far"], ["p", "p", "q", "q"]
    ood = prepared([15, 0, 0, 0], set=sets, class_name=parts, split=["test"] * 4)
    floors = cue_floors(PreparedData(images, ood, None, ["a"]), np.arange(3), 1)
    assert floors == {cue: {"test against near": 1.0} for cue in ("size", "silhouette")}
    sizes = prepared([8, 9, 0, 8, 9, 8], split=splits, label=[0] * 6, class_name=["a"] * 6)
    tiny = prepared([1, 1, 0, 0], set=sets, class_name=parts, split=["test"] * 4)  # nearer to an empty mask than to any
    assert cue_floors(PreparedData(sizes, tiny, None, ["a"]), np.arange(3), 1) == floors
    assert cue_floors(PreparedData(sizes, tiny, None, ["a"]), np.arange(3), 3) == {}
