"""Which learning rate for each loss beyond the source's? No test, a script.

    python tests/pair_rates.py ROOT

ROOT holds CIFAR-10. Two epochs under a seed that the study does not report, judged on the last 500 training pictures of
each class, which no anchor uses: test pictures choose nothing. parameters/pairwise_triplet.yaml has the best by frozen
accuracy, and rows of triplets and pairs at theirs beside the source's. Found (an untrained network has 25.8 %; in the
columns of NT-Xent, margin loss and triplets 1,000 pictures judge up to 0.5, so that a point and a half is chance, else
5,000):

    rate    SupCon  NT-Xent  margin loss  triplets  triplets, views  pairs  cross entropy
    0.05         -     31.3         30.3      30.2                -   30.9           38.0
    0.15      31.9     32.1         31.3      33.2             33.0      -           42.4
    0.5       32.2     34.4         34.9      34.3             30.3   31.5       diverges
    1.5       30.9     32.4         28.2      31.9             31.2   29.9              -

SupCon at temperature 0.1 stays near the value of equal features, ln 2047, at every rate (31.0 at best).
"""

import sys

import torch

from thesis_lib.datasets.cifar10 import read_cifar10
from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.errors import ThesisError
from thesis_lib.pairwise.evaluation import judge
from thesis_lib.pairwise.parameters import Method, ProbeParameters
from thesis_lib.pairwise.training import train

SEED, BATCH, HELD_OUT = 1000, 1024, 500
RATES = (0.05, 0.15, 0.5, 1.5)
FRESH = {"fresh": True, "augment_anchor": True, "sigmoid": False}
METHODS = {
    "supcon": {"loss": "supcon", **FRESH},
    "nt_xent": {"loss": "nt_xent", "negative": "any", **FRESH},
    "margin_loss": {"loss": "margin", "epochs": 1},
    "triplet_simclr": {"loss": "triplet"},
    "triplet_views": {"loss": "triplet", **FRESH},
    "pairwise_simclr": {"loss": "cosine", "epochs": 1},
    "classifier": {"loss": "cross_entropy", **FRESH},
}


def held_out(data: LabelledPictures, count: int) -> LabelledPictures:
    """The training pictures alone: the last `count` of each class are the test pictures."""
    rows = [(data.train_labels == label).nonzero().flatten() for label in range(len(data.classes))]
    train, test = (torch.cat([part(own) for own in rows]) for part in (lambda r: r[:-count], lambda r: r[-count:]))
    return LabelledPictures(
        data.train[train], data.train_labels[train], data.train[test], data.train_labels[test], data.classes
    )


def main(root: str) -> None:
    """A line a method and rate."""
    data = held_out(read_cifar10(root), HELD_OUT)
    anchors = len(data.train) // len(data.classes)
    for name, content in METHODS.items():
        for rate in RATES:
            method = Method.model_validate({"epochs": 2, **content, "learning_rate": rate})
            try:
                network, losses = train(data, method, anchors, BATCH, SEED, f"{name} {rate:g}")
            except ThesisError as error:  # it diverges
                print(error, flush=True)
                continue
            metrics, _ = judge(network, data, BATCH, ProbeParameters(), SEED)
            frozen, ends = metrics["frozen"], (losses[0], sum(losses[-10:]) / 10)
            scores = f"top-1 {frozen['top1']:.3f}  kNN {frozen['knn']:.3f}"
            print(f"{name:<16}{rate:<6g}{scores}  loss {ends[0]:.3f} to {ends[1]:.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
