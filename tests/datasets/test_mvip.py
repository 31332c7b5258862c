import json
import warnings
from pathlib import Path

import pytest
from PIL import Image

from thesis_lib.datasets import few_shot, read_mvip, view_sets
from thesis_lib.datasets.mvip import read_meta
from thesis_lib.errors import ThesisError


def test_one_row_a_view_without_background_mean_depth_or_mask(mvip):
    table = read_mvip(mvip)
    assert list(table["class_name"].unique()) == ["caliper_c", "drill_d", "generator_a", "starter_b"]
    one = table[table["class_name"] == "drill_d"]
    assert one.groupby("split").size().to_dict() == {"train": 8, "valid": 2, "test": 2}
    assert (
        one["source_id"].str.fullmatch(r"drill_d/(train_data/[01]/[01]|(valid|test)_data/0)/cam_0[12]/0[12]_rgb").all()
    )
    assert all(Path(path).is_file() and Path(path).name.endswith("_rgb.png") for path in table["path"])
    train = one[one["split"] == "train"]
    assert sorted(set(train["set"])) == ["0_0", "0_1", "1_0", "1_1"] and set(train["view"]) == {"cam_01", "cam_02"}
    assert set(one["capture_group"]) == {
        *("drill_d/train/" + s for s in train["set"]),
        "drill_d/valid/0",
        "drill_d/test/0",
    }
    assert all(len(rows) == 2 for rows in view_sets(table).values())


def test_single_pictures_may_be_webp_and_field_is_a_split(tmp_path, draw_part, draw_view):
    part = draw_part(tmp_path, "a")
    draw_view(part / "field_data" / "0", 3, "webp")
    table = read_mvip(tmp_path)
    (field,) = table[table["split"] == "field"].to_dict("records")
    assert field["source_id"] == "a/field_data/0/cam_03/03_rgb" and field["mask_path"].endswith("03_rgb_mask_gen.png")
    assert (field["capture_group"], field["set"], field["view"]) == ("a/field/0", "0", "cam_03")
    assert "attributes" not in table  # no class describes itself


def test_super_class_in_all_its_spellings(mvip):
    expected = ["caliper_c", "generator_a", "starter_b"]
    for name in ("CarComponent", "CarComponents"):
        table = read_mvip(mvip, super_class=name)
        assert list(table["class_name"].unique()) == expected and list(table["label"].unique()) == [0, 1, 2]
    assert list(read_mvip(mvip, super_class="Tool")["class_name"].unique()) == ["drill_d"]
    assert list(read_mvip(mvip, "CarComponent", 2)["class_name"].unique()) == expected[:2]
    with pytest.raises(
        ThesisError, match="no super class Engine; there are: CarComponent, Drill, Generator, Starter, Tool"
    ):
        read_mvip(mvip, super_class="Engine")


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [(n, "CarComponent") for n in ("Generator", "Starter", "CommonRailInjector", "Caliper", "Servopump")]
    + [("MassAirFlowMeter", "CarComponent"), ("Screw", "MetalPart")]
    + [(n, "Tool") for n in ("Tongs", "Screwdriver", "Wrench", "Drill")],
)
def test_a_narrower_name_implies_the_wider(tmp_path, narrow, wide):
    (tmp_path / "meta.json").write_text(json.dumps({"super_class": [narrow]}))
    assert read_meta(tmp_path / "meta.json") == {"super_class": sorted([narrow, wide])}


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, {}),
        ({"super_class": [], "description": None}, {}),
        ({"super_class": "Screw", "description": ["a", "list"]}, {"super_class": ["MetalPart", "Screw"]}),
        ({"description": {"SuperClasses": ["CarComponent"], "Shape": "Edges"}}, {"Shape": ["Edgy"]}),
        (
            {
                "description": {
                    "Material": ["Iro", "Steel"],
                    "Colour": "silver",
                    "Gloss": ["high"],
                    "Weight": "no weight",
                }
            },
            {"Material": ["Iron", "Steel"], "Colour": ["Grey"], "Gloss": ["High"], "Weight": ["Light"]},
        ),
        ({"size": [1, 2, 3], "weight": 0.0}, {"size_mm": [1, 2, 3], "weight_kg": 0.0}),
        ({"description": {"Holes": 4, "Note": None}}, {"Holes": [4], "Note": []}),
    ],
)
def test_meta_is_mended(tmp_path, meta, expected):
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    assert read_meta(tmp_path / "meta.json") == expected


