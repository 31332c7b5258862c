"""The positions that the explorer and the printed sheets show, and a bounded grid of pictures made there.

A position is a place on every slider. Pictures are made in batches that share a timestep and kept on disk, each under a
digest of all that determines it, so that opening a notebook again makes nothing anew and nothing stale is ever shown.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from thesis_lib.datasets.crops import PreparedSet
from thesis_lib.diffusion.augmentation import (
    Request,
    as_seen,
    augment,
    insertion_timestep,
    noised,
    region_masks,
    schedule,
)
from thesis_lib.diffusion.base import BaseModel
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.diffusion.generation import choose_sources, entry_points
from thesis_lib.errors import ThesisError
from thesis_lib.randomness import derive_seed
from thesis_lib.sections import GenerationParameters
from thesis_lib.tensors import load_tensors, save_tensors, tensor_digest

T = TypeVar("T")

LARGEST_GRID = 256
"""Most pictures a grid holds; at 512 pixels they are 200 MB."""
GRID_FILE = ".grid.safetensors"
"""Hidden, because it is a cache: the stage stays done without it."""
REGIONS = ("none", "object", "background", "box")
MORE_PROMPTS = ("a photo of a dirty {}", "a photo of a clean {}", "a dark photo of the {}")
"""Shown where the parameters name fewer than three prompts; their words are those of the inversion's templates."""
VERSION = 1
"""Part of every picture's digest: raise it when pictures come out differently."""


SETS = ("id", "near_ood")
"""The sets whose timesteps are marked."""


@dataclass(frozen=True)
class Position:
    """A place on every slider.

    Attributes:
        source: Row of the source picture in the grid's sources.
        timestep: Insertion timestep, one of the schedule's.
        guidance_scale: 1 is the plain conditional prediction.
        prompt: A template with one `{}` for the concept.
        region: What may change, as in `region_masks`.
        variation: Number of the noise; the same number is the same noise at every other place of a source.
    """

    source: int
    timestep: int
    guidance_scale: float
    prompt: str
    region: str
    variation: int = 0


@dataclass(frozen=True)
class Axes:
    """The values on the sliders for which pictures are precomputed, each list without repetition."""

    timesteps: list[int]
    guidance_scales: list[float]
    prompts: list[str]
    regions: list[str]


def entries(base: BaseModel, p: GenerationParameters, name: str) -> list[int]:
    """The timesteps at which the sources of the set `name` enter the schedule, ascending."""
    return sorted({timestep for timestep, _ in entry_points(base, p, p.sets[name][1])})


