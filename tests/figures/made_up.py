"""A made-up run: features with small differences between arms, evaluated as real ones are."""

from typing import Any

import pandas as pd
import torch

from thesis_lib.evaluation.ood import evaluate_arm
from thesis_lib.randomness import torch_generator
from thesis_lib.sections import EvaluationParameters

CONFIRMATORY = ["real", "real_id", "real_id_nearood", "nearood_random", "oracle_id", "oracle_nearood"]
PLACES = {f"t{timestep}_dose{dose}": (dose, timestep) for dose in (1, 4) for timestep in (501, 801)}
# How tight the classes are, and how far near-OOD pictures lie from them.
ARMS = {
    "real": (1.0, 1.0), "real_id": (1.2, 1.0), "real_id_nearood": (1.2, 1.6), "nearood_random": (1.2, 1.1),
    "oracle_id": (1.8, 1.0), "oracle_nearood": (1.8, 2.0), "real_strong": (1.0, 1.0), "filler": (1.2, 1.0),
} | {name: (1.2, 1.0 + dose / 8) for name, (dose, _) in PLACES.items()}  # fmt: skip
CLASSES, SHOTS, GROUPS, DIM = 3, 24, 4, 8
PARTS = ("near0", "near1", "near2", "far0")
SPLITS = ("train", "test", "field")


def metrics() -> dict[str, dict[str, Any]]:
    """The content of metrics.json: six arms with eight seeds, six with three."""
    return {arm: {str(seed): evaluated(arm, seed) for seed in range(8 if arm in CONFIRMATORY else 3)} for arm in ARMS}


def evaluated(arm: str, seed: int) -> dict[str, Any]:
    """One arm and seed: what arms share is drawn by the seed, a little noise by the arm."""
    tightness, distance = ARMS[arm]
    shared, own = torch_generator(seed, "shared"), torch_generator(seed, arm)
    centres = 2 * torch.randn(CLASSES, DIM, generator=shared)
    labels = torch.arange(CLASSES).repeat_interleave(SHOTS)
    count, features, tables = len(labels), {}, []

    def points(rows: int) -> torch.Tensor:
        return 0.95 * torch.randn(rows, DIM, generator=shared) + 0.3 * torch.randn(rows, DIM, generator=own)

    def add(part: str, pictures: torch.Tensor, start: int) -> None:
        features[f"{part}_features"], features[f"{part}_logits"] = pictures, pictures @ centres.T / 4
        features[f"{part}_rows"] = start + torch.arange(len(pictures))

    for index, split in enumerate(SPLITS):
        noise = (1.0, 1.5, 2.6)[index] / tightness
        add("bank" if split == "train" else split, centres[labels] + noise * points(count), count * index)
        groups = [f"c{label}/{split}/{row % GROUPS}" for row, label in enumerate(labels.tolist())]
        tables.append(pd.DataFrame({"label": labels.numpy(), "split": split, "capture_group": groups}))
    images = pd.concat(tables, ignore_index=True).assign(set="")
    images["class_name"] = "c" + images["label"].astype(str)
    parts = [(part[:-1], part) for part in PARTS for _ in range(6)]
    ood = pd.DataFrame(parts, columns=["set", "class_name"]).assign(split="test", label=-1)
    reach = torch.tensor([distance if group == "near" else 3.0 for group, _ in parts])[:, None]
    places = torch.randn(len(PARTS), DIM, generator=shared).repeat_interleave(6, 0)
    add("ood", centres[0] + reach * places + 0.7 * points(len(parts)), 0)
    return evaluate_arm(features, images, ood, EvaluationParameters(knn=3))
