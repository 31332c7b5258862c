import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from thesis_lib.datasets import PreparedSet
from thesis_lib.evaluation.shape_or_texture import changed_pictures
from thesis_lib.figures.saliency import _with_outline, changed_sheet, example_rows, patch_test, saliency_sheet
from thesis_lib.figures.style import TEXT_HEIGHT, TEXT_WIDTH
from thesis_lib.figures.words import word
from thesis_lib.randomness import numpy_generator, torch_generator

ARMS = ["real", "real_id", "real_id_nearood", "nearood_random", "oracle_id", "oracle_nearood"]
SIZE = 32


@pytest.fixture
def images() -> PreparedSet:
    """Four classes, two pictures of each split; the last picture has no mask."""
    names = [f"cylindrical_roller_bearing_{i}" for i in range(4)]
    rows = [(label, split) for label in range(4) for split in ("train", "test", "field") for _ in range(2)]
    table = pd.DataFrame(rows, columns=["label", "split"])
    table["class_name"], table["source_id"] = table["label"].map(names.__getitem__), table.index.astype(str)
    pictures = torch.randint(0, 256, (24, 3, SIZE, SIZE), generator=torch_generator(0, "noise"), dtype=torch.uint8)
    masks = torch.zeros(24, SIZE, SIZE, dtype=torch.bool)
    masks[:-1, 8:24, 8:24] = True
    return PreparedSet(table, pictures, masks)


def skill_rows(arms: list[str], kinds: list[str], splits: tuple[str, ...] = ("test", "field")) -> pd.DataFrame:
    draw = numpy_generator(0, "skill")
    rows = [(arm, split, kind, name) for arm in arms for split in splits for kind in kinds for name in "abc"]
    table = pd.DataFrame(rows, columns=["arm", "split", "kind", "class_name"])
    table["pictures"], table["recall"] = draw.integers(1, 9, len(table)), draw.random(len(table))
    return table


def fits(figure: Figure) -> bool:
    width, height = figure.get_size_inches()
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    inside = box.x0 > -0.02 and box.y0 > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02
    return width <= TEXT_WIDTH + 0.15 and height <= TEXT_HEIGHT + 0.01 and inside


@pytest.mark.parametrize("language", ["en", "de"])
def test_figures_fit_the_page(images, language):
    chosen = images.select([2, 4, 8, 10])
    heat = torch.rand(4, SIZE, SIZE, generator=torch_generator(0, "heat"))
    kinds = list(changed_pictures(chosen, 0))
    assert fits(saliency_sheet(chosen, dict.fromkeys(ARMS, heat), language))
    assert fits(changed_sheet(chosen, 0, language))
    figure = patch_test(skill_rows(ARMS, kinds), language)
    assert fits(figure)
    labels = [label.get_window_extent() for label in figure.axes[-1].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(labels))


def test_examples_are_the_first_pictures_of_classes_spread_over_the_list(images):
    assert example_rows(images.table, 4) == [2, 4, 20, 22]
    assert example_rows(images.table, 100) == [2, 4, 8, 10, 14, 16, 20, 22]
    table = images.table.drop(index=[2, 3])  # the first class has no test picture
    assert example_rows(table, 2) == [8, 10]
    assert example_rows(images.table[images.table["split"] != "field"], 2) == [2, 20]


def test_captions_are_shares_of_area_and_saliency(images):
    chosen = images.select([2, 23])
    heat = torch.zeros(2, SIZE, SIZE)
    heat[0, 8:24, 8:24], heat[0, 0, 0] = 1.0, 256 / 3
    figure = saliency_sheet(chosen, {"real": heat}, "de")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in texts if text.endswith("%") or text == "\u2013"] == ["25 %", "75 %", "\u2013", "\u2013"]
    assert "Bild" in texts and any("Feld" in text for text in texts)


def test_an_outline_lies_on_the_edge_of_the_mask(images):
    drawn = _with_outline(np.full((1, 3, SIZE, SIZE), 100, np.uint8), images.masks[:1])[0, 0]
    assert (drawn[62:64, 100:150] == 0).all() and (drawn[64:66, 100:150] == 255).all()
    assert (drawn[100:150, 100:150] == 100).all() and (drawn[:50] == 100).all()


def test_the_lines_are_the_accuracies(images):
    kinds = list(changed_pictures(images.select([2]), 0))
    table = skill_rows(["real", "real_id"], kinds)
    figure = patch_test(table)
    rows = table[(table["arm"] == "real_id") & (table["split"] == "field") & (table["kind"] == "patches4")]
    expected = 100 * (rows["recall"] * rows["pictures"]).sum() / rows["pictures"].sum()
    assert figure.axes[2].lines[1].get_ydata()[2] == pytest.approx(expected)
    assert figure.axes[0].lines[2].get_ydata()[0] == pytest.approx(100 / 3)  # chance
    assert [text.get_text() for text in figure.legends[0].texts] == ["real", "real + ID", "chance"]
    without_masks = patch_test(table[table["kind"].str.match("intact|patches")])
    assert len(without_masks.axes) == 2


def test_every_kind_has_words(images):
    for kind in changed_pictures(images.select([2]), 0):
        assert kind.startswith("patches") or word(kind, "de") != kind.replace("_", " ")
