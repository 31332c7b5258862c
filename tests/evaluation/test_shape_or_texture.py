from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from thesis_lib.datasets import PreparedSet
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.shape_or_texture import (
    changed_pictures,
    flatten_objects,
    object_colours,
    shuffle_patches,
    skill_table,
    skills,
    summarise,
)
from thesis_lib.randomness import torch_generator
from thesis_lib.sections import EncoderParameters

SIZE = 32


def noise(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=torch_generator(0, "noise"), dtype=torch.uint8)


def patches(picture: torch.Tensor, k: int) -> list[bytes]:
    side = SIZE // k
    return [
        picture[:, i * side : (i + 1) * side, j * side : (j + 1) * side].contiguous().numpy().tobytes()
        for i in range(k)
        for j in range(k)
    ]


@pytest.mark.parametrize("k", [2, 4, 8])
def test_patches_change_places_and_nothing_else(k):
    pictures, names = noise(6), list("abcdef")
    shuffled = shuffle_patches(pictures, k, names, 0)
    orders = set()
    for before, after in zip(pictures, shuffled, strict=True):
        first, second = patches(before, k), patches(after, k)
        assert Counter(first) == Counter(second)
        orders.add(tuple(first.index(patch) for patch in second))
    assert len(orders) > 1  # each picture has a permutation of its own
    assert any(order != tuple(range(k * k)) for order in orders)


def test_one_patch_is_the_picture_and_a_permutation_belongs_to_the_picture():
    pictures, names = noise(4), list("abcd")
    assert torch.equal(shuffle_patches(pictures, 1, names, 0), pictures)
    shuffled = shuffle_patches(pictures, 4, names, 0)
    assert torch.equal(shuffle_patches(pictures[[3, 1]], 4, ["d", "b"], 0), shuffled[[3, 1]])
    assert not torch.equal(shuffle_patches(pictures, 4, names, 1), shuffled)
    with pytest.raises(ThesisError, match="32 px cannot be cut into 5 x 5"):
        shuffle_patches(pictures, 5, names, 0)


def test_flat_objects_keep_background_and_mean_colour():
    pictures = noise(3)
    masks = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    masks[:, 4:20, 8:30] = True
    own = object_colours(pictures, masks)
    for i in range(3):
        assert own[i].tolist() == pytest.approx([pictures[i, c][masks[i]].float().mean().item() for c in range(3)])
    flat = flatten_objects(pictures, masks, own)
    where = masks[:, None].expand_as(flat)
    assert torch.equal(flat[~where], pictures[~where])
    assert (flat[0, :, 5, 9] == own[0].round()).all() and flat[0, 0][masks[0]].unique().numel() == 1
    same = flatten_objects(pictures, masks, own.mean(0))
    assert same[:, 0][masks].unique().numel() == 1


def test_skill_is_recall_corrected_for_what_is_called_so_by_mistake():
    confusion = np.array([[8, 2, 0], [1, 9, 0], [0, 5, 5]])
    expected = []
    for c in range(3):
        recall = confusion[c, c] / confusion[c].sum()
        wrongly = [confusion[o, c] / confusion[o].sum() for o in range(3) if o != c]
        expected.append(recall - sum(wrongly) / 2)
    assert skills(confusion) == pytest.approx(expected)
    mean_recall = np.mean([0.8, 0.9, 0.5])
    assert skills(confusion).mean() == pytest.approx((mean_recall - 1 / 3) / (1 - 1 / 3))
    assert skills([[5, 0, 0], [7, 0, 0], [9, 0, 0]]) == pytest.approx([0, 0, 0])  # always the same answer: recall 1
    assert skills(np.eye(3, dtype=int)).tolist() == [1, 1, 1]
    absent = skills([[4, 0, 0], [0, 0, 0], [2, 0, 2]])
    assert absent[0] == pytest.approx(0.5) and np.isnan(absent[1])


class Colour(nn.Module):
    """Sees the mean colour of the picture: red against blue."""

    settings = EncoderParameters(architecture="resnet10", width=8, size=SIZE)

    def forward(self, pictures):
        return pictures.mean((2, 3))[:, [0, 2]]


class Layout(Colour):
    """Sees what is bright where: above the diagonal against below, so that no patch alone tells."""

    def forward(self, pictures):
        grey, upper = pictures.mean(1), torch.ones(SIZE, SIZE).triu()
        return torch.stack([(grey * upper).mean((1, 2)), (grey * (1 - upper)).mean((1, 2))], 1)


