"""Where the arms look, and what survives of their accuracy without shape or without texture."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from thesis_lib.datasets import PreparedSet
from thesis_lib.evaluation.saliency import SPLITS, inside_share
from thesis_lib.evaluation.shape_or_texture import FLAT, FLAT_OWN, FLAT_PATCHES, INTACT, PATCHES, changed_pictures
from thesis_lib.figures.galleries import contact_sheet, with_heat
from thesis_lib.figures.style import localise, panels, series_style, styled
from thesis_lib.figures.words import metric_label, percent, word, wrapped

ENLARGED = 256
"""Side at which outlines are drawn, in pixels."""


def example_rows(table: pd.DataFrame, count: int) -> list[int]:
    """So many rows of the image table: the first test and field picture of classes spread evenly over the list."""
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    firsts = table.reset_index().groupby(["class_name", "split"])["index"].first()
    names = [name for name in table["class_name"].unique() if all((name, split) in firsts for split in splits)]
    chosen = np.linspace(0, len(names) - 1, min(len(names), count // len(splits))).round().astype(int)
    return [int(firsts[names[i], split]) for i in chosen for split in splits]


def saliency_sheet(images: PreparedSet, maps: Mapping[str, Tensor], language: str = "en") -> Figure:
    """A row a picture: the picture, then each arm's saliency for the true class, the object's outline on all.

    Args:
        images: n pictures as encoders see them, with their masks.
        maps: Arm -> (n, s, s) saliency maps; each is drawn relative to its maximum.
        language: `en` or `de`.

    Returns:
        The figure; below the picture the share of the area that the object takes, below a map the share of the saliency
        inside the object.
    """
    pictures, masks = images.pictures.numpy(), images.masks
    sheets = [pictures]
    shares = [inside_share(torch.ones(masks.shape), masks)]
    for heat in maps.values():
        sheets.append(with_heat(pictures, heat))
        shares.append(inside_share(heat, masks))
    outlined = np.stack([_with_outline(sheet, masks) for sheet in sheets], axis=1)
    captions = [percent(float(share), language) for row in zip(*shares, strict=True) for share in row]
    splits = images.table["split"]
    names = [f"{name}, {word(split, language)}" for name, split in zip(images.table["class_name"], splits, strict=True)]
    heads = [word("picture", language), *(word(arm, language) for arm in maps)]
    return contact_sheet(outlined.reshape(-1, *outlined.shape[2:]), len(heads), names, heads, captions, 1)


def _with_outline(pictures: np.ndarray, masks: Tensor) -> np.ndarray:
    """Pictures (n, 3, s, s) uint8, enlarged, with the masks' (n, s, s) outlines: white inside, black outside."""
    size = (ENLARGED, ENLARGED)
    large = F.interpolate(torch.from_numpy(pictures).float(), size, mode="bilinear").round().byte()
    rounded = F.avg_pool2d(F.interpolate(masks[:, None].float(), size, mode="bilinear"), 9, 1, 4)  # no single pixels
    inside = (rounded > 0.5).float()
    grown, shrunk = F.max_pool2d(inside, 5, 1, 2), -F.max_pool2d(-inside, 5, 1, 2)
    large = torch.where((grown > inside), 0, large)
    return torch.where(inside > shrunk, 255, large).numpy()


def changed_sheet(images: PreparedSet, seed: int, language: str = "en") -> Figure:
    """What the networks are tested on: a row a picture, a column a kind of `changed_pictures`.

    Args:
        images: A few pictures as encoders see them.
        seed: The experiment's seed.
        language: `en` or `de`.
    """
    kinds = {kind: make() for kind, make in changed_pictures(images, seed).items()}
    sheet = torch.stack(list(kinds.values()), dim=1).flatten(0, 1)
    names = list(images.table["class_name"])
    return contact_sheet(sheet, len(kinds), names, [_kind(kind, language) for kind in kinds])


def _kind(kind: str, language: str) -> str:
    """`patches4` is "4 × 4"; the others have words."""
    k = kind.removeprefix("patches")
    return f"{k} × {k}" if k.isdigit() else word(kind, language)  # noqa: RUF001


@styled
def patch_test(table: pd.DataFrame, language: str = "en") -> Figure:
    """Top-1 accuracy, a row a split: on the left over the number of patches, on the right with flat objects.

    Args:
        table: As `evaluation.shape_or_texture.skill_table` makes it; arms in the order to draw.
        language: `en` or `de`.

    Returns:
        The figure; without masks the right panels are absent.
    """
    top1 = _top1(table)
    arms, splits = (list(dict.fromkeys(table[column])) for column in ("arm", "split"))
    flats = [kind for kind in (FLAT_OWN, FLAT, FLAT_PATCHES) if kind in set(table["kind"])]
    columns = 2 if flats else 1
    figure, axes = panels(columns * len(splits), columns, 2.2, sharey=True, sharex="col")
    chance = 100 / table["class_name"].nunique()
    for index, ax in enumerate(axes):
        split, on_the_left = splits[index // columns], index % columns == 0
        kinds = [INTACT, *(f"patches{k}" for k in PATCHES)] if on_the_left else [INTACT, *flats]
        for place, arm in enumerate(arms):
            values = [top1.get((arm, split, kind), np.nan) for kind in kinds]
            look, dodge = series_style(place), 0.0
            if not on_the_left:  # kinds have no order: no line, and arms beside each other
                look, dodge = look | {"linestyle": "none"}, 0.12 * (place - (len(arms) - 1) / 2)
            ax.plot(np.arange(len(kinds)) + dodge, values, label=word(arm, language), **look)
        ax.axhline(chance, color="0.6", linewidth=0.8, zorder=0, label=word("chance", language))
        ax.set(ylim=(0, 102), xlim=(-0.4, len(kinds) - 0.6))
        if on_the_left:
            ax.set_xticks(range(len(kinds)), [_kind(kind, language) for kind in kinds])
            ax.set_ylabel(metric_label(f"top1/{split}", language))
        else:
            ax.set_xticks(range(len(kinds)), [wrapped(_kind(kind, language), 0.75, 7) for kind in kinds])
        localise(ax, language)
    axes[columns * (len(splits) - 1)].set_xlabel(word("patches", language))
    if flats:
        axes[-1].set_xlabel(word("flattened", language))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(arms) + 1, 4),
                  handlelength=3)  # fmt: skip
    return figure


def _top1(table: pd.DataFrame) -> pd.Series:
    """Percent right of each arm, split and kind, all pictures weighing the same."""
    right = table.assign(right=table["recall"].fillna(0) * table["pictures"])
    sums = right.groupby(["arm", "split", "kind"])[["right", "pictures"]].sum()
    return 100 * sums["right"] / sums["pictures"]
