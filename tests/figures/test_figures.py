import itertools
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import thesis_lib.figures
from thesis_lib.datasets import PreparedSet
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.ood import ood_metrics
from thesis_lib.figures.comparison import arm_comparison, forest
from thesis_lib.figures.confusion import class_balance, confusion_matrix
from thesis_lib.figures.curves import measure_curves, training_curves
from thesis_lib.figures.embeddings import embedding_maps, map_grid
from thesis_lib.figures.galleries import _origin, _words, contact_sheet, source_sheet, split_sheet, with_heat, with_mask
from thesis_lib.figures.ood import roc_curves, score_histograms
from thesis_lib.figures.style import TEXT_HEIGHT, TEXT_WIDTH, save_figure
from thesis_lib.figures.surface import response_surface, surface_table
from thesis_lib.figures.tables import HIGHER_IS_BETTER, MAIN, differences
from thesis_lib.figures.words import (
    WORDS,
    interval,
    metric_label,
    metric_title,
    number,
    plus_minus,
    signed,
    word,
    wrapped,
)
from thesis_lib.parameter_files import read_parameters
from thesis_lib.randomness import numpy_generator

CONFIRMATORY = ["real", "real_id", "real_id_nearood", "nearood_random", "oracle_id", "oracle_nearood"]
EXPLORATORY = [
    "real_strong", "filler", "second_view", "cross_entropy_real", "cross_entropy", "outlier_exposure",
    "nearood_own_class", "nearood_tilted", "nearood_weighted", "nearood_labels", "id_object", "id_background",
    "id_band", "id_generative",
]  # fmt: skip
GENERATOR = numpy_generator(0, "figures")
CLASSES = [f"a_class_with_a_long_name_{i}" for i in range(5)]


def scores() -> pd.DataFrame:
    frames = [
        pd.DataFrame({"detector": detector, "set": group, "part": part, "score": GENERATOR.normal(mean, 1, size)})
        for detector in ("msp", "knn")
        for group, part, mean, size in (
            ("id", "c", 2, 40),
            ("near", "n1", 1, 5),
            ("near", "n2", 0, 25),
            ("far", "f", 0, 9),
        )
    ]
    return pd.concat(frames, ignore_index=True)


def pictures(*shape: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, (*shape, 3, 16, 16), dtype=np.uint8)


def measured(arms: int, seeds: int = 8) -> pd.DataFrame:
    """So many arms with all metrics, the exploratory ones with at most three seeds; the last lacks the field."""
    names = [*CONFIRMATORY, *EXPLORATORY][:arms]
    rows = [
        (arm, seed, metric, GENERATOR.uniform(0.3, 1))
        for arm in names
        for seed in range(seeds if arm in CONFIRMATORY else min(3, seeds))
        for metric in MAIN
        if arm != names[-1] or "field" not in metric
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "metric", "value"])


def maps(arms: int) -> pd.DataFrame:
    """A table as of `embed_arms`, of so many arms; the first one names every picture right."""
    names, sets = CLASSES * 4 + ["part"] * 5, ["id"] * 20 + ["near"] * 3 + ["far"] * 2
    frames = []
    for index, arm in enumerate([*CONFIRMATORY, *EXPLORATORY][:arms]):
        frame = pd.DataFrame({"arm": arm, "set": sets, "class_name": names})
        frame["predicted"] = GENERATOR.choice(CLASSES, 25) if index else names
        frame["confidence"] = GENERATOR.uniform(0.2, 1, 25)
        frame[["tsne_x", "tsne_y", "umap_x", "umap_y"]] = GENERATOR.random((25, 4))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def against_real(table: pd.DataFrame) -> pd.DataFrame:
    return differences(table, dict.fromkeys(set(table["arm"]) - {"real"}, "real"), HIGHER_IS_BETTER)


