"""Two-dimensional maps of the representation, by class, with OOD pictures among them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from thesis_lib.figures.style import COLOURS, MARKERS, panels, styled
from thesis_lib.figures.words import word

CLASS_COLOURS = tuple(colour for colour in COLOURS if colour != "#000000")  # black is for OOD
OOD_STYLE = {"near": ("x", "black", 9.0), "far": ("+", "0.45", 12.0)}


@styled
def embedding_maps(
    maps: Mapping[str, np.ndarray], class_names: Sequence[str], sets: Sequence[str], language: str = "en"
) -> Figure:
    """Maps side by side: a colour and a shape a class, crosses for OOD.

    Args:
        maps: `tsne`, `umap` (or a title) -> (n, 2) coordinates.
        class_names: n names.
        sets: n of `id`, `near`, `far`.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    names, groups = np.asarray(class_names), np.asarray(sets)
    classes = sorted(set(names[groups == "id"]))
    columns = 4
    rows = -(-(len(classes) + len(set(groups) - {"id"})) // columns)
    figure, axes = panels(len(maps), 2, 3.0 + 0.15 * rows)
    for ax, (title, points) in zip(axes, maps.items(), strict=True):
        for group, (marker, colour, size) in OOD_STYLE.items():
            chosen = groups == group
            if chosen.any():
                x, y = points[chosen].T
                ax.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0.6, label=word(group, language))
        for index, name in enumerate(classes):
            chosen = (names == name) & (groups == "id")
            marker = MARKERS[index // len(CLASS_COLOURS) % len(MARKERS)]
            colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
            x, y = points[chosen].T
            ax.scatter(x, y, s=9, c=colour, marker=marker, linewidths=0.2, edgecolors="white",
                       label=name.replace("_", " "))  # fmt: skip
        ax.set(title=word(title, language), xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(visible=True, color="0.7")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=6.5,
                  columnspacing=1, handletextpad=0.2, markerscale=1.5)  # fmt: skip
    return figure
