"""The study's work list, scenario by scenario, and what its finished items say together."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.evaluation.statistics import PairedDifference, difference_to, mean_interval
from thesis_lib.pairwise.evaluation import judge
from thesis_lib.pairwise.network import SmallNetwork
from thesis_lib.pairwise.parameters import PairwiseTripletParameters, ProbeParameters, Scenario
from thesis_lib.pairwise.training import build_network, train
from thesis_lib.randomness import numpy_generator
from thesis_lib.side_by_side import run_side_by_side
from thesis_lib.tensors import load_tensors, read_made, save_tensors, tensor_digest

VERSION = 2
"""Part of what an item is made of: raise it when the code trains or measures differently."""
COLLAPSED = 0.05
"""The spread below which a network is said to map all pictures to nearly one direction; untrained ones have 0.16."""
PREFIX = "network|"
"""Of the network's tensors in an item's file."""

PUBLISHED: dict[tuple[str, str], tuple[float, float, float]] = {
    ("mnist", "pairwise_none"): (0.66, 0.88, 0.68), ("mnist", "triplet_none"): (0.81, 0.96, 0.85),
    ("mnist", "pairwise_fer"): (0.78, 0.94, 0.81), ("mnist", "triplet_fer"): (0.92, 0.98, 0.92),
    ("mnist", "pairwise_simclr"): (0.56, 0.82, 0.46), ("mnist", "triplet_simclr"): (0.93, 0.99, 0.93),
    ("cifar10", "pairwise_none"): (0.27, 0.58, 0.24), ("cifar10", "triplet_none"): (0.33, 0.66, 0.33),
    ("cifar10", "pairwise_fer"): (0.29, 0.58, 0.27), ("cifar10", "triplet_fer"): (0.33, 0.64, 0.34),
    ("cifar10", "pairwise_simclr"): (0.29, 0.63, 0.27), ("cifar10", "triplet_simclr"): (0.36, 0.69, 0.36),
}  # fmt: skip
"""Accuracy, top-3 accuracy and kNN accuracy of the source's figure 14, one run each, by set and scenario."""


class Item(NamedTuple):
    """A finished scenario.

    Attributes:
        scenario: What was done.
        metrics: As `judge` returns them.
        features: (test pictures, 32), the published way.
        losses: (steps,).
        seconds: It took.
        network: The network's state, its statistics frozen.
    """

    scenario: Scenario
    metrics: dict[str, Any]
    features: torch.Tensor
    losses: torch.Tensor
    seconds: float
    network: dict[str, torch.Tensor]


def run_scenarios(
    parameters: PairwiseTripletParameters,
    pictures: Mapping[str, LabelledPictures],
    folder: Path,
    processes: int | None = None,
) -> list[Item]:
    """Train and measure every scenario that has not been, and read the others.

    Args:
        parameters: The study's.
        pictures: The data sets by name.
        folder: Gets ``seed<S>/<set>/<scenario>.safetensors``: network, features, losses, metrics and what made them.
        processes: Scenarios at a time, see `run_side_by_side`.

    Returns:
        The items in the order of the work list.
    """
    digests = {name: tensor_digest(*data[:4]) for name, data in pictures.items()}
    work = []
    for scenario in parameters.scenarios():
        data, name, method, seed = scenario
        made_of = {
            "version": VERSION, "set": data, "pictures": digests[data],
            "method": method.model_dump(mode="json", exclude={"everywhere"}),
            "anchors": parameters.data.anchors, "batch": parameters.batch, "seed": seed,
            "probe": parameters.probe.model_dump(include={"held_out", "neighbours"}),
        }  # fmt: skip
        work.append((scenario, folder / f"seed{seed}" / data / f"{name}.safetensors", made_of))
    kept = [read_made(path, made_of) for _, path, made_of in work]
    arrays = {name: [tensor.numpy() for tensor in data[:4]] for name, data in pictures.items()}
    missing = [
        (scenario, arrays[scenario.data], pictures[scenario.data].classes, parameters, path, made_of)
        for (scenario, path, made_of), found in zip(work, kept, strict=True)
        if found is None
    ]
    run_side_by_side(_make, missing, "scenarios", processes)
    return [
        _item(scenario, *(found or load_tensors(path))) for (scenario, path, _), found in zip(work, kept, strict=True)
    ]


def _make(
    scenario: Scenario,
    arrays: list[np.ndarray],
    classes: list[str],
    parameters: PairwiseTripletParameters,
    path: Path,
    made_of: dict[str, Any],
) -> None:
    started = time.perf_counter()
    train_pictures, train_labels, test_pictures, test_labels = map(torch.from_numpy, arrays)
    pictures = LabelledPictures(train_pictures, train_labels, test_pictures, test_labels, classes)
    label = f"{scenario.data} {scenario.name} seed {scenario.seed}"
    network, losses = train(pictures, scenario.method, parameters.data.anchors, parameters.batch, scenario.seed, label)
    metrics, features = judge(network, pictures, parameters.batch, parameters.probe, scenario.seed)
    state = {f"{PREFIX}{key}": value for key, value in network.state_dict().items()}
    tensors = {**state, "features": features, "losses": torch.tensor(losses)}
    save_tensors(path, tensors, metrics=metrics, seconds=time.perf_counter() - started, made_of=made_of)