def figures(language: str) -> dict[str, Figure]:
    history = pd.DataFrame({"step": range(40), "excess": np.linspace(0, -2, 40)})
    table = pd.DataFrame({"timestep": np.repeat([100, 200], 6), "mask": ["object", "background"] * 6})
    table["judge_accuracy"], table["pixel_change"] = GENERATOR.random((2, 12))
    twenty = measured(20)
    places = {"filler": (1, 500), "id_band": (8, 500), "id_object": (1, 841)}
    images = pd.DataFrame({"class_name": CLASSES * 4, "split": ["train"] * 10 + ["test"] * 10})
    return {
        "training": training_curves({"real": [history, history], "cross_entropy": [history]}, language),
        "curves": measure_curves(
            table, "timestep", ["judge_accuracy", "pixel_change"], "mask", {"id": 120, "near_ood": 180}, language
        ),
        "confusion": confusion_matrix(GENERATOR.integers(0, 9, (5, 5)).tolist(), CLASSES, language),
        "balance": class_balance(images, language),
        "maps of one": embedding_maps(maps(1), "class", language),
        "maps of four by kind": embedding_maps(maps(4), "kind", language),
        "maps of six": embedding_maps(maps(6), "class", language),
        "maps by confidence": embedding_maps(maps(5), "confidence", language),
        "comparison": arm_comparison(twenty, MAIN[:6], CONFIRMATORY, language),
        "comparison of four": arm_comparison(measured(4), ["top1/test", "auroc/near/knn"], CONFIRMATORY, language),
        "comparison of one seed": arm_comparison(measured(4, 1), ["top1/test"], CONFIRMATORY, language),
        "forest": forest(against_real(twenty), CONFIRMATORY, language),
        "forest of one seed": forest(against_real(measured(3, 1)), CONFIRMATORY, language),
        "surface": response_surface(surface_table(twenty, places, HIGHER_IS_BETTER[:2]), language),
        "surface of one": response_surface(surface_table(twenty, {"filler": (1, 500)}, ["top1/test"]), language),
        "histograms": score_histograms(scores(), language),
        "roc": roc_curves(scores(), language),
        "sheet": contact_sheet(pictures(10), 4, CLASSES[:3], captions=CLASSES * 2),
        "sources": source_sheet(pictures(2), pictures(2, 3), ["source", "t = 1", "t = 2", "t = 3"], CLASSES[:2]),
    }


@pytest.mark.parametrize("language", ["en", "de"])
def test_figures_fit_the_page_and_their_text_stays_inside(language: str) -> None:
    for name, figure in figures(language).items():
        width, height = figure.get_size_inches()
        assert width <= TEXT_WIDTH + 0.15, name
        assert height <= TEXT_HEIGHT + 0.01, name
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        assert box.x0 > -0.02, name
        assert box.y0 > -0.02, name
        assert box.x1 < width + 0.02, name
        assert box.y1 < height + 0.02, name


@pytest.mark.parametrize("arms", [4, 8, 20])
def test_names_of_many_arms_do_not_touch(arms: int) -> None:
    table = measured(arms)
    for figure in (
        arm_comparison(table, MAIN[:6], CONFIRMATORY, "de"),
        forest(against_real(table), CONFIRMATORY, "de"),
    ):
        figure.draw_without_rendering()
        names = [label for label in figure.axes[0].get_yticklabels() if label.get_text()]
        boxes = [label.get_window_extent() for label in names]
        assert len(boxes) >= arms - 1
        assert all(upper.y0 > lower.y1 for upper, lower in itertools.pairwise(boxes))
        titles = [ax.title.get_window_extent() for ax in figure.axes[:3]]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(titles))


def test_exploratory_arms_are_set_apart() -> None:
    figure = arm_comparison(measured(8), ["top1/test"], CONFIRMATORY)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[5:] == ["oracle ID + near-OOD", "exploratory", "real, strong views", "real + ID + filler"]
    table = measured(8)
    paired = against_real(table)
    figure = forest(paired, CONFIRMATORY)
    line = next(line for line in figure.axes[0].lines if list(line.get_ydata()) == [0, 0])  # the first arm's interval
    row = paired[(paired["arm"] == "real_id") & (paired["metric"] == "top1/test")].iloc[0]
    assert line.get_xdata() == pytest.approx([100 * row["low"], 100 * row["high"]])


