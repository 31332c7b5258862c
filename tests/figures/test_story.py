import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.figures.made_up import PLACES
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.hypotheses import hypothesis_table
from thesis_lib.figures.story import collect_metrics, say, seed_note
from thesis_lib.figures.surface import surface_table
from thesis_lib.figures.tables import tidy_metrics
from thesis_lib.randomness import numpy_generator

FOUR = ["real", "real_id", "real_id_nearood", "cross_entropy"]


def answers(results: dict[str, dict[str, Any]], places: dict[str, tuple[int, int]] | None = None) -> list[str]:
    table = tidy_metrics(results)
    surface = surface_table(table, places or {}, ["auroc/near/knn", "top1/test"])
    return say(table, hypothesis_table(results), surface)


def made(shifts: dict[str, tuple[float, float]], seeds: int = 8) -> dict[str, dict[str, Any]]:
    """Arm -> (accuracy, near-OOD AUROC), the same in every seed but for a little spread."""

    def result(top1: float, auroc: float, arm: str, seed: int) -> dict[str, Any]:
        top1 += 0.002 * numpy_generator(seed, arm).normal()
        parts = {f"p{i}": auroc + i / 100 for i in range(3)}
        knn = {"auroc": auroc + 0.01, "parts": parts}
        return {
            "top1": {"test": top1, "field": top1}, "auroc": {"near": {"knn": auroc + 0.01}},
            "ood": {"test": {"near": {"knn": knn}}},
            "clusters": {s: {f"g{i}": [1000 * top1, 1000] for i in range(5)} for s in ("test", "field")},
        }  # fmt: skip

    return {arm: {str(s): result(*values, arm, s) for s in range(seeds)} for arm, values in shifts.items()}


def without(results: dict[str, dict[str, Any]], *gone: str) -> dict[str, dict[str, Any]]:
    """The same run on data without `field`, `ood` or both."""
    copy = json.loads(json.dumps(results))
    for values in (values for by_seed in copy.values() for values in by_seed.values()):
        if "ood" in gone:
            values.update(ood={}, thesis_confidence={})
            for key in ("auroc", "auroc_field"):
                values.pop(key, None)
        if "field" in gone:
            for key in ("top1", "clusters", "classification", "ood"):
                values.get(key, {}).pop("field", None)
            values.pop("auroc_field", None)
    return copy


def test_the_whole_experiment(results) -> None:
    said = answers(results, PLACES)
    assert [text.split(",")[0].split(" ")[0] for text in said] == ["Do", "Do", "First", "Second", "Third", "The"]
    verdict = hypothesis_table(results).set_index("name")["verdict"]
    assert verdict["H2"] == "shown"
    assert "For rejection: Yes. Near-OOD AUROC" in said[1]
    assert "8 seeds" in said[0]
    assert "3 seeds), which only describes" in said[0]  # real_strong is exploratory
    assert "filler" in said[1]
    assert "Perfect pictures help, and more than the generated ones" in said[2]
    assert "From 1 to 4 near-OOD pictures a class and batch" in said[3]
    assert re.search(r"Over 4 combinations .* above zero in \d and below in \d; chance alone gives 0.1 each", said[4])


def test_numbers_in_the_text_are_the_runs(results) -> None:
    row = hypothesis_table(results).set_index("name").loc["H1"]
    piece = (
        f"+{100 * row['mean']:.1f} points (95 % interval [{100 * row['low']:.1f}, {100 * row['high']:.1f}], 8 seeds)"
    )
    assert piece in answers(results)[0]


def test_quickstart_one_seed_four_arms(results) -> None:
    one = {arm: {"0": results[arm]["0"]} for arm in FOUR[:3]} | {"cross_entropy": {"0": results["real_id"]["0"]}}
    first, second = answers(one)
    for text in (first, second):
        assert "Too few seeds to say" in text
        assert "one seed, which says nothing about spread" in text
        assert "interval" not in text


def test_photos_without_field_and_three_seeds(results) -> None:
    three = {arm: dict(list(results[arm].items())[:3]) for arm in FOUR[:3]}
    first, second = answers(without(three, "field"))
    assert "field" not in first + second
    assert "Too few seeds" in first
    assert "Near-OOD AUROC" in second


def test_no_ood_at_all(results) -> None:
    first, second, compression, last = answers(without({arm: results[arm] for arm in FOUR[:3]}, "field", "ood"))
    assert "AUROC" not in first + second
    assert "Rejection cannot be measured" in second
    assert "that it costs no more than 2 points was shown" in second
    assert "speaks against it" in compression
    assert "not corrected" in last


def test_arms_that_cannot_be_compared_are_named(results) -> None:
    first, second = answers({"real": results["real"], "cross_entropy": results["real_id"]})
    assert "cannot say" in first
    assert "cannot say" in second


def test_equal_arms_show_nothing_and_worse_ones_the_opposite() -> None:
    equal = answers(made(dict.fromkeys(FOUR[:3], (0.5, 0.7))))
    assert equal[0].startswith(
        "Do synthetic pictures inside the class (ID) help? In changed conditions: Nothing was shown."
    )
    assert "For rejection: Nothing was shown." in equal[1]
    worse = answers(made({"real": (0.6, 0.7), "real_id": (0.5, 0.7), "real_id_nearood": (0.4, 0.6)}))
    assert "No: the opposite was shown." in worse[0]
    assert "it costs more than 2 points" in worse[1]
    assert "It falls, which speaks for it." in worse[2]


@pytest.mark.parametrize(
    ("oracle", "expected"),
    [
        (0.5, "Not even of perfect pictures was it shown that they help."),
        (0.4, "Even perfect pictures make it worse"),
        (0.9, "Perfect pictures help, and more than the generated ones, so quality limits"),
        (0.6, "that they help more than the generated ones was not shown"),
        (0.55, "Perfect pictures help, but less than the generated ones"),
    ],
)
def test_what_a_perfect_generator_says_about_quality(oracle: float, expected: str) -> None:
    said = answers(made({"real": (0.5, 0.7), "real_id": (0.6, 0.7), "oracle_id": (oracle, 0.7)}))
    assert any(text.startswith("First explanation") and expected in text for text in said)


def test_metrics_of_all_seeds_are_collected(tmp_path: Path) -> None:
    for seed, arms in ((0, {"real": 1, "extra": 2}), (5, {"real": 3})):
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "metrics.json").write_text(json.dumps(arms))
    folders = {seed: tmp_path / str(seed) for seed in (0, 5)}
    assert collect_metrics(folders) == {"real": {"0": 1, "5": 3}, "extra": {"0": 2}}
    with pytest.raises(ThesisError, match="notebook 06"):
        collect_metrics({7: tmp_path / "7"})


def test_what_so_many_seeds_can_show() -> None:
    assert "descriptive" in seed_note(1)
    assert seed_note(5).startswith("5 seeds: this is descriptive only")
    assert "0.0078" in seed_note(8)
    assert "Exploratory arms have 3" in seed_note(8, 3)