def _item(scenario: Scenario, tensors: dict[str, torch.Tensor], told: dict[str, Any]) -> Item:
    state = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
    return Item(scenario, told["metrics"], tensors["features"], tensors["losses"], told["seconds"], state)


def network_of(item: Item, pictures: LabelledPictures) -> SmallNetwork:
    """A finished scenario's network, its statistics frozen, in evaluation mode."""
    network = build_network(pictures.train, item.scenario.method, item.scenario.seed).eval()
    network.load_state_dict(item.network)
    return network


def measurements(items: Iterable[Item]) -> pd.DataFrame:
    """Every number of every item: columns set, scenario, seed, way (published, frozen), metric, value."""
    rows = [
        (item.scenario.data, item.scenario.name, item.scenario.seed, way, metric, value)
        for item in items
        for way, values in item.metrics.items()
        for metric, value in values.items()
        if metric != "confusion"
    ]
    return pd.DataFrame(rows, columns=["set", "scenario", "seed", "way", "metric", "value"])


def against(table: pd.DataFrame, reference: str) -> dict[tuple[str, str], PairedDifference]:
    """(set, scenario) -> its frozen accuracy minus that of the reference, seed by seed.

    Scenarios of a seed share first weights and split, and the order where they have as many items. Absent are those
    that have no seed with the reference.

    Args:
        table: As `measurements` makes it.
        reference: A scenario.
    """
    chosen = table[(table["way"] == "frozen") & (table["metric"] == "top1")]
    wide = chosen.pivot(index=["set", "seed"], columns="scenario", values="value")
    found = {
        (str(data), str(name)): difference_to(values, str(name), reference)
        for data, values in wide.groupby(level="set")
        for name in wide.columns
    }
    return {names: difference for names, difference in found.items() if difference is not None}


def summarised(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % t interval over seeds, and the published value where there is one.

    Args:
        table: As `measurements` makes it.

    Returns:
        Columns set, scenario, way, metric, mean, low, high (nan with one seed), seeds, published (nan for none).
    """
    rows = []
    keys = ["set", "scenario", "way", "metric"]
    for (data, scenario, way, metric), values in table.groupby(keys, sort=False)["value"]:
        theirs = PUBLISHED.get((str(data), str(scenario)), (float("nan"),) * 3)
        published = dict(zip(("top1", "top3", "knn"), theirs, strict=True))[str(metric)]
        rows.append((data, scenario, way, metric, *mean_interval(values.to_numpy()), len(values), published))
    heads = ["set", "scenario", "way", "metric", "mean", "low", "high", "seeds", "published"]
    return pd.DataFrame(rows, columns=heads)


def best_scenarios(table: pd.DataFrame, names: Iterable[str]) -> dict[str, str]:
    """Of the scenarios in `names` each set's best by mean accuracy, the published way."""
    chosen = table[(table["way"] == "published") & (table["metric"] == "top1") & table["scenario"].isin(list(names))]
    means = chosen.groupby(["set", "scenario"], sort=False)["value"].mean()
    return {data: str(means[data].idxmax()) for data in dict.fromkeys(chosen["set"])}


def map_rows(count: int, probe: ProbeParameters, seed: int) -> list[int]:
    """Which of `count` test pictures are drawn in maps: `probe.points` of them at random, in the data set's order."""
    return sorted(numpy_generator(seed, "map points").permutation(count)[: probe.points].tolist())


def features_of(items: Iterable[Item], data: str, seed: int, rows: list[int]) -> dict[str, torch.Tensor]:
    """Scenario -> the features, published way, of so chosen test pictures of a set under one seed."""
    return {
        item.scenario.name: item.features[rows]
        for item in items
        if (item.scenario.data, item.scenario.seed) == (data, seed)
    }


def spread(features: torch.Tensor) -> float:
    """How far features (n, d) point apart: the root mean square distance of unit features from their mean, 0 to 1."""
    return float(F.normalize(features, dim=1).var(0, correction=0).sum().sqrt())


def collapsed(items: Iterable[Item]) -> list[tuple[Scenario, float]]:
    """The networks that map the test pictures to nearly one direction, each with its `spread`."""
    return [(item.scenario, found) for item in items if (found := spread(item.features)) < COLLAPSED]


def confusion_of(items: Iterable[Item], data: str, scenario: str) -> list[list[int]]:
    """A scenario's confusion matrix, published way, all seeds together: (c, c) counts, row = true class."""
    found = [
        torch.tensor(item.metrics["published"]["confusion"])
        for item in items
        if (item.scenario.data, item.scenario.name) == (data, scenario)
    ]
    return torch.stack(found).sum(0).tolist()


def seconds_a_seed(items: Iterable[Item], names: Iterable[str]) -> dict[str, float]:
    """Seconds that the scenarios in `names` took together, training and measuring, by set, mean over seeds."""
    chosen = [item for item in items if item.scenario.name in set(names)]
    table = pd.DataFrame([(i.scenario.data, i.scenario.seed, i.seconds) for i in chosen], columns=["set", "seed", "s"])
    means = table.groupby(["set", "seed"], sort=False)["s"].sum().groupby("set", sort=False).mean()
    return {str(data): float(seconds) for data, seconds in means.items()}
