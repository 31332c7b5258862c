"""The tables of companion study 2 as text, in English and German, and the words its figures use."""

import math
from collections.abc import Sequence

import pandas as pd

from thesis_lib.evaluation.statistics import difference_to, mean_interval
from thesis_lib.figures.words import number, plus_minus, points, signed, word
from thesis_lib.vae.methods import METHODS
from thesis_lib.vae.tabulate import REPEATED, outside, summarised

CONTROL = "classical"
"""The harness's method to which the others are compared, seed by seed."""
WORDS = {
    "none": ("no augmentation", "keine Augmentation"),
    "original": ("original", "Original"),
    "repeated": ("real ones repeated", "echte wiederholt"),
    "vae": ("VAE", "VAE"),
    "vae_gc": ("VAE + GC", "VAE + GC"),
    "noise": ("noise", "Rauschen"),
    "interpolation": ("interpolation", "Interpolation"),
    "extrapolation": ("extrapolation", "Extrapolation"),
    "interpolation_noise": ("interpolation + noise", "Interpolation + Rauschen"),
    "extrapolation_noise": ("extrapolation + noise", "Extrapolation + Rauschen"),
    "multi": ("multi-VAE", "Multi-VAE"),
    "from_shots": ("one VAE, shots only", "ein VAE, nur Shots"),
    "from_shots_extrapolation": ("one VAE, shots only, extrapolation", "ein VAE, nur Shots, Extrapolation"),
    "multi_interpolation": ("multi-VAE, interpolation + noise", "Multi-VAE, Interpolation + Rauschen"),
    "gc": ("interpolation + noise + GC", "Interpolation + Rauschen + GC"),
    "classical": ("classical views", "klassische Ansichten"),
    "pasted": ("classical + other backgrounds", "klassisch + andere Hintergründe"),
    "randaugment": ("RandAugment", "RandAugment"),
    "mixup_cutmix": ("mixup / CutMix", "Mixup / CutMix"),
    "da_fusion": ("DA-Fusion ID", "DA-Fusion ID"),
    "da_fusion_object": ("DA-Fusion ID, object edited", "DA-Fusion ID, Objekt bearbeitet"),
    "da_fusion_half": ("DA-Fusion ID, a half", "DA-Fusion ID, die Hälfte"),
    "da_fusion_filter": ("DA-Fusion + filter", "DA-Fusion + Filter"),
    "classical_vae": ("classical + VAE", "klassisch + VAE"),
    "classical_vae_gc": ("classical + VAE + GC", "klassisch + VAE + GC"),
    "classical_from_shots": ("classical + one VAE, shots only", "klassisch + ein VAE, nur Shots"),
    "classical_da_fusion": ("classical + DA-Fusion ID", "klassisch + DA-Fusion ID"),
    "classical_da_fusion_object": ("classical + DA-Fusion, object edited", "klassisch + DA-Fusion, Objekt bearbeitet"),
    "da_fusion_background": ("DA-Fusion ID, background edited", "DA-Fusion ID, Hintergrund bearbeitet"),
    "classical_da_fusion_background": ("classical + DA-Fusion, background edited",
                                       "klassisch + DA-Fusion, Hintergrund bearbeitet"),
    "classical_da_fusion_half": ("classical + DA-Fusion ID, a half", "klassisch + DA-Fusion ID, die Hälfte"),
    "classical_da_fusion_filter": ("classical + DA-Fusion + filter", "klassisch + DA-Fusion + Filter"),
    "reconstruction": ("reconstruction", "Rekonstruktion"),
    "early": ("early VAE", "früher VAE"),
    "prior": ("prior samples", "Prior-Stichprobe"),
    "network": ("small network", "kleines Netz"),
    "forest": ("random forest", "Random Forest"),
    "logistic": ("logistic regression", "logistische Regression"),
    "nearest": ("nearest neighbour", "nächster Nachbar"),
    "data": ("data", "Daten"),
    "shots": ("examples a class", "Beispiele je Klasse"),
    "generated": ("generated a class", "erzeugte je Klasse"),
    "classifier": ("classifier", "Klassifikator"),
    "method": ("method", "Verfahren"),
    "f1": ("weighted F1", "gewichtetes F1"),
    "more": ("more than classical", "mehr als klassisch"),
    "gain": ("gain in weighted F1, points", "Gewinn an gewichtetem F1, Punkte"),
    "sharpness": ("edge energy / original's", "Kantenenergie / Original"),
    "ours": ("ours, 95 % interval", "hier, 95-%-Intervall"),
    "table": ("table", "Tabelle"),
    "published_count": ("published numbers", "veröffentlichte Zahlen"),
    "outside": ("outside a further run's interval", "außerhalb des Intervalls eines weiteren Laufs"),
    "mean_difference": ("ours minus published, points", "hier minus veröffentlicht, Punkte"),
    "mean_distance": ("mean distance, points", "mittlerer Abstand, Punkte"),
    "proben1": ("PROBEN1", "PROBEN1"),
    "few_shot_table": ("thyroid, few examples", "thyroid, wenige Beispiele"),
    "few_shot": ("MNIST, few pictures", "MNIST, wenige Bilder"),
    "only_generated": ("MNIST, generated alone", "MNIST, nur erzeugte"),
    "many_generated": ("MNIST, many generated", "MNIST, viele erzeugte"),
    "parts": ("parts", "Teile"),
    "faces": ("faces", "Gesichter"),
    "control": ("against", "gegenüber"),
    "finding": ("finding", "Befund"),
    "difference": ("difference in F1, points", "Differenz in F1, Punkte"),
    "p": ("p (Holm)", "p (Holm)"), "pairs": ("pairs", "Paare"),
    "gain_table": ("generated examples help when real ones are few, thyroid",
                   "erzeugte Beispiele helfen, wenn echte wenige sind, thyroid"),
    "gain_digits": ("generated examples help when real ones are few, MNIST",
                    "erzeugte Beispiele helfen, wenn echte wenige sind, MNIST"),
    "gain_digits_from_shots": ("generated examples help when real ones are few, MNIST, VAE of the shots alone",
                               "erzeugte Beispiele helfen, wenn echte wenige sind, MNIST, VAE nur aus den Shots"),
    "one_beats_many": ("one VAE beats a VAE a class", "ein VAE schlägt einen je Klasse"),
    "one_beats_many_from_shots": ("one VAE beats a VAE a class, both of the shots alone",
                                  "ein VAE schlägt einen je Klasse, beide nur aus den Shots"),
    "one_beats_many_as_published": ("one VAE beats a VAE a class, whose codes come from the prior (published)",
                                    "ein VAE schlägt einen je Klasse mit Codes aus dem Prior (veröffentlicht)"),
    "few_splits": ("Descriptive only: three test splits.", "Nur beschreibend: drei Testteile."),
    "partly": ("In part only.", "Nur zum Teil."),
    "vanishes": ("the gain vanishes with data", "der Gewinn verschwindet mit mehr Daten"),
    "vanishes_table": ("the gain vanishes with data, thyroid", "der Gewinn verschwindet mit mehr Daten, thyroid"),
    "blur": ("reconstructed digits are blurred (edge energy lost, %)",
             "rekonstruierte Ziffern sind unscharf (verlorene Kantenenergie, %)"),
    "blur_parts": ("reconstructed parts are blurred (edge energy lost, %)",
                   "rekonstruierte Teile sind unscharf (verlorene Kantenenergie, %)"),
}  # fmt: skip


