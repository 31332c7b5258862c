"""MNIST (LeCun et al. 1998): idx files from a folder, or downloaded by torchvision."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from thesis_lib.datasets.labelled import LabelledPictures, cache_folder, files_like, first_folder, not_there
from thesis_lib.errors import ThesisError

IMAGES = "train-images*idx3-ubyte*"
FILES = (IMAGES, "train-labels*idx1-ubyte*", "t10k-images*idx3-ubyte*", "t10k-labels*idx1-ubyte*")


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped or not.

    Args:
        path: The file; its content tells whether it is gzipped.

    Returns:
        uint8, of the shape that the file's head gives.

    Raises:
        ThesisError: The file is missing, damaged or of another kind.
    """
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        zeros, kind, dimensions = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    except (OSError, EOFError, struct.error, ValueError, zlib.error) as error:
        raise ThesisError(f"{path} is no readable idx file ({error}): fetch it again") from None
    if (zeros, kind) != (0, 8) or values.size != np.prod(shape):
        raise ThesisError(
            f"{path} is no whole idx file of bytes: its head says {' x '.join(map(str, shape))}, it has {values.size} "
            "values: fetch it again"
        )
    return values.reshape(shape)


def find_mnist(root: str | Path, setting: str = "data.root") -> Path:
    """The folder with MNIST's idx files: `root`, `mnist` in it, or `MNIST/raw` as torchvision leaves them.

    Raises:
        ThesisError: It is none of them, or lacks one of the four files.
    """
    folder = first_folder(Path(root), ("mnist", "MNIST/raw"), IMAGES)
    if folder is None:
        raise not_there("MNIST", root, "a folder with the idx files, itself or in mnist,", setting)
    for pattern in FILES:
        if not files_like(folder, pattern):
            name = f"MNIST's {pattern.strip('*').replace('*', '-')}"
            raise not_there(name, folder, "a folder with all four idx files", setting)
    return folder


def read_mnist(root: str | Path | None = None, setting: str = "data.root") -> LabelledPictures:
    """Read MNIST.

    Args:
        root: Where `find_mnist` finds the four idx files; none for torchvision's download, done once.
        setting: The parameter that names `root`, for the sentence that says what is missing.

    Returns:
        60,000 training and 10,000 test pictures, (n, 1, 28, 28).

    Raises:
        ThesisError: The files are neither there nor can be downloaded, or one is damaged.
    """
    folder = find_mnist(_downloaded() if root is None else root, setting)
    train, train_labels, test, test_labels = (
        torch.from_numpy(read_idx(files_like(folder, pattern)[0]).copy()) for pattern in FILES
    )
    if len(train) != len(train_labels) or len(test) != len(test_labels):
        raise ThesisError(f"{folder}: pictures and labels differ in number: fetch the idx files again")
    return LabelledPictures(
        train[:, None], train_labels.long(), test[:, None], test_labels.long(), [str(i) for i in range(10)]
    )


def _downloaded() -> Path:
    from torchvision.datasets import MNIST

    where = cache_folder() / "torchvision"
    try:
        MNIST(where, download=True)  # fetches what is missing of all four files
    except (OSError, RuntimeError) as error:
        raise ThesisError(
            f"MNIST cannot be downloaded ({' '.join(str(error).split())}): give a folder with the idx files with "
            "--set data.root=/path/to/it, or run again with a network"
        ) from None
    return where
