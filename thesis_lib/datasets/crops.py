"""Square crops around the object, decoded once and kept as tensors.

The margin is a share of the object's box: with a margin in pixels the object's share of the crop would tell its size,
and size alone tells OOD parts from classes. A crop is never padded black: a square that leaves the picture is shifted
back inside; one larger than the picture is filled by mirroring the picture's border, so that the object's share is the
same for objects that nearly fill the picture.
"""

import hashlib
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from thesis_lib.datasets.table import UNREADABLE
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.sections import CropParameters
from thesis_lib.storage import atomic
from thesis_lib.tensors import load_tensors, save_tensors

VERSION = 1
"""Part of the cache's digest: raise it when crops come out differently."""


@dataclass(frozen=True)
class PreparedSet:
    """A table and its crops; row i of the table is row i of the tensors.

    Attributes:
        table: An image table with a RangeIndex.
        pictures: uint8, shape (n, 3, size, size), RGB.
        masks: bool, shape (n, size, size), true on the object; all false where there is no mask.
    """

    table: pd.DataFrame
    pictures: torch.Tensor
    masks: torch.Tensor

    def select(self, rows: ArrayLike) -> "PreparedSet":
        """The rows at these positions in this order, or those where a boolean column is true; numbered anew."""
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return PreparedSet(self.table.iloc[chosen].reset_index(drop=True), self.pictures[chosen], self.masks[chosen])


