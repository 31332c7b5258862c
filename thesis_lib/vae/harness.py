"""One classifier, one budget, all kinds of augmentation: the main study's cross-entropy network on parts and digits."""

import dataclasses
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from thesis_lib.contrastive.arms import build_pools
from thesis_lib.contrastive.batches import Pool
from thesis_lib.contrastive.encoders import Encoder
from thesis_lib.contrastive.pretraining import Mix, pretrain
from thesis_lib.contrastive.probe import extract_features
from thesis_lib.contrastive.views import StrongViews, Views
from thesis_lib.datasets import PARTS_CORPUS, PreparedData, PreparedSet, few_shot, prepare_data
from thesis_lib.diffusion.base import load_base_model
from thesis_lib.diffusion.hardness import Hardness, load_hardness_encoder
from thesis_lib.diffusion.miniature import read_captioned_table
from thesis_lib.diffusion.through_vae import pass_through_vae
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.evaluation.generative import surer_half
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.sections import Kind, ViewParameters
from thesis_lib.tensors import made_once, tensor_digest
from thesis_lib.vae import fitting
from thesis_lib.vae.classifiers import weighted_f1
from thesis_lib.vae.digits import Digits, vae_made_of
from thesis_lib.vae.fitting import fit
from thesis_lib.vae.methods import ALONE, DA_FUSION, MADE, METHODS, VAE
from thesis_lib.vae.models import PictureVAE, codes
from thesis_lib.vae.parameters import HarnessParameters, VaeParameters
from thesis_lib.vae.sampling import draw_codes
from thesis_lib.vae.work import Item, Items, Row, row

