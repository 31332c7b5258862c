"""The manifest of a seed's synthetic pictures: reading it, and the hardness bands of its rows; needs no base model."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, UnidentifiedImageError

from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.sections import HardnessParameters, Kind

SCORES = (
    *("d_own", "p_own", "p_max", "nearest", "percentile", "confidence"),
    *("generative", "band", "timestep_chosen", "accepted_share"),
)
"""The columns that `hardness.score_manifest` adds."""


def read_manifest(folder: Path) -> tuple[pd.DataFrame, torch.Tensor]:
    """The manifest and its pictures, uint8 (n, 3, size, size).

    Raises:
        ThesisError: No manifest, or a picture of it is missing or broken.
    """
    path = folder / "manifest.parquet"
    if not path.exists():
        raise ThesisError(
            f"{folder} has no manifest.parquet: run notebook 04 first (thesis run ... --until generation)"
        )
    manifest = pd.read_parquet(path)
    return manifest, torch.stack([_read_picture(folder / name) for name in manifest["path"]])


def sets_of(manifest: pd.DataFrame) -> pd.Series:
    """The set each row belongs to, a name in `GenerationParameters.sets`."""
    return manifest["path"].str.partition("/")[0]


def source_rows(manifest: pd.DataFrame, shots: pd.DataFrame) -> list[int]:
    """For each picture of a manifest the position of its source in the table of the shots."""
    place = {source: row for row, source in enumerate(shots["source_id"])}
    return [place[source] for source in manifest["source_id"]]


def _read_picture(path: Path) -> torch.Tensor:
    try:
        with Image.open(path) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except (OSError, UnidentifiedImageError) as error:
        raise ThesisError(
            f"{path} is missing or broken ({error}): run notebook 04 again, it makes what is missing"
        ) from None


def bands(scores: pd.DataFrame, labels: np.ndarray, p: HardnessParameters) -> np.ndarray:
    """The band of each row of `Hardness.measure`: `id`, `near_ood`, or "" for pictures that are to be discarded.

    A picture that enters another class's band is never near-OOD: p_max forbids it.
    """
    inside = (scores["p_own"] >= p.id_p) & (scores["nearest"].to_numpy() == labels)
    outside = (scores["p_max"] <= p.near_p) & (scores["percentile"] < p.near_percentile)
    return np.where(inside, str(Kind.ID), np.where(outside, str(Kind.NEAR_OOD), ""))


def misfit(scores: pd.DataFrame, labels: np.ndarray, p: HardnessParameters) -> pd.Series:
    """How far each row of `Hardness.measure` misses the near-OOD band: below 1 inside it, by its distance above.

    Infinite for a picture that a class claims, its own or another: it must never be a negative.
    """
    claimed = (scores["p_max"] > p.near_p) | (bands(scores, labels, p) == str(Kind.ID))
    return (scores["percentile"] / p.near_percentile).mask(claimed, np.inf)


def accepted_shares(manifest: pd.DataFrame, p: HardnessParameters, name: str = "near_ood") -> pd.DataFrame:
    """The bands of a set over timesteps: timestep -> mean over classes of the shares `id` and `near_ood`.

    Args:
        manifest: The manifest with the scores of `Hardness.measure`.
        p: The limits.
        name: The set.
    """
    rows = manifest[sets_of(manifest) == name]
    band = bands(rows, rows["label"].to_numpy(), p)
    shares = pd.DataFrame({at: band == at for at in (str(Kind.ID), str(Kind.NEAR_OOD))}, index=rows.index)
    by_class = shares.groupby([rows["timestep"], rows["label"]]).mean()
    return by_class.groupby("timestep").mean()


def best_timestep(manifest: pd.DataFrame, p: HardnessParameters) -> int:
    """t*: the timestep with the largest accepted share, the smaller one of two alike; warns when it is the latest.

    Raises:
        ThesisError: No picture of any timestep is in the near-OOD band.
    """
    shares = accepted_shares(manifest, p)[str(Kind.NEAR_OOD)]
    if not shares.max() > 0:
        raise ThesisError(
            f"none of the pictures made at timesteps {list(shares.index)} lies in the near-OOD band: try other "
            "hardness.candidates, or raise hardness.near_p and near_percentile"
        )
    best = int(str(shares.idxmax()))
    if best == shares.index.max() and len(shares) > 1:
        warnings.warn(
            f"t* = {best} is the latest timestep tried, so the largest share may lie beyond it: add later "
            "hardness.candidates to know",
            ThesisWarning,
            stacklevel=2,
        )
    return best
