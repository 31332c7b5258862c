"""Pairs and triplets as index arrays into a bank of pictures."""

from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from thesis_lib.errors import ThesisError
from thesis_lib.pairwise.augmentations import augment, build_augmentation
from thesis_lib.pairwise.parameters import Method
from thesis_lib.randomness import derive_seed, torch_generator

CHUNK = 1024


def draw_triplets(labels: torch.Tensor, anchors: int, method: Method, seed: int) -> torch.Tensor:
    """Choose anchors, positives and negatives as the source does.

    The anchors are the first pictures of each class in the data set's order; positives are made from the anchor itself
    (text and public notebook agree: the notebook pairs the j-th picture of a class with the j-th augmented picture of
    the same list, which is the same picture), or with `same_class` from another picture of its class. The negatives of
    a class are its shuffled foreign pictures one after the other, so that none comes twice before all have come; with
    `any` they are all pictures but the anchor.

    Args:
        labels: (n,) of the training pictures.
        anchors: Anchors a class; a class with fewer pictures begins again.
        method: Its `positive` and `negative`.
        seed: The experiment's seed.

    Returns:
        (classes * anchors, 3) rows of the training pictures.

    Raises:
        ThesisError: There is one class only, or a class without another picture to be a positive.
    """
    classes = labels.unique()
    if len(classes) < 2:
        raise ThesisError("pairs need negatives and the training pictures are of one class: take a set with more")
    found = []
    for label in classes.tolist():
        own = (labels == label).nonzero().flatten()
        turn = torch.arange(anchors)
        anchor = own[turn % len(own)]
        generator = torch_generator(seed, "pairs", label)
        if method.positive == "same_picture":
            positive = anchor
        elif len(own) == 1:
            raise ThesisError(f"class {label} has one picture and positive: same_class needs two: add pictures")
        else:
            step = torch.randint(1, len(own), (anchors,), generator=generator)
            positive = own[(turn + step) % len(own)]
        if method.negative == "other_class":
            foreign = (labels != label).nonzero().flatten()
            rounds = -(-anchors // len(foreign))
            shuffled = [foreign[torch.randperm(len(foreign), generator=generator)] for _ in range(rounds)]
            negative = torch.cat(shuffled)[:anchors]
        else:
            negative = (anchor + torch.randint(1, len(labels), (anchors,), generator=generator)) % len(labels)
        found.append(torch.stack([anchor, positive, negative], dim=1))
    return torch.cat(found)


@dataclass
class Bank:
    """The training pictures, and behind them the augmented ones, so that whatever a network sees is a row.

    Attributes:
        pictures: uint8 (n + augmented, c, s, s).
        rows: (triplets, 3): rows of the bank that are anchor, positive, negative.
    """

    pictures: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def build(cls, pictures: torch.Tensor, triplets: torch.Tensor, method: Method) -> "Bank":
        """Lay out a bank; `draw` then fills in the augmented pictures.

        Args:
            pictures: uint8 (n, c, s, s).
            triplets: (m, 3) from `draw_triplets`.
            method: Says which roles are augmented.
        """
        roles, rows = method.augmented_roles, triplets.clone()
        for place, role in enumerate(roles):
            rows[:, role] = torch.arange(len(triplets)) + len(pictures) + place * len(triplets)
        if not roles:
            return cls(pictures, rows)
        bank = torch.empty(len(pictures) + len(roles) * len(triplets), *pictures.shape[1:], dtype=torch.uint8)
        bank[: len(pictures)] = pictures
        return cls(bank, rows)

    def draw(self, triplets: torch.Tensor, method: Method, seed: int, epoch: int) -> None:
        """Augment the pictures of the roles that are augmented; the same seed and epoch give the same pictures."""
        channels, size = self.pictures.shape[1], self.pictures.shape[-1]
        augmentation = build_augmentation(method.augmentation, channels, size)
        if augmentation is None:
            return
        for role in method.augmented_roles:
            chunks = list(zip(self.rows[:, role].split(CHUNK), triplets[:, role].split(CHUNK), strict=True))
            for number, (to, source) in enumerate(tqdm(chunks, desc="augment", leave=False, mininterval=1)):
                named = derive_seed(seed, "augment", role, epoch, number)
                self.pictures[to] = augment(augmentation, self.pictures[source], named)

    def items(self, method: Method, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What an epoch goes through.

        Args:
            method: Its loss says what an item is.
            labels: (triplets,) classes of the anchors.

        Returns:
            Rows of the bank, (items, k), and what the loss is told of each item, (items,): of pairs (k = 2) 1 for
            anchor and positive and -1 for anchor and negative; else the anchor's class, with k = 3 for triplets
            that were chosen beforehand and k = 2, anchor and positive, where the batch gives the negatives.
        """
        if method.loss in ("cosine", "margin"):
            signs = torch.ones(len(self.rows), dtype=torch.int64)
            return torch.cat([self.rows[:, [0, 1]], self.rows[:, [0, 2]]]), torch.cat([signs, -signs])
        return self.rows[:, : 3 if method.chosen_beforehand else 2], labels