class Silhouette(Colour):
    """Sees whether the object's bounding box is wide or high, from where the picture is not black."""

    def forward(self, pictures):
        there = pictures.sum(1) > 0
        return torch.stack([there.any(1).sum(1), there.any(2).sum(1)], 1).float()


def two_classes(kind: str, count: int = 24) -> PreparedSet:
    """Red and blue squares on black; or bright above or below the diagonal; or wide and high bars, noisy."""
    labels = torch.arange(count) % 2
    pictures = torch.zeros(count, 3, SIZE, SIZE, dtype=torch.uint8)
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    grain = torch.randint(100, 250, (count, SIZE, SIZE), generator=torch_generator(1, kind), dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        if kind == "colour":
            masks[i, 8:24, 8:24] = True
            pictures[i, 2 * label] = grain[i] * masks[i]
        elif kind == "layout":
            masks[i] = torch.ones(SIZE, SIZE).triu().bool() ^ bool(label)
            pictures[i] = 40 + (grain[i] // 2) * masks[i]
        else:
            masks[i, 12:20, 2:30] = True
            masks[i] = masks[i].T.clone() if label else masks[i]
            pictures[i] = grain[i] * masks[i]
    table = pd.DataFrame({"label": labels.numpy(), "split": "test"})
    table["class_name"] = table["label"].map({0: "first", 1: "second"})
    table["source_id"] = [f"{kind}/{i}" for i in range(count)]
    return PreparedSet(table, pictures, masks)


def recalls(encoder: nn.Module, images: PreparedSet) -> pd.Series:
    classifier = nn.Linear(2, 2, bias=False)
    classifier.weight.data = torch.eye(2)
    table = skill_table({"arm": (encoder, classifier)}, images, 0)
    return table.groupby("kind")["recall"].mean()


def test_a_network_that_sees_colour_keeps_its_accuracy_when_patches_change_places():
    recall = recalls(Colour(), two_classes("colour"))
    assert (recall[["intact", "patches2", "patches4", "patches8", "flat_own"]] == 1).all()
    assert recall["flat"] == recall["flat_patches"] == 0.5  # one colour for all: nothing to see any more


def test_a_network_that_sees_the_layout_loses_it():
    recall = recalls(Layout(), two_classes("layout"))
    assert recall["intact"] == recall["flat"] == recall["flat_own"] == 1
    assert recall["patches8"] < 0.75


def test_the_number_tells_which_of_both():
    shares = pd.DataFrame({"split": "test", "class_name": ["first", "second"], "inside": [0.5, np.nan], "area": 0.4})
    shares["centre"] = 0.45
    leans = {}
    for encoder, kind in ((Colour(), "colour"), (Silhouette(), "bars")):
        classifier = nn.Linear(2, 2, bias=False)
        classifier.weight.data = torch.eye(2)
        table = skill_table({kind: (encoder, classifier)}, two_classes(kind), 0)
        row = summarise(shares.assign(arm=kind), table, ["arm", "split"]).loc[(kind, "test")]
        assert row["inside"] == 0.5 and row["blind"] == 0.5 and row["skill_intact"] == 1
        assert row["lean"] == pytest.approx(row["shape"] - row["texture"])
        leans[kind] = row
    assert leans["colour"]["lean"] == pytest.approx(-1)
    assert leans["bars"]["shape"] == 1 and leans["bars"]["lean"] > 0.6


def test_pictures_without_masks_are_left_out_or_all_are_taken():
    images = two_classes("colour", 8)
    images.masks[:2] = False
    table = skill_table({"arm": (Colour(), nn.Linear(2, 2))}, images, 0)
    assert set(table["pictures"]) == {3}
    images.masks[:] = False
    table = skill_table({"arm": (Colour(), nn.Linear(2, 2))}, images, 0)
    assert set(table["kind"]) == {"intact", "patches2", "patches4", "patches8"} and set(table["pictures"]) == {4}
    shares = pd.DataFrame({"arm": "arm", "split": "test", "inside": [np.nan], "area": np.nan, "centre": np.nan})
    row = summarise(shares, table, ["arm", "split"]).iloc[0]
    assert np.isnan([row["shape"], row["lean"], row["inside"], row["blind"]]).all()


def test_changed_pictures_are_made_from_each_other():
    images = two_classes("colour", 6)
    kinds = changed_pictures(images, 3)
    names = list(images.table["source_id"])
    assert torch.equal(kinds["flat_patches"](), shuffle_patches(kinds["flat"](), 8, names, 3))
    assert torch.equal(kinds["patches4"](), shuffle_patches(images.pictures, 4, names, 3))
