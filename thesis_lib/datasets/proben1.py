"""Reader of PROBEN1 (Prechelt 1994, Universität Karlsruhe, report 21/94): six classification sets with official splits.

A set comes in three permutations, ``<set>/<set>1.dt`` to ``<set>3.dt``; the first half of the rows trains, then come a
quarter for validation and a quarter for the test. The original data are UCI's: Credit Approval, Pima Indians Diabetes,
Molecular Biology (Splice-junction), Glass Identification, Horse Colic, Thyroid Disease (ann-thyroid).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from thesis_lib.errors import ThesisError, ThesisWarning

Kind = Literal["continuous", "binary", "nominal"]
CODINGS = {
    "card": "n3 c? c n5 n4 n15 n10 c b b c b n3 c? c",
    "diabetes": "c c c c c c c c",
    "gene": " ".join(["p"] * 60),
    "glass": "c c c c c c c c c",
    "horse": "b c? c? c? c? c? n7 b? n6 c? o4 c? c? c? c? n6 c? c? n4 c?",
    "thyroid": " ".join(["c", *["b"] * 15, *["c"] * 5]),
}
"""Each attribute's code, from the sets' own README files. c: a number; b: 0 or 1; nK: one-hot of K, a level for missing
values among them where there are any; c?, b?: a value and a flag for missing; p: a nucleotide as two signs; oK: one-hot
of K, the same as a number, and a flag."""
HEADER = ("bool_in", "real_in", "bool_out", "real_out", "training_examples", "validation_examples", "test_examples")
SPLITS = ("train", "valid", "test")


class Attribute(NamedTuple):
    """Where an attribute stands among the columns of `AttributeTable.x`, and what it is.

    A continuous one may have a column that is 1 where its value is missing; the value is then 0.
    """

    kind: Kind
    start: int
    width: int
    missing: int | None = None


@dataclass(frozen=True)
class AttributeTable:
    """Examples with continuous, binary and nominal (one-hot) attributes.

    Attributes:
        name: The set.
        attributes: What the columns mean; flags for missing values are columns beside their attribute's.
        x: (n, columns) float32.
        y: (n,) int64, 0 to classes - 1.
        split: (n,) `train`, `valid` or `test`.
    """

    name: str
    attributes: tuple[Attribute, ...]
    x: np.ndarray
    y: np.ndarray
    split: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1

    def part(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The examples and labels of a split."""
        chosen = self.split == split
        return self.x[chosen], self.y[chosen]


def read_proben1(root: str | Path, name: str, permutation: int = 1) -> AttributeTable:
    """Read one permutation of a set with its official split.

    The columns are the file's, but for what has a better code: nucleotides become one-hot of four, a binary attribute
    with missing values one-hot of three, and of the horses' abdominal distension, given twice, the number is left out.

    Args:
        root: The folder with PROBEN1's sets.
        name: A key of `CODINGS`.
        permutation: 1, 2 or 3.

    Raises:
        ThesisError: The set or file is unknown or missing; the header is wrong; there are more or fewer rows, or values
            in a row, than the header says; a value is missing or no number; a one-hot code is none; a class has no
            training example.

    Warns:
        ThesisWarning: A class has one training example only, or a continuous attribute has one value only.
    """
    if name not in CODINGS:
        raise ThesisError(f"PROBEN1 set {name} is unknown: choose among {', '.join(CODINGS)}")
    path = Path(root).expanduser() / name / f"{name}{permutation}.dt"
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ThesisError(f"{path} cannot be read ({error}): name the folder that holds PROBEN1's sets") from None
    counts = _header(path, lines)
    inputs, outputs = counts["bool_in"] + counts["real_in"], counts["bool_out"] + counts["real_out"]
    values = _rows(path, lines, inputs + outputs)
    sizes = [counts[f"{part}_examples"] for part in ("training", "validation", "test")]
    if len(values) != sum(sizes):
        raise ThesisError(f"{path}: the header promises {sum(sizes)} examples and there are {len(values)}")
    tokens = CODINGS[name].split()
    if inputs != sum(_width(token) for token in tokens):
        raise ThesisError(f"{path}: {inputs} inputs, the set {name} has {sum(_width(token) for token in tokens)}")
    y = _one_hot(path, values[:, inputs:], "the class").argmax(1)
    x, attributes = _recode(path, values[:, :inputs], tokens)
    table = AttributeTable(name, attributes, x.astype(np.float32), y, np.repeat(SPLITS, sizes))
    _check_training(path, table)
    return table


