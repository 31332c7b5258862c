"""Maps of the representation in two or three dimensions, by class, with OOD pictures among them."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from thesis_lib.figures.style import COLOURS, MARKERS, TEXT_HEIGHT, panels, styled
from thesis_lib.figures.words import word

CLASS_COLOURS = tuple(colour for colour in COLOURS if colour != "#000000")  # black is for OOD
OOD_STYLE = {"near": ("x", "black", 9.0), "far": ("+", "0.45", 12.0)}


@styled
def embedding_maps(
    maps: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    sets: Sequence[str],
    language: str = "en",
    beside: int = 2,
) -> Figure:
    """Maps side by side: a colour and a shape a class, crosses for OOD.

    Args:
        maps: `tsne`, `umap` (or a title) -> (n, 2) coordinates.
        class_names: n names.
        sets: n of `id`, `near`, `far`.
        language: `en` or `de`.
        beside: Maps in a row.

    Returns:
        The figure.
    """
    names, groups = np.asarray(class_names), np.asarray(sets)
    classes = sorted(set(names[groups == "id"]))
    columns = 4
    rows = -(-(len(classes) + len(set(groups) - {"id"})) // columns)
    legend, down = 0.15 * rows, -(-len(maps) // beside)
    figure, axes = panels(len(maps), beside, min(6.0 / beside, (TEXT_HEIGHT - legend) / down) + legend / down)
    for ax, (title, points) in zip(axes, maps.items(), strict=True):
        for group, (marker, colour, size) in OOD_STYLE.items():
            chosen = groups == group
            if chosen.any():
                x, y = points[chosen].T
                ax.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0.6, label=word(group, language))
        for index, name in enumerate(classes):
            chosen = (names == name) & (groups == "id")
            look = {"s": 9 if beside == 2 else 6, "label": name.replace("_", " "), **class_look(index)}
            ax.scatter(*points[chosen].T, **look)
        ax.set(title=word(title, language), xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(visible=True, color="0.7")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=6.5,
                  columnspacing=1, handletextpad=0.2, markerscale=1.5)  # fmt: skip
    return figure


@styled
def embedding_clouds(maps: Mapping[str, np.ndarray], class_names: Sequence[str], language: str = "en") -> Figure:
    """Clouds in three dimensions side by side, a colour and a shape a class.

    Args:
        maps: `tsne`, `pca` (or a title) -> (n, 3) coordinates.
        class_names: n names.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    names = np.asarray(class_names)
    with mpl.rc_context({"grid.color": "0.88", "grid.linewidth": 0.4}):  # axes in three dimensions read it when made
        figure, axes = panels(len(maps), 2, 2.9, subplot_kw={"projection": "3d"})
    for ax, (title, points) in zip(axes, maps.items(), strict=True):
        for index, name in enumerate(sorted(set(names))):
            look = {"s": 6, "depthshade": False, "label": name.replace("_", " "), **class_look(index)}
            ax.scatter(*points[names == name].T, **look)
        ax.set(title=word(title, language), xticklabels=[], yticklabels=[], zticklabels=[])
        ax.set_box_aspect((1, 1, 0.9), zoom=1.15)  # type: ignore[arg-type, call-arg]
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=6.5,
                  columnspacing=1, handletextpad=0.2, markerscale=1.5)  # fmt: skip
    return figure


def class_look(index: int) -> dict[str, Any]:
    """Colour and shape of the class number `index` in a map."""
    return {
        "c": CLASS_COLOURS[index % len(CLASS_COLOURS)],
        "marker": MARKERS[index // len(CLASS_COLOURS) % len(MARKERS)],
        "linewidths": 0.2,
        "edgecolors": "white",
    }
