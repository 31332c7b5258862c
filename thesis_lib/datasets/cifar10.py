"""CIFAR-10 (Krizhevsky 2009): sheets of pictures from a folder, or torchvision's download.

A sheet is a lossless WebP picture of 25 rows of 40 pictures: ``train_00.webp`` to ``train_49.webp`` in the official
order, labels in ``train_labels.npy``; test pictures likewise, or as JPEG files in ``test_jpeg_*.tar.xz``, named
``test/<class>/<number in the class>.jpg``.
"""

import lzma
import tarfile
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from thesis_lib.datasets.labelled import LabelledPictures, cache_folder, first_folder, not_there
from thesis_lib.errors import ThesisError, ThesisWarning

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LAYOUT = "a folder with the sheets train_*.webp, or with cifar-10-batches-py, itself or in cifar10,"
BATCHES = "cifar-10-batches-py"


def find_cifar10(root: str | Path) -> tuple[Path, bool]:
    """The folder with CIFAR-10, `root` or `cifar10` in it, and whether it has sheets (else torchvision's files).

    Raises:
        ThesisError: It is neither.
    """
    for pattern in ("train_*.webp", BATCHES):
        if folder := first_folder(Path(root), ("cifar10",), pattern):
            return folder, pattern != BATCHES
    raise not_there("CIFAR-10", root, LAYOUT)


def read_cifar10(root: str | Path | None = None) -> LabelledPictures:
    """Read CIFAR-10.

    torchvision's files are pickled; torchvision itself opens them, after comparing their MD5 sums with the official
    ones.

    Args:
        root: Where `find_cifar10` finds the sheets or torchvision's files; none for torchvision's download, done once.

    Returns:
        50,000 training and 10,000 test pictures, (n, 3, 32, 32).

    Raises:
        ThesisError: The pictures are neither there nor can be downloaded, or a file is damaged.

    Warns:
        ThesisWarning: The test pictures are JPEG files.
    """
    folder, has_sheets = find_cifar10(root) if root is not None else (cache_folder() / "torchvision", False)
    if has_sheets:
        return _read_sheets(folder)
    from torchvision.datasets import CIFAR10

    try:
        parts = [CIFAR10(folder, train=train, download=root is None) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise ThesisError(
            f"CIFAR-10 cannot be read or downloaded ({' '.join(str(error).split())}): give {LAYOUT} with "
            "--set data.root=/path/to/it, or run again with a network"
        ) from None
    (train, train_labels), (test, test_labels) = ((_pictures(p.data), torch.tensor(p.targets)) for p in parts)
    return LabelledPictures(train, train_labels, test, test_labels, CLASSES)


def _read_sheets(folder: Path) -> LabelledPictures:
    labels = {}
    for split in ("train", "test"):
        try:
            labels[split] = np.load(folder / f"{split}_labels.npy", allow_pickle=False).astype(np.int64)
        except (OSError, ValueError) as error:
            raise ThesisError(f"{folder / f'{split}_labels.npy'} is no readable list of labels ({error})") from None
    train = np.concatenate([_sheet(path) for path in _sheets(folder, "train")])
    sheets = _sheets(folder, "test")
    if 1000 * len(sheets) >= len(labels["test"]) or not list(folder.glob("test_jpeg_*.tar.xz")):
        test = np.concatenate([_sheet(path) for path in sheets]) if sheets else train[:0]
    else:
        test = _jpeg_test(sorted(folder.glob("test_jpeg_*.tar.xz"))[0], labels["test"])
    for split, pictures in (("train", train), ("test", test)):
        if not len(pictures) or len(pictures) != len(labels[split]):
            raise ThesisError(
                f"{folder}: {len(pictures)} {split} pictures and {len(labels[split])} labels: the sheets are not whole"
            )
    train_labels, test_labels = (torch.from_numpy(labels[split]) for split in ("train", "test"))
    return LabelledPictures(_pictures(train), train_labels, _pictures(test), test_labels, CLASSES)


def _sheets(folder: Path, split: str) -> list[Path]:
    """A split's sheets in order; one missing before the last would shift all labels behind it."""
    found = sorted(folder.glob(f"{split}_*.webp"))
    missing = [name for n, path in enumerate(found) if path.name != (name := f"{split}_{n:02}.webp")]
    if missing:
        raise ThesisError(f"{folder / missing[0]} is missing and sheets behind it are there: fetch it again")
    return found


def _sheet(path: Path) -> np.ndarray:
    """A sheet's 1,000 pictures, (1000, 32, 32, 3)."""
    try:
        with Image.open(path) as opened:
            sheet = np.asarray(opened.convert("RGB"))
        return sheet.reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1000, 32, 32, 3)
    except (OSError, ValueError) as error:
        raise ThesisError(f"{path} is no sheet of 25 x 40 pictures of 32 px ({error}): fetch it again") from None


def _jpeg_test(archive: Path, labels: np.ndarray) -> np.ndarray:
    """All test pictures from an archive of JPEG files; which is which follows from the labels in official order."""
    warnings.warn(
        f"CIFAR-10's test pictures are JPEG files ({archive.name}): features are measured on slightly blurred pictures",
        ThesisWarning,
        stacklevel=4,
    )
    places = {name: np.flatnonzero(labels == label) for label, name in enumerate(CLASSES)}
    pictures = np.zeros((len(labels), 32, 32, 3), np.uint8)
    found = np.zeros(len(labels), bool)
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isfile() and (file := opened.extractfile(member)):
                    _, name, number = member.name.split("/")
                    place = places[name][int(Path(number).stem)]
                    with Image.open(BytesIO(file.read())) as picture:
                        pictures[place] = np.asarray(picture.convert("RGB"))
                    found[place] = True
    except (OSError, EOFError, ValueError, KeyError, IndexError, tarfile.TarError, lzma.LZMAError) as error:
        raise ThesisError(f"{archive} does not hold CIFAR-10's test pictures ({error!r}): fetch it again") from None
    if not found.all():
        raise ThesisError(f"{archive} lacks {np.count_nonzero(~found)} test pictures: fetch it again")
    return pictures


def _pictures(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