def _header(path: Path, lines: list[str]) -> dict[str, int]:
    counts = {}
    for key, line in zip(HEADER, lines, strict=False):
        found, _, number = line.partition("=")
        if found.strip() != key or not number.strip().isdigit():
            raise ThesisError(f"{path}: the header should say {key}=<number> and says {line[:40]!r}")
        counts[key] = int(number)
    if len(counts) < len(HEADER):
        raise ThesisError(f"{path}: the header is incomplete, it has no {HEADER[len(counts)]}")
    return counts


def _rows(path: Path, lines: list[str], width: int) -> np.ndarray:
    rows = []
    for number, line in enumerate(lines[len(HEADER) :], len(HEADER) + 1):
        texts = line.split()
        if not texts:
            continue
        if "?" in texts:
            raise ThesisError(
                f"{path}, line {number}: a value is missing (?); PROBEN1 codes missing values in columns of their own: "
                "code or remove the example"
            )
        if len(texts) != width:
            raise ThesisError(f"{path}, line {number}: {len(texts)} values, the header promises {width}")
        try:
            rows.append([float(text) for text in texts])
        except ValueError as error:
            raise ThesisError(f"{path}, line {number}: {error}") from None
        if not np.isfinite(rows[-1]).all():
            raise ThesisError(f"{path}, line {number}: a value is not finite")
    return np.array(rows).reshape(-1, width)


def _width(token: str) -> int:
    """Columns an attribute has in the file."""
    if token[0] in "no":
        return int(token[1:]) + 2 * (token[0] == "o")
    return 1 + (token in ("c?", "b?", "p"))


def _one_hot(path: Path, code: np.ndarray, what: str) -> np.ndarray:
    bad = (code.sum(1) != 1) | ~np.isin(code, (0, 1)).all(1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ThesisError(f"{path}, example {row + 1}: the code of {what} is {code[row].tolist()}, not one 1 among 0s")
    return code


def _recode(path: Path, x: np.ndarray, tokens: list[str]) -> tuple[np.ndarray, tuple[Attribute, ...]]:
    columns: list[np.ndarray] = []
    attributes = []
    for number, (token, code) in enumerate(zip(tokens, _columns(x, tokens), strict=True)):
        start = sum(column.shape[1] for column in columns)
        if token[0] == "c":
            attributes.append(Attribute("continuous", start, 1, start + 1 if token == "c?" else None))
        elif token == "b":
            attributes.append(Attribute("binary", start, 1))
        else:
            if token == "p":  # C, A, G, T
                code = np.eye(4)[((code[:, 0] > 0) * 2 + (code[:, 1] > 0)).astype(int)]
            elif token == "b?":
                code = np.stack([(1 - code[:, 0]) * (1 - code[:, 1]), code[:, 0], code[:, 1]], axis=1)
            elif token[0] == "o":
                code = np.delete(code, -2, axis=1)
            _one_hot(path, code, f"attribute {number}")
            attributes.append(Attribute("nominal", start, code.shape[1]))
        if token in ("b", "c?") and not np.isin(code[:, -1], (0, 1)).all():
            raise ThesisError(f"{path}: attribute {number} has values beside 0 and 1 where only these are allowed")
        columns.append(code)
    return np.concatenate(columns, axis=1), tuple(attributes)


def _columns(x: np.ndarray, tokens: list[str]) -> Iterator[np.ndarray]:
    start = 0
    for token in tokens:
        yield x[:, start : start + _width(token)]
        start += _width(token)


def _check_training(path: Path, table: AttributeTable) -> None:
    x, y = table.part("train")
    counts = np.bincount(y, minlength=table.classes)
    if empty := np.flatnonzero(counts == 0).tolist():
        raise ThesisError(f"{path}: classes {empty} have no training example: take another permutation")
    if lonely := np.flatnonzero(counts == 1).tolist():
        warnings.warn(
            f"{path}: classes {lonely} have one training example, so there is no neighbour to interpolate to",
            ThesisWarning,
            stacklevel=3,
        )
    constant = [
        number
        for number, attribute in enumerate(table.attributes)
        if attribute.kind == "continuous" and np.ptp(x[:, attribute.start]) == 0
    ]
    if constant:
        warnings.warn(
            f"{path}: attributes {constant} have one value only in training: they are kept and say nothing",
            ThesisWarning,
            stacklevel=3,
        )
