"""What a run's report says and shows: the metrics of all seeds, the answers in words, the sections of the page."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib.errors import ThesisError
from thesis_lib.figures.report import Section
from thesis_lib.figures.tables import differences, summary
from thesis_lib.figures.words import metric_label, word
from thesis_lib.parameters import Parameters, dump_parameters
from thesis_lib.storage import read_json

MAIN = ("top1/test", "top1/field", "auroc/near/knn", "auroc/far/knn", "auroc/near/msp", "auroc_field/near/knn")
"""The metrics of the comparison, those that the data allow."""
QUESTIONS = (
    ("real_id", "real", "top1/field", "Do ID synthetic pictures improve recognition in changed conditions?"),
    ("real_id", "real", "top1/test", "Do they improve recognition in the laboratory set-up?"),
    ("real_id_nearood", "real_id", "auroc/near/knn", "Do near-OOD negatives improve rejection of near-OOD parts?"),
    ("real_id_nearood", "real_id", "top1/test", "What do they do to recognition?"),
)  # fmt: skip


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


def main_metrics(table: pd.DataFrame) -> list[str]:
    """The metrics of `MAIN` that there are.

    Raises:
        ThesisError: None of them is there.
    """
    there = [metric for metric in MAIN if metric in set(table["metric"])]
    if not there:
        raise ThesisError(
            "no arm has a test or field accuracy: the data set has neither split, so nothing can be compared"
        )
    return there


def say(table: pd.DataFrame) -> list[str]:
    """The questions and what the run says to each, in sentences that claim no more than the intervals carry.

    Args:
        table: As `tidy_metrics` makes it.
    """
    answers = []
    for arm, baseline, metric, question in QUESTIONS:
        rows = differences(table, baseline, [metric])
        rows = rows[rows["arm"] == arm]
        if rows.empty:
            continue
        row, means = rows.iloc[0], summary(table).set_index(["arm", "metric"])["mean"]
        values = f"{word(baseline)} {100 * means[baseline, metric]:.1f}, {word(arm)} {100 * means[arm, metric]:.1f}"
        points = f"a difference of {100 * row['mean']:+.1f} points"
        if math.isnan(row["low"]):
            verdict = "One seed says nothing about spread: take it as an illustration."
        else:
            points += f" (95 % interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f}, "
            points += f"{row['pairs']} seeds, p = {row['p']:.3f})"
            if row["low"] <= 0 <= row["high"]:
                verdict = "Nothing was shown: the interval holds zero."
            else:
                verdict = "Yes, as far as these seeds go." if row["mean"] > 0 else "No: it got worse."
        answers.append(f"{question} {metric_label(metric)}: {values}, {points}. {verdict}")
    return answers


def seed_note(seeds: int) -> str:
    """How much so many seeds can show."""
    if seeds < 6:
        return (
            f"With {seeds} seed{'s' * (seeds > 1)} this is descriptive only: the exact sign-flip test cannot go below "
            f"p = {2 / 2**seeds:.3g}. Add seeds to the parameter file; none is repeated."
        )
    return f"{seeds} end-to-end seeds; the exact sign-flip test can reach p = {2 / 2**seeds:.3g}."


def report_sections(
    run: Path, parameters: Parameters, table: pd.DataFrame, paired: pd.DataFrame | None, answers: list[str]
) -> list[Section]:
    """The sections of report.html: question, answers, pictures, curves, tables, maps, confusion, provenance.

    Args:
        run: The run's folder.
        parameters: The experiment's.
        table: The readable comparison.
        paired: The readable differences to `real`, or none.
        answers: What `say` returns.
    """
    first = run / f"seed{parameters.seeds[0]}"

    def figures(*wanted: tuple[Path, str]) -> list[tuple[Path, str, str]]:
        return [(path, caption, caption) for path, caption in wanted if path.exists()]

    arms = [str(arm) for arm in parameters.arms]
    analysis = first / "analysis"
    tables = [(table, "Mean over seeds and 95 % interval; shares in percent.")]
    if paired is not None and len(paired):
        tables.append((paired, "Paired differences to the arm real, in percentage points for shares."))
    missing = (
        [] if (run / "data" / "ood.parquet").exists() else ["Absent: OOD detection, the data set has no OOD pictures."]
    )
    if not (analysis / f"confusion_field_{arms[0]}.png").exists():
        missing.append("Absent: changed conditions, the data set has no field pictures.")
    stamp = read_json(first / "analysis" / "stage.json", "run notebook 06 first")
    versions = pd.DataFrame(list(stamp["versions"].items()), columns=["package", "version"])
    return [
        Section(
            "Questions and answers",
            "\n\n".join([parameters.description, *answers, seed_note(len(parameters.seeds)), *missing]),
            figures((run / "figures" / "comparison.png", "Arms: every seed, mean and 95 % interval")),
            tables,
        ),
        Section(
            "Data",
            "Left to right the splits; what is held out; the shots that the first seed trains on.",
            figures(
                (run / "data" / "classes.png", "One picture of each class and split"),
                (run / "data" / "ood_parts.png", "Parts held out as near and far OOD"),
                (run / "data" / "shots.png", "The shots of the first seed"),
            ),
        ),
        Section(
            "Synthetic pictures",
            "Left the source, then pictures made from it; t is the insertion timestep, g the guidance scale.",
            figures(
                (first / "concepts" / "previews.png", "What the learned concepts mean to the model"),
                (first / "synthetic" / "sheet_id.png", "In-distribution pictures"),
                (first / "synthetic" / "sheet_near_ood.png", "Near-OOD pictures"),
                *(
                    (path, f"Inspection: {path.stem.replace('_', ' ')}")
                    for path in sorted((run / "inspection").glob("*.png"))
                ),
            ),
        ),
        Section(
            "Training",
            "Loss relative to the value of a network that maps everything to one point.",
            figures((analysis / "training.png", "Training curves of the first seed")),
        ),
        Section(
            "Representations",
            "t-SNE and UMAP of test and OOD pictures, first seed.",
            figures(*((analysis / f"embedding_{arm}.png", f"Maps of {word(arm)}") for arm in arms)),
        ),
        Section(
            "Confusion and OOD scores",
            "First seed. ROC curves with ID as the positive class, OOD pictures weighted by part.",
            figures(
                *(
                    (analysis / f"confusion_{split}_{arm}.png", f"Confusion of {word(arm)} on {split}")
                    for arm in arms
                    for split in ("test", "field")
                ),
                *((analysis / f"roc_near_{arm}.png", f"ROC of {word(arm)} against near-OOD") for arm in arms),
            ),
        ),
        Section(
            "Provenance",
            f"Commit {stamp['commit']}{' with local changes' if stamp['dirty'] else ''}, Python {stamp['python']}, "
            f"{stamp['date']}. "
            f"Parameters: {' '.join(dump_parameters(parameters).split())}",
            tables=[(versions, "Packages")],
        ),
    ]  # fmt: skip
