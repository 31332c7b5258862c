"""Training one network as the source does: SGD at a constant rate over shuffled pairs, triplets or anchors.

The main study's loop is not used: there an arm's batch passes the network at once, here each role passes it on its own,
so that batch normalisation sees anchors, positives and negatives apart, as in the source.
"""

import math

import torch
from tqdm.auto import tqdm

from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.errors import ThesisError
from thesis_lib.pairwise.losses import build_loss
from thesis_lib.pairwise.network import Features, PrincipalComponents, SmallNetwork, enough
from thesis_lib.pairwise.pairs import CHUNK, Bank, draw_triplets
from thesis_lib.pairwise.parameters import Method
from thesis_lib.randomness import derive_seed, torch_generator
from thesis_lib.tensors import best_device


def build_network(pictures: torch.Tensor, method: Method, seed: int) -> SmallNetwork:
    """A network with its first weights, which depend on the seed and the pictures' channels alone."""
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "network"))
        network = SmallNetwork(pictures.shape[1], method.sigmoid)
    return network.to(best_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]


def train(
    pictures: LabelledPictures, method: Method, anchors: int, batch: int, seed: int, name: str = ""
) -> tuple[Features, list[float]]:
    """Train a network.

    Args:
        pictures: The data set.
        method: How.
        anchors: Anchors a class.
        batch: Items a step: pairs, triplets, or anchors with their positives; the last batch of an epoch is smaller.
        seed: The experiment's seed; methods of equal settings share anchors, negatives and first weights.
        name: Said beside the progress bar.

    Returns:
        The network in training mode, and the loss of each step.

    Raises:
        ThesisError: The loss is not finite, or the pictures give no pairs.
    """
    device = best_device()
    if method.loss == "pca":
        return PrincipalComponents.of(pictures.train).to(device), []
    network = build_network(pictures.train, method, seed).train()
    if not method.epochs:
        return network, []
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "loss"))
        loss = build_loss(method, len(pictures.classes)).to(device)
    triplets = draw_triplets(pictures.train_labels, anchors, method, seed)
    bank = Bank.build(pictures.train, triplets, method)
    items, known = bank.items(method, pictures.train_labels[triplets[:, 0]])
    optimizer = torch.optim.SGD([*network.parameters(), *loss.parameters()], lr=method.learning_rate)
    losses: list[float] = []
    total = method.epochs * -(-len(items) // batch)
    with tqdm(total=total, desc=name or method.loss, mininterval=1) as bar:
        for epoch in range(method.epochs):
            if epoch == 0 or method.fresh:
                bank.draw(triplets, method, seed, epoch)
            for chosen in torch.randperm(len(items), generator=torch_generator(seed, "order", epoch)).split(batch):
                roles = items[chosen].T
                # Without augmentation anchor and positive are one picture. A second pass would only move batch
                # normalisation's running statistics, which nothing reads: `freeze_statistics` makes them anew.
                twice = torch.equal(roles[0], roles[1])
                passed = [network(bank.pictures[rows].to(device).float() / 255) for rows in roles[int(twice) :]]
                features = [passed[0], *passed] if twice else passed
                objective = loss(features, known[chosen].to(device))
                optimizer.zero_grad(set_to_none=True)
                objective.backward()
                optimizer.step()
                losses.append(objective.item())
                if not math.isfinite(losses[-1]):
                    raise ThesisError(
                        f"{name or method.loss}: the loss is not finite after {len(losses)} steps, learning_rate "
                        f"{method.learning_rate:g}: lower it"
                    )
                bar.update()
                if len(losses) % 10 == 0:
                    bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
    return network, losses


@torch.no_grad()
def freeze_statistics(network: Features, pictures: torch.Tensor) -> Features:
    """Give batch normalisation the statistics of clean training pictures, and leave training mode.

    The running ones are of anchors, positives and negatives in turn, augmented or not.

    Args:
        network: The network, changed in place.
        pictures: uint8 (n, c, s, s), of which `enough` are taken.
    """
    device, some = best_device(), enough(pictures, "statistics")
    torch.optim.swa_utils.update_bn((chunk.to(device).float() / 255 for chunk in some.split(CHUNK)), network)
    return network.eval()
