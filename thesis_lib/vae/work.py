"""The study's work list: named items, each kept on disk once it is done, so that a run that was stopped continues."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from thesis_lib.storage import read_json, write_json
from thesis_lib.vae import fitting

VERSION = 2
"""Part of what an item is made of, beside that of the VAEs: raise it when the code measures differently."""

Row = dict[str, Any]
Items = dict[str, Callable[[], list[Row]]]
"""Name, of plain letters, digits and slashes -> what computes its rows, on its own and always the same."""
COLUMNS = ["section", "data", "shots", "generated", "method", "beta", "classifier", "seed", "metric", "value"]
"""A result: the table it belongs to, what was trained on what, one number; `shots` and `generated` are a class's."""


def row(section: str, data: str, method: str, seed: int, value: float, **more: Any) -> Row:
    """One result; what is not said is empty, the metric is weighted F1 (`f1`)."""
    empty: Row = {"shots": 0, "generated": 0, "beta": "", "classifier": "network", "metric": "f1"}
    return empty | {"section": section, "data": data, "method": method, "seed": seed, "value": value} | more


def versions() -> list[int]:
    """Of the code that measures and of the code that trains VAEs: part of what everything kept is made of."""
    return [VERSION, fitting.VERSION]


def run_items(items: Items, folder: Path, made_of: Mapping[str, Any], title: str) -> pd.DataFrame:
    """Do what is not done yet and return the results of all.

    Args:
        items: The work list.
        folder: Where a file an item is kept, atomically.
        made_of: What all items depend on, JSON-encodable; an item kept with something else is done again.
        title: On the progress bar.

    Returns:
        The rows, with the columns `COLUMNS`, in the items' order.
    """
    rows: list[Row] = []
    asked = {"made_of": {"version": versions(), **made_of}}
    for name, compute in tqdm(items.items(), desc=title):
        file = folder / f"{name}.json"
        kept = read_json(file, "") if file.exists() else {}
        if kept.get("made_of") != asked["made_of"]:
            kept = asked | {"rows": compute()}
            write_json(file, kept)
        rows += kept["rows"]
    return pd.DataFrame(rows, columns=COLUMNS)