def study_word(key: str, language: str = "en") -> str:
    """The study's own word for `key`, or the one that all figures share."""
    return WORDS[key][language == "de"] if key in WORDS else word(key, language)


def in_beta(beta: str | float, language: str = "en") -> str:
    """A weight of the KL term in words: ``β = 0.5``, ``β = norm``."""
    text = f"{beta:g}" if isinstance(beta, float) else beta
    return f"β = {text.replace('.', ',') if language == 'de' else text}"


def readable(results: pd.DataFrame, section: str, language: str = "en") -> pd.DataFrame:
    """A table of the source as text: a row a data set or number of examples and a classifier, a column a method.

    Args:
        results: Rows of `vae.work.COLUMNS`.
        section: Which table.
        language: `en` or `de`.

    Returns:
        Cells such as ``71.4 ± 3.2 (70.1)``: percent, mean, half the 95 % t interval, in brackets the published number.
    """
    summary = summarised(results, section)
    columns = list(dict.fromkeys(zip(summary["method"], summary["beta"], strict=True)))
    several = summary.groupby("method")["beta"].nunique().max() > 1 if len(summary) else False
    head = "data" if section == "proben1" else "generated" if section == "only_generated" else "shots"
    lines = []
    for (data, at, classifier), rows in summary.groupby(["data", "at", "classifier"], sort=False):
        line = {study_word(head, language): data if head == "data" else str(at)}
        line[study_word("classifier", language)] = study_word(str(classifier), language)
        for method, beta in columns:
            cell = rows[(rows["method"] == method) & (rows["beta"] == beta)].to_dict("records")
            name = study_word(method, language) + (f", {in_beta(beta, language)}" if several and beta else "")
            line[name] = _cell(cell[0], language) if cell else number(float("nan"))
        lines.append(line)
    return pd.DataFrame(lines)


def _cell(row: dict[str, float], language: str) -> str:
    text = plus_minus(number(100 * row["mean"], 1, language), row["low"], row["high"], language)
    known = row["published"]
    return text if math.isnan(known) else f"{text} ({number(100 * known, 1, language)})"


