"""Sheets of pictures: contact sheets, sources beside what was made from them, overlays of masks and saliency."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from thesis_lib.datasets import PreparedSet
from thesis_lib.diffusion.manifest import read_manifest, sets_of
from thesis_lib.errors import ThesisError
from thesis_lib.figures.confusion import SPLIT_LOOK
from thesis_lib.figures.style import TEXT_HEIGHT, TEXT_WIDTH, styled, to_image
from thesis_lib.figures.words import word, wrapped

GAP, LARGEST_CELL, LABEL_WIDTH = 0.04, 0.95, 0.95  # inches
SMALL = 6.5  # points
MOST_ROWS = 20
"""Classes in a sheet with a row a class; more would be too small to see."""


@styled
def contact_sheet(
    pictures: Tensor | np.ndarray,
    columns: int,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[str] = (),
    rule_after: int = 0,
    language: str = "en",
) -> Figure:
    """Pictures in rows and columns, as large as the page allows.

    Args:
        pictures: (n, 3, s, s) uint8, row by row.
        columns: Pictures a row.
        row_labels: A label left of each row.
        column_labels: A label above each column, a key of `words.WORDS` or plain text.
        captions: A few letters below each picture.
        rule_after: Leaves a wider gap after so many columns, to set sources apart.
        language: `en` or `de`.

    Returns:
        The figure.

    Raises:
        ThesisError: There are no pictures.
    """
    if not len(pictures):
        raise ThesisError("a contact sheet needs pictures and there are none: leave the figure out")
    rows = -(-len(pictures) // columns)
    longest = 0.75 * SMALL / 72 * max(map(len, row_labels), default=0)  # room for capitals
    left = min(LABEL_WIDTH, longest + GAP) if row_labels else 0.0
    rule = 0.12 if rule_after else 0.0
    line = SMALL * 1.25 / 72
    cell = min(LARGEST_CELL, (TEXT_WIDTH - left - rule - GAP) / columns - GAP)
    names = [wrapped(word(label, language), cell, SMALL) for label in column_labels]
    notes = [wrapped(caption.replace("_", " "), cell, SMALL) for caption in captions]
    top = max((name.count("\n") + 1 for name in names), default=0) * line + GAP
    below = max((note.count("\n") + 1 for note in notes), default=0) * line
    side = min(cell, (TEXT_HEIGHT - top) / rows - below - GAP)  # of a picture
    cell = cell if captions else side  # captions were broken to the cell's width
    figure = Figure(figsize=(left + rule + columns * (cell + GAP) + GAP, top + rows * (side + below + GAP)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        x = GAP + left + column * (cell + GAP) + (rule if column >= rule_after else 0)
        y, inset = top + row * (side + below + GAP), (cell - side) / 2
        extent = (x + inset, x + inset + side, y + side, y)
        axes.imshow(to_image(picture), extent=extent, aspect="auto", interpolation="bilinear")
        if index < len(notes):
            axes.text(x + cell / 2, y + side + 0.01, notes[index], fontsize=SMALL, ha="center", va="top")
        if row == 0 and column < len(names):
            axes.text(x + cell / 2, top - GAP, names[column], fontsize=SMALL, ha="center", va="bottom")
        if column == 0 and row < len(row_labels):
            label = wrapped(row_labels[row].replace("_", " "), left, SMALL)
            axes.text(left, y + side / 2, label, fontsize=SMALL, ha="right", va="center", linespacing=1)
    axes.set(xlim=(0, figure.get_figwidth()), ylim=(figure.get_figheight(), 0))
    axes.axis("off")
    return figure


def split_sheet(pictures: PreparedSet, language: str = "en") -> Figure:
    """A row a class with a picture of each split, training first, for the first classes that all splits have.

    Args:
        pictures: Pictures with their image table.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    first = pictures.table.reset_index().groupby(["class_name", "split"])["index"].min().unstack()
    splits = [split for split in SPLIT_LOOK if split in first]
    rows = first[splits].dropna().head(MOST_ROWS)
    chosen = pictures.select(rows.to_numpy().ravel()).pictures
    return contact_sheet(chosen, len(splits), list(rows.index), splits, language=language)


