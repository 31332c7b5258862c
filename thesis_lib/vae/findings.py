"""The source's findings, put to six tests named before the run."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from thesis_lib.evaluation.hypotheses import FEWEST_SEEDS, LEVEL
from thesis_lib.evaluation.statistics import holm, paired_difference

FEW, MANY = 10, 500
"""Few pictures a class are so many or fewer; many, so many or more."""
SINGLE, MULTI = "interpolation_noise", "multi"


class Finding(NamedTuple):
    """A finding and its test: each seed gives `first` and `second`; it holds where first - second is above zero."""

    name: str
    by_seed: pd.DataFrame


def finding_table(results: pd.DataFrame) -> pd.DataFrame:
    """What the results say to each finding that they bear on.

    - `gain_table`, `gain_digits`: with few examples a class, mean weighted F1 over their numbers is higher with
      generated examples than without (thyroid: VAE, up to 30 examples; MNIST: interpolation with noise, up to 10).
    - `one_beats_many`: interpolation with noise from one VAE beats prior samples of a VAE a class, over all numbers of
      shots.
    - `one_beats_many_fair`: the same with the one VAE trained on the shots alone, as the others are, for as many steps
      as they take together.
    - `vanishes`: the gain on MNIST is larger with few than with many pictures.
    - `blur`: reconstructions of digits and parts have less edge energy than their originals (1 minus the ratio).

    With at least six seeds a finding is shown when the sign-flip p value, Holm-corrected over the table, is at most
    0.05 and the 95 % t interval agrees; with fewer it is described.

    Args:
        results: Rows of `work.COLUMNS`.

    Returns:
        Columns finding, mean, low, high (in F1; of `blur` a share), p, holm, pairs, verdict: `shown`, `opposite`,
        `nothing`, `descriptive`.
    """
    found = [finding for finding in _findings(results) if len(finding.by_seed)]
    rows: list[dict[str, Any]] = []
    for finding in found:
        test = paired_difference(finding.by_seed["first"].to_numpy(), finding.by_seed["second"].to_numpy())
        rows.append({"finding": finding.name} | test._asdict())
    corrected = holm({row["finding"]: row["p"] for row in rows})
    for row in rows:
        row["holm"] = corrected[row["finding"]]
        row["verdict"] = _verdict(row)
    return pd.DataFrame(rows, columns=["finding", "mean", "low", "high", "p", "holm", "pairs", "verdict"])


def _verdict(row: dict[str, Any]) -> str:
    if row["pairs"] < FEWEST_SEEDS or math.isnan(row["low"]):
        return "descriptive"
    if row["holm"] <= LEVEL and row["low"] > 0:
        return "shown"
    return "opposite" if row["holm"] <= LEVEL and row["high"] < 0 else "nothing"


def _findings(results: pd.DataFrame) -> list[Finding]:
    f1 = results[(results["metric"] == "f1") & (results["classifier"] == "network")]
    tables = f1[(f1["section"] == "few_shot_table") & (f1["shots"] <= 30)]
    digits = f1[f1["section"] == "few_shot"]
    few, many = digits[digits["shots"] <= FEW], digits[digits["shots"] >= MANY]
    gains = pd.concat({"first": _gain(few), "second": _gain(many)}, axis=1).dropna()
    blur = results[
        (results["section"] == "blur") & (results["method"] == "reconstruction") & (results["data"] != "faces")
    ]
    sharp = blur.groupby("seed")["value"].mean()
    return [
        Finding("gain_table", _pairs(tables, "vae", "none")),
        Finding("gain_digits", _pairs(few, SINGLE, "none")),
        Finding("one_beats_many", _pairs(digits, SINGLE, MULTI)),
        Finding("one_beats_many_fair", _pairs(digits, "from_shots", MULTI)),
        Finding("vanishes", gains),
        Finding("blur", pd.DataFrame({"first": np.ones(len(sharp)), "second": sharp.to_numpy()})),
    ]


def _pairs(rows: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Means over the numbers of shots that both methods have, a row a seed."""
    wide = rows.pivot_table(index=["seed", "shots"], columns="method", values="value", sort=True)
    if not {first, second} <= set(wide):
        return pd.DataFrame(columns=["first", "second"])
    both = wide[[first, second]].dropna().groupby("seed").mean()
    return both.set_axis(["first", "second"], axis=1)


def _gain(rows: pd.DataFrame) -> pd.Series:
    pairs = _pairs(rows, SINGLE, "none")
    return (pairs["first"] - pairs["second"]).astype(float)
