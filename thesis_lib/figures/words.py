"""The words on figures and tables, in English and German, and how a number is written in each."""

import math
import re
import textwrap

LANGUAGES = ("en", "de")

WORDS: dict[str, tuple[str, str]] = {
    # arms
    "real": ("real", "real"),
    "real_strong": ("real, strong views", "real, starke Ansichten"),
    "real_id": ("real + ID", "real + ID"),
    "real_id_nearood": ("real + ID + near-OOD", "real + ID + Nah-OOD"),
    "filler": ("real + ID + filler", "real + ID + Füllbilder"),
    "second_view": ("ID as second view", "ID als zweite Ansicht"),
    "cross_entropy_real": ("cross entropy, real", "Kreuzentropie, real"),
    "cross_entropy": ("cross entropy, real + ID", "Kreuzentropie, real + ID"),
    "outlier_exposure": ("outlier exposure", "Outlier Exposure"),
    "oracle_id": ("oracle ID", "Orakel-ID"),
    "oracle_nearood": ("oracle ID + near-OOD", "Orakel-ID + Nah-OOD"),
    "nearood_random": ("near-OOD, random", "Nah-OOD, zufällig"),
    "probe_id": ("ID in the probe only", "ID nur im Klassifikator"),
    "encoder_id": ("ID in the encoder only", "ID nur im Encoder"),
    "real_twice": ("real, twice the steps", "real, doppelt so lang"),
    "real_id_twice": ("real + ID, twice the steps", "real + ID, doppelt so lang"),
    "nearood_own_class": ("near-OOD, own class", "Nah-OOD, eigene Klasse"),
    "nearood_tilted": ("near-OOD, tilted weights", "Nah-OOD, Härtegewichte"),
    "nearood_weighted": ("near-OOD, weighted", "Nah-OOD, gewichtet"),
    "nearood_labels": ("near-OOD, label vectors", "Nah-OOD, Labelvektoren"),
    "nearood_sibling": ("near-OOD, other things", "Nah-OOD, andere Dinge"),
    "nearood_sibling_hard": ("other things, by hardness", "andere Dinge, nach Härte"),
    "real_id_head": ("real + ID, with head", "real + ID, mit Kopf"),
    "nearood_head": ("near-OOD, with head", "Nah-OOD, mit Kopf"),
    "oracle_id_head": ("oracle ID, with head", "Orakel-ID, mit Kopf"),
    "oracle_nearood_head": ("oracle ID + near-OOD, head", "Orakel-ID + Nah-OOD, Kopf"),
    "id_object": ("ID, object changed", "ID, Objekt verändert"),
    "id_background": ("ID, background changed", "ID, Hintergrund verändert"),
    "id_band": ("ID, inside the band", "ID, nur im Band"),
    "id_confidence": ("ID, confident half", "ID, sichere Hälfte"),
    "id_half": ("ID, half at random", "ID, Hälfte nach Zufall"),
    "id_generative": ("ID, generative filter", "ID, generativer Filter"),
    "exploratory": ("exploratory", "explorativ"),
    # the study of pairs and triplets: sets, scenarios, methods beyond
    "mnist": ("MNIST", "MNIST"),
    "cifar10": ("CIFAR-10", "CIFAR-10"),
    "parts": ("bundled parts", "beiliegende Teile"),
    "pairwise_none": ("pairs, none", "Paare, ohne"),
    "pairwise_fer": ("pairs, FER", "Paare, FER"),
    "pairwise_simclr": ("pairs, SimCLR", "Paare, SimCLR"),
    "triplet_none": ("triplets, none", "Tripel, ohne"),
    "triplet_fer": ("triplets, FER", "Tripel, FER"),
    "triplet_simclr": ("triplets, SimCLR", "Tripel, SimCLR"),
    "before_training": ("before training", "vor dem Training"),  # breaks where a narrow column ends
    "untrained": ("untrained", "untrainiert"),
    "triplet_fresh": ("triplets, fresh views", "Tripel, neue Ansichten"),
    "triplet_anchor": ("triplets, all augmented", "Tripel, alle augmentiert"),
    "triplet_same_class": ("triplets, positive of the class", "Tripel, Positiv der Klasse"),
    "triplet_unlabelled": ("triplets, any negative", "Tripel, beliebiges Negativ"),
    "triplet_semi_hard": ("triplets, semi-hard negatives", "Tripel, halbschwere Negative"),
    "triplet_hard": ("triplets, hard negatives", "Tripel, schwere Negative"),
    "triplet_batch_hard": ("triplets, batch-hard", "Tripel, schwerste im Stapel"),
    "triplet_rate": ("triplets, higher rate", "Tripel, höhere Lernrate"),
    "margin_loss": ("pairs, margin loss", "Paare, Margin-Verlust"),
    "nt_xent": ("NT-Xent, unlabelled", "NT-Xent, ohne Labels"),
    "nt_xent_debiased": ("NT-Xent, debiased", "NT-Xent, entzerrt"),
    "nt_xent_labelled": ("NT-Xent, labelled negatives", "NT-Xent, Negative mit Labels"),
    "supcon": ("SupCon", "SupCon"),
    "classifier": ("cross entropy", "Kreuzentropie"),
    "components": ("32 principal components", "32 Hauptkomponenten"),
    "triplet_views": ("triplets, NT-Xent's views", "Tripel, Ansichten wie NT-Xent"),
    "pairwise_anchor": ("pairs, all augmented", "Paare, alle augmentiert"),
    "positives": ("positives", "Positive"),
    "negatives": ("negatives", "Negative"),
    "alone": ("negatives, a batch of their own", "Negative, ein eigener Batch"),
    "pairwise_rate": ("pairs, higher learning rate", "Paare, höhere Lernrate"),
    "anchor": ("anchor", "Anker"),
    "positive": ("positive", "Positiv"),
    "negative": ("negative", "Negativ"),
    "set": ("data", "Daten"),
    "scenario": ("scenario", "Szenario"),
    "published": ("published", "veröffentlicht"),
    "ours": ("here", "hier"),
    "frozen": ("frozen", "fest"),
    "top3": ("top-3", "Top-3"),
    "labels_used": ("labels in training", "Labels im Training"),
    "steps": ("steps", "Schritte"),
    "pictures_a_step": ("pictures a step", "Bilder je Schritt"),
    "more_than": ("points more than", "Punkte mehr als"),
    "published_way": ("as published", "wie veröffentlicht"),
    "learning_rate": ("learning rate", "Lernrate"),
    "yes": ("yes", "ja"),
    "no": ("no", "nein"),
    "pca": ("PCA", "PCA"),
    "perplexity": ("perplexity", "Perplexität"),
    "accuracy_in_percent": ("accuracy in %", "Genauigkeit in %"),
    # splits, sets, kinds
    "train": ("training", "Training"),
    "valid": ("validation", "Validierung"),
    "test": ("test", "Test"),
    "field": ("field", "Feld"),
    "id": ("ID", "ID"),
    "near_ood": ("near-OOD", "Nah-OOD"),
    "near": ("near-OOD", "Nah-OOD"),
    "far": ("far-OOD", "Fern-OOD"),
    "oracle": ("oracle", "Orakel"),
    "source": ("source", "Quelle"),
    # what may change
    "none": ("everything", "alles"),
    "object": ("object", "Objekt"),
    "background": ("background", "Hintergrund"),
    "sibling": ("other things", "andere Dinge"),
    "box": ("part of the object", "Teil des Objekts"),
    # detectors
    "msp": ("MSP", "MSP"),
    "energy": ("energy", "Energie"),
    "knn": ("kNN", "kNN"),
    "knn_projection": ("kNN, projection", "kNN, Projektion"),
    "mahalanobis": ("Mahalanobis", "Mahalanobis"),
    "odin": ("ODIN", "ODIN"),
    "size": ("size alone", "nur Größe"),
    "silhouette": ("silhouette alone", "nur Silhouette"),
    # measures
    "top1": ("top-1 accuracy", "Top-1-Genauigkeit"),
    "auroc": ("AUROC", "AUROC"),
    # metrics of the comparison, all in percent
    "top1_knn": ("top-1 accuracy of nearest neighbours", "Top-1-Genauigkeit nächster Nachbarn"),
    "top1/test": ("Top-1 test", "Top-1 Test"),
    "top1/field": ("Top-1 field", "Top-1 Feld"),
    "auroc/near/knn": ("AUROC near", "AUROC nah"),
    "auroc_field/near/knn": ("AUROC near, field", "AUROC nah, Feld"),
    "auroc/far/knn": ("AUROC far", "AUROC fern"),
    "ood/test/near/knn/fpr95_id_positive": ("FPR95 near", "FPR95 nah"),
    "ood/field/near/knn/fpr95_id_positive": ("FPR95 near, field", "FPR95 nah, Feld"),
    "ood/test/far/knn/fpr95_id_positive": ("FPR95 far", "FPR95 fern"),
    # hypotheses and what is said to them
    "H1": (
        "H1: real + ID recognises parts in changed conditions better than real",
        "H1: real + ID erkennt Teile unter veränderten Bedingungen besser als real",
    ),
    "H2": (
        "H2: real + ID + near-OOD rejects near-OOD parts better than real + ID",
        "H2: real + ID + Nah-OOD weist Nah-OOD-Teile besser ab als real + ID",
    ),
    "H3": (
        "H3: real + ID + near-OOD is at most 2 points worse on test than real + ID",
        "H3: real + ID + Nah-OOD ist im Test höchstens 2 Punkte schlechter als real + ID",
    ),
    "H4": (
        "H4: near-OOD chosen by hardness rejects near-OOD parts better than random ones",
        "H4: nach Härte gewählte Nah-OOD weisen Nah-OOD-Teile besser ab als zufällige",
    ),
    "shown": ("Shown.", "Gezeigt."),
    "shown_here": (
        "Shown for these pictures and parts, not beyond them.",
        "Für diese Bilder und Teile gezeigt, nicht darüber hinaus.",
    ),
    "opposite": ("The opposite was shown.", "Das Gegenteil wurde gezeigt."),
    "nothing": ("Nothing was shown.", "Nichts wurde gezeigt."),
    "descriptive": ("Descriptive only: too few seeds.", "Nur beschreibend: zu wenige Startwerte."),
    "hypothesis": ("hypothesis", "Hypothese"),
    "points": ("difference in points", "Differenz in Punkten"),
    "over_seeds": ("95 % over seeds", "95 % über Startwerte"),
    "with_clusters": ("95 % with clusters", "95 % mit Clustern"),
    "holm": ("p (Holm)", "p (Holm)"),
    "verdict": ("verdict", "Urteil"),
    "reference": ("against", "gegenüber"),
    "dose": ("near-OOD pictures a class and batch", "Nah-OOD-Bilder je Klasse und Stapel"),
    "surface": ("difference to real + ID in points", "Differenz zu real + ID in Punkten"),
    # texture or shape
    "picture": ("picture", "Bild"),
    "chance": ("chance", "Zufall"),
    "patches": ("patches, changing places", "Kacheln mit vertauschten Plätzen"),
    "flattened": ("object filled with one colour", "Objekt einfarbig gefüllt"),
    "intact": ("intact", "unverändert"),
    "flat_own": ("its own mean colour", "eigene mittlere Farbe"),
    "flat": ("one colour for all", "eine Farbe für alle"),
    "flat_patches": ("the same in 8 × 8 patches", "dasselbe in 8 × 8 Kacheln"),  # noqa: RUF001
    # axes and table heads
    "arm": ("arm", "Versuchsarm"),
    "p": ("p (sign flip)", "p (Vorzeichentest)"),
    "seeds": ("seeds", "Startwerte"),
    "pictures": ("pictures", "Bilder"),
    "step": ("step", "Schritt"),
    "loss": ("loss", "Verlust"),
    "excess": ("loss minus collapse value", "Verlust minus Kollapswert"),
    "denoising_loss": ("denoising loss", "Entrauschungsverlust"),
    "collapse": ("collapse", "Kollaps"),
    "shots": ("shots a class", "Aufnahmen je Klasse"),
    "timestep": ("insertion timestep", "Einstiegszeitschritt"),
    "strength": ("strength", "Stärke"),
    "guidance_scale": ("guidance scale", "Guidance-Skala"),
    "snr": ("signal-to-noise ratio", "Signal-Rausch-Verhältnis"),
    "judge_accuracy": ("named right by the judge", "vom Prüfnetz richtig benannt"),
    "pixel_change": ("pixel change / VAE error", "Pixeländerung / VAE-Fehler"),
    "feature_change": ("feature change", "Merkmalsänderung"),
    "d_own": ("distance to the own class", "Abstand zur eigenen Klasse"),
    "in_band": ("% of the pictures", "% der Bilder"),
    "neither": ("neither", "keins"),
    "answer": ("classifier's answer in %", "Antwort des Klassifikators in %"),
    "through_vae": ("through the VAE", "durch den VAE"),
    "noised": ("noised", "verrauscht"),
    "may_change": ("may change", "veränderlich"),
    "result": ("result", "Ergebnis"),
    "difference": ("difference", "Differenz"),
    "predicted": ("predicted class", "vorhergesagte Klasse"),
    "true": ("true class", "wahre Klasse"),
    "share": ("% of the true class", "% der wahren Klasse"),
    "score": ("score (higher: more ID)", "Wert (höher: eher ID)"),
    "density": ("density", "Dichte"),
    "accepted_ood": ("OOD accepted", "OOD angenommen"),
    "accepted_id": ("ID accepted", "ID angenommen"),
    "against": ("ID against {}", "ID gegen {}"),
    "class": ("class", "Klasse"),
    "kind": ("kind", "Art"),
    "confidence": ("confidence (highest softmax probability)", "Konfidenz (höchste Softmax-Wahrscheinlichkeit)"),
    "right": ("ID, named right", "ID, richtig benannt"),
    "wrong": ("ID, named wrong", "ID, falsch benannt"),
    "tsne": ("t-SNE", "t-SNE"),
    "umap": ("UMAP", "UMAP"),
}


