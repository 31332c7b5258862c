import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.toy import write_proben1
from thesis_lib.datasets.proben1 import CODINGS, read_proben1
from thesis_lib.errors import ThesisError, ThesisWarning

REAL = Path(os.environ.get("THESIS_PROBEN1", "nowhere"))
ATTRIBUTES = {"card": (15, 2), "diabetes": (8, 2), "gene": (60, 3), "glass": (9, 6)} | {
    "horse": (20, 3),
    "thyroid": (21, 3),
}


def diabetes(root: Path, lines: list[str] | None = None, training: int = 4) -> Path:
    numbers = [" ".join(f"{0.1 * i + 0.01 * j:.2f}" for j in range(8)) for i in range(6)]
    labels = ["1 0", "0 1"] * 3
    return write_proben1(
        root, "diabetes", lines or [f"{x} {y}" for x, y in zip(numbers, labels, strict=True)], 8, 2, training
    )


def test_values_labels_and_the_official_split(tmp_path):
    table = read_proben1(diabetes(tmp_path), "diabetes")
    assert table.split.tolist() == ["train"] * 4 + ["valid", "test"] and table.classes == 2
    x, y = table.part("train")
    assert y.tolist() == [0, 1, 0, 1] and x.shape == (4, 8)
    np.testing.assert_allclose(x[2], 0.2 + 0.01 * np.arange(8), rtol=1e-6)


def test_codes_become_one_hot(tmp_path):
    # a horse: age; five numbers with flags, all missing but the first; then nominal ones with a level for missing
    start = "1 0.5 0 0 1 0 1 0 1 0 1"
    rest = "0 0 0 0 0 0 1  0 1  0 0 0 0 0 1  0 1  0 1 0 0 0.33 0  0 1 0 1 0 1 0 1  1 0 0 0 0 0  0 1 0 1  0 0 0 1  0.2 0"
    root = write_proben1(tmp_path, "horse", [f"{start} {rest} 1 0 0", f"{start} {rest} 0 1 0"] * 3, 58, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = read_proben1(root, "horse")
    assert len(table.attributes) == 20
    kinds = [a.kind for a in table.attributes]
    assert kinds[:2] == ["binary", "continuous"] and table.attributes[1].missing == 2
    capillary, distension = table.attributes[7], table.attributes[10]
    assert table.x[0, capillary.start : capillary.start + 3].tolist() == [0, 0, 1]  # missing
    assert table.x[0, distension.start : distension.start + 5].tolist() == [0, 1, 0, 0, 0]  # its number is left out
    assert [a.width for a in table.attributes].count(5) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0.1 ? 0.1 0.1 0.1 0.1 0.1 0.1 1 0", "line 10: a value is missing"),
        ("0.1 0.1 0.1 0.1 0.1 0.1 0.1 1 0", "line 10: 9 values, the header promises 10"),
        ("0.1 x 0.1 0.1 0.1 0.1 0.1 0.1 1 0", "line 10: could not convert"),
        ("0.1 nan 0.1 0.1 0.1 0.1 0.1 0.1 1 0", "line 10: a value is not finite"),
        ("0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 1 1", "example 3: the code of the class"),
    ],
)
def test_broken_rows_are_named(tmp_path, line, said):
    good = " ".join(["0.1"] * 8)
    lines = [f"{good} 1 0", f"{good} 0 1", line, f"{good} 0 1", f"{good} 1 0", f"{good} 0 1"]
    with pytest.raises(ThesisError, match=said):
        read_proben1(diabetes(tmp_path, lines), "diabetes")


def test_wrong_counts_headers_and_names(tmp_path):
    with pytest.raises(ThesisError, match="promises 9 examples and there are 6"):
        read_proben1(diabetes(tmp_path, training=7), "diabetes")
    with pytest.raises(ThesisError, match="unknown: choose among card, diabetes"):
        read_proben1(tmp_path, "../secret")
    with pytest.raises(ThesisError, match=r"glass1.dt cannot be read .*name the folder"):
        read_proben1(tmp_path, "glass")
    file = tmp_path / "diabetes" / "diabetes1.dt"
    file.write_text(file.read_text().replace("real_in=8", "real_in=eight"))
    with pytest.raises(ThesisError, match="header should say real_in=<number>"):
        read_proben1(tmp_path, "diabetes")
    file.write_text("bool_in=0\nreal_in=8\n")
    with pytest.raises(ThesisError, match="header is incomplete, it has no bool_out"):
        read_proben1(tmp_path, "diabetes")


def test_a_lonely_class_and_a_constant_column_are_told_and_an_empty_class_refused(tmp_path):
    rows = [f"0.5 {' '.join([f'0.{i}'] * 7)}" for i in range(6)]
    labels = ["1 0", "1 0", "1 0", "0 1", "1 0", "0 1"]
    root = diabetes(tmp_path, [f"{x} {y}" for x, y in zip(rows, labels, strict=True)])
    with pytest.warns(ThesisWarning) as told:
        read_proben1(root, "diabetes")
    messages = [str(warning.message) for warning in told]
    assert any("classes [1] have one training example" in message for message in messages)
    assert any("attributes [0] have one value only" in message for message in messages)
    labels[3] = "1 0"
    with pytest.raises(ThesisError, match=r"classes \[1\] have no training example"):
        read_proben1(diabetes(tmp_path, [f"{x} {y}" for x, y in zip(rows, labels, strict=True)]), "diabetes")


@pytest.mark.skipif(not REAL.is_dir(), reason="THESIS_PROBEN1 names no folder of PROBEN1's sets")
@pytest.mark.parametrize("name", sorted(CODINGS))
def test_the_real_sets_have_the_sources_attributes_and_classes(name):
    tables = [read_proben1(REAL, name, permutation) for permutation in (1, 2, 3)]
    assert (len(tables[0].attributes), tables[0].classes) == ATTRIBUTES[name]
    whole = [np.unique(np.c_[table.x, table.y], axis=0) for table in tables]
    assert all(np.allclose(whole[0], other) for other in whole[1:])  # permutations of the same examples
