"""The captions of all figures and tables, English and German, in the order in which a thesis has them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_lib.figures.words import LANGUAGES, word


@dataclass(frozen=True)
class Caption:
    """What a figure or table is called, and which notebook makes it.

    Attributes:
        place: Its path in a run, without the ending; braces stand for a seed, an arm, a split or a set.
        notebook: The number of its notebook.
        texts: English and German; braces as in `place`.
    """

    place: str
    notebook: str
    texts: tuple[str, str]

    def match(self, path: str) -> dict[str, str] | None:
        """What stands for the braces in a path of this kind; none for another path."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\w+?)", re.escape(self.place))
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None

    def text(self, language: str, values: Mapping[str, str]) -> str:
        """The caption in a language, names written as the figures write them."""
        named = {key: value if key == "seed" else word(value, language) for key, value in values.items()}
        return self.texts[LANGUAGES.index(language)].format_map(named)


_SPLITS = (
    "There are three test splits: with more than three seeds the intervals treat results on one split as independent.",
    "Es gibt drei Testteile: bei mehr als drei Startwerten behandeln die Intervalle Ergebnisse auf demselben Teil als "
    "unabhängig.",
)
"""What intervals of PROBEN1 take for granted."""
FIGURES = (
    Caption("data/class_balance", "01", (
        "Pictures of each class and split.",
        "Bilder je Klasse und Teilmenge.")),
    Caption("data/classes", "01", (
        "One picture of each split, of up to twenty classes.",
        "Ein Bild je Teilmenge, von bis zu zwanzig Klassen.")),
    Caption("data/ood_{set}", "01", (
        "Parts held out as out-of-distribution (OOD): {set}.",
        "Als außerhalb der Verteilung (OOD) zurückgehaltene Teile: {set}.")),
    Caption("data/shots", "01", (
        "The shots, of up to twenty classes: the training pictures that seed 0 chooses.",
        "Die Aufnahmen, von bis zu zwanzig Klassen: die der Startwert 0 zum Training wählt.")),
    Caption("data/masks", "01", (
        "The crop around the object; what lies outside the mask is faded.",
        "Der Ausschnitt um das Objekt; was außerhalb der Maske liegt, ist aufgehellt.")),
    Caption("data/through_vae", "01", (
        "Pictures before and after they pass through the VAE of the base model.",
        "Bilder vor und nach dem Durchgang durch den VAE des Basismodells.")),
    Caption("seed{seed}/concepts/loss", "02", (
        "Textual inversion: the denoising loss (seed {seed}).",
        "Textual Inversion: der Entrauschungsverlust (Startwert {seed}).")),
    Caption("seed{seed}/concepts/previews", "02", (
        "What the learned concepts mean to the base model: pictures from noise alone (seed {seed}).",
        "Was die gelernten Konzepte dem Basismodell bedeuten: Bilder allein aus Rauschen (Startwert {seed}).")),
    Caption("inspection/timesteps", "03", (
        "Pictures over the insertion timestep.",
        "Bilder über dem Einstiegszeitschritt.")),
    Caption("inspection/guidance", "03", (
        "One source at several guidance scales and insertion timesteps.",
        "Eine Quelle bei mehreren Guidance-Skalen und Einstiegszeitschritten.")),
    Caption("inspection/prompts", "03", (
        "One source under several prompts, at several insertion timesteps.",
        "Eine Quelle unter mehreren Prompts, bei mehreren Einstiegszeitschritten.")),
    Caption("inspection/regions", "03", (
        "One source with several regions that may change; the first row shows them.",
        "Eine Quelle mit mehreren veränderlichen Bereichen; die erste Zeile zeigt sie.")),
    Caption("seed{seed}/synthetic/hardness", "04", (
        "Distance to the own class (median and the middle 80 % of the pictures, which may run over the edge) and share "
        "of the pictures in the ID and the near-OOD band over the insertion timestep, and pictures along it (seed "
        "{seed}).",
        "Abstand zur eigenen Klasse (Median und die mittleren 80 % der Bilder, die über den Rand reichen können) und "
        "Anteil der Bilder im ID- und im Nah-OOD-Band über dem Einstiegszeitschritt, dazu Bilder (Startwert {seed}).")),
    Caption("seed{seed}/synthetic/sheet_{set}", "04", (
        "Synthetic pictures of the set {set}: left the source, then what was made from it; t is the insertion "
        "timestep, g the guidance scale (seed {seed}).",
        "Synthetische Bilder der Menge {set}: links die Quelle, dann daraus erzeugte Bilder; t ist der "
        "Einstiegszeitschritt, g die Guidance-Skala (Startwert {seed}).")),
    Caption("seed{seed}/{arm}/batch", "05", (
        "From a batch of the arm {arm}: two views of every picture of its first four classes, a row a class; synthetic "
        "pictures stand behind the real ones (seed {seed}).",
        "Aus einem Stapel des Versuchsarms {arm}: zwei Ansichten jedes Bildes der ersten vier Klassen, eine Zeile je "
        "Klasse; synthetische Bilder stehen hinter den echten (Startwert {seed}).")),
    Caption("seed{seed}/{arm}/loss", "05", (
        "Training loss of the arm {arm}, relative to the value of a collapsed network (seed {seed}).",
        "Trainingsverlust des Versuchsarms {arm}, bezogen auf den Wert eines kollabierten Netzes (Startwert {seed}).")),
    Caption("seed{seed}/analysis/training", "06", (
        "Training losses relative to the value of a collapsed network (seed {seed}).",
        "Trainingsverluste, bezogen auf den Wert eines kollabierten Netzes (Startwert {seed}).")),
    Caption("seed{seed}/analysis/roc_near_{arm}", "06", (
        "ROC curves of the arm {arm} against near-OOD pictures; ID is the positive class, OOD pictures are weighted "
        "by part (seed {seed}).",
        "ROC-Kurven des Versuchsarms {arm} gegen Nah-OOD-Bilder; ID ist die positive Klasse, OOD-Bilder sind nach "
        "Teilen gewichtet (Startwert {seed}).")),
    Caption("seed{seed}/analysis/scores_near_{arm}", "06", (
        "Scores of the arm {arm} on ID and near-OOD pictures (seed {seed}).",
        "Werte des Versuchsarms {arm} auf ID- und Nah-OOD-Bildern (Startwert {seed}).")),
    Caption("seed{seed}/analysis/confusion_{split}_{arm}", "06", (
        "Confusion matrix of the arm {arm} on {split} (seed {seed}).",
        "Konfusionsmatrix des Versuchsarms {arm}, {split} (Startwert {seed}).")),
    Caption("seed{seed}/analysis/saliency_maps", "06", (
        "Where each arm looks: HiResCAM for the true class. Below a picture the object's share of the area, below a "
        "map the share of the saliency inside the object (seed {seed}).",
        "Wohin jeder Versuchsarm schaut: HiResCAM für die wahre Klasse. Unter einem Bild der Flächenanteil des "
        "Objekts, unter einer Karte der Anteil der Salienz im Objekt (Startwert {seed}).")),
    Caption("seed{seed}/analysis/patch_pictures", "06", (
        "Pictures whose patches change places, and whose objects are filled with one colour (seed {seed}).",
        "Bilder, deren Kacheln die Plätze tauschen und deren Objekte einfarbig gefüllt sind (Startwert {seed}).")),
    Caption("seed{seed}/analysis/patch_test", "06", (
        "Texture or shape: accuracy when patches change places, and when objects are filled with one colour (seed "
        "{seed}).",
        "Textur oder Form: Genauigkeit, wenn Kacheln die Plätze tauschen und wenn Objekte einfarbig gefüllt sind "
        "(Startwert {seed}).")),
    Caption("seed{seed}/analysis/embedding_{arm}", "06", (
        "Maps of the representation of the arm {arm}, test and OOD pictures (seed {seed}).",
        "Karten der Repräsentation des Versuchsarms {arm}, Test- und OOD-Bilder (Startwert {seed}).")),
    Caption("seed{seed}/analysis/embeddings_{colouring}", "06", (
        "The arms' maps side by side, coloured by {colouring}; each is aligned with the first arm's (seed {seed}).",
        "Die Karten der Versuchsarme nebeneinander, gefärbt nach {colouring}; jede ist an der des ersten Arms "
        "ausgerichtet (Startwert {seed}).")),
    Caption("figures/comparison", "07", (
        "The arms compared: every seed, mean and 95 % interval (FPR95: lower is better); those of exploratory arms may "
        "run over the edge.",
        "Die Versuchsarme im Vergleich: jeder Startwert, Mittel und 95-%-Intervall (FPR95: niedriger ist besser); die "
        "explorativer Versuchsarme können über den Rand reichen.")),
    Caption("figures/forest", "07", (
        "Paired differences and 95 % intervals; open squares: exploratory arms.",
        "Gepaarte Differenzen und 95-%-Intervalle; offene Quadrate: explorative Versuchsarme.")),
    Caption("figures/surface", "07", (
        "Dose and insertion timestep of near-OOD pictures; hatched: worse than without.",
        "Dosis und Einstiegszeitschritt der Nah-OOD-Bilder; schraffiert: schlechter als ohne.")),
    Caption("figures/shots", "07", (
        "Runs with other numbers of shots, on the arms and seeds that all have; bands are 95 % intervals over seeds.",
        "Läufe mit anderen Zahlen von Aufnahmen, auf den gemeinsamen Versuchsarmen und Startwerten; Bänder sind "
        "95-%-Intervalle über Startwerte.")),
    Caption("figures/triplets_{set}", "08", (
        "{set}: three triplets of each augmentation, anchor, positive and negative.",
        "{set}: drei Tripel je Augmentierung, Anker, Positiv und Negativ.")),
    Caption("figures/scenarios", "08", (
        "Accuracy of the scenarios: crosses published, dots the same way here (mean and 95 % interval over seeds), "
        "squares with frozen statistics, standardised features and cross-validation.",
        "Genauigkeit der Szenarien: Kreuze veröffentlicht, Punkte hier auf dieselbe Weise (Mittel und 95-%-Intervall "
        "über Startwerte), Quadrate mit festen Statistiken, standardisierten Merkmalen und Kreuzvalidierung.")),
    Caption("figures/losses", "08", (
        "Training loss of the scenarios, first seed, running means over a twentieth of the steps; values of two losses "
        "are not comparable.",
        "Trainingsverlust der Szenarien, erster Startwert, gleitende Mittel über ein Zwanzigstel der Schritte; Werte "
        "zweier Verluste sind nicht vergleichbar.")),
    Caption("figures/tsne_{set}", "08", (
        "{set}: t-SNE of the scenarios' features, first seed.",
        "{set}: t-SNE der Merkmale der Szenarien, erster Startwert.")),
    Caption("figures/perplexities_{set}", "08", (
        "{set}: t-SNE at several perplexities, first seed: of the source's scenarios the best here.",
        "{set}: t-SNE bei mehreren Perplexitäten, erster Startwert: das hier beste der Szenarien der Quelle.")),
    Caption("figures/clouds_{set}", "08", (
        "{set}: three dimensions, first seed: of the source's scenarios the best here.",
        "{set}: drei Dimensionen, erster Startwert: das hier beste der Szenarien der Quelle.")),
    Caption("figures/pca_{set}", "08", (
        "{set}: the first two principal components of the scenarios' features, first seed.",
        "{set}: die ersten zwei Hauptkomponenten der Merkmale der Szenarien, erster Startwert.")),
    Caption("figures/confusion_{set}", "08", (
        "{set}: confusion matrix, the published way, all seeds together: of the source's scenarios the best here.",
        "{set}: Konfusionsmatrix auf die veröffentlichte Weise, alle Startwerte zusammen: das hier beste der Szenarien "
        "der Quelle.")),
    Caption("figures/activation_{set}", "08", (
        "{set}: what each scenario's network attends to, first seed: HiResCAM for the true class on test pictures, "
        "each map relative to its own maximum; last column: before training. Below a map the probability that logistic "
        "regression gives this class.",
        "{set}: worauf das Netz jedes Szenarios achtet, erster Startwert: HiResCAM für die wahre Klasse auf "
        "Testbildern, jede Karte relativ zu ihrem Maximum; letzte Spalte: vor dem Training. Unter einer Karte die "
        "Wahrscheinlichkeit, die die logistische Regression dieser Klasse gibt.")),
    Caption("figures/proben1", "09", (
        "PROBEN1, small network: gain in weighted F1 for each set and beta, without and with the generative "
        "classifier; mean and 95 % interval over seeds, which may run over the edge; diamonds published, crosses with"
        " as many real examples repeated. " + _SPLITS[0],
        "PROBEN1, kleines Netz: Gewinn an gewichtetem F1 je Menge und Beta, ohne und mit generativem Klassifikator; "
        "Mittel und 95-%-Intervall über Startwerte, das über den Rand reichen kann; Rauten veröffentlicht, Kreuze mit"
        " ebenso vielen wiederholten echten Beispielen. " + _SPLITS[1])),
    Caption("figures/few_shot_table", "09", (
        "Thyroid with few examples a class and as many generated, small network: gain in weighted F1, mean and 95 % "
        "interval over seeds, which may run over the edge; diamonds published. " + _SPLITS[0],
        "Thyroid mit wenigen Beispielen je Klasse und ebenso vielen erzeugten, kleines Netz: Gewinn an gewichtetem F1, "
        "Mittel und 95-%-Intervall über Startwerte, das über den Rand reichen kann; Rauten veröffentlicht. "
        + _SPLITS[1])),
    Caption("figures/latent_spaces", "09", (
        "MNIST in two latent dimensions for several betas: codes of test pictures, first seed.",
        "MNIST in zwei latenten Dimensionen für mehrere Betas: Codes von Testbildern, erster Startwert.")),
    Caption("figures/lines", "09", (
        "Lines between the codes of two pictures of a class; both ends are reconstructions (first seed).",
        "Strecken zwischen den Codes zweier Bilder einer Klasse; beide Enden sind Rekonstruktionen (erster "
        "Startwert).")),
    Caption("figures/generated_digits", "09", (
        "Digits as each way of sampling makes them from a few originals, a column a class (first seed).",
        "Ziffern, wie jede Art zu ziehen sie aus wenigen Originalen erzeugt, eine Spalte je Klasse (erster "
        "Startwert).")),
    Caption("figures/few_shot", "09", (
        "MNIST with few pictures a class and as many generated: gain in weighted F1, mean and 95 % interval over "
        "seeds, which may run over the edge; diamonds published.",
        "MNIST mit wenigen Bildern je Klasse und ebenso vielen erzeugten: Gewinn an gewichtetem F1, Mittel und "
        "95-%-Intervall über Startwerte, das über den Rand reichen kann; Rauten veröffentlicht.")),
    Caption("figures/only_generated", "09", (
        "MNIST, generated pictures alone train, over their number; dotted: trained on the originals, for as many "
        "steps.",
        "MNIST, nur erzeugte Bilder trainieren, über ihrer Zahl; gepunktet: auf den Originalen trainiert, ebenso viele "
        "Schritte.")),
    Caption("figures/many_generated", "09", (
        "MNIST with few pictures a class and many generated: gain in weighted F1, mean and 95 % interval over seeds, "
        "which may run over the edge; diamonds published.",
        "MNIST mit wenigen Bildern je Klasse und vielen erzeugten: Gewinn an gewichtetem F1, Mittel und "
        "95-%-Intervall über Startwerte, das über den Rand reichen kann; Rauten veröffentlicht.")),
    Caption("figures/faces", "09", (
        "A face under VAEs with several betas, one latent dimension at a time swept from -2.5 to 2.5; the dimensions "
        "that carry most, with what they carry.",
        "Ein Gesicht unter VAEs mit mehreren Betas, je eine latente Dimension von -2,5 bis 2,5 verändert; die "
        "Dimensionen, die am meisten tragen, und wie viel.")),
    Caption("figures/harness_pictures", "09", (
        "Parts as the harness trains on them, two of each of the first five classes: photographs, pictures of the VAE "
        "and of DA-Fusion, where its run has any, and the halves of them judged most real (first seed).",
        "Teile, wie der Vergleich mit ihnen trainiert, je zwei der ersten fünf Klassen: Aufnahmen, Bilder des VAE und "
        "von DA-Fusion, wo dessen Lauf welche hat, und die Hälften davon, die als am echtesten gelten (erster "
        "Startwert).")),
    Caption("figures/harness", "09", (
        "One network, one budget: weighted F1 of every kind of augmentation; every seed, mean and 95 % interval; n is "
        "the number of seeds, where methods or data sets differ in it.",
        "Ein Netz, ein Aufwand: gewichtetes F1 jeder Art von Augmentation; jeder Startwert, Mittel und "
        "95-%-Intervall; n ist die Zahl der Startwerte, wo sich Verfahren oder Daten darin unterscheiden.")),
    Caption("figures/blur", "09", (
        "Edge energy, at half the size, of reconstructions and generated pictures relative to the originals', which is "
        "1; only pictures that no VAE was trained on are reconstructed; a large dot is the mean of the seeds.",
        "Kantenenergie, bei halber Größe, von Rekonstruktionen und erzeugten Bildern, bezogen auf die der Originale, "
        "die 1 ist; rekonstruiert werden Bilder, mit denen kein VAE trainiert wurde; ein großer Punkt ist das Mittel "
        "der Startwerte.")),
    Caption("audit/pictures", "11", (
        "Synthetic pictures as they are made, and with errata 6 and 7.",
        "Synthetische Bilder, wie sie erzeugt werden, und mit den Fehlern 6 und 7.")),
    Caption("audit/shifts", "11", (
        "How far each erratum moves the differences of the arms from the correct version's.",
        "Wie weit jeder Fehler die Differenzen der Versuchsarme von denen der richtigen Fassung verschiebt.")),
    Caption("reconstructions", "10", (
        "Pictures and what the VAE of the miniature makes of them.",
        "Bilder und was der VAE der Miniatur aus ihnen macht.")),
    Caption("steering", "10", (
        "Do captions steer the miniature? The same noise in every row.",
        "Lenken Beschriftungen die Miniatur? In jeder Zeile dasselbe Rauschen.")),
    Caption("timesteps", "10", (
        "Pictures still named right by a judge, and how far they change, over the insertion timestep.",
        "Vom Prüfnetz noch richtig benannte Bilder und ihre Änderung über dem Einstiegszeitschritt.")),
)  # fmt: skip

