"""The words on figures and tables, in English and German, and how a number is written in each."""

import math
import textwrap

WORDS: dict[str, tuple[str, str]] = {
    # arms
    "real": ("real", "real"),
    "real_strong": ("real, strong views", "real, starke Ansichten"),
    "real_vae": ("real through VAE", "real durch VAE"),
    "real_id": ("real + ID", "real + ID"),
    "real_id_nearood": ("real + ID + near-OOD", "real + ID + Nah-OOD"),
    "filler": ("real + ID + filler", "real + ID + Füllbilder"),
    "cross_entropy": ("cross entropy", "Kreuzentropie"),
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
    "box": ("part of the object", "Teil des Objekts"),
    # detectors
    "msp": ("MSP", "MSP"),
    "energy": ("energy", "Energie"),
    "knn": ("kNN", "kNN"),
    "mahalanobis": ("Mahalanobis", "Mahalanobis"),
    "odin": ("ODIN", "ODIN"),
    "size": ("size alone", "nur Größe"),
    "silhouette": ("silhouette alone", "nur Silhouette"),
    # measures
    "top1": ("top-1 accuracy", "Top-1-Genauigkeit"),
    "top3": ("top-3 accuracy", "Top-3-Genauigkeit"),
    "balanced": ("balanced accuracy", "balancierte Genauigkeit"),
    "ece": ("calibration error", "Kalibrierungsfehler"),
    "nll": ("negative log-likelihood", "negative Log-Likelihood"),
    "auroc": ("AUROC", "AUROC"),
    "auroc_field": ("AUROC (ID: field)", "AUROC (ID: Feld)"),
    "aupr_id_positive": ("AUPR, ID positive", "AUPR, ID positiv"),
    "aupr_ood_positive": ("AUPR, OOD positive", "AUPR, OOD positiv"),
    "fpr95_id_positive": ("FPR at 95 % TPR, ID positive", "FPR bei 95 % TPR, ID positiv"),
    "fpr95_ood_positive": ("FPR at 95 % TPR, OOD positive", "FPR bei 95 % TPR, OOD positiv"),
    "thesis_confidence": ("mean confidence", "mittlere Konfidenz"),
    "ood": ("OOD", "OOD"),
    "difference": ("difference", "Differenz"),
    "classification": ("classification", "Klassifikation"),
    # axes and table heads
    "arm": ("arm", "Versuchsarm"),
    "measure": ("measure", "Maß"),
    "p": ("p (sign flip)", "p (Vorzeichentest)"),
    "seeds": ("seeds", "Startwerte"),
    "pictures": ("pictures", "Bilder"),
    "step": ("step", "Schritt"),
    "excess": ("loss minus collapse value", "Verlust minus Kollapswert"),
    "denoising_loss": ("denoising loss", "Entrauschungsverlust"),
    "collapse": ("collapse", "Kollaps"),
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
    "predicted": ("predicted class", "vorhergesagte Klasse"),
    "true": ("true class", "wahre Klasse"),
    "share": ("% of the true class", "% der wahren Klasse"),
    "score": ("score (higher: more ID)", "Wert (höher: eher ID)"),
    "density": ("density", "Dichte"),
    "accepted_ood": ("OOD accepted", "OOD angenommen"),
    "accepted_id": ("ID accepted", "ID angenommen"),
    "against": ("ID against {}", "ID gegen {}"),
    "tsne": ("t-SNE", "t-SNE"),
    "umap": ("UMAP", "UMAP"),
}
PERCENT = {"top1", "top3", "balanced"}
"""Measures written in percent; all others as they are."""


def word(key: str, language: str = "en") -> str:
    """The word for `key`; a key that is no word is a name, of a class or part, and is shown with its own letters."""
    return WORDS[key][language == "de"] if key in WORDS else key.replace("_", " ")


def metric_label(metric: str, language: str = "en") -> str:
    """The words for a metric's path such as ``auroc/near/knn``, with the unit."""
    head, *rest = metric.split("/")
    unit = " in %" if metric_scale(metric) == 100 else ""
    label = ", ".join([word(head, language) + unit, *(word(part, language) for part in rest)])
    return label[0].upper() + label[1:]


def metric_scale(metric: str) -> int:
    """100 for metrics written in percent, else 1."""
    return 100 if PERCENT & set(metric.split("/")) else 1


def number(value: float, digits: int = 1, language: str = "en") -> str:
    """`value` with so many decimals, a proper minus and the language's decimal sign; an en dash for nan."""
    if math.isnan(value):
        return "–"  # noqa: RUF001
    text = f"{value:.{digits}f}".replace("-", "\u2212")
    return text.replace(".", ",") if language == "de" else text


def wrapped(text: str, inches: float, points: float) -> str:
    """`text` broken into lines that fit a width at a font size."""
    return "\n".join(textwrap.wrap(text, max(4, int(inches * 72 / (0.62 * points))), break_on_hyphens=False))
