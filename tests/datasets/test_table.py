from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_lib.datasets import few_shot, view_sets
from thesis_lib.datasets.table import COLUMNS, build_table, check_name, data_root, subfolders
from thesis_lib.errors import ThesisError


def table_of(groups: dict[str, list[int]]) -> pd.DataFrame:
    """A table with classes of capture groups with so many training pictures, and a test picture a class."""
    rows = []
    for label, (name, sizes) in enumerate(sorted(groups.items())):
        places = [(f"g{g}", "train", i) for g, n in enumerate(sizes) for i in range(n)] + [("t", "test", 0)]
        rows += [
            {
                "path": f"/data/{name}/{group}/{i}.png",
                "mask_path": "",
                "class_name": name,
                "label": label,
                "split": split,
                "source_id": f"{name}/{group}/{i}",
                "capture_group": f"{name}/{group}",
                "view": str(i),
                "set": group,
            }
            for group, split, i in places
        ]
    return build_table(rows, Path("/data"))


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@given(groups=st.dictionaries(st.sampled_from("abcd"), sizes, min_size=1), seed=st.integers(0, 99), data=st.data())
def test_few_shot_takes_as_many_of_every_class_and_spreads_them(groups, seed, data):
    table = table_of(groups)
    shots = data.draw(st.integers(1, min(sum(n) for n in groups.values())))
    chosen = few_shot(table, shots, seed)
    assert (chosen.groupby("class_name").size() == shots).all() and chosen["class_name"].nunique() == len(groups)
    assert (chosen["split"] == "train").all() and chosen.equals(table.loc[chosen.index])
    for name, rows in chosen.groupby("class_name"):
        taken = rows.groupby("capture_group").size()
        assert len(taken) == min(shots, len(groups[name]))
        for group, n in enumerate(groups[name]):  # a group lags behind the fullest only when it is used up
            assert taken.get(f"{name}/g{group}", 0) >= min(n, taken.max() - 1)


def test_few_shot_depends_on_seed_and_pictures_only():
    table = table_of({"a": [4, 4, 4, 4], "b": [4, 4, 4, 4]})
    chosen = few_shot(table, 4, 0)
    assert list(chosen.index) == PINNED
    assert list(few_shot(table, 4, 1).index) != PINNED
    moved = table.assign(path="/elsewhere" + table["path"])
    assert list(few_shot(moved, 4, 0)["source_id"]) == list(chosen["source_id"])
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    assert set(few_shot(shuffled, 4, 0)["source_id"]) == set(chosen["source_id"])
    alone = few_shot(table[table["class_name"] == "b"], 4, 0)
    assert list(alone["source_id"]) == list(chosen["source_id"][chosen["class_name"] == "b"])
    assert set(chosen.index) <= set(few_shot(table, 7, 0).index)


PINNED = [2, 5, 11, 12, 17, 22, 25, 31]  # what every machine must choose


def test_erratum_13_every_class_gets_its_shots_however_many_pictures_others_have():
    chosen = few_shot(table_of({"a": [32], "b": [64], "c": [200]}), 32, 0)
    assert chosen.groupby("class_name").size().tolist() == [32, 32, 32]


def test_few_shot_names_the_class_that_has_too_few():
    with pytest.raises(ThesisError, match=r"class b has 3 training pictures, data\.shots asks for 4"):
        few_shot(table_of({"a": [5], "b": [1, 2]}), 4, 0)
    only_test = table_of({"a": [5]}).query("split == 'test'")
    with pytest.raises(ThesisError, match="class a has 0 training pictures"):
        few_shot(only_test, 1, 0)


def test_build_table_sorts_completes_and_checks():
    table = table_of({"b": [1], "a": [2]})
    assert list(table.columns) == list(COLUMNS) and isinstance(table.index, pd.RangeIndex)
    assert list(table["label"]) == [0, 0, 0, 1, 1] and (table["kind"] == "real").all()
    with pytest.raises(ThesisError, match="has no pictures"):
        build_table([], Path("/data"))
    rows = table.to_dict("records")
    with pytest.raises(ThesisError, match="a/g0/0 is there twice"):
        build_table([*rows, rows[0]], Path("/data"))


def test_view_sets_group_the_views_of_one_set_up():
    sets = view_sets(table_of({"a": [3, 2], "b": [1]}))
    assert {name: list(rows["view"]) for name, rows in sets.items()} == {
        "a/g0": ["0", "1", "2"],
        "a/g1": ["0", "1"],
        "a/t": ["0"],
        "b/g0": ["0"],
        "b/t": ["0"],
    }


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\n", "-rf", " a", "bär", "a:b", "x" + chr(0)]
)
def test_names_that_could_lead_elsewhere_are_refused(name):
    with pytest.raises(ThesisError, match="not safe in paths"):
        check_name(name, Path("/data"))


@pytest.mark.parametrize("name", ["a", "DSUB-9_Female_P2.77x2.84mm", "0", "Common Rail 1.2", "_a"])
def test_ordinary_names_pass(name):
    assert check_name(name, Path("/data")) == name


def test_folders(tmp_path, backwards):
    for name in ("b", "a", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "c.txt").touch()
    assert [path.name for path in subfolders(tmp_path)] == ["a", "b"]
    assert subfolders(tmp_path / "none") == []
    with pytest.raises(ThesisError, match=r"missing is no folder: give that with --set data\.root"):
        data_root(tmp_path / "missing", "that")
