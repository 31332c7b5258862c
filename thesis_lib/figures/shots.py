"""Numbers of shots side by side: runs that differ in nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib.errors import ThesisError
from thesis_lib.figures.tables import tidy_metrics
from thesis_lib.parameter_files import read_parameters
from thesis_lib.parameters import Parameters, Study
from thesis_lib.storage import read_json
from thesis_lib.workflow.stages import is_done_with

_FREE = {"name", "description", "seeds", "arms", "explore", "explore_seeds", "variants", "language"}


def by_shots(run: Path, parameters: Parameters, table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """A run's arms beside those of the finished runs in the same folder that differ in the number of shots alone.

    Args:
        run: The run's folder.
        parameters: The run's.
        table: The run's numbers, as `tables.tidy_metrics` makes them.
        metrics: The metrics to compare.

    Returns:
        A row an arm, seed and number of shots, for the arms and seeds that all these runs have: columns shots, arm,
        seed, and the metrics in percent. Of two runs with equal shots the one with more seeds counts, and this run
        before any other.
    """
    tables = {parameters.data.shots: table}
    for file in sorted(run.parent.glob("*/metrics.json")):
        try:
            other = read_parameters(file.with_name("parameters.yaml"))
        except ThesisError:  # of an older version
            continue
        if isinstance(other, Study):
            continue
        shots = other.data.shots
        if shots == parameters.data.shots or _rest(other) != _rest(parameters):
            continue
        if not is_done_with(other, file.parent):  # its numbers are of other parameters, or not all there yet
            continue
        found = tidy_metrics(read_json(file, ""))
        if shots not in tables or found["seed"].nunique() > tables[shots]["seed"].nunique():
            tables[shots] = found
    whole = pd.concat([found.assign(shots=shots) for shots, found in tables.items()])
    wide = whole[whole["metric"].isin(metrics)].pivot(index=["arm", "seed", "shots"], columns="metric", values="value")
    in_all = wide.groupby(["arm", "seed"]).transform("size") == len(tables)
    return (100 * wide[in_all]).reset_index().sort_values(["shots", "arm", "seed"], ignore_index=True)


def _rest(parameters: Parameters) -> dict[str, Any]:
    """What must agree: the number of sources and the kNN detector's neighbours go with the shots."""
    content = parameters.model_dump(mode="json", exclude=_FREE)
    content["data"].pop("shots")
    content["generation"].pop("sources")
    content["evaluation"].pop("knn")
    return content
