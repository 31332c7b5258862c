"""The study's data sets as tensors."""

from collections.abc import Callable
from pathlib import Path

import torch

from thesis_lib.datasets import prepare_data
from thesis_lib.datasets.cifar10 import find_cifar10, read_cifar10
from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.datasets.mnist import find_mnist, read_mnist
from thesis_lib.errors import ThesisError
from thesis_lib.pairwise.parameters import PARTS_SIZE, PicturesParameters, SetName
from thesis_lib.randomness import torch_generator
from thesis_lib.sections import DataParameters

REMEDY = "; or take the bundled parts: --set data.sets=[parts] --set beyond_sets=[parts] --set data.anchors=200"


def read_set(name: SetName, parameters: PicturesParameters, folder: Path) -> LabelledPictures:
    """Read a data set.

    Of the bundled parts the training split trains, and the validation and test pictures, all of the laboratory set-up,
    are the test pictures.

    Args:
        name: The set.
        parameters: Where it is, and how many test pictures are wanted.
        folder: Where the crops of the bundled parts are kept.

    Raises:
        ThesisError: The set is not there and cannot be downloaded.
    """
    if name == "parts":
        pictures = _parts(folder)
    else:
        try:
            pictures = (read_mnist if name == "mnist" else read_cifar10)(parameters.root)
        except ThesisError as error:
            raise ThesisError(f"{error}{REMEDY}") from None
    order = torch.randperm(len(pictures.test), generator=torch_generator(0, "test pictures"))
    rows = (
        order[: parameters.test].sort().values
    )  # the first half of MNIST's is cleaner, the first parts are of one class
    return pictures._replace(test=pictures.test[rows], test_labels=pictures.test_labels[rows])


def missing(parameters: PicturesParameters) -> list[str]:
    """A sentence for each set that is not where the parameters say; nothing is read or downloaded."""
    sentences = []
    finders: dict[SetName, Callable[[str], object]] = {"mnist": find_mnist, "cifar10": find_cifar10}
    for name in parameters.sets:
        find = finders.get(name)
        if find is not None and parameters.root is not None:
            try:
                find(parameters.root)
            except ThesisError as error:
                sentences.append(f"{error}{REMEDY}")
    return sentences


def _parts(folder: Path) -> LabelledPictures:
    data = prepare_data(DataParameters(), PARTS_SIZE, folder)
    table = data.images.table
    labels = torch.tensor(table["label"].to_numpy())
    train, test = (torch.tensor(table["split"].isin(splits).to_numpy()) for splits in (["train"], ["valid", "test"]))
    pictures = data.images.pictures
    return LabelledPictures(pictures[train], labels[train], pictures[test], labels[test], data.classes)
