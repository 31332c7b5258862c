"""A judge of synthetic pictures: a classifier trained on the evaluation splits.

It tells whether a synthetic picture still shows its class, and trains nothing. By its curve over timesteps those of the
bundled parts' experiments were chosen once, so that they have been seen through test and field pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from torchvision.transforms.functional import center_crop
from tqdm.auto import tqdm

from thesis_lib.contrastive.encoders import Classifier, Encoder
from thesis_lib.contrastive.probe import extract_features
from thesis_lib.contrastive.views import Views, to_unit_range
from thesis_lib.datasets import PreparedSet
from thesis_lib.diffusion.augmentation import (
    Request,
    augment,
    generate_from_noise,
    insertion_timestep,
    reconstruct,
    region_masks,
)
from thesis_lib.diffusion.base import BaseModel
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.errors import ThesisError
from thesis_lib.randomness import derive_seed, numpy_generator, torch_generator
from thesis_lib.sections import EncoderParameters, ViewParameters

PROBED = 1000
"""Pictures at most that `separability` looks at."""


@dataclass
class Judge:
    """A trained classifier and the size of its input."""

    encoder: Encoder
    classifier: Classifier
    size: int

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """L2-normalised penultimate features (n, d) of uint8 pictures."""
        return F.normalize(extract_features(self.encoder, pictures, self.size), dim=1)

    @torch.no_grad()
    def named_right(self, pictures: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(n,) bool: whether each uint8 picture is given its label."""
        return self.classifier(extract_features(self.encoder, pictures, self.size)).argmax(1) == labels


