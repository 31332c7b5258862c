"""Labelled pictures of one size, whole in memory: what the companion studies train on."""

import os
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from thesis_lib.errors import ThesisError


class LabelledPictures(NamedTuple):
    """A data set.

    Attributes:
        train: uint8 (n, c, s, s).
        train_labels: int64 (n,), places in `classes`.
        test: uint8 (m, c, s, s).
        test_labels: int64 (m,).
        classes: The classes' names.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: list[str]


def cache_folder() -> Path:
    """Where the package keeps what it unpacks or downloads: ``$XDG_CACHE_HOME/thesis-lib``, else below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thesis-lib"


def files_like(folder: Path, pattern: str) -> list[Path]:
    """The folder's files that match a pattern, sorted; a folder of such a name, as archives unpack to, is none."""
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def first_folder(root: Path, inside: tuple[str, ...], has: str) -> Path | None:
    """The first of `root` and the folders `inside` it that has a file matching the pattern `has`; none without one."""
    return next((folder for name in (".", *inside) if any((folder := root / name).glob(has))), None)


def not_there(what: str, where: str | Path, layout: str, setting: str = "data.root") -> ThesisError:
    """The error that says that a data set is not where it was looked for, and which parameter gives its folder."""
    return ThesisError(f"{what} is not in {where}: give {layout} with --set {setting}=/path/to/it")
