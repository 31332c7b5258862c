"""The bundled data set: rendered industrial parts in MVIP's layout, with OOD parts and oracle pictures.

It comes with the package (`parts_data`, with a data card) as parquet files and is unpacked at first use. Another folder
of the same shape can be named: ``sets/<class>/...`` as MVIP, ``ood/near|far/<part>/NN_rgb.webp``,
``oracle/id|near_ood/<class>/NN_rgb.webp``, each picture beside its ``NN_rgb_mask_gen.png``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib.datasets.archive import unpack
from thesis_lib.datasets.mvip import photographs, read_mvip
from thesis_lib.datasets.table import build_table, data_root, subfolders

PARTS_DATA = Path(__file__).parent / "parts_data"
PARTS_CORPUS = PARTS_DATA / "corpus.parquet"
"""Captioned renders of other parts, which train the miniature: image, text, part, condition, material, table, tags."""

NEAR_VALID = frozenset(
    {"spur_gear_28t", "socket_cap_screw_m12", "oil_filter", "lapped_flange", "sprocket_hub_16t", "worm_wheel"}
    | {"camshaft", "pipe_elbow"}
)
"""The near-OOD parts that may tune a detector; the others test it."""


def read_parts(
    root: str | Path | None = None, num_classes: int | None = None, super_class: str | None = None
) -> pd.DataFrame:
    """The classes: laboratory splits train, valid and test, and the changed-conditions split field.

    Args:
        root: A folder with `sets` inside; none for the bundled data.
        num_classes: The first so many classes in sorted order; none for all.
        super_class: Only classes of this super class; none for all.

    Returns:
        The table of `read_mvip`, whose errors and warnings apply.
    """
    return read_mvip(_folder(root, "sets"), super_class, num_classes)


def read_parts_ood(root: str | Path | None = None) -> pd.DataFrame:
    """Parts that are none of the classes: `set` is near (mechanical parts) or far (electronic components).

    `split` divides by part, never by picture: of the near parts those in `NEAR_VALID` are valid, of the far parts in
    sorted order the first and then every third; all others are test.
    """
    folder = _folder(root, "ood")
    rows: list[dict[str, Any]] = []
    for kind in ("near", "far"):
        for rank, part in enumerate(subfolders(folder / kind)):
            valid = part.name in NEAR_VALID if kind == "near" else rank % 3 == 0
            rows += _rows(folder, part, {"label": -1, "split": "valid" if valid else "test", "set": kind})
    return build_table(rows, folder)


def read_parts_oracle(root: str | Path | None = None, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """What a perfect generator would give; `split` is "oracle".

    `kind` id: the class's own object in other conditions, on other tables, in other light. `kind` near_ood: a sibling
    part, neither a class nor an OOD part, in the class's laboratory set-up.

    Args:
        root: A folder with `oracle` inside; none for the bundled data.
        classes: The classes to read, whose place is the label; none for all in sorted order.
    """
    folder = _folder(root, "oracle")
    parts = [part for kind in ("id", "near_ood") for part in subfolders(folder / kind)]
    names = sorted({part.name for part in parts}) if classes is None else list(classes)
    rows: list[dict[str, Any]] = []
    for part in parts:
        if part.name in names:
            kind = part.parent.name
            rows += _rows(folder, part, {"label": names.index(part.name), "split": "oracle", "kind": kind, "set": kind})
    return build_table(rows, folder)


def _folder(root: str | Path | None, name: str) -> Path:
    if root is None:
        return unpack(PARTS_DATA / f"{name}.parquet")
    return data_root(Path(root) / name, f"a folder with {name} inside")


def _rows(root: Path, part: Path, fixed: dict[str, Any]) -> list[dict[str, Any]]:
    fixed = {**fixed, "class_name": part.name, "capture_group": part.relative_to(root).as_posix()}
    return [{**row, **fixed, "view": Path(row["path"]).name.partition("_")[0]} for row in photographs(root, part)]
