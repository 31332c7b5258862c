"""The study's work list: named items, each kept on disk once it is done, so that a run that was stopped continues."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tqdm.auto import tqdm

from thesis_lib.storage import json_once

Row = dict[str, Any]


class Item(NamedTuple):
    """A piece of work.

    Attributes:
        compute: Makes its rows, on its own and always the same.
        made_of: All that they depend on but its name, JSON-encodable: parameters, digests of data, the `VERSION` of
            the code that measures and, where a VAE is asked, of the code that trains it.
    """

    compute: Callable[[], list[Row]]
    made_of: Mapping[str, Any]


Items = dict[str, Item]
"""By name, of plain letters, digits and slashes."""
COLUMNS = ["section", "data", "shots", "generated", "method", "beta", "classifier", "seed", "metric", "value"]
"""A result: the table it belongs to, what was trained on what, one number; `shots` and `generated` are a class's."""


def row(section: str, data: str, method: str, seed: int, value: float, **more: Any) -> Row:
    """One result; what is not said is empty, the metric is weighted F1 (`f1`)."""
    empty: Row = {"shots": 0, "generated": 0, "beta": "", "classifier": "network", "metric": "f1"}
    return empty | {"section": section, "data": data, "method": method, "seed": seed, "value": value} | more


def run_items(items: Items, folder: Path, title: str) -> pd.DataFrame:
    """Do what is not done yet and return the results of all.

    Args:
        items: The work list; an item that was kept with another `made_of` is done again.
        folder: Where a file an item is kept, atomically.
        title: On the progress bar.

    Returns:
        The rows, with the columns `COLUMNS`, in the items' order.
    """
    rows: list[Row] = []
    for name, item in tqdm(items.items(), desc=title):
        rows += json_once(folder / f"{name}.json", item.made_of, partial(_rows, item))["rows"]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(item: Item) -> dict[str, list[Row]]:
    return {"rows": item.compute()}
