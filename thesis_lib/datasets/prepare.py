"""From the data parameters to tables and crops."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from thesis_lib.datasets.crops import PreparedSet, prepare_set
from thesis_lib.datasets.folder import read_folder, read_folder_ood
from thesis_lib.datasets.mvip import read_mvip
from thesis_lib.datasets.parts import read_parts, read_parts_ood, read_parts_oracle
from thesis_lib.errors import ThesisError
from thesis_lib.sections import DataParameters


@dataclass(frozen=True)
class PreparedData:
    """Everything an experiment reads.

    Attributes:
        images: The classes' pictures, all splits.
        ood: Near and far OOD pictures; none where the data set has none.
        oracle: What a perfect generator would give; only for the bundled parts.
        classes: Class names; a label is a place in this list.
    """

    images: PreparedSet
    ood: PreparedSet | None
    oracle: PreparedSet | None
    classes: list[str]


def read_tables(data: DataParameters) -> tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame | None]:
    """Read the image, OOD and oracle tables of a data set without decoding a picture.

    Raises:
        ThesisError: As the readers do.
    """
    if data.reader == "mvip":
        return read_mvip(str(data.root), data.super_class, data.num_classes), None, None
    if data.reader == "folder":
        if data.super_class is not None:
            raise ThesisError("data.super_class is for the readers mvip and parts: remove it")
        images = read_folder(str(data.root), data.folder, data.num_classes)
        return images, read_folder_ood(str(data.root), data.folder), None
    images = read_parts(data.root, data.num_classes, data.super_class)
    has_ood, has_oracle = (data.root is None or (Path(data.root) / name).is_dir() for name in ("ood", "oracle"))
    classes = list(images["class_name"].unique())
    return (
        images,
        read_parts_ood(data.root) if has_ood else None,
        read_parts_oracle(data.root, classes) if has_oracle else None,
    )


def prepare_data(data: DataParameters, size: int, folder: Path) -> PreparedData:
    """Read a data set and crop its pictures into `folder`; where that has been done from the same files, only read.

    Args:
        data: The data set and the crop.
        size: Side of the crops in pixels.
        folder: Gets images.parquet, ood.parquet, oracle.parquet (where there are such pictures) and the crops.

    Returns:
        Tables and crops.

    Raises:
        ThesisError: As the readers do; a picture is missing or broken; the disk is full.
    """
    images, *others = read_tables(data)
    prepared = prepare_set(images, size, data.crop, folder / "images.parquet")
    ood, oracle = (
        None if table is None else prepare_set(table, size, data.crop, folder / f"{name}.parquet")
        for name, table in zip(("ood", "oracle"), others, strict=True)
    )
    return PreparedData(prepared, ood, oracle, list(images["class_name"].unique()))