TABLES = (
    Caption("tables/hypotheses", "07", (
        "The hypotheses named before the run: paired differences in points, 95 % intervals over seeds (t) and over "
        "seeds crossed with clusters (capture groups or OOD parts); p by sign flips. H3 is one-sided: its p and the "
        "bound over seeds. Shown: the p value after Holm is at most 0.05 and the interval over seeds agrees.",
        "Die vor dem Lauf genannten Hypothesen: gepaarte Differenzen in Punkten, 95-%-Intervalle über Startwerte (t) "
        "und über Startwerte, gekreuzt mit Clustern (Aufnahmegruppen oder OOD-Teile); p aus "
        "Vorzeichenwechseln. H3 ist einseitig: p und die Schranke über Startwerte. Gezeigt: p nach Holm höchstens "
        "0,05, und das Intervall über Startwerte stimmt zu.")),
    Caption("tables/arms", "07", (
        "Mean over seeds and half the 95 % t interval, in percent. AUROC and FPR at 95 % TPR (FPR95, lower is better) "
        "of the kNN detector: ID is the positive class, averaged over OOD parts; ID pictures are those of test, or of "
        "field where it says so. Exploratory arms have fewer seeds.",
        "Mittel über Startwerte und halbes 95-%-t-Intervall, in Prozent. AUROC und FPR bei 95 % TPR (FPR95, niedriger "
        "ist besser) des kNN-Detektors: ID ist die positive Klasse, gemittelt über OOD-Teile; ID-Bilder sind die des "
        "Tests, oder des Felds, wo es dasteht. Explorative Versuchsarme haben weniger Startwerte.")),
    Caption("tables/differences", "07", (
        "Paired differences in points and half their 95 % t interval, on the seeds both arms have; not corrected for "
        "their number.",
        "Gepaarte Differenzen in Punkten und halbes 95-%-t-Intervall, auf den Startwerten beider Versuchsarme; nicht "
        "für ihre Zahl korrigiert.")),
    Caption("tables/scenarios", "08", (
        "The source's scenarios, pairs with everything augmented, an untrained network and 32 principal components, "
        "in percent: published (one run each) and here, mean over seeds and half the 95 % t interval. Frozen: fixed "
        "statistics of batch normalisation, standardised features and cross-validation.",
        "Die Szenarien der Quelle, Paare mit allem augmentiert, ein untrainiertes Netz und 32 Hauptkomponenten, in "
        "Prozent: veröffentlicht (je ein Lauf) und hier, Mittel über Startwerte und halbes 95-%-t-Intervall. Fest: "
        "feste Statistiken der Batch-Normalisierung, standardisierte Merkmale und Kreuzvalidierung.")),
    Caption("tables/shortcuts", "08", (
        "Cosine similarity of anchors to positives and negatives of training pairs, both in one batch as in training, "
        "and to negatives in a batch of their own: mean of the seeds (lowest and highest). Where the last is high and "
        "the one before is low, the network knows a negative by its batch, not by its class.",
        "Kosinus-Ähnlichkeit der Anker zu Positiven und Negativen von Trainingspaaren, beide in einem Batch wie beim "
        "Training, und zu Negativen in einem eigenen Batch: Mittel der Startwerte (niedrigster und höchster). Wo die "
        "letzte hoch ist und die davor niedrig, kennt das Netz ein Negativ an seinem Batch, nicht an seiner Klasse.")),
    Caption("tables/beyond", "08", (
        "Every method that is trained takes the same number of steps on the same network, but for the sigmoid at its"
        " end; in percent, mean over seeds and half the 95 % t interval, the best first; the differences to "
        "triplets with SimCLR's augmentation, at the source's rate and at a tuned one, seed by seed, in points. In "
        "the study's file learning rates are the source's, "
        "but of triplets and pairs at a higher rate, the margin loss and the losses with NT-Xent's views the best of"
        " three or four on training pictures held out; debiased and labelled NT-Xent have NT-Xent's. Frozen: fixed "
        "statistics of batch normalisation, standardised"
        " features and cross-validation. As published: the test batches' statistics, raw features, one split. kNN is"
        " Euclidean, which suits losses that fix the scale of features. Descriptive: an interval for each row, not "
        "for all at once, over seeds, for these test pictures.",
        "Jedes Verfahren, das trainiert wird, nimmt gleich viele Schritte auf demselben Netz, bis auf das Sigmoid am"
        " Ende; in Prozent, Mittel über Startwerte und halbes 95-%-t-Intervall, das beste zuerst; die Differenzen "
        "zu Tripeln mit SimCLRs Augmentierung, mit der Lernrate der Quelle und einer abgestimmten, Startwert für "
        "Startwert, in Punkten. In der Datei der Studie sind "
        "Lernraten die der Quelle, bei Tripeln und Paaren mit höherer Rate, dem Margin-Verlust und den Verlusten "
        "mit Ansichten wie NT-Xent aber die besten von drei oder vier auf zurückgelegten Trainingsbildern; NT-Xent "
        "entzerrt und mit Labels haben die von NT-Xent. Fest: "
        "feste Statistiken der Batch-Normalisierung, standardisierte Merkmale und Kreuzvalidierung. Wie "
        "veröffentlicht: Statistiken der Testbatches, rohe Merkmale, eine Aufteilung. kNN ist euklidisch, was "
        "Verlusten entgegenkommt, die die Größe der Merkmale festlegen. Beschreibend: ein Intervall je Zeile, nicht "
        "für alle zugleich, über Startwerte, für diese Testbilder.")),
    Caption("tables/proben1", "09", (
        "PROBEN1, official splits: weighted F1 in percent, mean over seeds and half the 95 % t interval, in "
        "brackets the "
        "published number. Prior samples of one VAE per class; GC keeps the half of twice as many that "
        "passes for real; beside them as many real examples repeated. " + _SPLITS[0],
        "PROBEN1, amtliche Aufteilung: gewichtetes F1 in Prozent, Mittel über Startwerte und halbes "
        "95-%-t-Intervall, in "
        "Klammern die veröffentlichte Zahl. Ziehungen aus einem VAE je Klasse; GC behält von doppelt so vielen die "
        "Hälfte, die am ehesten für echt gilt; daneben ebenso viele wiederholte echte Beispiele. " + _SPLITS[1])),
    Caption("tables/few_shot_table", "09", (
        "Thyroid with few examples a class and as many generated: weighted F1 in percent on the official "
        "test split, in "
        "brackets the published number. " + _SPLITS[0],
        "Thyroid mit wenigen Beispielen je Klasse und ebenso vielen erzeugten: gewichtetes F1 in Prozent auf den "
        "amtlichen Testdaten, in Klammern die veröffentlichte Zahl. " + _SPLITS[1])),
    Caption("tables/few_shot", "09", (
        "MNIST with few pictures a class and as many generated: weighted F1 of the small network in percent, in "
        "brackets the published number.",
        "MNIST mit wenigen Bildern je Klasse und ebenso vielen erzeugten: gewichtetes F1 des kleinen Netzes "
        "in Prozent, "
        "in Klammern die veröffentlichte Zahl.")),
    Caption("tables/only_generated", "09", (
        "MNIST, generated pictures alone train: weighted F1 of the small network in percent, in brackets the published "
        "number.",
        "MNIST, nur erzeugte Bilder trainieren: gewichtetes F1 des kleinen Netzes in Prozent, in Klammern die "
        "veröffentlichte Zahl.")),
    Caption("tables/many_generated", "09", (
        "MNIST with few pictures a class and many generated: weighted F1 of the small network in percent, in brackets "
        "the published number.",
        "MNIST mit wenigen Bildern je Klasse und vielen erzeugten: gewichtetes F1 des kleinen Netzes in Prozent, in "
        "Klammern die veröffentlichte Zahl.")),
    Caption("tables/harness", "09", (
        "One network, one budget: weighted F1 in percent and, seed by seed, how much more than with classical views in "
        "points; means and half their 95 % t intervals. DA-Fusion with a filter has half as many pictures; there is no "
        "DA-Fusion for digits. n is the number of seeds, where methods or data sets differ in it.",
        "Ein Netz, ein Aufwand: gewichtetes F1 in Prozent und, Startwert für Startwert, wie viel mehr als mit "
        "klassischen Ansichten in Punkten; Mittel und halbe 95-%-t-Intervalle. DA-Fusion mit Filter hat halb so viele "
        "Bilder; für Ziffern gibt es kein DA-Fusion. n ist die Zahl der Startwerte, wo sich Verfahren oder Daten darin "
        "unterscheiden.")),
    Caption("tables/comparisons", "09", (
        "What the harness is asked: weighted F1 more than the control's, in points, seed by seed, "
        "with half the 95 % t interval; p of the exact sign-flip test, Holm-corrected within the data set. Seeds draw "
        "shots, weights and batches; the test pictures are the same for all.",
        "Was der Vergleich gefragt wird: gewichtetes F1 mehr als die Kontrolle, in Punkten, "
        "Startwert für Startwert, mit halbem 95-%-t-Intervall; p des exakten Vorzeichentests, nach Holm korrigiert "
        "innerhalb der Daten. Startwerte ziehen Shots, Gewichte und Batches; die Testbilder sind für alle dieselben.")),
    Caption("tables/findings", "09", (
        "The source's findings: differences over seeds with half their 95 % t interval, p by exact sign flips after "
        "Holm. Shown: p is at most 0.05 and the interval agrees. In part: a gain in the mean, but not at every number "
        "of examples, or one that falls without having been above 0.",
        "Die Befunde der Quelle: Differenzen über Startwerte mit halbem 95-%-t-Intervall, p aus exakten "
        "Vorzeichenwechseln nach Holm. Gezeigt: p höchstens 0,05, und das Intervall stimmt zu. Zum Teil: ein Gewinn im "
        "Mittel, aber nicht bei jeder Zahl von Beispielen, oder einer, der abnimmt, ohne über 0 gewesen zu sein.")),
    Caption("tables/gaps", "09", (
        "How many published numbers, each taken for one run, lie outside the interval in which 95 % of further runs of "
        "ours would; how far they are from ours, with their signs and without.",
        "Wie viele veröffentlichte Zahlen, jede als ein Lauf genommen, außerhalb des Intervalls liegen, in dem 95 % "
        "weiterer Läufe lägen; wie weit sie von den hiesigen entfernt sind, mit Vorzeichen und ohne.")),
    Caption("audit/audit", "11", (
        "Accuracies by erratum: mean over seeds, with the lowest and the highest; = where the erratum does not "
        "concern the arm.",
        "Genauigkeiten je Fehler: Mittel über Startwerte, dazu der niedrigste und der höchste; =, wo der Fehler den "
        "Versuchsarm nicht betrifft.")),
    Caption("audit/differences", "11", (
        "Differences of the arms by erratum, in percentage points; as in the table of accuracies.",
        "Differenzen der Versuchsarme je Fehler, in Prozentpunkten; wie in der Tabelle der Genauigkeiten.")),
)  # fmt: skip


def caption(place: str, language: str = "en") -> str:
    """The caption of the figure or table at `place`, a path in a run without the ending.

    Raises:
        KeyError: It has none; every figure and table of a run has (a test checks).
    """
    for each in (*FIGURES, *TABLES):
        if (values := each.match(place)) is not None:
            return each.text(language, values)
    raise KeyError(f"{place} has no caption")


def find(run: Path, captions: Sequence[Caption], ending: str) -> list[tuple[str, str]]:
    """What there is in a run, in the captions' order, in the run's own language.

    Args:
        run: The run's folder.
        captions: `FIGURES` or `TABLES`.
        ending: `png`, `tex`, ...

    Returns:
        (path in the run without the ending, its notebook); those of one caption by seed, then as the alphabet has them.
    """
    found: dict[str, str] = {}
    for each in captions:
        pattern = re.sub(r"{\w+}", "*", each.place)
        places = sorted(file.relative_to(run).with_suffix("").as_posix() for file in run.glob(f"{pattern}.{ending}"))
        for place in places:
            if each.match(place) is not None:  # a figure in another language is none
                found.setdefault(place, each.notebook)
    return list(found.items())
