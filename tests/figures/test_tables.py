import math
from pathlib import Path

import pandas as pd
import pytest

from thesis_lib.figures.tables import (
    differences,
    latex,
    readable,
    readable_differences,
    summary,
    tidy_metrics,
    write_table,
)


@pytest.fixture
def table() -> pd.DataFrame:
    def result(top1: float) -> dict:
        knn = {"auroc": 0.8, "parts": {"a": 0.7}}
        return {"top1": {"test": top1}, "per_class": [0.1], "ood": {"test": {"near": {"knn": knn}}}}

    return tidy_metrics(
        {"real": {0: result(0.5), 1: result(0.6)}, "real_id": {0: result(0.55), 1: result(0.7), 2: result(0.9)}}
    )


def test_tidy(table: pd.DataFrame) -> None:
    assert set(table["metric"]) == {"top1/test", "ood/test/near/knn/auroc"}  # no lists, no single parts
    assert table[table["metric"] == "top1/test"]["value"].tolist() == [0.5, 0.6, 0.55, 0.7, 0.9]


def test_summary(table: pd.DataFrame) -> None:
    row = summary(table).iloc[0]
    assert (row["arm"], row["metric"], row["seeds"]) == ("real", "top1/test", 2)
    assert row["mean"] == pytest.approx(0.55)
    assert row["high"] - row["mean"] == pytest.approx(12.7062 * 0.05, abs=1e-4)  # t of one degree of freedom


def test_differences_pair_by_seed(table: pd.DataFrame) -> None:
    row = differences(table, "real", ["top1/test", "absent"]).iloc[0]
    assert (row["arm"], row["pairs"], row["p"]) == ("real_id", 2, 0.5)
    assert row["mean"] == pytest.approx(0.075)  # seed 2 has no partner
    text = readable_differences(differences(table, "real", ["top1/test"]), "de").iloc[0]
    assert text["Differenz"].startswith("7,5 [\u2212")
    assert text["p (Vorzeichentest)"] == "0,5000"


def test_readable(table: pd.DataFrame) -> None:
    text = readable(table, ["top1/test", "absent"])
    assert text.iloc[0].tolist()[0] == "real"
    assert text["Top-1 accuracy in %, test"][0] == "55.0 [\u22128.5, 118.5]"
    assert text["Absent"].tolist() == ["\u2013", "\u2013"]
    one = readable(table[table["seed"] == 0], ["top1/test"], "de")
    assert one["Top-1-Genauigkeit in %, Test"][0] == "50,0"
    assert math.isnan(summary(table[table["seed"] == 0])["low"][0])


def test_latex_and_csv(table: pd.DataFrame, tmp_path: Path) -> None:
    text = latex(readable(table, ["top1/test"]), "A & B_1", "tab:arms")
    for piece in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{A \& B\_1}", r"in \%", r"$-$8.5", "{lr}"):
        assert piece in text
    write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table)
