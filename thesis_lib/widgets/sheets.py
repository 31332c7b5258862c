"""Sheets for print of what the explorer shows: one setting across, everything else held."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure

from thesis_lib.diffusion.augmentation import insertion_timestep
from thesis_lib.figures.galleries import contact_sheet, source_sheet, with_mask
from thesis_lib.figures.words import number, word
from thesis_lib.widgets.grid import SETS, PictureGrid, Position, entries


def timestep_sheet(grid: PictureGrid, language: str = "en", classes: int = 5) -> Figure:
    """Insertion timesteps across, classes down, the first source of each.

    Args:
        grid: `grid.precompute(grid.across(classes))` must have been called, and for the others `grid.around(source)`.
        language: `en` or `de`.
        classes: At most so many rows.

    Returns:
        The figure.

    Raises:
        ThesisError: A picture has not been made.
    """
    positions = grid.across(classes)
    count = len(grid.axes.timesteps)
    made = grid.pictures(positions).unflatten(0, (-1, count))
    firsts = positions[::count]
    labels = [word("source", language), *(_timestep_label(grid, t, language, True) for t in grid.axes.timesteps)]
    names = [grid.class_name(position) for position in firsts]
    return source_sheet(grid.sources.pictures[[at.source for at in firsts]], made, labels, names)


def guidance_sheet(grid: PictureGrid, language: str = "en", source: int = 0) -> Figure:
    """Guidance scales across, timesteps down, for one source; see `timestep_sheet`."""
    scales = sorted(grid.axes.guidance_scales)
    labels = [f"{word('guidance_scale', language)} {number(scale, int(scale % 1 > 0), language)}" for scale in scales]
    return _setting_sheet(grid, source, labels, [{"guidance_scale": scale} for scale in scales], language)


def prompt_sheet(grid: PictureGrid, language: str = "en", source: int = 0) -> Figure:
    """Prompts across, timesteps down, for one source; see `timestep_sheet`."""
    labels = [prompt.replace("{}", "…") for prompt in grid.axes.prompts]
    return _setting_sheet(grid, source, labels, [{"prompt": prompt} for prompt in grid.axes.prompts], language)


def region_sheet(grid: PictureGrid, language: str = "en", source: int = 0) -> Figure:
    """What may change across, timesteps down, for one source; the first row shows the regions; see `timestep_sheet`."""
    start = grid.default(source, grid.axes.timesteps[0])
    regions = torch.cat([grid.may_change(replace(start, region=region)) for region in grid.axes.regions])
    shown = with_mask(grid.sources.pictures[[source] * len(regions)], regions)
    labels = [word(region, language) for region in grid.axes.regions]
    return _setting_sheet(grid, source, labels, [{"region": region} for region in grid.axes.regions], language, shown)


def _setting_sheet(
    grid: PictureGrid, source: int, labels: Sequence[str], settings: Sequence[dict[str, object]], language: str,
    top: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """The source, then one picture a setting, at every timestep; `top` is a row of pictures above them."""
    timesteps = grid.axes.timesteps
    positions: list[Position] = [replace(grid.default(source, t), **setting) for t in timesteps for setting in settings]  # type: ignore[arg-type]
    made = grid.pictures(positions).unflatten(0, (len(timesteps), -1)).numpy()
    rows = [_timestep_label(grid, t, language) for t in timesteps]
    if top is not None:
        made, rows = np.concatenate([top[None], made]), ["", *rows]
    original = np.broadcast_to(grid.sources.pictures[source].numpy(), (len(made), 1, *made.shape[2:]))
    pictures = np.concatenate([original, made], axis=1)
    columns = [word("source", language), *labels]
    return contact_sheet(pictures.reshape(-1, *made.shape[2:]), len(columns), rows, columns, rule_after=1)


def _timestep_label(grid: PictureGrid, timestep: int, language: str, with_strength: bool = False) -> str:
    sets = [word(name, language) for name in SETS if timestep in entries(grid.base, grid.p, name)]
    label = f"t = {timestep}"
    if with_strength:
        strength = insertion_timestep(grid.base, grid.p.steps, timestep=timestep)[1]
        label += f", {word('strength', language)} {number(strength, 2, language)}"
    return f"{label} ({', '.join(sets)})" if sets else label
