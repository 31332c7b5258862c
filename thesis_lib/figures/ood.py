"""OOD detection: how the scores of ID and OOD pictures lie, and the ROC."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from thesis_lib.figures.style import COLOURS, LINES, localise, panels, styled
from thesis_lib.figures.words import number, word

LOOK = {"id": (COLOURS[0], "-", 0.35), "near": (COLOURS[3], "--", 0.0), "far": ("0.35", ":", 0.0)}


@styled
def score_histograms(scores: pd.DataFrame, language: str = "en") -> Figure:
    """The distributions of each detector's scores.

    Args:
        scores: Rows of `evaluation.ood.score_table` of one ID split and one OOD split.
        language: `en` or `de`.

    Returns:
        The figure, a panel a detector; the outermost 1 % of scores may lie outside the panel.
    """
    detectors = list(dict.fromkeys(scores["detector"]))
    figure, axes = panels(len(detectors), 3, 1.75)
    for ax, detector in zip(axes, detectors, strict=True):
        rows = scores[scores["detector"] == detector]
        low, high = np.quantile(rows["score"], [0.005, 0.995])
        bins = np.linspace(low, high if high > low else low + 1e-6, 31).tolist()
        for name, (colour, line, fill) in LOOK.items():
            values = rows.loc[rows["set"] == name, "score"]
            if len(values):
                ax.hist(values, bins, density=True, histtype="stepfilled", facecolor=(colour, fill), edgecolor=colour,
                        linestyle=line, linewidth=1.1, label=word(name, language))  # fmt: skip
        ax.set(title=word(detector, language), yticks=[])
        ax.locator_params(axis="x", nbins=4)
        localise(ax, language)
    figure.supxlabel(word("score", language), fontsize=8)
    figure.supylabel(word("density", language), fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


@styled
def roc_curves(scores: pd.DataFrame, language: str = "en") -> Figure:
    """ROC with ID as the positive class, a panel an OOD set, a line a detector.

    Each part weighs the same, so the area under a line is the part-averaged AUROC, which the legend gives.

    Args:
        scores: Rows of `evaluation.ood.score_table` of one ID split and one OOD split.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    from sklearn.metrics import auc, roc_curve

    sets = [name for name in ("near", "far") if (scores["set"] == name).any()]
    figure, axes = panels(len(sets), 2, 2.9)
    for ax, name in zip(axes, sets, strict=True):
        for index, (detector, rows) in enumerate(scores.groupby("detector", sort=False)):
            rows = rows[rows["set"].isin(["id", name])]
            weight = np.where(rows["set"] == "id", 1.0, 1 / rows.groupby("part")["part"].transform("size"))
            fpr, tpr, _ = roc_curve(rows["set"] == "id", rows["score"], sample_weight=weight)
            label = f"{word(str(detector), language)}  {number(auc(fpr, tpr), 2, language)}"
            ax.plot(fpr, tpr, color=COLOURS[index % 8], linestyle=LINES[index % 8], label=label)
        ax.plot([0, 1], [0, 1], color="0.7", linewidth=0.6)
        title = word("against", language).format(word(name, language))
        ax.set(title=title, xlabel=word("accepted_ood", language), ylabel=word("accepted_id", language), aspect="equal")
        ax.legend(loc="lower right", title="AUROC", title_fontsize=7)
        localise(ax, language)
    return figure
