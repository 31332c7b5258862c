"""The source's findings, put to tests named before the run: a main one for each of the four, and two further."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from thesis_lib.evaluation.hypotheses import FEWEST_SEEDS, LEVEL
from thesis_lib.evaluation.statistics import holm, mean_interval, paired_difference

FEW, MANY = 10, 500
"""Few pictures a class are so many or fewer; many, so many or more."""
SINGLE, MULTI = "interpolation_noise", "multi"


class Finding(NamedTuple):
    """A finding and its test: each seed gives `first` and `second`; it holds where first - second is above zero.

    Attributes:
        name: As `finding_table` lists them.
        by_seed: Columns `first` and `second`, a row a seed.
        is_whole: What must be true as well; where it is not, the finding holds in part only.
        is_main: Whether it is one of the four that the source states.
    """

    name: str
    by_seed: pd.DataFrame
    is_whole: bool = True
    is_main: bool = True


def finding_table(results: pd.DataFrame) -> pd.DataFrame:
    """What the results say to each finding that they bear on.

    The source's four:

    - `gain_digits`: with few pictures a class, mean weighted F1 over their numbers is higher with generated ones than
      without (MNIST, interpolation with noise, up to 10); consistent means a higher mean at every number.
    - `one_beats_many`: one VAE for all classes, which learns from all pictures without their labels, beats a VAE a
      class, which has the shots alone: codes of the shots, drawn the same way, over all numbers of shots.
    - `vanishes`: the gain on MNIST is larger with few than with many pictures; and with few there is one, its 95 %
      interval above 0.
    - `blur`: reconstructions of digits and parts have less edge energy than their originals (1 minus the ratio).

    Further: `gain_table`, as `gain_digits` (thyroid, VAE, up to 30 examples); `one_beats_many_from_shots`, where the
    one VAE, too, has the shots alone, and as many steps as the others together; `one_beats_many_as_published`, where
    the VAEs of the classes give prior samples, so that the sampling differs, too.

    With at least six seeds a finding is shown when the sign-flip p value, Holm-corrected over the four or over the
    further ones, is at most 0.05 and the 95 % t interval agrees; with fewer it is described.

    Args:
        results: Rows of `work.COLUMNS`.

    Returns:
        Columns finding, mean, low, high (in F1; of `blur` a share), p, holm, pairs, verdict: `shown`, `partly`,
        `opposite`, `nothing`, `descriptive`.
    """
    found = [finding for finding in _findings(results) if len(finding.by_seed)]
    rows: list[dict[str, Any]] = []
    for finding in found:
        test = paired_difference(finding.by_seed["first"].to_numpy(), finding.by_seed["second"].to_numpy())
        rows.append(finding._asdict() | {"finding": finding.name} | test._asdict())
    for is_main in (True, False):
        family = [row for row in rows if row["is_main"] == is_main]
        corrected = holm({row["finding"]: row["p"] for row in family})
        for row in family:
            row["holm"] = corrected[row["finding"]]
            row["verdict"] = _verdict(row)
    return pd.DataFrame(rows, columns=["finding", "mean", "low", "high", "p", "holm", "pairs", "verdict"])


def _verdict(row: dict[str, Any]) -> str:
    if row["pairs"] < FEWEST_SEEDS or math.isnan(row["low"]):
        return "descriptive"
    if row["holm"] <= LEVEL and row["low"] > 0:
        return "shown" if row["is_whole"] else "partly"
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
    gained = len(gains) > 0 and mean_interval(gains["first"].to_numpy()).low > 0
    return [
        Finding("gain_digits", _pairs(few, SINGLE, "none"), _at_every_number(few, SINGLE, "none")),
        Finding("one_beats_many", _pairs(digits, SINGLE, "multi_interpolation")),
        Finding("vanishes", gains, gained),
        Finding("blur", pd.DataFrame({"first": np.ones(len(sharp)), "second": sharp.to_numpy()})),
        Finding("gain_table", _pairs(tables, "vae", "none"), _at_every_number(tables, "vae", "none"), is_main=False),
        Finding("one_beats_many_from_shots", _pairs(digits, "from_shots", "multi_interpolation"), is_main=False),
        Finding("one_beats_many_as_published", _pairs(digits, SINGLE, MULTI), is_main=False),
    ]


def _at_every_number(rows: pd.DataFrame, first: str, second: str) -> bool:
    """Whether the mean of `first` over seeds is higher at every number of shots."""
    means = rows.pivot_table(index="shots", columns="method", values="value")
    return {first, second} <= set(means) and bool((means[first] > means[second]).all())


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