def word(key: str, language: str = "en") -> str:
    """The word for `key`; a key that is no word is a name, of a class or part, and is shown with its own letters.

    Variants of the dose by hardness surface are named by a pattern: ``t521_dose1`` is "t = 521, dose 1". A setting
    with its value is ``perplexity=20``.
    """
    if key in WORDS:
        return WORDS[key][language == "de"]
    if cell := re.fullmatch(r"t(\d+)_dose(\d+)", key):
        return f"t = {cell[1]}, {'Dosis' if language == 'de' else 'dose'} {cell[2]}"
    name, equals, value = key.partition("=")
    if equals and name in WORDS:
        return f"{word(name, language)} {value}"
    return key.replace("_", " ")


def metric_label(metric: str, language: str = "en") -> str:
    """The words for a metric's path such as ``auroc/near/knn``, with the unit."""
    head, *rest = metric.split("/")
    unit = " in %" if metric_scale(metric) == 100 else ""
    label = ", ".join([word(head, language) + unit, *(word(part, language) for part in rest)])
    return label[0].upper() + label[1:]


def metric_scale(metric: str) -> int:
    """100 for accuracies, which `metric_label` labels in percent, else 1."""
    return 100 if metric.startswith(("top1/", "top1_knn/")) else 1


def metric_title(metric: str, language: str = "en") -> str:
    """The short name of a metric of the comparison, with its unit, percent."""
    return f"{word(metric, language)} in %"


