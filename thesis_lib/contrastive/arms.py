"""From a run's files to the pools of training pictures that an arm draws from."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from thesis_lib.contrastive.batches import Pool
from thesis_lib.datasets import PreparedSet
from thesis_lib.diffusion.manifest import bands, misfit, read_manifest, sets_of, source_rows
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.generative import surer_half
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.randomness import numpy_generator
from thesis_lib.sections import Kind


def build_pools(
    arm: Arm, parameters: Parameters, seed: int, shots: PreparedSet, synthetic: Path, oracle: PreparedSet | None
) -> dict[Kind, Pool]:
    """The pictures of each kind the arm trains on.

    Args:
        arm: The arm.
        parameters: What it trains with; `training` chooses among the synthetic pictures.
        seed: The experiment's seed.
        shots: The few-shot training pictures.
        synthetic: The seed's folder of synthetic pictures; read only where the arm needs them.
        oracle: The data set's oracle pictures, or none.

    Raises:
        ThesisError: There are no synthetic or oracle pictures, they belong to other classes, or none is chosen.
    """
    pools = {Kind.REAL: Pool(shots.pictures, _labels(shots.table), masks=shots.masks)}
    if len(arm.kinds) == 1:
        return pools
    if arm.is_oracle:
        if oracle is None:
            raise ThesisError(f"the data set has no oracle pictures: take {arm} out of the arms")
        for kind in arm.kinds[1:]:
            chosen = oracle.select((oracle.table["kind"] == str(kind)).to_numpy())
            pools[kind] = Pool(chosen.pictures, _labels(chosen.table))
        return pools
    manifest, pictures = read_manifest(synthetic)
    known = dict(zip(shots.table["class_name"], shots.table["label"], strict=True))
    if any(known.get(name) != label for name, label in zip(manifest["class_name"], manifest["label"], strict=True)):
        raise ThesisError(f"{synthetic}: the manifest's classes are not the data's: run notebook 04 again")
    for kind in arm.kinds[1:]:
        rows = choose_id(manifest, parameters, seed) if kind is Kind.ID else choose_near_ood(manifest, parameters, seed)
        if not len(rows):
            p = parameters.training
            name, choice = ("id", p.id_choice) if kind is Kind.ID else (p.near_ood_set, p.near_ood_choice)
            raise ThesisError(
                f"none of the {name} pictures in {synthetic} is chosen by {choice}: choose all, or run notebook 04 "
                "with other sets"
            )
        sources = torch.tensor(source_rows(manifest.iloc[rows], shots.table))
        pools[kind] = Pool(pictures[rows], _labels(manifest.iloc[rows]), sources=sources)
    return pools


def _labels(table: pd.DataFrame) -> torch.Tensor:
    return torch.tensor(table["label"].to_numpy())


def choose_id(manifest: pd.DataFrame, parameters: Parameters, seed: int) -> np.ndarray:
    """Positions in the manifest of the ID pictures that `training.id_choice` lets train.

    A filter (`confidence`, `generative`) keeps of each class and mask the half with the highest score. It judges the
    object alone: where that was left untouched and its surroundings were edited, the score is that of the source, and
    chance chooses. `half` is chosen by chance throughout: as many of each class and mask as a filter keeps.

    Raises:
        ThesisError: The manifest has no scores to choose by.
    """
    choice = parameters.training.id_choice
    chosen = np.array(manifest["kind"] == str(Kind.ID))
    if choice in ("object", "background"):
        chosen &= (manifest["mask"] == choice).to_numpy()
    elif choice == "band":
        chosen &= _band(manifest, parameters) == str(Kind.ID)
    elif choice != "all":
        made = manifest[chosen]
        scores = pd.Series(numpy_generator(seed, "half").random(len(made)), made.index)
        if choice != "half":
            _need_scores(manifest)
            scores = made[choice].where(made["mask"] != "background", scores)
        chosen[chosen] = surer_half(scores, [made["label"], made["mask"]]).to_numpy()
    return np.flatnonzero(chosen)


def choose_near_ood(manifest: pd.DataFrame, parameters: Parameters, seed: int) -> np.ndarray:
    """Positions in the manifest of the near-OOD pictures that `training.near_ood_set` and `near_ood_choice` let train.

    `hardness` takes of each class the pictures that no class claims, at most `hardness.quota`, those that fit the
    near-OOD band best (see `misfit`), of all timesteps tried; a class may have fewer, or none. `random` takes as many
    of each class and timestep, drawn by the seed from all that were made there: the two differ in acceptance alone.

    Raises:
        ThesisError: The manifest has no scores to choose by.
    """
    choice, sets = parameters.training.near_ood_choice, sets_of(manifest)
    near = (sets == parameters.training.near_ood_set).to_numpy()
    if choice == "all":
        return np.flatnonzero(near)
    if isinstance(choice, int):
        there = near & (manifest["timestep"] == choice).to_numpy()
        if parameters.generation.near_ood.timesteps == "auto" and parameters.training.near_ood_set == "near_ood":
            # as many of every timestep: there are more at the one that was chosen
            number = manifest.groupby(["source_id", sets, "timestep"]).cumcount().to_numpy()
            there &= number < parameters.hardness.per_source
        return np.flatnonzero(there)
    _need_scores(manifest)
    rows = manifest[near]
    rows = rows.assign(misfit=misfit(rows, rows["label"].to_numpy(), parameters.hardness))
    rows = rows[np.isfinite(rows["misfit"])]
    best = rows.sort_values(["label", "misfit"], kind="stable").groupby("label").head(parameters.hardness.quota).index
    accepted = manifest.index.isin(best)
    if choice == "hardness":
        return np.flatnonzero(accepted)
    keys = manifest["label"].astype(str) + " " + manifest["timestep"].astype(str)
    drawn = []
    for key in np.unique(keys[near]):
        made = np.flatnonzero(near & (keys == key).to_numpy())
        count = int(accepted[made].sum())
        drawn.append(numpy_generator(seed, "random acceptance", key).permutation(made)[:count])
    return np.sort(np.concatenate(drawn))


def _need_scores(manifest: pd.DataFrame) -> None:
    if "d_own" not in manifest:
        raise ThesisError(
            "the synthetic pictures have no hardness scores, because the parameters of their run choose nothing by "
            "hardness: let an arm of it do so, as parameters/parts.yaml does, and run notebook 04"
        )


def _band(manifest: pd.DataFrame, parameters: Parameters) -> np.ndarray:
    _need_scores(manifest)
    return bands(manifest, manifest["label"].to_numpy(), parameters.hardness)
