"""Tests: of the source's four findings, of further ones, of what the harness compares."""

from typing import Any, NamedTuple

import pandas as pd

from thesis_lib.evaluation.hypotheses import LEVEL
from thesis_lib.evaluation.statistics import can_reach, difference_to, holm, mean_interval, paired_difference
from thesis_lib.vae.parameters import FEW
from thesis_lib.vae.tables import permutation_of

MANY = 500
"""Many pictures a class are so many or more."""
FEW_ROWS = 30
"""Few examples of thyroid a class are so many or fewer."""
NO_GAIN = 0.005
"""A gain in weighted F1 that is taken for none: half a point."""
SINGLE, MULTI = "interpolation_noise", "multi"


COMPARISONS = {
    ("parts", "field"): (
        ("vae", "none"),
        ("classical_vae", "classical"),
        ("classical_vae_gc", "classical_vae"),
        ("classical_da_fusion_background", "pasted"),
        ("classical_da_fusion_object", "classical"),
        ("classical_da_fusion_filter", "classical_da_fusion_half"),
    ),
    ("mnist", "test"): (
        ("vae", "none"),
        ("classical_vae", "classical"),
        ("classical_vae_gc", "classical_vae"),
        ("classical_from_shots", "classical"),
    ),
}
"""What the harness is asked: a set and its split -> pairs of methods, each with its control.

Edited backgrounds are half of a batch in `classical_da_fusion_background`, as are the backgrounds drawn by no model in
`pasted`; in `classical_da_fusion` they are a quarter.
"""


class Finding(NamedTuple):
    """A finding and its test: each seed gives `first` and `second`; it holds where first - second is above zero.

    Attributes:
        name: As `finding_table` lists them.
        by_seed: Columns `first` and `second`, a row a seed.
        is_whole: What must be true as well; where it is not, the finding holds in part only.
        is_main: Whether it is one of the four that the source states.
        is_by_split: Whether a pair is a test split, of which there are three, and not a seed.
    """

    name: str
    by_seed: pd.DataFrame
    is_whole: bool = True
    is_main: bool = True
    is_by_split: bool = False


def finding_table(results: pd.DataFrame) -> pd.DataFrame:
    """What the results say to each finding that they bear on.

    The source's four:

    - `gain_digits`: with few pictures a class, mean weighted F1 over their numbers is higher with generated ones than
      without (MNIST, interpolation with noise, up to 10); consistent means a higher mean at every number.
    - `one_beats_many`: one VAE for all classes, which learns from all pictures without their labels, beats a VAE a
      class, which has the shots alone: codes of the shots, drawn the same way, over all numbers of shots.
    - `vanishes`: the gain on MNIST is larger with few than with many pictures; it is whole where with few there is one,
      its 95 % interval above 0, and with many none, its interval below half a point.
    - `blur`: reconstructions of digits have less edge energy than their originals (1 minus the ratio).

    Further: `gain_digits_from_shots`, as `gain_digits` with a VAE that has seen the shots alone; `gain_table` and
    `vanishes_table`, as `gain_digits` and `vanishes` (thyroid, VAE, up to 30 examples against 50 and more), a pair
    for each of the three permutations, whose seeds share a test split; `one_beats_many_from_shots`, where the one VAE,
    too, has the shots alone, and as many steps as the others together; `one_beats_many_as_published`, where the VAEs
    of the classes give prior samples, so that the sampling differs, too; `blur_parts`, as `blur`.

    A finding is shown when the sign-flip p value, Holm-corrected over those of the four, or of the further ones, that
    there are, is at most 0.05 and the 95 % t interval agrees; with too few pairs for that it is described.

    Args:
        results: Rows of `work.COLUMNS`.

    Returns:
        Columns finding, mean, low, high (in F1; of `blur` a share), p, holm, pairs, verdict: `shown`, `partly`,
        `opposite`, `nothing`, `descriptive`, and `few_splits` where no number of seeds would give pairs enough.
    """
    found = [finding for finding in _findings(results) if len(finding.by_seed)]
    rows: list[dict[str, Any]] = []
    for finding in found:
        test = paired_difference(finding.by_seed["first"].to_numpy(), finding.by_seed["second"].to_numpy())
        rows.append(finding._asdict() | {"finding": finding.name} | test._asdict())
    for is_main in (True, False):
        family = [row for row in rows if row["is_main"] == is_main]
        corrected = holm({row["finding"]: row["p"] for row in family})
        reached = can_reach({row["finding"]: 2 / 2 ** row["pairs"] for row in family}, LEVEL)
        for row in family:
            row["holm"] = corrected[row["finding"]]
            without = "few_splits" if row["is_by_split"] else "descriptive"
            row["verdict"] = _verdict(row) if reached[row["finding"]] else without
    return pd.DataFrame(rows, columns=["finding", "mean", "low", "high", "p", "holm", "pairs", "verdict"])


