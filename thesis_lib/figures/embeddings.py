"""Maps of the representation in two or three dimensions, coloured by class, by kind or by confidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.embeddings import METHODS, coordinates
from thesis_lib.figures.style import COLOURS, MARKERS, TEXT_HEIGHT, TEXT_WIDTH, LanguageFormatter, panels, styled
from thesis_lib.figures.words import word, wrapped

COLOURINGS = ("class", "kind", "confidence")
# without black, which is for OOD, and with Tol's indigo and wine and a grey: ten classes, ten colours
CLASS_COLOURS = (*(colour for colour in COLOURS if colour != "#000000"), "#332288", "#882255", "#999999")
OOD_STYLE = {"near": ("x", "black", 9.0), "far": ("+", "0.45", 12.0)}
KIND_COLOURS = {"id": COLOURS[5], "near": COLOURS[3], "far": COLOURS[6]}
# pale where unsure, dark where sure, so that it reads in grey; without the palest tenth, which is lost on white
SURENESS = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1, 256)))
MOST_ACROSS = 4
LEGEND_COLUMNS = 4


def map_grid(arms: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Which arm and method each panel of `embedding_maps` shows, row by row.

    One arm has t-SNE beside UMAP. Several stand across, t-SNE above UMAP, in as many such double rows as they need.
    """
    if len(arms) == 1:
        return [[(arms[0], method) for method in METHODS]]
    across = -(-len(arms) // -(-len(arms) // MOST_ACROSS))
    blocks = [arms[i : i + across] for i in range(0, len(arms), across)]
    return [[(arm, method) for arm in block] for block in blocks for method in METHODS]


@styled
def embedding_maps(
    table: pd.DataFrame, colouring: str = "class", language: str = "en", figure: Figure | None = None
) -> Figure:
    """The maps of one arm, or of several arms side by side, those of a method to one scale.

    Args:
        table: What `embed_arms` gives, of the arms to show.
        colouring: `class` (a colour and a shape a class, crosses for OOD), `kind` (ID, near-OOD, far-OOD) or
            `confidence` (the classifier's highest softmax probability, with a shape for wrong answers).
        language: `en` or `de`.
        figure: A figure to clear and draw in, such as one that is on a screen; by default a new one.

    Returns:
        The figure; its first axes are the panels of `map_grid`, row by row.

    Raises:
        ThesisError: There is no arm to show, or no such colouring.
    """
    arms = list(dict.fromkeys(table["arm"]))
    if not arms:
        raise ThesisError("there are no maps of these arms: choose at least one that has maps")
    if colouring not in COLOURINGS:
        raise ThesisError(f"maps can't be coloured by {colouring}: choose one of {', '.join(COLOURINGS)}")
    grid, alone = map_grid(arms), len(arms) == 1
    columns, width = len(grid[0]), TEXT_WIDTH / len(grid[0])
    lines = -(-len(_layers(table, colouring, language)) // LEGEND_COLUMNS)
    below = 0.15 * lines + 0.1
    height = min(width + 0.15, 3.1 if alone else 2.3, (TEXT_HEIGHT - below) / len(grid))
    figure = figure or Figure()
    figure.clear()
    figure.set_layout_engine("constrained")
    figure.set_size_inches(TEXT_WIDTH, height * len(grid) + below)
    first: dict[str, Axes] = {}
    for row, cells in enumerate(grid):
        for column, (arm, method) in enumerate(cells):
            beside = first.get(method)  # zooming in one map zooms in all of its method
            ax = figure.add_subplot(len(grid), columns, row * columns + column + 1, sharex=beside, sharey=beside)
            first.setdefault(method, ax)
            _draw(ax, table[table["arm"] == arm], method, colouring, language)
            if alone:
                ax.set_title(word(method, language))
            elif method == METHODS[0]:
                ax.set_title(wrapped(word(arm, language), width, 7), fontsize=7)
            if column == 0 and not alone:
                ax.set_ylabel(word(method, language))
    panels = list(figure.axes)
    handles = {label: handle for ax in panels for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=6.5,
                  columnspacing=1, handletextpad=0.2, markerscale=1.5)  # fmt: skip
    if colouring == "confidence":
        shades = ScalarMappable(Normalize(0, 1), SURENESS)
        bar = figure.colorbar(shades, ax=panels, aspect=40, pad=0.01, format=LanguageFormatter(language))
        bar.set_label(word("confidence", language))
    return figure


def _draw(ax: Axes, rows: pd.DataFrame, method: str, colouring: str, language: str) -> None:
    points = coordinates(rows, method)
    for label, chosen, look in _layers(rows, colouring, language):
        x, y = points[chosen].T
        if colouring == "confidence":  # the legend shows shapes in one grey, the bar beside it the colours
            ax.scatter([], [], c="0.3", label=label, **look)
            ax.scatter(x, y, c=rows["confidence"][chosen], cmap=SURENESS, vmin=0, vmax=1, **look)
        else:
            ax.scatter(x, y, label=label, **look)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color="0.7")


def _layers(rows: pd.DataFrame, colouring: str, language: str) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    """What is drawn, from below to above: the words for the legend, which rows, and their look."""
    names, groups = rows["class_name"].to_numpy(), rows["set"].to_numpy()
    layers = []
    for group, (marker, colour, size) in OOD_STYLE.items():
        look = {"marker": marker, "s": size, "linewidths": 0.6}
        if colouring != "confidence":
            look["c"] = colour if colouring == "class" else KIND_COLOURS[group]
        layers.append((word(group, language), groups == group, look))
    solid = {"s": 9, "linewidths": 0.2, "edgecolors": "white"}
    inside = groups == "id"
    if colouring == "class":
        for index, name in enumerate(sorted(set(names[inside]))):
            layers.append((name.replace("_", " "), inside & (names == name), {"s": 9} | class_look(index)))
    elif colouring == "kind":
        layers.append((word("id", language), inside, solid | {"c": KIND_COLOURS["id"], "marker": "o"}))
    else:
        right = (rows["predicted"] == rows["class_name"]).to_numpy()
        for key, chosen, marker in (("right", inside & right, "o"), ("wrong", inside & ~right, "^")):
            layers.append((word(key, language), chosen, solid | {"marker": marker}))
    return [layer for layer in layers if layer[1].any()]


def class_look(index: int) -> dict[str, Any]:
    """Colour and shape of the class number `index` in a map; no two of the first forty share both."""
    return {
        "c": CLASS_COLOURS[index % len(CLASS_COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linewidths": 0.2,
        "edgecolors": "white",
    }


@styled
def class_maps(
    maps: Mapping[str, np.ndarray], class_names: Sequence[str], language: str = "en", beside: int = 3
) -> Figure:
    """Any maps of the same pictures, such as those of several scenarios: a colour and a shape a class.

    Args:
        maps: A word or title -> (n, 2) coordinates.
        class_names: n names.
        language: `en` or `de`.
        beside: Maps in a row.

    Returns:
        The figure, at most a page high.
    """
    names = np.asarray(class_names)
    classes = sorted(set(names))
    legend, down = 0.15 * -(-len(classes) // LEGEND_COLUMNS), -(-len(maps) // beside)
    figure, axes = panels(len(maps), beside, min(6.0 / beside, (TEXT_HEIGHT - legend) / down) + legend / down)
    for ax, (title, points) in zip(axes, maps.items(), strict=True):
        for index, name in enumerate(classes):
            look = {"s": 6, "label": name.replace("_", " "), **class_look(index)}
            ax.scatter(*points[names == name].T, **look)
        ax.set(title=word(title, language), xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(visible=True, color="0.7")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=6.5,
                  columnspacing=1, handletextpad=0.2, markerscale=1.5)  # fmt: skip
    return figure


@styled
def class_clouds(maps: Mapping[str, np.ndarray], class_names: Sequence[str], language: str = "en") -> Figure:
    """`class_maps` in three dimensions, two beside each other.

    Args:
        maps: A word or title -> (n, 3) coordinates.
        class_names: n names.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    names = np.asarray(class_names)
    classes = sorted(set(names))
    legend = 0.15 * -(-len(classes) // LEGEND_COLUMNS)
    with mpl.rc_context({"grid.color": "0.88", "grid.linewidth": 0.4}):  # axes in three dimensions read it when made
        figure, axes = panels(len(maps), 2, 2.6 + legend, subplot_kw={"projection": "3d"})
    for ax, (title, points) in zip(axes, maps.items(), strict=True):
        for index, name in enumerate(classes):
            look = {"s": 6, "depthshade": False, "label": name.replace("_", " "), **class_look(index)}
            ax.scatter(*points[names == name].T, **look)
        ax.set(title=word(title, language), xticklabels=[], yticklabels=[], zticklabels=[])
        ax.set_box_aspect((1, 1, 0.9), zoom=1.2)  # type: ignore[arg-type, call-arg]
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=6.5,
                  columnspacing=1, handletextpad=0.2, markerscale=1.5)  # fmt: skip
    return figure
