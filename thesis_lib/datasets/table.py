"""The image table, one row a picture, and what every reader shares; few-shot selection and multi-view sets.

| column | meaning |
|---|---|
| path, mask_path | absolute paths; mask_path is "" where there is no object mask |
| class_name, label | the class folder's name, and its rank among the chosen classes; OOD parts have label -1 |
| split | train, valid, test, field (changed conditions); oracle in the oracle table |
| kind | "real" for a photograph; the oracle's kinds are "id" and "near_ood" |
| source_id | the path inside the data set without its ending, unique in the table, the same on every machine |
| capture_group | pictures taken together (one set-up of one object), unique over classes and splits |
| view, set | the camera or viewpoint, and the group's short name; "near" or "far" for OOD |
| attributes | JSON, only where the data set describes its classes |
"""

import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.randomness import derive_seed

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a broken picture."""

COLUMNS = ["path", "mask_path", "class_name", "label", "split", "kind", "source_id", "capture_group", "view", "set"]


def data_root(root: str | Path, what: str) -> Path:
    """The absolute path of a data set's folder; a missing one raises a `ThesisError` that asks for `what`."""
    folder = Path(root).expanduser().resolve()
    if not folder.is_dir():
        raise ThesisError(f"{folder} is no folder: give {what} with --set data.root=/path/to/it")
    return folder


def subfolders(folder: Path) -> list[Path]:
    """The folders inside `folder`, sorted, without hidden ones; none where `folder` does not exist."""
    if not folder.is_dir():
        return []
    # a file system lists in any order (erratum 10)
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def check_name(name: str, where: Path) -> str:
    """Return a class name that may become part of a path: letters, digits, blank and ``_.-``, no leading dot.

    Raises:
        ThesisError: The name is another; names come from disk and become names of files the project writes.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9 _.\-]*", name):
        raise ThesisError(
            f"{where}: the class name {name!r} is not safe in paths: rename the folder with letters, digits, blanks "
            "and _ . - only, beginning with a letter or digit"
        )
    return name


def choose_classes(names: Iterable[str], num_classes: int | None, where: Path) -> list[str]:
    """The first `num_classes` of `names` in sorted order, checked; a warning where there are fewer."""
    chosen = [check_name(name, where) for name in sorted(names)[:num_classes]]
    if num_classes is not None and len(chosen) < num_classes:
        warnings.warn(
            f"{where}: {num_classes} classes were asked for, there are {len(chosen)}", ThesisWarning, stacklevel=3
        )
    return chosen


def build_table(rows: Iterable[Mapping[str, Any]], where: Path) -> pd.DataFrame:
    """Turn rows into a checked table with a RangeIndex, sorted by label and source_id.

    Args:
        rows: Mappings with the keys of `COLUMNS`, and more where there are; a missing `kind` is "real".
        where: The data set's folder, for messages.

    Raises:
        ThesisError: There is no picture, two differ only in their files' endings, or a class name is unsafe.
    """
    table = pd.DataFrame([{"kind": "real", **row} for row in rows])
    if table.empty:
        raise ThesisError(f"{where} has no pictures: check data.root and data.reader")
    table = table[[*COLUMNS, *(column for column in table if column not in COLUMNS)]]
    table = table.sort_values(["label", "source_id"], ignore_index=True)
    twice = table["source_id"][table["source_id"].duplicated()]
    if len(twice):
        raise ThesisError(f"{where}: {twice.iloc[0]} is there twice with different endings: remove one of the files")
    for name in table["class_name"].unique():
        check_name(name, where)
    return table


def few_shot(table: pd.DataFrame, shots: int, seed: int) -> pd.DataFrame:
    """Choose `shots` training pictures of every class, spread over its capture groups.

    The choice depends on the seed and the pictures' `source_id` only: not on machine, folder, other classes or the
    order of rows. A smaller choice is contained in a larger one.

    Returns:
        The chosen rows in the table's order, with the table's index.

    Raises:
        ThesisError: A class has fewer training pictures.
    """
    train = table[table["split"] == "train"]
    chosen: list[int] = []
    for name in sorted(table["class_name"].unique()):
        rows = train[train["class_name"] == name]
        if len(rows) < shots:
            raise ThesisError(
                f"class {name} has {len(rows)} training pictures, data.shots asks for {shots}: lower data.shots or "
                "add pictures"
            )
        rank = {row: derive_seed(seed, "few_shot", source) for row, source in rows["source_id"].items()}
        members = {
            str(group): sorted(index, key=rank.__getitem__)
            for group, index in rows.groupby("capture_group").groups.items()
        }
        order = sorted(members, key=lambda group: derive_seed(seed, "few_shot", group))
        rounds = zip_longest(*(members[group] for group in order))
        chosen += islice((row for turn in rounds for row in turn if row is not None), shots)
    return table.loc[sorted(chosen)]


def view_sets(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The multi-view sets: capture group -> its rows sorted by view, with the table's index."""
    return {str(name): rows.sort_values("view") for name, rows in table.groupby("capture_group", sort=True)}