def number(value: float, digits: int = 1, language: str = "en") -> str:
    """`value` with so many decimals, a proper minus and the language's decimal sign; an en dash for nan."""
    if math.isnan(value):
        return "–"  # noqa: RUF001
    text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")
    return text.replace(".", ",") if language == "de" else text


def p_value(p: float, language: str = "en") -> str:
    """A p value with four decimals; one that would read 0 is said to be below the least of them."""
    return f"< {number(0.0001, 4, language)}" if p < 0.00005 else number(p, 4, language)


def percent(share: float, language: str = "en") -> str:
    """A share in whole percent; an en dash for nan."""
    return number(100 * share, 0, language) + ("" if math.isnan(share) else " %")


def signed(value: float, digits: int = 1, language: str = "en") -> str:
    """`value` as `number` writes it, with a plus where it is positive after rounding."""
    text = number(value, digits, language)
    return f"+{text}" if round(value, digits) > 0 else text


def plus_minus(mean: str, low: float, high: float, language: str = "en") -> str:
    """A mean, already written, and half the width of its symmetrical interval in percent: ``71.4 ± 3.2``."""
    return mean if math.isnan(low) else f"{mean} ± {number(50 * (high - low), 1, language)}"


def points(mean: float, low: float, high: float, language: str = "en") -> str:
    """A difference of shares in points, and half the width of its symmetrical interval: ``+2.3 ± 1.9``."""
    return plus_minus(signed(100 * mean, 1, language), low, high, language)


def interval(low: float, high: float, language: str = "en") -> str:
    """The ends of an interval of shares, in points: ``[0.4, 4.2]``, in German ``[0,4; 4,2]``; an en dash for none."""
    if math.isnan(low):
        return number(low)
    between = "; " if language == "de" else ", "
    return f"[{number(100 * low, 1, language)}{between}{number(100 * high, 1, language)}]"


def wrapped(text: str, inches: float, points: float) -> str:
    """`text` broken into lines that fit a width at a font size."""
    return "\n".join(textwrap.wrap(text, max(4, int(inches * 72 / (0.62 * points))), break_on_hyphens=False))
