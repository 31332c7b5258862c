"""Figures and tables of the study of pairs and triplets, on made-up measurements."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.figures.test_saliency import fits
from tests.pairwise.conftest import draw_bars
from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.figures.embeddings import class_clouds
from thesis_lib.figures.pairwise import (
    activation_sheet,
    beyond_table,
    gaps,
    loss_curves,
    scenario_comparison,
    scenario_table,
    triplet_sheet,
    uses_labels,
)
from thesis_lib.figures.style import TEXT_HEIGHT, TEXT_WIDTH, save_figure
from thesis_lib.pairwise.parameters import Method, PairwiseTripletParameters, Scenario
from thesis_lib.pairwise.study import Item, summarised

PARAMETERS = PairwiseTripletParameters(
    study="pairwise_triplet", name="x", augmentations=["fer", "simclr"], beyond={"supcon": Method(loss="supcon")}
)
SCENARIOS = list(PARAMETERS.source_methods())


@pytest.fixture
def measured() -> pd.DataFrame:
    means = {("mnist", "pairwise_fer"): 0.78, ("mnist", "triplet_fer"): 0.85, ("cifar10", "triplet_simclr"): 0.36,
             ("cifar10", "supcon"): 0.5}  # fmt: skip
    rows = [
        (data, scenario, seed, way, metric, mean + 0.01 * (seed - 1) + shift)
        for (data, scenario), mean in means.items()
        for way, shift in (("published", 0.0), ("frozen", 0.04))
        for metric in ("top1", "top3", "knn")
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["set", "scenario", "seed", "way", "metric", "value"])


@pytest.fixture
def summary(measured: pd.DataFrame) -> pd.DataFrame:
    return summarised(measured)


def test_the_table_has_published_values_beside_ours(summary: pd.DataFrame) -> None:
    table = scenario_table(summary, SCENARIOS)
    assert table["data"].tolist() == ["MNIST", "MNIST", "CIFAR-10"]
    assert table.iloc[0].tolist()[1:5] == ["pairs, FER", "78", "78.0 ± 2.5", "94"]
    assert table.iloc[0, -1] == "82.0 ± 2.5"
    assert scenario_table(summary, SCENARIOS, "de").iloc[0, 3] == "78,0 ± 2,5"


def test_the_better_choice_stands_first_and_only_where_there_is_more(measured: pd.DataFrame) -> None:
    table = beyond_table(measured, PARAMETERS)
    assert table["data"].unique().tolist() == ["CIFAR-10"]
    assert table["scenario"].tolist() == ["SupCon", "triplets, SimCLR"]
    assert table.iloc[0].tolist()[2:6] == ["yes", "490", "2048", "0.15"]
    assert table["points more than triplets, SimCLR"].tolist() == ["+14.0 ± 0.0", ""]
    assert len(beyond_table(measured[measured["scenario"] != "supcon"], PARAMETERS)) == 0


def test_losses_have_a_panel_a_set_and_loss_and_are_running_means() -> None:
    losses = torch.arange(40.0).flip(0)
    items = [
        Item(Scenario(data, name, method, seed), {}, torch.zeros(0), losses + seed, 1.0, {})
        for data in ("mnist", "cifar10")
        for name, method in PARAMETERS.source_methods().items()
        for seed in (0, 1)
    ]
    figure = loss_curves(items, ["pairwise_fer", "triplet_fer", "triplet_simclr"], 1)
    assert [len(ax.lines) for ax in figure.axes] == [1, 2, 1, 2]
    drawn = figure.axes[1].lines[0]
    assert drawn.get_xdata()[:2].tolist() == [1, 2] and drawn.get_ydata()[:3].tolist() == [40, 39.5, 38.5]  # of two


def test_gaps_name_what_another_run_does_not_explain(measured: pd.DataFrame) -> None:
    summary = summarised(measured)
    top1 = summary[summary["metric"] == "top1"]
    first, *others = gaps(top1)
    # 78 of 78.0, 92 of 85.0 and 36 of 36.0; half of the mean's interval is 2.5, of the prediction interval 5.0
    assert first.startswith("Of 3 published numbers 1 lie outside the mean's 95 % interval with half a percent for")
    assert first.endswith("of as many runs of ours, rounded, some 0 would, and 1 outside that of one further run.")
    assert others == ["MNIST, triplets, FER, top-1 accuracy: published 92, here 85.0 and a further run [80.0, 90.0]."]
    near = top1.assign(published=(top1["mean"] + 0.04).where(top1["published"].notna()))
    assert gaps(near)[0].startswith("Of 3 published numbers 3 lie outside") and len(gaps(near)) == 1
    one_seed = summary.assign(low=np.nan, high=np.nan)
    assert "one seed, which gives no interval" in gaps(one_seed)[0]


def test_who_uses_labels() -> None:
    assert uses_labels(Method(loss="triplet")) and uses_labels(Method(loss="supcon"))
    assert not uses_labels(Method(loss="nt_xent", negative="any")) and not uses_labels(Method(loss="triplet", epochs=0))
    assert uses_labels(Method(loss="triplet", negative="any", positive="same_class"))


@pytest.mark.parametrize("language", ["en", "de"])
def test_figures_are_drawn_in_the_width_of_the_page(summary: pd.DataFrame, tmp_path: Path, language: str) -> None:
    cloud = np.random.default_rng(0).normal(size=(30, 3))
    for figure in (
        scenario_comparison(summary, SCENARIOS, language),
        class_clouds({"tsne": cloud, "pca": cloud}, ["a", "b", "c"] * 10, language),
    ):
        assert figure.get_figwidth() == TEXT_WIDTH and figure.get_figheight() < TEXT_HEIGHT
        assert save_figure(figure, tmp_path / "x").stat().st_size > 5000


def test_the_sheet_shows_three_triplets_a_method() -> None:
    bars = LabelledPictures(*draw_bars(30, 3, 0), *draw_bars(9, 3, 1), ["high", "middle", "low"])
    figure = triplet_sheet(bars, {"triplet_fer": Method(loss="triplet", augmentation="fer")}, 0)
    assert len(figure.axes[0].images) == 9


@pytest.mark.parametrize("name", ["{}", "cylindrical_roller_bearing_{}"])
@pytest.mark.parametrize("language", ["en", "de"])
def test_ten_pictures_and_all_scenarios_fit_a_page(name: str, language: str) -> None:
    scenarios = [f"{loss}_{views}" for loss in ("pairwise", "triplet") for views in ("none", "fer", "simclr")]
    bars = LabelledPictures(*draw_bars(10, 10, 0), *draw_bars(20, 10, 1), [name.format(i) for i in range(10)])
    heat = torch.zeros(10, 28, 28)
    heat[:, :14] = 1e-3
    looks = {each: (heat, torch.full((10,), 0.254)) for each in [*scenarios, "before_training"]}
    figure = activation_sheet(bars, list(range(10, 20)), looks, language)
    assert fits(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("25 %") == 70
    assert ("vor dem\nTraining" if language == "de" else "before\ntraining") in texts  # no word is broken
    picture, hot = (np.asarray(image.get_array()) for image in figure.axes[0].images[:2])
    assert (picture == picture[..., :1]).all()  # grey
    assert hot[:14].min() > hot[14:].mean()  # however small its values, a map is drawn in full colour
