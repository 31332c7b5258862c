"""Reader of CelebA faces (Liu et al. 2015): any folder of aligned face pictures, sub-folders included."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from thesis_lib.datasets.folder import ENDINGS
from thesis_lib.datasets.table import UNREADABLE
from thesis_lib.errors import ThesisError


def face_paths(root: str | Path) -> list[Path]:
    """All pictures in a folder and its sub-folders, sorted.

    Raises:
        ThesisError: There are none.
    """
    where = Path(root).expanduser()
    paths = sorted(path for path in where.rglob("*") if path.suffix.lower() in ENDINGS and path.name[0] != ".")
    if not paths:
        raise ThesisError(f"{where} has no pictures ({', '.join(ENDINGS)}): name the folder that holds the faces")
    return paths


def read_celeba(root: str | Path, size: int = 64) -> torch.Tensor:
    """Read all pictures, in the order of their paths; attributes are not needed here.

    Args:
        root: The folder.
        size: Side in pixels; the middle square of each picture is resized to it.

    Returns:
        (n, 3, size, size) uint8.

    Raises:
        ThesisError: The folder has no pictures, or one of them is broken.
    """
    paths = face_paths(root)
    pictures = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    for i, path in enumerate(paths):
        try:
            with Image.open(path) as opened:
                face = ImageOps.fit(opened.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
        except UNREADABLE as error:
            raise ThesisError(f"{path} is broken ({error}): remove it or copy it again") from None
        pictures[i] = torch.from_numpy(np.array(face)).permute(2, 0, 1)
    return pictures
