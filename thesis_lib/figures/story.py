"""What a run says in words: answers to the two questions and to what might explain them, made from the numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib.evaluation.hypotheses import FEWEST_SEEDS
from thesis_lib.evaluation.statistics import PairedDifference, mean_interval
from thesis_lib.figures.surface import dose_trend, surface_cells
from thesis_lib.figures.tables import differences
from thesis_lib.figures.words import interval, number, p_value, signed, word
from thesis_lib.storage import read_json

NAMES = {
    "top1/field": "accuracy in changed conditions (field)",
    "top1/test": "accuracy in the laboratory set-up (test)",
    "top1_knn/field": "accuracy of nearest neighbours in changed conditions",
    "auroc/near/knn": "near-OOD AUROC (kNN)",
    "auroc/far/knn": "far-OOD AUROC (kNN)",
    "auroc/near/knn_projection": "near-OOD AUROC of kNN on the projection head's output",
}
ANSWERS = {
    "shown": "Yes.",
    "shown_here": "Yes, for these pictures and parts; that it holds beyond them was not shown.",
    "opposite": "No: the opposite was shown.",
    "nothing": "Nothing was shown.",
    "descriptive": "Too few seeds to say; what follows only describes.",
}


def collect_metrics(analyses: Mapping[int, Path]) -> dict[str, dict[str, Any]]:
    """The metrics of every arm and seed: arm -> seed (as text) -> what `evaluate_arm` measured.

    Args:
        analyses: Seed -> its analysis folder.
    """
    results: dict[str, dict[str, Any]] = {}
    for seed, folder in analyses.items():
        for arm, values in read_json(folder / "metrics.json", "run notebook 06 first").items():
            results.setdefault(arm, {})[str(seed)] = values
    return results


def say(table: pd.DataFrame, hypotheses: pd.DataFrame, surface: pd.DataFrame | None = None) -> list[str]:
    """What the run says to the thesis's two questions, and to its three explanations where arms speak to them.

    Every sentence is made from the numbers and claims no more than their intervals carry; the answers to the questions
    are the verdicts on the named hypotheses.

    Args:
        table: As `tables.tidy_metrics` makes it.
        hypotheses: As `hypothesis_table` makes it.
        surface: As `surface_table` makes it, or none.

    Returns:
        Paragraphs: the two questions, then quality, compression and sampling, those that the arms allow.
    """
    verdicts = dict(zip(hypotheses["name"], hypotheses["verdict"], strict=True))
    surface = None if surface is None or surface.empty else surface
    paragraphs = [
        _first_question(table, verdicts),
        _second_question(table, verdicts),
        _quality(table),
        _compression(table, verdicts, surface),
        _sampling(table, verdicts, surface),
    ]
    if any(paragraphs[2:]):
        paragraphs.append(["The explanations rest on intervals not corrected for their number: read them as hints."])
    return [" ".join(sentences) for sentences in paragraphs if sentences]


def _first_question(table: pd.DataFrame, verdicts: Mapping[str, str]) -> list[str]:
    question = "Do synthetic pictures inside the class (ID) help?"
    facts = [_fact(table, "real_id", "real", metric) for metric in ("top1/field", "top1/test")]
    if not any(facts):
        return [question, "This run cannot say: it has no real and real + ID to compare."]
    answer = f"In changed conditions: {ANSWERS[verdicts['H1']]}" if "H1" in verdicts else _unnamed_answer(table)
    alone = _fact(table, "real_id", "real", "top1_knn/field", "The encoder alone, without a probe, ")
    rival = _fact(table, "real_id", "real_strong", "top1/field", "Against the cheap competitor, ")
    return [question, answer, *filter(None, [*facts, alone, rival])]


def _unnamed_answer(table: pd.DataFrame) -> str:
    """The answer to the first question without field pictures: by test accuracy, which no hypothesis names."""
    change = _change(table, "real_id", "real", "top1/test")
    if change is None or change.pairs < FEWEST_SEEDS:
        return ANSWERS["descriptive"]
    if change.low <= 0 <= change.high:
        return ANSWERS["nothing"]
    return f"{'Yes' if change.low > 0 else 'No, they harm'}, by an interval that no hypothesis named beforehand."


def _second_question(table: pd.DataFrame, verdicts: Mapping[str, str]) -> list[str]:
    question = "Do near-OOD pictures, as negatives only, help?"
    rejection = _fact(table, "real_id_nearood", "real_id", "auroc/near/knn")
    recognition = _fact(table, "real_id_nearood", "real_id", "top1/test")
    if not rejection and not recognition:
        return [question, "This run cannot say: it has no real + ID and real + ID + near-OOD to compare."]
    if "H2" in verdicts:
        sentences = [question, f"For rejection: {ANSWERS[verdicts['H2']]}", rejection]
    else:
        sentences = [question, "Rejection cannot be measured: there are no near-OOD parts to test with."]
    if "H3" in verdicts:
        cost = {
            "shown": "that it costs no more than 2 points was shown.",
            "shown_here": "that it costs no more than 2 points was shown for these pictures.",
            "opposite": "it costs more than 2 points.",
            "nothing": "that it costs no more than 2 points was not shown.",
            "descriptive": "too few seeds to say what it costs.",
        }
        sentences += [f"For recognition: {cost[verdicts['H3']]}", recognition]
    sentences += filter(None, [
        _fact(table, arm, base, f"auroc/near/{space}", lead)
        for arm, base, space, lead in (
            ("real_id_nearood", "real_id", "knn_projection", "Where the negatives act, "),
            ("oracle_nearood", "oracle_id", "knn_projection", "There, with a perfect generator's pictures, "),
            ("oracle_nearood_head", "oracle_id_head", "knn_projection", "With a head and a perfect generator, in it: "),
            ("oracle_nearood_head", "oracle_id_head", "knn", "And in what is kept: "),
        )
    ])  # fmt: skip
    filler = _fact(table, "real_id_nearood", "filler", "auroc/near/knn", "Is it only more pictures? With a filler, ")
    return [*sentences, *filter(None, [filler])]


def _quality(table: pd.DataFrame) -> list[str]:
    """The first explanation: better pictures would do; the oracle arms have what a perfect generator would make."""
    sentences = []
    for oracle, base, made, made_base, metric in (
        ("oracle_id", "real", "real_id", "real", "top1/field"),
        ("oracle_id", "real", "real_id", "real", "top1/test"),
        ("oracle_nearood", "oracle_id", "real_id_nearood", "real_id", "auroc/near/knn"),
        ("oracle_nearood", "oracle_id", "real_id_nearood", "real_id", "auroc/far/knn"),
        ("oracle_nearood", "oracle_id", "real_id_nearood", "real_id", "top1/test"),
    ):
        perfect = _change(table, oracle, base, metric)
        if perfect is None:
            continue
        sentences.append(_fact(table, oracle, base, metric))
        if perfect.pairs < FEWEST_SEEDS:
            continue
        if perfect.high < 0:
            sentences.append("Even perfect pictures make it worse, so better ones are no remedy.")
        elif perfect.low <= 0:
            sentences.append("Not even of perfect pictures was it shown that they help.")
        else:
            sentences.append(f"Perfect pictures help{_shortfall(table, (oracle, base), (made, made_base), metric)}.")
    return ["First explanation, the quality of the pictures.", *sentences] if sentences else []


def _shortfall(table: pd.DataFrame, perfect: tuple[str, str], made: tuple[str, str], metric: str) -> str:
    """How far the generated pictures' gain stays behind the perfect ones', seed by seed."""
    wide = table[table["metric"] == metric].pivot(index="seed", columns="arm", values="value")
    if not {*made} <= set(wide):
        return ""
    gaps = (wide[perfect[0]] - wide[perfect[1]] - (wide[made[0]] - wide[made[1]])).dropna().to_numpy()
    if len(gaps) < FEWEST_SEEDS:
        return ""
    gap = mean_interval(gaps)
    points = _points(*gap, len(gaps))
    if gap.low <= 0 <= gap.high:
        return f"; that they help more than the generated ones was not shown: {points}"
    if gap.high < 0:
        return f", but less than the generated ones: {points}"
    return f", and more than the generated ones, so quality limits what these give: {points}"


def _compression(table: pd.DataFrame, verdicts: Mapping[str, str], surface: pd.DataFrame | None) -> list[str]:
    """The second: near-OOD negatives squeeze the classes; accuracy would then fall with them and with their dose."""
    change = _change(table, "real_id_nearood", "real_id", "top1/test")
    sentences = []
    if change is not None and change.pairs >= FEWEST_SEEDS:
        if change.high < 0:
            sentences.append("It falls, which speaks for it.")
        elif verdicts.get("H3") in ("shown", "shown_here"):
            sentences.append("It does not fall by more than 2 points, which speaks against it.")
        else:
            sentences.append("Neither that nor the contrary was shown.")
    sentences += _trend(surface, "top1/test")
    head = "Second explanation, near-OOD negatives compress what is learned of the classes: test accuracy would fall."
    return [head, *sentences] if sentences else []


def _sampling(table: pd.DataFrame, verdicts: Mapping[str, str], surface: pd.DataFrame | None) -> list[str]:
    """The third: which near-OOD pictures are taken, and how many, was wrong."""
    sentences = []
    if "H4" in verdicts:
        fact = _fact(table, "real_id_nearood", "nearood_random", "auroc/near/knn")
        sentences += [f"Does choosing them by hardness help? {ANSWERS[verdicts['H4']]}", fact]
    lead = "With negatives of the own class only, as in the thesis, "
    sentences += filter(None, [_fact(table, "real_id_nearood", "nearood_own_class", "auroc/near/knn", lead)])
    lead = "With other things' words, all of the picture made anew, and no choice by hardness: "
    sentences += filter(None, [_fact(table, "nearood_sibling", "real_id", "auroc/near/knn", lead)])
    sentences += filter(None, [_fact(table, "nearood_sibling", "real_id", "auroc/far/knn")])
    cells = pd.DataFrame() if surface is None else surface_cells(surface[surface["metric"] == "auroc/near/knn"])
    if surface is not None and len(cells):
        best = cells.sort_values("mean").iloc[-1]
        sentences.append(
            f"Over {len(cells)} combinations of dose and timestep the 95 % interval of the difference to real + ID in "
            f"{NAMES['auroc/near/knn']} lies above zero in {int((cells['low'] > 0).sum())} and below in "
            f"{int((cells['high'] < 0).sum())}; chance alone gives {number(0.025 * len(cells))} each. The best, "
            f"t = {best['timestep']} with dose {best['dose']}, is picked after the fact, so flattered: "
            f"{_points(*best[['mean', 'low', 'high', 'seeds']])}."
        )
        sentences += _trend(surface, "auroc/near/knn")
    return ["Third explanation, which near-OOD pictures are taken and how many.", *sentences] if sentences else []


def _trend(surface: pd.DataFrame | None, metric: str) -> list[str]:
    trend = None if surface is None else dose_trend(surface, metric)
    if surface is None or trend is None:
        return []
    doses = f"{surface['dose'].min()} to {surface['dose'].max()} near-OOD pictures a class and batch"
    seeds = surface["seed"].nunique()
    return [f"From {doses}, over all timesteps, the {NAMES[metric]} changes by {_points(*trend, seeds)}."]


def _change(table: pd.DataFrame, arm: str, reference: str, metric: str) -> PairedDifference | None:
    """The paired difference of two arms, if both are there."""
    rows = differences(table, {arm: reference}, [metric])
    return None if rows.empty else PairedDifference(*rows.iloc[0][list(PairedDifference._fields)])


def _fact(table: pd.DataFrame, arm: str, reference: str, metric: str, lead: str = "") -> str:
    """One sentence with both values, on the seeds both have, and their difference; empty where there is none."""
    change = _change(table, arm, reference, metric)
    if change is None:
        return ""
    wide = table[table["metric"] == metric].pivot(index="seed", columns="arm", values="value")
    means = 100 * wide[[arm, reference]].dropna().mean()
    text = f"{lead}{NAMES[metric]}: {word(reference)} {number(means[reference])} %, {word(arm)} {number(means[arm])} %"
    return f"{text[0].upper()}{text[1:]}, {_points(change.mean, change.low, change.high, change.pairs)}."


def _points(mean: float, low: float, high: float, seeds: int) -> str:
    """A difference with its interval and what so many seeds carry."""
    text = f"{signed(100 * mean)} points"
    if seeds == 1:
        return f"{text} with one seed, which says nothing about spread"
    text += f" (95 % interval {interval(low, high)}, {seeds} seeds)"
    if seeds < FEWEST_SEEDS:
        return f"{text}, which only describes"
    return f"{text}; the interval holds zero" if low <= 0 <= high else text


def seed_note(confirmatory: int, exploratory: int = 0) -> str:
    """How much so many seeds can show.

    Args:
        confirmatory: Seeds of the confirmatory arms.
        exploratory: Seeds of the exploratory arms, 0 without any.
    """
    smallest = p_value(2 / 2**confirmatory)
    if confirmatory < FEWEST_SEEDS:
        note = (
            f"{confirmatory} seed{'s' * (confirmatory > 1)}: this is descriptive only, the exact sign-flip test cannot "
        )
        note += f"go below p = {smallest}. Add seeds to the parameter file; none is repeated."
    else:
        note = f"{confirmatory} end-to-end seeds; the exact sign-flip test of one hypothesis can reach p = {smallest}."
    return note + (f" Exploratory arms have {exploratory}: they describe, nothing is tested." if exploratory else "")
