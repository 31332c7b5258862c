"""The README's tables of companion study 2 are those of the rows that were measured."""

from tests.vae_results import README, measured, readme_tables, with_tables
from thesis_lib.vae.tabulate import SECTIONS


def test_the_readme_shows_what_was_measured():
    text, rows = README.read_text(encoding="utf-8"), measured()
    assert with_tables(text, rows) == text
    assert all(f"<!-- vae {name} -->" in text for name in readme_tables(rows))
    assert set(SECTIONS) <= set(rows["section"]) and rows["value"].notna().all()
    other = rows.assign(value=rows["value"] / 2)
    assert with_tables(text, other) != text
