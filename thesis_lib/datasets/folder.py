"""Reader of plain pictures: one folder a class, or ETH-80's images/<class> beside masks/<class>.

Such data comes without splits. They are made here, by whole objects (file names begin with the object's name and a
dash, as in ETH-80's ``cup3-066-027.jpg``) or by single pictures, the same on every machine.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from thesis_lib.datasets.table import UNREADABLE, build_table, check_name, choose_classes, data_root, subfolders
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.randomness import derive_seed
from thesis_lib.sections import FolderParameters

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
OTHER_ENDINGS = (".gif", ".heic", ".tif", ".tiff")


def read_folder(
    root: str | Path, options: FolderParameters | None = None, num_classes: int | None = None
) -> pd.DataFrame:
    """Read class folders into an image table and divide every class into train, valid and test.

    Args:
        root: The folder of class folders, or one with `images` and `masks` inside (masks are PNG files of the same
            names, non-zero on the object).
        options: How to divide, and which class folders are held out as near-OOD.
        num_classes: The first so many classes in sorted order; none for all.

    Returns:
        The table of `thesis_lib.datasets.table`. When divided by object, `capture_group` is ``<class>/<object>``,
        `set` the object and `view` the rest of the file's name; else every picture is a group of its own.

    Raises:
        ThesisError: The folder is missing or has no class folders, a class has no or too few pictures, a held-out class
            is unknown, a file name names no object, there are masks and none fits.

    Warns:
        ThesisWarning: There are fewer classes than asked for.
    """
    options = options or FolderParameters()
    where, classes = _class_folders(root)
    chosen = choose_classes(set(classes) - _known(options.ood_near, classes, where, "ood_near"), num_classes, where)
    rows: list[dict[str, Any]] = []
    for label, name in enumerate(chosen):
        pictures = list(_pictures(where, classes[name], options.split_by))
        splits = _divide({row["capture_group"] for row in pictures}, options, where / name)
        rows += [{**row, "class_name": name, "label": label, "split": splits[row["capture_group"]]} for row in pictures]
    if (where / "masks").is_dir() and not any(row["mask_path"] for row in rows):
        raise ThesisError(
            f"{where / 'masks'} has no mask of any picture: the mask of images/CLASS/NAME.jpg is masks/CLASS/NAME.png"
        )
    return build_table(rows, where)


def read_folder_ood(root: str | Path, options: FolderParameters) -> pd.DataFrame | None:
    """The OOD table: held-out class folders (near) and a second folder's class folders (far).

    Both are divided by class folder, in sorted order alternately test, valid, test, ...: what tunes a detector never
    shows the parts it is tested on, and a single held-out class is for the test.

    Args:
        root: As in `read_folder`.
        options: `ood_near`, `ood_far`, `ood_far_classes`, `ood_far_per_class`; the seed chooses the far pictures.

    Returns:
        The table, or none where neither near nor far is asked for.

    Raises:
        ThesisError: A folder is missing, a held-out class is unknown, a class folder has no pictures.
    """
    where, classes = _class_folders(root)
    rows = []
    for rank, name in enumerate(sorted(_known(options.ood_near, classes, where, "ood_near"))):
        rows += _ood_rows("near", rank, list(_pictures(where, classes[name], options.split_by)))
    if options.ood_far is not None:
        far, others = _class_folders(options.ood_far)
        wanted = _known(options.ood_far_classes, others, far, "ood_far_classes") or set(others)
        for rank, name in enumerate(sorted(wanted)):
            pictures = list(_pictures(far, others[name], "random"))
            pictures.sort(key=lambda row: derive_seed(options.seed, "ood_far", row["source_id"]))
            rows += _ood_rows("far", rank, pictures[: options.ood_far_per_class])
    return build_table(rows, where) if rows else None


def _ood_rows(kind: str, rank: int, pictures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    fixed = {"label": -1, "split": "valid" if rank % 2 else "test", "set": kind}
    named = ("source_id", "capture_group")  # a far class may have a near one's name
    return [{**row, **fixed, **{column: f"{kind}/{row[column]}" for column in named}} for row in pictures]


def _class_folders(root: str | Path) -> tuple[Path, dict[str, Path]]:
    where = data_root(root, "a folder of class folders")
    found = subfolders(where / "images") or subfolders(where)  # images/<class>/... as in ETH-80, or <class>/...
    if not found:
        raise ThesisError(f"{where} has no class folders: put the pictures of each class into a folder of its own")
    if where / "masks" in found:
        raise ThesisError(f"{where / 'masks'} would be a class: move the class folders into {where / 'images'}")
    return where, {check_name(path.name, where): path for path in found}


def _known(names: list[str], classes: dict[str, Path], where: Path, parameter: str) -> set[str]:
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ThesisError(
            f"data.folder.{parameter}: {where} has no {', '.join(unknown)}; there are: {', '.join(classes)}"
        )
    return set(names)


def _pictures(root: Path, folder: Path, split_by: str) -> Iterator[dict[str, Any]]:
    """The rows of one class folder, without label and split."""
    there = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.is_file()]
    files = [path for path in there if path.suffix.lower() in ENDINGS]
    if others := [path for path in there if path.suffix.lower() in OTHER_ENDINGS]:
        warnings.warn(
            f"{folder}: {len(others)} pictures such as {others[0].name} are left out: save them as one of "
            f"{', '.join(ENDINGS)}",
            ThesisWarning,
            stacklevel=2,
        )
    if not files:
        raise ThesisError(
            f"{folder}: class {folder.name} has no pictures ({', '.join(ENDINGS)}): add some or move it away"
        )
    for path in files:
        item, dash, view = path.stem.partition("-")
        if split_by == "random":
            item, view = path.stem, ""
        elif not dash or not item:
            raise ThesisError(
                f"{path}: dividing by object needs file names such as cup3-066.jpg (object, dash, view): rename the "
                "files or set data.folder.split_by=random"
            )
        mask = root / "masks" / folder.name / f"{path.stem}.png"
        yield {
            "path": str(path),
            "mask_path": str(mask) if folder.parent != root and mask.is_file() else "",
            "class_name": folder.name,
            "source_id": f"{folder.name}/{path.stem}",
            "capture_group": f"{folder.name}/{item}",
            "view": view,
            "set": item,
        }


def _divide(groups: set[str], options: FolderParameters, where: Path) -> dict[str, str]:
    """Give every capture group of a class a split; at least one to each split that has a share, and one to train."""
    ranked = sorted(groups, key=lambda group: derive_seed(options.seed, "folder_split", group))
    test, valid = (max(int(len(ranked) * s + 0.5), int(s > 0)) for s in (options.test_share, options.valid_share))
    if test + valid >= len(ranked):
        by_object = options.split_by == "object"
        raise ThesisError(
            f"{where}: {len(ranked)} {'objects' if by_object else 'pictures'} are too few for {valid} in valid, {test} "
            "in test and some in train: add pictures, or lower data.folder.valid_share and test_share"
            + (", or set data.folder.split_by=random" if by_object else "")
        )
    return {g: "test" if i < test else "valid" if i < test + valid else "train" for i, g in enumerate(ranked)}


def broken_pictures(paths: list[str], most: int = 500) -> list[str]:
    """Sentences about pictures that cannot be read; of many pictures an even sample is opened."""
    found = []
    for path in paths[:: max(1, len(paths) // most)]:
        try:
            with Image.open(path) as picture:
                if picture.format == "JPEG":  # verify() does not look at its content; an eighth of it is quick
                    picture.draft("RGB", (1, 1))
                    picture.load()
                else:
                    picture.verify()
        except UNREADABLE as error:
            found.append(f"{path} is not a readable picture ({' '.join(str(error).split())}): replace or remove it")
    return found
