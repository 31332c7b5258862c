"""The hardness curve: how far pictures are from their class over the insertion timestep, and what they show."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from thesis_lib.diffusion.manifest import read_manifest, sets_of
from thesis_lib.figures.style import COLOURS, TEXT_WIDTH, localise, styled, to_image
from thesis_lib.figures.words import word, wrapped
from thesis_lib.sections import Kind


@styled
def hardness_curve(
    manifest: pd.DataFrame, limits: Mapping[str, tuple[float, float]], folder: Path, sources: Tensor,
    table: pd.DataFrame, language: str = "en", classes: int = 4,
) -> Figure:  # fmt: skip
    """Distance and accepted shares over the timestep, and pictures along it.

    Args:
        manifest: A scored manifest.
        limits: Band (`id`, `near_ood`) -> lowest and highest distance to the own class, see `Hardness.limits`.
        folder: Where its pictures are.
        sources: (n, 3, s, s) uint8, the shots.
        table: Their image table, n rows.
        language: `en` or `de`.
        classes: Rows of pictures.

    Returns:
        The figure: medians with the middle 80 % of the pictures, the bands behind; the share of pictures in each band;
        for some classes the source and what was made from it, the band's letter below.
    """
    changed = manifest[sets_of(manifest).isin(["id", "near_ood"])]
    _, pictures = read_manifest(folder)
    by_time = changed.groupby("timestep")
    times = [int(t) for t in np.sort(changed["timestep"].unique())]
    cell = (TEXT_WIDTH - 0.55) / (len(times) + 1)
    cell = min(cell, 0.8)
    height = 1.9 + classes * (cell + 0.14)
    figure = Figure(figsize=(TEXT_WIDTH, height), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.9, height - 1.9])[:, 0]
    left, right = upper.subplots(1, 2, squeeze=False)[0]
    low, middle, high = (by_time["d_own"].quantile(q) for q in (0.1, 0.5, 0.9))
    left.errorbar(times, middle, [middle - low, high - middle], color="black", marker="o", markersize=3, linewidth=1,
                  capsize=2)  # fmt: skip
    top = float(min(high.max(), 1.6 * middle.max()))
    for (name, (start, end)), colour in zip(limits.items(), (COLOURS[5], COLOURS[1]), strict=False):
        left.axhspan(start, min(end, top), color=colour, alpha=0.35, linewidth=0, label=word(name, language))
    left.set(xlabel=word("timestep", language), ylabel=wrapped(word("d_own", language), 1.5, 8), ylim=(0, top))
    left.legend(loc="lower right")
    for index, name in enumerate((str(Kind.ID), str(Kind.NEAR_OOD))):
        shares = (changed["band"] == name).groupby([changed["timestep"], changed["label"]]).mean()
        mean = 100 * shares.groupby("timestep").mean()
        style = {"color": COLOURS[(0, 3)[index]], "marker": "os"[index], "linestyle": ("-", "--")[index]}
        right.plot(mean.index, mean, label=word(name, language), **style)
    chosen = changed.loc[changed["timestep_chosen"], "timestep"]
    if len(chosen):
        right.axvline(chosen.iloc[0], color="0.35", linewidth=0.7, linestyle=":")
        right.annotate("t*", (chosen.iloc[0], 1), (2, -8), xycoords=right.get_xaxis_transform(),
                       textcoords="offset points", fontsize=7)  # fmt: skip
    right.set(xlabel=word("timestep", language), ylabel=word("in_band", language), ylim=(0, None))
    right.legend(loc="center left")
    for ax in (left, right):
        localise(ax, language)
    place = {source: row for row, source in enumerate(table["source_id"])}
    names = changed["class_name"].drop_duplicates().to_numpy()
    shown = names[np.linspace(0, len(names) - 1, min(classes, len(names))).round().astype(int)]
    axes = lower.subplots(len(shown), len(times) + 1, squeeze=False)
    for row, name in enumerate(shown):
        mine = changed[changed["class_name"] == name]
        source = mine["source_id"].iloc[0]
        axes[row, 0].imshow(to_image(sources[place[source]].numpy()), interpolation="bilinear")
        for column, time in enumerate(times, 1):
            at = mine.index[(mine["source_id"] == source) & (mine["timestep"] == time)]
            if len(at):
                axes[row, column].imshow(to_image(pictures[at[0]].numpy()), interpolation="bilinear")
                band = mine.at[at[0], "band"]
                axes[row, column].set_xlabel(word(band or "neither", language), fontsize=6, labelpad=1)
        for column, ax in enumerate(axes[row]):
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
            if row == 0:
                ax.set_title(f"t = {times[column - 1]}" if column else word("source", language), fontsize=6.5, pad=2)
    return figure
