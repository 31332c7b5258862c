"""A made-up run for the embedding explorer: every picture has a grey of its own, every place on a map is known."""

import numpy as np
import pandas as pd
import torch

from thesis_lib.datasets import PreparedData, PreparedSet
from thesis_lib.randomness import numpy_generator, torch_generator
from thesis_lib.sections import EvaluationParameters
from thesis_lib.widgets.embeddings import EmbeddingExplorer

ARMS = ("real", "real_id", "cross_entropy")
CLASSES = ("bolt", "gear", "Brake <Disc>")
INSIDE, OUTSIDE = 24, 12
EVALUATION = EvaluationParameters(perplexity=5, neighbours=5)


def grey(index: int) -> int:
    """The grey level of all pixels of the picture number `index`, counted from 0."""
    return 20 + 6 * index


def made_up_data() -> PreparedData:
    """Pictures of three classes, then of two near and two far parts."""
    labels = np.arange(INSIDE) % len(CLASSES)
    images = pd.DataFrame({"class_name": [CLASSES[label] for label in labels], "label": labels, "set": ""})
    ood = pd.DataFrame({"set": ["near", "far"] * (OUTSIDE // 2), "label": -1})
    ood["class_name"] = ood["set"] + "_part"
    sets = []
    for table, start in ((images, 0), (ood, INSIDE)):
        greys = torch.tensor([grey(start + i) for i in range(len(table))], dtype=torch.uint8)
        pictures = greys[:, None, None, None].expand(-1, 3, 16, 16).clone()
        table = table.assign(path=[f"{i}.png" for i in range(len(table))])
        sets.append(PreparedSet(table, pictures, torch.zeros(len(table), 16, 16, dtype=torch.bool)))
    return PreparedData(sets[0], sets[1], None, list(CLASSES))


def made_up_features() -> dict[str, dict[str, torch.Tensor]]:
    """What `collect_features` would give, for three arms that differ by a little noise."""
    shared = torch_generator(0, "shared")
    centres = 3 * torch.randn(len(CLASSES) + 2, 8, generator=shared)
    which = torch.cat([torch.arange(INSIDE) % len(CLASSES), len(CLASSES) + torch.arange(OUTSIDE) % 2])
    points = centres[which] + torch.randn(len(which), 8, generator=shared)
    features = {}
    for arm in ARMS:
        mine = points + 0.2 * torch.randn(points.shape, generator=torch_generator(0, arm))
        features[arm] = {"test_rows": torch.arange(INSIDE), "ood_rows": torch.arange(OUTSIDE)}
        for part, rows in (("test", mine[:INSIDE]), ("ood", mine[INSIDE:])):
            features[arm] |= {f"{part}_features": rows, f"{part}_logits": rows @ centres[: len(CLASSES)].T / 8}
    return features


def made_up_maps() -> pd.DataFrame:
    """A table as of `embed_arms`, its places on a lattice, in another order for every arm and method."""
    frames = []
    lattice = np.stack(np.meshgrid(range(6), range(6)), -1).reshape(-1, 2).astype(float)
    groups = ["id"] * INSIDE + ["near", "far"] * (OUTSIDE // 2)
    names = [CLASSES[i % len(CLASSES)] for i in range(INSIDE)] + ["near_part", "far_part"] * (OUTSIDE // 2)
    for arm in ARMS:
        frame = pd.DataFrame({"arm": arm, "set": groups, "class_name": names})
        frame["row"] = [*range(INSIDE), *range(OUTSIDE)]
        frame["path"] = frame["row"].astype(str) + ".png"
        generator = numpy_generator(0, arm)
        frame["predicted"] = generator.choice(CLASSES, len(frame))
        frame["confidence"] = generator.uniform(1 / 3, 1, len(frame))
        for method in ("tsne", "umap"):
            frame[[f"{method}_x", f"{method}_y"]] = lattice[generator.permutation(len(frame))]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def made_up_explorer() -> EmbeddingExplorer:
    """The explorer of all of these."""
    return EmbeddingExplorer(made_up_maps(), made_up_features(), made_up_data(), EVALUATION, 0)
