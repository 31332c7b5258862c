import math
from typing import Any

import numpy as np
import pytest

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.hypotheses import HYPOTHESES, hypothesis_table
from thesis_lib.evaluation.statistics import paired_difference

WIGGLE = 0.002 * np.array([1, -1, 2, -2, 1, -1, 0, 0])
PARTS = 12


def result(top1: float, auroc: float, spread: float = 0.0) -> dict[str, Any]:
    """An arm with accuracies in four groups of 500 and 1000 pictures, and parts whose AUROCs differ by `spread`."""
    groups = {f"g{i}": [round(top1 * pictures), pictures] for i, pictures in enumerate((500, 1000, 1000, 500))}
    accuracy = sum(correct for correct, _ in groups.values()) / 3000
    parts = {f"p{i}": auroc + spread * (-1) ** i for i in range(PARTS)}
    knn = {"auroc": auroc, "parts": parts}
    splits = ("test", "field")
    return {
        "top1": dict.fromkeys(splits, accuracy),
        "auroc": {"near": {"knn": auroc}},
        "ood": {split: {"near": {"knn": knn}} for split in splits},
        "clusters": dict.fromkeys(splits, groups),
    }


def study(shift: dict[str, tuple[float, float]], seeds: int = 8, spread: float = 0.0) -> dict[str, dict[str, Any]]:
    """Arm -> seed -> result; an arm's shift of accuracy and AUROC differs a little from seed to seed."""
    return {
        arm: {
            str(seed): result(0.5 + 0.01 * seed + top1 * (1 + w), 0.7 + auroc * (1 + w), spread * bool(auroc))
            for seed, w in enumerate(np.resize(WIGGLE, seeds))
        }
        for arm, (top1, auroc) in shift.items()
    }


GOOD = {"real": (0, 0), "real_id": (0.1, 0), "real_id_nearood": (0.1, 0.1), "nearood_random": (0.1, 0.02)}


def verdicts(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    table = hypothesis_table(results)
    return dict(zip(table["name"], table["verdict"], strict=True))


def test_all_four_are_shown_with_eight_seeds() -> None:
    table = hypothesis_table(study(GOOD))
    assert table["name"].tolist() == ["H1", "H2", "H3", "H4"]
    assert table["verdict"].tolist() == ["shown"] * 4
    assert table["p"].tolist() == [2 / 256, 2 / 256, 1 / 256, 2 / 256]  # H3 is one-sided
    assert table["holm"].to_numpy() == pytest.approx([6 / 256, 6 / 256, 4 / 256, 6 / 256])
    assert table["clusters"].tolist() == [4, PARTS, 4, PARTS]
    assert table["mean"].to_numpy() == pytest.approx([0.1, 0.1, 0, 0.08], abs=1e-3)
    assert table["bound"].isna().tolist() == [True, True, False, True]


def test_a_one_sided_hypothesis_alone_is_described_with_five_seeds_as_all_others_are() -> None:
    alone = {arm: by_seed for arm, by_seed in study(GOOD, seeds=5).items() if arm in ("real_id", "real_id_nearood")}
    for by_seed in alone.values():
        for found in by_seed.values():
            found |= {"auroc": {}, "ood": {}}
    assert verdicts(alone) == {"H3": "descriptive"}


def test_the_numbers_are_those_of_the_paired_comparison_and_of_the_clusters() -> None:
    results = study(GOOD)
    row = hypothesis_table(results).iloc[0]
    first, second = ([results[arm][seed]["top1"]["field"] for seed in results[arm]] for arm in ("real_id", "real"))
    assert row[["mean", "low", "high", "p"]].tolist() == list(paired_difference(first, second)[:4])
    assert (
        row["cluster_low"] < row["mean"] < row["cluster_high"]
    )  # weighted by pictures, the clusters' mean is the same


def test_a_loss_is_the_opposite_and_equal_arms_show_nothing() -> None:
    bad = study({"real": (0.1, 0), "real_id": (0, 0.1), "real_id_nearood": (-0.1, 0), "nearood_random": (0, 0)})
    assert verdicts(bad) == {"H1": "opposite", "H2": "opposite", "H3": "opposite", "H4": "nothing"}
    assert verdicts(study(GOOD | {"real_id_nearood": (0.09, 0.1)}))["H3"] == "shown"  # 1 point less, 2 are tolerated
    assert verdicts(study(GOOD | {"real_id_nearood": (0.07, 0.1)}))["H3"] == "opposite"


def test_what_parts_disagree_on_is_shown_for_these_parts_only() -> None:
    results = study(GOOD, spread=0.4)
    table = hypothesis_table({arm: results[arm] for arm in ("real_id", "real_id_nearood")}).set_index("name")
    assert table.at["H2", "verdict"] == "shown_here"
    assert table.at["H2", "low"] > 0 > table.at["H2", "cluster_low"]
    for by_seed in results.values():
        for values in by_seed.values():
            del values["clusters"]
    assert verdicts(results)["H1"] == "shown_here"


def test_few_seeds_describe() -> None:
    assert set(verdicts(study(GOOD, seeds=6)).values()) == {"descriptive"}  # after Holm none of four could be shown
    assert verdicts(study({arm: GOOD[arm] for arm in ("real", "real_id")}, seeds=6)) == {"H1": "shown"}
    assert verdicts(study({arm: GOOD[arm] for arm in ("real", "real_id")}, seeds=5)) == {"H1": "descriptive"}
    assert set(verdicts(study(GOOD, seeds=7)).values()) == {"shown"}
    one = hypothesis_table(study(GOOD, seeds=1)).iloc[0]
    assert math.isnan(one["low"])
    assert math.isnan(one["cluster_low"])
    fewer = study(GOOD)
    fewer["nearood_random"] = dict(list(fewer["nearood_random"].items())[:7])  # seven are enough, but not all
    assert verdicts(fewer) == {"H1": "shown", "H2": "shown", "H3": "shown", "H4": "descriptive"}


def test_only_hypotheses_whose_arms_and_metrics_are_there() -> None:
    results = study({arm: GOOD[arm] for arm in ("real", "real_id")})
    assert list(verdicts(results)) == ["H1"]
    for by_seed in results.values():
        for values in by_seed.values():
            del values["top1"]["field"]
    assert hypothesis_table(results).empty
    assert {hypothesis.name for hypothesis in HYPOTHESES} == {"H1", "H2", "H3", "H4"}


def test_seeds_on_different_pictures_are_refused() -> None:
    results = study({arm: GOOD[arm] for arm in ("real", "real_id")})
    results["real"]["3"]["clusters"]["field"] = {"other": [1, 2]}
    with pytest.raises(ThesisError, match="one data set"):
        hypothesis_table(results)


def test_the_hypotheses_are_those_named_before_the_run() -> None:
    assert [tuple(hypothesis) for hypothesis in HYPOTHESES] == [
        ("H1", "real_id", "real", "top1/field", 0.0),
        ("H2", "real_id_nearood", "real_id", "auroc/near/knn", 0.0),
        ("H3", "real_id_nearood", "real_id", "top1/test", 0.02),
        ("H4", "real_id_nearood", "nearood_random", "auroc/near/knn", 0.0),
    ]
