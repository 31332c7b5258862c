"""An arm's frozen features, logits and ODIN scores, computed once and kept beside the network."""

from collections.abc import Mapping

import torch
from tqdm.auto import tqdm

from thesis_lib.contrastive.encoders import Classifier, Encoder
from thesis_lib.contrastive.probe import extract_features, knn_accuracy
from thesis_lib.contrastive.views import to_unit_range
from thesis_lib.datasets import PreparedData
from thesis_lib.evaluation.ood import ID_SPLITS, odin_scores
from thesis_lib.sections import EvaluationParameters
from thesis_lib.tensors import device_of


def collect_features(
    encoder: Encoder, classifier: Classifier, data: PreparedData, bank_rows: torch.Tensor, size: int,
    evaluation: EvaluationParameters, head: torch.nn.Module | None = None,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Features and logits of the bank, of every evaluation split, of the OOD and of the oracle pictures.

    Args:
        encoder: Frozen, in evaluation mode.
        classifier: Its linear classifier.
        data: Tables and crops.
        bank_rows: Rows of the image table that make up the bank: the real training pictures.
        size: Side of the encoder's input.
        evaluation: ODIN's temperature and step.
        head: The projection head, where there is one.

    Returns:
        For each part (bank, valid, test, field, ood, oracle; those there are) "<part>_features" (n, d),
        "<part>_logits" (n, c), "<part>_rows" (n,), with a head "<part>_projections" (n, p), and for all but bank and
        oracle "odin_<part>" (n,).
    """
    sets: dict[str, tuple[torch.Tensor, torch.Tensor]] = {"bank": (bank_rows, data.images.pictures[bank_rows])}
    split = data.images.table["split"]
    for name in ID_SPLITS:
        rows = torch.tensor(split.index[split == name].to_numpy())
        if len(rows):
            sets[name] = (rows, data.images.pictures[rows])
    for name, prepared in (("ood", data.ood), ("oracle", data.oracle)):
        if prepared is not None:
            sets[name] = (torch.arange(len(prepared.table)), prepared.pictures)
    result: dict[str, torch.Tensor] = {}
    device = device_of(encoder)
    network = torch.nn.Sequential(encoder, classifier).to(device).eval().requires_grad_(False)
    for name, (rows, pictures) in tqdm(sets.items(), desc="features"):
        features = extract_features(encoder, pictures, size)
        with torch.no_grad():
            logits = classifier(features.to(device)).cpu()
            projections = {} if head is None else {f"{name}_projections": head(features.to(device)).cpu()}
        result |= {f"{name}_rows": rows, f"{name}_features": features, f"{name}_logits": logits, **projections}
        if name not in ("bank", "oracle"):
            result[f"odin_{name}"] = torch.cat(
                [
                    odin_scores(
                        network,
                        to_unit_range(chunk.to(device), size),
                        evaluation.odin_temperature,
                        evaluation.odin_epsilon,
                    )
                    for chunk in pictures.split(32)  # gradients need memory
                ]
            )
    return result


def accuracies(
    features: Mapping[str, torch.Tensor], data: PreparedData, neighbours: int
) -> dict[str, dict[str, float]]:
    """Top-1 accuracy on each split of `collect_features`: split -> that of the probe, and of k nearest neighbours."""
    labels, bank = torch.tensor(data.images.table["label"].to_numpy()), features["bank_features"]
    bank_labels = labels[features["bank_rows"]]
    return {
        name: {
            "probe": accuracy(features, data, name),
            "knn": knn_accuracy(
                bank, bank_labels, features[f"{name}_features"], labels[features[f"{name}_rows"]], neighbours
            ),
        }
        for name in ID_SPLITS
        if f"{name}_rows" in features
    }


def accuracy(features: Mapping[str, torch.Tensor], data: PreparedData, split: str) -> float:
    """The classifier's top-1 accuracy on a split of `collect_features`."""
    labels = torch.tensor(data.images.table["label"].to_numpy())[features[f"{split}_rows"]]
    return (features[f"{split}_logits"].argmax(1) == labels).float().mean().item()
