from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.figures.made_up import PLACES
from thesis_lib.figures.surface import (
    DIVERGING,
    dose_trend,
    response_surface,
    surface_arms,
    surface_cells,
    surface_table,
)
from thesis_lib.figures.tables import tidy_metrics
from thesis_lib.parameter_files import read_parameters
from thesis_lib.parameters import Parameters

CELLS = {"t501_dose1": (1, 501), "t501_dose4": (4, 501), "t801_dose1": (1, 801)}


@pytest.fixture
def surface() -> pd.DataFrame:
    """Two seeds; dose 4 has no arm at t = 801; seed 2 has no reference."""
    values = {
        "real_id": {0: 0.5, 1: 0.6}, "t501_dose1": {0: 0.52, 1: 0.62, 2: 0.9}, "t501_dose4": {0: 0.58, 1: 0.66},
        "t801_dose1": {0: 0.4, 1: 0.52},
    }  # fmt: skip
    rows = [(arm, seed, "top1/test", value) for arm, by_seed in values.items() for seed, value in by_seed.items()]
    return surface_table(pd.DataFrame(rows, columns=["arm", "seed", "metric", "value"]), CELLS, ["top1/test", "gone"])


def test_only_variants_that_change_dose_and_timestep_are_cells() -> None:
    choice, dose = "training.near_ood_choice", "training.near_ood_per_class"
    variants = {
        "t651_dose4": {"arm": "real_id_nearood", "set": {choice: 651, dose: 4}},
        "again": {"arm": "real_id_nearood", "set": {choice: 651, dose: 4}},
        "only_own": {"arm": "real_id_nearood", "set": {choice: 651, "training.negatives": "own_class"}},
        "twice": {"arm": "real", "set": {"training.steps": 600}},
        "hardness": {"arm": "real_id_nearood", "set": {choice: "hardness"}},
    }
    parameters = Parameters.model_validate(
        {"name": "x", "variants": variants, "explore": list(variants), "training": {"near_ood_choice": 651},
         "generation": {"near_ood": {"timesteps": [651]}}}
    )  # fmt: skip
    assert surface_arms(parameters) == {"t651_dose4": (4, 651)}


def test_cells_are_paired_with_the_reference(surface: pd.DataFrame) -> None:
    assert len(surface) == 6
    cells = surface_cells(surface).set_index(["dose", "timestep"])
    assert cells["mean"].to_dict() == pytest.approx({(1, 501): 0.02, (1, 801): -0.09, (4, 501): 0.07})
    assert cells.loc[(1, 501), "high"] == pytest.approx(0.02)  # both seeds alike
    assert cells["seeds"].tolist() == [2, 2, 2]


def test_the_trend_compares_doses_at_timesteps_that_have_both(surface: pd.DataFrame) -> None:
    trend = dose_trend(surface, "top1/test")
    assert trend is not None
    assert trend.mean == pytest.approx(0.05)
    assert dose_trend(surface[surface["dose"] == 1], "top1/test") is None
    assert dose_trend(surface, "gone") is None


def test_the_figure_says_each_difference_and_colours_are_centred_at_zero(surface: pd.DataFrame) -> None:
    figure = response_surface(surface, "de")
    axes, bar = figure.axes[0], figure.axes[-1]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "+2,0\n± 0,0"
    assert texts[2].startswith("\u22129,0")  # dose by dose, timestep by timestep
    assert texts[3] == "\u2013"
    assert bar.get_ylim() == pytest.approx((-9, 9))
    assert len(axes.patches) == 1  # hatched where worse
    assert DIVERGING(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.01)
    grey = np.array(DIVERGING([0.0, 1.0]))[:, :3] @ [0.299, 0.587, 0.114]
    assert (grey > 0.5).all()  # black numbers stay readable on both ends


def test_the_arms_of_the_surface_are_those_of_one_timestep() -> None:
    asked = read_parameters(Path(__file__).parents[2] / "parameters" / "parts.yaml")
    assert isinstance(asked, Parameters)
    assert surface_arms(asked) == {f"t{t}_dose{dose}": (dose, t) for t in (501, 651, 801) for dose in (1, 4)}


def test_a_whole_run(results) -> None:
    surface = surface_table(tidy_metrics(results), PLACES, ["auroc/near/knn", "top1/test"])
    assert len(surface) == 2 * 4 * 3
    assert list(dict.fromkeys(surface["metric"])) == ["auroc/near/knn", "top1/test"]
    empty = surface_table(tidy_metrics(results), {}, ["top1/test"])
    assert empty.empty
    assert list(empty) == list(surface)
