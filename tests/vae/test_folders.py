"""What `thesis check` says about the folders of the VAE study."""

import shutil
from pathlib import Path

import pytest

from tests.vae.toy import write_folders
from thesis_lib.vae.folders import left_out
from thesis_lib.vae.parameters import VaeParameters


def parameters(**folders: str | None) -> VaeParameters:
    content: dict[str, dict[str, object]] = {name: {"root": folder} for name, folder in folders.items()}
    content["proben1"] = content.get("proben1", {}) | {"sets": ["diabetes"]}
    return VaeParameters(name="x", study="vae", seeds=[0, 3], **content)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    return write_folders(tmp_path)


def test_good_folders_have_no_problems_and_nothing_is_left_out(folders):
    assert parameters(**folders).data_problems() == ([], [])


def test_folders_that_are_not_named_are_left_out_and_said(folders):
    asked = parameters(celeba=folders["celeba"])
    found, remarks = asked.data_problems()
    assert found == [] and remarks == left_out(asked) and len(remarks) == 2
    assert "three tables of MNIST and the harness on digits: add --set mnist.root=/path/to/it" in remarks[1]


def test_wrong_folders_are_a_sentence_each(folders, tmp_path):
    wrong = {"proben1": folders["mnist"], "mnist": folders["celeba"], "celeba": str(tmp_path / "nowhere")}
    proben1, digits, faces = parameters(**wrong).data_problems()[0]
    assert proben1.startswith("proben1.root: ") and "has no folder diabetes, thyroid: name the folder" in proben1
    assert digits.startswith("MNIST is not in ") and "--set mnist.root=/path/to/it" in digits
    assert faces == f"celeba.root: {tmp_path}/nowhere is no folder: name another, or leave it out"


def test_absent_and_damaged_files_are_named(folders):
    first = Path(folders["proben1"]) / "diabetes" / "diabetes1.dt"
    first.write_text(first.read_text().replace("bool_in=0", "bool_in=x"))
    (Path(folders["mnist"]) / "t10k-labels-idx1-ubyte").unlink()
    (Path(folders["celeba"]) / "0.png").write_bytes(b"no picture")
    table, digits, face = parameters(**folders).data_problems()[0]
    assert table.startswith("proben1.root: ") and "diabetes1.dt: the header should say bool_in=<number>" in table
    assert digits.startswith("MNIST's t10k-labels-idx1-ubyte is not in ") and "--set mnist.root=" in digits
    assert "0.png is not a readable picture" in face
    other = parameters(**folders).model_copy(update={"seeds": [1]})  # another permutation, which is not there
    assert "diabetes2.dt cannot be read" in other.data_problems()[0][0]
    shutil.rmtree(folders["celeba"])
    Path(folders["celeba"]).mkdir()
    assert "has no pictures" in parameters(**folders).data_problems()[0][-1]
