"""Which pictures make up a training batch.

Every arm sees the same number of anchors a step: with synthetic ID pictures, half of a class's anchors are synthetic.
Near-OOD pictures come in addition, so that every anchor meets the stated number of them from its own class.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from thesis_lib.errors import ThesisError
from thesis_lib.parameters import Arm, Kind, TrainingParameters
from thesis_lib.randomness import numpy_generator


@dataclass
class Pool:
    """The training pictures of one kind.

    Attributes:
        pictures: uint8 (n, 3, h, w).
        labels: int64 (n,).
    """

    pictures: torch.Tensor
    labels: torch.Tensor


@dataclass
class Batch:
    """One training batch.

    Attributes:
        pictures: uint8 (n, 3, h, w).
        labels: int64 (n,).
        is_near_ood: bool (n,).
    """

    pictures: torch.Tensor
    labels: torch.Tensor
    is_near_ood: torch.Tensor


class BatchComposer:
    """Composes the batch of any step from names alone, so that a resumed training sees the same batches.

    Args:
        pools: The pictures of each kind the arm trains on.
        arm: The arm.
        parameters: Batch sizes.
        seed: The experiment's seed.

    Raises:
        ThesisError: Fewer classes than a batch asks for, or a class without pictures of a kind.
    """

    def __init__(self, pools: Mapping[Kind, Pool], arm: Arm, parameters: TrainingParameters, seed: int) -> None:
        self.pools, self.arm, self.parameters, self.seed = pools, arm, parameters, seed
        self.classes = np.unique(pools[Kind.REAL].labels.numpy())
        if parameters.classes_per_batch > len(self.classes):
            raise ThesisError(
                f"training.classes_per_batch is {parameters.classes_per_batch}, the data has {len(self.classes)} "
                f"classes: lower it, for example --set training.classes_per_batch={len(self.classes)}"
            )
        self.rows = {
            kind: {c: np.flatnonzero(pools[kind].labels.numpy() == c) for c in self.classes} for kind in arm.kinds
        }
        for kind, by_class in self.rows.items():
            empty = [int(c) for c, rows in by_class.items() if not len(rows)]
            if empty:
                raise ThesisError(
                    f"classes with labels {empty} have no {kind} pictures: run notebook 04 for them first"
                )

    def compose(self, step: int) -> Batch:
        """The batch of `step`: (kind, picture) drawn class by class, without repeats where the class has enough."""
        random = numpy_generator(self.seed, "batch", step)
        p = self.parameters
        half = p.anchors_per_class // 2
        counts = {Kind.REAL: p.anchors_per_class}
        if Kind.ID in self.arm.kinds:
            counts = {Kind.REAL: half, Kind.ID: half}
        if Kind.NEAR_OOD in self.arm.kinds:
            counts[Kind.NEAR_OOD] = p.near_ood_per_class
        pictures, labels, near = [], [], []
        for label in random.choice(self.classes, p.classes_per_batch, replace=False):
            for kind, count in counts.items():
                rows = self.rows[kind][label]
                chosen = random.choice(rows, count, replace=count > len(rows))
                pictures.append(self.pools[kind].pictures[chosen])
                labels += [int(label)] * count
                near += [kind is Kind.NEAR_OOD] * count
        return Batch(torch.cat(pictures), torch.tensor(labels), torch.tensor(near))
