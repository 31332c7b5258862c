import pytest
import torch

from thesis_lib.errors import ThesisError
from thesis_lib.pairwise.pairs import Bank, draw_triplets
from thesis_lib.pairwise.parameters import Method

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0])
SOURCE = Method(loss="triplet", augmentation="fer")


def test_anchors_are_the_first_of_each_class_and_negatives_foreign_without_repeats():
    triplets = draw_triplets(LABELS, 3, SOURCE, seed=0)
    anchor, positive, negative = triplets.T
    assert anchor.tolist() == [0, 3, 6, 1, 4, 7, 2, 5, 8] and torch.equal(anchor, positive)
    assert (LABELS[anchor] != LABELS[negative]).all()
    assert all(len(set(negative[LABELS[anchor] == label].tolist())) == 3 for label in range(3))
    assert torch.equal(triplets, draw_triplets(LABELS, 3, SOURCE, seed=0))
    assert not torch.equal(triplets, draw_triplets(LABELS, 3, SOURCE, seed=1))


def test_small_classes_begin_again_and_use_every_foreign_picture_first():
    anchor, _, negative = draw_triplets(LABELS, 7, SOURCE, seed=0).T
    of_one = LABELS[anchor] == 1
    assert anchor[of_one].tolist() == [1, 4, 7, 1, 4, 7, 1]
    foreign = (LABELS != 1).nonzero().flatten()
    assert len(set(negative[of_one].tolist())) == 7 <= len(foreign)


def test_positives_of_the_class_are_other_pictures_and_any_negative_is_another():
    method = SOURCE.model_copy(update={"positive": "same_class", "negative": "any"})
    anchor, positive, negative = draw_triplets(LABELS, 50, method, seed=0).T
    assert (LABELS[anchor] == LABELS[positive]).all() and (anchor != positive).all() and (anchor != negative).all()
    same = (LABELS[anchor] == LABELS[negative]).float().mean()
    assert 0.15 < same < 0.45  # sample bias: by chance about 0.27


def test_impossible_pairs_are_refused():
    with pytest.raises(ThesisError, match="are of one class"):
        draw_triplets(torch.zeros(4, dtype=torch.int64), 2, SOURCE, 0)
    with pytest.raises(ThesisError, match="same_class needs two"):
        draw_triplets(torch.tensor([0, 0, 1]), 2, SOURCE.model_copy(update={"positive": "same_class"}), 0)


def test_the_bank_holds_pictures_then_augmented_ones(bars):
    triplets = draw_triplets(bars.train_labels, 5, SOURCE, 0)
    bank = Bank.build(bars.train, triplets, SOURCE)
    assert len(bank.pictures) == 60 + 15 and torch.equal(bank.rows[:, [0, 2]], triplets[:, [0, 2]])
    bank.draw(triplets, SOURCE, 0, epoch=0)
    assert torch.equal(bank.pictures[:60], bars.train)
    augmented = bank.pictures[bank.rows[:, 1]].clone()
    assert not torch.equal(augmented, bars.train[triplets[:, 1]])
    bank.draw(triplets, SOURCE, 0, epoch=1)
    assert not torch.equal(bank.pictures[bank.rows[:, 1]], augmented)
    bank.draw(triplets, SOURCE, 0, epoch=0)
    assert torch.equal(bank.pictures[bank.rows[:, 1]], augmented)


def test_without_augmentation_nothing_is_copied_and_with_the_anchor_no_negative_stays_clean(bars):
    plain = SOURCE.model_copy(update={"augmentation": "none"})
    triplets = draw_triplets(bars.train_labels, 5, plain, 0)
    assert Bank.build(bars.train, triplets, plain).pictures is bars.train
    every = SOURCE.model_copy(update={"augment_anchor": True})
    bank = Bank.build(bars.train, triplets, every)
    assert len(bank.pictures) == 60 + 45 and len(set(bank.rows.flatten().tolist())) == 45
    bank.draw(triplets, every, 0, epoch=0)
    assert (bank.pictures[bank.rows] != bars.train[triplets]).flatten(2).any(2).float().mean() > 0.9
    pairs = Method(loss="cosine", augment_anchor=True)
    of_batch = Method(loss="supcon", augment_anchor=True)
    assert (pairs.augmented_roles, of_batch.augmented_roles) == ((0, 1, 2), (0, 1))


def test_items_of_pairs_triplets_and_batches(bars):
    triplets = draw_triplets(bars.train_labels, 4, SOURCE, 0)
    labels = bars.train_labels[triplets[:, 0]]
    bank = Bank.build(bars.train, triplets, SOURCE)
    pairs, signs = bank.items(Method(loss="cosine"), labels)
    assert pairs.shape == (24, 2) and signs.tolist() == [1] * 12 + [-1] * 12
    assert torch.equal(pairs[:12], bank.rows[:, :2]) and torch.equal(pairs[12:, 1], bank.rows[:, 2])
    assert bank.items(Method(loss="triplet"), labels)[0].shape == (12, 3)
    for method in (Method(loss="triplet", mining="hard"), Method(loss="supcon"), Method(loss="nt_xent")):
        items, known = bank.items(method, labels)
        assert items.shape == (12, 2) and torch.equal(known, labels)
