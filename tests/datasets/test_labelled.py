"""MNIST's and CIFAR-10's readers on files written here; whole sets only where they lie beside the project."""

import gzip
import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.toy import write_idx
from thesis_lib.datasets.cifar10 import CLASSES, read_cifar10
from thesis_lib.datasets.mnist import read_idx, read_mnist
from thesis_lib.errors import ThesisError
from thesis_lib.pairwise.parameters import PicturesParameters
from thesis_lib.pairwise.pictures import missing, read_set

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def write_mnist(folder: Path, packed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True)
    pictures, labels = np.arange(6 * 28 * 28).reshape(6, 28, 28) % 251, np.array([5, 0, 4, 1, 9, 2])
    end = ".gz" if packed else ""
    for split in ("train", "t10k"):
        write_idx(folder / f"{split}-images-idx3-ubyte{end}", pictures, packed)
        write_idx(folder / f"{split}-labels-idx1-ubyte{end}", labels, packed)
    return pictures, labels


@pytest.mark.parametrize(("inside", "packed"), [(".", False), ("mnist", True), ("MNIST/raw", False)])
def test_mnist_is_found_and_read(tmp_path, inside, packed):
    pictures, labels = write_mnist(tmp_path / "data" / inside, packed)
    found = read_mnist(tmp_path / "data")
    assert found.train.shape == (6, 1, 28, 28) and np.array_equal(found.test[:, 0].numpy(), pictures)
    assert found.train_labels.tolist() == labels.tolist() and found.classes[4] == "4"


def test_damaged_idx_files_are_named(tmp_path):
    good = tmp_path / "good"
    write_idx(good, np.zeros((3, 4)))
    content = good.read_bytes()
    packed = gzip.compress(content)
    others = {"short": content[:-1], "empty": b"", "cut": packed[:-6], "floats": b"\x00\x00\x0d\x01" + content[4:]}
    for name, bad in others.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(ThesisError, match=f"{name} is no .*idx file"):
            read_idx(tmp_path / name)
    with pytest.raises(ThesisError, match="No such file"):
        read_idx(tmp_path / "none")


def test_absent_sets_say_what_to_do(tmp_path):
    with pytest.raises(ThesisError, match=r"MNIST is not in .*--set data.root=/path/to/it"):
        read_mnist(tmp_path)
    with pytest.raises(ThesisError, match=r"CIFAR-10 is not in .*--set data.root=/path/to/it"):
        read_cifar10(tmp_path)
    asked = PicturesParameters(root=str(tmp_path))
    sentences = missing(asked)
    assert len(sentences) == 2 and all("--set data.sets=[parts]" in sentence for sentence in sentences)
    with pytest.raises(ThesisError, match=r"or take the bundled parts: --set data.sets=\[parts\]"):
        read_set("mnist", asked, tmp_path)
    assert missing(PicturesParameters(sets=["parts"], root=str(tmp_path))) == missing(PicturesParameters()) == []


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    import torchvision.datasets

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, read in (("MNIST", read_mnist), ("CIFAR10", read_cifar10)):
        monkeypatch.setattr(torchvision.datasets, name, refuse)
        with pytest.raises(ThesisError, match=r"\(no route to host\): give .* --set data.root=/path/to/it"):
            read(None)


def write_sheets(folder: Path) -> np.ndarray:
    """One sheet of 1,000 flat pictures, and 20 test pictures as JPEG files in an archive."""
    folder.mkdir()
    pictures = np.zeros((1000, 32, 32, 3), np.uint8)
    pictures[..., 0] = (np.arange(1000) % 250)[:, None, None]
    pictures[..., 1] = (np.arange(1000) // 250 * 60)[:, None, None]
    sheet = pictures.reshape(25, 40, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(800, 1280, 3)
    Image.fromarray(sheet).save(folder / "train_00.webp", lossless=True, quality=0)
    np.save(folder / "train_labels.npy", (np.arange(1000) % 10).astype(np.uint8))
    labels = np.array([3, 3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 0, 1, 2, 4, 5, 6, 7, 8, 9], np.uint8)
    np.save(folder / "test_labels.npy", labels)
    with tarfile.open(folder / "test_jpeg_q75.tar.xz", "w:xz") as archive:
        for place in np.argsort(labels, kind="stable"):
            number = int((labels[:place] == labels[place]).sum())
            content = io.BytesIO()
            Image.new("RGB", (32, 32), (12 * int(place), 0, 0)).save(content, "JPEG", quality=75)
            member = tarfile.TarInfo(f"test/{CLASSES[labels[place]]}/{number:04d}.jpg")
            member.size = len(content.getvalue())
            archive.addfile(member, io.BytesIO(content.getvalue()))
    return pictures


def test_cifar_sheets_and_jpeg_test_pictures_come_in_official_order(tmp_path):
    pictures = write_sheets(tmp_path / "cifar10")
    with pytest.warns(UserWarning, match="test pictures are JPEG files"):
        found = read_cifar10(tmp_path)
    assert np.array_equal(found.train.permute(0, 2, 3, 1).numpy(), pictures)
    assert found.train_labels[:3].tolist() == [0, 1, 2] and found.test_labels[:3].tolist() == [3, 3, 0]
    red = found.test[:, 0].float().mean((1, 2)).numpy()
    assert np.abs(red - 12 * np.arange(20)).max() < 4
    (tmp_path / "cifar10" / "test_jpeg_q75.tar.xz").write_bytes(b"no archive")
    with pytest.raises(ThesisError, match=r"test_jpeg_q75\.tar\.xz does not hold"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_cifar10(tmp_path)


def test_a_cifar_sheet_missing_before_others_is_named(tmp_path):
    write_sheets(tmp_path / "cifar10")
    (tmp_path / "cifar10" / "train_00.webp").rename(tmp_path / "cifar10" / "train_01.webp")
    with pytest.raises(ThesisError, match=r"train_00\.webp is missing and sheets behind it are there"):
        read_cifar10(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="MNIST does not lie beside the project")
def test_the_real_mnist():
    found = read_mnist(SHARED)
    assert found.train.shape == (60_000, 1, 28, 28) and found.test.shape == (10_000, 1, 28, 28)
    assert found.train_labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
