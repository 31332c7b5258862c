from pathlib import Path

import pytest

from thesis_lib.datasets import few_shot, read_folder, read_folder_ood
from thesis_lib.errors import ThesisError
from thesis_lib.sections import FolderParameters

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos"


@pytest.fixture
def eth(tmp_path, draw):
    """Four categories of five objects of three views, as ETH-80 lays them out."""
    root = tmp_path / "eth"
    for name in ("cup", "apple", "dog", "pear"):
        for item in range(1, 6):
            for view in ("000-000", "066-027", "090-000"):
                stem = f"{name}{item}-{view}"
                draw(root / "images" / name / f"{stem}.jpg", root / "masks" / name / f"{stem}.png")
    return root


@pytest.fixture
def plain(tmp_path, draw):
    """Three class folders of ten pictures in every format."""
    root = tmp_path / "plain"
    for name in ("watch", "anchor", "lamp"):
        for i in range(10):
            draw(root / name / f"image_{i:04d}.{('jpg', 'jpeg', 'png', 'webp', 'BMP')[i % 5]}")
        (root / name / "notes.txt").touch()
    return root


def test_whole_objects_go_to_one_split(eth):
    table = read_folder(eth)
    assert list(table["class_name"].unique()) == ["apple", "cup", "dog", "pear"]
    assert (table.groupby("capture_group")["split"].nunique() == 1).all()
    objects = table.groupby(["class_name", "split"])["set"].nunique().unstack()
    assert (objects == {"train": 2, "valid": 1, "test": 2}).all(axis=None)
    row = table[table["source_id"] == "cup/cup3-066-027"].iloc[0]
    assert (row["capture_group"], row["set"], row["view"]) == ("cup/cup3", "cup3", "066-027")
    assert Path(row["mask_path"]) == eth / "masks/cup/cup3-066-027.png" and Path(row["mask_path"]).is_file()
    assert few_shot(table, 4, 0).groupby("class_name")["set"].nunique().eq(2).all()


def test_the_seed_divides_and_nothing_else_does(eth, request):
    first = read_folder(eth)
    assert not read_folder(eth, FolderParameters(seed=1))["split"].equals(first["split"])
    fewer = read_folder(eth, FolderParameters(ood_near=["apple"]))
    assert list(fewer["split"]) == list(first["split"][first["class_name"] != "apple"])
    request.getfixturevalue("backwards")
    assert read_folder(eth).equals(first)


def test_random_division_of_plain_class_folders(plain):
    table = read_folder(plain, FolderParameters(split_by="random"), num_classes=2)
    assert list(table["class_name"].unique()) == ["anchor", "lamp"] and (table["mask_path"] == "").all()
    counts = table.groupby(["class_name", "split"]).size().unstack()
    assert (counts == {"train": 5, "valid": 2, "test": 3}).all(axis=None)
    assert table["capture_group"].is_unique and table["source_id"].iloc[0] == "anchor/image_0000"
    no_valid = read_folder(plain, FolderParameters(split_by="random", valid_share=0, test_share=0.5))
    assert no_valid.groupby("split").size().to_dict() == {"train": 15, "test": 15}


def test_held_out_classes_and_a_second_folder_are_ood(eth, plain):
    options = FolderParameters(ood_near=["pear", "dog"], ood_far=str(plain), ood_far_per_class=4)
    assert list(read_folder(eth, options)["class_name"].unique()) == ["apple", "cup"]
    table = read_folder_ood(eth, options)
    assert (table["label"] == -1).all() and table["source_id"].is_unique
    assert table.groupby(["set", "class_name", "split"]).size().to_dict() == {
        ("near", "dog", "test"): 15,
        ("near", "pear", "valid"): 15,
        ("far", "anchor", "test"): 4,
        ("far", "lamp", "valid"): 4,
        ("far", "watch", "test"): 4,
    }
    assert table["mask_path"][table["set"] == "near"].str.endswith(".png").all()
    assert read_folder_ood(eth, FolderParameters()) is None
    same = read_folder_ood(eth, FolderParameters(ood_near=["dog"], ood_far=str(eth / "images")))
    some = read_folder_ood(eth, FolderParameters(ood_far=str(plain), ood_far_classes=["watch", "anchor"]))
    assert some.groupby("class_name")["split"].first().to_dict() == {"anchor": "test", "watch": "valid"}
    with pytest.raises(ThesisError, match=r"ood_far_classes: .* has no cup; there are: anchor, lamp, watch"):
        read_folder_ood(eth, FolderParameters(ood_far=str(plain), ood_far_classes=["cup"]))
    assert same["source_id"].is_unique  # a far class may have a near one's name


def test_bad_input_gets_one_sentence(eth, plain, tmp_path):
    with pytest.raises(ThesisError, match="has no horse; there are: apple, cup, dog, pear"):
        read_folder(eth, FolderParameters(ood_near=["horse"]))
    with pytest.raises(ThesisError, match="has no horse"):
        read_folder_ood(eth, FolderParameters(ood_near=["horse"]))
    with pytest.raises(
        ThesisError, match=r"image_0000\.jpg: dividing by object needs file names such as cup3-066\.jpg"
    ):
        read_folder(plain)
    with pytest.raises(ThesisError, match=r"5 objects are too few for 3 in valid, 2 in test.*split_by=random"):
        read_folder(eth, FolderParameters(valid_share=0.6))
    with pytest.raises(ThesisError, match="no folder"):
        read_folder(tmp_path / "missing")
    with pytest.raises(ThesisError, match="no folder"):
        read_folder_ood(eth, FolderParameters(ood_far=str(tmp_path / "missing")))
    with pytest.raises(ThesisError, match="has no class folders"):
        read_folder(plain / "lamp")
    (plain / "zebra").mkdir()
    with pytest.raises(ThesisError, match="class zebra has no pictures"):
        read_folder(plain, FolderParameters(split_by="random"))
    (plain / "zébra").mkdir()
    with pytest.raises(ThesisError, match="not safe in paths"):
        read_folder(plain, FolderParameters(split_by="random"))
    (plain / "masks").mkdir()
    with pytest.raises(ThesisError, match=r"masks would be a class: move the class folders into .*images"):
        read_folder(plain)
    (eth / "masks").rename(eth / "kept")
    (eth / "masks").mkdir()
    with pytest.raises(ThesisError, match=r"no mask of any picture.*masks/CLASS/NAME\.png"):
        read_folder(eth)
    (eth / "masks").rmdir()
    (eth / "kept").rename(eth / "masks")
    with pytest.warns(UserWarning, match="9 classes were asked for, there are 4"):
        read_folder(eth, num_classes=9)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs of ../shared/data are not there")
def test_real_photographs():
    far = PHOTOS / "caltech101_25"
    options = FolderParameters(ood_near=["pear", "dog"], ood_far=str(far))
    table, ood = read_folder(PHOTOS / "eth80", options), read_folder_ood(PHOTOS / "eth80", options)
    assert table.groupby("class_name").size().to_dict() == dict.fromkeys(
        ("apple", "car", "cow", "cup", "horse", "tomato"), 410
    )
    assert (table["mask_path"] != "").all() and (table.groupby("capture_group")["split"].nunique() == 1).all()
    assert ood.groupby("set").size().to_dict() == {"far": 250, "near": 820}
    assert read_folder(far, FolderParameters(split_by="random"))["class_name"].nunique() == 25
