"""What is said of one picture: how far it is from its class, and what a trained classifier takes it for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thesis_lib.contrastive.encoders import Classifier, Encoder, load_network
from thesis_lib.contrastive.probe import extract_features
from thesis_lib.datasets import PreparedData, few_shot
from thesis_lib.diffusion.base import BaseModel
from thesis_lib.diffusion.hardness import Hardness, load_hardness_encoder
from thesis_lib.diffusion.manifest import bands
from thesis_lib.diffusion.through_vae import read_passed
from thesis_lib.errors import ThesisError
from thesis_lib.figures.view import Reading
from thesis_lib.parameters import Parameters
from thesis_lib.sections import HardnessParameters

BEST = 3
"""So many of the classifier's answers are told."""


class Reader:
    """Measures pictures, each one once.

    Args:
        classes: Names by label.
        space: The hardness space, or none.
        limits: The bands' limits.
        network: A trained arm's name, encoder and classifier, or none.
        size: Side of the encoder's input.
        notes: What cannot be told, and why.
    """

    def __init__(
        self, classes: Sequence[str], space: Hardness | None, limits: HardnessParameters,
        network: tuple[str, Encoder, Classifier] | None, size: int, notes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.classes, self.space, self.limits, self.network, self.size = classes, space, limits, network, size
        self.notes = list(notes)
        self._read: dict[str, Reading] = {}

    def read(self, key: str, picture: torch.Tensor, mask: torch.Tensor, label: int, group: str) -> Reading:
        """Measure a picture.

        Args:
            key: Tells pictures apart.
            picture: uint8 (3, s, s).
            mask: bool (s, s), where its source's object stands.
            label: Its source's class.
            group: Its source's capture group, whose training pictures do not count for the distance.

        Returns:
            The reading.
        """
        if key not in self._read:
            distance = {} if self.space is None else self._distance(self.space, picture, mask, label, group)
            self._read[key] = Reading(**distance, **({} if self.network is None else self._answers(picture)))
        return self._read[key]

    def _distance(
        self, space: Hardness, picture: torch.Tensor, mask: torch.Tensor, label: int, group: str
    ) -> dict[str, Any]:
        labels = np.array([label])
        scores = space.measure(space.features(picture[None], mask[None]), labels, np.array([group]))
        row = scores.iloc[0]
        return {
            "distance": float(row["d_own"]),
            "p_own": float(row["p_own"]),
            "band": str(bands(scores, labels, self.limits)[0]),
            "nearest": self.classes[int(row["nearest"])],
            "limits": space.limits(self.limits),
        }

    def _answers(self, picture: torch.Tensor) -> dict[str, Any]:
        assert self.network is not None
        name, encoder, classifier = self.network
        with torch.no_grad():
            logits = classifier(extract_features(encoder, picture[None], self.size))[0]
        best = logits.softmax(0).topk(min(BEST, len(self.classes)))
        answers = tuple((self.classes[int(i)], float(p)) for p, i in zip(best.values, best.indices, strict=True))
        return {"answers": answers, "classifier": name}


def make_reader(
    base: BaseModel, data: PreparedData, parameters: Parameters, seed: int, data_folder: Path, arm: str,
    arm_folder: Path,
) -> Reader:  # fmt: skip
    """A reader with what a run has: the base model's hardness encoder, and an arm's network once it is trained.

    Args:
        base: The base model.
        data: The crops.
        parameters: The experiment's.
        seed: The seed whose shots the distances are measured to.
        data_folder: The run's, with the pictures that have passed the VAE.
        arm: The arm whose classifier is asked.
        arm_folder: Where it is, once it is trained.

    Returns:
        The reader; what it cannot tell, and why, stands in its `notes`.
    """
    space, network, notes = None, None, []
    try:
        passed = read_passed(data, parameters.model.through_vae, data_folder).images
        rows = few_shot(data.images.table, parameters.data.shots, seed).index
        valid = passed.select((data.images.table["split"] == "valid").to_numpy())
        encoder = load_hardness_encoder(base, parameters.hardness)
        space = Hardness(encoder, passed.select(rows), valid, parameters.hardness.neighbours)
    except ThesisError as error:
        notes.append(f"no distances to the classes: {error}")
    own = parameters.of_arm(arm)[1]
    if (arm_folder / "classifier.safetensors").exists():
        try:
            network = (arm, *load_network(arm_folder, own.encoder, len(data.classes)))
        except ThesisError as error:
            notes.append(f"no classifier's answers: {error}")
    else:
        notes.append(f"no classifier's answers: the arm {arm} of seed {seed} is not trained yet, see notebook 05")
    return Reader(data.classes, space, parameters.hardness, network, own.encoder.size, notes)
