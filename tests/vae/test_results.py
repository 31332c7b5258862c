"""The tables of companion study 2, in the README and beside the rows, are those of the rows that were measured."""

import pytest

from tests.vae_results import PAGES, measured, page_tables, with_tables
from thesis_lib.vae.tabulate import SECTIONS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_was_measured(page):
    text, rows = page.read_text(encoding="utf-8"), measured()
    assert with_tables(text, rows) == text
    assert with_tables(text, rows.assign(value=rows["value"] / 2)) != text


def test_every_table_is_on_one_page():
    rows, text = measured(), "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert all(text.count(f"<!-- vae {name} -->") == 1 for name in page_tables(rows))
    assert set(SECTIONS) <= set(rows["section"]) and rows["value"].notna().all()


def test_means_of_a_table_are_over_the_same_seeds():
    rows = measured()
    first = (rows["section"] == "few_shot") & (rows["seed"] == 0)
    short, without = page_tables(rows[~(first & (rows["method"] == "noise"))]), page_tables(rows[~first])
    assert short["few_shot"].equals(without["few_shot"]) and short["gaps"].equals(without["gaps"])
    assert not short["findings"].equals(without["findings"]), "findings take what they compare"