VERSION = 1
"""Part of what the harness's results are made of: raise it when the code here, the main study's training or its views
work differently."""
ID_CHOICES = {"da_fusion_object": "object", "da_fusion_filter": "generative", "da_fusion_half": "half"}
"""What the main study calls these choices of its pictures; `da_fusion` is that of the main run."""
DIGIT_VIEWS = ViewParameters(crop_scale=(0.7, 1.0), jitter_probability=0.0, grey_probability=0.0)
Pictures = tuple[Tensor, Tensor]
"""uint8 (n, 3, s, s) and labels (n,)."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """A data set of the harness.

    Attributes:
        name: `parts` or `mnist`.
        parameters: The main study's, for network, training and views.
        mirror: Whether views may be mirror images.
        fill: Grey value in [0, 1] of what RandAugment moves into the frame.
        shots: Seed -> real training pictures.
        masks: Seed -> their objects, bool (n, s, s); none for a set whose pictures have no background.
        tests: Split -> pictures.
        sources: Those of `MADE` that it has at all.
        made: One of them, seed -> generated pictures; raises a ThesisError where they cannot be had.
        depends_on: What all results depend on beside method and seed.
        made_of: One of `sources`, seed -> what its pictures depend on beside them; raises as `made`.
    """

    name: str
    parameters: Parameters
    mirror: bool
    fill: float
    shots: Callable[[int], Pictures]
    masks: Callable[[int], Tensor] | None
    tests: dict[str, Pictures]
    sources: tuple[str, ...]
    made: Callable[[str, int], Pictures]
    depends_on: dict[str, Any]
    made_of: Callable[[str, int], dict[str, Any]]


class Unchanged(Views):
    """No views: each picture as it is, so often as asked for."""

    def forward(self, pictures: Tensor, views: int, seed: int) -> Tensor:
        """As `Views`."""
        return pictures[:, None].expand(-1, views, -1, -1, -1)


def mixup_or_cutmix(classes: int) -> Mix:
    """For each batch mixup (Zhang et al. 2018, arXiv 1710.09412) or CutMix (Yun et al. 2019, arXiv 1905.04899).

    The batch is shuffled first: torchvision mixes each row with the one before it, and batches are composed class by
    class and view by view, so that nearly all mixtures would be of one class.
    """
    from torchvision.transforms import v2

    choice = v2.RandomChoice([v2.MixUp(num_classes=classes), v2.CutMix(num_classes=classes)])

    def mix(pictures: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            order = torch.randperm(len(labels))
            return choice(pictures[order], labels[order])

    return mix


def harness_items(bench: Bench, seeds: Sequence[int], folder: Path) -> Items:
    """The work list: an item a method and seed; methods whose pictures cannot be had are left out, with a warning."""
    items: Items = {}
    for seed in seeds:
        made_of = sources_of(bench, seed)
        for method in METHODS:
            source = method.removeprefix("classical_")
            if source in made_of or (source not in MADE and (method != "pasted" or bench.masks is not None)):
                of = bench.depends_on | {"version": VERSION} | made_of.get(source, {})
                items[f"{bench.name}/{method}_seed{seed}"] = Item(partial(compare, bench, method, seed, folder), of)
    return items


def sources_of(bench: Bench, seed: int) -> dict[str, dict[str, Any]]:
    """The generated pictures that a bench has for a seed, and what they depend on.

    A warning is given for each that cannot be had.
    """
    found = {}
    for source in bench.sources:
        try:
            found[source] = bench.made_of(source, seed)
        except ThesisError as error:
            message = f"harness: {bench.name}, seed {seed}: {source} is left out: {error}"
            warnings.warn(message, ThesisWarning, stacklevel=1)  # one place, so that it is said once
    return found


def compare(bench: Bench, method: str, seed: int, folder: Path) -> list[Row]:
    """Train one network and measure weighted F1 and accuracy on every test split, and its last tenth's loss."""
    p, source = bench.parameters, method.removeprefix("classical_")
    real, labels = bench.shots(seed)
    classes = int(labels.max()) + 1
    masks = None if bench.masks is None else bench.masks(seed)
    pools, arm = {Kind.REAL: Pool(real, labels, masks=masks)}, Arm.CROSS_ENTROPY_REAL
    if source in MADE:
        pools[Kind.ID], arm = Pool(*bench.made(source, seed)), Arm.CROSS_ENTROPY
    size, ranges = p.encoder.size, p.training.views
    if method in ("none", *ALONE):
        views: Views = Unchanged(size, ranges, bench.mirror)
    elif method == "randaugment":
        views = StrongViews(size, ranges, bench.mirror, bench.fill)
    else:
        views = Views(size, ranges, bench.mirror)
    mix = mixup_or_cutmix(classes) if method == "mixup_cutmix" else None
    work = folder / f"{bench.name}_{method}_seed{seed}"
    network, curve = pretrain(arm, pools, p, seed, work, views=views, mix=mix, paste=method == "pasted")
    shots, made = len(labels) // classes, len(pools[Kind.ID].labels) // classes if source in MADE else 0
    about: Row = {"shots": shots, "generated": made, "classifier": p.encoder.architecture}
    last = float(curve["loss"].tail(max(1, len(curve) // 10)).mean())
    rows = [row("harness", bench.name, method, seed, last, metric="loss/train", **about)]
    for split, (pictures, truth) in bench.tests.items():
        predicted = extract_features(network, pictures, p.encoder.size).argmax(1)
        scores = {
            "f1": weighted_f1(truth.numpy(), predicted.numpy()),
            "top1": float((truth == predicted).double().mean()),
        }
        for metric, value in scores.items():
            rows.append(row("harness", bench.name, method, seed, value, metric=f"{metric}/{split}", **about))
    shutil.rmtree(work)  # the checkpoint has served
    return rows


def _training(main: Parameters, p: HarnessParameters, classes: int) -> Parameters:
    """The main study's network and training, at the harness's number of steps.

    In fp32: a study has no say in the main study's precision, and bf16 is ten times slower on processors without it.
    """
    short = {
        "steps": p.steps, "checkpoint_every": p.steps, "precision": "fp32",
        "classes_per_batch": min(main.training.classes_per_batch, classes),
    }  # fmt: skip
    return main.model_copy(update={"training": main.training.model_copy(update=short)})


def parts_bench(p: VaeParameters, main: Parameters, synthetic: Callable[[int], Path], folder: Path) -> Bench:
    """The main study's data: its shots, its test and field pictures, DA-Fusion pictures of its run.

    All pictures have passed the base model's VAE where the main study lets them, so that its trace tells none apart.

    Args:
        p: The study's parameters.
        main: The main study's, paths resolved.
        synthetic: Seed -> folder of its run's synthetic pictures; raises a ThesisError where there are none.
        folder: Crops and trained VAEs are kept here.

    Raises:
        ThesisError: As `prepare_data` and the base model do.
    """
    from thesis_lib.diffusion.augmentation import as_seen  # here: diffusers is slow to import

    photographs = dataclasses.replace(
        prepare_data(main.data, main.model.size, folder / "parts"), ood=None, oracle=None
    )  # fmt: skip
    base = load_base_model(main.model)
    data = pass_through_vae(photographs, base, folder / "parts")
    encoder = load_hardness_encoder(base, main.hardness)
    own = _training(main, p.harness, len(data.classes))

    def seen(pictures: Tensor) -> Tensor:
        return torch.cat([as_seen(base, part) for part in pictures.split(64)])

    depends = {
        "training": own.training.model_dump(mode="json"), "encoder": own.encoder.model_dump(mode="json"),
        "data": tensor_digest(*_pictures(data.images), data.images.masks),
        "splits": "".join(data.images.table["split"].str[:2]), "shots": main.data.shots,
    }  # fmt: skip
    fields = {"generated", "sampling", "latent", "beta", "width", "fit"}
    of_vae = {
        "vae": [VERSION, fitting.VERSION], "harness": p.harness.model_dump(mode="json", include=fields),
        "sampling": p.sampling.model_dump(), "genuine": tensor_digest(*encoder.state_dict().values()),
        "passed": base.digest if base.through_vae else "",
    }  # fmt: skip

    @cache
    def vae(seed: int) -> dict[str, Tensor]:
        def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
            own_vae = folder / f"parts_seed{seed}.safetensors"
            plain, chosen = part_pictures(p, _few(data, main, seed), encoder, seen, seed, own_vae)
            return {"vae": plain[0], "vae_labels": plain[1], "vae_gc": chosen[0], "vae_gc_labels": chosen[1]}, {}

        made_of = depends | of_vae | {"seed": seed}
        return made_once(folder / f"parts_made_seed{seed}.safetensors", made_of, make)[0]

    @cache
    def made(source: str, seed: int) -> Pictures:
        if source in VAE:
            return vae(seed)[source], vae(seed)[f"{source}_labels"]
        choice = {"id_choice": ID_CHOICES[source]} if source in ID_CHOICES else {}
        chosen = main.model_copy(update={"training": main.training.model_copy(update=choice)})
        pools = build_pools(Arm.CROSS_ENTROPY, chosen, seed, _few(data, main, seed), synthetic(seed), None)
        return pools[Kind.ID].pictures, pools[Kind.ID].labels

    def made_of(source: str, seed: int) -> dict[str, Any]:
        return of_vae if source in VAE else {"pictures": tensor_digest(*made(source, seed))}

    splits = {
        split: data.images.select((data.images.table["split"] == split).to_numpy()) for split in ("test", "field")
    }
    tests = {split: _pictures(prepared) for split, prepared in splits.items() if len(prepared.table)}
    return Bench(
        "parts", own, True, 0.5, lambda seed: _pictures(_few(data, main, seed)),
        lambda seed: _few(data, main, seed).masks, tests, ("vae", "vae_gc", *DA_FUSION), made, depends, made_of,
    )  # fmt: skip


def _few(data: PreparedData, main: Parameters, seed: int) -> PreparedSet:
    return data.images.select(few_shot(data.images.table, main.data.shots, seed).index)


def _pictures(prepared: PreparedSet) -> Pictures:
    return prepared.pictures, torch.tensor(prepared.table["label"].to_numpy())


@cache
def _corpus(size: int) -> Tensor:
    return read_captioned_table(PARTS_CORPUS, size)[1]


def part_vae(p: VaeParameters, shots: Tensor, seed: int, file: Path) -> tuple[PictureVAE, PictureVAE]:
    """The parts' VAE and its early state: trained without labels on the corpus of other parts and on the shots."""
    corpus = _corpus(shots.shape[-1])
    everything = torch.cat([corpus, shots])
    pools = [torch.arange(len(corpus)), torch.arange(len(corpus), len(everything))]
    build = partial(PictureVAE, 3, shots.shape[-1], p.harness.latent, p.harness.width)
    return fit(build, everything, [pools], [p.harness.beta], p.harness.fit, seed, file)


def part_pictures(
    p: VaeParameters, shots: PreparedSet, encoder: Encoder, seen: Callable[[Tensor], Tensor], seed: int,
    file: Path,
) -> tuple[Pictures, Pictures]:  # fmt: skip
    """Pictures that the parts' VAE makes, and as many that pass for real: the surer half of twice as many.

    The generative classifier sees them in the features of the main study's hardness encoder, whole; DA-Fusion's filter
    sees the objects alone.
    Made and bad ones pass the base model's VAE first (`seen`), as the shots have, lest its trace tell them apart.
    """
    real, labels = _pictures(shots)
    trained, early = part_vae(p, real, seed, file)
    unit = real.float() / 255
    mean, log_variance = codes(trained, unit)
    count = 2 * p.harness.generated
    z, names = draw_codes(p.harness.sampling, mean, log_variance, labels, count, p.sampling, seed)
    made, bad = (seen(as_bytes(x)) for x in (trained.pictures(z), early.pictures(codes(early, unit)[0])))
    features = [F.normalize(extract_features(encoder, x, encoder.settings.size), dim=1) for x in (made, real, bad)]
    scores = pd.Series(Hardness.genuineness(*features))
    first = torch.arange(len(names)) % count < p.harness.generated
    kept = torch.tensor(surer_half(scores, [names.numpy()]).to_numpy())
    return (made[first], names[first]), (made[kept], names[kept])


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8."""
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8)


def digits_bench(p: VaeParameters, main: Parameters, digits: Digits) -> Bench:
    """MNIST with few shots, its pictures with three equal channels at 32 pixels; there are no DA-Fusion pictures.

    The VAE of `vae` and `vae_gc` has seen all training pictures without labels, that of `from_shots` the shots alone.
    """
    encoder = main.encoder.model_copy(update={"size": 32})
    training = main.training.model_copy(update={"views": DIGIT_VIEWS})
    own = _training(main.model_copy(update={"encoder": encoder, "training": training}), p.harness, 10)
    shots = p.harness.mnist_shots

    def in_colour(pictures: Tensor, labels: Tensor) -> Pictures:
        return as_bytes(pictures).expand(-1, 3, -1, -1), labels

    way = p.harness.sampling
    names: dict[str, str] = {"vae": way, "vae_gc": "gc"}

    def made(source: str, seed: int) -> Pictures:
        return in_colour(*digits.generate(names.get(source, source), shots, p.harness.generated, seed, way))

    def made_of(source: str, _: int) -> dict[str, Any]:
        return vae_made_of(digits, names.get(source, source)) | {"generated": p.harness.generated, "way": way}

    depends = {
        "training": own.training.model_dump(mode="json"), "encoder": own.encoder.model_dump(mode="json"),
        "data": tensor_digest(*digits.train, *digits.test), "shots": shots,
    }  # fmt: skip
    tests = {"test": in_colour(*digits.test)}
    return Bench(
        "mnist", own, False, 0.0, lambda seed: in_colour(*digits.few(shots, seed)), None, tests, VAE, made, depends,
        made_of,
    )  # fmt: skip