def test_attributes_stand_in_a_column(mvip):
    table = read_mvip(mvip)
    of = {name: json.loads(rows["attributes"].iloc[0]) for name, rows in table.groupby("class_name")}
    assert of["generator_a"] == {"super_class": ["CarComponent", "Generator"], "size_mm": [1, 2, 3], "weight_kg": 0.5}
    assert of["drill_d"] == {"super_class": ["Drill", "Tool"], "Material": ["Iron", "Steel"]}
    assert of["caliper_c"] == {"super_class": ["CarComponent"]}


def test_missing_masks_are_counted_once(mvip):
    for name in ("caliper_c", "drill_d"):
        (mvip / name / "test_data/0/cam_01/01_rgb_mask_gen.png").unlink()
    with pytest.warns(
        UserWarning, match="2 of 48 pictures have no mask, caliper_c/test_data/0/cam_01/01_rgb first"
    ) as found:
        table = read_mvip(mvip)
    assert len(found) == 1 and (table["mask_path"] == "").sum() == 2


def test_fewer_classes_than_asked_is_a_warning(mvip):
    with pytest.warns(UserWarning, match="20 classes were asked for, there are 3"):
        assert read_mvip(mvip, "CarComponent", 20)["class_name"].nunique() == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_mvip(mvip, "CarComponent", 3)


def test_bad_input_gets_one_sentence(mvip, draw_part, draw_view):
    with pytest.raises(ThesisError, match="nowhere is no folder"):
        read_mvip(mvip / "nowhere")
    with pytest.raises(ThesisError, match="has no class folders"):
        read_mvip(mvip / "drill_d/test_data/0/cam_01")
    (mvip / "empty").mkdir()
    with pytest.raises(ThesisError, match="class empty has no training pictures"):
        read_mvip(mvip)
    assert read_mvip(mvip, "Tool")["class_name"].unique() == ["drill_d"]  # not chosen, not in the way
    draw_view(mvip / "empty/train_data/background/0")
    draw_view(mvip / "empty/test_data/0")
    with pytest.raises(ThesisError, match="class empty has no training pictures"):
        read_mvip(mvip)
    (mvip / "empty/meta.json").write_text("{")
    with pytest.raises(ThesisError, match=r"empty/meta\.json is not valid JSON"):
        read_mvip(mvip)
    (mvip / "empty/meta.json").write_text("[]")
    with pytest.raises(ThesisError, match="is no JSON object"):
        read_mvip(mvip)


def test_an_unsafe_class_name_is_refused(tmp_path, draw_part):
    draw_part(tmp_path, "pump (old)")
    with pytest.raises(ThesisError, match=r"'pump \(old\)' is not safe in paths: rename"):
        read_mvip(tmp_path)


def test_one_picture_in_two_formats_is_refused(tmp_path, draw_part, draw_view):
    draw_view(draw_part(tmp_path, "a") / "test_data/0", 1, "webp")
    with pytest.raises(ThesisError, match="a/test_data/0/cam_01/01_rgb is there twice"):
        read_mvip(tmp_path)


def test_erratum_10_the_order_of_listing_changes_nothing(mvip, request):
    first = read_mvip(mvip, "CarComponent", 2)
    request.getfixturevalue("backwards")
    again = read_mvip(mvip, "CarComponent", 2)
    assert again.equals(first) and few_shot(again, 3, 7).equals(few_shot(first, 3, 7))


def test_erratum_11_every_mask_is_its_pictures_own(mvip, draw_view, request):
    request.getfixturevalue("backwards")
    for camera in (3, 4):
        draw_view(mvip / "drill_d/train_data/0/0", camera, mask=camera == 4)
    with pytest.warns(UserWarning, match="1 of 50"):
        table = read_mvip(mvip)
    for row in table[table["mask_path"] != ""].itertuples():
        assert row.mask_path == row.path.replace("_rgb.png", "_rgb_mask_gen.png")
        assert Image.open(row.mask_path).size == Image.open(row.path).size


def test_erratum_12_a_class_is_a_folder_and_no_part_of_a_path(tmp_path, draw_part):
    root = tmp_path / "bolt" / "sets"  # the root's own path contains a class's name
    for name in ("bolt", "bolt_m12", "nut"):
        draw_part(root, name)
    table = read_mvip(root)
    assert table.groupby("class_name").size().to_dict() == {"bolt": 12, "bolt_m12": 12, "nut": 12}
    assert (table["source_id"].str.split("/").str[0] == table["class_name"]).all()
