"""How far a picture is from a class: conformal bands that tell in-distribution, near-OOD and neither.

The space is the penultimate layer of an encoder trained on other parts, L2-normalised, with the object cut out. The
encoder selects and never evaluates. Split conformal p values: Vovk et al. 2005; their use for OOD detection: Bates et
al. 2023 (arXiv 2104.08279). Choosing outliers near the boundary has been done before (Dream-OOD, arXiv 2309.13415);
here the bands calibrate an insertion timestep, nothing more.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from thesis_lib.contrastive.batches import Pool
from thesis_lib.contrastive.encoders import Encoder, load_encoder, save_network
from thesis_lib.contrastive.pretraining import pretrain
from thesis_lib.contrastive.probe import extract_features
from thesis_lib.datasets import PreparedSet
from thesis_lib.diffusion.augmentation import insertion_timestep
from thesis_lib.diffusion.base import BaseModel, base_folder
from thesis_lib.diffusion.manifest import SCORES, accepted_shares, bands, read_manifest, sets_of, source_rows
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.generative import genuineness
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.sections import (
    HARDNESS_ENCODER,
    EncoderParameters,
    GenerationParameters,
    HardnessParameters,
    Kind,
    TrainingParameters,
)
from thesis_lib.storage import write_table
from thesis_lib.tensors import best_device, bf16_is_native

GREY = 128
SHARPNESS = 0.05
"""Temperature that turns mean cosine distances to classes into confidences, as CLIP's does with similarities."""