def spread_timesteps(base: BaseModel, p: GenerationParameters) -> list[int]:
    """Timesteps to look at: those of both sets, one well before, one between, one well after, ascending.

    Raises:
        ThesisError: A set's strength or timestep runs no step.
    """
    chosen = [t for name in SETS for t in entries(base, p, name)]
    between = (max(entries(base, p, "id")) + min(entries(base, p, "near_ood"))) // 2
    earliest = schedule(base, p.steps)[-1]
    others = [max(earliest, min(chosen) // 3), between, max(chosen) + (999 - max(chosen)) // 3]
    return sorted({*chosen, *(insertion_timestep(base, p.steps, timestep=t)[0] for t in others)})


def choose_axes(base: BaseModel, p: GenerationParameters) -> Axes:
    """What to precompute: three guidance scales and prompts, from the parameters as far as they name so many.

    The first guidance scale, prompt and region are those of the ID set; the sheets vary one of them at a time.
    """
    scales = list(dict.fromkeys([*p.id.guidance_scales, *p.near_ood.guidance_scales]))
    if len(scales) < 3:
        scales = list(dict.fromkeys([*scales, 1.0, min(50.0, 2 * max(scales))]))
    prompts = list(dict.fromkeys([*p.id.prompts, *p.near_ood.prompts]))
    if len(prompts) < 3:
        prompts = list(dict.fromkeys([*prompts, *MORE_PROMPTS]))[:3]
    regions = list(dict.fromkeys([p.id.mask, *REGIONS]))
    return Axes(spread_timesteps(base, p), _spread(scales, 3), _spread(prompts, 3), regions)


def _spread(values: Sequence[T], count: int) -> list[T]:
    """The first, the last, and others spread evenly between them, at most `count`."""
    chosen = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[i] for i in chosen]


class PictureGrid:
    """Source pictures, and what is made from them at positions.

    Args:
        base: The base model.
        concepts: The concepts in the prompts.
        shots: The few-shot pictures; the sources are those that generation takes from them.
        p: Steps, batch size and the two sets.
        seed: The experiment's seed.
        folder: Where the pictures are kept.
        axes: What to precompute; none takes it from the parameters. Timesteps become the schedule's.

    Raises:
        ThesisError: A class has no source with a mask although one is needed, a strength or timestep runs no step, or
            the pictures kept cannot be read.
    """

    def __init__(
        self, base: BaseModel, concepts: Concepts, shots: PreparedSet, p: GenerationParameters, seed: int,
        folder: Path, axes: Axes | None = None,
    ) -> None:  # fmt: skip
        self.base, self.concepts, self.p, self.seed = base, concepts, p, seed
        self.sources = shots.select(choose_sources(shots.table, shots.masks, p, seed).index)
        self.classes: list[str] = list(self.sources.table["class_name"].unique())
        axes = axes or choose_axes(base, p)
        entered = {insertion_timestep(base, p.steps, timestep=t)[0] for t in axes.timesteps}
        axes = replace(axes, timesteps=sorted(entered))
        if not self.sources.masks.flatten(1).any(1).all():  # nothing to limit a change to
            axes = replace(axes, regions=["none"])
        self.axes = axes
        self._file = Path(folder) / GRID_FILE
        self._pictures = load_tensors(self._file)[0] if self._file.exists() else {}
        self._origins = [
            tensor_digest(picture, mask)
            for picture, mask in zip(self.sources.pictures, self.sources.masks, strict=True)
        ]
        self._concept_digests = {name: concepts.digest(name) for name in self.classes}
        self._latents: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._noised: dict[tuple[int, int, int], torch.Tensor] = {}

    def rows(self, class_name: str) -> list[int]:
        """The sources of a class."""
        return np.flatnonzero(self.sources.table["class_name"] == class_name).tolist()

    def class_name(self, position: Position) -> str:
        """The class of a position's source."""
        return str(self.sources.table["class_name"].iat[position.source])

    def prompt(self, position: Position) -> str:
        """The whole prompt, concept in place."""
        return self.concepts.prompt(position.prompt, self.class_name(position))

    def picture_seed(self, position: Position) -> int:
        """Seeds the noise, and the box where the region is one."""
        source_id = str(self.sources.table["source_id"].iat[position.source])
        return derive_seed(self.seed, "inspection", source_id, position.variation)

    def may_change(self, position: Position) -> torch.Tensor:
        """Where the picture may change, bool (1, s, s)."""
        masks = self.sources.masks[position.source : position.source + 1]
        return region_masks(masks, position.region, [self.picture_seed(position)])

    def effective_steps(self, position: Position) -> int:
        """DDIM steps that are run from the position's timestep on."""
        return sum(t <= position.timestep for t in schedule(self.base, self.p.steps))

    def timestep_table(self) -> pd.DataFrame:
        """The precomputed timesteps as strength, steps and signal-to-noise ratio, and the sets whose they are."""
        rows = []
        for timestep in self.axes.timesteps:
            _, strength = insertion_timestep(self.base, self.p.steps, timestep=timestep)
            snr = self.base.signal_to_noise(timestep)
            sets = [name for name in SETS if timestep in entries(self.base, self.p, name)]
            rows.append(
                {"timestep": timestep, "strength": strength, "steps": round(strength * self.p.steps), "snr": snr,
                 "snr_db": 10 * float(np.log10(snr)), "set": " ".join(sets)}
            )  # fmt: skip
        return pd.DataFrame(rows)

    def default(self, source: int, timestep: int) -> Position:
        """The ID set's guidance scale, prompt and region at a timestep."""
        return Position(source, timestep, self.axes.guidance_scales[0], self.axes.prompts[0], self.axes.regions[0])

    def around(self, source: int = 0) -> list[Position]:
        """Positions of one source: every timestep, with guidance, prompt and region varied one at a time."""
        found = []
        for start in (self.default(source, timestep) for timestep in self.axes.timesteps):
            found += [replace(start, guidance_scale=scale) for scale in self.axes.guidance_scales]
            found += [replace(start, prompt=prompt) for prompt in self.axes.prompts]
            found += [replace(start, region=region) for region in self.axes.regions]
        return list(dict.fromkeys(found))

    def across(self, count: int = 5) -> list[Position]:
        """Positions of the first source of `count` classes, spread evenly over all: the default at every timestep."""
        first = [self.rows(name)[0] for name in _spread(self.classes, count)]
        return [self.default(row, timestep) for row in first for timestep in self.axes.timesteps]

    def key(self, position: Position) -> str:
        """A digest of everything that determines the picture at a position."""
        base = self.base
        content = [
            VERSION, base.name, base.digest, str(base.dtype), base.size, base.through_vae,
            type(base.scheduler).__name__, self.p.steps, self._origins[position.source],
            self._concept_digests[self.class_name(position)], self.prompt(position), position.timestep,
            base.signal_to_noise(position.timestep), position.guidance_scale, position.region,
            self.picture_seed(position),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

    def picture(self, position: Position) -> torch.Tensor | None:
        """The picture at a position, uint8 (3, s, s); none where it has not been made."""
        return self._pictures.get(self.key(position))

    def noised(self, position: Position) -> torch.Tensor:
        """The noised latent that denoising starts from at a position, decoded: uint8 (3, s, s)."""
        key = (position.source, position.timestep, position.variation)
        if key not in self._noised:
            start = noised(self.base, self._encoded([position.source]), [self._request(position, 0)])[2]
            self._noised[key] = self.base.decode(start)[0]
        return self._noised[key]

    def _request(self, at: Position, row: int) -> Request:
        return Request(row, self.prompt(at), at.timestep, at.guidance_scale, self.picture_seed(at))

    def _encoded(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the latents of some sources; each is encoded once."""
        if missing := [row for row in rows if row not in self._latents]:
            means, stds = self.base.encode(self.sources.pictures[missing])
            self._latents |= {row: (means[i], stds[i]) for i, row in enumerate(missing)}
        kept = [self._latents[row] for row in rows]
        return torch.stack([mean for mean, _ in kept]), torch.stack([std for _, std in kept])

    def pictures(self, positions: Sequence[Position]) -> torch.Tensor:
        """The pictures at precomputed positions, uint8 (n, 3, s, s).

        Raises:
            ThesisError: One of them has not been made.
        """
        found = [self.picture(position) for position in positions]
        if missing := sum(picture is None for picture in found):
            raise ThesisError(f"{missing} of {len(found)} pictures are not made yet: call grid.precompute first")
        return torch.stack([picture for picture in found if picture is not None])

    def precompute(self, positions: Iterable[Position]) -> int:
        """Make the pictures that are not there yet, and keep them on disk after every timestep.

        Args:
            positions: At most `LARGEST_GRID`.

        Returns:
            How many were made.

        Raises:
            ThesisError: There are too many positions, or the disk is full.
        """
        wanted = list(dict.fromkeys(positions))
        if len(wanted) > LARGEST_GRID:
            raise ThesisError(
                f"the inspection grid would have {len(wanted)} pictures and holds at most {LARGEST_GRID}: give fewer "
                "timesteps, guidance scales, prompts or sources; a single picture can be made live"
            )
        missing = [position for position in wanted if self.picture(position) is None]
        if not missing:
            return 0
        missing.sort(key=lambda position: position.timestep)
        with tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc="inspection pictures") as bar:
            for _, group in itertools.groupby(missing, key=lambda position: position.timestep):
                waiting = list(group)
                for batch in (waiting[i : i + self.p.batch] for i in range(0, len(waiting), self.p.batch)):
                    self._render(batch)
                    bar.update(len(batch))
                self._save(wanted)
        return len(missing)

    def make(self, position: Position, on_step: Callable[[], None]) -> torch.Tensor:
        """The picture at a position, made now where it is not there; only `precompute` writes to disk.

        Args:
            position: Any position, precomputed or not.
            on_step: Called after every denoising step.

        Returns:
            uint8 (3, s, s).
        """
        if (picture := self.picture(position)) is not None:
            return picture
        hook = self.base.unet.register_forward_hook(lambda *_: on_step())  # the UNet is called once a step
        try:
            self._render([position])
        finally:
            hook.remove()
        return self._pictures[self.key(position)]

    def _render(self, batch: Sequence[Position]) -> None:
        rows = sorted({position.source for position in batch})
        latents = self._encoded(rows)
        requests = [self._request(at, rows.index(at.source)) for at in batch]
        may_change = torch.cat([self.may_change(position) for position in batch])
        around = as_seen(self.base, self.sources.pictures[rows], latents[0])
        made = augment(self.base, self.concepts, around, latents, requests, self.p.steps, may_change)
        for position, picture in zip(batch, made, strict=True):
            self._pictures[self.key(position)] = picture.clone()  # a view would keep the whole batch in memory

    def _save(self, wanted: Sequence[Position]) -> None:
        """Keep the wanted pictures, and those of earlier grids as long as all fit."""
        keys = {key for key in map(self.key, wanted) if key in self._pictures}
        keep = self._pictures if len(self._pictures) <= LARGEST_GRID else {key: self._pictures[key] for key in keys}
        save_tensors(self._file, keep)
