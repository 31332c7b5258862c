"""From a run's files to the pools of training pictures that an arm draws from."""

from pathlib import Path

import torch

from thesis_lib.contrastive.batches import Pool
from thesis_lib.datasets import PreparedSet
from thesis_lib.diffusion.generation import read_manifest
from thesis_lib.errors import ThesisError
from thesis_lib.parameters import Arm, Kind


def build_pools(arm: Arm, shots: PreparedSet, synthetic: Path) -> dict[Kind, Pool]:
    """The pictures of each kind the arm trains on.

    Args:
        arm: The arm.
        shots: The few-shot training pictures.
        synthetic: The seed's folder of synthetic pictures; read only where the arm needs them.

    Raises:
        ThesisError: There are no synthetic pictures, or they belong to other classes.
    """
    pools = {Kind.REAL: Pool(shots.pictures, torch.tensor(shots.table["label"].to_numpy()))}
    if arm.kinds == (Kind.REAL,):
        return pools
    manifest, pictures = read_manifest(synthetic)
    known = dict(zip(shots.table["class_name"], shots.table["label"], strict=True))
    if any(known.get(name) != label for name, label in zip(manifest["class_name"], manifest["label"], strict=True)):
        raise ThesisError(f"{synthetic}: the manifest's classes are not the data's: run notebook 04 again")
    for kind in arm.kinds[1:]:
        rows = torch.from_numpy((manifest["kind"] == str(kind)).to_numpy())
        pools[kind] = Pool(pictures[rows], torch.tensor(manifest["label"].to_numpy())[rows])
    return pools