def readable_gaps(results: pd.DataFrame, sections: Sequence[str], language: str = "en") -> pd.DataFrame:
    """How many published numbers lie where a further run of ours would not, and how far all are on average, in points.

    A row a table, of PROBEN1 a row a set. Baselines that a table repeats from another count there only; with one seed
    there is no interval to be outside of.
    """
    lines = []
    for section in sections:
        summary = summarised(results, section)
        if section in REPEATED:
            summary = summary[summary["method"] != "none"]
        known = summary[summary["published"].notna()]
        several = known["data"].nunique() > 1
        for data, rows in known.groupby("data", sort=False):
            name = study_word(section, language) + (f", {data}" if several else "")
            far = number(float("nan")) if rows["low"].isna().all() else str(len(outside(rows)))
            apart = 100 * (rows["mean"] - rows["published"])
            means = (signed(apart.mean(), 1, language), number(apart.abs().mean(), 1, language))
            lines.append((name, len(rows), far, *means))
    heads = ("table", "published_count", "outside", "mean_difference", "mean_distance")
    return pd.DataFrame(lines, columns=[study_word(head, language) for head in heads])


def harness_methods(rows: pd.DataFrame, language: str = "en") -> dict[str, str]:
    """The harness's methods in order, in words; each with its number of seeds where a data set's differ in it.

    A method whose numbers differ between data sets has all of them, in the order of the data sets.
    """
    seeds = rows.groupby(["data", "method"], sort=False)["seed"].nunique().unstack("data", sort=False)
    several = (seeds.nunique() > 1).any()
    names = {}
    for method in METHODS:
        if method in seeds.index:
            counts = dict.fromkeys(seeds.loc[method].dropna().astype(int))
            names[method] = study_word(method, language) + (f" (n = {', '.join(map(str, counts))})" if several else "")
    return names


def harness_heads(rows: pd.DataFrame, language: str = "en") -> dict[tuple[str, str], str]:
    """(Data set, metric) -> its name in words; with its number of seeds where the data sets differ in it."""
    seeds = rows.groupby("data")["seed"].nunique()
    heads = {}
    for data, metric in dict.fromkeys(zip(rows["data"], rows["metric"], strict=True)):
        name = f"{study_word(data, language)}, {study_word(metric.partition('/')[2], language)}"
        heads[data, metric] = name + (f" (n = {seeds[data]})" if seeds.nunique() > 1 else "")
    return heads


def readable_harness(results: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """The harness as text: a row a method, generated pictures a class, two columns a data set and split.

    Weighted F1 in percent, and seed by seed how much more that is than with classical views, in points; both with half
    the 95 % t interval.
    """
    rows = results[(results["section"] == "harness") & results["metric"].str.startswith("f1/")]
    lines = []
    made = rows.groupby("method")["generated"].max()
    for method, name in harness_methods(rows, language).items():
        line = {study_word("method", language): name, study_word("generated", language): str(made[method])}
        for (data, metric), head in harness_heads(rows, language).items():
            values = rows[(rows["method"] == method) & (rows["data"] == data) & (rows["metric"] == metric)]["value"]
            line[head] = number(float("nan"))
            if len(values):
                line[head] = _cell(mean_interval(values.to_numpy())._asdict() | {"published": math.nan}, language)
            line[f"{head}, {study_word('more', language)}"] = _more(rows, method, data, metric, language)
        lines.append(line)
    return pd.DataFrame(lines)


def _more(rows: pd.DataFrame, method: str, data: str, metric: str, language: str) -> str:
    chosen = rows[(rows["data"] == data) & (rows["metric"] == metric)]
    wide = chosen.pivot(index="seed", columns="method", values="value")
    more = difference_to(wide, method, CONTROL)
    return "" if more is None else points(more.mean, more.low, more.high, language)


def readable_findings(findings: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """What `finding_table` returns as text; differences in points, those of blur in percent."""
    lines = [
        {
            study_word("finding", language): study_word(row["finding"], language),
            study_word("difference", language): points(row["mean"], row["low"], row["high"], language),
            study_word("pairs", language): str(row["pairs"]),
            study_word("p", language): number(row["holm"], 4, language),
            study_word("verdict", language): study_word(row["verdict"], language),
        }
        for row in findings.to_dict("records")
    ]
    return pd.DataFrame(lines)


def readable_comparisons(tests: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """What `harness_tests` returns as text; differences in points."""
    lines = []
    for test in tests.to_dict("records"):
        data, _, split = str(test["data"]).partition(", ")
        lines.append({
            study_word("data", language): f"{study_word(data, language)}, {study_word(split, language)}",
            study_word("method", language): study_word(test["first"], language),
            study_word("control", language): study_word(test["second"], language),
            study_word("difference", language): points(test["mean"], test["low"], test["high"], language),
            study_word("p", language): number(test["holm"], 4, language),
            word("seeds", language): str(test["pairs"]),
        })  # fmt: skip
    return pd.DataFrame(lines)
