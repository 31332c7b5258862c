"""Keep what full runs of companion study 2 measured, and write the tables of it; no test, a script.

    python tests/vae_results.py [RUN ...]

RUN is a run's folder, such as runs/vae_full; its seeds may be spread over several. Their rows replace those of the same
table, data and seed in notebooks/results/vae_full.csv. Of all rows the tables in the README and in vae_full.md beside
the rows are made, each behind a comment with its name, and harness.png.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from thesis_lib.figures.style import save_figure
from thesis_lib.figures.vae import harness_comparison
from thesis_lib.figures.vae_tables import (
    readable,
    readable_comparisons,
    readable_findings,
    readable_gaps,
    readable_harness,
)
from thesis_lib.storage import read_json
from thesis_lib.vae.digits import OWN_METHODS
from thesis_lib.vae.findings import finding_table, harness_tests
from thesis_lib.vae.methods import METHODS
from thesis_lib.vae.published import DIGIT_METHODS
from thesis_lib.vae.tabulate import SECTIONS
from thesis_lib.vae.work import COLUMNS

README = Path(__file__).parents[1] / "README.md"
RESULTS = README.parent / "notebooks" / "results" / "vae_full.csv"
PAGES = (README, RESULTS.with_suffix(".md"))
PIECE = ["section", "data", "seed"]
"""Rows with the same three come from one run."""
METHOD_ORDER = (*DIGIT_METHODS, *OWN_METHODS, *METHODS)


def measured() -> pd.DataFrame:
    """The kept rows, of `work.COLUMNS`."""
    return pd.read_csv(RESULTS, keep_default_na=False)


def with_run(rows: pd.DataFrame, run: Path) -> pd.DataFrame:
    """Put the rows of a run's items in the place of what is there of the same pieces."""
    found = [line for file in sorted((run / "items").rglob("*.json")) for line in read_json(file, "")["rows"]]
    new = pd.DataFrame(found, columns=COLUMNS)
    old = rows[~rows[PIECE].agg(tuple, axis=1).isin(set(new[PIECE].itertuples(index=False, name=None)))]
    both = pd.concat([old, new], ignore_index=True)
    method = both["method"].map({name: i for i, name in enumerate(dict.fromkeys(METHOD_ORDER))})
    place = both["section"].map({name: i for i, name in enumerate(SECTIONS)}).fillna(len(SECTIONS))
    both = both.assign(place=place, order=method.where(place > 1, 0))  # items of tables have their methods in order
    return both.sort_values(["place", *COLUMNS[:4], "order"], kind="stable", ignore_index=True)[COLUMNS]


def of_whole_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of seeds that have every cell of a table, so that all its means are over the same seeds."""
    counts = rows.groupby(PIECE).size()
    whole = counts[counts == counts.groupby(PIECE[:2]).transform("max")].index
    return rows[pd.MultiIndex.from_frame(rows[PIECE]).isin(whole)]


def page_tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of the pages, as text; those of the source of whole seeds and with the small network alone.

    Findings take the seeds that have what they compare.
    """
    whole = of_whole_seeds(rows[rows["section"].isin(SECTIONS)])
    network = whole[whole["classifier"] == "network"]
    found = {name: readable(network, name).drop(columns="classifier", errors="ignore") for name in SECTIONS}
    found["gaps"] = readable_gaps(whole, SECTIONS)
    found["findings"] = readable_findings(finding_table(rows))
    found["harness"] = readable_harness(rows)
    found["comparisons"] = readable_comparisons(harness_tests(rows))
    return {name: table for name, table in found.items() if len(table)}


def markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def with_tables(text: str, rows: pd.DataFrame) -> str:
    """A page's text with its tables made anew; what it has no comment for is left out."""
    tables = page_tables(rows)
    return re.sub(r"(<!-- vae (\w+) -->\n\n)(?:\|.*\n)*\n?", lambda at: f"{at[1]}{markdown(tables[at[2]])}\n", text)


def main(runs: Sequence[str]) -> None:
    """Take up what the runs measured, then write all tables and draw the harness's figure."""
    rows = measured() if RESULTS.exists() else pd.DataFrame(columns=COLUMNS)
    for run in runs:
        rows = with_run(rows, Path(run))
    rows["value"] = rows["value"].astype(float).round(6)
    rows.to_csv(RESULTS, index=False, lineterminator="\n")
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8"), measured()), encoding="utf-8")
    if (rows["section"] == "harness").any():
        save_figure(harness_comparison(measured()), RESULTS.with_name("harness"))


if __name__ == "__main__":
    main(sys.argv[1:])
