"""How much faster and smaller is an epoch than the public notebook's way of building pairs? No test, a script.

    python tests/pair_speed.py ROOT [ANCHORS] [AUGMENTATION]

ROOT holds MNIST. The notebook's way, written anew from its description: every training picture becomes a float tensor,
plain and augmented, one at a time through PIL and torchvision; Python lists hold the pictures of each class and those
of all other classes; triplets are tuples of tensors in a list that a DataLoader shuffles. Ours: `thesis_lib.pairwise`.
Both build, then train one epoch of triplets with the same layers, batch and loss; ours has the layers' memory format
(channels last), too, which is part of what is measured. Each runs in a process of its own,
whose peak memory above that of imports, raw data and one batch's training is told. Run it on a quiet machine.
"""

import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
import torchvision.transforms as T
from PIL import Image
from torch.utils.data import DataLoader

from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.datasets.mnist import read_mnist
from thesis_lib.pairwise.network import SmallNetwork
from thesis_lib.pairwise.parameters import Method
from thesis_lib.pairwise.training import train

BATCH = 1024


def as_published(data: LabelledPictures, anchors: int, augmentation: str, size: int = 28) -> None:
    """Lists of tensors, then one epoch."""
    normalise = [T.ToTensor(), T.Normalize((0.5,), (0.5,))]
    steps = {
        "none": [],
        "fer": [
            T.Resize(2 * size), T.Pad(18), T.RandomRotation((-15, 15)), T.CenterCrop(int(2.25 * size)), T.Resize(size),
        ],
        "simclr": [
            T.RandomResizedCrop(size), T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8), T.RandomGrayscale(0.2), T.GaussianBlur(3),
        ],
    }  # fmt: skip
    plain, augment = T.Compose(normalise), T.Compose([*steps[augmentation], *normalise])
    own: list[list[torch.Tensor]] = [[] for _ in range(10)]
    changed: list[list[torch.Tensor]] = [[] for _ in range(10)]
    foreign: list[list[torch.Tensor]] = [[] for _ in range(10)]
    for picture, label in zip(data.train, data.train_labels.tolist(), strict=True):
        opened = Image.fromarray(picture[0].numpy())
        tensor = plain(opened)
        own[label].append(tensor)
        changed[label].append(augment(opened))
        for other in range(10):
            if other != label:
                foreign[other].append(tensor)
    triplets = []
    for label in range(10):
        random.shuffle(foreign[label])
        triplets += list(zip(own[label][:anchors], changed[label][:anchors], foreign[label][:anchors], strict=True))
    network, loss = torch.nn.Sequential(*SmallNetwork(1)), torch.nn.TripletMarginLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.15)
    for anchor, positive, negative in DataLoader(triplets, BATCH, shuffle=True):  # type: ignore[arg-type]
        value = loss(network(anchor), network(positive), network(negative))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def ours(data: LabelledPictures, anchors: int, augmentation: str) -> None:
    """Index arrays and a bank, then one epoch."""
    train(data, Method(loss="triplet", epochs=1, augmentation=augmentation), anchors, BATCH, seed=0)  # type: ignore[arg-type]


def first_pictures(data: LabelledPictures, count: int) -> LabelledPictures:
    """The data set with its first training pictures only."""
    return data._replace(train=data.train[:count], train_labels=data.train_labels[:count])


def measure(which: str, root: str, anchors: int, augmentation: str) -> None:
    """One way in this process: prints seconds and peak memory in MB above the start."""
    data = first_pictures(read_mnist(root), 12 * anchors)  # all 60,000 for 5,000 anchors a class
    # the imports and the network's own working memory are the same in both ways: have them before the start
    ours(first_pictures(data, 2000), 110, augmentation)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    (as_published if which == "published" else ours)(data, anchors, augmentation)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{time.perf_counter() - started:.2f} {(peak - before) / 1024:.0f}")


def main(root: str, anchors: int, augmentation: str) -> None:
    """Both ways, each twice in turn, and the ratios of the better times and the lower peaks."""
    found: dict[str, list[tuple[float, float]]] = {"published": [], "ours": []}
    for which in ("published", "ours") * 2:
        command = [sys.executable, __file__, root, str(anchors), augmentation, which]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout
        seconds, megabytes = map(float, told.split())
        found[which].append((seconds, megabytes))
        print(f"{which:<10}{seconds:8.1f} s {megabytes:8.0f} MB", flush=True)
    best = {which: [min(values) for values in zip(*runs, strict=True)] for which, runs in found.items()}
    (their_time, their_memory), (time_, memory) = best["published"], best["ours"]
    print(f"{10 * anchors} triplets, {augmentation}: {their_time / time_:.1f} times faster an epoch, building included")
    print(f"{memory / max(their_memory, 1):.2f} of the memory")


if __name__ == "__main__":
    given = sys.argv[1:]
    anchors, augmentation = int(given[1]) if len(given) > 1 else 5000, given[2] if len(given) > 2 else "simclr"
    if len(given) > 3:
        measure(given[3], str(Path(given[0])), anchors, augmentation)
    else:
        main(given[0], anchors, augmentation)