def harness_tests(results: pd.DataFrame) -> pd.DataFrame:
    """The harness's questions: each method's weighted F1 minus that of its control, seed by seed.

    Args:
        results: Rows of `work.COLUMNS`.

    Returns:
        Columns data (the set and its split), first, second, mean, low, high (in F1, 95 % t interval), p (exact sign
        flips), holm (corrected within the set), pairs; the comparisons in `COMPARISONS` whose methods are both there.
    """
    rows: list[dict[str, Any]] = []
    for (data, split), pairs in COMPARISONS.items():
        here = results[(results["section"] == "harness") & (results["data"] == data)]
        wide = here[here["metric"] == f"f1/{split}"].pivot(index="seed", columns="method", values="value")
        tests = {pair: difference_to(wide, *pair) for pair in pairs if set(pair) <= set(wide)}
        found = {pair: test for pair, test in tests.items() if test is not None}
        corrected = holm({str(pair): test.p for pair, test in found.items()})
        rows += [
            {"data": f"{data}, {split}", "first": pair[0], "second": pair[1], "holm": corrected[str(pair)]}
            | test._asdict()
            for pair, test in found.items()
        ]
    return pd.DataFrame(rows, columns=["data", "first", "second", "mean", "low", "high", "p", "holm", "pairs"])


def _verdict(row: dict[str, Any]) -> str:
    if row["holm"] <= LEVEL and row["low"] > 0:
        return "shown" if row["is_whole"] else "partly"
    return "opposite" if row["holm"] <= LEVEL and row["high"] < 0 else "nothing"


def _findings(results: pd.DataFrame) -> list[Finding]:
    f1 = results[(results["metric"] == "f1") & (results["classifier"] == "network")]
    tables = f1[f1["section"] == "few_shot_table"]
    tables = tables.assign(seed=tables["seed"].map(permutation_of))
    few_rows, many_rows = tables[tables["shots"] <= FEW_ROWS], tables[tables["shots"] > FEW_ROWS]
    digits = f1[f1["section"] == "few_shot"]
    few, many = digits[digits["shots"] <= FEW], digits[digits["shots"] >= MANY]
    gains = _gains(few, many, SINGLE)
    gone = False
    if len(gains):
        with_few, with_many = (mean_interval(gains[column].to_numpy()) for column in gains)
        gone = with_few.low > 0 and with_many.high < NO_GAIN
    return [
        Finding("gain_digits", _pairs(few, SINGLE, "none"), _at_every_number(few, SINGLE, "none")),
        Finding("one_beats_many", _pairs(digits, SINGLE, "multi_interpolation")),
        Finding("vanishes", gains, gone),
        Finding("blur", _lost(results, "mnist")),
        Finding(
            "gain_digits_from_shots",
            _pairs(few, "from_shots", "none"),
            _at_every_number(few, "from_shots", "none"),
            is_main=False,
        ),
        Finding(
            "gain_table",
            _pairs(few_rows, "vae", "none"),
            _at_every_number(few_rows, "vae", "none"),
            is_main=False,
            is_by_split=True,
        ),
        Finding("vanishes_table", _gains(few_rows, many_rows, "vae"), is_main=False, is_by_split=True),
        Finding("one_beats_many_from_shots", _pairs(digits, "from_shots", "multi_interpolation"), is_main=False),
        Finding("one_beats_many_as_published", _pairs(digits, SINGLE, MULTI), is_main=False),
        Finding("blur_parts", _lost(results, "parts"), is_main=False),
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


def _lost(results: pd.DataFrame, data: str) -> pd.DataFrame:
    """The originals' edge energy, 1, and that of their reconstructions, a row a seed."""
    rows = results[(results["section"] == "blur") & (results["method"] == "reconstruction") & (results["data"] == data)]
    return pd.DataFrame({"first": 1.0, "second": rows.set_index("seed")["value"]})


def _gains(few: pd.DataFrame, many: pd.DataFrame, method: str) -> pd.DataFrame:
    """A method's gain with few and with many examples, a row a seed."""
    gains = {name: _pairs(rows, method, "none") for name, rows in (("first", few), ("second", many))}
    columns = {name: (pairs["first"] - pairs["second"]).astype(float) for name, pairs in gains.items()}
    return pd.concat(columns, axis=1).dropna()
