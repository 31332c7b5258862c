"""Tables with classes: the confusion matrix, and how many pictures each class has."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from thesis_lib.figures.style import TEXT_HEIGHT, TEXT_WIDTH, panels, styled
from thesis_lib.figures.words import word

SPLIT_LOOK = {"train": ("#0072B2", ""), "valid": ("#56B4E9", "//"), "test": ("#E69F00", ""), "field": ("#F0E442", "..")}


@styled
def confusion_matrix(confusion: Sequence[Sequence[int]], classes: Sequence[str], language: str = "en") -> Figure:
    """Where the pictures of each class went, in percent of the class.

    Args:
        confusion: (c, c) counts, row = true class.
        classes: c names.
        language: `en` or `de`.

    Returns:
        The figure; a class without pictures has an empty row.
    """
    counts = np.asarray(confusion, dtype=float)
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [name.replace("_", " ") for name in classes]
    size = min(7.0, 150 / len(classes))
    # Room for labels and colour bar, so that the square fills what is left without white bands.
    label = 0.45 + max(map(len, names)) * size * 0.55 / 72
    side = min(0.5 * len(classes), TEXT_WIDTH - label - 0.9)
    figure, (ax,) = panels(1, 1, side + label, side + label + 0.9)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    turn = 90 if max(map(len, names)) > 2 else 0  # digits stand upright
    ax.set_xticks(range(len(names)), names, rotation=turn, fontsize=size)
    ax.set_yticks(range(len(names)), names, fontsize=size)
    for row, column in np.argwhere(share >= 0.5):
        tone = "white" if share[row, column] > 55 else "black"
        ax.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=tone, fontsize=size * 0.8)
    ax.set(xlabel=word("predicted", language), ylabel=word("true", language))
    ax.tick_params(length=0)
    figure.colorbar(image, ax=ax, shrink=0.6, pad=0.02, label=word("share", language))
    return figure


@styled
def class_balance(table: pd.DataFrame, language: str = "en") -> Figure:
    """Pictures of each class, stacked by split.

    Args:
        table: The image table.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    counts = table.groupby(["class_name", "split"]).size().unstack(fill_value=0)
    splits = [split for split in SPLIT_LOOK if split in counts]
    row = min(0.17, (TEXT_HEIGHT - 0.9) / len(counts))  # in inches: beyond fifty classes their names shrink
    figure, (ax,) = panels(1, 1, 0.9 + row * len(counts))
    left = np.zeros(len(counts))
    for split in splits:
        colour, hatch = SPLIT_LOOK[split]
        ax.barh(range(len(counts)), counts[split], left=left, color=colour, hatch=hatch, edgecolor="white",
                linewidth=0.4, label=word(split, language))  # fmt: skip
        left += counts[split].to_numpy()
    ax.set_yticks(range(len(counts)), [str(name).replace("_", " ") for name in counts.index], size=7 * row / 0.17)
    ax.invert_yaxis()
    ax.margins(y=0.01)
    ax.set_xlabel(word("pictures", language))
    figure.legend(loc="outside upper center", ncols=len(splits))
    return figure