def test_maps_stand_in_the_order_of_their_grid_to_one_scale() -> None:
    assert map_grid(["a"]) == [[("a", "tsne"), ("a", "umap")]]
    assert [[arm for arm, _ in row] for row in map_grid(list("abcde"))] == [list("abc")] * 2 + [list("de")] * 2
    table = maps(5)
    figure = embedding_maps(table, "class")
    cells = [cell for row in map_grid(list(dict.fromkeys(table["arm"]))) for cell in row]
    for ax, (arm, method) in zip(figure.axes, cells, strict=True):
        rows = table[table["arm"] == arm]
        drawn = np.concatenate([np.asarray(layer.get_offsets()) for layer in ax.collections])
        wanted = rows[[f"{method}_x", f"{method}_y"]].to_numpy()
        assert np.allclose(sorted(map(tuple, drawn)), sorted(map(tuple, wanted)))
        assert ax.get_xlim() == figure.axes[0 if method == "tsne" else 3].get_xlim()
        assert ax.get_xlim()[0] < drawn[:, 0].min() and ax.get_xlim()[1] > drawn[:, 0].max()


def test_colours_of_confidence_are_those_of_the_bar_and_wrong_answers_have_their_shape() -> None:
    table = maps(2)
    figure = embedding_maps(table, "confidence")
    right = table["predicted"] == table["class_name"]
    assert right[:20].all() and 0 < right[25:45].sum() < 20
    words = [text.get_text() for text in figure.legends[0].texts]
    assert words == ["near-OOD", "far-OOD", "ID, named right", "ID, named wrong"]
    shown = [layer for layer in figure.axes[1].collections if layer.get_array() is not None]
    values = table[25:].groupby([table["set"][25:], right[25:]])["confidence"].apply(sorted)
    drawn = [sorted(layer.get_array()) for layer in shown]
    assert drawn == [values["near", False], values["far", False], values["id", True], values["id", False]]
    assert all(layer.get_clim() == (0, 1) for layer in shown)


def test_maps_that_are_not_there_are_refused() -> None:
    with pytest.raises(ThesisError, match="coloured by colour: choose one of class, kind, confidence"):
        embedding_maps(maps(1), "colour")
    with pytest.raises(ThesisError, match="at least one"):
        embedding_maps(maps(1)[:0])


