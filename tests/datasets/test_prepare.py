import os
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from thesis_lib.datasets import prepare_data, read_tables
from thesis_lib.errors import ThesisError
from thesis_lib.sections import CropParameters, DataParameters, FolderParameters
from thesis_lib.tensors import load_tensors


@pytest.fixture
def parts(tmp_path, draw, draw_part):
    """A folder like the bundled parts: two classes, OOD and oracle."""
    root = tmp_path / "parts"
    for name in ("a", "b"):
        draw_part(root / "sets", name, {"super_class": ["Screw"]})
    for part in ("ood/near/x", "ood/far/y", "oracle/id/a", "oracle/id/b", "oracle/near_ood/b"):
        draw(root / part / "00_rgb.webp", root / part / "00_rgb_mask_gen.png")
    return root


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_everything_is_written_and_read_back(parts, tmp_path):
    data = DataParameters(root=str(parts))
    first = prepare_data(data, 16, tmp_path / "data")
    assert first.classes == ["a", "b"] and first.images.pictures.shape == (24, 3, 16, 16)
    assert first.ood.table["set"].tolist() == ["far", "near"] and first.oracle.table["label"].tolist() == [0, 1, 1]
    written = stamps(tmp_path / "data")
    assert sorted(written) == sorted(
        f"{n}.{e}" for n in ("images", "ood", "oracle") for e in ("parquet", "crops.safetensors")
    )
    again = prepare_data(data, 16, tmp_path / "data")
    assert stamps(tmp_path / "data") == written
    for name in ("images", "ood", "oracle"):
        one, two = getattr(first, name), getattr(again, name)
        assert torch.equal(one.pictures, two.pictures) and torch.equal(one.masks, two.masks)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "data" / f"{name}.parquet"), two.table)


def test_fewer_classes_keep_ood_and_restrict_the_oracle(parts):
    images, ood, oracle = read_tables(DataParameters(root=str(parts), num_classes=1))
    assert set(images["class_name"]) == {"a"} and len(ood) == 2 and oracle["class_name"].tolist() == ["a"]
    assert set(read_tables(DataParameters(root=str(parts), super_class="MetalPart"))[0]["class_name"]) == {"a", "b"}


def test_a_changed_picture_parameter_or_size_is_cropped_anew(parts, tmp_path):
    data, folder = DataParameters(root=str(parts)), tmp_path / "data"
    first = prepare_data(data, 16, folder).images
    path = Path(first.table["path"][5])
    Image.new("RGB", Image.open(path).size, (1, 2, 3)).save(path)
    os.utime(path, ns=(0, 12345))
    changed = prepare_data(data, 16, folder).images
    assert not torch.equal(changed.pictures[5], first.pictures[5])
    assert torch.equal(changed.pictures[:5], first.pictures[:5])
    wide = prepare_data(data.model_copy(update={"crop": CropParameters(margin=0.5)}), 16, folder).images
    assert wide.masks.sum() < changed.masks.sum()
    assert prepare_data(data, 24, folder).images.pictures.shape[-1] == 24
    (folder / "images.parquet").unlink()
    assert len(prepare_data(data, 24, folder).images.table) == len(pd.read_parquet(folder / "images.parquet"))


def test_a_broken_picture_leaves_what_was_there(parts, tmp_path):
    data, folder = DataParameters(root=str(parts)), tmp_path / "data"
    path = Path(prepare_data(data, 16, folder).images.table["path"][5])
    before = load_tensors(folder / "images.crops.safetensors")[1]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ThesisError, match=f"{path} cannot be decoded"):
        prepare_data(data, 16, folder)
    assert load_tensors(folder / "images.crops.safetensors")[1] == before
    assert not list(folder.glob(".*"))


def test_the_other_readers(mvip, tmp_path, draw):
    data = DataParameters(reader="mvip", root=str(mvip), super_class="CarComponent", crop=CropParameters(dilation=2))
    prepared = prepare_data(data, 8, tmp_path / "mvip")
    assert prepared.classes == ["caliper_c", "generator_a", "starter_b"] and prepared.ood is prepared.oracle is None
    for name in ("a", "b", "c"):
        for i in range(6):
            draw(tmp_path / "plain" / name / f"{i}.jpg")
    options = FolderParameters(split_by="random", ood_near=["b"])
    data = DataParameters(reader="folder", root=str(tmp_path / "plain"), folder=options)
    with pytest.warns(UserWarning, match="12 of 12 pictures have no mask"):
        prepared = prepare_data(data, 8, tmp_path / "folder")
    assert prepared.classes == ["a", "c"] and set(prepared.ood.table["class_name"]) == {"b"} and prepared.oracle is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said when cropping, not when reading the cache
        prepare_data(data, 8, tmp_path / "folder")
    with pytest.raises(ThesisError, match=r"data\.super_class is for the readers mvip and parts"):
        read_tables(data.model_copy(update={"super_class": "Tool"}))


def test_a_data_set_without_ood_has_none(mvip):
    images, ood, oracle = read_tables(DataParameters(root=str(mvip.parent)))
    assert images["class_name"].nunique() == 4 and ood is None and oracle is None


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(ThesisError, match="sets is no folder: give a folder with sets inside"):
        read_tables(DataParameters(root=str(tmp_path / "missing")))
