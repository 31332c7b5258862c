import math
from pathlib import Path

import pandas as pd
import pytest

from tests.figures.made_up import ARMS, CONFIRMATORY
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.hypotheses import hypothesis_table
from thesis_lib.figures.tables import (
    EXPLORATORY,
    comparison_text,
    differences,
    differences_text,
    grouped,
    hypotheses_text,
    keep_table,
    latex,
    main_metrics,
    references,
    summary,
    tidy_metrics,
    write_table,
)


@pytest.fixture
def table() -> pd.DataFrame:
    def result(top1: float) -> dict:
        knn = {"auroc": 0.8, "parts": {"a": 0.7}}
        return {
            "top1": {"test": top1}, "per_class": [0.1], "ood": {"test": {"near": {"knn": knn}}},
            "clusters": {"test": {"g": [1, 2]}},
        }  # fmt: skip

    return tidy_metrics(
        {"real": {0: result(0.5), 1: result(0.6)}, "real_id": {0: result(0.55), 1: result(0.7), 2: result(0.9)}}
    )


def test_tidy(table: pd.DataFrame) -> None:
    assert set(table["metric"]) == {"top1/test", "ood/test/near/knn/auroc"}  # no lists, no single parts or clusters
    assert table[table["metric"] == "top1/test"]["value"].tolist() == [0.5, 0.6, 0.55, 0.7, 0.9]


def test_summary(table: pd.DataFrame) -> None:
    row = summary(table).iloc[0]
    assert (row["arm"], row["metric"], row["seeds"]) == ("real", "top1/test", 2)
    assert row["mean"] == pytest.approx(0.55)
    assert row["high"] - row["mean"] == pytest.approx(12.7062 * 0.05, abs=1e-4)  # t of one degree of freedom


def test_main_metrics(table: pd.DataFrame) -> None:
    assert main_metrics(table) == ["top1/test"]
    with pytest.raises(ThesisError, match="neither split"):
        main_metrics(table[table["metric"] != "top1/test"])


def test_references() -> None:
    synthetic = {
        "real": False, "real_strong": False, "real_id": True, "cross_entropy_real": False, "nearood_random": True,
        "oracle_id": True, "oracle_nearood": True,
    }  # fmt: skip
    assert references(synthetic) == {
        "real_strong": "real", "real_id": "real", "cross_entropy_real": "real", "nearood_random": "real_id",
        "oracle_id": "real", "oracle_nearood": "oracle_id",
    }  # fmt: skip
    assert references({"real": False, "cross_entropy": True}) == {"cross_entropy": "real"}
    assert references({"real_id": True, "oracle_nearood": True}) == {}


def test_differences_pair_by_seed(table: pd.DataFrame) -> None:
    paired = differences(table, {"real_id": "real", "gone": "real"}, ["top1/test", "absent"])
    row = paired.iloc[0]
    assert (row["arm"], row["reference"], row["pairs"], row["p"]) == ("real_id", "real", 2, 0.5)
    assert len(paired) == 1
    assert row["mean"] == pytest.approx(0.075)  # seed 2 has no partner
    text = differences_text(paired, ["real", "real_id"], "de").iloc[0]
    assert text["gegenüber"] == "real"
    assert text["Top-1 Test"] == "+7,5 ± 31,8"


def test_comparison_text_is_mean_and_half_the_interval(table: pd.DataFrame) -> None:
    text = comparison_text(table, ["real", "real_id"])
    assert list(text) == ["arm", "seeds", "Top-1 test in %"]
    assert text.iloc[0].tolist() == ["real", "2", "55.0 ± 63.5"]
    one = comparison_text(table[table["seed"] == 0], ["real", "real_id"], "de")
    assert one["Top-1 Test in %"].tolist() == ["50,0", "55,0"]
    assert math.isnan(summary(table[table["seed"] == 0])["low"][0])


def test_exploratory_arms_stand_below_with_their_seeds(results) -> None:
    assert grouped(["b", "x", "a"], ["a", "b"]) == ["b", "a", EXPLORATORY, "x"]
    assert grouped(["a", "b"], ["a", "b"]) == ["a", "b"]
    text = comparison_text(tidy_metrics(results), CONFIRMATORY)
    assert text["arm"].tolist()[5:8] == ["oracle ID + near-OOD", "exploratory", "real, strong views"]
    assert text["seeds"].tolist() == ["8"] * 6 + [""] + ["3"] * 6
    assert len(text.columns) == 10  # with AUROC and FPR, test and field, near and far
    assert "t = 501, dose 1" in set(text["arm"])
    paired = differences(tidy_metrics(results), references(dict.fromkeys(ARMS, True) | {"real": False}), ["top1/test"])
    text = differences_text(paired, CONFIRMATORY)
    assert text["seeds"].tolist() == ["8"] * 5 + [""] + ["3"] * 6
    assert text.iloc[1, 3].startswith(("+", "\u2212"))


def test_hypotheses_in_words(results) -> None:
    hypotheses = hypothesis_table(results)
    english, german = hypotheses_text(hypotheses), hypotheses_text(hypotheses, "de")
    assert english.iloc[1].tolist()[0] == "H2: real + ID + near-OOD rejects near-OOD parts better than real + ID"
    assert english["verdict"][1] == "Shown."
    assert german["Urteil"][1] == "Gezeigt."
    assert english["p (sign flip)"][1] == "0.0078"
    assert "; " in german["95 % mit Clustern"][0]
    row = hypotheses.iloc[1]
    assert english["95 % over seeds"][1] == f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    one_sided = hypotheses.iloc[2]
    assert one_sided["name"] == "H3" and english["95 % over seeds"][2].startswith("> ")
    assert f"{100 * one_sided['bound']:.1f}".lstrip("-+") in english["95 % over seeds"][2]
    tiny = hypotheses.assign(p=1e-6)
    assert hypotheses_text(tiny)["p (sign flip)"][1] == "< 0.0001"
    assert hypotheses_text(hypotheses[:0]).empty


def test_latex_and_csv(table: pd.DataFrame, tmp_path: Path) -> None:
    text = latex(comparison_text(table, ["real"]), "A & B_1", "tab:arms")
    for piece in (
        r"\toprule", r"\midrule", r"\bottomrule", r"\caption{A \& B\_1}", r"55.0 $\pm$ 63.5", "{@{}lrr@{}}",
        r"\midrule \multicolumn{3}{l}{\emph{exploratory}} \\", r"\shortstack[r]{Top-1\\test in \%}",
    ):  # fmt: skip
        assert piece in text
    sentences = pd.DataFrame({"a": ["x" * 31], "b": ["\u22121 < 2"], "c": ["y " * 20]})
    wide = r">{\raggedright\arraybackslash}X"
    assert rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}{wide}r{wide}@{{}}}}" in latex(sentences, "", "")
    assert "$-$1 $<$ 2" in latex(sentences, "", "")
    write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table)
    kept = keep_table(tmp_path / "tables" / "arms", "en", comparison_text, table, ["real"])
    assert kept.shape == (3, 3)
    assert r"\label{tab:tables-arms}" in (tmp_path / "tables" / "arms.tex").read_text()
    assert "55.0 ± 63.5" in (tmp_path / "tables" / "arms.csv").read_text()
    assert "55,0 ± 63,5" in (tmp_path / "tables" / "arms.de.csv").read_text()
