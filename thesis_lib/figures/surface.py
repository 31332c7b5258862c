"""Dose by hardness: what near-OOD pictures do, by how many there are and at which timestep they were made."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from thesis_lib.evaluation.statistics import Interval, mean_interval
from thesis_lib.figures.style import LanguageFormatter, panels, styled
from thesis_lib.figures.words import number, points, word, wrapped
from thesis_lib.parameters import Arm, Parameters

# Okabe and Ito's vermilion and blue, lightened so that black stands out on them; worse is hatched for readers in grey.
DIVERGING = LinearSegmentedColormap.from_list("worse_better", ["#DF8640", "#FFFFFF", "#4095C5"])


def surface_arms(parameters: Parameters) -> dict[str, tuple[int, int]]:
    """The variants that take all near-OOD pictures of one timestep: arm -> (dose, timestep), as for `surface_table`.

    Those that change anything else beside are none of them; of two at one place the first counts.
    """
    choice, dose = "training.near_ood_choice", "training.near_ood_per_class"
    found: dict[tuple[int, int], str] = {}
    for name, variant in parameters.variants.items():
        training = parameters.of_arm(name)[1].training
        alone = variant.arm is Arm.REAL_ID_NEAROOD and choice in variant.set and set(variant.set) <= {choice, dose}
        if alone and isinstance(training.near_ood_choice, int) and training.near_ood_set == "near_ood":
            found.setdefault((training.near_ood_per_class, training.near_ood_choice), name)
    return {name: place for place, name in found.items()}


def surface_table(
    table: pd.DataFrame, cells: Mapping[str, tuple[int, int]], metrics: Sequence[str], reference: str = "real_id"
) -> pd.DataFrame:
    """The arms of the surface, each beside the reference with the same seed.

    Args:
        table: As `tables.tidy_metrics` makes it.
        cells: Arm -> (dose: near-OOD pictures a class and batch, insertion timestep).
        metrics: The metrics to show; those that arms or the reference lack are left out.
        reference: The arm without near-OOD pictures.

    Returns:
        Columns metric, dose, timestep, seed, value, reference; a row an arm, metric and seed that the reference has.
    """
    found = table[table["metric"].isin(metrics)]
    base = found[found["arm"] == reference].rename(columns={"value": "reference"}).drop(columns="arm")
    rows = found[found["arm"].isin(list(cells))].merge(base, on=["metric", "seed"])
    places = pd.DataFrame([(arm, *cell) for arm, cell in cells.items()], columns=["arm", "dose", "timestep"])
    rows = rows.merge(places, on="arm")
    rows["metric"] = pd.Categorical(rows["metric"], list(metrics), ordered=True)
    columns = ["metric", "dose", "timestep", "seed", "value", "reference"]
    return rows[columns].sort_values(columns[:4]).astype({"metric": str}).reset_index(drop=True)


def surface_cells(surface: pd.DataFrame) -> pd.DataFrame:
    """The mean paired difference of each cell: columns metric, dose, timestep, mean, low, high (95 % t), seeds."""
    rows = [
        (*place, *mean_interval((cell["value"] - cell["reference"]).to_numpy()), len(cell))
        for place, cell in surface.groupby(["metric", "dose", "timestep"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["metric", "dose", "timestep", "mean", "low", "high", "seeds"])


def dose_trend(surface: pd.DataFrame, metric: str) -> Interval | None:
    """What the highest dose adds to the lowest, over seeds, averaged over the timesteps that have both; or none."""
    wide = surface[surface["metric"] == metric].pivot(index=["seed", "timestep"], columns="dose", values="value")
    if wide.shape[1] < 2:
        return None
    steps = (wide[wide.columns.max()] - wide[wide.columns.min()]).dropna()
    return mean_interval(steps.groupby("seed").mean().to_numpy()) if len(steps) else None


@styled
def response_surface(surface: pd.DataFrame, language: str = "en") -> Figure:
    """A heat map a metric: the mean difference to the reference in points, blue where better, centred at 0.

    Args:
        surface: As `surface_table` makes it, with at least one row.
        language: `en` or `de`.

    Returns:
        The figure; under each difference half the width of its 95 % t interval over seeds, where there are several.
    """
    cells = surface_cells(surface)
    metrics = list(dict.fromkeys(cells["metric"]))
    doses, timesteps = (sorted(cells[axis].unique()) for axis in ("dose", "timestep"))
    limit = max(1.0, 100 * cells["mean"].abs().max())
    columns = min(2, len(metrics))
    figure, axes = panels(len(metrics), columns, 0.95 + 0.42 * len(doses), sharey=True)
    with mpl.rc_context({"hatch.linewidth": 0.3}):
        for ax, metric in zip(axes, metrics, strict=True):
            own = cells[cells["metric"] == metric]
            grid = 100 * own.pivot(index="dose", columns="timestep", values="mean").reindex(
                index=doses, columns=timesteps
            )
            edges = np.arange(len(timesteps) + 1) - 0.5, np.arange(len(doses) + 1) - 0.5
            image = ax.pcolormesh(*edges, grid, cmap=DIVERGING, vmin=-limit, vmax=limit)
            for x, timestep in enumerate(timesteps):
                for y, dose in enumerate(doses):
                    if grid.iat[y, x] < 0:
                        corner = (x - 0.5, y - 0.5)
                        ax.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="0.4", linewidth=0))
                    behind = DIVERGING(image.norm(grid.iat[y, x]))
                    text = _cell(own[(own["dose"] == dose) & (own["timestep"] == timestep)], language)
                    ax.text(x, y, text, ha="center", va="center", fontsize=7,
                            path_effects=[withStroke(linewidth=3, foreground=behind)])  # fmt: skip
            ax.set_xticks(range(len(timesteps)), [str(timestep) for timestep in timesteps])
            ax.set_yticks(range(len(doses)), [str(dose) for dose in doses])
            ax.tick_params(length=0)
            ax.set(title=word(metric, language), xlabel=word("timestep", language))
    axes[0].set_ylabel(wrapped(word("dose", language), 0.42 * len(doses) + 0.6, 8))
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=15)
    bar.set_label(wrapped(word("surface", language), 0.42 * len(doses) + 0.6, 8))
    bar.ax.yaxis.set_major_formatter(LanguageFormatter(language))
    bar.outline.set_linewidth(0.4)
    return figure


def _cell(rows: pd.DataFrame, language: str) -> str:
    if rows.empty:
        return number(float("nan"))
    mean, low, high = rows.iloc[0][["mean", "low", "high"]]
    return points(mean, low, high, language).replace(" ±", "\n±")
