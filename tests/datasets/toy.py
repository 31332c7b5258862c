"""Files of PROBEN1's and MNIST's formats, written by the tests."""

import gzip
import struct
from pathlib import Path

import numpy as np

HEADER = """bool_in=0
real_in={}
bool_out={}
real_out=0
training_examples={}
validation_examples=1
test_examples=1
"""


def write_proben1(
    root: Path, name: str, lines: list[str], inputs: int, outputs: int, training: int, permutation: int = 1
) -> Path:
    """One permutation of a set; all lines but the last two train."""
    file = root / name / f"{name}{permutation}.dt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(HEADER.format(inputs, outputs, training) + "\n".join(lines) + "\n")
    return root


def write_idx(path: Path, array: np.ndarray, packed: bool = False) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)
