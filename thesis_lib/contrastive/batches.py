"""Which pictures make up a training batch.

Every arm sees the same number of anchors a step: with synthetic ID pictures, half of a class's anchors are synthetic.
Near-OOD pictures come in addition. What is drawn for a class and slot depends on nothing else in the batch, so that
arms which share a slot share its pictures, and paired differences are not blurred.
"""

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.parameters import Arm
from thesis_lib.randomness import numpy_generator
from thesis_lib.sections import Kind, TrainingParameters


@dataclass
class Pool:
    """The training pictures of one kind.

    Attributes:
        pictures: uint8 (n, 3, h, w).
        labels: int64 (n,).
        masks: bool (n, h, w), the objects of real pictures.
        sources: int64 (n,), for synthetic pictures the place of their source in the pool of real ones.
    """

    pictures: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None
    sources: torch.Tensor | None = None


@dataclass
class Batch:
    """One training batch.

    Attributes:
        pictures: uint8 (n, 3, h, w).
        labels: int64 (n,).
        is_near_ood: bool (n,).
        is_filler: bool (n,): ID pictures that are no anchors.
        second: uint8 (n, 3, h, w), what the second view is drawn from where it is another picture.
        masks: bool (n, h, w), the objects, where all pictures are real.
    """

    pictures: torch.Tensor
    labels: torch.Tensor
    is_near_ood: torch.Tensor
    is_filler: torch.Tensor
    second: torch.Tensor | None = None
    masks: torch.Tensor | None = None


Role = Literal["anchor", "near_ood", "filler"]


def slots(arm: Arm, p: TrainingParameters) -> list[tuple[Kind, Role, int]]:
    """How many pictures of which kind and role a class has in a batch: the anchors are equally many in every arm."""
    half = p.anchors_per_class // 2
    if Kind.ID not in arm.kinds or arm in (Arm.SECOND_VIEW, Arm.PROBE_ID):
        return [(Kind.REAL, "anchor", p.anchors_per_class)]
    anchors: list[tuple[Kind, Role, int]] = [(Kind.REAL, "anchor", half), (Kind.ID, "anchor", half)]
    if arm is Arm.FILLER:
        return [*anchors, (Kind.ID, "filler", p.near_ood_per_class)]
    if arm in (Arm.REAL_ID_NEAROOD, Arm.ORACLE_NEAROOD):
        return [*anchors, (Kind.NEAR_OOD, "near_ood", p.near_ood_per_class)]
    return anchors


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
        self.slots = slots(arm, parameters)
        self.rows = {
            kind: {c: np.flatnonzero(pools[kind].labels.numpy() == c) for c in self.classes} for kind in arm.kinds
        }
        for kind, by_class in self.rows.items():
            empty = [int(c) for c, rows in by_class.items() if not len(rows)]
            if not empty:
                continue
            if kind is Kind.NEAR_OOD and len(empty) < len(self.classes):
                warnings.warn(
                    f"classes with labels {empty} have no near-OOD pictures that were accepted and train without",
                    ThesisWarning,
                    stacklevel=2,
                )
            else:
                raise ThesisError(
                    f"classes with labels {empty} have no {kind} pictures: run notebook 04 for them first, or choose "
                    "all"
                )

    @property
    def near_ood_dose(self) -> dict[str, float]:
        """Near-OOD pictures in a batch, on average: of an anchor's own class, and of all classes together."""
        count = sum(count for _, role, count in self.slots if role == "near_ood")
        there = np.mean([len(rows) > 0 for rows in self.rows[Kind.NEAR_OOD].values()]) if count else 0.0
        own = float(count * there)
        return {"own_class": own, "all_classes": own * self.parameters.classes_per_batch}

    def compose(self, step: int) -> Batch:
        """The batch of `step`, anchors first; within a slot and class without repeats where the class has enough."""
        random = numpy_generator(self.seed, "batch", step)
        labels = random.choice(self.classes, self.parameters.classes_per_batch, replace=False)
        chosen: list[tuple[Kind, Role, int]] = []
        for role in ("anchor", "near_ood", "filler"):
            for label, (kind, _, count) in itertools.product(labels, [slot for slot in self.slots if slot[1] == role]):
                rows = self.rows[kind][label]
                if len(rows):
                    drawing = numpy_generator(self.seed, "batch", step, int(label), str(kind), role)
                    drawn = drawing.choice(rows, count, replace=count > len(rows))
                    chosen += [(kind, role, int(row)) for row in drawn]
        real = self.pools[Kind.REAL]
        masks = None
        if real.masks is not None and all(kind is Kind.REAL for kind, _, _ in chosen):
            masks = real.masks[[row for _, _, row in chosen]]
        return Batch(
            torch.stack([self.pools[kind].pictures[row] for kind, _, row in chosen]),
            torch.stack([self.pools[kind].labels[row] for kind, _, row in chosen]),
            torch.tensor([role == "near_ood" for _, role, _ in chosen]),
            torch.tensor([role == "filler" for _, role, _ in chosen]),
            self._second([row for _, _, row in chosen], random) if self.arm is Arm.SECOND_VIEW else None,
            masks,
        )

    def _second(self, rows: list[int], random: np.random.Generator) -> torch.Tensor:
        """For each real picture one of the synthetic ones made from it, or itself where there is none."""
        real, made = self.pools[Kind.REAL], self.pools[Kind.ID]
        if made.sources is None:
            raise ThesisError("second views need synthetic pictures whose sources are known: run notebook 04 again")
        sources, pictures = made.sources.numpy(), []
        for row in rows:
            mine = np.flatnonzero(sources == row)
            pictures.append(made.pictures[random.choice(mine)] if len(mine) else real.pictures[row])
        return torch.stack(pictures)
