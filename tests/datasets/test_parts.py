import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from thesis_lib.datasets import PARTS_CORPUS, read_parts, read_parts_ood, read_parts_oracle
from thesis_lib.datasets.archive import pack_folder, unpack
from thesis_lib.datasets.parts import NEAR_VALID, PARTS_DATA
from thesis_lib.errors import ThesisError


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of the tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def test_the_bundled_classes(cache):
    table = read_parts()
    assert table["class_name"].nunique() == 20 and len(table) == 1580
    counts = table.groupby(["class_name", "split"]).size().unstack()
    assert (counts == {"train": 32, "valid": 15, "test": 20, "field": 12}).all(axis=None)
    assert (table["mask_path"] != "").all() and table["attributes"].str.contains("super_class").all()
    assert all(Path(path).is_relative_to(cache) for path in table["path"])
    train = table[table["split"] == "train"]
    assert (train.groupby("class_name")["capture_group"].nunique() == 8).all()
    assert Image.open(table["path"].iloc[-1]).size == (128, 128)
    assert read_parts(num_classes=3)["class_name"].unique().tolist() == sorted(table["class_name"].unique())[:3]
    assert read_parts(super_class="CarComponent")["class_name"].nunique() == 6


def test_the_bundled_ood_parts_are_divided_by_part():
    table = read_parts_ood()
    parts = table.groupby(["set", "split"])["class_name"].nunique().to_dict()
    assert parts == {("far", "test"): 12, ("far", "valid"): 7, ("near", "test"): 12, ("near", "valid"): 8}
    valid = table[(table["set"] == "near") & (table["split"] == "valid")]
    assert set(valid["class_name"]) == NEAR_VALID
    assert (table.groupby("class_name")["split"].nunique() == 1).all() and (table["label"] == -1).all()
    assert not set(table["class_name"]) & set(read_parts()["class_name"])


def test_the_bundled_oracle_has_the_classes_labels():
    table = read_parts_oracle()
    assert table.groupby("kind").size().to_dict() == {"id": 400, "near_ood": 280} and set(table["split"]) == {"oracle"}
    images = read_parts()
    assert dict(zip(table["class_name"], table["label"], strict=True)) == dict(
        zip(images["class_name"], images["label"], strict=True)
    )
    two = read_parts_oracle(classes=["piston", "bevel_gear"])
    assert two.groupby(["class_name", "label"]).size().to_dict() == {("piston", 0): 34, ("bevel_gear", 1): 34}


def test_the_corpus_is_a_closed_prior():
    corpus = pd.read_parquet(PARTS_CORPUS, columns=["part", "text"])
    closed = set(read_parts()["class_name"]) | set(read_parts_ood()["class_name"])
    assert len(corpus) == 8410 and not set(corpus["part"]) & closed


def test_a_folder_of_ones_own(tmp_path, draw, draw_part):
    draw_part(tmp_path / "sets", "a")
    for kind, part in (("near", "camshaft"), ("near", "x"), ("far", "y"), ("far", "z")):
        draw(tmp_path / "ood" / kind / part / "00_rgb.webp", tmp_path / "ood" / kind / part / "00_rgb_mask_gen.png")
    assert read_parts(tmp_path)["class_name"].unique().tolist() == ["a"]
    ood = read_parts_ood(tmp_path)
    assert dict(zip(ood["source_id"], ood["split"], strict=True)) == {
        "far/y/00_rgb": "valid",
        "far/z/00_rgb": "test",
        "near/camshaft/00_rgb": "valid",
        "near/x/00_rgb": "test",
    }
    with pytest.raises(ThesisError, match="oracle is no folder"):
        read_parts_oracle(tmp_path)


def test_every_packed_file_is_small_enough_and_described():
    sizes = {path.name: path.stat().st_size for path in PARTS_DATA.glob("*.parquet")}
    assert set(sizes) == {"sets.parquet", "ood.parquet", "oracle.parquet", "corpus.parquet"}
    assert max(sizes.values()) < 30e6 and "CC-BY-SA 4.0" in (PARTS_DATA / "README.md").read_text()


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_packing_and_unpacking_keep_every_byte(tmp_path, mvip, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "sets.parquet"
    digest = pack_folder(mvip, file)
    folder = unpack(file)
    assert folder.parent == tmp_path / "cache/thesis-lib" and folder.name == f"sets-{digest[:16]}"
    assert tree(folder) == tree(mvip) and [p.name for p in folder.parent.iterdir()] == [folder.name]
    stamps = {path: path.stat().st_ctime_ns for path in folder.rglob("*")}
    assert unpack(file) == folder and stamps == {path: path.stat().st_ctime_ns for path in folder.rglob("*")}
    before = file.read_bytes()
    assert pack_folder(folder, file) == digest and file.read_bytes() == before
    next(folder.rglob("*_rgb.png")).unlink()  # as a cleaner of caches would
    assert tree(unpack(file)) == tree(mvip)
    (mvip / "drill_d/meta.json").write_text("{}")
    assert pack_folder(mvip, file) != digest and unpack(file) != folder


def test_a_killed_or_beaten_unpacking_leaves_no_half_folder(tmp_path, mvip, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "sets.parquet"
    pack_folder(mvip, file)
    written, rename = Path.write_bytes, os.rename

    def full(self: Path, content: bytes) -> int:
        if "test_data" in self.parts:
            raise OSError(28, "No space left on device")
        return written(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ThesisError, match=r"cannot unpack sets\.parquet \(the disk is full\)"):
        unpack(file)
    assert list((tmp_path / "cache/thesis-lib").iterdir()) == []
    monkeypatch.setattr(Path, "write_bytes", written)

    def beaten(source: Path, target: Path) -> None:
        rename(source, target)  # the other process
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(os, "rename", beaten)
    assert tree(unpack(file)) == tree(mvip)


def test_bad_archives_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for content in (None, b"version https://git-lfs"):
        if content:
            (tmp_path / "sets.parquet").write_bytes(content)
        with pytest.raises(ThesisError, match=r"sets\.parquet is missing or damaged"):
            unpack(tmp_path / "sets.parquet")
    evil = pa.table({"path": ["../../evil"], "content": pa.array([b"x"], pa.binary())})
    pq.write_table(evil.replace_schema_metadata({"digest": "0" * 64}), tmp_path / "sets.parquet")
    with pytest.raises(ThesisError, match=r"unsafe path \.\./\.\./evil"):
        unpack(tmp_path / "sets.parquet")
    assert not list(tmp_path.rglob("evil"))
