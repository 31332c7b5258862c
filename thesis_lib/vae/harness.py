"""One classifier, one budget, all kinds of augmentation: the main study's cross-entropy network on parts and digits."""

import shutil
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thesis_lib.contrastive.batches import Pool
from thesis_lib.contrastive.pretraining import Mix, pretrain
from thesis_lib.contrastive.probe import extract_features
from thesis_lib.contrastive.views import StrongViews, Views
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.parameters import Arm
from thesis_lib.sections import Kind
from thesis_lib.vae.benches import Bench
from thesis_lib.vae.classifiers import weighted_f1
from thesis_lib.vae.methods import ALONE, MADE, METHODS
from thesis_lib.vae.work import Item, Items, Row, row

VERSION = 2
"""Part of what the harness's results are made of: raise it when the code here, the main study's training or its views
work differently."""


class Unchanged(Views):
    """No views: each picture as it is, so often as asked for."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)  # nothing to draw

    def forward(self, pictures: Tensor, views: int, seed: int) -> Tensor:
        """As `Views`."""
        return pictures[:, None].expand(-1, views, -1, -1, -1)


def mixup_or_cutmix(classes: int) -> Mix:
    """For each batch mixup (Zhang et al. 2018, arXiv 1710.09412) or CutMix (Yun et al. 2019, arXiv 1905.04899).

    The batch is shuffled first: torchvision mixes each row with the one before it, and batches are composed class by
    class and view by view, so that nearly all mixtures would be of one class.
    """
    from torchvision.transforms import v2

    choice = v2.RandomChoice([v2.MixUp(num_classes=classes), v2.CutMix(num_classes=classes)])

    def mix(pictures: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            order = torch.randperm(len(labels))
            return choice(pictures[order], labels[order])

    return mix


def harness_items(bench: Bench, seeds: Sequence[int], folder: Path) -> Items:
    """The work list: an item a method and seed; methods whose pictures cannot be had are left out, with a warning."""
    items: Items = {}
    for seed in seeds:
        made_of, left_out = sources_of(bench, seed)
        for error, names in left_out.items():
            message = f"harness: {bench.name}, seed {seed}: left out {', '.join(names)}: {error}"
            warnings.warn(message, ThesisWarning, stacklevel=2)
        for method in METHODS:
            source = method.removeprefix("classical_")
            if source in made_of or (source not in MADE and (method != "pasted" or bench.has_masks)):
                of = bench.depends_on | {"version": VERSION} | made_of.get(source, {})
                items[f"{bench.name}/{method}_seed{seed}"] = Item(partial(compare, bench, method, seed, folder), of)
    return items


def sources_of(bench: Bench, seed: int) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """The generated pictures that a bench has for a seed.

    Returns:
        Source -> what its pictures depend on; why others cannot be had -> these sources.
    """
    found: dict[str, dict[str, Any]] = {}
    left_out: dict[str, list[str]] = {}
    for source in bench.sources:
        try:
            found[source] = bench.made_of(source, seed)
        except ThesisError as error:
            left_out.setdefault(str(error), []).append(source)
    return found, left_out


def compare(bench: Bench, method: str, seed: int, folder: Path) -> list[Row]:
    """Train one network and measure weighted F1 and accuracy on every test split, and its last tenth's loss."""
    p, source = bench.parameters, method.removeprefix("classical_")
    real, labels = bench.shots(seed)
    classes = int(labels.max()) + 1
    pools, arm = {Kind.REAL: Pool(real, labels, masks=bench.masks(seed))}, Arm.CROSS_ENTROPY_REAL
    if source in MADE:
        pools[Kind.ID], arm = Pool(*bench.made(source, seed)), Arm.CROSS_ENTROPY
    size, ranges = p.encoder.size, p.training.views
    if method in ("none", *ALONE):
        views: Views = Unchanged()
    elif method == "randaugment":
        views = StrongViews(size, ranges, bench.mirror, bench.fill)
    else:
        views = Views(size, ranges, bench.mirror)
    mix = mixup_or_cutmix(classes) if method == "mixup_cutmix" else None
    work = folder / f"{bench.name}_{method}_seed{seed}"
    network, curve = pretrain(arm, pools, p, seed, work, views=views, mix=mix, paste=method == "pasted")
    shots, made = len(labels) // classes, len(pools[Kind.ID].labels) // classes if source in MADE else 0
    about: Row = {"shots": shots, "generated": made, "classifier": p.encoder.architecture}
    last = float(curve["loss"].tail(max(1, len(curve) // 10)).mean())
    rows = [row("harness", bench.name, method, seed, last, metric="loss/train", **about)]
    for split, (pictures, truth) in bench.tests.items():
        predicted = extract_features(network, pictures, p.encoder.size).argmax(1)
        scores = {
            "f1": weighted_f1(truth.numpy(), predicted.numpy()),
            "top1": float((truth == predicted).double().mean()),
        }
        for metric, value in scores.items():
            rows.append(row("harness", bench.name, method, seed, value, metric=f"{metric}/{split}", **about))
    shutil.rmtree(work)  # the checkpoint has served
    return rows