def test_saved_figures_embed_fonts_and_are_the_same_bytes(tmp_path: Path) -> None:
    history = pd.DataFrame({"step": range(10), "excess": range(10)})
    png = save_figure(training_curves({"real": [history]}), tmp_path / "v1.5")
    assert png == tmp_path / "v1.5.png"
    assert Image.open(png).size == (1180, 340)
    pdf = (tmp_path / "v1.5.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    before = png.read_bytes(), pdf
    save_figure(training_curves({"real": [history]}), tmp_path / "v1.5")
    assert (png.read_bytes(), (tmp_path / "v1.5.pdf").read_bytes()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v1.5.pdf", "v1.5.png"]


def test_the_callers_style_is_left_alone_and_has_no_effect() -> None:
    with mpl.rc_context({"font.size": 30, "axes.labelsize": 30}):
        figure = confusion_matrix([[1, 0], [0, 1]], ["a", "b"])
        assert mpl.rcParams["font.size"] == 30
    assert figure.axes[0].xaxis.label.get_size() == 8


def test_area_under_the_drawn_roc_is_the_reported_auroc() -> None:
    table = scores()
    figure = roc_curves(table)
    rows = table[table["detector"] == "msp"]
    inside, near = (rows[rows["set"] == name] for name in ("id", "near"))
    reported = ood_metrics(inside["score"].to_numpy(), near["score"].to_numpy(), near["part"].to_numpy(str))["auroc"]
    x, y = figure.axes[0].lines[0].get_data()
    assert np.trapezoid(y, x) == pytest.approx(reported)
    assert number(reported, 2) in figure.axes[0].get_legend().texts[0].get_text()


def test_overlays() -> None:
    picture = np.full((1, 3, 2, 2), 100, np.uint8)
    mask = np.array([[[True, False], [True, False]]])
    faded = with_mask(picture, mask)
    assert (faded[..., 0] == 100).all()
    assert (faded[..., 1] > 200).all()
    hot = with_heat(picture, np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    assert hot[0, 0, 0, 0] > hot[0, 0, 1, 1]


def test_captions_of_made_pictures_leave_out_concepts_and_what_all_prompts_share() -> None:
    prompts = ["a photo of a used <nut-m6> <nut-m6>_1 on a wooden bench", "a photo of a used <nut-m6> <nut-m6>_1"]
    assert _words(prompts[0]) == ["used", "wooden", "bench"]
    row = pd.Series({"prompt": prompts[0], "timestep": 751, "guidance_scale": 4.0})
    assert _origin(row, set(_words(prompts[0])) & set(_words(prompts[1]))) == "t=751 g=4 wooden bench"


def test_the_sheet_of_splits_has_a_row_a_class_that_all_splits_have() -> None:
    splits, classes = ["valid", "field", "train", "train"] * 2 + ["train"], [*"bbbbaaaa", "c"]
    table = pd.DataFrame({"class_name": classes, "split": splits, "label": [1] * 4 + [0] * 4 + [2]})
    levels = np.arange(9, dtype=np.uint8)[:, None, None, None] * 20
    shown = PreparedSet(
        table, torch.from_numpy(np.broadcast_to(levels, (9, 3, 8, 8)).copy()), torch.zeros(9, 8, 8, dtype=torch.bool)
    )
    (axes,) = split_sheet(shown).axes
    assert [text.get_text() for text in axes.texts] == ["training", "a", "validation", "field", "b"]
    found = [int(image.get_array()[0, 0, 0]) // 20 for image in axes.images]
    assert found == [6, 4, 5, 2, 0, 1]


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ThesisError, match="none"):
        contact_sheet(np.zeros((0, 3, 8, 8), np.uint8), 4)


def test_every_word_used_in_the_code_is_in_the_dictionary() -> None:
    folder = Path(thesis_lib.figures.__file__).parent
    used = {w for path in folder.glob("*.py") for w in re.findall(r'\bword\("(\w+)"', path.read_text(encoding="utf-8"))}
    assert used
    assert used <= set(WORDS)


def test_numbers_and_labels_follow_the_language() -> None:
    assert number(-0.5, 2, "de") == "\u22120,50"
    assert number(71.44, 1) == "71.4"
    assert number(float("nan")) == "\u2013"
    assert metric_label("auroc/near/knn") == "AUROC, near-OOD, kNN"
    assert metric_label("top1/field", "de") == "Top-1-Genauigkeit in %, Feld"
    assert word("ball_bearing_6000", "de") == "ball bearing 6000"
    assert wrapped("real + ID + near-OOD", 1.1, 7) == "real + ID +\nnear-OOD"
    assert word("t521_dose1") == "t = 521, dose 1"
    assert word("t521_dose1", "de") == "t = 521, Dosis 1"
    assert metric_title("auroc_field/near/knn", "de") == "AUROC nah, Feld in %"
    assert signed(0.04) == "0.0"
    assert signed(-0.04) == "0.0"
    assert signed(1.26, 1, "de") == "+1,3"
    assert plus_minus("71.4", 0.5, 0.6) == "71.4 ± 5.0"
    assert plus_minus("71.4", float("nan"), float("nan")) == "71.4"
    assert interval(-0.004, 0.042) == "[\u22120.4, 4.2]"
    assert interval(0.004, 0.042, "de") == "[0,4; 4,2]"


def test_every_arm_and_metric_of_the_experiment_has_words() -> None:
    whole = read_parameters(Path(__file__).parents[2] / "parameters" / "parts.yaml")
    arms = [name for name in whole.arm_names if not isinstance(whole.of_arm(name)[1].training.near_ood_choice, int)]
    named = [*CONFIRMATORY, *EXPLORATORY, *arms, *MAIN, *whole.generation.sets, "H1", "H2", "H3", "H4"]
    named += ["shown", "shown_here", "opposite", "nothing", "descriptive"]
    assert set(named) <= set(WORDS)
    assert all(len(WORDS[arm][language]) <= 26 for arm in [*CONFIRMATORY, *EXPLORATORY, *arms] for language in (0, 1))


def test_a_confusion_matrix_is_in_percent_of_the_true_class() -> None:
    cells = [text.get_text() for text in confusion_matrix([[3, 1], [0, 4]], ["a", "b"]).axes[0].texts]
    assert cells == ["75", "25", "100"]