def source_sheet(
    sources: Tensor | np.ndarray,
    results: Tensor | np.ndarray,
    column_labels: Sequence[str],
    row_labels: Sequence[str] = (),
    captions: Sequence[str] = (),
    language: str = "en",
) -> Figure:
    """A row a source: the source, then what was made from it; with one result a row, before and after.

    Args:
        sources: (n, 3, s, s) uint8.
        results: (n, k, 3, s, s) uint8.
        column_labels: k + 1 labels, the source's first.
        row_labels: n labels, or none.
        captions: n * (k + 1) captions row by row, or none.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    rows = np.concatenate([np.asarray(sources)[:, None], np.asarray(results)], axis=1)
    pictures = rows.reshape(-1, *rows.shape[2:])
    return contact_sheet(pictures, rows.shape[1], row_labels, column_labels, captions, 1, language)


def manifest_sheet(
    folder: Path, name: str, sources: Tensor, table: pd.DataFrame, classes: int = 8, language: str = "en"
) -> Figure:
    """One source a class and the synthetic pictures of a set made from it.

    Args:
        folder: A seed's folder of synthetic pictures.
        name: The set: `id`, `near_ood`, `background` or `sibling`.
        sources: (n, 3, s, s) uint8, the shots.
        table: Their image table, n rows.
        classes: At most so many rows.
        language: `en` or `de`.

    Returns:
        The figure; captions name timestep, guidance scale and the prompt's own words.
    """
    manifest, pictures = read_manifest(folder)
    rows = manifest[sets_of(manifest) == name]
    firsts = rows.groupby("class_name", sort=True)["source_id"].first().head(classes)
    groups = [rows.index[rows["source_id"] == source] for source in firsts]
    number = min(len(group) for group in groups)
    common = set.intersection(*(set(_words(prompt)) for prompt in rows["prompt"]))
    position = {source: index for index, source in enumerate(table["source_id"])}
    captions = []
    for group in groups:
        captions += ["", *(_origin(rows.loc[i], common) for i in group[:number])]
    return source_sheet(
        sources[[position[source] for source in firsts]],
        np.stack([pictures[group[:number].tolist()] for group in groups]),
        ["source", *[""] * number],
        list(firsts.index),
        captions,
        language,
    )


def _words(prompt: str) -> list[str]:
    """A prompt's words but for its concept's placeholder tokens and the little words."""
    words = re.sub(r"<[^>]*>\S*", "", prompt).split()
    return [word for word in words if word not in ("a", "an", "the", "photo", "of", "on")]


def _origin(row: pd.Series, common: set[str]) -> str:
    own = " ".join(word for word in _words(row["prompt"]) if word not in common)
    return f"t={row['timestep']} g={row['guidance_scale']:g} {own}"


def with_mask(pictures: Tensor | np.ndarray, masks: Tensor | np.ndarray) -> np.ndarray:
    """Pictures (n, 3, s, s) uint8 with what lies outside the masks (n, s, s) bool faded towards white."""
    pictures, inside = np.asarray(pictures), np.asarray(masks)[:, None]
    return np.where(inside, pictures, 255 - (255 - pictures) // 4).astype(np.uint8)


def with_heat(pictures: Tensor | np.ndarray, heat: Tensor | np.ndarray) -> np.ndarray:
    """Pictures (n, 3, s, s) uint8 in grey under heat maps (n, s, s) at least 0, each relative to its maximum."""
    grey, heat = np.asarray(pictures).mean(1, keepdims=True), np.asarray(heat)
    relative = heat / np.maximum(heat.max((1, 2), keepdims=True), 1e-12)
    colour = np.moveaxis(colormaps["inferno"](relative)[..., :3], -1, 1) * 255
    return (0.3 * grey + 0.7 * colour).astype(np.uint8)
