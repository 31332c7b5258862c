"""Pairs' shortcut: in a batch of partners a clean negative is known from augmented positives by the batch's statistics.

Positives and negatives pass the network in one batch, anchors in another. Where positives are augmented and negatives
are not, batch normalisation tells the two apart inside their batch, and anchors, all clean, look to it like neither: a
network can map what is as sharp as its batch to one direction, and lower the loss without knowing classes. Negatives in
a batch of their own are then like anchors.
"""

from collections.abc import Iterable, Mapping

import pandas as pd
import torch
from torch.nn import functional as F

from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.pairwise.pairs import Bank, draw_triplets
from thesis_lib.pairwise.study import Item, network_of
from thesis_lib.randomness import torch_generator
from thesis_lib.tensors import device_of


@torch.no_grad()
def similarities(item: Item, pictures: LabelledPictures, anchors: int, pairs: int = 1024) -> dict[str, float]:
    """Mean cosine similarity of anchors to their partners, batch normalisation taking each batch's own statistics.

    Args:
        item: A finished scenario of pairs.
        pictures: Its data set.
        anchors: Anchors a class, as it was trained with.
        pairs: Training pairs, half of them positive.

    Returns:
        ``positives`` and ``negatives``, both in one batch as in training, and ``alone``: negatives in a batch of their
        own.
    """
    method, seed = item.scenario.method, item.scenario.seed
    network = network_of(item, pictures).train()
    triplets = draw_triplets(pictures.train_labels, anchors, method, seed)
    triplets = triplets[torch.randperm(len(triplets), generator=torch_generator(seed, "shortcut"))[:pairs]]
    bank = Bank.build(pictures.train, triplets, method)
    bank.draw(triplets, method, seed, epoch=0)
    anchor, positive, negative = bank.rows.T
    half = len(anchor) // 2

    def features(rows: torch.Tensor) -> torch.Tensor:
        return network(bank.pictures[rows].to(device_of(network)).float() / 255)

    first = features(anchor)
    mixed = F.cosine_similarity(first, features(torch.cat([positive[:half], negative[half:]])))
    alone = F.cosine_similarity(first, features(negative))
    parts = {"positives": mixed[:half], "negatives": mixed[half:], "alone": alone}
    return {name: float(part.mean()) for name, part in parts.items()}


def shortcuts(items: Iterable[Item], pictures: Mapping[str, LabelledPictures], anchors: int) -> pd.DataFrame:
    """`similarities` of every finished scenario of pairs under the cosine loss.

    Returns:
        Columns set, scenario, seed, positives, negatives, alone.
    """
    rows = [
        {"set": item.scenario.data, "scenario": item.scenario.name, "seed": item.scenario.seed}
        | similarities(item, pictures[item.scenario.data], anchors)
        for item in items
        if item.scenario.method.loss == "cosine"
    ]
    return pd.DataFrame(rows, columns=["set", "scenario", "seed", "positives", "negatives", "alone"])