def crop_square(mask: NDArray[np.bool_], crop: CropParameters) -> tuple[int, int, int]:
    """The square to cut out of a picture.

    With `crop.margin`, the longer side of the object's box grows by that share on each side. With `crop.dilation`, the
    thesis's way, the mask grows by so many pixels (and stays inside the picture) before its box is made square.

    Args:
        mask: Shape (height, width), true on the object. Without any, the largest centred square is taken.
        crop: Margin or dilation.

    Returns:
        Left, top, side in pixels. The square contains the whole object and lies inside the picture; only where it is
        wider or higher than the picture it sticks out, by the same amount on both sides.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        side = min(mask.shape)
        return (mask.shape[1] - side) // 2, (mask.shape[0] - side) // 2, side
    ends = np.array([[columns[0], columns[-1] + 1], [rows[0], rows[-1] + 1]])  # of the object's box, in x and in y
    lengths = np.array([mask.shape[1], mask.shape[0]])
    if crop.dilation is not None:
        ends = np.clip(ends + np.array([-1, 1]) * crop.dilation, 0, lengths[:, None])
    side = ceil((ends[:, 1] - ends[:, 0]).max() * (1 + 2 * (crop.margin if crop.dilation is None else 0)))
    start = np.clip((ends.sum(axis=1) - side) // 2, 0, np.maximum(lengths - side, 0))
    left, top = np.where(side > lengths, (lengths - side) // 2, start)
    return int(left), int(top), side


def cut(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], square: tuple[int, int, int], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut a square and resize it with antialiasing.

    Args:
        picture: Shape (height, width, 3).
        mask: Shape (height, width).
        square: Left, top, side; see `crop_square`.
        size: Side of the result in pixels.

    Returns:
        The crop, shape (size, size, 3), and its mask, shape (size, size): pixels at least half covered by the object.
    """
    left, top, side = square
    height, width = mask.shape
    inside = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
    pad = ((max(-top, 0), max(top + side - height, 0)), (max(-left, 0), max(left + side - width, 0)))
    pixels = np.pad(picture[inside], (*pad, (0, 0)), mode="reflect")
    there = np.pad(mask[inside], pad)  # what is mirrored is not the object
    small = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3)
    cover = Image.fromarray(there.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BOX)
    small_mask = np.asarray(cover) >= 128
    if not small_mask.any():  # nothing, or an object thinner than half a pixel
        ys, xs = np.nonzero(there)
        small_mask = np.zeros((size, size), dtype=bool)
        small_mask[ys * size // side, xs * size // side] = True
    return np.array(small), small_mask


DARK = 4096
"""A 16-bit picture all of whose values are below this is taken for one of a camera with 12 bits or fewer."""


def decode(path: str, mask_path: str = "") -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Decode a picture and its mask.

    Args:
        path: Any picture file; turned upright as its EXIF data says.
        mask_path: A picture of the same size, non-zero (in any colour channel) on the object; "" for none.

    Returns:
        RGB, shape (height, width, 3), and the mask, shape (height, width), all false where there is none.

    Raises:
        ThesisError: A file is missing or broken, or picture and mask differ in size.

    Warns:
        ThesisWarning: A picture of 16 bits uses 12 of them at most.
    """
    with _opened(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        if upright.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
            levels = np.asarray(upright)
            if levels.max() < DARK:
                warnings.warn(
                    f"{Path(path).parent}: 16-bit pictures with no value above {DARK - 1} of 65535, nearly black: "
                    "where a camera gave 10 or 12 bits, scale them to 16 and save them again",
                    ThesisWarning,
                    stacklevel=2,
                )
            upright = Image.fromarray((levels // 256).clip(0, 255).astype(np.uint8))
        picture = np.asarray(upright.convert("RGB"))
    if not mask_path:
        return picture, np.zeros(picture.shape[:2], dtype=bool)
    with _opened(mask_path) as opened:
        mask = np.asarray(opened) != 0
        if mask.ndim == 3:
            mask = mask[..., [band != "A" for band in opened.getbands()]].any(axis=2)
    if mask.shape != picture.shape[:2]:
        raise ThesisError(
            f"{mask_path}: the mask is {mask.shape[1]} x {mask.shape[0]} pixels, its picture {picture.shape[1]} x "
            f"{picture.shape[0]}: replace the mask, or delete it to use the centred square"
        )
    return picture, mask


def _opened(path: str) -> Image.Image:
    try:
        opened = Image.open(path)
        opened.load()
        return opened
    except UNREADABLE as error:
        raise ThesisError(
            f"{path} cannot be decoded as a picture ({error}): replace the file or delete it, then run again"
        ) from None


def prepare_set(table: pd.DataFrame, size: int, crop: CropParameters, file: Path) -> PreparedSet:
    """Crop every picture of a table, or read the crops where they have been made from the same files.

    Args:
        table: An image table.
        size: Side of the crops in pixels.
        crop: Margin or dilation.
        file: ``<name>.parquet``: where the table is written; the crops go to ``<name>.crops.safetensors`` beside it.

    Raises:
        ThesisError: A file is missing or broken, or the disk is full.

    Warns:
        ThesisWarning: Pictures have no mask or an empty one; said when they are cropped.
    """
    cache = file.with_suffix(".crops.safetensors")
    digest = _digest(table, size, crop)
    if file.exists() and cache.exists():
        tensors, metadata = load_tensors(cache)
        if metadata.get("digest") == digest:
            return PreparedSet(table, tensors["pictures"], tensors["masks"])

    def work(paths: tuple[str, str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        picture, mask = decode(*paths)
        return cut(picture, mask, crop_square(mask, crop), size)

    pictures = torch.empty(len(table), 3, size, size, dtype=torch.uint8)
    masks = torch.empty(len(table), size, size, dtype=torch.bool)
    jobs = zip(table["path"], table["mask_path"], strict=True)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes and resizes outside the GIL
        for i, (picture, mask) in enumerate(tqdm(pool.map(work, jobs), desc=f"crop {file.stem}", total=len(table))):
            pictures[i] = torch.from_numpy(picture).permute(2, 0, 1)
            masks[i] = torch.from_numpy(mask)
    without = table["source_id"][~masks.flatten(1).any(1).numpy()]
    if len(without):
        names = ", ".join(without.head(5)) + (", ..." if len(without) > 5 else "")
        warnings.warn(
            f"{len(without)} of {len(table)} pictures have no mask or an empty one and get the centred square: {names}",
            ThesisWarning,
            stacklevel=3,
        )
    with atomic(file) as temporary:  # before the crops, whose digest vouches for it
        table.to_parquet(temporary, index=False)
    save_tensors(cache, {"pictures": pictures, "masks": masks}, digest=digest)
    return PreparedSet(table, pictures, masks)


def _digest(table: pd.DataFrame, size: int, crop: CropParameters) -> str:
    """Changes with the table, any picture or mask file (by size and time stamp), the parameters and the code."""
    try:
        stats = [os.stat(path) for column in ("path", "mask_path") for path in table[column] if path]
    except OSError as error:
        raise ThesisError(
            f"{error.filename}: cannot read the file ({error.strerror}): restore it and run again"
        ) from None
    stamps = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
    content = [VERSION, table.to_csv(index=False), stamps, size, crop.model_dump()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