def train_judge(images: PreparedSet, parameters: EncoderParameters, steps: int, seed: int, batch: int = 64) -> Judge:
    """Train on the valid, test and field pictures with cross entropy and mild augmentation.

    Args:
        images: All pictures of the classes.
        parameters: The network.
        steps: Optimiser steps (AdamW, 3e-3, cosine).
        seed: Seeds weights, batches and views.
        batch: Pictures a step.

    Raises:
        ThesisError: There are no evaluation pictures.
    """
    own = images.select(images.table["split"].isin(["valid", "test", "field"]).to_numpy())
    if not len(own.table):
        raise ThesisError("a judge is trained on valid, test and field pictures and there are none")
    labels = torch.tensor(own.table["label"].to_numpy())
    unit = to_unit_range(own.pictures, parameters.size)
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "judge"))
        encoder = Encoder(parameters, unit.mean((0, 2, 3)), unit.std((0, 2, 3)))
        classifier = Classifier(encoder.num_features, int(labels.max()) + 1)
    views = Views(parameters.size, ViewParameters(crop_scale=(0.8, 1.0), jitter_probability=0.5, grey_probability=0.0))
    weights = [*encoder.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    encoder.train()
    for step in tqdm(range(steps), desc="judge", mininterval=1):
        rows = torch.randint(len(labels), (batch,), generator=torch_generator(seed, "judge", step))
        drawn = views(unit[rows], 1, derive_seed(seed, "judge views", step)).squeeze(1)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(classifier(encoder(drawn)), labels[rows], label_smoothing=0.05).backward()
        optimizer.step()
        schedule.step()
    return Judge(encoder.eval(), classifier.eval(), parameters.size)


def separability(first: torch.Tensor, second: torch.Tensor, seed: int) -> float:
    """Cross-validated accuracy of a linear probe that tells two sets of uint8 pictures apart; 0.5 is chance.

    The probe sees what a decoder leaves behind, the logarithm of each picture's amplitude spectrum, of large pictures
    in the central 128 pixels; both versions of a picture are always in the same fold.

    Args:
        first: (n, 3, s, s) pictures, of which `PROBED` are taken at random where there are more.
        second: The same pictures in another version.
        seed: Seeds choice and folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen = torch.randperm(len(first), generator=torch_generator(seed, "separability"))[:PROBED].sort().values
    side = [min(first.shape[-1], 128)] * 2
    both = torch.cat([center_crop(version, side)[chosen] for version in (first, second)]).float().mean(1)
    spectrum = torch.fft.rfft2(both - both.mean((1, 2), keepdim=True)).abs().add(1.0).log()
    groups = torch.arange(len(chosen)).repeat(2).numpy()
    target = (torch.arange(len(both)) >= len(chosen)).long().numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    folds = GroupKFold(5, shuffle=True, random_state=derive_seed(seed, "separability") % 2**32)
    return float(cross_val_score(probe, spectrum.flatten(1).numpy(), target, groups=groups, cv=folds).mean())


def steering_accuracy(
    base: BaseModel, captions: pd.DataFrame, pictures: torch.Tensor, columns: Mapping[str, Sequence[str]], count: int,
    steps: int, guidance_scale: float, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Do captions steer? Pictures made from captions alone, named by a linear probe that knows the real ones.

    Args:
        base: The base model.
        captions: Its training table; `text` and the columns to be told.
        pictures: uint8 (n, 3, s, s), the table's pictures.
        columns: What captions should steer, and which values of it to tell apart, all where none are named; captions
            are drawn evenly over them.
        count: Pictures a column.
        steps: Steps from noise to picture.
        guidance_scale: Guidance.
        seed: Seeds halves, captions and noises.

    Returns:
        A row a column: balanced accuracy by chance, on the half of the real pictures that the probe has not seen, and
        on the made ones.

    Raises:
        ThesisError: The table has no such column or values.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    concepts, points = Concepts(base, {}, []), _colours_and_layout(pictures)
    rows = []
    for column, named in columns.items():
        random = numpy_generator(seed, "steering", column)
        values = captions[column].to_numpy(str) if column in captions else np.array([], str)
        names = np.array(named) if named else np.unique(values)
        if not len(names) or set(names) - set(values):
            raise ThesisError(
                f"steered_columns: the captioned table has no column {column} with the values asked for "
                f"({', '.join(named) or 'any'}); name one of {', '.join(map(str, captions.columns))}"
            )
        told = np.isin(values, names)
        trains = told & (random.random(len(values)) < 0.5)
        probe = make_pipeline(StandardScaler(), RidgeClassifier(300.0, class_weight="balanced"))
        probe.fit(points[trains], values[trains])
        drawn = np.array([random.choice(np.flatnonzero(values == names[i % len(names)])) for i in range(count)])
        texts, seeds = captions["text"].iloc[drawn].tolist(), [derive_seed(seed, column, i) for i in range(count)]
        made = [
            generate_from_noise(base, concepts, texts[i : i + 32], seeds[i : i + 32], steps, guidance_scale)
            for i in range(0, count, 32)
        ]
        right = probe.predict(_colours_and_layout(torch.cat(made))) == values[drawn]
        tests = told & ~trains
        real = balanced_accuracy_score(values[tests], probe.predict(points[tests]))
        rows.append({"column": column, "chance": 1 / len(names), "real": real, "made": right.mean()})
    return pd.DataFrame(rows).set_index("column")


def _colours_and_layout(pictures: torch.Tensor) -> np.ndarray:
    """(n, 1280): a histogram of 512 colours, which finds specks of rust wherever they are, and 16 x 16 pixels."""
    bins = (pictures // 32).long().flatten(2)
    bins = 64 * bins[:, 0] + 8 * bins[:, 1] + bins[:, 2]
    colours = torch.zeros(len(pictures), 512).scatter_add_(1, bins, torch.ones(bins.shape)).sqrt()
    layout = F.adaptive_avg_pool2d(pictures.float(), 16).flatten(1)
    return torch.cat([colours, layout], 1).numpy()


def psnr_inside(pictures: torch.Tensor, reconstructed: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(n,) peak signal-to-noise ratio in dB of uint8 pictures (n, 3, s, s) inside masks, or all over without one."""
    decibels = []
    for one, other, mask in zip(pictures.split(64), reconstructed.split(64), masks.split(64), strict=True):
        squared = ((one.float() - other.float()) / 255).square().mean(1)
        inside = torch.where(mask.any(dim=(1, 2), keepdim=True), mask, True).float()
        mean = (squared * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)
        decibels.append(-10 * mean.clamp_min(1e-10).log10())
    return torch.cat(decibels)


def change_inside(pictures: torch.Tensor, sources: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(n,) root mean squared change inside each mask, in grey levels."""
    squared = (pictures.float() - sources.float()).square().mean(1) * masks
    return (squared.flatten(1).sum(1) / masks.flatten(1).sum(1).clamp_min(1)).sqrt()


def measure_timesteps(
    base: BaseModel, concepts: Concepts, shots: PreparedSet, judge: Judge, timesteps: Sequence[int], steps: int,
    prompts: Sequence[str], guidance_scale: float, region: str, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """How far synthetic pictures go from their source, over insertion timesteps.

    Args:
        base: The base model.
        concepts: Learned concepts.
        shots: Source pictures, each with a mask.
        judge: The judge.
        timesteps: Wanted insertion timesteps; 0 stands for the VAE alone.
        steps: Steps of the whole schedule.
        prompts: Templates; sources take them in turn.
        guidance_scale: Guidance.
        region: As in `region_masks`.
        seed: Seeds the pictures.

    Returns:
        A row a picture: timestep (effective), judge_accuracy (0 or 1), pixel_change (root mean squared change inside
        the mask, as a multiple of the VAE's own error there), feature_change (cosine distance to the source in the
        judge's penultimate layer).
    """
    labels = torch.tensor(shots.table["label"].to_numpy())
    latents = base.encode(shots.pictures)
    may_change = region_masks(shots.masks, region, [derive_seed(seed, "box", i) for i in range(len(labels))])
    passed = reconstruct(base, shots.pictures, may_change)
    own_error = change_inside(passed, shots.pictures, shots.masks).clamp_min(1e-3)
    features = judge.features(shots.pictures)
    frames = []
    for wanted in tqdm(timesteps, desc="timesteps"):
        if wanted == 0:
            timestep, made = 0, passed
        else:
            timestep, _ = insertion_timestep(base, steps, timestep=wanted)
            requests = [
                Request(i, concepts.prompt(prompts[i % len(prompts)], name), timestep, guidance_scale,
                        derive_seed(seed, wanted, i))
                for i, name in enumerate(shots.table["class_name"])
            ]  # fmt: skip
            made = torch.cat(
                [
                    augment(
                        base, concepts, shots.pictures, latents, requests[i : i + 32], steps, may_change[i : i + 32]
                    )
                    for i in range(0, len(requests), 32)
                ]
            )
        frames.append(
            pd.DataFrame(
                {
                    "timestep": timestep,
                    "class_name": shots.table["class_name"].to_numpy(),
                    "judge_accuracy": judge.named_right(made, labels).float().numpy(),
                    "pixel_change": (change_inside(made, shots.pictures, shots.masks) / own_error).numpy(),
                    "feature_change": (1 - (judge.features(made) * features).sum(1)).numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