def on_grey(pictures: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Objects on constant grey: uint8 pictures (n, 3, s, s), bool masks (n, s, s); without a mask all is object."""
    inside = masks | ~masks.flatten(1).any(1)[:, None, None]
    return torch.where(inside[:, None], pictures, torch.full_like(pictures, GREY))


def load_hardness_encoder(base: BaseModel, parameters: HardnessParameters) -> Encoder:
    """The encoder that `hardness.encoder` names, frozen, on the GPU where there is one.

    Raises:
        ThesisError: The base model brought none, or the file is none of this project's encoders.
    """
    own = parameters.encoder == "base"
    path = base_folder(base.name) / HARDNESS_ENCODER if own else Path(parameters.encoder).expanduser()
    if own and not path.is_file():
        raise ThesisError(
            f"hardness.encoder: the base model {base.name} brings no {HARDNESS_ENCODER}: give an encoder.safetensors "
            "that this project trained on other data, for example the arm real of another seed"
        )
    return load_encoder(path).to(best_device())


def train_hardness_encoder(
    pictures: torch.Tensor, identities: pd.Series, steps: int, seed: int, folder: Path
) -> pd.DataFrame:
    """Train the encoder of a base model's space with SupCon on what the base model was trained on, and save it there.

    Args:
        pictures: uint8 (n, 3, s, s), none of them of the study's classes or OOD parts.
        identities: (n,) what each shows, the classes of the contrastive loss.
        steps: Optimiser steps; 1,500 made the bundled one.
        seed: Seeds everything.
        folder: The base model's folder; a checkpoint lies beside it while it trains.

    Returns:
        The training's history, see `pretrain`.
    """
    labels = torch.tensor(identities.astype("category").cat.codes.to_numpy()).long()
    parameters = Parameters(
        name="hardness",
        encoder=EncoderParameters(width=32, stem="standard", size=pictures.shape[-1]),
        training=TrainingParameters(
            optimizer="adamw", learning_rate=2e-3, temperature=0.1, steps=steps,
            precision="bf16" if bf16_is_native() else "fp32",
            classes_per_batch=min(32, len(labels.unique())),
        ),
    )  # fmt: skip
    network, history = pretrain(
        Arm.REAL, {Kind.REAL: Pool(pictures, labels)}, parameters, seed, folder.with_name("hardness")
    )
    save_network(folder, **{Path(HARDNESS_ENCODER).stem: network.encoder.half()})
    return history


class Hardness:
    """Distances to the classes of an experiment, calibrated on its validation pictures.

    For a picture x and a class c, d_c(x) is the mean cosine distance to the nearest few real training pictures of c,
    divided by the median of the validation pictures of c; p_c(x) is the share of validation pictures, of all classes
    together, that are at least as far from their own class (with the usual + 1). What is needed of other classes'
    pictures comes from the validation pictures, too: nothing here sees a test picture.

    Args:
        encoder: The space; frozen.
        shots: The seed's real training pictures.
        valid: Validation pictures of the same classes.
        neighbours: Nearest training pictures of a class that count.

    Raises:
        ThesisError: There are no validation pictures of a class, or a class has a single capture group.
    """

    def __init__(self, encoder: Encoder, shots: PreparedSet, valid: PreparedSet, neighbours: int) -> None:
        self.encoder, self.neighbours = encoder, neighbours
        self.labels = np.sort(shots.table["label"].unique())
        self.shot_labels = torch.tensor(shots.table["label"].to_numpy())
        self.groups = shots.table["capture_group"].to_numpy(str)
        if lacking := sorted({*map(int, self.labels)} - {*map(int, valid.table["label"])}):
            raise ThesisError(
                f"hardness needs validation pictures of every class and those with labels {lacking} have none: choose "
                "timesteps yourself and near_ood_choice: all"
            )
        self.bank = self.features(shots.pictures, shots.masks)
        self.scale = np.ones(len(self.labels))
        raw, own = self.distances(self.features(valid.pictures, valid.masks)), valid.table["label"].to_numpy()
        self.scale = np.array([np.median(raw[own == label, i]) for i, label in enumerate(self.labels)])
        scaled = raw / self.scale
        place = np.searchsorted(self.labels, own)
        self.calibration = np.sort(scaled[np.arange(len(own)), place])
        self.others = [np.sort(scaled[own != label, i]) for i, label in enumerate(self.labels)]

    def features(self, pictures: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """L2-normalised penultimate features (n, d) of the objects of uint8 pictures."""
        size = self.encoder.settings.size
        return F.normalize(extract_features(self.encoder, on_grey(pictures, masks), size), dim=1)

    def distances(self, features: torch.Tensor, without: np.ndarray | None = None) -> np.ndarray:
        """d_c of n features to every class: (n, classes).

        Args:
            features: (n, d), L2-normalised.
            without: For each picture the capture group of its source, whose training pictures do not count.

        Raises:
            ThesisError: A class has no training picture outside a source's capture group.
        """
        cosine = 1 - features @ self.bank.T
        if without is not None:
            cosine = cosine.masked_fill(torch.from_numpy(np.asarray(without)[:, None] == self.groups[None]), torch.inf)
        columns = []
        for label in self.labels:
            near = cosine[:, self.shot_labels == label].sort(1).values[:, : self.neighbours]
            finite = near.isfinite()
            if not bool(finite.any(1).all()):
                raise ThesisError(
                    f"all training pictures of class {label} are of one capture group, so that a picture made from one "
                    "cannot be compared with others: hardness needs training pictures of two set-ups or objects"
                )
            columns.append(near.where(finite, torch.zeros(())).sum(1) / finite.sum(1))
        return torch.stack(columns, 1).double().numpy() / self.scale

    def p_values(self, distances: np.ndarray) -> np.ndarray:
        """Conformal p values of scaled distances, of any shape."""
        n = len(self.calibration)
        return (1 + n - np.searchsorted(self.calibration, distances, side="left")) / (n + 1)

    def measure(self, features: torch.Tensor, labels: np.ndarray, without: np.ndarray | None = None) -> pd.DataFrame:
        """Where pictures lie.

        Args:
            features: (n, d), what `features` returns.
            labels: (n,) the class that each is to be measured against.
            without: As for `distances`.

        Returns:
            d_own; p_own; p_max, the largest p value of any class; nearest, the label of the nearest class;
            percentile, the share in percent of other classes' pictures that are nearer to the own class; confidence,
            the own class's share in a softmax over minus the distances.
        """
        distances = self.distances(features, without)
        rows, own = np.arange(len(labels)), np.searchsorted(self.labels, labels)
        p_values, d_own = self.p_values(distances), distances[rows, own]
        raw = torch.from_numpy(-distances * self.scale / SHARPNESS)
        nearer = [np.searchsorted(self.others[i], d) / len(self.others[i]) for i, d in zip(own, d_own, strict=True)]
        return pd.DataFrame(
            {
                "d_own": d_own,
                "p_own": p_values[rows, own],
                "p_max": p_values.max(1),
                "nearest": self.labels[distances.argmin(1)],
                "percentile": 100 * np.array(nearer),
                "confidence": raw.softmax(1).numpy()[rows, own],
            }
        )

    def measure_outsiders(self, prepared: PreparedSet) -> pd.DataFrame:
        """`measure` for parts of no class, each against the class it is nearest to."""
        features = self.features(prepared.pictures, prepared.masks)
        return self.measure(features, self.labels[self.distances(features).argmin(1)])

    def limits(self, p: HardnessParameters) -> dict[str, tuple[float, float]]:
        """The bands as distances to the own class, for drawing; the outer end is the median of the classes'."""
        n = len(self.calibration)
        inner, outer = (float(self.calibration[min(n - 1, int(np.ceil((1 - q) * n)))]) for q in (p.id_p, p.near_p))
        far = float(np.median([np.percentile(others, p.near_percentile) for others in self.others]))
        return {str(Kind.ID): (0.0, inner), str(Kind.NEAR_OOD): (outer, max(outer, far))}

    @staticmethod
    def genuineness(made: torch.Tensor, real: torch.Tensor, bad: torch.Tensor) -> np.ndarray:
        """Generative classifier: how surely a picture is a real one and not a bad one; features in, (n,) in [0, 1] out.

        A logistic regression on the features of real training pictures against those of bad ones: here they are made
        at the largest timestep tried, in the companion study, where the idea is from, by an early VAE.
        """
        from sklearn.linear_model import LogisticRegression

        classifier = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
        return genuineness(made.numpy(), real.numpy(), bad.numpy(), classifier)


def timesteps_tried(
    base: BaseModel, p: GenerationParameters, hardness: HardnessParameters, best: int | None = None
) -> dict[int, int]:
    """For `near_ood.timesteps: auto`: timestep of the schedule -> pictures a source; more of them at t*, once known."""
    tried = {insertion_timestep(base, p.steps, timestep=t)[0]: hardness.per_source for t in hardness.candidates}
    return tried if best is None else tried | {best: max(p.per_source, tried[best])}


def score_manifest(
    space: Hardness, folder: Path, shots: PreparedSet, p: HardnessParameters, chosen: int | None = None
) -> pd.DataFrame:
    """Measure the synthetic pictures in `folder` and write what was found into their manifest.

    Args:
        space: The space.
        folder: The seed's synthetic pictures, all of them made.
        shots: The real training pictures, which the sources are among.
        p: The limits.
        chosen: The timestep that was chosen, once it is.

    Returns:
        The manifest with the columns of `Hardness.measure`, and generative (see `Hardness.genuineness`), band,
        timestep_chosen (the set `near_ood` at `chosen`) and accepted_share (that of the picture's set and timestep; nan
        for ID pictures). A picture is measured where its source's object stands, also where all of it may change.

    Raises:
        ThesisError: As `read_manifest` does.
    """
    manifest, pictures = read_manifest(folder)
    manifest = manifest[[name for name in manifest if name not in SCORES]]
    rows = source_rows(manifest, shots.table)
    features, labels = space.features(pictures, shots.masks[rows]), manifest["label"].to_numpy()
    scores = space.measure(features, labels, shots.table["capture_group"].to_numpy(str)[rows])
    sets = sets_of(manifest)
    near = (sets == "near_ood").to_numpy()
    bad = near & (manifest["timestep"] == manifest["timestep"][near].max()).to_numpy()
    scores["generative"] = space.genuineness(features, space.bank, features[torch.from_numpy(bad)])
    scores["band"] = bands(scores, labels, p)
    manifest = pd.concat([manifest, scores], axis=1)
    manifest["timestep_chosen"] = near & (manifest["timestep"] == chosen).to_numpy()
    manifest["accepted_share"] = np.nan
    for name in sorted(set(sets[manifest["kind"] == str(Kind.NEAR_OOD)])):
        shares = accepted_shares(manifest, p, name)[str(Kind.NEAR_OOD)]
        manifest.loc[sets == name, "accepted_share"] = manifest["timestep"].map(shares)
    write_table(folder / "manifest.parquet", manifest)
    return manifest


def band_shares(
    space: Hardness, valid: PreparedSet, ood: PreparedSet | None, p: HardnessParameters
) -> dict[str, dict[str, float]]:
    """Whether the bands are what they claim to be: the shares of real pictures in them.

    Args:
        space: The space.
        valid: The validation pictures, measured against their own classes.
        ood: Parts of no class, of which those that may tune a detector are measured, against the class that each is
            nearest to.
        p: The limits.

    Returns:
        For validation, near and far pictures, as far as there are: band (id, near_ood, neither) -> share in [0, 1].
    """
    own = valid.table["label"].to_numpy()
    groups = {"validation": (space.measure(space.features(valid.pictures, valid.masks), own), own)}
    if ood is not None:
        for name in ("near", "far"):
            chosen = ood.select(((ood.table["set"] == name) & (ood.table["split"] == "valid")).to_numpy())
            if len(chosen.table):
                outside = space.measure_outsiders(chosen)
                groups[name] = (outside, outside["nearest"].to_numpy())
    return {
        name: {
            band or "neither": float((bands(scores, labels, p) == band).mean())
            for band in (str(Kind.ID), str(Kind.NEAR_OOD), "")
        }
        for name, (scores, labels) in groups.items()
    }


def second_opinion(
    encoder: Encoder, folder: Path, shots: PreparedSet, valid: PreparedSet, p: HardnessParameters
) -> dict[str, float]:
    """How far another encoder agrees on the set `near_ood` in `folder`; it is best one of another seed.

    Returns:
        spearman: rank correlation of the distances to the own class; accepted_by_both and accepted_by_one: shares of
        the pictures in both near-OOD bands, and in one of them.
    """
    manifest, pictures = read_manifest(folder)
    near = np.flatnonzero(sets_of(manifest) == "near_ood")
    rows = manifest.iloc[near]
    sources = source_rows(rows, shots.table)
    other = Hardness(encoder, shots, valid, p.neighbours)
    groups = shots.table["capture_group"].to_numpy(str)[sources]
    scores = other.measure(other.features(pictures[near], shots.masks[sources]), rows["label"].to_numpy(), groups)
    first = bands(rows, rows["label"].to_numpy(), p) == str(Kind.NEAR_OOD)
    second = bands(scores, rows["label"].to_numpy(), p) == str(Kind.NEAR_OOD)
    return {
        "spearman": float(rows["d_own"].reset_index(drop=True).corr(scores["d_own"], method="spearman")),
        "accepted_by_both": float((first & second).mean()),
        "accepted_by_one": float((first ^ second).mean()),
    }
